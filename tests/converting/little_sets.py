"""Data sets of eight small pictures each, as sources in memory, and what two of them have to have in common."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.data.boxes import to_pixels
from foveal.data.check import with_area
from foveal.data.decode import decode_upright
from foveal.formats.boxfiles import Annotation, BoxFileSource, Gathered, Object
from foveal.formats.pictures import FileSource, single_labels
from foveal.records import Boxes, Dataset, Labels

NAMES = ("cat", "a dog", "bird & co")
SIZES = ((40, 30), (30, 40), (33, 21), (64, 64), (40, 30), (17, 50), (40, 31), (50, 40))  # width, height
KINDS = ("JPEG", "PNG", "JPEG", "WEBP", "BMP", "PNG", "JPEG", "TIFF")
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}
CLASSES = (0, 1, 2, 0, 1, 2, 0, 1)
SETS = ((0,), (1, 2), (), (0, 1, 2), (2,), (0, 2), (1,), (0,))
OBJECTS = (  # class, xmin, ymin, xmax, ymax in pixels
    ((0, 2.5, 3, 20.25, 29), (2, 10, 10, 12, 12)),
    (),
    ((1, 0, 0, 33, 21),),
    ((0, 1, 2, 3, 4.5), (1, 5, 6, 60, 63.125), (1, 7, 6, 9, 8)),
    ((2, 12.1, 7.3, 33.7, 20.9),),
    ((0, 3, 4, 10, 44),),
    ((1, 39, 30, 40, 31),),
    ((2, 0.5, 0.25, 49.5, 39.75),),
)


def picture(number):
    rng = np.random.default_rng(number)
    width, height = SIZES[number]
    mode = "L" if number == 5 else "RGB"
    shape = (height, width) if mode == "L" else (height, width, 3)
    kept = io.BytesIO()
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    if number == 6:  # stored lying on its side; upright it has the size above
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(kept, KINDS[number], exif=exif)
    else:
        Image.fromarray(pixels).save(kept, KINDS[number])
    return kept.getvalue()


def files(folder: Path):
    """Eight pictures on disk; two of them called alike but for folder and suffix."""
    names = [f"part{number % 2}/{number // 2} x.{SUFFIXES[KINDS[number]]}" for number in range(8)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(number))
    return names


def dataset(folder: Path, task: str) -> Dataset:
    """The eight pictures: six to train on, one to validate, one to test."""
    names = files(folder)
    rows = {"train": range(6), "validation": range(6, 7), "test": range(7, 8)}
    sources = {split: source(folder, names, task, taken) for split, taken in rows.items()}
    return Dataset(sources["train"], sources["validation"], sources["test"], NAMES, True, task=task)


def source(folder, names, task, rows):
    chosen = [names[row] for row in rows]
    if task == "boxes":
        gathered = Gathered()
        for row in rows:
            gathered.add(Annotation(tuple(Object(*each) for each in OBJECTS[row]), SIZES[row]))
        objects = gathered.table({kind: kind for kind in range(len(NAMES))}, "pixel")
        return BoxFileSource("coco", str(folder), folder, chosen, chosen, objects, class_names=NAMES)
    if task == "classes":
        labels = single_labels(CLASSES[row] for row in rows)
    else:
        hot = np.zeros((len(rows), len(NAMES)), dtype=np.float32)
        for place, row in enumerate(rows):
            hot[place, list(SETS[row])] = 1
        labels = Labels(hot.reshape(-1), np.arange(len(rows) + 1, dtype=np.int64) * len(NAMES))
    return FileSource("lst", str(folder), folder, chosen, labels, class_names=NAMES)


def contents(data: Dataset):
    """{split: {picture's bytes: label}}; classes by name, boxes in pixels of the upright picture, sorted."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        split: {sample.picture: _label(sample, data.class_names) for sample in map(each.read, range(len(each)))}
        for split, each in splits.items()
        if each is not None
    }


def _label(sample, names):
    label = sample.label
    if isinstance(label, Boxes):
        boxes = to_pixels(with_area(label), decode_upright(sample.picture, 3))
        return sorted((names[kind], *map(float, box)) for kind, box in zip(boxes.cls, boxes.values, strict=True))
    if isinstance(label, np.ndarray):
        return tuple(names[kind] for kind in np.flatnonzero(label))
    return names[label]


def same(a, b, pixels=0.5):
    """Whether two contents have the same pictures to the byte, classes, and boxes to ``pixels``."""
    if {split: set(each) for split, each in a.items()} != {split: set(each) for split, each in b.items()}:
        return False
    pairs = [(label, b[split][key]) for split, each in a.items() for key, label in each.items()]
    return all(_alike(*pair, pixels) for pair in pairs)


def _alike(a, b, pixels):
    if not isinstance(a, list):
        return a == b
    if [each[0] for each in a] != [each[0] for each in b]:
        return False
    return not a or np.allclose([each[1:] for each in a], [each[1:] for each in b], rtol=0, atol=pixels)
