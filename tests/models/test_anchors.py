"""Anchors equal MXNet's to the last bit: of single maps, and of whole detectors at every size there are values for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foveal.models.anchors import OURS, SIX, VGG_LARGE, VGG_SMALL, AnchorLayout, anchors_for, multibox_prior

COUNTS = json.loads((Path(__file__).parents[1] / "fixtures" / "models" / "anchor_counts.json").read_text())
LAYOUTS = {("vgg16_reduced", 6): VGG_SMALL, ("vgg16_reduced", 7): VGG_LARGE, ("resnet50", 6): SIX}


def named(entry: dict[str, Any]) -> str:
    return f"{entry['network']}_{entry['size']}"


def anchors_of(entry: dict[str, Any]) -> NDArray[np.float32]:
    maps = [(each["height"], each["width"]) for each in entry["maps"]]
    return anchors_for(LAYOUTS[entry["network"], len(maps)], maps, entry["size"])


def test_two_sizes_and_three_ratios_in_one_cell_by_hand() -> None:
    boxes = multibox_prior((1, 1), (0.5, 0.75), (1, 4, 0.25))
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [
        [0.25, 0.25, 0.75, 0.75],  # the first size, square
        [0.125, 0.125, 0.875, 0.875],  # the second one
        [0.0, 0.375, 1.0, 0.625],  # the first size, four times as wide as high
        [0.375, 0.0, 0.625, 1.0],
    ]


def test_cells_go_by_row_then_column_and_a_wide_maps_boxes_are_square_on_a_square_picture() -> None:
    boxes = multibox_prior((2, 4), (0.5,))
    centres = [[0.125, 0.25], [0.375, 0.25], [0.625, 0.25], [0.875, 0.25]]
    centres += [[x, 0.75] for x, _ in centres]
    assert ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist() == centres
    assert (boxes[:, 2:] - boxes[:, :2]).tolist() == [[0.25, 0.5]] * 8  # width times height / width of the map


def test_steps_and_offsets_are_y_before_x() -> None:
    boxes = multibox_prior((1, 2), (0.5,), step=(0.25, 0.5), offset=(1, 0.5))
    assert ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist() == [[0.25, 0.25], [0.75, 0.25]]


def test_boxes_reach_outside_of_the_picture_unless_they_are_clipped() -> None:
    assert multibox_prior((1, 1), (1.5,)).tolist() == [[-0.25, -0.25, 1.25, 1.25]]
    assert multibox_prior((1, 1), (1.5,), clip=True).tolist() == [[0, 0, 1, 1]]


def assert_equal_to(case: Any) -> None:
    given = case.attributes
    step = given.get("steps")
    boxes = multibox_prior(
        case.arrays["in:data"].shape[2:],
        given.get("sizes", (1.0,)),
        given.get("ratios", (1.0,)),
        step if step and step[0] > 0 else None,  # the operator's own word for none is -1
        given.get("offsets", (0.5, 0.5)),
        given.get("clip", False),
    )
    np.testing.assert_array_equal(boxes[None], case.arrays["out:0"], strict=True)


def test_boxes_equal_the_operators(multibox_prior_case: Any) -> None:
    assert_equal_to(multibox_prior_case)


def test_boxes_equal_the_operators_in_every_case_there_is(
    shared: Path, multibox_cases: Callable[[Path], list[Any]]
) -> None:
    cases = multibox_cases(shared / "fixtures/mxnet/ops/multibox_prior.zip")
    assert len(cases) == 18
    for case in cases:
        assert_equal_to(case)


@pytest.mark.parametrize("entry", COUNTS, ids=named)
def test_each_map_has_as_many_anchors_as_mxnets(entry: dict[str, Any]) -> None:
    per_cell = LAYOUTS[entry["network"], len(entry["maps"])].per_cell
    assert per_cell == tuple(each["per_cell"] for each in entry["maps"])
    assert anchors_of(entry).shape == (entry["total"], 4)


def test_anchors_of_whole_detectors_equal_mxnets(shared: Path) -> None:
    entries = {named(entry): entry for entry in COUNTS}
    with np.load(shared / "fixtures/mxnet/detection/anchors.npz") as arrays:
        assert len(arrays) == 5
        for name, theirs in arrays.items():
            np.testing.assert_array_equal(anchors_of(entries[name])[None], theirs, strict=True)


def test_vggs_steps_hold_for_300_and_512_only() -> None:
    """At 300 the third map has 10 cells of 32 pixels, which is more than the picture; at 301 they divide it evenly."""
    maps = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
    start = 38 * 38 * 4 + 19 * 19 * 6
    for side, step in ((300, 32 / 300), (301, 1 / 10)):
        x0, _, x1, _ = anchors_for(VGG_SMALL, maps, side)[start]
        assert (x0 + x1) / 2 == pytest.approx(step / 2, rel=1e-6)
    last = anchors_for(VGG_LARGE, [*maps, (2, 2)], 512)[-16:].reshape(4, 4, 4)[:, 0]
    centres = (last[:, :2] + last[:, 2:]) / 2
    np.testing.assert_allclose(centres, [[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [1.5, 1.5]], rtol=1e-6)


def test_the_layouts_have_the_references_numbers() -> None:
    assert SIX.per_cell == VGG_SMALL.per_cell == OURS.per_cell == (4, 6, 6, 6, 4, 4)
    assert VGG_LARGE.per_cell == (4, 6, 6, 6, 6, 4, 4)
    assert SIX.sizes == ((0.1, 0.141), (0.2, 0.272), (0.37, 0.447), (0.54, 0.619), (0.71, 0.79), (0.88, 0.961))
    assert [first for first, _ in VGG_LARGE.sizes] == [0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]


@pytest.mark.parametrize("layout", [SIX, OURS, VGG_LARGE], ids=["six", "ours", "vgg_large"])
def test_second_sizes_lie_between_the_first_one_and_the_next(layout: AnchorLayout) -> None:
    for (first, second), (following, _) in zip(layout.sizes, (*layout.sizes[1:], (1.0, 0)), strict=True):
        assert first < second < following


def test_ours_starts_with_smaller_anchors_than_the_originals() -> None:
    maps = [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]
    ours, theirs = anchors_for(OURS, maps, 32), anchors_for(SIX, maps, 32)
    assert ours.shape == theirs.shape == (16 * 4 + 4 * 6 + 6 + 6 + 4 + 4, 4)
    np.testing.assert_allclose(ours[0], [0.095, 0.095, 0.155, 0.155], rtol=1e-6)
    np.testing.assert_allclose(theirs[0], [0.075, 0.075, 0.175, 0.175], rtol=1e-6)


def test_a_map_too_many_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="argument"):
        anchors_for(SIX, [(1, 1)] * 7, 300)
