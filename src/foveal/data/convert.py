"""Labelled pictures of one form into another.

Each picture is read, and encoded anew where that is asked for; its file (or record) is written, and a line of the
journal (``data/staging.py``) that has its label as well. From the journal alone the annotations are written at the
end, so that a conversion that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveal.data.decode import Header, read_header
from foveal.data.fractions import fractions_of, to_upright
from foveal.data.pack import MXNET_READS, has_marks
from foveal.data.recognise import CLASSES_FILE
from foveal.data.reencode import Encoding, follow, reencode
from foveal.data.selection import Choice, Classes, Part, picture_name, select
from foveal.data.staging import Container, Stage
from foveal.data.targets import Layout, check_class_names, lay_out
from foveal.data.threads import in_order
from foveal.errors import BadPicture, UserError
from foveal.files import lock, sync, write_text
from foveal.formats.boxlabels import BoxLabelSource, box_label
from foveal.formats.imagerecord import pack as pack_record
from foveal.formats.recordio import frame
from foveal.formats.write_lst import label_numbers
from foveal.formats.write_webdataset import END_OF_TAR, SHARD_BYTES, shard_name, webdataset_sample
from foveal.formats.write_yolo import write_yolo_yaml
from foveal.formats.writing import Entry, Names, suffix_of
from foveal.progress import track
from foveal.records import BadRecord, Boxes, BoxSource, Dataset

_CUT = 0.5  # pixels that a box reaches beyond its picture before it is told


@dataclass(frozen=True)
class ConvertReport:
    """What was written: pictures of each split, pictures left out and why, lines for a person."""

    form: str
    counts: dict[str, int]
    bad: tuple[BadRecord, ...]
    said: tuple[str, ...]


def convert(
    dataset: Dataset,
    out: Path,
    form: str | None = None,
    *,
    choice: Choice | None = None,
    encoding: Encoding | None = None,
    bad_records_limit: float = 0.05,
    threads: int = 1,
    quiet: bool = False,
) -> ConvertReport:
    """Write a data set in another form.

    Args:
        out: a folder; or a file whose suffix tells the form (``data/targets.py``), with its pictures beside it.
        form: a key of ``TARGETS``; None to tell it from ``out``.
        choice: which pictures, splits and classes; None for all as they are.
        encoding: how pictures are encoded anew; None keeps their bytes.
        bad_records_limit: share of the pictures, 0 to 1, that may be unreadable.
        threads: that read and encode.
        quiet: show no progress.

    Everything is written into ``OUT.partial`` and put in its place at the end; the same call goes on where an earlier
    one was stopped. ``classes.txt`` lies beside what is written where classes have names, and
    ``OUT.bad_records.jsonl`` where pictures were left out.

    Raises:
        UserError: when something lies at ``out``, the form can't express the labels, and what ``select`` raises; when
            more pictures than ``bad_records_limit`` can't be read, or none of a split.
    """
    parts, classes, said = select(dataset, choice or Choice())
    layout = lay_out(out, form, dataset.task, [part.split for part in parts])
    check_class_names(classes.names, dataset.train.origin, layout.form, dataset.task)
    job = _Job(layout, classes, encoding, max(map(_object_width, parts)))
    with lock(out.with_name(out.name + ".partial"), "it is being written by another process"):
        stage = Stage(out, _describe(job, parts))
        try:
            _check_free(out, layout, stage)
            if not stage.complete:
                _write_pictures(parts, job, stage, bad_records_limit, threads, quiet, out)
                _write_annotations(job, stage)
                stage.finish()
            counts, bad, lines = _sum_up(parts, job, stage)
            _write_bad(out, [*(each for part in _sources(parts) for each in part.source.bad), *bad])
        finally:
            stage.close()
        _put_in_place(out, layout, stage)
    said += [line for part in _sources(parts) if part.checked is not None for line in part.checked.said]
    places = [f"{out.parent / layout.base(split)}{out.suffix}" for split in counts] if layout.stem else [str(out)]
    told = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    written = [f"{', '.join(places)}: {layout.form}, {told}"]
    return ConvertReport(layout.form, counts, tuple(bad), (*said, *written, *lines))


@dataclass(frozen=True)
class _Job:
    """What is to be done with each picture; ``width``: numbers of an object in a record's label."""

    layout: Layout
    classes: Classes
    encoding: Encoding | None
    width: int


class _Task(NamedTuple):
    """One picture: its number in its split, its row in the source, and its name without suffix."""

    part: Part
    number: int
    row: int
    stem: str


class _Made(NamedTuple):
    """A picture that is ready to be written, and what is to be told of it; or why there is none (``bad``)."""

    picture: bytes
    entry: Entry | None
    bad: BadRecord | None
    told: Mapping[str, int]


def _object_width(part: Part) -> int:
    """5, or 6 where objects are difficult or crowds: numbers of an object in a record."""
    return 5 + int(has_marks(part.source))


def _sources(parts: Iterable[Part]) -> list[Part]:
    """A part for each source."""
    return list({id(part.source): part for part in parts}.values())


def _describe(job: _Job, parts: list[Part]) -> str:
    """A hash of everything that decides what is written."""
    digest = hashlib.sha256()
    encoding = None if job.encoding is None else asdict(job.encoding)
    digest.update(json.dumps([1, job.layout.form, job.layout.stem, job.classes.names, job.width, encoding]).encode())
    digest.update(job.classes.numbers.tobytes())
    for part in parts:
        digest.update(f"\0{part.split}\0{part.source.fingerprint()}\0".encode())
        digest.update(part.rows.tobytes())
    return digest.hexdigest()


def _check_free(out: Path, layout: Layout, stage: Stage) -> None:
    """Nothing that is there is overwritten; a folder without files counts as free."""
    if not layout.stem:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise _there(stage, str(out))
        return
    if stage.complete:  # some of it may lie there already
        return
    bases = [layout.base(split) for split in layout.splits]
    made = [f"{base}{suffix}" for base in bases for suffix in (out.suffix, ".idx", "_images")]
    for name in [*made, CLASSES_FILE]:
        if (out.parent / name).exists():
            raise _there(stage, str(out.parent / name))


def _there(stage: Stage, path: str) -> UserError:
    if not stage.done:
        stage.remove()
    return UserError("is there already", path, "Choose another place, or move it away: nothing is overwritten.")


def _write_pictures(
    parts: list[Part], job: _Job, stage: Stage, limit: float, threads: int, quiet: bool, out: Path
) -> None:
    total = sum(len(part.rows) for part in parts)
    bad = [_bad_of(line) for line in stage.entries() if "bad" in line]
    if len(bad) > limit * total:
        raise _too_many(bad, total, limit, out)
    folders = {part.split: stage.data / job.layout.pictures(part.split) for part in parts}
    container = Container(stage.data, stage.last) if job.layout.target.container else None
    tasks = (task for number, task in enumerate(_tasks(parts, job)) if number >= stage.done)
    made = in_order(lambda task: (task, _make(task, job)), tasks, threads)
    try:
        for task, done in track(made, total - stage.done, f"writing {job.layout.form}", quiet=quiet):
            line: dict[str, Any] = {"split": task.part.split}
            if done.entry is None:
                assert done.bad is not None
                bad.append(done.bad)
                stage.note({**line, "bad": [done.bad.where, done.bad.reason]})
                if len(bad) > limit * total:
                    _write_bad(out, bad)
                    raise _too_many(bad, total, limit, out)
                continue
            if container is not None:
                line["place"] = _append(container, done, job, task)
            else:
                _write_file(folders[task.part.split] / done.entry.file, done.picture)
            stage.note({**line, **_entry_line(done.entry), "told": dict(done.told)})
    finally:
        if container is not None:
            container.close()


def _too_many(bad: list[BadRecord], total: int, limit: float, out: Path) -> UserError:
    return UserError(
        f"{len(bad):,} of {total:,} pictures can't be read, more than {limit:.0%}; the first: {bad[0].where}: "
        f"{bad[0].reason}",
        "bad_records_limit",
        f"Mend or drop those that {_bad_file(out)} names, or raise bad_records_limit.",
        "bad_records_limit",
    )


def _tasks(parts: list[Part], job: _Job) -> Iterator[_Task]:
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
            yield _Task(part, number, row, names[within].stem(called))


def _make(task: _Task, job: _Job) -> _Made:
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
        return _Made(b"", None, BadRecord(error.where or where, error.what), {})
    file = task.stem + suffix_of(header.kind)
    if job.layout.form == "folder":
        assert isinstance(label, int)
        file = f"{job.classes.names[label]}/{file}"
    if not picture.startswith(MXNET_READS):
        told["foreign"] = 1
    group = None if part.groups is None else part.groups[row]
    depth = 1 if header.grey else 3
    entry = Entry(task.number, file, (header.width, header.height), depth, label, group, stored)
    return _Made(picture, entry, None, told)


def _label(
    task: _Task, job: _Job, picture: bytes, header: Header
) -> tuple[int | NDArray[np.float32] | Boxes, NDArray[np.float32] | None, dict[str, int]]:
    """The new label of a picture, its label in records, and counts of what is to be told. Raises BadPicture."""
    part, row = task.part, task.row
    if part.indices is not None:
        return int(part.indices[row]), None, {}
    if part.sets is not None:
        return part.sets[row], None, {}
    assert part.checked is not None and isinstance(part.source, BoxSource)
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


def _append(container: Container, done: _Made, job: _Job, task: _Task) -> list[Any]:
    assert done.entry is not None
    base = job.layout.base(task.part.split)
    if job.layout.form == "recordio":
        numbers = label_numbers(done.entry)
        single = isinstance(done.entry.label, int)
        payload = pack_record(done.picture, float(numbers[0]) if single else numbers, done.entry.number)
        return container.append(f"{base}.rec", frame(payload))
    sample = webdataset_sample(done.entry, done.picture)
    if job.layout.stem:
        return container.append(f"{base}.tar", sample)
    name = container.name if container.name.startswith(f"{base}-") else shard_name(base, 0)
    if name == container.name and container.end > SHARD_BYTES:
        name = shard_name(base, int(name[-10:-4]) + 1)
    return container.append(name, sample)


def _write_file(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _entry_line(entry: Entry) -> dict[str, Any]:
    """An entry for the journal; float32 numbers survive as JSON to the bit."""
    line: dict[str, Any] = {"number": entry.number, "file": entry.file, "size": entry.size, "depth": entry.depth}
    label = entry.label
    if isinstance(label, Boxes):
        marks = zip(label.cls.tolist(), label.values.tolist(), label.difficult, label.crowd, strict=True)
        rows = [[kind, *corners, int(difficult), int(crowd)] for kind, corners, difficult, crowd in marks]
        line |= {"boxes": rows, "unit": label.unit}
    else:
        line["label"] = label.tolist() if isinstance(label, np.ndarray) else label
    if entry.group is not None:
        line["group"] = entry.group
    if entry.stored is not None:
        line["stored"] = entry.stored.tolist()
    return line


def _entry(line: Mapping[str, Any]) -> Entry:
    """The entry of a line of the journal."""
    size = (line["size"][0], line["size"][1])
    label: Any = line.get("label")
    if "boxes" in line:
        rows = np.array(line["boxes"], dtype=np.float64).reshape(-1, 7)
        label = Boxes(
            values=rows[:, 1:5].astype(np.float32),
            cls=rows[:, 0].astype(np.int64),
            unit=line["unit"],
            of="upright",
            difficult=rows[:, 5] > 0,
            crowd=rows[:, 6] > 0,
            extra=np.zeros((len(rows), 0), dtype=np.float32),
            size=size,
        )
    elif isinstance(label, list):
        label = np.array(label, dtype=np.float32)
    stored = np.array(line["stored"], dtype=np.float32) if "stored" in line else None
    return Entry(line["number"], line["file"], size, line["depth"], label, line.get("group"), stored)


def _write_annotations(job: _Job, stage: Stage) -> None:
    """Everything but pictures, from the journal; written anew when it was begun before."""
    layout, names = job.layout, job.classes.names
    for split in layout.splits:
        lines = partial(_lines_of, stage, split)
        if not any(True for _ in lines()):
            first = next(_bad_of(line) for line in stage.entries() if line["split"] == split)
            stage.remove()
            raise UserError(
                f"none of its {split} pictures can be read; the first: {first.where}: {first.reason}",
                "",
                "Look at the files: they must be pictures that Pillow opens.",
            )
        if layout.target.write is not None:
            layout.target.write(stage.data, layout.base(split), layout.pictures(split), map(_entry, lines()), names)
        elif layout.form == "recordio":
            index = "".join(f"{line['number']}\t{line['place'][1]}\n" for line in lines())
            (stage.data / f"{layout.base(split)}.idx").write_text(index, encoding="utf-8")
        elif layout.form == "webdataset":
            _end_shards(stage, lines)
    if layout.form == "yolo":
        write_yolo_yaml(stage.data, {split: layout.pictures(split) for split in layout.splits}, names)
    if job.classes.named:
        (stage.data / CLASSES_FILE).write_bytes("".join(f"{name}\n" for name in names).encode())
    for path in stage.data.iterdir():
        if path.is_file():
            sync(path)


def _lines_of(stage: Stage, split: str) -> Iterator[dict[str, Any]]:
    return (line for line in stage.entries() if line["split"] == split and "bad" not in line)


def _end_shards(stage: Stage, lines: Callable[[], Iterator[dict[str, Any]]]) -> None:
    ends = {line["place"][0]: line["place"][2] for line in lines()}
    for name, end in ends.items():
        with (stage.data / name).open("r+b") as file:
            file.truncate(end)
            file.seek(end)
            file.write(END_OF_TAR)


def _bad_of(line: Mapping[str, Any]) -> BadRecord:
    return BadRecord(line["bad"][0], line["bad"][1])


def _sum_up(parts: list[Part], job: _Job, stage: Stage) -> tuple[dict[str, int], list[BadRecord], list[str]]:
    """Pictures of each split, those left out, and lines about what the form doesn't express."""
    counts = dict.fromkeys(job.layout.splits, 0)
    bad: list[BadRecord] = []
    told: dict[str, int] = {}
    for line in stage.entries():
        if "bad" in line:
            bad.append(_bad_of(line))
            continue
        counts[line["split"]] += 1
        for key, count in line["told"].items():
            told[key] = told.get(key, 0) + count
    lines = [f"left out: {len(bad):,} pictures; the first: {bad[0].where}: {bad[0].reason}"] if bad else []
    lines += _lost(told, job.layout)
    if job.layout.form != "csv" and any(part.groups is not None for part in parts):
        lines.append(f"{job.layout.form} has no groups: which pictures belong together is not kept")
    if job.classes.named and job.layout.form in ("recordio", "lst", "webdataset"):
        lines.append(f"{job.layout.form} holds numbers of classes; their names are in {CLASSES_FILE}")
    return counts, bad, lines


def _lost(told: Mapping[str, int], layout: Layout) -> list[str]:
    form, target = layout.form, layout.target
    lines = []
    if told.get("cut"):
        lines.append(f"{told['cut']:,} boxes that reach beyond their pictures are cut to them")
    if told.get("gone"):
        lines.append(f"{told['gone']:,} boxes that nothing is left of in their pictures are left out")
    if told.get("crowd") and not target.crowd:
        instead = "difficult objects" if target.difficult else "objects like all others"
        lines.append(f"{form} has no crowds: {told['crowd']:,} are written as {instead}")
    if told.get("difficult") and not target.difficult:
        lines.append(f"{form} has no mark for difficult objects: {told['difficult']:,} are written without it")
    if told.get("extra") and form not in ("recordio", "lst"):
        lines.append(f"{form} has no further numbers: those of the objects of {told['extra']:,} pictures are not kept")
    if told.get("empty") and form in ("recordio", "lst"):
        lines.append(
            f"{told['empty']:,} pictures have no objects: Foveal reads such records, MXNet and the original stop"
        )
    if told.get("foreign") and form == "recordio":
        lines.append(f"{told['foreign']:,} pictures are of kinds that MXNet itself can't read")
    return lines


def _bad_file(out: Path) -> Path:
    return out.with_name(out.name + ".bad_records.jsonl")


def _write_bad(out: Path, bad: list[BadRecord]) -> None:
    if bad:
        write_text(_bad_file(out), "".join(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in bad))


def _put_in_place(out: Path, layout: Layout, stage: Stage) -> None:
    if layout.stem:
        for path in sorted(stage.data.iterdir()):
            if (out.parent / path.name).exists():
                raise _there(stage, str(out.parent / path.name))
            os.rename(path, out.parent / path.name)
        sync(out.parent)
    else:
        if out.exists():
            out.rmdir()
        os.rename(stage.data, out)
        sync(out.absolute().parent)
    stage.remove()
