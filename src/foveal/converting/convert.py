"""Labelled pictures of one form into another.

Each picture is read, and encoded anew where that is asked for; its file (or record) is written, and a line of the
journal (``converting/staging.py``) that has its label as well. From the journal alone the annotations are written at
the end, so that a conversion that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from foveal.converting.pack import has_marks
from foveal.converting.reencode import Encoding
from foveal.converting.remake import Job, Made, Task, remake, tasks
from foveal.converting.selection import Choice, Part, select
from foveal.converting.staging import Container, Stage, entry_line, entry_of
from foveal.converting.targets import Layout, check_class_names, lay_out
from foveal.data.recognise import CLASSES_FILE
from foveal.data.threads import in_order
from foveal.errors import UserError
from foveal.files import lock, sync, write_text
from foveal.formats.imagerecord import pack as pack_record
from foveal.formats.recordio import frame
from foveal.formats.write_lst import label_numbers
from foveal.formats.write_webdataset import END_OF_TAR, SHARD_BYTES, shard_name, webdataset_sample
from foveal.formats.write_yolo import write_yolo_yaml
from foveal.progress import track
from foveal.records import BadRecord, Dataset


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
    prefix: str = "",
) -> ConvertReport:
    """Write a data set in another form.

    Args:
        out: a folder; or a file whose suffix tells the form (``converting/targets.py``), with its pictures beside it.
        form: a key of ``TARGETS``; None to tell it from ``out``.
        choice: which pictures, splits and classes; None for all as they are.
        encoding: how pictures are encoded anew; None keeps their bytes.
        bad_records_limit: share of the pictures, 0 to 1, that may be unreadable.
        threads: that read and encode.
        quiet: show no progress.
        prefix: the address that the pictures will be copied to (``s3://bucket/photos/``), which manifests then name.

    Everything is written into ``OUT.partial`` and put in its place at the end; the same call goes on where an earlier
    one was stopped. ``classes.txt`` lies beside what is written where classes have names, and
    ``OUT.bad_records.jsonl`` where pictures were left out.

    Raises:
        UserError: when something lies at ``out``, the form can't express the labels, and what ``select`` raises; when
            more pictures than ``bad_records_limit`` can't be read, or none of a split.
    """
    parts, classes, said = select(dataset, choice or Choice())
    layout = lay_out(out, form, dataset.task, [part.split for part in parts], prefix)
    check_class_names(classes.names, dataset.train.origin, layout.form, dataset.task)
    job = Job(layout, classes, encoding, max(map(_object_width, parts)))
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


def _object_width(part: Part) -> int:
    """5, or 6 where objects are difficult or crowds: numbers of an object in a record."""
    return 5 + int(has_marks(part.source))


def _sources(parts: Iterable[Part]) -> list[Part]:
    """A part for each source."""
    return list({id(part.source): part for part in parts}.values())


def _describe(job: Job, parts: list[Part]) -> str:
    """A hash of everything that decides what is written."""
    digest = hashlib.sha256()
    encoding = None if job.encoding is None else asdict(job.encoding)
    where = (job.layout.form, job.layout.stem, job.layout.prefix)
    digest.update(json.dumps([1, *where, job.classes.names, job.width, encoding]).encode())
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
    parts: list[Part], job: Job, stage: Stage, limit: float, threads: int, quiet: bool, out: Path
) -> None:
    total = sum(len(part.rows) for part in parts)
    bad = [_bad_of(line) for line in stage.entries() if "bad" in line]
    if len(bad) > limit * total:
        raise _too_many(bad, total, limit, out)
    folders = {part.split: stage.data / job.layout.pictures(part.split) for part in parts}
    container = Container(stage.data, stage.last) if job.layout.target.container else None
    waiting = (task for number, task in enumerate(tasks(parts, job)) if number >= stage.done)
    made = in_order(lambda task: (task, remake(task, job)), waiting, threads)
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
            stage.note({**line, **entry_line(done.entry), "told": dict(done.told)})
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


def _append(container: Container, done: Made, job: Job, task: Task) -> list[Any]:
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


def _write_annotations(job: Job, stage: Stage) -> None:
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
            layout.target.write(stage.data, layout.base(split), layout.named(split), map(entry_of, lines()), names)
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


def _sum_up(parts: list[Part], job: Job, stage: Stage) -> tuple[dict[str, int], list[BadRecord], list[str]]:
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
    if job.layout.prefix:
        folders = ", ".join(job.layout.pictures(split) for split in counts)
        lines.append(f"pictures are named below {job.layout.prefix}: copy {folders} there")
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
