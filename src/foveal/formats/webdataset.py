"""WebDataset: tar files in which a picture and its label follow each other, with one name and two suffixes.

    train-000000.tar    00017.jpg  00017.cls     a class number            one of these, looked for in this order;
    train-000001.tar    00018.jpg  00018.json    ``jsonlabels``            what the first labelled picture has counts
                        00019.jpg  00019.txt     a class name              for all

The name goes up to the first dot behind the last slash. Beside ``.cls`` or a number in ``.json``, a text (``.txt``, or
``class_name`` in ``.json``) names the class where it is the same for all pictures of the class. Boxes have no one
convention among those who write shards: what is read is ``objects`` or ``annotations`` in ``.json``.

The files are uncompressed, so pictures can be read in any order: of each, its shard and place are kept (20 bytes), its
name, and its label.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import Annotation, Gathered, ObjectTable, as_name, match_objects, nothing_usable, read_json
from foveal.formats.jsonlabels import (
    Label,
    ToldNames,
    annotation_of,
    has_objects,
    kind_numbers,
    label_key,
    label_of,
    name_beside,
    number_labels,
)
from foveal.formats.keptindex import Members, identity, keep_members, kept_members
from foveal.formats.pictures import LONGEST_PATH, SUFFIXES, is_hidden, short, shown
from foveal.formats.recordio import Damage, open_buffer
from foveal.formats.tar import BLOCK, Member, Stream, scan, stream_of, walk
from foveal.progress import track
from foveal.records import BadRecord, Boxes, Labels, Line, Remark, Sample, TaskName
from foveal.storage.ranges import RangedFile, ranged_file

_LOOKED_AT = 300  # members that tell whether a tar file is a shard
_LARGEST_LABEL = 16_000_000  # bytes of a .json, .cls or .txt
_MOST_SHARDS = 100_000
_OPEN_AT_ONCE = 256  # shards: each takes a file handle, of which a process often has 1,024
_RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}")
_LABELS = ("cls", "json", "txt")
_TEACH = "A picture's label is a .cls, .json or .txt of its name, right behind or before it in the tar file."
Group = dict[str, Member]


class _Sliced(Protocol):
    """Bytes of a shard; slices of it are bytes."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


def looks_like_webdataset(path: Path) -> bool:
    """Whether an uncompressed tar file begins with pictures and labels as WebDataset has them.

    A ``.json`` of SageMaker's object detection and the numbers of a YOLO ``.txt`` are none.
    """
    ranged = ranged_file(path)
    if ranged is not None:
        return _begins_like_webdataset(stream_of(ranged))
    try:
        with path.open("rb") as file:
            return _begins_like_webdataset(file)
    except OSError:
        return False


def _begins_like_webdataset(file: Stream) -> bool:
    members = (each for each in islice(walk(file), _LOOKED_AT) if isinstance(each, Member))
    for _, group, _ in _groups(members):
        if _picture(group) is None or not any(suffix in group for suffix in _LABELS):
            continue
        if "cls" in group:
            return True
        member = group["json" if "json" in group else "txt"]
        if member.size > _LARGEST_LABEL:
            return False
        file.seek(member.start)
        return _speaks_of_label(file.read(member.size), "json" in group)
    return False


def expand_shards(path: Path) -> tuple[Path, ...]:
    """The files that a name with a range of numbers means: ``train-{000..009}.tar``; () for a name without one.

    Raises:
        UserError: for a range that is empty or means more than 100,000 files.
    """
    match = _RANGE.search(path.name)
    if match is None:
        return ()
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + _MOST_SHARDS:
        raise UserError(
            f"the range {match[0]} means {max(0, last - first + 1):,} files",
            str(path),
            f"A range goes up, and has at most {_MOST_SHARDS:,} numbers.",
        )
    width = len(match[1])
    names = (
        f"{path.name[: match.start()]}{each:0{width}}{path.name[match.end() :]}" for each in range(first, last + 1)
    )
    return tuple(path.with_name(name) for name in names)


def read_webdataset(
    paths: Sequence[Path],
    *,
    origin: str = "",
    class_names: tuple[str, ...] | None = None,
    task: TaskName | None = None,
) -> tuple[ShardSource, tuple[Line, ...]]:
    """Read the headers and labels of shards; their pictures are counted in the order of ``paths``.

    Args:
        class_names: names in label order. Left out, the names that stand beside the numbers, or the labels', sorted.
        task: what the pictures are to carry. Left out, boxes where the first label has objects.

    Returns:
        The source (a ``BoxShardSource`` for boxes), and lines that tell what was found and left out.

    Damaged stretches, pictures without a label and labels that can't be read are left out and named in ``bad``.

    Raises:
        UserError: when nothing can be used, and for labels that can't be meant, and classes not among ``class_names``.
    """
    reading = _Reading(task)
    starts, cut = [0], []
    for path in track(paths, len(paths), "reading the headers of shards"):
        if not _read_shard(path, reading):
            cut.append(path.name)
        starts.append(len(reading.offsets))
    if not len(reading.offsets):
        raise nothing_usable(
            paths[0] if len(paths) == 1 else paths[0].parent, len(reading.bad), reading.bad, "pictures"
        )
    index = _Index(tuple(paths), starts, reading)
    said = _said(reading, cut)
    if reading.kind != "boxes":
        known = class_names if class_names is not None else reading.told.names()
        labels, names = number_labels(reading.labels, index.where, known)
        return ShardSource(origin or str(paths[0]), index, labels, names, reading.bad), said
    numbers, names = kind_numbers(list(reading.gathered.kinds), origin or str(paths[0]))
    objects, names = match_objects(reading.gathered.table(numbers, "pixel"), names, class_names, index.where)
    return BoxShardSource(origin or str(paths[0]), index, objects, names, reading.bad), said


class _Reading:
    """What the shards have come to so far."""

    def __init__(self, task: TaskName | None) -> None:
        self.task = task
        self.kind = "boxes" if task == "boxes" else ""  # or the suffix that holds the labels
        self.offsets, self.sizes = array("q"), array("q")
        self.names, self.ends = bytearray(), array("q")
        self.labels: list[Label] = []
        self.gathered = Gathered()
        self.told = ToldNames()
        self.bad: list[BadRecord] = []
        self.others = 0  # labels without a picture
        self._same: dict[str, str] = {}

    def add(self, picture: Member, label: Label | Annotation) -> None:
        if isinstance(label, Annotation):
            self.gathered.add(label)
        else:
            self.labels.append(self._same.setdefault(label, label) if isinstance(label, str) else label)
        self.offsets.append(picture.start)
        self.sizes.append(picture.size)
        self.names += picture.name.encode("utf-8", "surrogateescape")
        self.ends.append(len(self.names))


class _Index:
    """Where the pictures lie: 16 bytes each, and their names."""

    def __init__(self, paths: tuple[Path, ...], starts: list[int], reading: _Reading) -> None:
        self.paths = paths
        self.starts = starts  # number of the first picture of each shard
        self.offsets = np.frombuffer(reading.offsets, dtype=np.int64)
        self.sizes = np.frombuffer(reading.sizes, dtype=np.int64)
        self.names = bytes(reading.names)
        self.ends = np.frombuffer(reading.ends, dtype=np.int64)
        self.buffer = lru_cache(_OPEN_AT_ONCE)(lambda shard: open_buffer(paths[shard]))

    def shard(self, index: int) -> int:
        if not 0 <= index < len(self.offsets):
            raise IndexError(index)
        return bisect_right(self.starts, index) - 1

    def name(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return self.names[start : int(self.ends[index])].decode("utf-8", "surrogateescape")

    def where(self, index: int) -> str:
        path = self.paths[self.shard(index)]
        return shown(f"{path.name}, {self.name(index)} at byte {self.offsets[index]}")


class ShardSource:
    """Pictures in tar files. ``key`` is ``train-000.tar/00017.jpg``."""

    form: str = "webdataset"
    groups: tuple[str, ...] | None = None

    def __init__(
        self, origin: str, index: _Index, labels: Labels, names: tuple[str, ...] | None, bad: Sequence[BadRecord]
    ) -> None:
        self.origin = origin
        self.class_names = names
        self.bad = tuple(bad)
        self._index = index
        self._labels = labels

    def __len__(self) -> int:
        return len(self._index.offsets)

    @property
    def shards(self) -> tuple[int, ...]:
        """Pictures of each shard."""
        return tuple(end - start for start, end in pairwise(self._index.starts))

    @property
    def ranged(self) -> int:
        """Bytes of the shards that are read through ranges from a store."""
        return sum(len(file) for file in map(ranged_file, self._index.paths) if file is not None)

    def labels(self) -> Labels:
        return self._labels

    def where(self, index: int) -> str:
        """``train-000.tar, 00017.jpg at byte 1536``."""
        return self._index.where(index)

    def read(self, index: int) -> Sample:
        values = self._labels.values[self._labels.offsets[index] : self._labels.offsets[index + 1]]
        whole = len(values) == 1 and float(values[0]).is_integer()
        return Sample(self._key(index), self._picture(index), int(values[0]) if whole else values)

    def fingerprint(self) -> str:
        """SHA-256 over names and sizes of the shards, names and places of the pictures, and labels."""
        digest = hashlib.sha256()
        index = self._index
        for path, start in zip(index.paths, index.starts, strict=False):
            digest.update(f"{path.name}\0{start}\0".encode("utf-8", "surrogateescape"))
        digest.update(index.names)
        for numbers in (index.ends, index.offsets, index.sizes, self._labels.values, self._labels.offsets):
            digest.update(numbers.tobytes())
        return digest.hexdigest()

    def _key(self, index: int) -> str:
        return shown(f"{self._index.paths[self._index.shard(index)].name}/{self._index.name(index)}")

    def _picture(self, index: int) -> bytes:
        start, size = int(self._index.offsets[index]), int(self._index.sizes[index])
        try:
            shard = self._index.buffer(self._index.shard(index))
        except UserError as error:
            raise BadPicture(error.what, error.where, error.remedy) from error
        content = bytes(shard[start : start + size])
        if len(content) < size:
            raise BadPicture("the shard is shorter than when it was opened", self.where(index))
        return content


class BoxShardSource(ShardSource):
    """Pictures in tar files, with boxes."""

    def __init__(
        self, origin: str, index: _Index, objects: ObjectTable, names: tuple[str, ...] | None, bad: Sequence[BadRecord]
    ) -> None:
        super().__init__(origin, index, Labels(objects.ids, objects.offsets), names, bad)
        self.objects = objects

    def boxes(self, index: int) -> Boxes:
        return self.objects.boxes(index)

    def read(self, index: int) -> Sample:
        return Sample(self._key(index), self._picture(index), self.boxes(index))

    def fingerprint(self) -> str:
        """As for any shards, and the boxes."""
        digest = hashlib.sha256(super().fingerprint().encode())
        for numbers in (self.objects.values, self.objects.difficult, self.objects.crowd, self.objects.sizes):
            digest.update(numbers.tobytes())
        return digest.hexdigest()


class _Noted:
    """A shard in a store of which is kept what was read beside its pictures."""

    def __init__(self, file: RangedFile, kept: Members | None) -> None:
        self.read = kept or Members()
        self.more = kept is None  # than what is kept
        self._file = file

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, _ = wanted.indices(len(self))
        text = self.read.texts.get(start, b"")
        if len(text) != stop - start:
            text = self.read.texts[start] = self._file[start:stop]
            self.more = True
        return text

    def scan(self) -> Iterator[Member | Damage]:
        if self.read.found:
            yield from self.read.found
            return
        for found in scan(self._file):
            self.read.found.append(found)
            yield found


def _read_shard(path: Path, reading: _Reading) -> bool:
    """Returns whether the shard has an end mark, or is empty."""
    buffer = open_buffer(path)
    if isinstance(buffer, RangedFile):
        of = identity(path)
        noted = _Noted(buffer, kept_members(path, of))
        _read_members(path, noted.scan(), noted, reading)
        ended = _has_end(noted)
        if noted.more:
            keep_members(path, noted.read, of)
        return ended
    _read_members(path, scan(buffer), buffer, reading)
    return _has_end(buffer)


def _has_end(buffer: _Sliced) -> bool:
    return not len(buffer) or not bytes(buffer[-BLOCK:]).strip(b"\0")


def _read_members(path: Path, stored: Iterable[Member | Damage], buffer: _Sliced, reading: _Reading) -> None:
    def members() -> Iterator[Member]:
        for found in stored:
            if isinstance(found, Member):
                yield found
            else:
                reading.bad.append(BadRecord(f"{path.name}, byte {found.offset}", found.reason))

    for name, group, twice in _groups(members()):
        picture = _picture(group)
        if picture is None:
            reading.others += any(suffix in group for suffix in _LABELS)
            continue
        where = shown(f"{path.name}, {short(name, LONGEST_PATH)} at byte {picture.start}")
        try:
            if twice:
                raise BadPicture("two members have one name", where)
            label = _label(group, buffer, where, reading)
        except BadPicture as error:
            reading.bad.append(BadRecord(where, error.what))
        else:
            reading.add(picture, label)


def _label(group: Group, buffer: _Sliced, where: str, reading: _Reading) -> Label | Annotation:
    """The label of one picture; the first one tells where the labels of all are. Raises BadPicture."""
    record: dict[str, Any] = {}
    if "json" in group:
        content = read_json(_text(group, "json", buffer, where).encode(), where)
        record = content if isinstance(content, dict) else {"label": content}
    reading.kind = reading.kind or _kind(group, record, reading.task)
    if reading.kind == "boxes":
        annotation = annotation_of(record, where)
        if annotation is None:
            raise BadPicture("it has no .json with objects", where)
        return annotation
    if not reading.kind or reading.kind not in group:
        raise BadPicture(
            f"it has no {' or '.join('.' + each for each in _LABELS if reading.kind in ('', each))}", where
        )
    if reading.kind == "json":
        key = label_key(record)
        if key is None:
            raise BadPicture("its .json has no label", where)
        label = label_of(record[key], where)
        reading.told.add(label, name_beside(record, key))
        return label
    text = _text(group, reading.kind, buffer, where).strip()
    if not text:
        raise BadPicture(f"its .{reading.kind} is empty", where)
    if reading.kind == "txt":
        return text
    if re.fullmatch(r"[+-]?\d{1,9}", text) is None:
        remedy = "A .cls holds a whole number from 0; names of classes belong into .txt."
        raise UserError(f"the label {short(text)!r} is no class number", where, remedy)
    beside = as_name(_text(group, "txt", buffer, where)) if "txt" in group else name_beside(record, "")
    reading.told.add(int(text), beside)
    return int(text)


def _kind(group: Group, record: dict[str, Any], task: TaskName | None) -> str:
    if task is None and has_objects(record):
        return "boxes"
    if "cls" in group:
        return "cls"
    return "json" if label_key(record) is not None else "txt" if "txt" in group else ""


def _said(reading: _Reading, cut: Sequence[str]) -> tuple[Line, ...]:
    said: list[Line] = [f"labels by {'the objects in .json' if reading.kind == 'boxes' else '.' + reading.kind}"]
    if reading.others:
        said.append(Remark("passed-over", f"left out: {reading.others:,} labels without a picture"))
    if cut:
        said.append(f"without an end mark, and maybe cut short: {len(cut):,} shards, e.g. {cut[0]}")
    return tuple(said)


def _groups(members: Iterable[Member]) -> Iterator[tuple[str, Group, bool]]:
    """Files that follow each other and have a name in common, by their suffixes, and whether one of these came twice.

    Hidden files are left out.
    """
    name: str | None = None
    group: Group = {}
    twice = False
    for member in members:
        if member.kind != "file" or any(map(is_hidden, member.name.split("/"))):
            continue
        key, suffix = _split(member.name)
        if key != name and group:
            yield str(name), group, twice
            group, twice = {}, False
        name = key
        twice = twice or suffix in group
        group.setdefault(suffix, member)
    if group:
        yield str(name), group, twice


def _split(name: str) -> tuple[str, str]:
    """The name up to the first dot of its last part, and the rest in lower case."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _picture(group: Group) -> Member | None:
    return next((group[suffix] for suffix in group if f".{suffix}" in SUFFIXES), None)


def _text(group: Group, suffix: str, buffer: _Sliced, where: str) -> str:
    member = group[suffix]
    if member.size > _LARGEST_LABEL:
        raise BadPicture(f"its .{suffix} has {member.size:,} bytes, too many for a label", where)
    try:
        return bytes(buffer[member.start : member.start + member.size]).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadPicture(f"its .{suffix} isn't UTF-8 text", where) from error


def _speaks_of_label(content: bytes, is_json: bool) -> bool:
    if is_json:
        try:
            record = read_json(content, "")
        except BadPicture:
            return False
        if not isinstance(record, dict):
            return True
        return (label_key(record) is not None or has_objects(record)) and "image_size" not in record
    fields = content.split()
    return bool(fields) and not (len(fields) >= 5 and all(re.fullmatch(rb"[-+.\deE]+", each) for each in fields))
