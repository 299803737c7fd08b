"""Which place learns which object, and what its answer costs: against one object and one place after another."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foveal.models import alignment
from foveal.models.alignment import BOX_WEIGHT, MOST, Aligned, align, generalised_overlap, pyramid_loss
from foveal.models.pyramid import boxes_around, cells_for

MAPS = [(8, 8), (4, 4), (2, 2)]
CELLS = torch.from_numpy(cells_for(MAPS))
PLACES = 64 + 16 + 4


def answers(seed: int, pictures: int = 3, classes: int = 2) -> tuple[Tensor, Tensor]:
    """Logits [B, P, C] and boxes [B, P, 4] of a network that has learned a little."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(pictures, PLACES, classes, generator=generator) - 2
    sides = torch.randn(pictures, PLACES, 4, generator=generator) * 0.5 + 0.5
    return logits, boxes_around(CELLS, sides)


def objects(seed: int, pictures: int = 3, most: int = 5, classes: int = 2) -> Tensor:
    """Labels [B, most, 6]; every picture has some fewer, the last one none."""
    generator = torch.Generator().manual_seed(seed + 1)
    labels = torch.full((pictures, most, 6), -1.0)
    for picture in range(pictures - 1):
        for row in range(most - picture):
            corner, size = torch.rand(2, generator=generator) * 0.7, torch.rand(2, generator=generator) * 0.5 + 0.02
            kind = torch.randint(classes, (1,), generator=generator).float()
            labels[picture, row] = torch.cat([kind, corner, (corner + size).clamp(max=1), torch.zeros(1)])
    return labels


def iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, wide) * max(0.0, high)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def one_by_one(logits: Tensor, boxes: Tensor, labels: Tensor) -> tuple[dict[int, int], dict[int, float]]:
    """The definition, for one picture: place -> its object, and place -> how sure it should be."""
    real = [row for row in labels.tolist() if row[0] >= 0]
    wants: dict[int, list[int]] = {}
    fits: dict[tuple[int, int], float] = {}
    overlaps = {(m, p): iou(real[m][1:5], boxes[p].tolist()) for m in range(len(real)) for p in range(PLACES)}
    for m, (kind, x0, y0, x1, y1, _) in enumerate(real):
        half = [max((x1 - x0) / 2, 1 / 16), max((y1 - y0) / 2, 1 / 16)]
        inside = []
        for p, (cx0, cy0, cx1, cy1) in enumerate(CELLS.tolist()):
            x, y = (cx0 + cx1) / 2, (cy0 + cy1) / 2
            if abs(x - (x0 + x1) / 2) <= half[0] and abs(y - (y0 + y1) / 2) <= half[1]:
                inside.append(p)
                fits[m, p] = float(logits[p, int(kind)].sigmoid()) * overlaps[m, p] ** 6
        for p in sorted(inside, key=lambda place: -fits[m, place])[:MOST]:
            wants.setdefault(p, []).append(m)
    owner = {p: max(rivals, key=lambda m: overlaps[m, p]) for p, rivals in wants.items()}
    sure = {}
    for p, m in owner.items():
        mine = [place for place, other in owner.items() if other == m]
        best = max(fits[m, place] for place in mine)
        sure[p] = fits[m, p] / best * max(overlaps[m, place] for place in mine)
    return owner, sure


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_places_learn_what_the_definition_says(seed: int) -> None:
    (logits, boxes), labels = answers(seed), objects(seed)
    found = align(CELLS, logits, boxes, labels)
    for picture in range(3):
        owner, sure = one_by_one(logits[picture], boxes[picture], labels[picture])
        expected = torch.zeros(PLACES, 2)
        for p, m in owner.items():
            expected[p, int(labels[picture, m, 0])] = sure[p]
            assert torch.equal(found.boxes[picture, p], labels[picture, m, 1:5])
        torch.testing.assert_close(found.scores[picture], expected, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(found.weights[picture], expected.sum(dim=1), rtol=1e-3, atol=1e-6)
        others = [p for p in range(PLACES) if p not in owner]
        assert not found.boxes[picture, others].any()


def test_the_place_whose_box_fits_an_object_is_to_be_as_sure_as_it_fits() -> None:
    logits, boxes = answers(1, 1)
    labels = torch.tensor([[[1, 0.2, 0.2, 0.8, 0.8, 0]]])
    boxes[0, 72] = labels[0, 0, 1:5]  # row 2, column 0 of the middle level is not inside
    boxes[0, 74] = labels[0, 0, 1:5]
    found = align(CELLS, logits, boxes, labels)
    assert found.weights[0, 72] == 0
    assert found.scores[0, 74].tolist() == pytest.approx([0, 1], abs=1e-6)


def test_an_object_smaller_than_a_cell_is_learned_too() -> None:
    logits, boxes = answers(2, 1)
    found = align(CELLS, logits, boxes, torch.tensor([[[0, 0.51, 0.51, 0.52, 0.52, 0.0]]]))
    assert (found.boxes[0].sum(dim=1) > 0).sum() >= 1


def test_an_object_that_no_box_overlaps_is_learned_by_places_inside_it() -> None:
    """Its fit would be 0 in float32, were it not reckoned in logarithms."""
    logits, boxes = answers(3, 1)
    centre = (CELLS[:, :2] + CELLS[:, 2:]) / 2
    boxes = torch.cat([centre - 1e-7, centre + 1e-7], dim=1)[None]
    found = align(CELLS, logits - 40, boxes, torch.tensor([[[0, 0.0, 0.0, 1.0, 1.0, 0.0]]]))
    assert (found.boxes[0].sum(dim=1) > 0).sum() == MOST
    assert found.scores.isfinite().all()


def test_pictures_are_compared_in_parts_where_the_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    (logits, boxes), labels = answers(4), objects(4)
    whole = align(CELLS, logits, boxes, labels)
    monkeypatch.setattr(alignment, "PART", 5 * PLACES)
    assert all(torch.equal(a, b) for a, b in zip(align(CELLS, logits, boxes, labels), whole, strict=True))


def test_without_any_object_all_places_say_no() -> None:
    logits, boxes = answers(5)
    for labels in (torch.full((3, 1, 6), -1.0), torch.zeros(3, 0, 6)):
        found = align(CELLS, logits, boxes, labels)
        assert not found.scores.any() and not found.weights.any() and not found.boxes.any()


def test_the_two_terms_are_those_of_the_papers() -> None:
    (logits, boxes), labels = answers(6), objects(6)
    targets = align(CELLS, logits, boxes, labels)
    sums, shares, counts = pyramid_loss(logits, boxes, targets)
    classes = places = 0.0
    for logit, score in zip(logits.flatten().tolist(), targets.scores.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        classes += -(score * math.log(p) + (1 - score) * math.log(1 - p)) * (p - score) ** 2
    for box, goal, weight in zip(
        boxes.reshape(-1, 4).tolist(),
        targets.boxes.reshape(-1, 4).tolist(),
        targets.weights.flatten().tolist(),
        strict=True,
    ):
        if weight:
            places += weight * (1 - giou(box, goal))
    assert sums.tolist() == pytest.approx([classes, BOX_WEIGHT * places], rel=1e-4)
    share = sum(max(1.0, weight) for weight in targets.weights.sum(dim=1).tolist())
    assert shares.tolist() == pytest.approx([share, share])
    assert counts.tolist() == pytest.approx([*sums.tolist(), share])


def giou(a: list[float], b: list[float]) -> float:
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    overlap = iou(a, b)
    union = areas / (1 + overlap)
    return overlap - (around - union) / around


def test_giou_of_equal_touching_and_far_boxes() -> None:
    one = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    other = torch.tensor([[0.0, 0, 1, 1], [1, 0, 2, 1], [9, 0, 10, 1], [0, 0, 0, 0]])
    assert generalised_overlap(one, other).tolist() == pytest.approx([1, 0, -0.8, 0])


def test_the_parts_of_a_batch_add_up_to_the_whole() -> None:
    (logits, boxes), labels = answers(7), objects(7)
    whole = pyramid_loss(logits, boxes, align(CELLS, logits, boxes, labels))
    parts = []
    for rows in (slice(0, 1), slice(1, 3)):
        part = align(CELLS, logits[rows], boxes[rows], labels[rows])
        parts.append(pyramid_loss(logits[rows], boxes[rows], part))
    for number, total in enumerate(whole):
        torch.testing.assert_close(sum(part[number] for part in parts), total)


def test_everything_gets_a_finite_gradient() -> None:
    (logits, boxes), labels = answers(8), objects(8)
    sides = torch.zeros(3, PLACES, 4, requires_grad=True)
    logits.requires_grad_()
    sums, shares, _ = pyramid_loss(logits, boxes_around(CELLS, sides), align(CELLS, logits, boxes, labels))
    (sums / shares).sum().backward()
    assert logits.grad is not None and sides.grad is not None
    assert logits.grad.isfinite().all() and logits.grad.all()
    assert sides.grad.isfinite().all() and sides.grad[:2].any() and not sides.grad[2].any()


def test_an_empty_picture_costs_and_one_step_lowers_its_highest_score() -> None:
    logits, boxes = answers(9, 1)
    logits.requires_grad_()
    targets = align(CELLS, logits, boxes, torch.full((1, 1, 6), -1.0))
    sums, shares, _ = pyramid_loss(logits, boxes, targets)
    assert sums[0] > 0 and sums[1] == 0 and shares.tolist() == [1, 1]
    (gradient,) = torch.autograd.grad(sums[0] / shares[0], logits)
    assert (logits - gradient).max() < logits.max()


def test_weights_of_classes_count_in_sums_and_shares() -> None:
    scores = torch.zeros(1, PLACES, 2)
    scores[0, 3, 0], scores[0, 5, 1] = 0.8, 0.9
    goal = torch.tensor([0.1, 0.1, 0.4, 0.4]).expand(1, PLACES, 4)
    targets = Aligned(scores, goal, scores.sum(dim=2))
    logits, boxes = answers(10, 1)
    plain, _, _ = pyramid_loss(logits, boxes, targets)
    weighed, shares, _ = pyramid_loss(logits, boxes, targets, torch.tensor([1.0, 3.0]))
    assert shares.tolist() == pytest.approx([0.8 + 2.7] * 2)
    one = Aligned(scores[:, 5:6, 1:], goal[:, 5:6], targets.weights[:, 5:6])
    second, _, _ = pyramid_loss(logits[:, 5:6, 1:], boxes[:, 5:6], one)
    assert weighed[0].item() == pytest.approx((plain[0] + 2 * second[0]).item(), rel=1e-5)
    assert weighed[1].item() == pytest.approx((plain[1] + 2 * second[1]).item(), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_targets_are_the_same_on_a_card() -> None:
    (logits, boxes), labels = answers(11), objects(11)
    here = align(CELLS, logits, boxes, labels)
    there = align(*(each.cuda() for each in (CELLS, logits, boxes, labels)))
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other.cpu())
