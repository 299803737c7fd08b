"""Image records of one ``.rec`` file, or of several one after another, as a source of pictures.

Files are mapped into memory; what is kept of a record is its offset (8 bytes) and its labels (4 bytes each).
An ``.idx`` file isn't needed.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from foveal.errors import BadPicture, UserError
from foveal.formats.imagerecord import HEADER_BYTES, unpack
from foveal.formats.recordio import Buffer, Damage, Record, content, open_buffer, read_record, scan
from foveal.records import BadRecord, Label, Labels, Sample

_FLAG_AND_LABEL = Struct("<If")

_KINDS = {  # first bytes of files that people put in a .rec file's place
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"{": "JSON",
    b"[": "JSON",
    b"<": "XML or HTML",
}


class RecordSource:
    """Pictures from RecordIO files.

    Args:
        paths: the files, in the order in which their records are counted.
        origin: what the user named, for messages; the first file when left out.
        class_names: names in label order, when something beside the files tells them.
        channel: ``train`` or ``validation`` where the files are opened for training, for the original's messages.

    A sample's label is an int where the record holds one whole number, else float32 [k] as stored; ``key`` is
    ``train.rec@40960`` (file and byte). Damaged records are left out and named in ``bad``.

    Raises:
        UserError: when a file can't be opened, holds no record, or isn't RecordIO of pictures.
    """

    form: str = "recordio"
    groups: tuple[str, ...] | None = None

    def __init__(
        self,
        paths: Sequence[Path],
        origin: str = "",
        class_names: tuple[str, ...] | None = None,
        channel: str = "",
    ) -> None:
        self.origin = origin or str(paths[0])
        self.class_names = class_names
        self._paths = tuple(paths)
        self._buffers = tuple(open_buffer(path) for path in paths)
        bad: list[BadRecord] = []
        offsets, values, widths = array("q"), array("f"), array("i")
        self._starts = [0]  # number of the first record of each file
        for path, buffer in zip(self._paths, self._buffers, strict=True):
            _read_index(path, buffer, offsets, values, widths, bad)
            self._starts.append(len(offsets))
        self.bad = tuple(bad)
        if not len(offsets):
            raise _nothing_found(self._paths, self._buffers, bad, channel)
        self._offsets = np.frombuffer(offsets, dtype=np.int64)
        self._values = np.frombuffer(values, dtype=np.float32)
        counts = np.frombuffer(widths, dtype=np.int32)
        self._widths = None if (counts == 1).all() else counts

    def __len__(self) -> int:
        return len(self._offsets)

    def labels(self) -> Labels:
        if self._widths is None:
            return Labels(self._values, np.arange(len(self) + 1, dtype=np.int64))
        return Labels(self._values, np.concatenate([[0], np.cumsum(self._widths, dtype=np.int64)]))

    def where(self, index: int) -> str:
        """``train.rec, record 17 at byte 40960``; records are counted from 1 in each file, damaged ones left out."""
        file = self._file(index)
        return f"{self._paths[file].name}, record {index - self._starts[file] + 1} at byte {self._offsets[index]}"

    def read(self, index: int) -> Sample:
        file = self._file(index)
        buffer, offset = self._buffers[file], int(self._offsets[index])
        record = read_record(buffer, offset)
        if isinstance(record, str):
            raise BadPicture(record, self.where(index))
        image = unpack(content(buffer, record))
        if isinstance(image, str):
            raise BadPicture(image, self.where(index))
        return Sample(f"{self._paths[file].name}@{offset}", image.picture, _label(image.labels))

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


def _read_index(
    path: Path, buffer: Buffer, offsets: array[int], values: array[float], widths: array[int], bad: list[BadRecord]
) -> None:
    """Append offset, labels and number of labels of each image record; name what is none."""
    for found in scan(buffer):
        reason = found.reason if isinstance(found, Damage) else _read_labels(buffer, found, values, widths)
        if reason:
            bad.append(BadRecord(f"{path.name}, byte {found.offset}", reason))
        else:
            offsets.append(found.offset)


def _read_labels(buffer: Buffer, record: Record, values: array[float], widths: array[int]) -> str:
    """Append the labels of a record; returns what is wrong with it, or an empty text."""
    start, length = record.parts[0]
    if len(record.parts) == 1 and length >= HEADER_BYTES:  # nearly all records: no copy of the picture
        flag, label = _FLAG_AND_LABEL.unpack_from(buffer, start)
        if flag == 0:
            values.append(label)
            widths.append(1)
            return ""
        if HEADER_BYTES + 4 * flag <= length:
            first = start + HEADER_BYTES
            values.frombytes(np.frombuffer(buffer, "<f4", flag, first).astype(np.float32).tobytes())
            widths.append(flag)
            return ""
    image = unpack(content(buffer, record))
    if isinstance(image, str):
        return image
    values.frombytes(image.labels.tobytes())
    widths.append(len(image.labels))
    return ""


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
        "Unable to parse record. Please make sure input data is in correct recordio format.\n"
        f"{sizes}: {bad[0].where}: {bad[0].reason}{looks}",
        remedy="Make the file from labelled pictures with `foveal pack`.",
    )
