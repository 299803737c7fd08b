"""Labelled pictures of any form into RecordIO files, as MXNet's im2rec makes them.

OUT/train.rec  train.idx  val.rec  val.idx  test.rec  test.idx  classes.txt

Boxes become labels as MXNet's detection iterator takes them (``formats/boxlabels.py``): fractions of the upright
picture. Boxes that lie in records or a list already are written again as they are, header and all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.data.decode import decode, read_header
from foveal.data.fractions import to_fractions
from foveal.data.recognise import CLASSES_FILE
from foveal.errors import BadPicture, UserError
from foveal.files import write_text
from foveal.formats.boxfiles import object_table
from foveal.formats.boxlabels import BoxLabelSource, compose
from foveal.formats.imagerecord import pack as pack_record
from foveal.formats.pictures import short
from foveal.formats.recordio import write_records
from foveal.progress import track
from foveal.records import BadRecord, Boxes, BoxSource, Dataset, Labels, Source

_FILES = {"train": "train.rec", "validation": "val.rec", "test": "test.rec"}
# First bytes of JPEG, PNG, BMP, TIFF and the PNM family: what the OpenCV within MXNet reads
_MXNET_READS = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")


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
    *,
    resize: int | None = None,
    quality: int = 95,
    pass_through: bool = True,
    shuffle_seed: int | None = 0,
    size_header: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> PackReport:
    """Write ``.rec`` files from labelled pictures.

    Args:
        data: what ``open_data`` found, or one source, which becomes ``train.rec``.
        out: a folder; made when it isn't there.
        resize: the shorter side in pixels, aspect kept; left out, pictures keep their size.
        quality: of JPEGs that are encoded anew, 1..100.
        pass_through: keep the encoded bytes of pictures that aren't resized. Otherwise, and with ``resize``, pictures
            are turned upright and encoded anew: PNG stays PNG, all else becomes JPEG.
        shuffle_seed: of the order; None keeps the order of the data. (MXNet shuffles only within 64 MB when reading.)
        size_header: put width and height of the picture into the header of labels with boxes: [4, B, width, height].
        overwrite: replace the files of an earlier packing, all of them.
        quiet: show no progress.

    Each file is written aside and renamed. Pictures that can't be read are left out and named in ``bad``; with
    ``pass_through`` only their headers are read. A record's id is the picture's number in the source. Labels of boxes
    are [2, B, objects], B 6 where any object of the data is difficult or a crowd (which records know only as
    difficult), else 5.

    Raises:
        UserError: when a file is there already, no picture can be read, ``out`` can't be written, or the name of a
            class can't be a line of ``classes.txt``.
    """
    splits: dict[str, Source] = {"train": data.train} if isinstance(data, Dataset) else {"train": data}
    if isinstance(data, Dataset):
        splits |= {name: split for name, split in (("validation", data.validation), ("test", data.test)) if split}
    names = data.class_names if isinstance(data, Dataset) and data.named else splits["train"].class_names
    targets = [out / _FILES[name] for name in splits]
    files = [file for target in targets for file in (target, target.with_suffix(".idx"))]
    files += [out / CLASSES_FILE] if names is not None else []
    _check_names(names or (), splits["train"].origin)
    earlier = _make_room(out, overwrite)
    bad: list[BadRecord] = []
    counts: dict[str, int] = {}
    foreign: list[str] = []
    width = 6 if any(_has_marks(source) for source in splits.values()) else 5
    job = _Job(resize, quality, pass_through and resize is None, width, size_header, bad, foreign, [], [])
    for (name, source), target in zip(splits.items(), targets, strict=True):
        rows = track(_order(len(source), shuffle_seed), len(source), f"packing {target.name}", quiet=quiet)
        counts[name] = write_records(target, _records(source, rows, job))
        if not counts[name]:
            target.unlink()
            target.with_suffix(".idx").unlink()
            first = bad[-1]
            raise UserError(
                f"none of its {len(source):,} pictures can be read; the last: {first.where}: {first.reason}",
                source.origin,
                "Look at the files: they must be pictures that Pillow opens.",
            )
    if names is not None:
        write_text(out / CLASSES_FILE, "".join(f"{name}\n" for name in names))
    for file in earlier:
        if file not in files:
            file.unlink()
    said = [
        f"{target}: {counts[name]:,} pictures, {target.stat().st_size / 1e6:,.1f} MB"
        for name, target in zip(splits, targets, strict=True)
    ]
    said.append("in the order of the data" if shuffle_seed is None else f"order shuffled with seed {shuffle_seed}")
    said += [f"left out: {len(bad):,} pictures; the first: {bad[0].where}: {bad[0].reason}"] if bad else []
    if job.crowds:
        said.append(f"crowds of {len(job.crowds):,} pictures are packed as difficult objects, e.g. {job.crowds[0]}")
    if job.cut:
        said.append(f"{len(job.cut):,} pictures have boxes with nothing in them, which are left out, e.g. {job.cut[0]}")
    if foreign:
        said.append(f"{len(foreign):,} pictures are of kinds that MXNet itself can't read, e.g. {foreign[0]}")
    return PackReport(tuple(files), counts, tuple(bad), tuple(said))


@dataclass(frozen=True)
class _Job:
    """How to encode, and where to note what is left out (``bad``) and what MXNet can't read (``foreign``).

    ``width`` is of an object in a label. Pictures are noted whose crowds became difficult objects (``crowds``), and of
    whose boxes some were left out (``cut``).
    """

    resize: int | None
    quality: int
    keep_bytes: bool
    width: int
    size_header: bool
    bad: list[BadRecord]
    foreign: list[str]
    crowds: list[str]
    cut: list[str]


def _has_marks(source: Source) -> bool:
    """Whether a source of boxes has difficult objects or crowds, and isn't written again as it is."""
    if not isinstance(source, BoxSource) or isinstance(source, BoxLabelSource):
        return False
    table = object_table(source)
    return bool(table.difficult.any() or table.crowd.any())


def _check_names(names: Sequence[str], where: str) -> None:
    """Names are lines of ``classes.txt``, which is read without the blanks at their ends."""
    for name in names:
        if [line.strip() for line in name.splitlines()] != [name]:
            raise UserError(
                f"the name of the class {short(name)!r} has a line break, or blanks at its ends",
                where,
                f"{CLASSES_FILE} holds one name a line: rename the class.",
            )


def _make_room(out: Path, overwrite: bool) -> list[Path]:
    """Make the folder; returns files of an earlier packing, which are refused unless they may be replaced.

    Any of them counts: an old val.rec beside a new train.rec would be taken for its validation data.
    """
    records = [out / file for file in _FILES.values()]
    family = [*records, *(file.with_suffix(".idx") for file in records), out / CLASSES_FILE]
    there = [file for file in family if file.exists()]
    if there and not overwrite:
        raise UserError(
            f"{', '.join(file.name for file in there)} {'are' if len(there) > 1 else 'is'} there already",
            str(out),
            "Choose another folder, or overwrite them (--overwrite).",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"can't be made: {error.strerror}", str(out), "Choose a folder that you may write to."
        ) from error
    return there


def _order(length: int, seed: int | None) -> list[int]:
    if seed is None:
        return list(range(length))
    order: list[int] = np.random.Generator(np.random.Philox(seed)).permutation(length).tolist()
    return order


def _records(source: Source, rows: Iterator[int], job: _Job) -> Iterator[tuple[int, bytes]]:
    """(row, payload) of each picture that can be read, in the order of ``rows``."""
    labels = source.labels()
    for row in rows:
        where = source.where(row)
        try:
            picture = source.read(row).picture
            label = _box_label(source, row, picture, job) if isinstance(source, BoxSource) else _stored(labels, row)
            encoded = _checked(picture, where, job) if job.keep_bytes else _encoded(picture, where, job)
        except BadPicture as error:
            job.bad.append(BadRecord(error.where or where, error.what))
        else:
            yield row, pack_record(encoded, label, row)


def _stored(labels: Labels, row: int) -> float | np.ndarray[tuple[int], np.dtype[np.float32]]:
    """One label goes into the record's header, several behind it."""
    values = labels.values[labels.offsets[row] : labels.offsets[row + 1]]
    return float(values[0]) if len(values) == 1 else values


def _box_label(source: BoxSource, row: int, picture: bytes, job: _Job) -> NDArray[np.float32]:
    """The label of a picture with boxes, float32 [A + n * B]. Raises BadPicture."""
    if isinstance(source, BoxLabelSource):
        return source.stored(row)
    stored: Boxes = source.boxes(row)
    boxes, size = to_fractions(stored, picture, source.where(row))
    if boxes.crowd.any():
        job.crowds.append(source.where(row))
    if len(boxes.cls) < len(stored.cls):
        job.cut.append(source.where(row))
    marks = (boxes.difficult | boxes.crowd).astype(np.float32)[:, None]
    head = [4, job.width, *size] if job.size_header else [2, job.width]
    extra = marks if job.width > 5 else marks[:, :0]
    return compose(replace(boxes, extra=extra), np.array(head, dtype=np.float32))


def _checked(picture: bytes, where: str, job: _Job) -> bytes:
    """The same bytes, once their header has been read."""
    read_header(picture, where)
    if not picture.startswith(_MXNET_READS):
        job.foreign.append(where)
    return picture


def _encoded(picture: bytes, where: str, job: _Job) -> bytes:
    """Decoded, turned upright, resized and encoded anew; grey stays grey."""
    header = read_header(picture, where)
    pixels = decode(picture, 1 if header.grey else 3, where)
    image = Image.fromarray(pixels[:, :, 0] if header.grey else pixels)
    if job.resize is not None:
        image = image.resize(_shorter_side(image.size, job.resize), Image.Resampling.BICUBIC, reducing_gap=3.0)
    kept = io.BytesIO()
    if header.kind == "PNG":
        image.save(kept, "PNG")
    else:
        image.save(kept, "JPEG", quality=job.quality, subsampling=0)
    return kept.getvalue()


def _shorter_side(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height with the shorter of the two ``side``, the other rounded down as im2rec does, at least 1."""
    width, height = size
    if width < height:
        return side, max(1, height * side // width)
    return max(1, width * side // height), side
