"""MXNet's names for a detector's tensors; filled by them, our detectors answer as MXNet's do."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.errors import UserError
from foveal.models.detector import Detector, DetectorSpec, build_detector
from foveal.models.matching import match_anchors
from foveal.models.suppression import Rule, detect
from foveal.mxnet import read_params
from foveal.mxnet.ssd import frozen_names, load_mxnet, mxnet_names

Arrays = dict[str, NDArray[Any]]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}  # of the fixtures' README, for all figures and rows
TIED = 1e-5  # rows of scores closer than this may change places, says the README

SPECS = {
    "ssd_vgg300": DetectorSpec("vgg-16", 3, (3, 300, 300), width=1 / 16),
    "ssd_vgg512": DetectorSpec("vgg-16", 2, (3, 512, 512), width=1 / 16),
    "ssd_resnet300": DetectorSpec("resnet-50", 6, (3, 300, 300), "pre", width=1 / 16),
    "ssd_resnet512": DetectorSpec("resnet-50", 3, (3, 512, 512), "pre", width=1 / 16),
}
THRESHOLDS = {"ssd_resnet512": 0.5}  # nms_threshold, where it is not 0.45
FULL_SIZE = {
    "vgg16_reduced_300": DetectorSpec("vgg-16", 20, (3, 300, 300)),
    "vgg16_reduced_512": DetectorSpec("vgg-16", 20, (3, 512, 512)),
    "vgg16_reduced_600": DetectorSpec("vgg-16", 20, (3, 600, 600)),
    "resnet50_300": DetectorSpec("resnet-50", 20, (3, 300, 300), "pre"),
    "resnet50_512": DetectorSpec("resnet-50", 20, (3, 512, 512), "pre"),
}
NARROW = DetectorSpec("vgg-16", 2, (3, 268, 268), width=1 / 64)


def names_of(spec: DetectorSpec) -> dict[str, str]:
    with torch.device("meta"):
        return mxnet_names(build_detector(spec).state_dict())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("body.scale", "arg:relu4_3_scale"),
        ("body.backbone.features.0.weight", "arg:conv1_1_weight"),
        ("body.backbone.features.28.bias", "arg:conv5_3_bias"),
        ("body.backbone.fc6.bias", "arg:fc6_bias"),
        ("body.backbone.fc7.weight", "arg:fc7_weight"),
        ("body.extras.0.conv1.weight", "arg:multi_feat_2_conv_1x1_conv_weight"),
        ("body.extras.4.conv2.bias", "arg:multi_feat_6_conv_3x3_conv_bias"),
        ("body.class_heads.0.weight", "arg:relu4_3_cls_pred_conv_weight"),
        ("body.class_heads.1.bias", "arg:relu7_cls_pred_conv_bias"),
        ("body.box_heads.2.bias", "arg:multi_feat_2_conv_3x3_relu_loc_pred_conv_bias"),
        ("body.box_heads.6.weight", "arg:multi_feat_6_conv_3x3_relu_loc_pred_conv_weight"),
    ],
)
def test_each_tensor_of_vgg_has_mxnets_name(ours: str, theirs: str) -> None:
    assert names_of(SPECS["ssd_vgg512"])[ours] == theirs


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("body.backbone.bn_data.bias", "arg:bn_data_beta"),
        ("body.backbone.conv1.weight", "arg:conv0_weight"),
        ("body.backbone.layer3.5.bn3.running_var", "aux:stage3_unit6_bn3_moving_var"),
        ("body.backbone.layer4.0.downsample.weight", "arg:stage4_unit1_sc_weight"),
        ("body.class_heads.0.weight", "arg:_plus12_cls_pred_conv_weight"),
        ("body.box_heads.1.bias", "arg:_plus15_loc_pred_conv_bias"),
        ("body.class_heads.5.weight", "arg:multi_feat_5_conv_3x3_relu_cls_pred_conv_weight"),
        ("body.extras.3.conv2.weight", "arg:multi_feat_5_conv_3x3_conv_weight"),
    ],
)
def test_each_tensor_of_resnet_has_mxnets_name(ours: str, theirs: str) -> None:
    assert names_of(SPECS["ssd_resnet300"])[ours] == theirs


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_detectors_have_the_tensors_of_mxnets_graphs_and_no_others(shared: Path, name: str) -> None:
    with zipfile.ZipFile(shared / "fixtures/mxnet/detection/fullsize.zip") as archive:
        graph = json.loads(archive.read(f"{name}_train-shapes.json"))
    theirs = {f"arg:{key}": shape for key, shape in graph["args"].items()}
    theirs |= {f"aux:{key}": shape for key, shape in graph["aux"].items()}
    theirs.pop("arg:bn_data_gamma", None)  # fixed at 1, and not stored here
    with torch.device("meta"):
        state = build_detector(FULL_SIZE[name]).state_dict()
    assert {there: list(state[ours].shape) for ours, there in mxnet_names(state).items()} == theirs


def test_the_post_resnet_has_the_same_names_and_those_of_its_shortcuts_normalisations() -> None:
    pre, post = names_of(SPECS["ssd_resnet300"]), names_of(DetectorSpec("resnet-50", 6, (3, 300, 300), "post"))
    assert {name for name in pre if "_heads." in name or "extras." in name} <= set(post)
    assert post["body.backbone.layer2.0.downsample.1.weight"] == "arg:stage2_unit1_sc_bn_gamma"
    assert post["body.backbone.layer2.0.downsample.0.weight"] == "arg:stage2_unit1_sc_weight"
    assert len(set(post.values())) == len(post)


@pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")
def test_of_a_timm_detector_only_what_finds_boxes_has_a_name() -> None:
    names = names_of(DetectorSpec("resnet10t", 2, (3, 96, 96)))
    assert not any(".backbone." in name for name in names)
    assert names["body.class_heads.0.weight"] == "arg:stride8_cls_pred_conv_weight"
    assert names["body.box_heads.2.bias"] == "arg:stride32_loc_pred_conv_bias"
    assert names["body.class_heads.3.bias"] == "arg:multi_feat_3_conv_3x3_relu_cls_pred_conv_bias"
    assert names["body.extras.0.conv1.weight"] == "arg:multi_feat_3_conv_1x1_conv_weight"
    assert len(set(names.values())) == len(names)


@dataclass(frozen=True)
class Answers:
    """What one of MXNet's detectors said, and what ours, filled with its arrays, says."""

    name: str
    theirs: Arrays
    logits: Tensor
    offsets: Tensor
    anchors: Tensor


@pytest.fixture(scope="module", params=sorted(SPECS))
def answers(request: pytest.FixtureRequest, shared: Path) -> Answers:
    name, folder = request.param, shared / "fixtures" / "mxnet" / "detection"
    detector = build_detector(SPECS[name]).eval()
    load_mxnet(detector, read_params(folder / f"{name}-0000.params"))
    with np.load(folder / f"{name}.npz") as file:
        theirs = dict(file)
    with torch.inference_mode():
        said = detector(torch.from_numpy(theirs["image"].transpose(0, 2, 3, 1).copy()))
    return Answers(name, theirs, *said)


def test_probabilities_offsets_and_anchors_equal_mxnets(answers: Answers) -> None:
    theirs = answers.theirs
    probabilities = answers.logits.softmax(2).transpose(1, 2).numpy()
    np.testing.assert_allclose(probabilities, theirs["train:cls_prob"], **TOLERANCE, strict=True)
    np.testing.assert_allclose(answers.offsets.flatten(1).numpy(), theirs["loc_pred"], **TOLERANCE, strict=True)
    np.testing.assert_array_equal(answers.anchors[None].numpy(), theirs["anchors"], strict=True)


def test_what_anchors_learn_from_these_answers_equals_mxnets(answers: Answers) -> None:
    theirs = answers.theirs
    targets = match_anchors(answers.anchors, torch.from_numpy(theirs["label"]), answers.logits)
    np.testing.assert_array_equal(targets.classes.numpy(), theirs["train:cls_label"])
    np.testing.assert_array_equal(targets.mask.repeat_interleave(4, 1).numpy(), theirs["target:mask"])
    np.testing.assert_allclose(targets.offsets.flatten(1).numpy(), theirs["target:loc"], **TOLERANCE)
    apart = torch.where(targets.mask[..., None], answers.offsets - targets.offsets, 0.0).abs()
    losses = torch.where(apart < 1, 0.5 * apart.square(), apart - 0.5).flatten(1)
    np.testing.assert_allclose(losses.numpy(), theirs["train:loc_loss"], **TOLERANCE)


ACROSS = {"train:det": False, "deploy:det": False, "deploy_force:det": True, "deploy_old:det": True}  # force_suppress


def test_boxes_found_from_these_answers_equal_those_of_each_of_mxnets_graphs(answers: Answers) -> None:
    graphs = [name for name in answers.theirs if name.endswith(":det")]
    assert len(graphs) == (4 if answers.name == "ssd_vgg300" else 3)
    for graph in graphs:
        rule = Rule(THRESHOLDS.get(answers.name, 0.45), 400, across_classes=ACROSS[graph])
        found = detect(answers.logits.softmax(2), answers.offsets, answers.anchors, rule=rule).numpy()
        for ours, theirs in zip(found, answers.theirs[graph], strict=True):
            ours, theirs = ours[ours[:, 0] >= 0], theirs[theirs[:, 0] >= 0]
            assert len(ours) == len(theirs) > 50, graph
            np.testing.assert_allclose(in_order_of(theirs, ours), theirs, **TOLERANCE, err_msg=graph)


def in_order_of(theirs: NDArray[np.float32], ours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Our rows, those of tied scores in the order of their nearest rows among ``theirs``."""
    ordered, left = [], list(ours)
    for row in theirs:
        tied = [k for k, other in enumerate(left) if abs(other[1] - left[0][1]) < TIED]
        ordered.append(left.pop(min(tied, key=lambda k: float(np.abs(left[k] - row).sum()))))
    return np.array(ordered)


def narrow() -> tuple[Detector, Arrays]:
    """A detector, and arrays that fit it: float16, all of them 0."""
    detector = build_detector(NARROW)
    state = detector.state_dict()
    return detector, {there: np.zeros(state[ours].shape, np.float16) for ours, there in mxnet_names(state).items()}


def test_float16_is_cast_and_goes_to_its_place() -> None:
    detector, arrays = narrow()
    arrays["arg:relu7_loc_pred_conv_bias"] = np.arange(24, dtype=np.float16)
    load_mxnet(detector, arrays)
    bias = detector.get_parameter("body.box_heads.1.bias")
    assert bias.dtype == torch.float32 and bias.tolist() == list(range(24))
    assert not detector.get_parameter("body.scale").any()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"arg:fc6_weight": None}, "1 arrays are missing: arg:fc6_weight"),
        ({"arg:conv9_weight": np.zeros(1)}, "1 arrays are not in the network: arg:conv9_weight"),
        (
            {"arg:relu7_cls_pred_conv_bias": np.zeros(126)},
            "1 arrays are of another shape: arg:relu7_cls_pred_conv_bias is 126, the network takes 18",
        ),
    ],
)
def test_arrays_of_another_detector_are_refused_and_nothing_is_loaded(
    changed: dict[str, NDArray[Any] | None], text: str
) -> None:
    detector, arrays = narrow()
    given = {name: array for name, array in (arrays | changed).items() if array is not None}
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_mxnet(detector, given, "model_algo_1-0000.params")
    assert str(error.value) == (
        f"model_algo_1-0000.params: {text}\n"
        "The arrays belong to another network: compare base_network, image_shape and num_classes."
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [
        ("conv1_", ["features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias"]),
        ("features.5.", ["features.5.weight", "features.5.bias"]),
        ("backbone.fc7.weight", ["fc7.weight"]),
        ("body.backbone.fc6", ["fc6.weight", "fc6.bias"]),
        (".*fc7_b", ["fc7.bias"]),
        ("1_1", []),  # matched from the start
    ],
)
def test_patterns_match_the_originals_names_and_ours_from_their_start(pattern: str, frozen: list[str]) -> None:
    assert frozen_names(narrow()[0], pattern) == tuple(f"body.backbone.{name}" for name in frozen)


def test_what_finds_boxes_can_be_frozen_as_well() -> None:
    assert frozen_names(narrow()[0], "relu4_3_scale|class_heads.0|multi_feat_5_conv_3x3_relu_loc") == (
        "body.scale",
        "body.class_heads.0.weight",
        "body.class_heads.0.bias",
        "body.box_heads.5.weight",
        "body.box_heads.5.bias",
    )


def test_a_pattern_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(UserError) as error:
        frozen_names(narrow()[0], "^(conv1_")
    assert str(error.value) == (
        "freeze_layer_pattern: '^(conv1_' is no regular expression: missing ), unterminated subpattern at position 1\n"
        "Write it as Python's `re` takes it, e.g. ^(conv1_|conv2_).*"
    )
