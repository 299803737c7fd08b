"""What is odd in pictures that have been looked at: broken ones, doubles, look-alikes, forms, sizes, tiny boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveal.checking.alike import MOST_PAIRS, find_alike
from foveal.checking.finding import KEPT, Finding, Suspect, finding, plural
from foveal.checking.measure import Measured
from foveal.checking.odd_splits import MEND_LEAK
from foveal.records import BoxSource, Labels, Source

TINY = 8  # pixels of a box's shorter side below which SSD's smallest anchors hardly find it
MANY_TINY = 0.1  # share of boxes
ONE_COLOUR = 1.0  # standard deviation in grey levels


@dataclass(frozen=True)
class Part:
    """A split, looked at."""

    name: str
    source: Source
    seen: Measured

    def suspect(self, row: int, why: str = "") -> Suspect:
        return Suspect((self.source.where(row),), why, ((self.name, row),))


def odd_files(parts: Sequence[Part], limit: float) -> tuple[Finding, ...]:
    """Pictures that can't be read or don't fit their boxes, and those whose names say another form than they have.

    Args:
        limit: the share of records that may be unusable.
    """
    unreadable, broken = _tally((part, row, why) for part in parts for row, why in part.seen.unreadable.items())
    misfits, unfit = _tally((part, row, why) for part in parts for row, why in part.seen.misfits.items())
    misnamed, others = _tally(
        (part, row, f"named {suffix}, is {kind}")
        for part in parts
        for row, (suffix, kind) in part.seen.misnamed.items()
    )
    total = sum(len(part.source) for part in parts)
    left_out = sum(len(part.source.bad) for part in parts)
    bad, records = broken + unfit + left_out, total + left_out
    what = f"{bad:,} of {records:,} records can't be used, more than the {limit:.0%} that training goes on with"
    remedy = "Mend or remove them, or raise bad_records_limit."
    too_many = (Finding("too-many-bad", "error", what, remedy, bad),) if bad > np.ceil(limit * records) else ()
    return (
        *too_many,
        *finding(
            "unreadable", "warning", f"{broken:,} of {total:,} pictures can't be read and are left out",
            "Give whole files, or remove them.", unreadable, broken,
        ),
        *finding(
            "size-disagrees", "warning",
            f"{plural(unfit, 'picture has', 'pictures have')} another size than the boxes are of, and "
            f"{_is(unfit)} left out",
            "Correct the size in the label, or give the pictures that were labelled.", misfits, unfit,
        ),
        *finding(
            "suffix", "note", f"{plural(others, 'picture is', 'pictures are')} of another form than the name says",
            "Foveal goes by the content; other programs may not.", misnamed, others,
        ),
    )  # fmt: skip


def odd_looks(parts: Sequence[Part]) -> tuple[Finding, ...]:
    """Grey and colour pictures mixed, pictures of one colour, boxes scaled to another size than stated."""
    grey = sum(int(part.seen.grey.sum()) for part in parts)
    colour = sum(len(part.seen.readable) for part in parts) - grey
    name, other, wanted = ("grey", "in colour", True) if grey <= colour else ("in colour", "grey", False)
    fewer, few = _tally(
        (part, row, "") for part in parts for row in part.seen.readable.tolist() if part.seen.grey[row] == wanted
    )
    flat, one_colour = _tally(
        (part, row, "")
        for part in parts
        for row in part.seen.readable[
            part.seen.small[part.seen.readable].std(axis=1, dtype=np.float32) < ONE_COLOUR
        ].tolist()
    )
    scaled, resized = _tally((part, row, "") for part in parts for row in part.seen.rescaled)
    return (
        *finding(
            "mixed-channels", "note", f"{plural(few, 'picture')} {_is(few)} {name}, the others {other}",
            "All are read with the channels of image_shape; see that the kind doesn't give the class away.", fewer, few,
        ),
        *finding(
            "one-colour", "note",
            f"{plural(one_colour, 'picture shows', 'pictures show')} one colour and nothing else",
            "Look whether they are meant.", flat, one_colour,
        ),
        *finding(
            "size-scaled", "note",
            f"{plural(resized, 'picture has', 'pictures have')} another size than stated, of the same aspect; "
            "boxes are scaled along",
            "Nothing has to be done, if the pictures were resized after they were labelled.", scaled, resized,
        ),
    )  # fmt: skip


def doubles(parts: Sequence[Part]) -> tuple[Finding, ...]:
    """The same file several times: across splits, with labels that differ, and within a split."""
    across: list[Suspect] = []
    differ: list[Suspect] = []
    within: list[Suspect] = []
    stored = [part.source.labels() for part in parts]
    for spots in _same_files(_all_of(parts)):
        labels = {_label(parts[number].source, stored[number], row) for number, row in spots}
        suspect = _together(parts, spots, "labels differ" if len(labels) > 1 else "")
        if len({number for number, _ in spots}) > 1:
            across.append(suspect)
        if len(labels) > 1:
            differ.append(suspect)
        elif len({number for number, _ in spots}) == 1:
            within.append(suspect)
    return (
        *finding(
            "duplicate-across-splits", "warning",
            f"{plural(len(across), 'picture is', 'pictures are')} in more than one split, byte for byte",
            MEND_LEAK, across,
        ),
        *finding(
            "duplicate-labels-differ", "warning",
            f"{plural(len(differ), 'picture is', 'pictures are')} there several times, with labels that differ",
            "Keep the right one of each.", differ,
        ),
        *finding(
            "duplicate", "note", f"{plural(len(within), 'picture is', 'pictures are')} several times in a split",
            "Remove the others, unless they are meant to weigh more.", within,
        ),
    )  # fmt: skip


def look_alikes(parts: Sequence[Part]) -> tuple[Finding, ...]:
    """Pairs of pictures that are nearly the same, within and across splits; copies of one file count as one."""
    places, digests = _all_of(parts)
    if not len(places):
        return ()
    _, first = np.unique(digests, axis=0, return_index=True)
    first.sort()
    size = np.concatenate([part.seen.size[part.seen.readable] for part in parts])[first]
    pairs = find_alike(
        np.concatenate([part.seen.bits[part.seen.readable] for part in parts])[first],
        np.concatenate([part.seen.small[part.seen.readable] for part in parts])[first],
        size[:, 0] / size[:, 1],
    )
    spots = [[(int(split), int(row)) for split, row in places[first[pair]]] for pair in pairs.rows]
    across = [index for index, (a, b) in enumerate(spots) if a[0] != b[0]]
    within = [index for index, (a, b) in enumerate(spots) if a[0] == b[0]]
    more = "" if pairs.complete else f" (the search ended at {MOST_PAIRS:,})"

    def suspects(indices: list[int]) -> list[Suspect]:
        return [
            _together(parts, spots[index], f"alike to {100 * pairs.correlation[index]:.2f} %")
            for index in indices[:KEPT]
        ]

    return (
        *finding(
            "near-duplicate-across-splits", "warning",
            f"{plural(len(across), 'pair')} of pictures in different splits {_is(len(across))} nearly the same{more}",
            "Put pictures of one scene, part or person into one split: else figures flatter.",
            suspects(across), len(across),
        ),
        *finding(
            "near-duplicate", "note",
            f"{plural(len(within), 'pair')} of pictures in a split {_is(len(within))} nearly the same{more}",
            "Fine in training data; a random split would tear them apart.", suspects(within), len(within),
        ),
    )  # fmt: skip


def odd_box_sizes(parts: Sequence[Part], side: int) -> tuple[Finding, ...]:
    """Boxes that lie outside, and tiny ones: as they are, and after the picture is squeezed to ``side`` pixels."""
    outside, _ = _tally(
        (part, row, plural(count, "box", "boxes")) for part in parts for row, count in part.seen.outside.items()
    )
    lost = sum(count for part in parts for count in part.seen.outside.values())
    boxes = sum(len(part.seen.box_rows) for part in parts)
    tiny, after = [], []
    tiny_count = after_count = 0
    for part in parts:
        rows, sizes = part.seen.box_rows, part.seen.box_sizes
        small = sizes.min(axis=1, initial=np.inf) < TINY
        squeezed = (sizes * side / np.maximum(part.seen.size[rows], 1)).min(axis=1, initial=np.inf) < TINY
        tiny += _tiny(part, small, sizes)
        after += _tiny(part, squeezed, sizes)
        tiny_count, after_count = tiny_count + int(small.sum()), after_count + int(squeezed.sum())
    many = after_count > MANY_TINY * boxes
    return (
        *finding(
            "box-outside", "warning", f"{plural(lost, 'box lies', 'boxes lie')} outside the picture and "
            f"{'is' if lost == 1 else 'are'} left out",
            "Mend the label: is it perhaps of another picture, or of other units?", outside, lost,
        ),
        *finding(
            "tiny-box", "note", f"{_of(tiny_count, boxes)} under {TINY} pixels on a side",
            "So small objects are seldom found: cut pictures into tiles, or leave such boxes out.", tiny, tiny_count,
        ),
        *finding(
            "tiny-box-after-resize", "warning" if many else "note",
            f"{_of(after_count, boxes)} under {TINY} pixels on a side in a picture of {side} x {side}",
            "Take a larger image_shape, or cut pictures into tiles.", after, after_count,
        ),
    )  # fmt: skip


def _tally(found: Iterable[tuple[Part, int, str]]) -> tuple[list[Suspect], int]:
    """Suspects of (split, row, why), as many as are kept, and how many there are."""
    suspects: list[Suspect] = []
    count = 0
    for part, row, why in found:
        count += 1
        if count <= KEPT:
            suspects.append(part.suspect(row, why))
    return suspects, count


def _all_of(parts: Sequence[Part]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """All readable pictures of all splits: int64 [n, 2], number of the split and row; uint64 [n, 2], digests."""
    places = [
        np.stack([np.full(len(part.seen.readable), number), part.seen.readable], axis=1)
        for number, part in enumerate(parts)
    ]
    return np.concatenate(places), np.concatenate([part.seen.digest[part.seen.readable] for part in parts])


def _same_files(pictures: tuple[NDArray[np.int64], NDArray[np.uint64]]) -> Iterator[list[tuple[int, int]]]:
    """The places of pictures that are the same file, for each file that comes more than once."""
    places, digests = pictures
    order = np.lexsort((np.arange(len(digests)), digests[:, 1], digests[:, 0]))
    new = np.flatnonzero((digests[order][1:] != digests[order][:-1]).any(axis=1)) + 1
    groups = [group for group in np.split(order, new) if len(group) > 1] if len(order) else []
    for group in sorted(groups, key=lambda group: int(group[0])):
        yield [(int(split), int(row)) for split, row in places[group]]


def _tiny(part: Part, which: NDArray[np.bool_], sizes: NDArray[np.float32]) -> list[Suspect]:
    """A suspect for each picture with boxes of ``which`` (bool [m]), the smallest first."""
    least: dict[int, tuple[int, tuple[float, float]]] = {}
    for row, (width, height) in zip(part.seen.box_rows[which].tolist(), sizes[which].tolist(), strict=True):
        count, smallest = least.get(row, (0, (np.inf, np.inf)))
        least[row] = (count + 1, min(smallest, (width, height), key=min))
    return [
        part.suspect(row, f"{plural(count, 'box', 'boxes')}, the smallest {width:.3g} x {height:.3g}")
        for row, (count, (width, height)) in sorted(least.items(), key=lambda item: min(item[1][1]))[:KEPT]
    ]


def _together(parts: Sequence[Part], spots: Sequence[tuple[int, int]], why: str) -> Suspect:
    return Suspect(
        tuple(parts[number].source.where(row) for number, row in spots),
        why,
        tuple((parts[number].name, row) for number, row in spots),
    )


def _label(source: Source, labels: Labels, row: int) -> tuple[object, ...]:
    """What a picture is labelled with, to compare: boxes in any order."""
    if isinstance(source, BoxSource):
        boxes = source.boxes(row)
        return tuple(sorted((int(cls), *values) for cls, values in zip(boxes.cls, boxes.values.tolist(), strict=True)))
    return tuple(labels.values[labels.offsets[row] : labels.offsets[row + 1]].tolist())


def _of(count: int, boxes: int) -> str:
    return f"{count:,} of {plural(boxes, 'box', 'boxes')} {_is(count)}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
