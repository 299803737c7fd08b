"""Which pictures of a data set are taken, for which split, and what their classes are called then.

In this order: pictures are dropped by name, classes renamed and chosen, a sample drawn, splits made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from foveal.data.check import CheckedBoxes, check_objects, class_indices, class_sets
from foveal.data.naming import innermost
from foveal.data.split import share_out, split_objects, stratified_split
from foveal.errors import UserError
from foveal.formats.pictures import is_picture_name, short, tidy_path
from foveal.records import BoxSource, Dataset, Source

Rows = NDArray[np.int64]
SHORT = {"train": "train", "validation": "val", "test": "test"}
"""What splits are called in names of files and folders."""


@dataclass(frozen=True)
class Choice:
    """What is taken of a data set.

    Attributes:
        shares: of training, validation and, where there are three, test pictures; () leaves the splits as they are.
        group_by: a regular expression; pictures with the same match (its first group, if it has one) in their path
            stay in one split. None: as the data itself groups them.
        sample: at most so many pictures of each split.
        classes: the classes to keep, in their new order; () for all.
        renamed: old name of a class -> new name; several may become one.
        drop: pictures to leave out, by path or as ``bad_records.jsonl`` names them.
        seed: of sample and splits.
    """

    shares: tuple[float, ...] = ()
    group_by: str | None = None
    sample: int | None = None
    classes: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Classes:
    """``names`` in label order; ``numbers``: int64 [old classes], the new number of each or -1; ``named``: whether the
    names are more than numbers."""

    names: tuple[str, ...]
    numbers: Rows
    named: bool

    @property
    def same(self) -> bool:
        """Whether every class keeps its number."""
        return bool((self.numbers == np.arange(len(self.numbers))).all())


@dataclass(frozen=True)
class Part:
    """The pictures taken of one split.

    Attributes:
        rows: int64 [m], in ``source``.
        indices: int64 [len(source)], the new class of each, for one class a picture.
        sets: float32 [len(source), C], for several.
        checked: the boxes of each picture, their classes still the old ones.
        groups: of each picture of the source.
    """

    split: str
    source: Source
    rows: Rows
    indices: Rows | None = None
    sets: NDArray[np.float32] | None = None
    checked: CheckedBoxes | None = None
    groups: tuple[str, ...] | None = None


@runtime_checkable
class _WithFiles(Protocol):
    @property
    def files(self) -> tuple[str, ...]: ...


def picture_name(source: Source) -> Callable[[int], str] | None:
    """Gives the path of each picture as the data has it; None where pictures have no names (records)."""
    source = innermost(source)
    if not isinstance(source, _WithFiles):
        return None
    files = source.files
    return lambda row: files[row]


def select(dataset: Dataset, choice: Choice) -> tuple[list[Part], Classes, list[str]]:
    """Apply a choice. Returns the parts in the order train, validation, test, the classes, and lines for a person.

    Raises:
        UserError: for labels that ``data/check.py`` refuses, classes that are not there, names that drop nothing,
            shares that do not fit or splits that are there already, and when a split has no picture left.
    """
    classes = _classes(dataset, choice)
    said: list[str] = []
    there = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    parts = [_part(split, source, dataset, choice, classes) for split, source in there.items() if source is not None]
    parts = _drop(parts, choice.drop, said)
    parts = [_without_other_classes(part, classes, said) for part in parts]
    if choice.sample is not None:
        parts = [_sample(part, classes, choice, said) for part in parts]
    if choice.shares:
        parts = _split(parts, classes, choice, said)
    return parts, classes, said


def read_drop(values: Sequence[str]) -> tuple[str, ...]:
    """Names of pictures: each of ``values`` is one, or a text file with one a line (``.jsonl``: by its ``where``)."""
    names: list[str] = []
    for value in values:
        path = Path(value)
        if is_picture_name(value) or not path.is_file():
            names.append(value)
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"can't be read as text: {error}", value, "Give a UTF-8 file with a picture's name a line.", "drop"
            ) from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                names.append(_where(line, f"{value}, line {number}") if path.suffix == ".jsonl" else line.strip())
    return tuple(names)


def _where(line: str, place: str) -> str:
    try:
        where = json.loads(line)["where"]
    except (ValueError, KeyError, TypeError, RecursionError):
        where = None
    if not isinstance(where, str):
        raise UserError(
            f'no JSON object with a text "where": {short(line)!r}', place, "Give lines as bad_records.jsonl has them."
        )
    return where


def _classes(dataset: Dataset, choice: Choice) -> Classes:
    old = dataset.class_names
    for name in choice.renamed:
        if name not in old:
            raise _no_class(name, old, "map", dataset.train.origin)
    now = [choice.renamed.get(name, name) for name in old]
    names = tuple(dict.fromkeys(now))
    if choice.classes:
        for name in choice.classes:
            if name not in names:
                raise _no_class(name, names, "classes", dataset.train.origin)
            if choice.classes.count(name) > 1:
                raise UserError(f"the class {short(name)!r} is given twice", "classes", "Name each once.", "classes")
        names = choice.classes
    number = {name: row for row, name in enumerate(names)}
    numbers = np.array([number.get(name, -1) for name in now], dtype=np.int64)
    return Classes(names, numbers, dataset.named or bool(choice.classes or choice.renamed))


def _no_class(name: str, names: Sequence[str], setting: str, origin: str) -> UserError:
    known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return UserError(f"it has no class {short(name)!r}", origin, f"Its classes: {known}.", setting)


def _part(split: str, source: Source, dataset: Dataset, choice: Choice, classes: Classes) -> Part:
    rows = np.arange(len(source), dtype=np.int64)
    names = dataset.class_names or None
    groups = _groups(source, choice.group_by)
    if isinstance(source, BoxSource):
        checked = check_objects(source, None, names, gaps_allowed=True)
        return Part(split, source, rows, checked=checked, groups=groups)
    if dataset.task == "multi-label":
        before = class_sets(source, None, names)[0]
        sets = np.zeros((len(source), len(classes.names)), dtype=np.float32)
        for old, new in enumerate(classes.numbers.tolist()):
            if new >= 0:
                np.maximum(sets[:, new], before[:, old], out=sets[:, new])
        return Part(split, source, rows, sets=sets, groups=groups)
    indices = class_indices(source, None, names, gaps_allowed=True)[0]
    return Part(split, source, rows, indices=classes.numbers[indices], groups=groups)


def _groups(source: Source, pattern: str | None) -> tuple[str, ...] | None:
    if pattern is None:
        return source.groups
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        told = f"{pattern!r} is no regular expression: {error}"
        raise UserError(told, "group_by", "Example: '(patient[0-9]+)'.", "group_by") from error
    name = picture_name(source)
    if name is None:
        raise UserError("its pictures have no names to group them by", source.origin, "Leave it out.", "group_by")
    found = [wanted.search(name(row)) for row in range(len(source))]
    groups = tuple("" if each is None else (each.group(1) if wanted.groups else each.group()) or "" for each in found)
    if not any(groups):
        told = f"{pattern!r} matches none of its paths, such as {name(0)}"
        raise UserError(told, source.origin, "Give what matches a part of each, or a column of a table.", "group_by")
    return groups


def _drop(parts: Sequence[Part], names: Sequence[str], said: list[str]) -> list[Part]:
    if not names:
        return list(parts)
    wanted = dict.fromkeys(names, 0) | {tidy_path(each): 0 for each in names}
    by_base: dict[str, list[tuple[int, int]]] = {each: [] for each in names if "/" not in each}
    gone: list[set[int]] = [set() for _ in parts]
    for number, part in enumerate(parts):
        name = picture_name(part.source)
        for row in range(len(part.source)):
            path = name(row) if name is not None else ""
            for called in {part.source.where(row), path, str(Path(part.source.origin) / path)}:
                if called in wanted:
                    wanted[called] += 1
                    gone[number].add(row)
            if (base := path.rpartition("/")[2]) in by_base:
                by_base[base].append((number, row))
    for each in dict.fromkeys(names):
        if wanted[each] or wanted[tidy_path(each)]:
            continue
        found = by_base.get(each, [])
        if len(found) != 1:
            told = f"{len(found):,} pictures are called {short(each)!r}" if found else f"no picture is {short(each)!r}"
            remedy = "Give its path as the data names it, or as bad_records.jsonl does."
            raise UserError(told, parts[0].source.origin, remedy, "drop")
        gone[found[0][0]].add(found[0][1])
    said.append(f"dropped by name: {sum(map(len, gone)):,} pictures")
    return [_with_rows(part, np.setdiff1d(part.rows, sorted(left))) for part, left in zip(parts, gone, strict=True)]


def _with_rows(part: Part, rows: Rows, split: str | None = None) -> Part:
    part = Part(split or part.split, part.source, rows, part.indices, part.sets, part.checked, part.groups)
    if not len(rows):
        raise UserError(f"no picture of the {part.split} data is left", part.source.origin, "Choose more of it.")
    return part


def _without_other_classes(part: Part, classes: Classes, said: list[str]) -> Part:
    if (classes.numbers >= 0).all() or part.sets is not None:
        return _with_rows(part, part.rows)
    if part.indices is not None:
        keep = part.indices[part.rows] >= 0
        what = "of other classes"
    else:
        assert part.checked is not None
        before = np.diff(part.checked.offsets)
        ours = np.concatenate([[0], np.cumsum(classes.numbers[part.checked.classes] >= 0)])
        after = np.diff(ours[part.checked.offsets])
        keep = ((before == 0) | (after > 0))[part.rows]
        what = "that have objects of other classes only"
        said.append(f"{part.split}: {int((before - after)[part.rows].sum()):,} boxes of other classes left out")
    if not keep.all():
        said.append(f"{part.split}: {int((~keep).sum()):,} pictures {what} left out")
    return _with_rows(part, part.rows[keep])


def _kinds(part: Part, classes: Classes) -> list[list[int]]:
    """The new classes of each picture taken, none twice."""
    if part.indices is not None:
        return [[each] for each in part.indices[part.rows].tolist()]
    if part.sets is not None:
        return [np.flatnonzero(part.sets[row]).tolist() for row in part.rows]
    assert part.checked is not None
    numbers, offsets = classes.numbers[part.checked.classes], part.checked.offsets
    return [sorted({*numbers[offsets[row] : offsets[row + 1]].tolist()} - {-1}) for row in part.rows.tolist()]


def _sample(part: Part, classes: Classes, choice: Choice, said: list[str]) -> Part:
    assert choice.sample is not None
    if choice.sample >= len(part.rows):
        return part
    chosen = share_out(_kinds(part, classes), choice.sample / len(part.rows), choice.seed)
    said.append(f"{part.split}: a sample of {len(chosen):,} of {len(part.rows):,} pictures, seed {choice.seed}")
    return _with_rows(part, part.rows[chosen])


def _split(parts: list[Part], classes: Classes, choice: Choice, said: list[str]) -> list[Part]:
    """Divide the training pictures by ``choice.shares``; the splits that are made must not be there already."""
    shares = choice.shares
    if len(shares) not in (2, 3) or min(shares[0], shares[-1]) <= 0 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        told = f"{','.join(f'{each:g}' for each in shares)} are no shares"
        remedy = "Give two or three above 0 that make 1: 0.8,0.1,0.1 (train, val, test)."
        raise UserError(told, "", remedy, "split")
    train, *others = parts
    made = ("validation", "test")[: len(shares) - 1]
    made = tuple(split for split, share in zip(made, shares[1:], strict=True) if share)
    for part in others:
        if part.split in made:
            raise UserError(
                f"it has {part.split} data already, and {','.join(f'{each:g}' for each in shares)} would make more",
                part.source.origin,
                "Name the training data alone, or leave the split out.",
                "split",
            )
    rest, found = train, {part.split: part for part in others}
    left = 1.0
    for split, share in reversed([*zip(made, [each for each in shares[1:] if each], strict=True)]):
        kept, aside = _divide(rest, classes, share / left, choice.seed)
        found[split] = _with_rows(train, rest.rows[aside], split)
        rest, left = _with_rows(train, rest.rows[kept]), left - share
    by = ", whole groups together" if train.groups is not None else ""
    counts = ", ".join(f"{len(each.rows):,} {each.split}" for each in (rest, *(found[split] for split in made)))
    said.append(f"split by class{by}, seed {choice.seed}: {counts}")
    return [rest, *(found[split] for split in ("validation", "test") if split in found)]


def _divide(part: Part, classes: Classes, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Positions in ``part.rows`` that stay, and those that are set aside."""
    groups = None if part.groups is None else [part.groups[row] for row in part.rows]
    if part.indices is not None:
        return stratified_split(part.indices[part.rows], fraction, seed, groups)
    kinds = _kinds(part, classes)
    if part.checked is not None:
        rows = np.repeat(np.arange(len(kinds)), [len(each) for each in kinds])
        flat = np.array([each for held in kinds for each in held], dtype=np.int64)
        return split_objects(rows, flat, len(kinds), fraction, seed, groups)
    aside = share_out(kinds, fraction, seed, groups)
    kept = np.setdiff1d(np.arange(len(kinds)), aside)
    if not len(aside) or not len(kept):
        raise UserError(
            "no pictures can be set aside", part.source.origin, "Give more pictures, or more groups.", "split"
        )
    return kept, aside
