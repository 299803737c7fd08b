"""Labelled pictures of any form into RecordIO files, as MXNet's im2rec makes them.

OUT/train.rec  train.idx  val.rec  val.idx  test.rec  test.idx  classes.txt
OUT/train_0.rec  train_0.idx  train_1.rec  ...                             in chunks

Boxes become labels as MXNet's detection iterator takes them (``formats/boxlabels.py``): fractions of the upright
picture. Boxes that lie in records or a list already are written again as they are, header and all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from foveal.converting.reencode import Encoding, Reencoded, follow, reencode
from foveal.converting.selection import SHORT, Part
from foveal.converting.targets import check_class_names
from foveal.data.decode import read_header
from foveal.data.fractions import fractions_of, to_fractions
from foveal.data.naming import innermost
from foveal.data.recognise import CLASSES_FILE
from foveal.data.threads import in_order
from foveal.errors import BadPicture, UserError
from foveal.files import write_text
from foveal.formats.boxfiles import BoxFileSource, object_table
from foveal.formats.boxlabels import BoxLabelSource, box_label
from foveal.formats.imagerecord import pack as pack_record
from foveal.formats.pictures import FileSource
from foveal.formats.recordio import write_records
from foveal.formats.write_lst import lst_line
from foveal.progress import track
from foveal.records import BadRecord, BoxSource, Dataset, Labels, Source

# First bytes of JPEG, PNG, BMP, TIFF and the PNM family: what the OpenCV within MXNet reads
MXNET_READS = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
_SPLITS = {short: split for split, short in SHORT.items()}


@dataclass(frozen=True)
class Packing:
    """How records are made.

    Attributes:
        encoding: how pictures are encoded anew; None keeps their bytes, and reads no more than their headers.
        shuffle_seed: of the order; None keeps that of the data. (MXNet shuffles only within 64 MB when reading.)
        chunks: files of each split.
        all_labels: False keeps the first number of each label only, as im2rec does without ``--pack-label``.
        label_width: numbers that each label must have; None for any.
        size_header: put width and height of the picture into the header of labels with boxes: [4, B, width, height].
        threads: that read and encode; the order stays.
    """

    encoding: Encoding | None = None
    shuffle_seed: int | None = 0
    chunks: int = 1
    all_labels: bool = True
    label_width: int | None = None
    size_header: bool = False
    threads: int = 1


@dataclass(frozen=True)
class PackReport:
    """What was written.

    Attributes:
        files: the files, ``.rec`` before ``.idx``.
        counts: pictures of each split.
        bad: pictures left out, and why.
        said: lines for a person.
    """

    files: tuple[Path, ...]
    counts: dict[str, int]
    bad: tuple[BadRecord, ...]
    said: tuple[str, ...]


def pack(
    data: Dataset | Source,
    out: Path,
    packing: Packing | None = None,
    *,
    parts: Sequence[Part] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> PackReport:
    """Write ``.rec`` files from labelled pictures.

    Args:
        data: what ``open_data`` found, or one source, which becomes ``train.rec``.
        out: a folder; made when it isn't there.
        parts: the pictures of each split, where they aren't all as in ``data``.
        overwrite: replace the files of an earlier packing, all of them.
        quiet: show no progress.

    Each file is written aside and renamed. Pictures that can't be read are left out and named in ``bad``. A record's
    id is the picture's number in its list, else in its source. Labels of boxes are [2, B, objects], B 6 where any
    object of the data is difficult or a crowd (which records know only as difficult), else 5.

    Raises:
        UserError: when a file is there already, no picture can be read, ``out`` can't be written, a label hasn't
            ``label_width`` numbers, or the name of a class can't be a line of ``classes.txt``.
    """
    packing = packing or Packing()
    parts = parts or whole_parts(data)
    names = data.class_names if isinstance(data, Dataset) and data.named else parts[0].source.class_names
    chunks = [chunk for part in parts for chunk in _chunks(part, packing)]
    targets = [out / f"{name}.rec" for name, _, _ in chunks]
    files = [file for target in targets for file in (target, target.with_suffix(".idx"))]
    files += [out / CLASSES_FILE] if names is not None else []
    check_class_names(names or (), parts[0].source.origin)
    _check_widths(parts, packing)
    earlier = _make_room(out, overwrite)
    width = 6 if any(has_marks(part.source) for part in parts) else 5
    job = _Job(packing, width, [], [], [], [])
    counts = dict.fromkeys((part.split for part in parts), 0)
    written: list[int] = []
    for (_, part, rows), target in zip(chunks, targets, strict=True):
        shown = track(rows.tolist(), len(rows), f"packing {target.name}", quiet=quiet)
        written.append(write_records(target, _records(part.source, shown, job)))
        counts[part.split] += written[-1]
        if not written[-1]:
            target.unlink()
            target.with_suffix(".idx").unlink()
            first = job.bad[-1]
            raise UserError(
                f"none of its {len(rows):,} pictures can be read; the last: {first.where}: {first.reason}",
                part.source.origin,
                "Look at the files: they must be pictures that Pillow opens.",
            )
    if names is not None:
        write_text(out / CLASSES_FILE, "".join(f"{name}\n" for name in names))
    for file in earlier:
        if file not in files:
            file.unlink()
    said = [
        f"{target}: {count:,} pictures, {target.stat().st_size / 1e6:,.1f} MB"
        for target, count in zip(targets, written, strict=True)
    ]
    return PackReport(tuple(files), counts, tuple(job.bad), (*said, *_told(job)))


def list_pictures(data: Dataset, out: Path, packing: Packing, parts: Sequence[Part] | None = None) -> tuple[str, ...]:
    """Write ``OUT/train.lst`` (``val.lst``, ``test.lst``; in chunks) and ``classes.txt``, as ``pack`` would order them.

    Paths are relative to the folder of the data's pictures. Returns lines for a person.

    Raises:
        UserError: when pictures have no files, and as ``pack``.
    """
    parts = parts or whole_parts(data)
    check_class_names(data.class_names if data.named else (), data.train.origin)
    chunks = [chunk for part in parts for chunk in _chunks(part, packing)]
    paths = [out / f"{name}.lst" for name, _, _ in chunks]
    for path in [*paths, out / CLASSES_FILE]:
        if path.exists():
            raise UserError("is there already", str(path), "Choose another folder, or move it away.")
    job = _Job(packing, 6 if any(has_marks(part.source) for part in parts) else 5, [], [], [], [])
    said = []
    for (_, part, rows), path in zip(chunks, paths, strict=True):
        files = innermost(part.source)
        if not isinstance(files, FileSource | BoxFileSource):
            raise UserError("its pictures lie in records, and have no path to list", part.source.origin, "Pack it.")
        lines, labels = [], _labels(part.source)
        for row in rows.tolist():
            label, _ = _label(part.source, labels, row, b"", None, job)
            lines.append(lst_line(_number(part.source, row), np.atleast_1d(label), files.files[row]))
        _make_folder(out)
        write_text(path, "".join(lines))
        said.append(f"{path}: {len(lines):,} pictures, relative to {files.root}")
    if data.named:
        write_text(out / CLASSES_FILE, "".join(f"{name}\n" for name in data.class_names))
    return tuple(said)


def whole_parts(data: Dataset | Source) -> list[Part]:
    """Every split with all of its pictures."""
    splits: dict[str, Source] = {"train": data.train} if isinstance(data, Dataset) else {"train": data}
    if isinstance(data, Dataset):
        splits |= {name: split for name, split in (("validation", data.validation), ("test", data.test)) if split}
    return [Part(split, source, np.arange(len(source), dtype=np.int64)) for split, source in splits.items()]


def has_marks(source: Source) -> bool:
    """Whether a source of boxes has difficult objects or crowds, and isn't written again as it is."""
    if not isinstance(source, BoxSource) or isinstance(source, BoxLabelSource):
        return False
    table = object_table(source)
    return bool(table.difficult.any() or table.crowd.any())


@dataclass(frozen=True)
class _Job:
    """How to pack, and where to note what is left out (``bad``) and what MXNet can't read (``foreign``).

    ``width`` is of an object in a label. Pictures are noted whose crowds became difficult objects (``crowds``), and of
    whose boxes some were left out (``cut``).
    """

    packing: Packing
    width: int
    bad: list[BadRecord]
    foreign: list[str]
    crowds: list[str]
    cut: list[str]


def _told(job: _Job) -> list[str]:
    seed = job.packing.shuffle_seed
    said = ["in the order of the data" if seed is None else f"order shuffled with seed {seed}"]
    if job.bad:
        said.append(f"left out: {len(job.bad):,} pictures; the first: {job.bad[0].where}: {job.bad[0].reason}")
    if job.crowds:
        said.append(f"crowds of {len(job.crowds):,} pictures are packed as difficult objects, e.g. {job.crowds[0]}")
    if job.cut:
        said.append(f"{len(job.cut):,} pictures have boxes with nothing in them, which are left out, e.g. {job.cut[0]}")
    if job.foreign:
        said.append(f"{len(job.foreign):,} pictures are of kinds that MXNet itself can't read, e.g. {job.foreign[0]}")
    return said


def _chunks(part: Part, packing: Packing) -> list[tuple[str, Part, NDArray[np.int64]]]:
    """Name and rows of each file of a split, in the order of the records."""
    rows = part.rows
    if packing.shuffle_seed is not None:
        rows = rows[np.random.Generator(np.random.Philox(packing.shuffle_seed)).permutation(len(rows))]
    name = SHORT[part.split]
    if packing.chunks == 1:
        return [(name, part, rows)]
    if packing.chunks > len(rows):
        told = f"{packing.chunks} chunks are more than its {len(rows):,} pictures"
        raise UserError(told, part.source.origin, "Choose fewer.", "chunks")
    size = -(-len(rows) // packing.chunks)  # as im2rec cuts them: the last one may be smaller, or missing
    starts = range(0, len(rows), size)
    return [(f"{name}_{number}", part, rows[start : start + size]) for number, start in enumerate(starts)]


def _check_widths(parts: Sequence[Part], packing: Packing) -> None:
    wanted = packing.label_width
    for part in parts:
        if isinstance(part.source, BoxSource) and not packing.all_labels:
            told = "of labels of boxes the first number alone means nothing"
            raise UserError(told, part.source.origin, "Leave --no-pack-label out.", "pack_label")
        if wanted is None:
            continue
        if isinstance(part.source, BoxSource):
            told = "labels of boxes are as long as there are objects, and label_width asks for one length"
            raise UserError(told, part.source.origin, "Leave label_width out.", "label_width")
        widths = np.diff(part.source.labels().offsets)[part.rows]
        if (widths != wanted).any():
            row = int(part.rows[int((widths != wanted).argmax())])
            found = int(widths[widths != wanted][0])
            raise UserError(
                f"{found:,} label number{'s' * (found != 1)}, and label_width is {wanted}",
                part.source.where(row),
                "Mend the label, or set label_width to what the data has.",
                "label_width",
            )


def _make_room(out: Path, overwrite: bool) -> list[Path]:
    """Make the folder; returns files of an earlier packing, which are refused unless they may be replaced.

    Any of them counts: an old val.rec beside a new train.rec would be taken for its validation data.
    """
    names = [f"{short}{chunk}{suffix}" for suffix in (".rec", ".idx") for short in _SPLITS for chunk in ("", "_[0-9]*")]
    there = [file for name in names for file in sorted(out.glob(name))]
    there += [out / CLASSES_FILE] if (out / CLASSES_FILE).exists() else []
    if there and not overwrite:
        listed = ", ".join(file.name for file in there[:10]) + (", ..." if len(there) > 10 else "")
        raise UserError(
            f"{listed} {'are' if len(there) > 1 else 'is'} there already",
            str(out),
            "Choose another folder, or overwrite them (--overwrite).",
        )
    _make_folder(out)
    return there


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"can't be made: {error.strerror}", str(out), "Choose a folder that you may write to."
        ) from error


def _records(source: Source, rows: Iterable[int], job: _Job) -> Iterator[tuple[int, bytes]]:
    """(number, payload) of each picture that can be read, in the order of ``rows``."""
    labels = _labels(source)
    for made in in_order(lambda row: _record(source, labels, row, job), rows, job.packing.threads):
        if isinstance(made, BadRecord):
            job.bad.append(made)
            continue
        number, payload, told = made
        for notes, where in told:
            notes.append(where)
        yield number, payload


def _record(
    source: Source, labels: Labels | None, row: int, job: _Job
) -> tuple[int, bytes, list[tuple[list[str], str]]] | BadRecord:
    """Number and payload of one picture, and what is to be noted of it: (list, where)."""
    where = source.where(row)
    try:
        picture = source.read(row).picture
        done = None if job.packing.encoding is None else reencode(picture, job.packing.encoding, where)
        label, told = _label(source, labels, row, picture, done, job)
        if done is None:
            read_header(picture, where)
            told += [] if picture.startswith(MXNET_READS) else [(job.foreign, where)]
    except BadPicture as error:
        return BadRecord(error.where or where, error.what)
    number = _number(source, row)
    return number, pack_record(picture if done is None else done.picture, label, number), told


def _labels(source: Source) -> Labels | None:
    """The labels of a source, None for boxes; asked once, for what is asked of a protocol takes its time."""
    return None if isinstance(source, BoxSource) else source.labels()


def _number(source: Source, row: int) -> int:
    """The number that a list gives a picture, else its row."""
    source = innermost(source)
    numbers = source.numbers if isinstance(source, FileSource) else None
    return row if numbers is None else int(numbers[row])


def _label(
    source: Source, labels: Labels | None, row: int, picture: bytes, done: Reencoded | None, job: _Job
) -> tuple[float | NDArray[np.float32], list[tuple[list[str], str]]]:
    """A record's label (one number for its header, several behind it) and what is to be noted. Raises BadPicture."""
    if labels is None:
        label, told = _box_label(cast(BoxSource, source), row, picture, done, job)
    else:
        told = []
        label = labels.values[labels.offsets[row] : labels.offsets[row + 1]]
    if len(label) == 1 or (len(label) and not job.packing.all_labels):
        return float(label[0]), told
    return label, told


def _box_label(
    source: BoxSource, row: int, picture: bytes, done: Reencoded | None, job: _Job
) -> tuple[NDArray[np.float32], list[tuple[list[str], str]]]:
    """The label of a picture with boxes, float32 [A + n * B], and what is to be noted. Raises BadPicture."""
    where = source.where(row)
    cropped = done is not None and done.cut != done.before
    if isinstance(source, BoxLabelSource) and not cropped:
        return source.stored(row), []
    stored = source.boxes(row)
    boxes, size = to_fractions(stored, picture or source.read(row).picture, where)
    if cropped:
        assert done is not None
        boxes, size = fractions_of(follow(boxes, done)), done.size
    told = [(job.crowds, where)] if boxes.crowd.any() else []
    told += [(job.cut, where)] if len(boxes.cls) < len(stored.cls) else []
    return box_label(boxes, job.width, size if job.packing.size_header else None), told
