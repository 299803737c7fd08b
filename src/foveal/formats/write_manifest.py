"""Writes augmented manifests: a JSON object a line, as Ground Truth writes and SageMaker reads them.

    {"source-ref": "images/train/1.jpg", "class": 0, "class-metadata": {"class-name": "cat", ...}}
    {"source-ref": "images/train/1.jpg", "class": [1, 0, 1], "class-metadata": {"class-map": {"0": "cat", ...}, ...}}
    {"source-ref": "images/train/1.jpg", "bounding-box": {"image_size": [...], "annotations": [...]}, ...}

Several labels are multi-hot, which is what SageMaker takes unless told otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from foveal.formats.write_sagemaker_json import box_annotation
from foveal.formats.writing import Entry, text_file
from foveal.records import Boxes

_KIND = "groundtruth/"


def write_manifest(root: Path, base: str, pictures: str, entries: Iterable[Entry], names: Sequence[str]) -> None:
    """Write ``base.manifest``; ``pictures`` is relative to it, or the address of a folder."""
    with text_file(root / f"{base}.manifest") as file:
        for entry in entries:
            line = {"source-ref": f"{pictures}/{entry.file}", **_label(entry, names)}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _label(entry: Entry, names: Sequence[str]) -> dict[str, object]:
    label = entry.label
    if isinstance(label, Boxes):
        kinds = np.unique(label.cls).tolist()
        metadata = {"class-map": {str(kind): names[kind] for kind in kinds}, "type": _KIND + "object-detection"}
        return {"bounding-box": box_annotation(entry), "bounding-box-metadata": metadata}
    if isinstance(label, np.ndarray):
        class_map = {str(kind): names[kind] for kind in np.flatnonzero(label).tolist()}
        metadata = {"class-map": class_map, "type": _KIND + "image-classification-multilabel"}
        return {"class": label.astype(int).tolist(), "class-metadata": metadata}
    return {"class": label, "class-metadata": {"class-name": names[label], "type": _KIND + "image-classification"}}
