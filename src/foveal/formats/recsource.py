"""Image records of one ``.rec`` file, or of several one after another, as a source of pictures.

Files are mapped into memory; what is kept of a record is its offset (8 bytes) and its labels (4 bytes each).
An ``.idx`` file isn't needed; it is read where it is asked for. Of a large file the index is kept (``keptindex``).
Of an object that is read through ranges each part is read once for its index, and again when its pictures are.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.errors import BadPicture, UserError
from foveal.formats.idx import read_listed
from foveal.formats.imagerecord import HEADER_BYTES, misfit, unpack
from foveal.formats.keptindex import Index, identity, keep, kept
from foveal.formats.recordio import (
    HEAD_BYTES,
    MAPPED,
    Buffer,
    Damage,
    Fetch,
    Record,
    Run,
    content,
    fetching,
    let_go,
    open_buffer,
    payload,
    records,
)
from foveal.progress import track
from foveal.records import BadRecord, Label, Labels, Sample
from foveal.storage.ranges import RangedFile

_FLAG_AND_LABEL = np.dtype([("flag", "<u4"), ("label", "<f4")])  # as an image record begins
assert _FLAG_AND_LABEL.itemsize == HEAD_BYTES
_AROUND = 128 << 10  # bytes that the system may map around those that are touched
_TICK = 1_000_000  # bytes: progress counts megabytes
_MOST_BAD = 100_000  # records; where more are unreadable than readable, that is told at once

_NO_RECORDIO = "Unable to parse record. Please make sure input data is in correct recordio format."  # the original's
_MEND = "Make the file from labelled pictures with `foveal pack`."
_KINDS = {  # first bytes of files that people put in a .rec file's place
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"{": "JSON",
    b"[": "JSON",
    b"<": "XML or HTML",
}

Stored = Run | Record | Damage


class RecordSource:
    """Pictures from RecordIO files.

    Args:
        paths: the files, in the order in which their records are counted.
        origin: what the user named, for messages; the first file when left out.
        class_names: names in label order, when something beside the files tells them.
        channel: ``train`` or ``validation`` where the files are opened for training, for the original's messages.
        idx: read only the records that the ``.idx`` file beside each file lists, in the order of the file.

    A sample's label is an int where the record holds one whole number, else float32 [k] as stored; ``key`` is
    ``train.rec@40960`` (file and byte). Damaged records are left out and named in ``bad``.

    Raises:
        UserError: when a file can't be opened, holds no record, or isn't RecordIO of pictures; and when an ``.idx``
            file is asked for and is missing or wrong.
    """

    form: str = "recordio"
    groups: tuple[str, ...] | None = None

    def __init__(
        self,
        paths: Sequence[Path],
        origin: str = "",
        class_names: tuple[str, ...] | None = None,
        channel: str = "",
        idx: bool = False,
    ) -> None:
        self.origin = origin or str(paths[0])
        self.class_names = class_names
        self._paths = tuple(paths)
        self._buffers = tuple(open_buffer(path) for path in paths)
        self._views = tuple(each if isinstance(each, RangedFile) else memoryview(each) for each in self._buffers)
        self._all_mapped = sum(map(len, self._buffers)) <= MAPPED
        self._mapped = 0  # bytes since the files were let go of, about
        index = Index()
        self._starts = [0]  # number of the first record of each file
        for path, buffer in zip(self._paths, self._buffers, strict=True):
            index.add(_read_index(path, buffer, idx))
            self._starts.append(len(index.offsets))
        self.bad = tuple(index.bad)
        if not len(index.offsets):
            raise _nothing_found(self._paths, self._buffers, self.bad, channel)
        self._offsets = np.frombuffer(index.offsets, dtype=np.int64)
        self._values = np.frombuffer(index.values, dtype="<f4").astype(np.float32, copy=False)
        counts = np.frombuffer(index.widths, dtype=np.int32)
        self._widths = None if (counts == 1).all() else counts

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def shards(self) -> tuple[int, ...]:
        """Records of each file."""
        return tuple(end - start for start, end in pairwise(self._starts))

    @property
    def ranged(self) -> int:
        """Bytes of the files that are read through ranges from a store."""
        return sum(len(buffer) for buffer in self._buffers if isinstance(buffer, RangedFile))

    def labels(self) -> Labels:
        if self._widths is None:
            return Labels(self._values, np.arange(len(self) + 1, dtype=np.int64))
        return Labels(self._values, np.concatenate([[0], np.cumsum(self._widths, dtype=np.int64)]))

    def where(self, index: int) -> str:
        """``train.rec, record 17 at byte 40960``; records are counted from 1 in each file, damaged ones left out."""
        file = self._file(index)
        return f"{self._paths[file].name}, record {index - self._starts[file] + 1} at byte {self._offsets[index]}"

    def payload(self, index: int) -> memoryview:
        """A record's bytes, image header and labels included; a view into the mapped file wherever it is in one piece.

        Raises BadPicture when no record starts there any more.
        """
        file = self._file(index)
        found = payload(self._views[file], self._offsets.item(index))
        if isinstance(found, str):
            raise BadPicture(found, self.where(index))
        if not self._all_mapped:
            self._mapped += len(found) + _AROUND
            if self._mapped > MAPPED:
                self._mapped = 0
                for buffer in self._buffers:
                    let_go(buffer)
        return found

    def read(self, index: int) -> Sample:
        image = unpack(self.payload(index))
        if isinstance(image, str):
            raise BadPicture(image, self.where(index))
        key = f"{self._paths[self._file(index)].name}@{self._offsets.item(index)}"
        return Sample(key, image.picture, _label(image.labels))

    def fingerprint(self) -> str:
        """SHA-256 over names and sizes of the files, offsets and labels."""
        digest = hashlib.sha256()
        for path, buffer in zip(self._paths, self._buffers, strict=True):
            digest.update(f"{path.name}\0{len(buffer)}\0".encode())
        labels = self.labels()
        for numbers in (self._offsets, labels.values, labels.offsets):
            digest.update(numbers.tobytes())
        return digest.hexdigest()

    def _file(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return bisect_right(self._starts, index) - 1


def _label(values: NDArray[np.float32]) -> Label:
    if len(values) == 1 and float(values[0]).is_integer():
        return int(values[0])
    return values


def _read_index(path: Path, buffer: Buffer, idx: bool) -> Index:
    """The image records of a file, and what is none."""
    with fetching(path, buffer) as fetch:
        before = None if idx else identity(path)
        known = kept(path, fetch, before)
        if known is not None:
            return known
        index = Index()
        stored = read_listed(path.with_suffix(".idx"), buffer, fetch) if idx else records(buffer, fetch)
        for found in _told(stored, path.name, len(buffer)) if isinstance(buffer, RangedFile) else stored:
            if isinstance(found, Run):
                _add_run(path, fetch, found, index)
            elif isinstance(found, Record):
                _add_record(path, found.offset, content(buffer, found), index)
            else:
                index.bad.append(BadRecord(f"{path.name}, byte {found.offset}", found.reason))
            if len(index.bad) > max(_MOST_BAD, len(index.offsets)):
                first = index.bad[0]
                raise UserError(
                    f"{_NO_RECORDIO}\n{path}: over {_MOST_BAD:,} records can't be read, more than can be; the first: "
                    f"{first.where}: {first.reason}",
                    remedy=_MEND,
                )
    keep(path, index, before)
    return index


def _told(stored: Iterator[Stored], name: str, size: int) -> Iterator[Stored]:
    """Pass on what is found in a file that takes long to be read, and show how far that is."""
    ticks = track(range(size // _TICK), size // _TICK, f"reading {name} (MB)")
    done = 0
    for found in stored:
        yield found
        reached = int(found.offsets[-1]) if isinstance(found, Run) else found.end
        for _ in range(done, reached // _TICK):
            next(ticks, None)
        done = max(done, reached // _TICK)
    for _ in ticks:
        pass


def _add_run(path: Path, fetch: Fetch, run: Run, index: Index) -> None:
    heads = np.frombuffer(run.heads, _FLAG_AND_LABEL)
    flags = heads["flag"].astype(np.int64)
    fits = run.lengths >= HEADER_BYTES + 4 * flags
    if fits.all() and not flags.any():  # nearly always
        index.offsets.frombytes(run.offsets.tobytes())
        index.values += heads["label"].tobytes()
        index.widths.frombytes(np.ones(len(flags), np.int32).tobytes())
        return
    labels = heads["label"].tobytes()
    for row, (offset, flag) in enumerate(zip(run.offsets.tolist(), flags.tolist(), strict=True)):
        if not fits[row]:
            index.bad.append(BadRecord(f"{path.name}, byte {offset}", misfit(int(run.lengths[row]), flag)))
            continue
        index.offsets.append(offset)
        index.values += fetch(4 * flag, offset + 8 + HEADER_BYTES) if flag else labels[4 * row : 4 * row + 4]
        index.widths.append(flag or 1)


def _add_record(path: Path, offset: int, stored: bytes, index: Index) -> None:
    image = unpack(stored)
    if isinstance(image, str):
        index.bad.append(BadRecord(f"{path.name}, byte {offset}", image))
        return
    index.offsets.append(offset)
    index.values += image.labels.astype("<f4").tobytes()
    index.widths.append(len(image.labels))


def _nothing_found(
    paths: Sequence[Path], buffers: Sequence[Buffer], bad: Sequence[BadRecord], channel: str
) -> UserError:
    """What to tell when no record could be read; the first lines are the original's (reference 1.1)."""
    sizes = ", ".join(f"{path} ({len(buffer):,} bytes)" for path, buffer in zip(paths, buffers, strict=True))
    if not bad:
        remedy = "Look whether the step that packs the pictures wrote any: `foveal pack` names what it left out."
        if not channel:
            return UserError("it holds no record", sizes, remedy)
        return UserError(f"Unable to start training. Empty .rec file in {channel} channel.\n{sizes}", remedy=remedy)
    starts = [bytes(buffer[:4]) for buffer in buffers if len(buffer)]
    kind = next((kind for first, kind in _KINDS.items() if starts[0].startswith(first)), "")
    looks = f"; the file looks like {kind}" if kind else ""
    return UserError(
        f"{_NO_RECORDIO}\n{sizes}: {bad[0].where}: {bad[0].reason}{looks}",
        remedy=_MEND,
    )
