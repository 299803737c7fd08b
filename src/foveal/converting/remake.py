"""What becomes of one picture: read, encoded anew where that is asked for, with the label that the new form takes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveal.converting.pack import MXNET_READS
from foveal.converting.reencode import Encoding, follow, reencode
from foveal.converting.selection import Classes, Part, picture_name
from foveal.converting.targets import Layout
from foveal.data.decode import Header, read_header
from foveal.data.fractions import fractions_of, to_upright
from foveal.errors import BadPicture
from foveal.formats.boxlabels import BoxLabelSource, box_label
from foveal.formats.writing import Entry, Names, suffix_of
from foveal.records import BadRecord, Boxes

_CUT = 0.5  # pixels that a box reaches beyond its picture before it is told


@dataclass(frozen=True)
class Job:
    """What is to be done with each picture; ``width``: numbers of an object in a record's label."""

    layout: Layout
    classes: Classes
    encoding: Encoding | None
    width: int


class Task(NamedTuple):
    """One picture: its number in its split, its row in the source, and its name without suffix."""

    part: Part
    number: int
    row: int
    stem: str


class Made(NamedTuple):
    """A picture that is ready to be written, and what is to be told of it; or why there is none (``bad``)."""

    picture: bytes
    entry: Entry | None
    bad: BadRecord | None
    told: Mapping[str, int]


def tasks(parts: list[Part], job: Job) -> Iterator[Task]:
    """All pictures in order, each with a name of its own: in its class for folders, else in all splits."""
    names: defaultdict[int, Names] = defaultdict(Names)
    for part in parts:
        path = picture_name(part.source)
        for number, row in enumerate(part.rows.tolist()):
            called = f"{part.split}_{row:06d}." if path is None else path(row)
            within = 0
            if job.layout.form == "folder":
                assert part.indices is not None
                within = int(part.indices[row])
                called = called.partition("/")[2] if part.source.form == "folder" else called
            if job.layout.form == "webdataset":  # which takes a name's first point for that of the suffix
                called = os.path.splitext(called)[0].replace(".", "_") + "."
            yield Task(part, number, row, names[within].stem(called))


def remake(task: Task, job: Job) -> Made:
    """Read one picture with its label, and bring both into the form that is written."""
    part, row = task.part, task.row
    where = part.source.where(row)
    try:
        picture = part.source.read(row).picture
        header = read_header(picture, where)
        label, stored, told = _label(task, job, picture, header)
        if job.encoding is not None:
            done = reencode(picture, job.encoding, where)
            if isinstance(label, Boxes):
                label = follow(label, done)
            picture, header = done.picture, Header(*done.size, done.kind, done.grey)
    except BadPicture as error:
        return Made(b"", None, BadRecord(error.where or where, error.what), {})
    file = task.stem + suffix_of(header.kind)
    if job.layout.form == "folder":
        assert isinstance(label, int)
        file = f"{job.classes.names[label]}/{file}"
    if not picture.startswith(MXNET_READS):
        told["foreign"] = 1
    group = None if part.groups is None else part.groups[row]
    depth = 1 if header.grey else 3
    entry = Entry(task.number, file, (header.width, header.height), depth, label, group, stored)
    return Made(picture, entry, None, told)


def _label(
    task: Task, job: Job, picture: bytes, header: Header
) -> tuple[int | NDArray[np.float32] | Boxes, NDArray[np.float32] | None, dict[str, int]]:
    """The new label of a picture, its label in records, and counts of what is to be told. Raises BadPicture."""
    part, row = task.part, task.row
    if part.indices is not None:
        return int(part.indices[row]), None, {}
    if part.sets is not None:
        return part.sets[row], None, {}
    assert part.checked is not None
    boxes = part.checked.boxes[row]
    boxes = _ours(boxes, job.classes.numbers)
    upright = to_upright(boxes, picture, header, part.source.where(row))
    told = {
        "cut": _count_cut(boxes, (header.width, header.height)),
        "gone": len(boxes.cls) - len(upright.cls),
        "difficult": int((upright.difficult & ~upright.crowd).sum()),
        "crowd": int(upright.crowd.sum()),
        "empty": int(not len(upright.cls)),
        "extra": int(boxes.extra.shape[1] > 1 and len(boxes.cls) > 0),
    }
    stored = None
    if job.layout.form in ("recordio", "lst"):
        if isinstance(part.source, BoxLabelSource):
            stored = _stored(part.source, row, job.classes)
        else:
            stored = box_label(fractions_of(upright), job.width)
    return upright, stored, {key: count for key, count in told.items() if count}


def _ours(boxes: Boxes, numbers: NDArray[np.int64]) -> Boxes:
    """Boxes with their new classes, without those of classes that are left out."""
    kinds = numbers[boxes.cls]
    keep = kinds >= 0
    return replace(
        boxes,
        values=boxes.values[keep],
        cls=kinds[keep],
        difficult=boxes.difficult[keep],
        crowd=boxes.crowd[keep],
        extra=boxes.extra[keep],
    )


def _count_cut(boxes: Boxes, size: tuple[int, int]) -> int:
    """How many boxes reach beyond the picture, where they are of it as it is."""
    if boxes.of != "upright" or boxes.size not in (None, size):
        return 0
    unit = np.array([*size, *size]) if boxes.unit == "fraction" else np.ones(4)
    values = boxes.values * unit
    beyond = np.abs(values - np.clip(values, 0, np.array([*size, *size]))) > _CUT
    return int(beyond.any(axis=1).sum())


def _stored(source: BoxLabelSource, row: int, classes: Classes) -> NDArray[np.float32]:
    """A label of records as it is stored, its classes the new ones."""
    values = source.stored(row)
    if classes.same:
        return values
    header = source.header(row)
    rows = values[len(header) :].reshape(-1, int(header[1])).copy()
    known = (rows[:, 0] >= 0) & (rows[:, 0] < len(classes.numbers))  # padding without area has the class -1
    rows = rows[known]
    rows[:, 0] = classes.numbers[rows[:, 0].astype(np.int64)]
    return np.concatenate([header, rows[rows[:, 0] >= 0].reshape(-1)])
