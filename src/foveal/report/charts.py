"""Charts as inline SVG: plain numbers in, markup out, every text escaped.

Colours are the page's (``page.html`` has them for light and for dark), so a chart fits either. A chart is as wide as a
phone, so that its text is legible there; on a wide page several stand in a row. What is pointed at tells its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = 6
"""Of lines in one chart; ``page.html`` names them c0, c1, ..."""

WIDTH, HEIGHT = 380, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 368, 16, 226  # the plot's edges
_LETTER = 6.6  # pixels of a letter of 12 pixels
_LONGEST = 24  # letters of a name
MATRIX_CLASSES = 50  # up to so many the matrix is drawn with names, up to ``PICTURE_CLASSES`` as a picture
PICTURE_CLASSES = 1000


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, and its points, each in 0..1."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def lines_chart(lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """Up to ``COLOURS`` lines over axes from 0 to 1, their names below."""
    assert len(lines) <= COLOURS
    parts = [_frame(x_label, y_label)]
    for number, line in enumerate(lines):
        points = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
        dashes = ("", "7 3", "2 3")[number % 3]
        parts.append(
            f'<polyline class="line c{number}" stroke-dasharray="{dashes}" points="{points}">'
            f"<title>{escape(line.name)}</title></polyline>"
        )
        if len(line.x) == 1:
            parts.append(f'<circle class="spot c{number}" cx="{_x(line.x[0]):.1f}" cy="{_y(line.y[0]):.1f}" r="4"/>')
    names = [line.name for line in lines]
    legend, height = _legend(names, HEIGHT + 4)
    return _svg(WIDTH, height, f"{y_label} over {x_label}", [*parts, *legend])


def reliability_chart(
    confidence: NDArray[np.float64], right: NDArray[np.float64], count: NDArray[np.int64], y_label: str
) -> str:
    """How often answers were right, by how sure they were; the dashed line is where both are the same.

    Args:
        confidence, right: float64 [b], 0..1, of each bin, NaN where ``count``, int64 [b], is 0.
    """
    total = max(1, int(count.sum()))
    parts = [_frame("confidence", y_label)]
    for number, n in enumerate(count.tolist()):
        left, high = _x(number / len(count)), n / total * (_BOTTOM - _TOP)
        width = (_RIGHT - _LEFT) / len(count)
        parts.append(
            f'<rect class="share" x="{left + 1:.1f}" y="{_BOTTOM - high:.1f}" width="{width - 2:.1f}"'
            f' height="{high:.1f}"><title>{n:,} ({n / total:.1%}) are this sure</title></rect>'
        )
    parts.append(f'<path class="ideal" d="M{_LEFT} {_BOTTOM}L{_RIGHT} {_TOP}"/>')
    filled = np.flatnonzero(count)
    points = " ".join(f"{_x(float(confidence[i])):.1f},{_y(float(right[i])):.1f}" for i in filled)
    parts.append(f'<polyline class="line c0" points="{points}"/>')
    parts += [
        f'<circle class="spot c0" cx="{_x(float(confidence[i])):.1f}" cy="{_y(float(right[i])):.1f}" r="4">'
        f"<title>{count[i]:,} with confidence {confidence[i]:.1%} on average: right in {right[i]:.1%}</title></circle>"
        for i in filled
    ]
    return _svg(WIDTH, HEIGHT, f"{y_label} over confidence", parts)


def bars_chart(names: Sequence[str], shares: Sequence[float], counts: Sequence[int], x_label: str, y_label: str) -> str:
    """A bar a name, 0..1 high, its share and count written at it; NaN is a bar without height."""
    parts = [_frame(x_label, y_label, across=False)]
    width = (_RIGHT - _LEFT) / max(1, len(names))
    for number, (name, share, count) in enumerate(zip(names, shares, counts, strict=True)):
        middle, high = _LEFT + (number + 0.5) * width, 0.0 if math.isnan(share) else share
        told = "-" if math.isnan(share) else f"{share:.0%}"
        parts.append(
            f'<rect class="bar" x="{middle - 0.36 * width:.1f}" y="{_y(high):.1f}" width="{0.72 * width:.1f}"'
            f' height="{_BOTTOM - _y(high):.1f}"><title>{escape(name)}: {told} of {count:,}</title></rect>'
        )
        parts.append(_text(middle, _y(high) - 4, told, "middle", "ink"))
        parts.append(_text(middle, _BOTTOM + 14, name, "middle"))
        parts.append(_text(middle, _BOTTOM + 27, f"{count:,}", "middle", "small"))
    return _svg(WIDTH, HEIGHT, f"{y_label} by {x_label}", parts)


def differences_chart(
    names: Sequence[str], values: Sequence[float], low: Sequence[float], high: Sequence[float], label: str
) -> str:
    """A difference a name, in points of a hundred, with its interval; right of the line is more."""
    step, top, left = 22, 10, 20 + min(_LONGEST, max(map(len, names), default=0)) * _LETTER
    most = max((abs(each) for each in (*values, *low, *high) if not math.isnan(each)), default=0.0)
    most = _round_up(100 * most) / 100
    bottom = top + step * len(names)

    def x(value: float) -> float:
        return left + (value + most) / (2 * most) * (_RIGHT - left)

    parts = []
    for value in (-most, -most / 2, 0.0, most / 2, most):
        kind = "zero" if value == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{x(value):.1f} {top}V{bottom}"/>')
        parts.append(_text(x(value), bottom + 15, f"{100 * value:+g}" if value else "0", "middle"))
    for number, (name, value, least, best) in enumerate(zip(names, values, low, high, strict=True)):
        y = top + step * (number + 0.5)
        parts.append(_text(left - 8, y + 4, _cut(name), "end", "ink"))
        if not (math.isnan(value) or math.isnan(least)):
            told = f"{100 * value:+.2f} points, {100 * least:+.2f} to {100 * best:+.2f}"
            parts.append(f'<path class="line c0" d="M{x(least):.1f} {y}H{x(best):.1f}"/>')
            parts.append(f'<circle class="spot c0" cx="{x(value):.1f}" cy="{y}" r="4"><title>{told}</title></circle>')
    parts.append(_text((left + _RIGHT) / 2, bottom + 32, label, "middle", "label"))
    return _svg(WIDTH, bottom + 40, label, parts)


def matrix_chart(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    """The confusion matrix of up to ``MATRIX_CLASSES`` classes: labels down, answers across, counts in the cells.

    Args:
        matrix: int64 [C, C], row = label, column = predicted.
    """
    cell = 34 if len(names) <= 12 else 26 if len(names) <= 25 else 20
    room = 32 + min(_LONGEST, max(map(len, names), default=0)) * _LETTER
    side = room + cell * len(names)
    parts = [
        _text(room + cell * len(names) / 2, 11, "predicted", "middle", "label"),
        f'<text class="label" text-anchor="middle" transform="translate(11 {room + cell * len(names) / 2:.0f})'
        ' rotate(-90)">label</text>',
    ]
    totals = np.maximum(1, matrix.sum(axis=1))
    for number, name in enumerate(names):
        at = room + cell * (number + 0.5)
        parts.append(_text(room - 5, at + 4, _cut(name), "end", "ink"))
        parts.append(f'<text class="ink" transform="translate({at + 4:.0f} {room - 5:.0f}) rotate(-90)">'
                     f"{escape(_cut(name))}</text>")  # fmt: skip
    parts.append(
        f'<rect class="edge" x="{room:.0f}" y="{room:.0f}" width="{side - room:.0f}" height="{side - room:.0f}"/>'
    )
    for row, column in np.argwhere(matrix > 0).tolist():
        n, share = int(matrix[row, column]), matrix[row, column] / totals[row]
        x, y = room + cell * column, room + cell * row
        kind = "right" if row == column else "wrong"
        title = f"{n:,} of {names[row]} were taken for {names[column]} ({share:.1%})"
        parts.append(
            f'<rect class="{kind}" fill-opacity="{0.15 + 0.85 * share:.2f}" x="{x:.0f}" y="{y:.0f}" width="{cell}"'
            f' height="{cell}"><title>{escape(title)}</title></rect>'
        )
        text = f"{n}" if n < 10_000 else f"{n // 1000}k"
        if len(text) * _LETTER <= cell:
            parts.append(_text(x + cell / 2, y + cell / 2 + 4, text, "middle", "over" if share > 0.5 else "ink"))
    return _svg(round(side + 2), round(side + 2), "confusion matrix", parts, fixed=True)


def matrix_picture(matrix: NDArray[np.int64]) -> Image.Image:
    """The confusion matrix of many classes as a picture: a point a cell, the darker the larger its share of the row."""
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    strength = np.where(matrix > 0, 0.2 + 0.8 * np.sqrt(shares), 0.0)[..., None]
    colour = np.where(np.eye(len(matrix), dtype=bool)[..., None], (0, 98, 155), (179, 38, 30))
    pixels = (255 * (1 - strength) + colour * strength).round().astype(np.uint8)
    side = max(1, 600 // len(matrix)) * len(matrix)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def _svg(width: float, height: float, title: str, parts: Sequence[str], fixed: bool = False) -> str:
    size = f' width="{width:.0f}" height="{height:.0f}"' if fixed else ""
    return (
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}"{size} role="img">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _frame(x_label: str, y_label: str, across: bool = True) -> str:
    """Axes from 0 to 1 with a grid, and what they are."""
    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(f'<path class="grid" d="M{_LEFT} {_y(tick):.1f}H{_RIGHT}"/>')
        parts.append(_text(_LEFT - 6, _y(tick) + 4, f"{tick:g}", "end"))
        if across:
            parts.append(f'<path class="grid" d="M{_x(tick):.1f} {_TOP}V{_BOTTOM}"/>')
            parts.append(_text(_x(tick), _BOTTOM + 16, f"{tick:g}", "middle"))
    parts.append(_text((_LEFT + _RIGHT) / 2, HEIGHT - 4, x_label, "middle", "label"))
    parts.append(
        f'<text class="label" text-anchor="middle" transform="translate(13 {(_TOP + _BOTTOM) / 2:.0f}) rotate(-90)">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)


def _legend(names: Sequence[str], top: float) -> tuple[list[str], float]:
    """Lines with names, two a row, and the height that the chart then has."""
    parts = []
    for number, name in enumerate(names):
        x, y = (_LEFT - 30, (_LEFT + _RIGHT) / 2)[number % 2], top + 18 * (number // 2) + 10
        dashes = ("", "7 3", "2 3")[number % 3]
        parts.append(f'<path class="line c{number}" stroke-dasharray="{dashes}" d="M{x:.0f} {y - 4:.0f}h22"/>')
        parts.append(_text(x + 28, y, _cut(name), "start", "ink"))
    return parts, top + 18 * ((len(names) + 1) // 2) + 4


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _x(share: float) -> float:
    return _LEFT + share * (_RIGHT - _LEFT)


def _y(share: float) -> float:
    return _BOTTOM - share * (_BOTTOM - _TOP)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, ... (tenths too): the end of an axis."""
    if value <= 0:
        return 1.0
    ten = 10.0 ** math.floor(math.log10(value))
    return next(each * ten for each in (1, 2, 4, 10) if each * ten >= value * (1 - 1e-9))
