"""Feature pyramids: which places answer, how they start, and what their answers mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.models.alignment import align, pyramid_loss
from foveal.models.detector import Detector, DetectorSpec, build_detector, found, scored
from foveal.models.pyramid import FIRST_SIDE, PRIOR, WIDTH, Pyramid, boxes_around, cells_for
from foveal.models.suppression import Rule

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")

RESNET = DetectorSpec("resnet-50", 2, (3, 96, 96), "post", "pyramid", width=1 / 16)
VGG = DetectorSpec("vgg-16", 2, (3, 268, 268), head="pyramid", width=1 / 32)
TIMM = DetectorSpec("resnet10t", 2, (3, 96, 96), head="pyramid", mean=(120.0,) * 3, std=(60.0,) * 3)


def pictures(spec: DetectorSpec, count: int = 1) -> Tensor:
    channels, height, width = spec.image_shape
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return build_detector(RESNET).eval()


@pytest.fixture(autouse=True)
def undone(detector: Detector) -> Iterator[None]:
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    yield
    detector.load_state_dict(before)
    detector.eval().zero_grad()


@pytest.mark.parametrize(
    ("spec", "maps"),
    [
        (RESNET, [(12, 12), (6, 6), (3, 3)]),
        (replace(RESNET, image_shape=(3, 75, 75)), [(10, 10), (5, 5), (3, 3)]),
        (VGG, [(34, 34), (17, 17), (9, 9)]),
        pytest.param(TIMM, [(12, 12), (6, 6), (3, 3)], marks=needs_timm),
        # rounds down from map to map
        pytest.param(replace(TIMM, base="convnext_atto", image_shape=(3, 88, 88)), [(11, 11), (5, 5), (2, 2)],
                     marks=needs_timm),
    ],
    ids=lambda value: f"{value.base}{value.image_shape[1]}" if isinstance(value, DetectorSpec) else "",
)  # fmt: skip
def test_every_place_of_every_level_answers(spec: DetectorSpec, maps: list[tuple[int, int]]) -> None:
    built = build_detector(spec).eval()
    with torch.inference_mode():
        logits, sides, cells = built(pictures(spec, 2))
    places = sum(height * width for height, width in maps)
    assert (logits.shape, sides.shape) == ((2, places, 2), (2, places, 4))
    assert torch.equal(cells, torch.from_numpy(cells_for(maps)))
    assert logits.isfinite().all() and sides.isfinite().all()


def test_cells_divide_the_picture_row_by_row_the_finest_level_first() -> None:
    cells = cells_for([(2, 4), (1, 2)])
    assert cells[[0, 1, 4, 7, 8, 9]].tolist() == [
        [0, 0, 0.25, 0.5],
        [0.25, 0, 0.5, 0.5],
        [0, 0.5, 0.25, 1],
        [0.75, 0.5, 1, 1],
        [0, 0, 0.5, 1],
        [0.5, 0, 1, 1],
    ]


def test_sides_are_logarithms_of_cells_from_a_places_centre() -> None:
    cells = torch.tensor([[0.2, 0.4, 0.4, 0.5]])
    sides = torch.tensor([[1.0, 2, 0.5, 4]]).log()
    assert boxes_around(cells, sides)[0].tolist() == pytest.approx([0.3 - 0.2, 0.45 - 0.2, 0.3 + 0.1, 0.45 + 0.4])
    assert boxes_around(cells, torch.full((1, 4), 1e9)).isfinite().all()


def test_at_first_all_say_hardly_anything_and_boxes_of_a_few_cells(detector: Detector) -> None:
    with torch.inference_mode():
        scores, _ = scored("pyramid", outputs := detector(pictures(RESNET)))
    assert scores.mean().item() == pytest.approx(PRIOR, rel=0.3)
    assert outputs[1].exp().mean().item() == pytest.approx(FIRST_SIDE, rel=0.2)


def test_every_parameter_learns(detector: Detector) -> None:
    detector.train()
    logits, sides, cells = detector(pictures(RESNET, 2))
    boxes = boxes_around(cells, sides)
    labels = torch.tensor([[[0, 0.1, 0.1, 0.6, 0.5, 0], [1, 0.4, 0.5, 0.5, 0.6, 0]], [[1, 0, 0, 1, 1, 0], [-1] * 6]])
    sums, shares, _ = pyramid_loss(logits, boxes, align(cells, logits.detach(), boxes.detach(), labels))
    (sums / shares).sum().backward()
    gradients = {name: each.grad for name, each in detector.named_parameters()}
    assert all(each is not None and each.isfinite().all() for each in gradients.values())
    # branches of a new ResNet are switched off by their last norm
    silent = [
        name for name, each in gradients.items() if each is not None and not each.any() and "backbone" not in name
    ]
    assert silent == []
    assert gradients["body.backbone.conv1.weight"].any()  # type: ignore[union-attr]


def test_levels_share_layers_and_have_norms_of_their_own(detector: Detector) -> None:
    body = detector.body
    assert isinstance(body, Pyramid)
    layers = [*body.class_tower, *body.box_tower]
    assert all(len(layer.norms) == 3 for layer in layers)
    assert sum(each.numel() for each in body.classes.parameters()) == WIDTH * 2 + 2
    assert detector.prediction_names == ("body.classes.weight", "body.classes.bias") and not detector.background


def test_the_specification_is_stored_and_read_back() -> None:
    assert DetectorSpec.from_dict(json.loads(json.dumps(RESNET.as_dict()))) == RESNET
    assert RESNET.label == "pyramid on ResNet-50 (post)" and TIMM.label == "pyramid on resnet10t"


def test_pictures_of_another_side_have_other_places(detector: Detector) -> None:
    with torch.inference_mode():
        logits, _, cells = detector(torch.zeros(1, 128, 128, 3, dtype=torch.uint8))
        again = detector(torch.zeros(1, 128, 128, 3, dtype=torch.uint8))[2]
    assert len(cells) == logits.shape[1] == 256 + 64 + 16
    assert torch.equal(cells, torch.from_numpy(cells_for([(16, 16), (8, 8), (4, 4)]))) and again is cells


@pytest.mark.parametrize("head", ["ssd", "pyramid"])
def test_rows_with_shapes_that_can_be_exported_are_the_rows_that_are_asked_for(head: str) -> None:
    torch.manual_seed(4)
    built = build_detector(replace(RESNET, head=head)).eval()  # type: ignore[arg-type]
    for name in built.prediction_names:
        built.get_parameter(name).data.normal_(0, 0.3)
    with torch.inference_mode():
        outputs = built(pictures(RESNET, 2))
        listed, fixed = (found(built.spec.head, outputs, Rule(0.45, 100), fixed=way) for way in (False, True))
    assert fixed.shape == (2, 100, 6)
    for one, other in zip(listed.numpy(), fixed.numpy(), strict=True):
        one, other = one[one[:, 0] >= 0], other[other[:, 0] >= 0]
        assert len(one) > 3
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ["ssd", "pyramid"])
def test_rows_are_picked_from_scores_and_boxes(head: str) -> None:
    built = build_detector(replace(RESNET, head=head)).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        outputs = built(pictures(RESNET))
        scores, boxes = scored(built.spec.head, outputs)
        (rows,) = found(built.spec.head, outputs, Rule(0.45, 50, 0.0))
    assert scores.shape == (1, len(built.anchors), 2) and boxes.shape == (1, len(built.anchors), 4)
    assert boxes.min() >= 0 and boxes.max() <= 1 and scores.min() >= 0 and scores.max() <= 1
    best = scores[0].max()
    assert rows[0, 1] == best
    place = int(scores[0].amax(dim=1).argmax())
    torch.testing.assert_close(rows[0, 2:], boxes[0, place])


def test_exported_by_torch_the_whole_of_it_gives_the_same_rows(detector: Detector) -> None:
    class Finding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = detector

        def forward(self, batch: Tensor) -> Tensor:
            return found("pyramid", self.detector(batch), Rule(0.45, 20, 0.0), fixed=True)

    program = torch.export.export(
        Finding(), (pictures(RESNET, 2),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=8)},)
    )
    batch = pictures(RESNET, 3)
    with torch.inference_mode():
        rows, expected = program.module()(batch), found("pyramid", detector(batch), Rule(0.45, 20, 0.0))
    for one, other in zip(rows.numpy(), expected.numpy(), strict=True):
        np.testing.assert_allclose(one[one[:, 0] >= 0], other[other[:, 0] >= 0], rtol=1e-4, atol=1e-5)
