"""Both kinds of ResNet against those they must equal: MXNet's outputs, torchvision's and timm's modules."""

from __future__ import annotations

import importlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from foveal.models.backbone import timm_module
from foveal.models.network import NetworkSpec, build
from foveal.mxnet import read_params
from foveal.mxnet.resnet import load_mxnet

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "models"
CASES: dict[str, Any] = {
    case["name"]: case
    for case in json.loads((FOLDER / "index.json").read_text())["models"]
    if case.get("version") == 2 and case["head"] != "logits"
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_pre_gives_mxnets_probabilities(name: str, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    folder = FOLDER
    if not (folder / case["params"]).exists():  # too large to be kept here
        folder = request.getfixturevalue("shared") / "fixtures" / "mxnet" / "classification"
    spec = NetworkSpec(
        "resnet", case["num_classes"], tuple(case["image_shape"]), case["depth"], "pre", width=case["width"]
    )
    network = build(spec).eval()
    arrays = read_params(folder / case["params"])
    arrays.pop("arg:class_weight", None)  # of the loss
    load_mxnet(network.body, arrays)
    with np.load(folder / case["io"]) as io:
        for size in (1, 4):
            batch = torch.from_numpy(io[f"b{size}:image"].transpose(0, 2, 3, 1).copy())
            with torch.inference_mode():
                logits = network(batch)
                probabilities = (logits.softmax(1) if case["head"] == "softmax" else logits.sigmoid()).numpy()
            np.testing.assert_allclose(
                probabilities, io[f"b{size}:out:0"], rtol=case["rtol"], atol=case["atol"], strict=True
            )
        with torch.inference_mode():
            features = network.embed(batch)[:2].numpy()
        np.testing.assert_allclose(features, io["b4:tap:flatten0_output"], rtol=1e-4, atol=1e-4)


# Counted with MXNet 1.9.1, whose arguments include the fixed gamma of bn_data, three numbers that ours has not.
COUNTS = {
    (18, 224, 1000): (11_691_950, 7_942),
    (34, 224, 1000): (21_800_110, 15_366),
    (50, 224, 1000): (25_549_486, 45_574),
    (101, 224, 1000): (44_541_614, 97_798),
    (152, 224, 1000): (60_185_262, 143_878),
    (200, 224, 1000): (64_666_286, 168_454),
    (20, 28, 10): (272_544, 1_382),
    (32, 28, 10): (466_976, 2_278),
    (44, 28, 10): (661_408, 3_174),
    (56, 28, 10): (855_840, 4_070),
    (110, 28, 10): (1_730_784, 8_102),
}


@pytest.mark.parametrize(("num_layers", "side", "num_classes"), sorted(COUNTS))
def test_pre_has_as_many_parameters_as_mxnets(num_layers: int, side: int, num_classes: int) -> None:
    with torch.device("meta"):
        network = build(NetworkSpec("resnet", num_classes, (3, side, side), num_layers, "pre"))
    parameters = sum(p.numel() for p in network.parameters())
    statistics = sum(t.numel() for name, t in network.state_dict().items() if "running" in name)
    assert (parameters + 3, statistics) == COUNTS[num_layers, side, num_classes]


DEPTHS = [18, 50, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 101, 152))]


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("num_layers", DEPTHS)
def test_post_equals_the_library_whose_weights_it_takes_by_name(library: str, num_layers: int) -> None:
    if find_spec("timm") is None:
        pytest.skip("needs timm")
    timm = timm_module()
    if library == "timm":
        theirs: nn.Module = timm.create_model(f"resnet{num_layers}").eval()
    else:
        theirs = getattr(importlib.import_module("torchvision.models"), f"resnet{num_layers}")().eval()
    _randomise_norms(theirs)
    ours = build(NetworkSpec("resnet", 1000, (3, 64, 64), num_layers, "post")).eval().body
    ours.load_state_dict(theirs.state_dict(), strict=True)
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, logits = theirs(pictures), ours(pictures)
    assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-5


def _randomise_norms(network: nn.Module) -> None:
    """Statistics and gammas that are not those of a new network, small enough that values stay of order 1."""
    generator = torch.Generator().manual_seed(2)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.3, 0.8, generator=generator)
            nn.init.normal_(layer.bias, std=0.2, generator=generator)
            nn.init.normal_(layer.running_mean, std=0.2, generator=generator)
            nn.init.uniform_(layer.running_var, 0.5, 2.0, generator=generator)


def test_pre_starts_as_the_original_does() -> None:
    torch.manual_seed(3)
    body = build(NetworkSpec("resnet", 10, (3, 28, 28), 20, "pre")).body
    weight = body.get_parameter("layer3.1.conv2.weight")
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert float(body.get_parameter("fc.weight").detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.1)
    assert not body.get_parameter("fc.bias").any()


@pytest.mark.parametrize("kind", ["pre", "post"])
@pytest.mark.parametrize("side", [32, 64])
def test_every_parameter_gets_a_gradient(kind: Any, side: int) -> None:
    network = build(NetworkSpec("resnet", 4, (1, side, side), 18, kind)).train()
    for module in network.modules():  # the starting gamma of 0 would hide what lies before it
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.ones_(module.weight)
    batch = torch.randint(0, 256, (4, side, side, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    nn.functional.cross_entropy(network(batch), torch.arange(4)).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_small_stem_keeps_the_size_of_the_picture() -> None:
    for kind, names in (("pre", {"bn_data", "conv1"}), ("post", {"conv1", "bn1"})):
        spec = NetworkSpec("resnet", 4, (3, 32, 32), 18, kind)  # type: ignore[arg-type]
        body = build(spec).body
        assert body.get_parameter("conv1.weight").shape == (64, 3, 3, 3)
        assert {name.split(".")[0] for name in body.state_dict()} - {
            "layer1",
            "layer2",
            "layer3",
            "layer4",
            "norm",
            "fc",
        } == names
