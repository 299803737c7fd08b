"""Sections and tables that pages share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.files import write_text
from foveal.metrics.calibration import ReliabilityCurve
from foveal.report.charts import COLOURS, Line, bars_chart, lines_chart, reliability_chart
from foveal.report.page import Drawing, Page, Section, Shown, Table, render

CLASSES = 200  # rows of a table of classes
CURVES = 30  # classes whose curves are drawn
EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)  # pixels, of bins of sizes

MEANINGS = {
    "accuracy": "share of answers that are right",
    "macro_f1": "mean over the classes of F1, which is high only where both precision and recall are",
    "micro_f1": "F1 of all decisions together",
    "log_loss": "0 is best; sure mistakes cost most",
    "calibration_error": "mean distance between how sure answers are and how often they are right",
    "calibration_error_before": "the same without the temperature",
    "temperature": "what logits are divided by, found on the validation pictures",
    "all_right": "share of pictures with every class right",
    "mAP": "mean over the classes of average precision, the area under precision over recall",
    "mAP_50_95": "COCO's: mean over overlaps of 0.50, 0.55, ..., 0.95",
    "mAP_small": "COCO's, of objects below 32 x 32 pixels",
    "mAP_medium": "COCO's, of objects between",
    "mAP_large": "COCO's, of objects above 96 x 96 pixels",
    "mAP_50": "COCO's, at an overlap of 0.50",
    "mAP_75": "COCO's, at an overlap of 0.75",
    "mAP_11_point": "mean of precision at recalls 0, 0.1, ..., 1 (VOC 2007)",
    "mAR_1": "COCO's: share of the objects found by one box a picture and class, mean over overlaps",
    "mAR_10": "by ten boxes",
    "mAR_100": "by a hundred boxes",
    "mAR_small": "by a hundred boxes, of objects below 32 x 32 pixels",
    "mAR_medium": "of objects between",
    "mAR_large": "of objects above 96 x 96 pixels",
    "mAP_all_pictures": "with what is found in pictures without objects counted as false",
    "recall": "share of the objects that are found, at each class's confidence",
    "precision": "share of what is found that is right, at each class's confidence",
    "false_alarms_per_empty_picture": "in pictures without objects",
}


def check_free(folder: Path, name: str, mark: str) -> None:
    """Raises UserError when a page that ``mark`` didn't make lies where one is to be written."""
    page = folder / name
    if folder.exists() and not folder.is_dir():
        raise UserError("this is a file, and --report names a folder", str(folder), "Name another folder.")
    if page.exists() and f'data-by="{mark}"'.encode() not in page.read_bytes()[:400]:
        raise UserError(f"there is a page that is no report of `{mark}`", str(page), "Name another folder.")


def write_page(folder: Path, name: str, page: Page, mark: str) -> Path:
    """Write ``folder/name``, marked as a page that ``mark`` made, and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    html = render(page).replace('<html lang="en">', f'<html lang="en" data-by="{mark}">', 1)
    write_text(folder / name, html)
    return folder / name


def told(value: float | None, digits: int = 3) -> str:
    """A share, or a dash where it is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def figures_section(figures: Mapping[str, float]) -> Section:
    """All single numbers, each with what it means."""
    rows = tuple((name, told(value, 4), MEANINGS.get(name, "")) for name, value in figures.items())
    return Section("Figures", tables=(Table(("figure", "value", "meaning"), rows, prose=True),))


def class_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], by: str) -> tuple[Table, str]:
    """The per-class table, the worst by ``by`` first, and what to say of the rows left out.

    Args:
        columns: key of a row -> heading.
    """
    ordered = sorted(rows, key=lambda row: (row[by] is None, row[by] or 0.0))
    cells = [
        (row["class"], *(row[key] if isinstance(row[key], int) else told(row[key]) for key in columns))
        for row in ordered[:CLASSES]
    ]
    left = len(ordered) - CLASSES
    return Table(("class", *columns.values()), tuple(cells)), f" The best {left:,} are left out." if left > 0 else ""


def curves_section(names: Sequence[str], curves: Sequence[Line], objects: Sequence[int], text: str) -> Section:
    """Precision over recall of each class; of many classes those with the most objects."""
    order = np.argsort(-np.asarray(objects), kind="stable")
    shown = [i for i in order.tolist() if len(curves[i].x)][:CURVES]
    charts = tuple(
        Drawing(lines_chart([curves[i] for i in shown[start : start + COLOURS]], "recall", "precision"))
        for start in range(0, len(shown), COLOURS)
    )
    if len(shown) < len(names):
        text += f" Drawn are {len(shown)} of {len(names)} classes, those with the most examples."
    return Section("Precision and recall", text, charts=charts)


def reliability_section(curve: ReliabilityCurve, right: str, text: str) -> Section:
    """How often answers are right, by how sure they are."""
    chart = reliability_chart(curve.confidence, curve.accuracy, curve.count, right)
    return Section("How sure, and how often right", text, charts=(Drawing(chart),))


def sizes_chart(sides: NDArray[np.floating], right: NDArray[np.bool_], x_label: str, y_label: str) -> str | None:
    """Share of ``right`` (bool [n]) by size (float [n], pixels); None where all are of one bin."""
    which = np.searchsorted(EDGES, sides, side="right") - 1
    bins = np.unique(which).tolist()
    if len(bins) < 2:
        return None
    names = [_bin_name(each) for each in bins]
    shares = [float(right[which == each].mean()) for each in bins]
    counts = [int((which == each).sum()) for each in bins]
    return bars_chart(names, shares, counts, x_label, y_label)


def _bin_name(number: int) -> str:
    if number + 1 >= len(EDGES):
        return f"{EDGES[-1]}+"
    return f"<{EDGES[1]}" if number == 0 else f"{EDGES[number]}-{EDGES[number + 1]}"


def single_groups(pictures: Sequence[Shown | None]) -> tuple[tuple[Shown, ...], ...]:
    """Each picture that could be shown as a group of its own."""
    return tuple((each,) for each in pictures if each is not None)
