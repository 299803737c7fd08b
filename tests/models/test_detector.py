"""The detector's specification, and what is built from it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from foveal.errors import UserError
from foveal.models.anchors import OURS, anchors_for
from foveal.models.detector import SMALLEST_VGG, DetectorSpec, build_detector

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
VGG = DetectorSpec("vgg-16", 2, (3, 300, 300), width=1 / 32, mean=MEAN, std=STD)
PRE = DetectorSpec("resnet-50", 2, (3, 300, 300), "pre", width=1 / 16, mean=MEAN, std=STD)
POST = replace(PRE, resnet="post")
TIMM = DetectorSpec("resnet10t", 2, (3, 96, 96), mean=MEAN, std=STD)


def pictures(spec: DetectorSpec, count: int = 1) -> Tensor:
    channels, height, width = spec.image_shape
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("spec", "anchors"),
    [(VGG, 8732), (PRE, 2268), (POST, 2268), (replace(VGG, image_shape=(3, 512, 512)), 24576),
     (replace(PRE, image_shape=(3, 512, 512)), 6132), (replace(POST, image_shape=(3, 512, 512)), 6132),
     pytest.param(TIMM, 12 * 12 * 4 + 6 * 6 * 6 + 3 * 3 * 6 + 2 * 2 * 6 + 4 + 4, marks=needs_timm)],
    ids=lambda value: f"{value.base}{value.resnet}{value.image_shape[1]}" if isinstance(value, DetectorSpec) else "",
)  # fmt: skip
def test_uint8_pictures_become_logits_offsets_and_anchors(spec: DetectorSpec, anchors: int) -> None:
    detector = build_detector(spec).eval()
    with torch.inference_mode():
        logits, offsets, boxes = detector(pictures(spec))
    assert (logits.shape, offsets.shape, boxes.shape) == ((1, anchors, 3), (1, anchors, 4), (anchors, 4))
    assert logits.dtype == offsets.dtype == boxes.dtype == torch.float32
    assert logits.isfinite().all() and offsets.isfinite().all()


@needs_timm
def test_a_timm_networks_anchors_are_our_own_sizes_on_its_maps() -> None:
    maps = [(12, 12), (6, 6), (3, 3), (2, 2), (1, 1), (1, 1)]
    assert torch.equal(build_detector(TIMM).anchors, torch.from_numpy(anchors_for(OURS, maps, 96)))


@needs_timm
def test_a_timm_network_without_such_maps_and_a_size_that_does_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"^base_network: vit_tiny_patch16_224 gives maps of stride 16, and boxes"):
        build_detector(replace(TIMM, base="vit_tiny_patch16_224", image_shape=(3, 224, 224)))
    with pytest.raises(UserError, match=r"^base_network: .*no network named 'resnet-10t'"):
        build_detector(replace(TIMM, base="resnet-10t"))


def test_pictures_of_another_side_have_the_anchors_of_a_detector_built_for_it() -> None:
    detector, larger = build_detector(POST).eval(), build_detector(replace(POST, image_shape=(3, 332, 332)))
    with torch.inference_mode():
        logits, _, anchors = detector(pictures(larger.spec))
    assert torch.equal(anchors, larger.anchors) and logits.shape[1] == len(anchors) != len(detector.anchors)


def test_answers_do_not_depend_on_the_rest_of_the_batch() -> None:
    detector = build_detector(POST).eval()
    batch = pictures(POST, 3)
    with torch.inference_mode():
        together, alone = detector(batch), detector(batch[1:2])
    for one, other in zip(together[:2], alone[:2], strict=True):
        torch.testing.assert_close(one[1:2], other, rtol=1e-4, atol=1e-5)


def test_pixels_are_normalised_inside() -> None:
    detector = build_detector(replace(VGG, image_shape=(3, 268, 268))).eval()
    batch = pictures(detector.spec)
    by_hand = (batch.permute(0, 3, 1, 2).float() - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.inference_mode():
        assert torch.equal(detector(batch)[0], detector.body(by_hand)[0])
    raw = build_detector(replace(VGG, image_shape=(3, 268, 268), mean=(), std=())).normalise
    assert torch.equal(raw(batch), batch.permute(0, 3, 1, 2).float())


@pytest.mark.parametrize("spec", [VGG, POST], ids=["vgg", "post"])
def test_answers_are_float32_under_autocast(spec: DetectorSpec) -> None:
    detector = build_detector(spec).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits, offsets, _ = detector(pictures(spec))
    assert logits.dtype == offsets.dtype == torch.float32


def test_one_channel_and_six_are_taken() -> None:
    for channels in (1, 6):
        spec = DetectorSpec("vgg-16", 1, (channels, 268, 268), width=1 / 64)
        with torch.inference_mode():
            assert build_detector(spec)(pictures(spec))[0].shape[2] == 2


@pytest.mark.parametrize("spec", [VGG, PRE], ids=["vgg", "pre"])
def test_every_parameter_gets_a_gradient(spec: DetectorSpec) -> None:
    torch.manual_seed(2)
    detector = build_detector(spec).train()
    logits, offsets, _ = detector(pictures(spec))
    (logits.square().sum() + offsets.square().sum()).backward()
    assert not [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]


def test_anchors_and_normalisation_are_not_stored() -> None:
    state = build_detector(VGG).state_dict()
    assert all(name.startswith("body.") for name in state)
    assert {name.split(".")[1] for name in state} == {"scale", "backbone", "extras", "class_heads", "box_heads"}


def test_the_same_seed_builds_the_same_detector() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(9)
        states.append(build_detector(POST).state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_biases_of_the_heads_learn_twice_as_fast_and_the_scale_decays_by_a_tenth() -> None:
    heads = [f"body.{kind}_heads.{number}.bias" for kind in ("class", "box") for number in range(6)]
    assert build_detector(VGG).multipliers() == dict.fromkeys(heads, (2.0, 0.0)) | {"body.scale": (1.0, 0.1)}
    assert build_detector(PRE).multipliers() == dict.fromkeys(heads, (2.0, 0.0))  # there is no scale


def test_only_the_class_heads_depend_on_the_number_of_classes() -> None:
    two, three = (build_detector(replace(VGG, num_classes=count)) for count in (2, 3))
    shapes = [{name: tuple(p.shape) for name, p in each.named_parameters()} for each in (two, three)]
    assert {name for name in shapes[0] if shapes[0][name] != shapes[1][name]} == set(two.prediction_names)
    assert two.prediction_names == tuple(
        f"body.class_heads.{k}.{kind}" for k in range(6) for kind in ("weight", "bias")
    )
    assert shapes[1]["body.class_heads.1.bias"] == (6 * 4,)


def test_vgg_takes_pictures_of_268_pixels_and_no_smaller_ones() -> None:
    detector = build_detector(replace(VGG, image_shape=(3, 268, 268)))
    assert len(detector.anchors) == 34 * 34 * 4 + 17 * 17 * 6 + 9 * 9 * 6 + 5 * 5 * 6 + 3 * 3 * 4 + 4
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        detector(torch.zeros((1, 267, 267, 3), dtype=torch.uint8))
    with pytest.raises(UserError) as error:
        build_detector(replace(VGG, image_shape=(3, SMALLEST_VGG - 1, SMALLEST_VGG - 1)))
    assert str(error.value) == (
        "image_shape: SSD on VGG-16 takes pictures of at least 268x268 pixels, not 267x267\n"
        "Set image_shape=300 or more; smaller pictures are then enlarged."
    )


@pytest.mark.parametrize("kind", ["pre", "post"])
def test_resnet_takes_small_pictures(kind: Any) -> None:
    spec = replace(PRE, resnet=kind, image_shape=(3, 64, 64))
    with torch.inference_mode():
        assert build_detector(spec).eval()(pictures(spec))[0].shape == (1, 4 * 4 * 4 + 2 * 2 * 6 + 6 + 6 + 4 + 4, 3)


@pytest.mark.parametrize("spec", [VGG, PRE, POST, TIMM], ids=lambda spec: spec.base + spec.resnet)
def test_a_specification_survives_json(spec: DetectorSpec) -> None:
    assert DetectorSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"base": ""}, "base ''"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"num_classes": True}, "numbers (True, 3, 300, 300)"),
        ({"num_classes": 2.0}, "numbers (2.0, 3, 300, 300)"),
        ({"image_shape": [3, 300, 200]}, "image_shape (3, 300, 200), which is no square"),
        ({"image_shape": [300, 300]}, "image_shape (300, 300)"),
        ({"image_shape": [0, 300, 300]}, "image_shape (0, 300, 300)"),
        ({"resnet": "post"}, "resnet 'post' of base 'vgg-16'"),
        ({"base": "resnet-50", "resnet": ""}, "resnet '' of base 'resnet-50'"),
        ({"head": "centre"}, "head 'centre'"),
        ({"width": 0}, "width 0 of base 'vgg-16'"),
        ({"base": "resnet10t", "width": 0.5}, "width 0.5 of base 'resnet10t'"),
        ({"mean": [1.0, 2.0]}, "mean (1.0, 2.0) and std (60.0, 50.0, 40.0)"),
        ({"std": [1.0, 0.0, 1.0]}, "std (1.0, 0.0, 1.0)"),
    ],
)
def test_a_specification_that_no_detector_can_be_built_from_is_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as error:
        DetectorSpec.from_dict(VGG.as_dict() | changed, "model/foveal.json")
    assert str(error.value) == (
        f"model/foveal.json: the network's description does not fit: {text}\n"
        "The file is damaged, or a newer Foveal wrote it: copy it again, or update Foveal."
    )


@pytest.mark.parametrize("name", ["base", "num_classes", "image_shape"])
def test_a_missing_field_is_refused(name: str) -> None:
    stored = {key: value for key, value in VGG.as_dict().items() if key != name}
    with pytest.raises(UserError, match=r"^model: the network's description does not fit"):
        DetectorSpec.from_dict(stored, "model")


def test_a_detector_is_told_in_a_persons_words() -> None:
    labels = [spec.label for spec in (VGG, PRE, POST, TIMM)]
    assert labels == ["SSD on VGG-16", "SSD on ResNet-50 (pre)", "SSD on ResNet-50 (post)", "SSD on resnet10t"]
    assert build_detector(VGG).label == VGG.label
