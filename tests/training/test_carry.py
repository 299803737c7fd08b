"""A detector's weights taken over into one with more classes: answers go by the classes' names."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from foveal.artifact import Artifact
from foveal.errors import UserError
from foveal.models.detector import Detector, DetectorSpec, build_detector
from foveal.training.carry import carry_over

SPEC = DetectorSpec("vgg-16", 2, (3, 268, 268), width=1 / 64)
NAMES = ("cat", "dog")
MORE = ("ant", "cat", "cow", "dog")
PLACES = [0, 2, 4]  # of background, cat and dog among MORE's answers


def built(seed: int, **changed: object) -> Detector:
    torch.manual_seed(seed)
    detector = build_detector(replace(SPEC, **changed))  # type: ignore[arg-type]
    for name in detector.prediction_names:
        torch.nn.init.normal_(detector.get_parameter(name), std=0.1)  # biases as well
    return detector.eval()


@pytest.fixture(scope="module")
def before() -> Detector:
    return built(1)


def earlier(names: tuple[str, ...] = NAMES) -> Artifact:
    return Artifact("object-detection", SPEC.as_dict(), names, {}, {})


def by_answer(tensor: Tensor, answers: int) -> Tensor:
    """[anchors * answers, ...] -> [anchors, answers, ...]"""
    return tensor.unflatten(0, (-1, answers))


def test_answers_go_by_name_and_new_classes_keep_their_starting_values(before: Detector) -> None:
    network = built(2, num_classes=4)
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    said = carry_over(network, earlier(), before.state_dict(), MORE)
    assert said == ["weights taken over from the earlier model: 2 classes stay, 2 new (ant, cow)"]
    state, old = network.state_dict(), before.state_dict()
    assert set(network.prediction_names) < set(state)
    for name, tensor in state.items():
        if name in network.prediction_names:
            assert torch.equal(by_answer(tensor, 5)[:, PLACES], by_answer(old[name], 3)), name
            assert torch.equal(by_answer(tensor, 5)[:, [1, 3]], by_answer(fresh[name], 5)[:, [1, 3]]), name
        else:
            assert torch.equal(tensor, old[name]), name


def test_what_the_earlier_model_said_is_said_again(before: Detector) -> None:
    network = built(2, num_classes=4)
    carry_over(network, earlier(), before.state_dict(), MORE)
    pictures = torch.randint(0, 256, (1, 268, 268, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits, offsets, anchors = network(pictures)
        old_logits, old_offsets, old_anchors = before(pictures)
    torch.testing.assert_close(logits[..., PLACES], old_logits)
    assert torch.equal(offsets, old_offsets) and torch.equal(anchors, old_anchors)


def test_a_pyramids_answers_go_by_name_and_have_no_background() -> None:
    spec = DetectorSpec("resnet-50", 2, (3, 64, 64), "post", "pyramid", width=1 / 16)
    old, network = build_detector(spec), build_detector(replace(spec, num_classes=4))
    fresh = {name: network.get_parameter(name).detach().clone() for name in network.prediction_names}
    carry_over(network, earlier(), old.state_dict(), MORE)
    assert network.prediction_names == ("body.classes.weight", "body.classes.bias")
    for name, before in fresh.items():
        assert torch.equal(network.get_parameter(name)[[1, 3]], old.get_parameter(name))
        assert torch.equal(network.get_parameter(name)[[0, 2]], before[[0, 2]])


def test_the_same_classes_in_another_order_are_the_same_model(before: Detector) -> None:
    network = built(2)
    said = carry_over(network, earlier(), before.state_dict(), ("dog", "cat"))
    assert said == ["weights taken over from the earlier model: 2 classes stay"]
    for name in network.prediction_names:
        ours, theirs = by_answer(network.get_parameter(name), 3), by_answer(before.get_parameter(name), 3)
        assert torch.equal(ours, theirs[:, [0, 2, 1]])


def test_pictures_may_have_another_size_with_as_many_maps(before: Detector) -> None:
    network = built(2, image_shape=(3, 320, 320))
    carry_over(network, earlier(), before.state_dict(), NAMES)
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert len(network.anchors) == 9590 != len(before.anchors)


def test_float16_weights_are_cast(before: Detector) -> None:
    half = {name: tensor.half() for name, tensor in before.state_dict().items()}
    network = built(2, num_classes=4)
    carry_over(network, earlier(), half, MORE)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    weight = network.get_parameter("body.class_heads.0.weight")
    assert torch.equal(by_answer(weight, 5)[:, PLACES], by_answer(half["body.class_heads.0.weight"], 3).float())


def refused(network: Detector, names: tuple[str, ...], tensors: dict[str, Tensor], model: Artifact) -> str:
    """The error's text; asserts that the network is as it was."""
    fresh = copy.deepcopy(network.state_dict())
    with pytest.raises(UserError) as error:
        carry_over(network, model, tensors, names)
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in network.state_dict().items())
    return str(error.value)


def test_a_class_that_is_missing_now_is_refused(before: Detector) -> None:
    assert refused(built(2), ("cat", "cow"), before.state_dict(), earlier()) == (
        "model: the data lacks classes of the earlier model: dog\n"
        "Incremental training keeps all earlier classes and may add some: give pictures of each, or train anew."
    )


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"image_shape": (3, 448, 448)}, "(10 tensors, e.g. body.box_heads.4.bias)"),
        ({"width": 1 / 16}, "(55 tensors, e.g. body.backbone.fc6.bias)"),
    ],
    ids=["a map more", "another width"],
)
def test_weights_of_another_network_are_refused(before: Detector, spec: dict[str, object], wrong: str) -> None:
    assert refused(built(2, **spec), NAMES, before.state_dict(), earlier()) == (
        f"model: the weights do not fit the network that foveal.json names {wrong}\nCopy the artifact again."
    )


def test_weights_that_are_not_finite_are_refused(before: Detector) -> None:
    broken = before.state_dict() | {"body.scale": torch.full_like(before.get_parameter("body.scale"), torch.inf)}
    said = refused(built(2), NAMES, broken, earlier())
    assert said.startswith("model: the weights are not finite (1 tensors, e.g. body.scale)")


def test_rows_that_do_not_belong_to_as_many_classes_as_are_named_are_refused(before: Detector) -> None:
    """As in a description that was edited by hand."""
    assert refused(built(2, num_classes=4), MORE, before.state_dict(), earlier(("cat", "cow", "dog"))) == (
        "model: the weights do not answer for the 3 classes that foveal.json names "
        "(12 tensors, e.g. body.class_heads.0.weight)\n"
        "Copy the artifact again."
    )
