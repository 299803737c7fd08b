"""Tensors tell their network."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from foveal.models.backbone import build_backbone
from foveal.models.network import NetworkSpec, build
from foveal.weights import NetworkHint, identify
from foveal.weights.identify import lite0_names


def shapes_of(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in build(spec).body.state_dict().items()}


@pytest.mark.parametrize("num_layers", [18, 34, 50, 101, 152, 200])
@pytest.mark.parametrize("kind", ["pre", "post"])
@pytest.mark.parametrize("side", [32, 224])
def test_resnets_are_told_by_depth_and_kind(num_layers: int, kind: str, side: int) -> None:
    shapes = shapes_of(NetworkSpec("resnet", 7, (3, side, side), num_layers, kind))  # type: ignore[arg-type]
    assert identify(shapes) == NetworkHint("resnet", num_layers, kind, num_classes=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_layers", [20, 56, 110])
def test_resnets_for_small_pictures_are_told(num_layers: int) -> None:
    shapes = shapes_of(NetworkSpec("resnet", 7, (1, 28, 28), num_layers, "pre"))
    assert identify(shapes) == NetworkHint("resnet", num_layers, "pre", num_classes=7)


def test_old_files_without_counts_of_batches_and_without_a_last_layer_are_told() -> None:
    shapes = shapes_of(NetworkSpec("resnet", 7, (3, 224, 224), 50, "post"))
    old = {k: v for k, v in shapes.items() if "num_batches" not in k and not k.startswith("fc.")}
    assert identify(old) == NetworkHint("resnet", 50, "post", num_classes=0)


def test_vgg_is_told_with_and_without_its_classifier() -> None:
    shapes = shapes_of(NetworkSpec("vgg", 7, (3, 32, 32), 16))
    convolutions = {name: shape for name, shape in shapes.items() if name.startswith("features.")}
    assert identify(convolutions) == NetworkHint("vgg", 16, num_classes=0)
    assert identify(convolutions | {"classifier.6.weight": (1000, 4096)}) == NetworkHint("vgg", 16, num_classes=1000)


@pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")
@pytest.mark.parametrize("name", ["resnext50_32x4d", "wide_resnet50_2", "resnet18d", "seresnet50", "vgg16_bn", "vgg13"])
def test_relatives_are_not_mistaken(name: str) -> None:
    with torch.device("meta"):
        body = build_backbone(name, (3, 224, 224), 1000)
    assert identify({key: tuple(t.shape) for key, t in body.state_dict().items()}) is None


@pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")
def test_lite0_has_timms_tensors_in_the_files_order() -> None:
    state = build_backbone("tf_efficientnet_lite0", (3, 64, 64), 1000).state_dict()
    assert list(lite0_names().values()) == list(state)
    assert identify({theirs: tuple(state[ours].shape) for theirs, ours in lite0_names().items()}) == NetworkHint(
        "timm", backbone="tf_efficientnet_lite0", num_classes=1000
    )


def test_post_weights_fit_timms_network_of_that_name_and_no_other() -> None:
    hint = NetworkHint("resnet", 18, "post", num_classes=1000)
    assert hint.fits(NetworkHint("timm", backbone="resnet18.a1_in1k"))
    assert not hint.fits(NetworkHint("timm", backbone="resnet34"))
    assert not hint.fits(NetworkHint("resnet", 18, "pre"))


def test_unknown_tensors_are_none() -> None:
    assert identify({}) is None
    assert identify({"conv1.weight": (64,)}) is None
    assert identify({"conv1.weight": (64, 3, 7, 7)}) is None
    assert identify({"features.0.weight": (64, 3, 3, 3)}) is None
