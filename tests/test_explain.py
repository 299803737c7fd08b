"""Heat maps: where they lie, what they are made of, and that what the network has learnt makes them."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import foveal.explain as explaining
from foveal.artifact import Artifact
from foveal.data.views import Preprocessing, views
from foveal.errors import UserError
from foveal.explain import box_maps, label_maps, log_odds, spread_out
from foveal.models.detector import DetectorSpec, Outputs, build_detector, scored
from foveal.models.network import NetworkSpec, build
from foveal.predictor import DetectionPredictor, Predictor
from foveal.records import Detections

SIDE, SQUARE = 32, 10  # pixels of a toy picture and of the square in it


def toys(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Noise with a striped square somewhere: pictures uint8 [n, 32, 32, 3], classes by the stripes' direction, and the
    squares' left upper corners (x, y)."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(60, 140, (count, SIDE, SIDE, 3)).astype(np.uint8)
    labels, corners = rng.integers(0, 2, count), rng.integers(0, SIDE - SQUARE, (count, 2))
    stripes = np.where(np.arange(SQUARE) // 2 % 2, 250, 5).astype(np.uint8)
    across = np.repeat(stripes[:, None], SQUARE, axis=1)
    for i, (label, (x, y)) in enumerate(zip(labels, corners, strict=True)):
        pictures[i, y : y + SQUARE, x : x + SQUARE] = (across if label else across.T)[..., None]
    return pictures, labels.astype(np.int64), corners


def taught() -> Predictor:
    """A small network that tells the toys apart."""
    torch.manual_seed(1)
    spec = NetworkSpec("resnet", 2, (3, SIDE, SIDE), 20, "pre", width=0.5, mean=(100.0,) * 3, std=(50.0,) * 3)
    network = build(spec)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    network.train()
    for step in range(30):
        pictures, labels, _ = toys(24, step)
        loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(pictures)), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rule = Preprocessing("squeeze", 3, SIDE, SIDE)
    return Predictor(network.eval(), rule, Artifact("image-classification", spec.as_dict(), ("down", "across"), {}, {}))


def ranks(values: NDArray[np.float32]) -> NDArray[np.int64]:
    return values.reshape(-1).argsort(kind="stable").argsort()


def test_what_is_learnt_makes_the_map_and_it_lies_on_the_object():
    model = taught()
    pictures, labels, corners = toys(24, seed=1000)
    maps = [model.explain(picture)[0] for picture in pictures]
    right = np.array([each.index for each in maps]) == labels
    assert right.mean() > 0.9

    inside = []
    for each, (x, y) in zip(maps, corners, strict=True):
        assert each.heat.shape == (SIDE, SIDE) and each.heat.dtype == np.float32
        assert each.heat.min() >= 0 and each.heat.max() == 1
        inside.append(each.heat[y : y + SQUARE, x : x + SQUARE].sum() / each.heat.sum())
    peaks = [np.unravel_index(each.heat.argmax(), each.heat.shape) for each in maps]
    on = [x - 2 <= px < x + SQUARE + 2 and y - 2 <= py < y + SQUARE + 2
          for (py, px), (x, y) in zip(peaks, corners, strict=True)]  # fmt: skip
    assert np.mean(inside) > 1.5 * (SQUARE / SIDE) ** 2
    assert np.mean(on) > 0.8

    labels_of = [each.label for each in maps]
    with torch.no_grad():  # the sanity check of Adebayo et al. (2018): a map that doesn't change tells nothing
        for parameter in model.network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    after = [model.explain(picture, labels=label)[0] for picture, label in zip(pictures, labels_of, strict=True)]
    alike = [np.corrcoef(ranks(a.heat), ranks(b.heat))[0, 1] for a, b in zip(maps, after, strict=True)]
    assert np.mean(alike) < 0.5


@pytest.mark.parametrize(("kind", "depth", "side"), [("pre", 20, 32), ("post", 18, 128)])
def test_of_a_network_that_averages_its_last_map_it_is_the_class_activation_map(kind, depth, side, monkeypatch):
    monkeypatch.setattr(explaining, "DEEPEST", 1)
    torch.manual_seed(0)
    network = build(NetworkSpec("resnet", 3, (3, side, side), depth, kind, width=0.5)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)

    by_label = list(label_maps(network, pixels, range(3), several=True))

    label, (found,) = next((label, maps) for label, maps in enumerate(by_label) if maps)
    with torch.no_grad():
        last = network.body.stages(network.normalise(torch.from_numpy(pixels)[None]))[-1][0]
        if kind == "pre":
            last = network.body.norm(last[None])[0].relu()
        parts = [torch.einsum("c,chw->hw", weights, last).clamp(min=0) for weights in network.body.fc.weight]
    expected = parts[label]
    np.testing.assert_allclose(found, (expected / expected.max()).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        NetworkSpec("vgg", 2, (3, 64, 64), 16),
        NetworkSpec("timm", 2, (3, 64, 64), backbone="tf_efficientnet_lite0"),
        NetworkSpec("timm", 2, (3, 224, 224), backbone="vit_tiny_patch16_224"),
    ],
    ids=lambda spec: spec.label,
)
def test_other_networks_have_maps_of_places_too(spec):
    if spec.family == "timm" and find_spec("timm") is None:
        pytest.skip("needs timm")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*spec.image_shape[1:], 3)).astype(np.uint8)

    maps = [each for found in label_maps(build(spec), pixels, [0, 1]) for each in found]

    assert maps and all(min(each.shape) >= 4 and each.min() >= 0 and each.max() == 1 for each in maps)


def test_a_network_without_maps_is_refused():
    network = build(NetworkSpec("resnet", 2, (3, 32, 32), 20, "pre", width=0.5))
    network.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32 * 3, 2))

    with pytest.raises(UserError) as refused:
        list(label_maps(network, toys(1, 0)[0][0], [0]))

    assert str(refused.value) == (
        "--explain: Sequential tells of no maps, and heat maps are made from them\n"
        "Heat maps are for networks of convolutions, and for transformers that timm's feature_info describes."
    )


@pytest.mark.parametrize(("head", "base"), [("ssd", "resnet-50"), ("pyramid", "resnet-50"), ("ssd", "vgg-16")])
def test_a_boxs_map_is_that_of_the_anchor_it_came_from(head, base):
    torch.manual_seed(0)
    side = 300 if base == "vgg-16" else 256
    kind = "post" if base == "resnet-50" else ""
    network = build_detector(DetectorSpec(base, 2, (3, side, side), kind, head, width=0.125)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    with torch.no_grad():
        scores, boxes = (each[0].numpy() for each in scored(head, network(torch.from_numpy(pixels)[None])))
    anchors = np.array([5, len(boxes) // 2])  # of a fine map
    classes = scores[anchors].argmax(axis=1)
    found = Detections(boxes[anchors], classes, scores[anchors, classes], (side, side))

    maps = list(box_maps(network, pixels, found))

    def by_hand(outputs: Outputs) -> list[torch.Tensor]:
        shift = int(head == "ssd")  # background comes first
        return [log_odds(outputs[0][0, a], c + 1) if shift else outputs[0][0, a, c]
                for a, c in zip(anchors.tolist(), classes.tolist(), strict=True)]  # fmt: skip

    for each, expected in zip(maps, explaining._maps(network, pixels, by_hand), strict=True):
        assert len(each) == len(expected)
        for ours, theirs in zip(each, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        if head == "ssd" and each:  # a 3x3 convolution looks at the deepest map
            rows, columns = np.nonzero(each[0])
            assert np.ptp(rows) <= 2 and np.ptp(columns) <= 2


def test_heat_lies_where_the_view_was_cut_from_and_is_nothing_outside():
    rule = Preprocessing("crop", 3, 40, 40, 40)
    view = views(rule, np.zeros((80, 200, 3), np.uint8))[0]  # sees columns 60 to 140
    hot = np.zeros((4, 4), np.float32)
    hot[1, 2] = 1

    heat = spread_out((hot,), view.affine, (40, 40), (80, 200), (80, 200))

    assert heat.shape == (80, 200) and heat.max() == 1
    assert np.unravel_index(heat.argmax(), heat.shape) in [(y, x) for y in (29, 30) for x in (109, 110)]
    assert not heat[:, :60].any() and not heat[:, 140:].any()
    half = spread_out((hot,), view.affine, (40, 40), (80, 200), (40, 100))
    np.testing.assert_allclose(half, heat.reshape(40, 2, 100, 2).mean(axis=(1, 3)), atol=0.02)


def test_nothing_that_speaks_for_an_answer_is_no_heat():
    heat = spread_out((), np.array([[1.0, 0, 0], [0, 1, 0]]), (8, 8), (8, 8), (8, 8))

    assert heat.shape == (8, 8) and not heat.any()


def test_log_odds_of_a_class_against_the_others():
    logits = torch.tensor([1.0, 3.0, 0.5])
    share = logits.softmax(0)[1]

    assert float(log_odds(logits, 1)) == pytest.approx(float(torch.log(share / (1 - share))), abs=1e-6)
    assert float(log_odds(logits[:1], 0)) == 1


def test_the_labels_to_explain_are_chosen_and_unknown_ones_refused(tmp_path):
    torch.manual_seed(0)
    spec = NetworkSpec("resnet", 3, (3, 32, 32), 20, "pre", width=0.5)
    artifact = Artifact("image-classification", spec.as_dict(), ("a", "b", "c"), {}, {"multi_label": True})
    model = Predictor(build(spec), Preprocessing("squeeze", 3, 32, 32), artifact)
    Image.fromarray(toys(1, 0)[0][0]).resize((100, 50)).save(tmp_path / "toy.png")

    found = model.explain(tmp_path / "toy.png", labels=("c", "a"), longest=50)

    assert [each.label for each in found] == ["c", "a"]
    assert [each.heat.shape for each in found] == [(25, 50)] * 2
    assert found[0].score == pytest.approx(float(model.predict(tmp_path / "toy.png")[0].probabilities[2]))
    with pytest.raises(UserError) as refused:
        model.explain(tmp_path / "toy.png", labels=["z"])
    assert str(refused.value) == "labels: the model has no class 'z'\nIt knows a, b, c."


def test_the_most_confident_boxes_are_explained():
    torch.manual_seed(0)
    spec = DetectorSpec("resnet-50", 2, (3, 128, 128), "post", width=0.125)
    settings = {"nms_threshold": 0.45, "nms_topk": 400}
    artifact = Artifact("object-detection", spec.as_dict(), ("a", "b"), {}, settings)
    model = DetectionPredictor(build_detector(spec), Preprocessing("squeeze", 3, 128, 128), artifact)
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)

    found = model.explain(picture, min_score=0, most=3)

    best = model.predict(picture, min_score=0)[0].objects[:3]
    assert [(each.label, each.score, each.box) for each in found] == [(o.label, o.score, o.box) for o in best]
    assert all(each.heat.shape == (60, 90) for each in found)
