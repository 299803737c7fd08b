"""Writes the per-image JSON of SageMaker's object detection (``formats/sagemaker_json.py`` reads it)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from foveal.formats.sagemaker_json import SUFFIX
from foveal.formats.writing import Entry, boxes_in, left_top_width_height, text_file

_KEYS = ("left", "top", "width", "height")


def write_sagemaker_json(root: Path, base: str, pictures: str, entries: Iterable[Entry], names: Sequence[str]) -> None:
    """Write ``PICTURES_annotation/*.json``, one for each picture."""
    categories = [{"class_id": number, "name": name} for number, name in enumerate(names)]
    for entry in entries:
        data = {"file": entry.file, **box_annotation(entry), "categories": categories}
        with text_file(root / (pictures + SUFFIX) / (entry.file.rpartition(".")[0] + ".json")) as file:
            file.write(json.dumps(data, ensure_ascii=False) + "\n")


def box_annotation(entry: Entry) -> dict[str, object]:
    """Size and boxes as SageMaker writes them, in manifests too: ``image_size`` and ``annotations``."""
    width, height = entry.size
    boxes = boxes_in(entry, "pixel")
    return {
        "image_size": [{"width": width, "height": height, "depth": entry.depth}],
        "annotations": [
            {"class_id": int(kind), **dict(zip(_KEYS, box, strict=True))}
            for kind, box in zip(boxes.cls, left_top_width_height(boxes), strict=True)
        ],
    }
