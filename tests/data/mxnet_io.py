"""The fixture folders of MXNet's reader, as lists of cases to parametrise over."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveal.formats.recsource import RecordSource

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


def described(file: str, group: str = "") -> list[Any]:
    """(folder, case, description) of each case in a JSON file of each folder."""
    cases = []
    for folder in FOLDERS:
        document = json.loads((folder / file).read_text())
        for name, description in (document[group] if group else document).items():
            cases.append(pytest.param(folder, name, description, id=f"{folder.name}-{name}"))
    return cases
