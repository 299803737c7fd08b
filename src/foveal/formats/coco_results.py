"""Detections as a COCO results file: a JSON list of ``image_id``, ``category_id``, ``bbox`` and ``score``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from foveal.errors import UserError
from foveal.records import Detections


def coco_results(
    found: Sequence[tuple[str, Detections]], class_names: Sequence[str], ids: Path | None = None
) -> list[dict[str, Any]]:
    """One entry an object, boxes as left, top, width, height in pixels.

    Args:
        found: (path of the picture, what was found in it).
        class_names: names in label order.
        ids: a COCO annotation file whose ids of pictures (by file name) and categories (by name) are to be used;
            without it pictures are numbered from 1 in their order and categories are class index + 1. Entries then
            carry ``file_name`` too.

    Raises:
        UserError: when ``ids`` is no COCO file, or lacks a picture or a class.
    """
    pictures, categories = _ids(ids) if ids is not None else ({}, {})
    results: list[dict[str, Any]] = []
    for number, (path, each) in enumerate(found, start=1):
        image_id = number if ids is None else _id(pictures, PurePath(path).name, "picture", ids)
        boxes = each.pixels.astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        for cls, score, box in zip(each.cls.tolist(), each.scores.tolist(), boxes.tolist(), strict=True):
            category = cls + 1 if ids is None else _id(categories, class_names[cls], "category", ids)
            entry = {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
            results.append(entry if ids is not None else {**entry, "file_name": path})
    return results


def _ids(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pictures = {PurePath(str(each["file_name"])).name: int(each["id"]) for each in content["images"]}
        categories = {str(each["name"]): int(each["id"]) for each in content["categories"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"this is no COCO annotation file ({type(error).__name__}: {error})",
            str(path),
            "It must be a JSON object with images (id, file_name) and categories (id, name).",
        ) from error
    return pictures, categories


def _id(ids: Mapping[str, int], name: str, what: str, path: Path) -> int:
    if name not in ids:
        raise UserError(f"it has no {what} named {name!r}", str(path), "Give the file that belongs to these pictures.")
    return ids[name]
