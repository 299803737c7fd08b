"""What one split has of another, and what it lacks: shared pictures, shared groups, missing classes.

Cheap: pictures are not decoded, and few are read. It runs before every training, and as a part of ``foveal check``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from foveal.checking.finding import Finding, Suspect, finding, plural
from foveal.errors import BadPicture
from foveal.formats.boxfiles import BoxFileSource
from foveal.formats.pictures import FileSource, file_size
from foveal.records import Dataset, Source

READ_AT_MOST = 2_000
"""Pictures that are read to find shared ones; more are left to ``foveal check``."""
_ASKED_AT_MOST = 100_000  # files whose sizes are asked for
_LISTED = 5  # classes and groups named in a line
MEND_LEAK = "Take them out of one of the two: figures on pictures that were trained on say nothing."


def warn_of_splits(dataset: Dataset, counts: Mapping[str, NDArray[np.int64]]) -> tuple[str, ...]:
    """What is odd between training and validation data, a line each.

    Args:
        counts: split -> int64 [C], pictures (or boxes) of each class; of the validation data at least.
    """
    if dataset.validation is None:
        return ()
    parts = {"train": dataset.train, "validation": dataset.validation}
    unit = "box" if dataset.task == "boxes" else "picture"
    missing = missing_classes({"validation": counts["validation"]}, dataset.class_names, unit)
    shared = [*shared_groups(parts), *shared_files(parts)]
    return (
        *(f"{each.what}; the first: {' and '.join(each.suspects[0].where)}" for each in shared),
        *(each.what for each in missing),
    )


def missing_classes(
    counts: Mapping[str, NDArray[np.int64]], class_names: Sequence[str], unit: str
) -> tuple[Finding, ...]:
    """Classes that a split has nothing of, though they are named or another split has them: a finding a split.

    Args:
        counts: split -> int64 [C], how many of each class.
        unit: of what there is none: ``picture`` or ``box``.
    """
    found: list[Finding] = []
    for split, numbers in counts.items():
        empty = np.flatnonzero(numbers == 0).tolist()
        names = [class_names[row] if row < len(class_names) else str(row) for row in empty]
        listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
        have = "has" if len(names) == 1 else "have"
        what = f"{split}: {len(names):,} of {plural(len(numbers), 'class', 'classes')} {have} no {unit}: {listed}"
        remedy = (
            f"Add {unit}{'es' if unit == 'box' else 's'} of them, or take the classes out."
            if split == "train"
            else "Figures say nothing of these classes: move some of theirs here."
        )
        found += finding("class-missing", "warning", what, remedy, [Suspect((), name) for name in names])
    return tuple(found)


def shared_groups(parts: Mapping[str, Source]) -> tuple[Finding, ...]:
    """Groups (a patient, a part, a video) with pictures in more than one split."""
    places: dict[str, dict[str, tuple[int, int]]] = {}
    for split, source in parts.items():
        for row, group in enumerate(source.groups or ()):
            first, count = places.setdefault(group, {}).get(split, (row, 0))
            places[group][split] = (first, count + 1)
    suspects = [
        Suspect(
            tuple(parts[split].where(row) for split, (row, _) in splits.items()),
            f"group {group}: " + ", ".join(f"{count:,} in {split}" for split, (_, count) in splits.items()),
            tuple((split, row) for split, (row, _) in splits.items()),
        )
        for group, splits in places.items()
        if len(splits) > 1
    ]
    what = f"{plural(len(suspects), 'group has', 'groups have')} pictures in more than one split"
    return finding(
        "group-across-splits", "warning", what, "Put all pictures of a group into one split (--group-by).", suspects
    )


def shared_files(parts: Mapping[str, Source]) -> tuple[Finding, ...]:
    """The same encoded pictures in training and validation data, where few have to be read to find them."""
    train, other = parts["train"], parts["validation"]
    rows = {"train": np.arange(len(train)), "validation": np.arange(len(other))}
    sizes = {split: each for split, source in parts.items() if (each := _sizes(source)) is not None}
    if len(sizes) == len(parts):
        both = np.intersect1d(sizes["train"], sizes["validation"])
        rows = {split: np.flatnonzero(np.isin(each, both)) for split, each in sizes.items()}
    if sum(map(len, rows.values())) > READ_AT_MOST:
        return ()
    known: dict[bytes, int] = {}
    for row in rows["train"].tolist():
        known.setdefault(_digest(train, row), row)
    pairs = [(known.get(_digest(other, row), -1), row) for row in rows["validation"].tolist()]
    suspects = [
        Suspect((train.where(a), other.where(b)), "", (("train", a), ("validation", b))) for a, b in pairs if a >= 0
    ]
    what = f"{plural(len(suspects), 'picture is', 'pictures are')} both in the training and the validation data"
    return finding("duplicate-across-splits", "warning", what, MEND_LEAK, suspects)


def _sizes(source: Source) -> NDArray[np.int64] | None:
    """Bytes of each file, -1 where it can't be asked; None for other sources, and where they are too many."""
    if not isinstance(source, FileSource | BoxFileSource) or len(source) > _ASKED_AT_MOST:
        return None
    return np.array([file_size(source.root / file) for file in source.files], dtype=np.int64)


def _digest(source: Source, row: int) -> bytes:
    """Of the encoded picture; of nothing like another where it can't be read."""
    try:
        return hashlib.blake2b(source.read(row).picture, digest_size=16).digest()
    except BadPicture:
        return f"{id(source)} {row}".encode()
