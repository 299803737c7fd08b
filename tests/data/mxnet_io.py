"""The fixture folders of MXNet's reader, as lists of cases to parametrise over."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveal.formats.imagerecord import unpack
from foveal.formats.recordio import Damage, content, open_buffer, scan
from foveal.formats.recsource import RecordSource
from foveal.records import Boxes

FIXTURES = Path(__file__).parent.parent / "fixtures" / "data"
FOLDERS = sorted(path.parent for path in FIXTURES.glob("*/deterministic.json"))


@cache
def arrays(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of a folder by name."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("deterministic*.npz")):
        with np.load(path) as file:
            found.update({name: file[name] for name in file.files})
    return found


@cache
def pictures(folder: Path, name: str = "cls.rec") -> list[bytes]:
    """The encoded pictures of a record file, in order."""
    source = RecordSource([folder / name])
    return [source.read(i).picture for i in range(len(source))]


@cache
def labelled(folder: Path, name: str = "det.rec") -> list[tuple[bytes, Boxes]]:
    """The encoded pictures of a record file and their objects as stored, in order."""
    buffer = open_buffer(folder / name)
    records = [unpack(content(buffer, part)) for part in scan(buffer) if not isinstance(part, Damage)]
    return [(bytes(record.picture), boxes(objects(record.labels))) for record in records]


def objects(label: np.ndarray) -> np.ndarray:
    """float32 [n, width] of ``[header width, width of an object, further header..., objects...]``."""
    header, width = int(label[0]), int(label[1])
    return np.asarray(label[header:], dtype=np.float32).reshape(-1, width)


def boxes(rows: np.ndarray) -> Boxes:
    """Rows of class, four fractions and what else there is; a sixth number is ``difficult``."""
    difficult = rows[:, 5] > 0 if rows.shape[1] > 5 else np.zeros(len(rows), dtype=np.bool_)
    return Boxes(
        values=rows[:, 1:5],
        cls=rows[:, 0].astype(np.int64),
        unit="fraction",
        of="upright",
        difficult=difficult,
        crowd=np.zeros(len(rows), dtype=np.bool_),
        extra=rows[:, 5:],
    )


def described(file: str, group: str = "", iterator: str = "") -> list[Any]:
    """(folder, case, description) of each case in a JSON file of each folder; of one reader where it is named."""
    cases = []
    for folder in FOLDERS:
        document = json.loads((folder / file).read_text())
        for name, description in (document.get(group, {}) if group else document).items():
            if iterator and not (isinstance(description, dict) and description["iterator"] == iterator):
                continue
            cases.append(pytest.param(folder, name, description, id=f"{folder.name}-{name}"))
    return cases


def assert_same_distribution(got: np.ndarray, wanted: dict[str, Any], slack: float, what: str) -> None:
    """Mean within 4 standard errors, half a per cent of the range and ``slack``; spread within 5 % or 4 standard errors
    and half the slack; hardly a value beyond the range."""
    span = wanted["max"] - wanted["min"]
    error = wanted["std"] * np.sqrt(1 / len(got) + 1 / wanted["n"])
    assert abs(got.mean() - wanted["mean"]) <= 4 * error + 0.005 * span + slack, what
    allowed = max(0.05 * wanted["std"], 4 * error_of_std(got, wanted["n"]))
    assert abs(got.std() - wanted["std"]) <= allowed + slack / 2, what
    beyond = (got < wanted["min"] - slack - 0.02 * span) | (got > wanted["max"] + slack + 0.02 * span)
    assert beyond.mean() <= 0.002, what


def error_of_std(got: np.ndarray, theirs: float) -> float:
    """Standard error of the difference to a spread measured on ``theirs`` values; long tails make it large."""
    variance = got.var()
    fourth = ((got - got.mean()) ** 4).mean()
    return float(np.sqrt(max(0.0, fourth - variance**2) / max(variance, 1e-12) / 4 * (1 / len(got) + 1 / theirs)))


def assert_same_share(got: float, wanted: float, draws: int, theirs: int, what: str) -> None:
    """A share of ``draws`` pictures against one of ``theirs``: within 4 standard errors of the difference."""
    error = np.sqrt(max(wanted * (1 - wanted), 1 / theirs) * (1 / draws + 1 / theirs))
    assert abs(got - wanted) <= 4 * error, what
