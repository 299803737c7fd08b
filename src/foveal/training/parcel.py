"""What ranks hand to one another: frozen dataclasses of ours, arrays, texts and numbers, as bytes and back.

8 bytes, little-endian      length of the text
JSON                        the value; an array is its type, shape and place behind the text
bytes of the arrays         one after another
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

HEAD = 8


def pack(value: Any) -> bytes:
    """The bytes of a value. Raises TypeError for what can't be handed over."""
    arrays = bytearray()
    text = json.dumps(_told(value, arrays)).encode()
    return b"".join([len(text).to_bytes(HEAD, "little"), text, arrays])


def unpack(content: bytes) -> Any:
    """What ``pack`` was given."""
    end = HEAD + int.from_bytes(content[:HEAD], "little")
    return _read(json.loads(content[HEAD:end]), memoryview(content)[end:])


def _told(value: Any, arrays: bytearray) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        start = len(arrays)
        arrays += value.tobytes()
        return {"array": [value.dtype.str, list(value.shape), start]}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_told(each, arrays) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[key, _told(each, arrays)] for key, each in value.items()]}
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} can't be handed to another process")
    values = {field.name: _told(getattr(value, field.name), arrays) for field in fields(value)}
    return {"dataclass": [type(value).__module__, type(value).__name__, values]}


def _read(told: Any, arrays: memoryview) -> Any:
    if not isinstance(told, dict):
        return told
    ((kind, held),) = told.items()
    if kind == "array":
        dtype, shape, start = np.dtype(held[0]), held[1], held[2]
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return np.frombuffer(arrays[start : start + size], dtype).reshape(shape).copy()
    if kind == "dict":
        return {key: _read(each, arrays) for key, each in held}
    if kind == "dataclass":
        module, name, values = held
        found = getattr(sys.modules[module], name)
        assert module.startswith("foveal.") and is_dataclass(found) and isinstance(found, type)
        return found(**{key: _read(each, arrays) for key, each in values.items()})
    items = [_read(each, arrays) for each in held]
    return tuple(items) if kind == "tuple" else items
