"""Setting pictures aside for validation: seeded, by class, and whole groups together.

Pictures with boxes go by the rarest class in each, those with several labels by all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.formats.boxfiles import object_table
from foveal.records import BoxSource

Rows = NDArray[np.int64]


def stratified_split(
    indices: Rows, fraction: float, seed: int, groups: Sequence[str] | None = None
) -> tuple[Rows, Rows]:
    """Split rows into training and validation, each class in about the same proportion.

    The choice depends only on the arguments: not on platform, NumPy's version or the order of names.

    Args:
        indices: int64 [n], class of each row.
        fraction: share to set aside, 0 < fraction < 1.
        seed: another seed, another choice.
        groups: a name for each row (patient, part, video); rows of one group stay together. An empty name is a group
            of its own.

    Returns:
        Training rows and validation rows, int64, each ascending. Every class that occurs keeps at least one training
        picture.

    Raises:
        UserError: when nothing can be set aside under these rules.
    """
    assert 0 < fraction < 1
    classes, compact = np.unique(indices, return_inverse=True)
    counts = np.bincount(compact, minlength=len(classes))
    wanted = _apportion(counts, fraction)
    keys = _mix(np.arange(len(indices), dtype=np.uint64), seed)
    if groups is None:
        aside = _by_class(compact, counts, wanted, keys)
    else:
        aside = _by_group(compact, counts, wanted, keys, groups)
    if not aside.any():
        why = "each class has one picture only" if groups is None else "a class would lose all its training pictures"
        raise UserError(
            f"no pictures can be set aside for validation: {why}",
            remedy="Give validation data, or more pictures" + ("." if groups is None else " in more groups."),
        )
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def split_labels(
    labels: NDArray[Any], fraction: float, seed: int, groups: Sequence[str] | None = None
) -> tuple[Rows, Rows]:
    """``stratified_split`` of labels int64 [n], one a picture; ``split_sets`` of rows float32 [n, C]."""
    split = stratified_split if labels.ndim == 1 else split_sets
    return split(labels, fraction, seed, groups)


def split_sets(
    sets: NDArray[np.float32], fraction: float, seed: int, groups: Sequence[str] | None = None
) -> tuple[Rows, Rows]:
    """Split pictures with any number of classes into training and validation, by all classes of each (``share_out``).

    Args:
        sets: float32 [n, C], 1 for the classes that a picture has, else 0.
        fraction, seed, groups: as in ``stratified_split``.

    Returns:
        Training rows and validation rows, int64, each ascending. Every class keeps at least one training picture.

    Raises:
        UserError: when nothing can be set aside under these rules.
    """
    rows, classes = (each.astype(np.int64) for each in np.nonzero(sets))
    aside = share_out([np.flatnonzero(row).tolist() for row in sets], fraction, seed, groups)
    aside = np.setdiff1d(aside, _to_give_back(rows, classes, aside, groups))
    kept = np.setdiff1d(np.arange(len(sets)), aside)
    if not len(aside) or not len(kept):
        remedy = "Give validation data, or more pictures of each class."
        raise UserError("no pictures can be set aside for validation: a class would lose all of them", remedy=remedy)
    return kept, aside


def split_rows(source: BoxSource, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split the pictures of a source of boxes into training and validation.

    Pictures are grouped by the class among their objects that is rarest in the whole source, those without objects
    apart, and split by ``stratified_split``. The choice depends only on boxes, groups and arguments, so evaluation
    finds the pictures again that training set aside.

    Args:
        fraction, seed: as in ``stratified_split``.

    Returns:
        Training rows and validation rows, int64, each ascending. Every class keeps at least one training picture.

    Raises:
        UserError: when nothing can be set aside under these rules.
    """
    table = object_table(source)
    sound = table.sound()
    return split_objects(table.rows()[sound], table.ids[sound], len(source), fraction, seed, source.groups)


def split_objects(
    rows: Rows,
    kinds: NDArray[Any],
    pictures: int,
    fraction: float,
    seed: int,
    groups: Sequence[str] | None = None,
) -> tuple[Rows, Rows]:
    """``split_rows`` for objects: of each the picture it is in (int64 [m]) and its class (any numbers [m])."""
    classes = np.unique(kinds, return_inverse=True)[1].astype(np.int64)
    kept, aside = stratified_split(_strata(rows, classes, pictures), fraction, seed, groups)
    back = _to_give_back(rows, classes, aside, groups)
    if len(back) == len(aside):
        remedy = "Give validation data, or more pictures of each class."
        raise UserError("no pictures can be set aside for validation: a class would lose all of them", remedy=remedy)
    return np.sort(np.concatenate([kept, back])), np.setdiff1d(aside, back)


def share_out(labels: Sequence[Sequence[int]], fraction: float, seed: int, groups: Sequence[str] | None = None) -> Rows:
    """Choose pictures that have any number of classes, each class in about the same proportion.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011): the class that is left in the fewest pictures is
    shared out first, each of its pictures going where most of that class is still wanted.

    Args:
        labels: the classes of each picture, none twice.
        fraction: share to choose, 0 < fraction < 1; without groups exactly round(n * fraction) pictures.
        seed, groups: as in ``stratified_split``.

    Returns:
        The rows chosen, int64, ascending; may be none, or all.
    """
    keys = _mix(np.arange(len(labels), dtype=np.uint64), seed)
    units = _units(len(labels), groups, keys)
    held = [
        np.unique(np.array([each for row in rows for each in labels[row]], dtype=np.int64), return_counts=True)
        for rows in units
    ]
    total = 1 + max((int(kinds[-1]) for kinds, _ in held if len(kinds)), default=-1)
    counts = np.zeros(total, dtype=np.int64)
    members: list[list[int]] = [[] for _ in range(total)]
    for unit, (kinds, many) in enumerate(held):
        counts[kinds] += many
        for kind in kinds.tolist():
            members[kind].append(unit)
    left = np.array([len(each) for each in members], dtype=np.int64)
    wanted = np.stack([counts * (1 - fraction), counts * fraction])
    room = np.array([len(labels) - round(len(labels) * fraction), round(len(labels) * fraction)])
    side = np.full(len(units), -1, dtype=np.int64)

    def place(unit: int, kind: int | None) -> None:
        kinds, many = held[unit]
        demand = [(room[each] > 0, wanted[each, kind] if kind is not None else 0.0, room[each]) for each in (0, 1)]
        side[unit] = chosen = int(demand[1] > demand[0])
        wanted[chosen, kinds] -= many
        left[kinds] -= 1
        room[chosen] -= len(units[unit])

    while (left > 0).any():
        kind = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        for unit in members[kind]:
            if side[unit] < 0:
                place(unit, kind)
    for unit in np.flatnonzero(side < 0).tolist():
        place(unit, None)
    if groups is not None:
        _improve(side, held, [len(rows) for rows in units], wanted[1], counts, int(room[1]))
    return np.array(sorted(row for unit in np.flatnonzero(side == 1) for row in units[unit]), dtype=np.int64)


def _improve(
    side: Rows,
    held: Sequence[tuple[Rows, Rows]],
    sizes: Sequence[int],
    lacks: NDArray[np.float64],
    counts: Rows,
    room: int,
) -> None:
    """Move groups (``side``: 1 for chosen, int64 [u], changed here) while that brings classes and total nearer.

    Args:
        held: classes of each group, and how many pictures have each. sizes: pictures of each.
        lacks: of each class, what is still to be chosen; less than 0 where too many are.
        counts: pictures of each class. room: pictures that are still to be chosen.
    """
    total = sum(sizes)
    for _ in range(10):  # mostly done after two or three
        moved = False
        for unit, (kinds, many) in enumerate(held):
            sign = 1 if side[unit] == 0 else -1
            now = (lacks[kinds] ** 2 / counts[kinds]).sum() + room**2 / total
            then = ((lacks[kinds] - sign * many) ** 2 / counts[kinds]).sum()
            then += (room - sign * sizes[unit]) ** 2 / total
            if then < now - 1e-9:
                side[unit] = 1 - side[unit]
                lacks[kinds] -= sign * many
                room -= sign * sizes[unit]
                moved = True
        if not moved:
            return


def _units(length: int, groups: Sequence[str] | None, keys: NDArray[np.uint64]) -> list[list[int]]:
    """Rows that stay together, in seeded order."""
    members: dict[str, list[int]] = {}
    for row in range(length):
        members.setdefault((groups[row] if groups is not None else "") or f"\0{row}", []).append(row)
    return sorted(members.values(), key=lambda rows: int(keys[rows[0]]))


def _strata(rows: Rows, classes: Rows, pictures: int) -> Rows:
    """int64 [pictures], the rarest class in each (the lower one of equals), -1 for pictures without objects."""
    rank = np.argsort(np.argsort(np.bincount(classes), kind="stable"), kind="stable")
    rarest = np.full(pictures, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(rarest, rows, rank[classes])
    return np.where(rarest == np.iinfo(np.int64).max, -1, rarest)


def _to_give_back(rows: Rows, classes: Rows, aside: Rows, groups: Sequence[str] | None) -> Rows:
    """Of the pictures set aside those, whole groups, without which a class would have no training picture."""
    left = np.isin(rows, aside)
    back: set[int] = set()
    for lost in np.setdiff1d(classes[left], classes[~left]).tolist():
        holders = np.unique(rows[classes == lost]).tolist()
        if not back.intersection(holders):
            first = holders[0]
            group = groups[first] if groups is not None else ""
            back.update(row for row in aside.tolist() if row == first or (group and groups and groups[row] == group))
    return np.array(sorted(back), dtype=np.int64)


def _apportion(counts: Rows, fraction: float) -> Rows:
    """How many rows of each class go aside: in total round(n * fraction), shared by largest remainder."""
    most = counts - 1
    exact = counts * fraction
    wanted: Rows = np.minimum(np.floor(exact + 1e-9).astype(np.int64), most)
    total = min(max(1, round(float(counts.sum()) * fraction)), int(most.sum()))
    order = np.argsort(-(exact - wanted), kind="stable")
    while wanted.sum() < total:  # a second round only where classes of one picture can't give their share
        for row in order.tolist():
            if wanted.sum() < total and wanted[row] < most[row]:
                wanted[row] += 1
    return wanted


def _by_class(compact: Rows, counts: Rows, wanted: Rows, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    order = np.lexsort((keys, compact))  # class by class, each in seeded order
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.arange(len(compact)) - starts[compact[order]]
    aside = np.zeros(len(compact), dtype=np.bool_)
    aside[order] = rank < wanted[compact[order]]
    return aside


def _by_group(
    compact: Rows, counts: Rows, wanted: Rows, keys: NDArray[np.uint64], groups: Sequence[str]
) -> NDArray[np.bool_]:
    """Go through the groups in seeded order and take each that brings the classes nearer to what is wanted."""
    taken = np.zeros_like(wanted)
    aside = np.zeros(len(compact), dtype=np.bool_)
    for rows in _units(len(compact), groups, keys):
        held, size = np.unique(compact[rows], return_counts=True)
        if (taken[held] + size >= counts[held]).any():
            continue
        missing = wanted[held] - taken[held]
        if (missing**2 - (missing - size) ** 2).sum() > 0:
            taken[held] += size
            aside[rows] = True
    return aside


def _mix(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A 64-bit number for each of ``numbers`` that looks random: SplitMix64's finaliser, keyed by the seed."""
    golden = 0x9E3779B97F4A7C15
    mask = (1 << 64) - 1
    with np.errstate(over="ignore"):
        z = (numbers + np.uint64((seed * 0xD1342543DE82EF95 + 1) & mask)) * np.uint64(golden)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
