"""The twelve figures of COCO's detection challenge, counted by faster-coco-eval (the extra ``coco``).

Average precision and average recall, means over the classes that have objects and over intersections over union of
0.50, 0.55, ..., 0.95. Unlike the VOC figures of ``foveal.metrics.detection``, every picture counts, an overlap equal
to the threshold is a hit, a detection takes the best object that is still free, only the 100 best detections of a
class and picture count, and an overlap with a crowd is measured on the detection's own area.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.metrics.detection import Found, Objects, mean_over_seen

NAMES = (
    "mAP_50_95",
    "mAP_50",
    "mAP_75",
    "mAP_small",  # objects below 32 x 32 pixels
    "mAP_medium",
    "mAP_large",  # above 96 x 96 pixels
    "mAR_1",  # with one detection a class and picture
    "mAR_10",
    "mAR_100",
    "mAR_small",
    "mAR_medium",
    "mAR_large",
)
MOST = 100  # detections of a class and picture that count
INSTALL = 'pip install "foveal[coco]"'
LEFT_OUT = f"the COCO figures are left out, as faster-coco-eval is not installed: {INSTALL}"


def available() -> bool:
    """Whether faster-coco-eval is installed."""
    return find_spec("faster_coco_eval") is not None


def coco_figures(by_class: NDArray[np.float64]) -> dict[str, float]:
    """The twelve by name (``NAMES``), each 0..1, from ``coco_by_class``: means over the classes where they are defined,
    NaN where none is."""
    return {name: mean_over_seen(column) for name, column in zip(NAMES, by_class.T, strict=True)}


def coco_by_class(objects: Objects, found: Found, num_classes: int) -> NDArray[np.float64]:
    """The twelve of each class: float64 [C, 12] in the order of ``NAMES``, NaN where no object is asked for.

    Takes about 20 microseconds a detection, and memory for the detections of one class at a time.

    Args:
        objects: boxes in pixels, as sizes are told by them; those to ignore are crowds.
        found: boxes in pixels.

    Raises:
        UserError: when faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise UserError(
            "COCO's figures need the package faster-coco-eval, which is not installed", "", f"Install it: {INSTALL}"
        ) from error
    figures = np.full((num_classes, len(NAMES)), np.nan)
    for number in np.unique(objects.cls[~objects.ignored]).tolist():
        there, kept = np.flatnonzero(objects.cls == number), _best(found, number)
        pictures = np.union1d(objects.picture[there], found.picture[kept])  # the class's figures need no others
        place = {"images": [{"id": each} for each in pictures.tolist()], "categories": [{"id": 1, "name": "object"}]}
        truth = _annotations(objects.picture[there], objects.boxes[there])
        for row, crowd in zip(truth, objects.ignored[there].tolist(), strict=True):
            row["iscrowd"] = int(crowd)
        given = _annotations(found.picture[kept], found.boxes[kept])
        for row, score in zip(given, found.scores[kept].tolist(), strict=True):
            row["score"] = score
        judge = COCOeval_faster(COCO({**place, "annotations": truth}), COCO({**place, "annotations": given}), "bbox")
        judge.run()
        figures[number] = np.where(judge.stats < 0, np.nan, judge.stats)  # it says -1 for undefined
    return figures


def _best(found: Found, number: int) -> NDArray[np.int64]:
    """Rows of a class's detections that are among the 100 best of their picture, in order: the others never count."""
    mine = np.flatnonzero(found.cls == number)
    order = mine[np.lexsort((-found.scores[mine], found.picture[mine]))]  # stable: of equal scores the first listed
    start = np.searchsorted(found.picture[order], found.picture[order], side="left")
    return np.sort(order[np.arange(len(order)) - start < MOST])


def _annotations(picture: NDArray[np.int64], boxes: NDArray[np.float64]) -> list[dict[str, Any]]:
    """COCO's rows. Numbers count from 1, as 0 would read as "not matched"."""
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    area = corner_and_size[:, 2] * corner_and_size[:, 3]
    columns = zip(picture.tolist(), corner_and_size.tolist(), area.tolist(), strict=True)
    return [
        {"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": size, "iscrowd": 0}
        for number, (image, box, size) in enumerate(columns, 1)
    ]
