"""The payload of an image record: a header, labels, and the encoded picture. Little-endian.

offset         size      content
0              4         flag, uint32: how many labels follow the header; 0: the label is in the header
4              4         label, float32; counts only when flag is 0
8              8         id, uint64
16             8         id2, uint64, normally 0
24             4 * flag  labels, float32
24 + 4 * flag  rest      the encoded picture (JPEG, PNG, ...)
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveal.formats.recordio import Damage, content, open_buffer, scan

HEADER_BYTES = 24
_HEADER = struct.Struct("<IfQQ")
_LOOKED_AT = 1000  # records that tell whether a file holds image records


class ImageRecord(NamedTuple):
    """An unpacked payload: ``labels`` float32 [1] when ``flag`` is 0, else [flag]; ``picture`` the encoded file."""

    flag: int
    labels: NDArray[np.float32]
    id: int
    id2: int
    picture: bytes


def unpack(payload: bytes | memoryview) -> ImageRecord | str:
    """Take a payload apart, or say why it is no image record. The picture is the only copy that is made."""
    if len(payload) < HEADER_BYTES:
        return misfit(len(payload), 0)
    flag, label, number, number2 = _HEADER.unpack_from(payload)
    start = HEADER_BYTES + 4 * flag
    if start > len(payload):
        return misfit(len(payload), flag)
    if flag == 0:
        labels = np.array([label], dtype=np.float32)
    else:
        labels = np.frombuffer(payload, dtype="<f4", count=flag, offset=HEADER_BYTES).astype(np.float32)
    return ImageRecord(flag, labels, number, number2, bytes(payload[start:]))


def misfit(length: int, flag: int) -> str:
    """Why a payload of ``length`` bytes that begins with ``flag`` is no image record."""
    if length < HEADER_BYTES:
        return f"{length} bytes are too few for the image header, which has {HEADER_BYTES}"
    return f"{flag:,} labels are announced, the record has room for {(length - HEADER_BYTES) // 4:,}"


def pack(picture: bytes, label: float | NDArray[np.float32], number: int, number2: int = 0) -> bytes:
    """The payload of an image record, as MXNet's ``recordio.pack`` makes it.

    A plain number goes into the header (flag 0); an array goes behind it, whatever its length.
    """
    if isinstance(label, np.ndarray):
        return _HEADER.pack(len(label), 0.0, number, number2) + label.astype("<f4").tobytes() + picture
    return _HEADER.pack(0, label, number, number2) + picture


def describe(path: Path) -> Iterator[dict[str, Any]]:
    """A JSON-able line for each record of a ``.rec`` file, and for each damaged stretch, in file order.

    A record has ``offset``, ``total_bytes``, ``parts``, ``record_length`` and ``record_sha256``; in a file of image
    records also ``flag``, ``label`` (a list; what JSON can't hold as text: "nan", "inf", "-inf"), ``id``, ``id2``,
    ``payload_length`` and ``payload_sha256``. Damage, and in a file of image records a record that is none, has
    ``offset``, ``total_bytes`` and ``error``.
    """
    buffer = open_buffer(path)
    packed = holds_image_records(path)
    for found in scan(buffer, thorough=True):
        line: dict[str, Any] = {"offset": found.offset, "total_bytes": found.end - found.offset}
        if isinstance(found, Damage):
            yield {**line, "error": found.reason}
            continue
        payload = content(buffer, found)
        line |= {"parts": len(found.parts), "record_length": len(payload), "record_sha256": _sha256(payload)}
        if packed:
            image = unpack(payload)
            if isinstance(image, str):
                line["error"] = image
            else:
                line |= {
                    "flag": image.flag,
                    "label": [_jsonable(value) for value in image.labels.tolist()],
                    "id": image.id,
                    "id2": image.id2,
                    "payload_length": len(image.picture),
                    "payload_sha256": _sha256(image.picture),
                }
        yield line


def holds_image_records(path: Path) -> bool:
    """Whether at least half of the first 1,000 records of a file read as image records (in a file of none: False).

    The format does not say what its records hold: image records, or raw ones, as SageMaker's pipe mode sends them.
    """
    buffer = open_buffer(path)
    found = [each for each in islice(scan(buffer), _LOOKED_AT) if not isinstance(each, Damage)]
    fitting = sum(not isinstance(unpack(content(buffer, each)), str) for each in found)
    return fitting > 0 and 2 * fitting >= len(found)


def _jsonable(value: float) -> float | str:
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
