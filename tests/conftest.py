"""What tests share: the folder of given material, and small pictures that a tiny network learns in seconds."""

from __future__ import annotations

import os

# before torch is imported, and for the processes that tests start: one thread each, and no spinning while it waits
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SHAPES = ("disc", "square", "triangle")
SIDE = 32  # pixels
COUNTS = {"train": 40, "test": 10}  # pictures a class


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of fixtures too large to keep here: FOVEAL_SHARED, else ``shared`` beside the checkout."""
    given = os.environ.get("FOVEAL_SHARED")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the fixtures in {folder} (or FOVEAL_SHARED=FOLDER), which is not there")
    return folder


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``{train,test}/{disc,square,triangle}/NNN.{png,jpg}``: coloured shapes on noise; not to be written to."""
    root = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(7)
    for split, count in COUNTS.items():
        for shape in SHAPES:
            folder = root / split / shape
            folder.mkdir(parents=True)
            for number in range(count):
                suffix = "jpg" if number % 2 else "png"
                Image.fromarray(shape_picture(shape, rng)).save(folder / f"{number:03d}.{suffix}", quality=95)
    return root


def shape_picture(shape: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One picture: a bright shape of random size, place and colour on dark noise. uint8 [32, 32, 3]."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    radius = rng.uniform(7, 10)
    left, top = rng.uniform(radius, SIDE - radius, size=2)
    inside = {
        "disc": (x - left) ** 2 + (y - top) ** 2 <= radius**2,
        "square": np.maximum(abs(x - left), abs(y - top)) <= radius * 0.85,
        "triangle": (y - top <= radius * 0.8) & (y - top >= 2 * abs(x - left) - radius),
    }[shape]
    picture = rng.integers(0, 90, size=(SIDE, SIDE, 3))
    colour = rng.integers(150, 256, size=3) + rng.integers(-20, 1, size=(SIDE, SIDE, 3))
    picture[inside] = colour[inside]
    return picture.astype(np.uint8)
