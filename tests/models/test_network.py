"""The contract of a network: uint8 pictures in, float32 logits and features out; names and specification."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec

import pytest
import torch

from foveal.errors import UserError
from foveal.models.network import NetworkSpec, build
from foveal.models.normalise import Normalise

SPECS = [
    NetworkSpec("resnet", 5, (3, 28, 28), 20, "pre"),
    NetworkSpec("resnet", 5, (1, 64, 48), 18, "post", mean=(100.0,), std=(50.0,)),
    NetworkSpec("vgg", 5, (3, 32, 32), 16, mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0)),
    NetworkSpec("timm", 5, (3, 64, 64), backbone="mobilenetv3_small_050", mean=(127.5,) * 3, std=(127.5,) * 3),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_uint8_pictures_give_float32_logits_and_features(spec: NetworkSpec) -> None:
    if spec.family == "timm" and find_spec("timm") is None:
        pytest.skip("needs timm")
    network = build(spec).eval()
    channels, height, width = spec.image_shape
    batch = torch.randint(0, 256, (2, height, width, channels), dtype=torch.uint8)
    with torch.inference_mode():
        logits, features = network(batch), network.embed(batch)
        weight, bias = (network.get_parameter(name).detach() for name in network.classifier_names)
    assert logits.shape == (2, 5) and logits.dtype == torch.float32
    assert features.shape == (2, weight.shape[1]) and features.dtype == torch.float32
    torch.testing.assert_close(features @ weight.T + bias, logits, rtol=1e-4, atol=1e-5)
    assert all(name.startswith("body.") for name in network.state_dict())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_a_specification_survives_json(spec: NetworkSpec) -> None:
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"family": "alexnet"}, "family 'alexnet'"),
        ({"resnet": "both"}, "resnet 'both'"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"num_classes": "5"}, "numbers"),
        ({"image_shape": [3, 28]}, "image_shape"),
        ({"image_shape": 3}, "not iterable"),
        ({"mean": [1.0]}, "mean"),
        ({"mean": [1.0] * 3, "std": [1.0, 0.0, 1.0]}, "std"),
        ({"backbone": "resnet18"}, "backbone"),
        ({"dropout": 0.5}, "unknown field 'dropout'"),
    ],
)
def test_a_description_that_does_not_fit_is_told_with_its_file(change: dict[str, object], what: str) -> None:
    with pytest.raises(UserError, match=what) as error:
        NetworkSpec.from_dict(SPECS[0].as_dict() | change, "foveal.json")
    assert error.value.where == "foveal.json"


def test_normalisation_is_in_units_of_pixel_values_and_stays_channels_last() -> None:
    batch = torch.tensor([[[[0, 100, 255]]]], dtype=torch.uint8).expand(2, 4, 5, 3).contiguous()
    normalised = Normalise((10.0, 20.0, 55.0), (1.0, 40.0, 100.0))(batch)
    assert normalised[0, :, 0, 0].tolist() == [-10.0, 2.0, 2.0]
    assert normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert Normalise()(batch)[0, :, 0, 0].tolist() == [0.0, 100.0, 255.0]


def test_vgg_refuses_pictures_that_its_poolings_use_up() -> None:
    with pytest.raises(UserError, match="at least 32x32 pixels, not 28x64"):
        build(dataclasses.replace(SPECS[2], image_shape=(3, 64, 28)))


def test_vgg_has_torchvisions_names() -> None:
    names = [name for name in build(SPECS[2]).state_dict() if name.endswith("weight")]
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert names == [*(f"body.features.{n}.weight" for n in numbers), "body.fc.weight"]
