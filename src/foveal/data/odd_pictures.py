"""What is odd in pictures that have been looked at: broken ones, doubles, look-alikes, forms, sizes, tiny boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveal.data.alike import MOST_PAIRS, find_alike
from foveal.data.finding import KEPT, Finding, Suspect, finding, plural
from foveal.data.measure import Measured
from foveal.data.odd_splits import MEND_LEAK
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
        limit: the share of a split's pictures that may be unreadable.
    """
    unreadable = [part.suspect(row, why) for part in parts for row, why in part.seen.unreadable.items()]
    misfits = [part.suspect(row, why) for part in parts for row, why in part.seen.misfits.items()]
    misnamed = [
        part.suspect(row, f"named {suffix}, is {kind}")
        for part in parts
        for row, (suffix, kind) in part.seen.misnamed.items()
    ]
    total = sum(len(part.source) for part in parts)
    whole = total + sum(len(part.source.bad) for part in parts)
    broken = len(unreadable) + len(misfits) + sum(len(part.source.bad) for part in parts)
    what = f"{broken:,} of {whole:,} records can't be used, more than the {limit:.0%} that training goes on with"
    remedy = "Mend or remove them, or raise bad_records_limit."
    too_many = (Finding("too-many-bad", "error", what, remedy, broken),) if broken > np.ceil(limit * whole) else ()
    return (
        *too_many,
        *finding(
            "unreadable", "warning", f"{len(unreadable):,} of {total:,} pictures can't be read and are left out",
            "Give whole files, or remove them.", unreadable,
        ),
        *finding(
            "size-disagrees", "warning",
            f"{plural(len(misfits), 'picture has', 'pictures have')} another size than {_its(misfits)} boxes are of, and "
            f"{_is(misfits)} left out",
            "Correct the size in the label, or give the pictures that were labelled.", misfits,
        ),
        *finding(
            "suffix", "note",
            f"{plural(len(misnamed), 'picture is', 'pictures are')} of another form than {_its(misnamed)} name says",
            "Foveal goes by the content; other programs may not.", misnamed,
        ),
    )  # fmt: skip


def odd_looks(parts: Sequence[Part]) -> tuple[Finding, ...]:
    """Grey and colour pictures mixed, pictures of one colour, boxes scaled to another size than stated."""
    grey = [part.suspect(int(row)) for part in parts for row in np.flatnonzero(part.seen.grey)]
    colour = [part.suspect(int(row)) for part in parts for row in part.seen.readable if not part.seen.grey[row]]
    fewer, name, other = (grey, "grey", "colour") if len(grey) <= len(colour) else (colour, "colour", "grey")
    flat = [
        part.suspect(int(row))
        for part in parts
        for row in part.seen.readable
        if part.seen.small[row].std(dtype=np.float32) < ONE_COLOUR
    ]
    scaled = [part.suspect(row) for part in parts for row in part.seen.rescaled]
    return (
        *finding(
            "mixed-channels", "note",
            f"{plural(len(fewer), 'picture')} {_is(fewer)} {name}, the others {other}",
            "All are read with the channels of image_shape; see that the kind doesn't give the class away.", fewer,
        ),
        *finding(
            "one-colour", "note", f"{plural(len(flat), 'picture shows', 'pictures show')} one colour and nothing else",
            "Look whether they are meant.", flat,
        ),
        *finding(
            "size-scaled", "note",
            f"{plural(len(scaled), 'picture has', 'pictures have')} another size than stated, of the same aspect; "
            "boxes are scaled along",
            "Nothing has to be done, if the pictures were resized after they were labelled.", scaled,
        ),
    )  # fmt: skip


def doubles(parts: Sequence[Part]) -> tuple[Finding, ...]:
    """The same file several times: across splits, with labels that differ, and within a split."""
    groups: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for number, part in enumerate(parts):
        for row in part.seen.readable.tolist():
            groups[part.seen.digest[row].tobytes()].append((number, row))
    across: list[Suspect] = []
    differ: list[Suspect] = []
    within: list[Suspect] = []
    stored = [part.source.labels() for part in parts]
    for spots in groups.values():
        if len(spots) == 1:
            continue
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
    where = [(number, int(row)) for number, part in enumerate(parts) for row in part.seen.readable]
    if not where:
        return ()
    digests = np.concatenate([part.seen.digest[part.seen.readable] for part in parts])
    _, first = np.unique(digests, axis=0, return_index=True)
    first.sort()
    size = np.concatenate([part.seen.size[part.seen.readable] for part in parts])[first]
    pairs = find_alike(
        np.concatenate([part.seen.bits[part.seen.readable] for part in parts])[first],
        np.concatenate([part.seen.small[part.seen.readable] for part in parts])[first],
        size[:, 0] / size[:, 1],
    )
    spots = [[where[first[a]], where[first[b]]] for a, b in pairs.rows.tolist()]
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
            f"{plural(len(across), 'pair')} of pictures in different splits {_is(across)} nearly the same{more}",
            "Put pictures of one scene, part or person into one split: else figures flatter.",
            suspects(across), len(across),
        ),
        *finding(
            "near-duplicate", "note",
            f"{plural(len(within), 'pair')} of pictures in a split {_is(within)} nearly the same{more}",
            "Fine in training data; a random split would tear them apart.", suspects(within), len(within),
        ),
    )  # fmt: skip


def odd_box_sizes(parts: Sequence[Part], side: int) -> tuple[Finding, ...]:
    """Boxes that lie outside, and tiny ones: as they are, and after the picture is squeezed to ``side`` pixels."""
    outside = [
        part.suspect(row, plural(count, "box", "boxes")) for part in parts for row, count in part.seen.outside.items()
    ]
    lost = sum(count for part in parts for count in part.seen.outside.values())
    boxes = sum(len(part.seen.box_rows) for part in parts)
    tiny, after = [], []
    tiny_count = after_count = 0
    for part in parts:
        rows, sizes = part.seen.box_rows, part.seen.box_sizes
        small = sizes.min(axis=1, initial=np.inf) < TINY
        squeezed = (sizes * side / np.maximum(part.seen.size[rows], 1)).min(axis=1, initial=np.inf) < TINY
        tiny += _tiny(part, small, sizes)
        after += _tiny(part, squeezed & ~small, sizes)
        tiny_count, after_count = tiny_count + int(small.sum()), after_count + int(squeezed.sum())
    many = after_count > MANY_TINY * boxes
    return (
        *finding(
            "box-outside", "warning", f"{plural(lost, 'box lies', 'boxes lie')} outside the picture and "
            f"{'is' if lost == 1 else 'are'} left out",
            "Mend the label: is it perhaps of another picture, or of other units?", outside, lost,
        ),
        *finding(
            "tiny-box", "note", f"{tiny_count:,} of {boxes:,} boxes are under {TINY} pixels on a side",
            "So small objects are seldom found: cut pictures into tiles, or leave such boxes out.", tiny, tiny_count,
        ),
        *finding(
            "tiny-box-after-resize", "warning" if many else "note",
            f"{after_count:,} of {boxes:,} boxes are under {TINY} pixels on a side once the picture is {side} x {side}",
            "Take a larger image_shape, or cut pictures into tiles.", (tiny + after) if after_count else [], after_count,
        ),
    )  # fmt: skip


def _tiny(part: Part, which: NDArray[np.bool_], sizes: NDArray[np.float32]) -> list[Suspect]:
    """A suspect for each picture with boxes of ``which`` (bool [m])."""
    least: dict[int, tuple[int, tuple[float, float]]] = {}
    for row, (width, height) in zip(part.seen.box_rows[which].tolist(), sizes[which].tolist(), strict=True):
        count, smallest = least.get(row, (0, (np.inf, np.inf)))
        least[row] = (count + 1, min(smallest, (width, height), key=min))
    return [
        part.suspect(row, f"{plural(count, 'box', 'boxes')}, the smallest {width:g} x {height:g}")
        for row, (count, (width, height)) in least.items()
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


def _is(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"


def _its(items: Sequence[object]) -> str:
    return "its" if len(items) == 1 else "their"
