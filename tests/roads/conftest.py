"""Small pictures with boxes, written as Pascal VOC, for the roads of object detection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SHAPES = {"disc": (220, 60, 40), "square": (40, 200, 70), "triangle": (60, 80, 230)}
SIDES = (70, 130)  # pixels of a picture, least and most
SPLITS = {"train": 32, "val": 12, "test": 8}
EMPTY_EVERY = 8  # every so many pictures have no object


@dataclass(frozen=True)
class Shape:
    """A shape in a picture: its name, its box in pixels, and whether the label calls it difficult."""

    name: str
    box: tuple[int, int, int, int]
    difficult: bool = False


def draw_shapes(rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint8], list[Shape]]:
    """A picture of noise (uint8 [H, W, 3]) with up to ``count`` shapes that do not touch."""
    height, width = (int(side) for side in rng.integers(*SIDES, size=2))
    picture = rng.integers(0, 70, size=(height, width, 3)).astype(np.uint8)
    shapes: list[Shape] = []
    for _ in range(count):
        side = int(min(height, width) * rng.uniform(0.3, 0.6))
        left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        box = (left, top, left + side, top + side)
        if any(_touch(box, other.box) for other in shapes):
            continue
        name = list(SHAPES)[int(rng.integers(len(SHAPES)))]
        inside = np.zeros((height, width), dtype=np.bool_)
        inside[top : top + side, left : left + side] = _mask(name, side)
        noise = rng.integers(-25, 26, size=(int(inside.sum()), 3))
        picture[inside] = np.clip(np.array(SHAPES[name]) + noise, 0, 255)
        shapes.append(Shape(name, box, difficult=bool(rng.random() < 0.1)))
    return picture, shapes


def _touch(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _mask(name: str, side: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[:side, :side] + 0.5
    masks: dict[str, NDArray[np.bool_]] = {
        "disc": (x - side / 2) ** 2 + (y - side / 2) ** 2 <= (side / 2) ** 2,
        "square": np.ones((side, side), dtype=np.bool_),
        "triangle": y >= 2 * abs(x - side / 2),
    }
    return masks[name]


def voc_xml(file: str, size: tuple[int, int], shapes: Sequence[Shape]) -> str:
    """An annotation; ``size`` is (width, height)."""
    objects = "".join(
        f"<object><name>{each.name}</name><difficult>{int(each.difficult)}</difficult><bndbox>"
        + "".join(
            f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), each.box, strict=True)
        )
        + "</bndbox></object>"
        for each in shapes
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{file}</filename>{stated}{objects}</annotation>"


def write_voc(root: Path, splits: dict[str, int], seed: int, empty_every: int = EMPTY_EVERY) -> None:
    """``JPEGImages``, ``Annotations`` and ``ImageSets/Main`` of so many pictures a split."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for split, count in splits.items():
        names = [f"{split}{number:03d}" for number in range(count)]
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for number, name in enumerate(names):
            empty = number % empty_every == empty_every - 1
            picture, shapes = draw_shapes(rng, 0 if empty else int(rng.integers(1, 4)))
            Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            height, width = picture.shape[:2]
            xml = voc_xml(f"{name}.jpg", (width, height), shapes)
            (root / "Annotations" / f"{name}.xml").write_text(xml, encoding="utf-8")


@pytest.fixture(scope="session")
def voc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32, 12 and 8 pictures with up to three shapes each, some with none; not to be written to."""
    root = tmp_path_factory.mktemp("voc") / "shapes"
    write_voc(root, SPLITS, seed=11)
    return root


@pytest.fixture(scope="session")
def few_boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 training and 4 validation pictures; not to be written to."""
    root = tmp_path_factory.mktemp("few") / "boxes"
    write_voc(root, {"train": 11, "val": 4}, seed=12)
    return root


@pytest.fixture(scope="session")
def drawing() -> tuple[Callable[..., object], Callable[..., str]]:
    """``draw_shapes`` and ``voc_xml``, for tests that write data of their own."""
    return draw_shapes, voc_xml


@pytest.fixture(scope="session")
def write_boxes() -> Callable[..., None]:
    """``write_voc``, for tests that want data of their own."""
    return write_voc
