"""Cases of MXNet's multibox operators, as the zip files of fixtures hold them.

A test that takes ``multibox_prior_case``, ``multibox_target_case`` or ``multibox_detection_case`` runs once for each
case of that file; ``multibox_cases`` opens another file of the kind.
"""

from __future__ import annotations

import ast
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[1] / "fixtures" / "models"
FILES = {f"{name}_case": f"{name}.zip" for name in ("multibox_prior", "multibox_target", "multibox_detection")}


@dataclass(frozen=True)
class Case:
    """One case: the operator's attributes, and arrays by name (``in:anchor``, ``out:0``); no outputs: MXNet refuses."""

    name: str
    attributes: dict[str, Any]
    arrays: dict[str, NDArray[np.float32]]


def read_cases(path: Path) -> list[Case]:
    with zipfile.ZipFile(path) as archive:
        names = [case["name"] for case in json.loads(archive.read("cases.json"))["cases"]]
        return [_read_case(archive, name) for name in names]


def _read_case(archive: zipfile.ZipFile, name: str) -> Case:
    nodes = json.loads(archive.read(f"{name}-symbol.json"))["nodes"]
    [operator] = [node for node in nodes if node["op"] != "null"]
    attributes = {key: ast.literal_eval(value) for key, value in operator.get("attrs", {}).items()}
    with np.load(io.BytesIO(archive.read(f"{name}.npz"))) as arrays:
        return Case(name, attributes, dict(arrays))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for argument, file in FILES.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, read_cases(FOLDER / file), ids=lambda case: case.name)


@pytest.fixture(scope="session")
def multibox_cases() -> Callable[[Path], list[Case]]:
    return read_cases
