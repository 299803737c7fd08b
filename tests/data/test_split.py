"""Setting pictures aside for validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.data.split import share_out, split_labels, split_rows, split_sets, stratified_split
from foveal.errors import UserError
from foveal.formats.boxfiles import Annotation, BoxFileSource, Gathered, Object


def test_the_choice_is_the_same_on_every_machine():
    indices = np.arange(40) % 4
    assert stratified_split(indices, 0.2, 0)[1].tolist() == CHOSEN[0]
    assert stratified_split(indices, 0.2, 1)[1].tolist() == CHOSEN[1]


def test_classes_keep_their_proportions():
    indices = np.repeat([0, 1, 2], [100, 40, 20])
    train, validation = stratified_split(indices, 0.15, 0)
    assert np.bincount(indices[validation]).tolist() == [15, 6, 3]
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(160))


def test_remainders_are_shared_so_that_the_total_is_right():
    indices = np.repeat(np.arange(40), 7)  # the faces: 7 pictures of each of 40 people, 42 to set aside
    validation = stratified_split(indices, 0.15, 0)[1]
    assert len(validation) == 42
    assert set(np.bincount(indices[validation], minlength=40)) == {1, 2}


def test_a_class_of_one_picture_is_kept_for_training():
    train, validation = stratified_split(np.array([0, 0, 0, 0, 1]), 0.5, 0)
    assert 4 in train
    assert len(validation) == 2


def test_groups_stay_together():
    indices = np.repeat(np.arange(3), 60)
    groups = [f"patient {row // 4}" for row in range(180)]
    train, validation = stratified_split(indices, 0.2, 3, groups)
    assert not {groups[row] for row in train} & {groups[row] for row in validation}
    assert np.bincount(indices[validation]).tolist() == [12, 12, 12]


def test_rows_without_a_group_are_groups_of_their_own():
    validation = stratified_split(np.zeros(20, np.int64), 0.25, 0, [""] * 20)[1]
    assert len(validation) == 5


def test_what_can_not_be_split_is_told():
    with pytest.raises(UserError, match="each class has one picture only"):
        stratified_split(np.arange(5), 0.2, 0)
    with pytest.raises(UserError, match="a class would lose all its training pictures"):
        stratified_split(np.array([0, 0, 1, 1]), 0.5, 0, ["a", "a", "b", "b"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "a", "b", "c"])), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_every_class_keeps_a_training_picture(rows, fraction, seed, grouped):
    indices = np.array([label for label, _ in rows])
    try:
        train, validation = stratified_split(indices, fraction, seed, [g for _, g in rows] if grouped else None)
    except UserError:
        return
    assert set(indices[train]) == set(indices)
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(len(rows)))
    if not grouped:
        free = sum(int(n) - 1 for n in np.unique(indices, return_counts=True)[1])
        assert len(validation) == min(max(1, round(len(rows) * fraction)), free)


def boxes(pictures, groups=None):
    """A source with the given classes in each picture."""
    gathered = Gathered()
    for kinds in pictures:
        gathered.add(Annotation(tuple(Object(kind, 0, 0, 9, 9) for kind in kinds)))
    names = [str(row) for row in range(len(pictures))]
    source = BoxFileSource("voc", "", Path(), names, names, gathered.table({kind: kind for kind in range(9)}, "pixel"))
    source.groups = groups
    return source


def test_pictures_with_boxes_go_by_their_rarest_class_and_empty_ones_apart():
    pictures = [[0] * 5] * 60 + [[0, 0, 1]] * 20 + [[0, 2]] * 10 + [[]] * 10
    train, validation = split_rows(boxes(pictures), 0.2, 0)
    assert [int(((validation >= low) & (validation < high)).sum()) for low, high in BANDS] == [12, 4, 2, 2]
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(100))
    assert split_rows(boxes(pictures), 0.2, 0)[1].tolist() == validation.tolist()
    assert split_rows(boxes(pictures), 0.2, 1)[1].tolist() != validation.tolist()


def test_groups_of_pictures_with_boxes_stay_together():
    groups = tuple(f"board {row // 5}" for row in range(100))
    train, validation = split_rows(boxes([[row % 3] for row in range(100)], groups), 0.2, 0)
    assert not {groups[row] for row in train} & {groups[row] for row in validation}
    assert 15 <= len(validation) <= 25


def test_boxes_without_area_do_not_count():
    gathered = Gathered()
    for row in range(20):
        gathered.add(Annotation((Object(0, 0, 0, 9, 9), Object(row, 5, 5, 5, 9))))
    names = [str(row) for row in range(20)]
    source = BoxFileSource("voc", "", Path(), names, names, gathered.table({row: row for row in range(20)}, "pixel"))
    assert len(split_rows(source, 0.25, 0)[1]) == 5


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(["", "a", "b"])), min_size=1, max_size=40
    ),
    st.floats(0.01, 0.99),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_every_class_keeps_a_training_picture_with_boxes(pictures, fraction, seed, grouped):
    kinds = [kinds for kinds, _ in pictures]
    groups = tuple(group for _, group in pictures) if grouped else None
    try:
        train, validation = split_rows(boxes(kinds, groups), fraction, seed)
    except UserError as error:
        assert "set aside" in error.what
        return
    assert len(validation)
    assert {kind for row in train for kind in kinds[row]} == {kind for each in kinds for kind in each}
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(len(kinds)))
    if grouped:
        named = [{groups[row] for row in rows if groups[row]} for rows in (train, validation)]
        assert not named[0] & named[1]


BANDS = [(0, 60), (60, 80), (80, 90), (90, 100)]
CHOSEN = {0: [2, 4, 6, 27, 31, 32, 33, 37], 1: [4, 5, 7, 10, 15, 17, 22, 36]}


def several(seed, pictures=400, classes=6):
    """Classes of pictures with several each, the rarest in about 3 % of them."""
    rng = np.random.default_rng(seed)
    odds = np.linspace(0.03, 0.5, classes)
    return [np.flatnonzero(rng.random(classes) < odds).tolist() for _ in range(pictures)]


def shares(labels, rows, classes=6):
    """Of each class the share that was chosen, and how many pictures have it."""
    counts = np.bincount([each for held in labels for each in held], minlength=classes)
    return np.bincount([each for row in rows for each in labels[row]], minlength=classes) / counts, counts


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_pictures_with_several_classes_are_shared_out_by_all_of_them(fraction):
    labels = several(1)
    rows = share_out(labels, fraction, 0)
    assert len(rows) == round(400 * fraction)
    found, counts = shares(labels, rows)
    assert (np.abs(found - fraction) < np.maximum(0.03, 1 / counts)).all()


def test_sharing_out_is_seeded_and_keeps_groups_together():
    labels = several(2)
    groups = [f"patient {row // 5}" for row in range(400)]
    rows = share_out(labels, 0.25, 7, groups)
    assert rows.tolist() == share_out(labels, 0.25, 7, groups).tolist() != share_out(labels, 0.25, 8, groups).tolist()
    assert not {groups[row] for row in rows} & {groups[row] for row in set(range(400)) - set(rows.tolist())}
    found, counts = shares(labels, rows)
    assert (np.abs(found - 0.25) < np.maximum(0.03, 1 / counts)).all()


@given(st.lists(st.lists(st.integers(0, 4), unique=True, max_size=5), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_any_labels_are_shared_out_to_the_very_number(labels, fraction):
    rows = share_out(labels, fraction, 0).tolist()
    assert len(set(rows)) == len(rows) == round(len(labels) * fraction)
    assert rows == sorted(rows)


SETS = np.array(
    [[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]] * 4, np.float32
)


def test_pictures_with_any_number_of_classes_keep_the_share_of_each() -> None:
    train, validation = split_sets(SETS, 0.25, 0)
    assert np.sort(np.concatenate([train, validation])).tolist() == list(range(32))
    assert SETS[validation].sum(axis=0).tolist() == [4, 4, 5]  # of 16 each
    assert split_sets(SETS, 0.25, 0)[1].tolist() == validation.tolist()
    assert split_sets(SETS, 0.25, 1)[1].tolist() != validation.tolist()


def test_the_last_training_picture_of_a_class_is_not_set_aside() -> None:
    rare = np.zeros((20, 2), np.float32)
    rare[:, 0] = 1
    rare[7, 1] = 1
    for seed in range(10):
        train, validation = split_sets(rare, 0.3, seed)
        assert 7 in train and len(validation) > 0


def test_where_every_picture_is_the_last_of_a_class_none_can_be_set_aside() -> None:
    with pytest.raises(
        UserError,
        match=r"^no pictures can be set aside for validation: a class would lose all of them\n"
        r"Give validation data, or more pictures of each class\.$",
    ):
        split_sets(np.eye(4, dtype=np.float32), 0.5, 0)


def test_labels_of_one_or_several_classes_are_split_alike() -> None:
    one, several = split_labels(np.array([0, 0, 1, 1, 1, 0]), 0.3, 0), split_labels(SETS, 0.25, 0)
    assert one[1].tolist() == stratified_split(np.array([0, 0, 1, 1, 1, 0]), 0.3, 0)[1].tolist()
    assert several[1].tolist() == split_sets(SETS, 0.25, 0)[1].tolist()
