"""Targets and losses equal MXNet's: MultiBoxTarget, SoftmaxOutput and MakeLoss as SSD uses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from foveal.models import matching
from foveal.models.boxcoding import decode, encode, overlap_matrix
from foveal.models.matching import Matching, Targets, match_anchors, ssd_loss

LOSSES = Path(__file__).parents[1] / "fixtures" / "optim" / "losses.npz"
DETECTORS = ("ssd_vgg300", "ssd_resnet300", "ssd_vgg512", "ssd_resnet512")


def rule_of(attributes: dict[str, Any]) -> Matching:
    """The operator's attributes with its own defaults."""
    return Matching(
        overlap=attributes.get("overlap_threshold", 0.5),
        negatives=attributes.get("negative_mining_ratio", -1),
        background_below=attributes.get("negative_mining_thresh", 0.5),
        variances=attributes.get("variances", (0.1, 0.1, 0.2, 0.2)),
    )


def answer(case: Any) -> Targets:
    anchors, labels, logits = (torch.from_numpy(case.arrays[f"in:{name}"]) for name in ("anchor", "label", "cls_pred"))
    return match_anchors(anchors[0], labels, logits.transpose(1, 2), rule_of(case.attributes))


def assert_equal(targets: Targets, offsets: NDArray[Any], mask: NDArray[Any], classes: NDArray[Any]) -> None:
    assert targets.classes.numpy().tolist() == classes.tolist()
    assert (targets.mask[..., None].expand(-1, -1, 4).numpy() == mask.reshape(*classes.shape, 4)).all()
    np.testing.assert_allclose(targets.offsets.numpy(), offsets.reshape(*classes.shape, 4), rtol=1e-6, atol=1e-6)


def assert_equal_to(case: Any, targets: Targets) -> None:
    ignored = case.attributes.get("ignore_label", -1)
    classes = np.where(case.arrays["out:2"] == ignored, -1, case.arrays["out:2"])
    assert_equal(targets, case.arrays["out:0"], case.arrays["out:1"], classes)


def test_targets_equal_the_operators(multibox_target_case: Any) -> None:
    if "out:0" in multibox_target_case.arrays:
        assert_equal_to(multibox_target_case, answer(multibox_target_case))
    else:  # MXNet stops: 2 candidates where 3 negatives are wanted; we take the 2
        assert answer(multibox_target_case).classes.tolist() == [[2, 2, 1, -1, 0, 0], [-1, -1, 0, 3, -1, 0]]


def test_targets_equal_the_operators_in_every_case_there_is(
    shared: Path, multibox_cases: Callable[[Path], list[Any]]
) -> None:
    for case in multibox_cases(shared / "fixtures/mxnet/ops/multibox_target.zip"):
        if "out:0" in case.arrays:
            assert_equal_to(case, answer(case))


@pytest.mark.parametrize("name", DETECTORS)
def test_targets_equal_those_of_whole_detectors(shared: Path, name: str) -> None:
    with np.load(shared / f"fixtures/mxnet/detection/{name}.npz") as arrays:
        anchors, labels = torch.from_numpy(arrays["anchors"][0]), torch.from_numpy(arrays["label"])
        logits = torch.from_numpy(arrays["train:cls_prob"]).log().transpose(1, 2)
        targets = match_anchors(anchors, labels, logits)
        assert_equal(targets, arrays["target:loc"], arrays["target:mask"], arrays["train:cls_label"])
        offsets = torch.from_numpy(arrays["loc_pred"]).reshape(targets.offsets.shape)
        sums, shares, _ = ssd_loss(logits, offsets, targets)
        assert sums[1].item() == pytest.approx(arrays["train:loc_loss"].sum(), rel=1e-5)
        assert shares.tolist() == [(arrays["train:cls_label"] >= 0).sum(), (arrays["train:loc_loss"] > 0).sum()]


def test_takes_the_negatives_there_are_where_mxnet_stops() -> None:
    anchors = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.45], [0, 0, 0.45, 0.5], [0.6, 0.6, 1, 1]])
    labels = torch.tensor([[[0, 0, 0, 0.5, 0.5]]])
    targets = match_anchors(anchors, labels, torch.zeros(1, 4, 2))
    assert targets.classes.tolist() == [[1, 1, 1, 0]]  # one candidate for 9 wanted; no more than 4 - 3 in any case
    targets = match_anchors(anchors, labels, torch.zeros(1, 4, 2), Matching(overlap=0.95))
    assert targets.classes.tolist() == [[1, -1, -1, 0]]  # 3 wanted, one below an overlap of 0.5


def test_worked_example_of_the_reference() -> None:
    rows = [[0, 0, 0.5, 0.5], [0, 0, 0.25, 0.5], [0.5, 0.5, 1, 1], [0.6, 0.6, 0.7, 0.7], [0, 0.6, 0.2, 0.8]]
    anchors = torch.tensor([*rows, [0.8, 0, 1, 0.2]])
    logits = torch.zeros(1, 6, 3)
    logits[0, :, 0] = torch.tensor([0, 0, 0.1, 5, -2, 3])
    targets = match_anchors(anchors, torch.tensor([[[1, 0, 0, 0.5, 0.5]]]), logits)
    assert targets.classes.tolist() == [[2, -1, 0, -1, 0, 0]]  # an overlap of exactly 0.5 is neither
    assert not targets.offsets.any()
    hidden = torch.tensor([[[-1, -1, -1, -1, -1], [1, 0, 0, 0.5, 0.5]]])
    assert (match_anchors(anchors, hidden, logits).classes == -1).all()


def test_offsets_lead_there_and_back() -> None:
    anchor, box = torch.tensor([0, 0, 0.5, 0.5]), torch.tensor([0.05, 0, 0.5, 0.5])
    np.testing.assert_allclose(encode(anchor, box), [0.5, 0, -0.526803, 0], atol=1e-6)
    np.testing.assert_allclose(decode(anchor, encode(anchor, box)), box, atol=1e-7)


def grid_boxes(count: int) -> st.SearchStrategy[list[tuple[float, ...]]]:
    """Boxes on a coarse grid, so that equal overlaps are the rule."""
    corner, side = st.integers(0, 5), st.integers(1, 3)
    box = st.tuples(corner, corner, side, side).map(
        lambda b: (b[0] / 8, b[1] / 8, (b[0] + b[2]) / 8, (b[1] + b[3]) / 8)
    )
    return st.lists(box, min_size=1, max_size=count)


def one_by_one(overlaps: NDArray[np.float32]) -> list[int]:
    """The object of each anchor by the rule itself: the greatest overlap, first anchor, first object; again."""
    taken = [-1] * overlaps.shape[1]
    left = set(range(len(overlaps)))
    while left:
        pairs = [(-overlaps[k, a], a, k) for k in left for a, owner in enumerate(taken) if owner < 0]
        least, anchor, thing = min(pairs, default=(0.0, 0, 0))
        if -least <= matching.LEAST_OVERLAP:
            break
        taken[anchor] = thing
        left.remove(thing)
    return taken


@settings(max_examples=60, deadline=None)
@given(st.lists(grid_boxes(6), min_size=1, max_size=3), grid_boxes(12))
def test_rounds_of_pairs_equal_taking_them_one_by_one(pictures: list[Any], anchors: list[Any]) -> None:
    most = max(map(len, pictures))
    table = torch.full((len(pictures), most, len(anchors)), -1.0)
    for row, objects in enumerate(pictures):
        table[row, : len(objects)] = overlap_matrix(torch.tensor(objects), torch.tensor(anchors))
    expected = [one_by_one(each.numpy()) for each in table]
    assert matching._pairs(table.clone()).tolist() == expected


def test_pictures_matched_together_equal_pictures_matched_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    anchors, labels, logits = a_batch()
    alone = match_anchors(anchors, labels, logits, negatives_per_empty_picture=3)
    monkeypatch.setattr(matching, "_parts", lambda real, anchors: [(slice(0, 2), 7), (slice(2, 5), 7)])  # as on a GPU
    together = match_anchors(anchors, labels, logits, negatives_per_empty_picture=3)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def a_batch(pictures: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """500 anchors, up to 7 objects a picture; the second and the last picture have none."""
    generator = torch.Generator().manual_seed(3)
    centre, side = torch.rand(500, 2, generator=generator), torch.rand(500, 2, generator=generator) * 0.4 + 0.05
    boxes = torch.cat([centre - side / 2, centre + side / 2], dim=1)
    labels = torch.full((pictures, 7, 6), -1.0)
    for row, count in enumerate((7, 0, 3, 1, 0)[:pictures]):
        chosen = torch.randint(500, (count,), generator=generator)
        labels[row, :count, 0] = torch.randint(3, (count,), generator=generator).float()
        labels[row, :count, 1:5] = boxes[chosen] + 0.01
        labels[row, :count, 5] = 1  # difficult
    return boxes, labels, torch.randn(pictures, 500, 4, generator=generator) * 3


def test_pictures_without_objects_teach_nothing_as_in_the_original() -> None:
    anchors, labels, logits = a_batch()
    targets = match_anchors(anchors, labels, logits)
    assert (targets.classes[[1, 4]] == -1).all()
    assert not targets.mask[[1, 4]].any()


def test_pictures_without_objects_teach_their_hardest_anchors_when_asked() -> None:
    anchors, labels, logits = a_batch()
    without, asked = (match_anchors(anchors, labels, logits, negatives_per_empty_picture=n) for n in (0, 32))
    hardest = logits[1].softmax(dim=1)[:, 0].argsort(stable=True)[:32]
    assert asked.classes[1].nonzero().numel() == 500 - 32  # the rest is ignored
    assert (asked.classes[1, hardest] == 0).all()
    rows = [0, 2, 3]
    assert torch.equal(asked.classes[rows], without.classes[rows])
    assert torch.equal(asked.mask, without.mask) and torch.equal(asked.offsets, without.offsets)


def test_hardest_anchors_of_equal_probability_are_the_first() -> None:
    anchors, labels, logits = a_batch()
    targets = match_anchors(anchors, labels[1:2], torch.zeros_like(logits[1:2]), negatives_per_empty_picture=4)
    assert targets.classes[0].tolist() == [0] * 4 + [-1] * 496


def test_more_negatives_than_anchors_are_all_anchors() -> None:
    anchors, labels, logits = a_batch()
    assert not match_anchors(anchors, labels[1:2], logits[1:2], negatives_per_empty_picture=501).classes.any()


def test_labels_may_have_no_row_at_all() -> None:
    anchors, _, logits = a_batch()
    targets = match_anchors(anchors, torch.zeros(5, 0, 6), logits, negatives_per_empty_picture=2)
    assert (targets.classes == 0).sum(dim=1).tolist() == [2] * 5
    assert match_anchors(anchors, torch.zeros(5, 0, 6), logits).offsets.shape == (5, 500, 4)


def test_a_box_without_area_is_learned_by_no_anchor() -> None:
    targets = match_anchors(
        torch.tensor([[0, 0, 1.0, 1.0]]), torch.tensor([[[0, 0.5, 0.5, 0.5, 0.9]]]), torch.zeros(1, 1, 2)
    )
    assert not targets.mask.any() and torch.isfinite(targets.offsets).all()


def test_difficult_objects_are_learned_like_others() -> None:
    anchors, labels, logits = a_batch()
    easy = torch.cat([labels[..., :5], labels[..., 5:].clamp(max=0)], dim=2)
    hard, soft = match_anchors(anchors, labels, logits), match_anchors(anchors, easy, logits)
    assert all(torch.equal(one, other) for one, other in zip(hard, soft, strict=True))


def test_cross_entropy_has_the_gradient_of_softmax_output_with_valid_normalisation() -> None:
    case = {name: losses()[f"softmax_multi_valid__{name}"] for name in ("data", "label", "grad", "output")}
    logits = case["data"].transpose(1, 2).clone().requires_grad_()
    targets = Targets(case["label"].long(), torch.zeros(2, 7, 4), torch.zeros(2, 7, dtype=torch.bool))
    sums, shares, counts = ssd_loss(logits, torch.zeros(2, 7, 4), targets)
    (gradient,) = torch.autograd.grad((sums / shares.clamp(min=1)).sum(), logits)
    np.testing.assert_allclose(gradient.transpose(1, 2), case["grad"], rtol=1e-5, atol=1e-7)
    true = case["output"].gather(1, case["label"].long().clamp(min=0)[:, None])[:, 0][case["label"] >= 0]
    np.testing.assert_allclose(counts, [-(true + 1e-8).log().sum(), 0, len(true)], rtol=1e-6)


def test_smooth_l1_has_the_gradient_of_make_loss_with_valid_normalisation() -> None:
    case = {
        name: losses()[f"ssd_location_loss_1__{name}"].reshape(2, 5, 4) for name in ("data", "target", "mask", "grad")
    }
    offsets = case["data"].clone().requires_grad_()
    targets = Targets(torch.full((2, 5), -1), case["target"], case["mask"][..., 0].bool())
    sums, shares, counts = ssd_loss(torch.zeros(2, 5, 3), offsets, targets)
    (gradient,) = torch.autograd.grad((sums / shares.clamp(min=1)).sum(), offsets)
    np.testing.assert_allclose(gradient, case["grad"], rtol=1e-5, atol=1e-7)
    assert counts.tolist() == [0, sums[1].item(), 0]


def losses() -> dict[str, Tensor]:
    with np.load(LOSSES) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def test_differences_of_zero_are_not_counted() -> None:
    offsets = torch.tensor([[[0, 0.5, -2, 0], [9, 9, 9, 9]]])
    targets = Targets(torch.tensor([[1, -1]]), torch.zeros(1, 2, 4), torch.tensor([[True, False]]))
    sums, shares, _ = ssd_loss(torch.zeros(1, 2, 2), offsets, targets)
    assert sums[1].item() == 0.125 + 1.5
    assert shares.tolist() == [1, 2]


def test_ignored_anchors_cost_nothing_and_get_no_gradient() -> None:
    anchors, labels, logits = a_batch()
    offsets = torch.randn(5, 500, 4, requires_grad=True)
    logits.requires_grad_()
    targets = match_anchors(anchors, labels, logits)
    sums, _, _ = ssd_loss(logits, offsets, targets)
    sums.sum().backward()
    assert logits.grad is not None and offsets.grad is not None
    assert not logits.grad[targets.classes < 0].any() and logits.grad[targets.classes >= 0].any()
    assert not offsets.grad[~targets.mask].any() and offsets.grad[targets.mask].any()


def test_a_batch_that_teaches_nothing_has_a_loss_and_gradients_of_zero() -> None:
    anchors, labels, logits = a_batch()
    logits.requires_grad_()
    sums, shares, counts = ssd_loss(logits, torch.zeros(5, 500, 4), match_anchors(anchors, labels * 0 - 1, logits))
    (gradient,) = torch.autograd.grad((sums / shares.clamp(min=1)).sum(), logits)
    assert sums.tolist() == shares.tolist() == [0, 0] and counts.tolist() == [0, 0, 0] and not gradient.any()


def test_an_empty_picture_costs_and_one_step_lowers_its_highest_score() -> None:
    anchors, labels, logits = a_batch()
    empty = logits[1:2].clone().requires_grad_()
    targets = match_anchors(anchors, labels[1:2], empty, negatives_per_empty_picture=32)
    sums, shares, _ = ssd_loss(empty, torch.zeros(1, 500, 4), targets)
    assert sums[0] > 0 and shares.tolist() == [32, 0]
    (gradient,) = torch.autograd.grad(sums[0] / shares[0], empty)
    before, after = (each.softmax(dim=2)[..., 1:].amax() for each in (empty, empty - gradient))
    assert after < before


def test_weights_of_classes_count_in_sums_and_shares_and_not_in_figures() -> None:
    anchors, labels, logits = a_batch()
    offsets = torch.randn(5, 500, 4, generator=torch.Generator().manual_seed(1))
    targets = match_anchors(anchors, labels, logits)
    weights = torch.tensor([0.5, 3.0, 1.0])[: logits.shape[2] - 1]
    plain, _, figures = ssd_loss(logits, offsets, targets)
    sums, shares, counts = ssd_loss(logits, offsets, targets, weights)
    one = torch.stack([ssd_loss(logits, offsets, only(targets, kind))[0] for kind in range(logits.shape[2])])
    each = torch.stack([ssd_loss(logits, offsets, only(targets, kind))[1] for kind in range(logits.shape[2])])
    factors = torch.cat([torch.ones(1), weights])[:, None]
    torch.testing.assert_close(sums, (one * factors).sum(dim=0))
    torch.testing.assert_close(shares, (each * factors).sum(dim=0))
    torch.testing.assert_close(plain, one.sum(dim=0))
    assert torch.equal(figures, counts)


def only(targets: Targets, kind: int) -> Targets:
    """The targets of which only those of one class count; 0 is background."""
    kept = targets.classes == kind
    return Targets(torch.where(kept, targets.classes, -1), targets.offsets, targets.mask & kept)


def test_losses_are_float32_under_autocast() -> None:
    anchors, labels, logits = a_batch()
    offsets = torch.randn(5, 500, 4)
    plain = ssd_loss(logits, offsets, match_anchors(anchors, labels, logits))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = ssd_loss(logits, offsets, match_anchors(anchors, labels, logits))
        low = ssd_loss(logits.bfloat16(), offsets.bfloat16(), match_anchors(anchors, labels, logits))
    for one, other, rough in zip(plain, mixed, low, strict=True):
        assert other.dtype == rough.dtype == torch.float32
        assert torch.equal(one, other)
        assert torch.allclose(one, rough, rtol=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_targets_are_the_same_on_a_card() -> None:
    anchors, labels, logits = a_batch()
    here = match_anchors(anchors, labels, logits, negatives_per_empty_picture=32)
    there = match_anchors(anchors.cuda(), labels.cuda(), logits.cuda(), negatives_per_empty_picture=32)
    assert torch.equal(here.classes, there.classes.cpu()) and torch.equal(here.mask, there.mask.cpu())
