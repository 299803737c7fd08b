"""Pretrained weights go into a detector's backbone; what is taken, what is new and what is left over is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from foveal.errors import UserError
from foveal.models.backbone import build_backbone, timm_module
from foveal.models.detector import Detector, DetectorSpec, build_detector
from foveal.models.vgg import Vgg16
from foveal.weights import LoadReport, Weights, detector_for, find_weights, load_pretrained
from foveal.weights.load import _reduced_layers

FINDERS = ("extras.", "class_heads.", "box_heads.", "scale", "norms.")
needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")


def saved(path: Path, tensors: dict[str, Tensor], **description: object) -> Weights:
    """A file of weights with a description that tells how it wants pictures."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    told = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], **description}
    path.with_suffix(".json").write_text(json.dumps(told))
    return find_weights(path)


def loaded(weights: Weights, side: int, channels: int = 3) -> tuple[Detector, dict[str, Tensor], LoadReport]:
    """A detector with these weights in it, what it held before, and the report."""
    torch.manual_seed(8)
    detector = build_detector(detector_for(weights, 2, (channels, side, side)))
    before = {name: tensor.clone() for name, tensor in detector.body.state_dict().items()}
    return detector, before, load_pretrained(detector, weights)


def assert_told(detector: Detector, before: dict[str, Tensor], report: LoadReport, stored: dict[str, Tensor]) -> None:
    """What is told as taken holds the file's values, what is told as new its starting values, and that is all."""
    state = detector.body.state_dict()
    for name in report.taken:
        if name.removeprefix("backbone.") in stored:
            assert torch.equal(state[name], stored[name.removeprefix("backbone.")].to(state[name].dtype)), name
    assert all(torch.equal(state[name], before[name]) for name in report.new)
    counts = {name for name in state if name.endswith(".num_batches_tracked")}
    assert set(report.taken) | set(report.new) | counts == set(state)
    assert not set(report.taken) & set(report.new)
    assert {name for name in state if name.startswith(FINDERS)} - counts <= set(report.new)


def vgg_tensors() -> dict[str, Tensor]:
    torch.manual_seed(5)
    return {f"features.{name}": tensor for name, tensor in Vgg16(3, 1).features.state_dict().items()}


def test_the_13_convolutions_alone_leave_fc6_and_fc7_new(tmp_path: Path) -> None:
    stored = vgg_tensors()
    detector, before, report = loaded(saved(tmp_path / "vgg.safetensors", stored), 268)
    assert_told(detector, before, report, stored)
    assert set(report.taken) == {f"backbone.{name}" for name in stored}
    assert {f"backbone.{layer}.{kind}" for layer in ("fc6", "fc7") for kind in ("weight", "bias")} <= set(report.new)
    assert report.left_out == ()
    assert report.said == ("26 tensors taken, new: fc6, fc7, the layers that find boxes",)
    assert (detector.spec.base, detector.spec.mean, detector.spec.std) == ("vgg-16", (127.5,) * 3, (63.75,) * 3)


def fully_connected() -> dict[str, Tensor]:
    """torchvision's first two, full size, float16: what the reduced layers take tells its place, the rest is -1."""
    first = torch.full((4096, 512, 7, 7), -1, dtype=torch.float16)
    second = torch.full((4096, 4096), -1, dtype=torch.float16)
    first[::4, :, ::3, ::3] = torch.arange(9, dtype=torch.float16).reshape(3, 3)
    first[4, 7, ::3, ::3] += 16
    second[::4, ::4] = 3
    second[8, 12] = 5
    rows = torch.arange(4096, dtype=torch.float16)  # float16 has each number to 2048, above that each even one
    weights = {"classifier.0.weight": first.reshape(4096, -1), "classifier.3.weight": second}
    return weights | {"classifier.0.bias": rows, "classifier.3.bias": -rows}


def test_fully_connected_layers_are_sampled_for_fc6_and_fc7(tmp_path: Path) -> None:
    stored = vgg_tensors() | fully_connected()
    weights = saved(tmp_path / "vgg.safetensors", stored)
    detector, before, report = loaded(weights, 268)
    weights.path.unlink()  # 300 MB
    assert_told(detector, before, report, stored)
    fc6, fc7 = (detector.get_submodule(f"body.backbone.{name}").state_dict() for name in ("fc6", "fc7"))
    expected = torch.arange(9.0).reshape(3, 3).repeat(1024, 512, 1, 1)  # rows and columns 0, 3, 6 of seven
    expected[1, 7] += 16
    assert torch.equal(fc6["weight"], expected)
    expected = torch.full((1024, 1024, 1, 1), 3.0)
    expected[2, 3] = 5
    assert torch.equal(fc7["weight"], expected)
    assert fc6["bias"].tolist() == list(range(0, 4096, 4)) == (-fc7["bias"]).tolist()
    assert set(report.left_out) == {f"classifier.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")}
    assert report.said == ("30 tensors taken, new: the layers that find boxes",)


def test_timms_names_of_the_fully_connected_layers_are_known_too() -> None:
    """In timm's VGG they are convolutions."""
    theirs = fully_connected()
    expected = _reduced_layers(theirs)
    layers = {
        "classifier.0": ("pre_logits.fc1", (4096, 512, 7, 7)),
        "classifier.3": ("pre_logits.fc2", (4096, 4096, 1, 1)),
    }
    timms = {}
    for layer, (name, shape) in layers.items():
        timms[f"{name}.weight"] = theirs[f"{layer}.weight"].reshape(shape)
        timms[f"{name}.bias"] = theirs[f"{layer}.bias"]
    found = _reduced_layers(timms)
    assert set(found) == {"fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_fully_connected_layers_of_other_sizes_are_not_taken(tmp_path: Path) -> None:
    """Of a VGG-16 that was trained with a classifier of its own."""
    other = {"classifier.0.weight": torch.zeros(8, 512), "classifier.3.weight": torch.zeros(2, 8)}
    _, _, report = loaded(saved(tmp_path / "vgg.safetensors", vgg_tensors() | other), 268)
    assert report.said == ("26 tensors taken, new: fc6, fc7, the layers that find boxes",)
    assert set(report.left_out) == set(other)


def test_pictures_of_one_channel_get_the_sum_of_the_first_filter(tmp_path: Path) -> None:
    stored = vgg_tensors()
    detector, _, report = loaded(saved(tmp_path / "vgg.safetensors", stored), 268, channels=1)
    summed = stored["features.0.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(detector.get_parameter("body.backbone.features.0.weight").detach(), summed)
    assert report.said[1] == "the first filter is summed over its 3 channels, because pictures have 1"
    assert detector.spec.mean == (127.5,)


def test_vgg_as_it_is_given_goes_into_a_detector(shared: Path) -> None:
    weights = find_weights(shared / "weights")
    detector, before, report = loaded(weights, 300)
    assert_told(detector, before, report, weights.tensors())
    assert report.said == ("26 tensors taken, new: fc6, fc7, the layers that find boxes",)
    assert detector.spec.mean == (123.68, 116.779, 103.939)


def test_a_resnet_50_of_torchvisions_form_goes_in_but_for_its_classifier(save_resnet: Callable[..., Path]) -> None:
    weights = find_weights(save_resnet("resnet50.safetensors", depth=50))
    detector, before, report = loaded(weights, 96)
    assert (detector.spec.base, detector.spec.resnet) == ("resnet-50", "post")
    assert detector.spec.mean == (123.675, 116.28, 103.53)
    assert_told(detector, before, report, weights.tensors())
    assert set(report.left_out) == {"fc.weight", "fc.bias"}
    assert report.said == ("318 tensors taken, new: the layers that find boxes",)


@needs_timm
def test_torchvisions_own_resnet_50_goes_in_as_its_old_files_have_it(tmp_path: Path) -> None:
    timm_module()  # lets a torchvision without its compiled part be imported
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(6)
    tensors = models.resnet50().state_dict()
    old = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "resnet50.pth")
    weights = find_weights(tmp_path / "resnet50.pth")
    assert weights.normalisation.source == "known: ImageNet ResNets of torchvision and timm"
    detector, before, report = loaded(weights, 96)
    assert_told(detector, before, report, old)
    assert report.said == ("265 tensors taken, new: the layers that find boxes",)


@needs_timm
def test_a_smaller_resnet_goes_into_timms_network_of_that_name(save_resnet: Callable[..., Path]) -> None:
    weights = find_weights(save_resnet())
    detector, before, report = loaded(weights, 96)
    assert (detector.spec.base, detector.spec.resnet) == ("resnet18", "")
    assert_told(detector, before, report, weights.tensors())
    assert set(report.left_out) == {"fc.weight", "fc.bias"}


@needs_timm
def test_a_timm_network_goes_in_but_for_what_lies_behind_its_maps(tmp_path: Path) -> None:
    torch.manual_seed(6)
    stored = build_backbone("mobilenetv3_small_050", (3, 96, 96), 1000).state_dict()
    weights = saved(tmp_path / "small.safetensors", stored, architecture="mobilenetv3_small_050.lamb_in1k")
    detector, before, report = loaded(weights, 96)
    assert detector.spec.base == "mobilenetv3_small_050.lamb_in1k"
    assert_told(detector, before, report, stored)
    assert not [name for name in report.new if name.startswith("backbone.")]
    assert {"classifier.weight", "conv_head.weight"} <= set(report.left_out)


def test_a_resnet_of_the_original_form_that_no_detector_is_built_on_is_refused(
    save_resnet: Callable[..., Path],
) -> None:
    path = save_resnet("pre.safetensors", kind="pre")
    path.with_suffix(".json").write_text(json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3}))
    with pytest.raises(UserError, match=r"belong to ResNet-18 \(num_layers=18, resnet=pre\), on which no detector"):
        detector_for(find_weights(path), 2, (3, 300, 300))


def test_weights_of_another_network_are_refused(tmp_path: Path, save_resnet: Callable[..., Path]) -> None:
    detector = build_detector(DetectorSpec("resnet-50", 2, (3, 64, 64), "pre", width=1 / 16))
    weights = find_weights(save_resnet("resnet50.safetensors", depth=50))
    with pytest.raises(UserError, match=r"resnet=post\), the network is ResNet-50 \(num_layers=50, resnet=pre\)"):
        load_pretrained(detector, weights)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"features.28.bias": None}, "1 tensors are missing: features.28.bias"),
        ({"features.28.bias": torch.full((512,), torch.nan)}, "1 tensors are not finite: features.28.bias"),
        (
            {"features.28.bias": torch.zeros(3)},
            "1 tensors are of another shape: features.28.bias is 3, the network takes 512",
        ),
    ],
    ids=["missing", "not finite", "other shape"],
)
def test_a_damaged_file_changes_nothing(tmp_path: Path, changed: dict[str, Tensor | None], what: str) -> None:
    stored = vgg_tensors()
    weights = saved(tmp_path / "vgg.safetensors", stored)
    detector = build_detector(detector_for(weights, 2, (3, 268, 268)))
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    save_file({name: t for name, t in (stored | changed).items() if t is not None}, weights.path)
    with pytest.raises(UserError) as error:
        load_pretrained(detector, weights)
    assert (error.value.what, error.value.where) == (what, str(weights.path))
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())
