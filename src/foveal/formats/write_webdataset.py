"""Writes the samples of WebDataset shards: tar files whose members of one name but for the suffix belong together.

000017.jpg  000017.cls                  one class: its number as text
000017.jpg  000017.json                 {"label": [0, 1, 1]}, or boxes in pixels:
                                        {"width": 40, "height": 30, "objects": {"bbox": [[x, y, w, h]], ...}}
"""

from __future__ import annotations

import json
import tarfile

import numpy as np

from foveal.formats.writing import Entry, boxes_in, left_top_width_height
from foveal.records import Boxes

END_OF_TAR = bytes(1024)
SHARD_BYTES = 1_000_000_000  # a shard is ended once it is larger


def shard_name(base: str, number: int) -> str:
    return f"{base}-{number:06d}.tar"


def webdataset_sample(entry: Entry, picture: bytes) -> bytes:
    """The members of one picture, headers and filling included."""
    stem = entry.file.rpartition(".")[0]
    if isinstance(entry.label, int):
        label, suffix = str(entry.label), "cls"
    else:
        label, suffix = json.dumps(_label(entry)), "json"
    return _member(entry.file, picture) + _member(f"{stem}.{suffix}", label.encode())


def _label(entry: Entry) -> dict[str, object]:
    if isinstance(entry.label, Boxes):
        boxes = boxes_in(entry, "pixel")
        objects = {"bbox": left_top_width_height(boxes), "categories": boxes.cls.tolist()}
        return {"width": entry.size[0], "height": entry.size[1], "objects": objects}
    return {"label": np.asarray(entry.label).astype(int).tolist()}


def _member(name: str, content: bytes) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(content), 0o644
    return header.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
