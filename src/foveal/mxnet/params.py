"""MXNet's ``.params`` files: named arrays, as ``mx.nd.save`` and ``mx.npx.save`` write them.

All numbers are little-endian:

    file    u64 0x112 | u64 reserved | u64 arrays | array ... | u64 names (0 or as many as arrays) | name ...
    name    u64 length | UTF-8 bytes
    array   u32 magic | i32 storage (0 dense) | shape | i32 device type | i32 device id | i32 dtype | data
    shape   i32 dimensions | i64 each

The magic is F993FAC9 (V2, MXNet 1.0 to 1.9) or F993FACA (V3: numpy's shapes, where no dimension means a scalar; in
V2 it means "no array"). The older layouts V0 and V1 and sparse arrays are refused. Checkpoints name their arrays
``arg:<name>`` (parameters) and ``aux:<name>`` (moving statistics); the names are kept as stored.

Nothing is allocated on the word of the file alone: each count and size is held against the bytes that are left.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
MAX_DIMENSIONS = 32  # numpy 1's bound; MXNet's own arrays have at most 6 to 8
DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8", "?")  # by MXNet 1.9.1's type flag
REMEDY = "The file is damaged, or no .params file: copy it again, or save it again with MXNet 1.x."

Array = NDArray[Any]


def read_params(path: str | Path) -> dict[str, Array]:
    """Read all arrays of a ``.params`` file.

    Args:
        path: a file in which every array is V2 or V3 and dense.

    Returns:
        Arrays by name, in the file's order; "0", "1", ... when it stores no names. Each owns its memory, in the
        stored dtype (float16, 32, 64, uint8, int8, 32, 64 or bool) and little-endian byte order.

    Raises:
        UserError: when the file is missing, damaged, sparse, of an older layout, or names an array twice.
    """
    with _mapped(Path(path)) as content:
        return _Reader(content, Path(path)).all()


def _mapped(file: Path) -> mmap.mmap:
    try:
        with file.open("rb") as opened:
            if opened.seek(0, 2) == 0:
                raise UserError("the file is empty", str(file), REMEDY)
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: no regular file
        raise UserError(f"cannot be read: {error}", str(file), "Give the path of a .params file.") from error


class _Reader:
    """A place in the file, moved forward by every read and never past the end."""

    def __init__(self, content: mmap.mmap, file: Path) -> None:
        self.content = content
        self.file = file
        self.at = 0

    def all(self) -> dict[str, Array]:
        magic = self.number("<Q", "the list magic")
        if magic != LIST_MAGIC:
            raise UserError(
                f"starts with {magic:#x} where {LIST_MAGIC:#x} marks a .params file", str(self.file), REMEDY
            )
        self.number("<Q", "the reserved word")
        count = self.number("<Q", "the number of arrays")
        # No list of `count` places is made: a false count ends at the first array that is not there.
        arrays: list[Array] = []
        while len(arrays) < count:
            arrays.append(self.array(f"array {len(arrays) + 1} of {count}"))
        named = self.number("<Q", "the number of names")
        if named not in (0, count):
            raise self.broken(f"{named} names for {count} arrays")
        names = [self.name(i) for i in range(named)] if named else [str(i) for i in range(count)]
        if self.at != len(self.content):
            raise self.broken(f"{len(self.content) - self.at} bytes after the last name")
        found: dict[str, Array] = {}
        for name, array in zip(names, arrays, strict=True):
            if name in found:
                raise self.broken(f"two arrays are named {name!r}")
            found[name] = array
        return found

    def array(self, what: str) -> Array:
        magic = self.number("<I", f"{what}, magic")
        if magic not in (V2, V3):
            raise self.other_layout(magic, what)
        storage = self.number("<i", f"{what}, storage type")
        if storage in (1, 2):
            kind = ("row_sparse", "csr")[storage - 1]
            raise UserError(
                f"{what} is sparse ({kind})",
                str(self.file),
                "Only dense arrays are read: store it with `array.tostype('default')`.",
            )
        if storage != 0:
            raise self.broken(f"{what}: unknown storage type {storage}")
        shape = self.shape(what, scalar=magic == V3)
        self.number("<q", f"{what}, device")  # where the array lay: type and id, of no use here
        flag = self.number("<i", f"{what}, type flag")
        if not 0 <= flag < len(DTYPES):
            raise self.broken(f"{what}: unknown type flag {flag}")
        dtype = np.dtype(DTYPES[flag])
        # Empty arrays have no bytes, so their other dimensions are held to what numpy can address.
        if math.prod(max(d, 1) for d in shape) * dtype.itemsize >= 1 << 62:
            raise self.broken(f"{what}: no array can have the shape {shape}")
        size = math.prod(shape)
        start = self.skip(size * dtype.itemsize, f"{what}, shape {shape}, {dtype.name}")
        # A view cannot start at the very end of the file, where an empty array may lie.
        view = np.frombuffer(self.content, dtype, size, start) if size else np.empty(0, dtype)
        return view.reshape(shape).copy()

    def shape(self, what: str, scalar: bool) -> tuple[int, ...]:
        dimensions = self.number("<i", f"{what}, number of dimensions")
        if dimensions == 0 and not scalar:
            raise self.broken(f"{what} is no array (0 dimensions)")
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise self.broken(f"{what}: {dimensions} dimensions")
        shape = tuple(self.number("<q", f"{what}, dimension {i + 1}") for i in range(dimensions))
        if any(d < 0 for d in shape):
            raise self.broken(f"{what}: negative dimension in {shape}")
        return shape

    def name(self, index: int) -> str:
        length = self.number("<Q", f"name {index + 1}, length")
        start = self.skip(length, f"name {index + 1}")
        text = self.content[start : self.at]
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise self.broken(f"name {index + 1} is not UTF-8: {text[:40]!r}") from error

    def number(self, layout: str, what: str) -> int:
        start = self.skip(struct.calcsize(layout), what)
        (value,) = struct.unpack_from(layout, self.content, start)
        assert isinstance(value, int)
        return value

    def skip(self, count: int, what: str) -> int:
        """Move past the next ``count`` bytes and return where they start; ``what`` names them if they are not there."""
        left = len(self.content) - self.at
        if count > left:
            raise self.broken(f"{what}: {count} bytes expected, {left} left")
        self.at += count
        return self.at - count

    def other_layout(self, magic: int, what: str) -> UserError:
        old = "V1" if magic == V1 else "V0" if magic <= MAX_DIMENSIONS else ""
        if not old:
            return self.broken(f"{what} starts with {magic:#x}, which is no layout of MXNet's")
        return UserError(
            f"{what} has the layout {old}, of MXNet before 1.0, which is not read",
            str(self.file),
            "Load it with MXNet 1.x and store it again: `mx.nd.save(new, mx.nd.load(old))`.",
        )

    def broken(self, what: str) -> UserError:
        return UserError(f"{what} (at byte {self.at:,} of {len(self.content):,})", str(self.file), REMEDY)
