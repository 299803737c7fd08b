"""Writes YOLO: a text file for each picture, and the YAML file that names folders and classes (``formats/yolo.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from foveal.formats.writing import Entry, boxes_in, corners, number_text, text_file

_DECIMALS = 6  # of a fraction: at most a hundredth of a pixel at a side of 10,000
_KEYS = {"train": "train", "validation": "val", "test": "test"}


def write_yolo(root: Path, base: str, pictures: str, entries: Iterable[Entry], names: Sequence[str]) -> None:
    """Write ``labels/base/*.txt``, one for each picture, empty for those without objects."""
    for entry in entries:
        with text_file(root / "labels" / base / (entry.file.rpartition(".")[0] + ".txt")) as file:
            boxes = boxes_in(entry, "fraction")
            for kind, (x0, y0, x1, y1) in zip(boxes.cls.tolist(), corners(boxes), strict=True):
                numbers = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
                file.write(" ".join([str(kind), *(number_text(round(each, _DECIMALS)) for each in numbers)]) + "\n")


def write_yolo_yaml(root: Path, pictures: Mapping[str, str], names: Sequence[str]) -> None:
    """Write ``data.yaml``. ``pictures``: the folder of each split's pictures, relative to ``root``."""
    data = {_KEYS[split]: folder for split, folder in pictures.items()} | {"names": dict(enumerate(names))}
    with text_file(root / "data.yaml") as file:
        yaml.safe_dump(data, file, allow_unicode=True, sort_keys=False)
