"""Real data sets there and back through every pair of forms, and a table of what is lost where.

    python benchmarks/round_trips.py SHARED_DATA WORK_FOLDER [SET ...]

Each set is read, written in a first form, that is read again, and written in a second one. Pictures are compared to the
byte, classes by name, boxes after they were cut to the picture: the farthest corner counts. What one writer says it
can't express is gathered into a table in Markdown. WORK_FOLDER is emptied of each pair once it is compared.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from foveal.converting.convert import convert
from foveal.converting.targets import TARGETS
from foveal.data.check import with_area
from foveal.data.decode import read_header
from foveal.data.fractions import to_upright
from foveal.data.recognise import open_data
from foveal.formats.writing import Entry, boxes_in
from foveal.records import Boxes, Dataset, Reading, Sample


def sets(shared: Path, work: Path) -> Iterator[tuple[str, Dataset]]:
    """Name and content of each set."""
    for name in ("bccd", "magnetic-tile", "vehicle-damage", "xray", "deeppcb", "multilabel-photos"):
        for archive in sorted((shared / name).glob("*.zip")):
            if archive.stem != "faults":
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(work / name)
        for path in (shared / name).iterdir():
            if path.suffix in (".csv", ".txt", ".json"):
                shutil.copy(path, work / name)
            elif path.is_dir():
                shutil.copytree(path, work / name / path.name, dirs_exist_ok=True)
    yield "faces", open_data(shared / "faces", form="folder")
    yield "vehicle-damage", open_data(work / "vehicle-damage")
    yield "magnetic-tile", open_data(work / "magnetic-tile")
    photos = work / "multilabel-photos"
    yield "multilabel-photos", open_data(photos / "train.csv", task="multi-label", test=photos / "test.csv")
    yield "multilabel-photos, boxes", open_data(photos / "instances_train.json", task="boxes", root=photos / "train")
    yield "face-mask", open_data(shared / "face-mask", task="boxes")
    yield "bccd", open_data(work / "bccd", task="boxes")
    yield "xray", open_data(work / "xray", task="boxes")
    yield "deeppcb", deeppcb(work / "deeppcb")


def deeppcb(folder: Path) -> Dataset:
    names = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}
    reading = Reading(columns=("x1", "y1", "x2", "y2", "class"), separator=" ", names=names)
    return open_data(folder / "trainval.txt", task="boxes", form="boxes", reading=reading)


def content(data: Dataset) -> dict[tuple[str, bytes], list[list[object]]]:
    """{(split, picture): labels}; pictures that occur several times have several labels."""
    found: dict[tuple[str, bytes], list[list[object]]] = {}
    for split, source in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        for row in range(len(source) if source is not None else 0):
            sample = source.read(row)
            found.setdefault((split, sample.picture), []).append(label(sample, data.class_names))
    return {key: sorted(labels, key=repr) for key, labels in found.items()}


def label(sample: Sample, names: tuple[str, ...]) -> list[object]:
    """Names of classes, or (name, corners in pixels of the upright picture) of each object, sorted."""
    value = sample.label
    if isinstance(value, int):
        return [names[value]]
    if isinstance(value, np.ndarray):
        return [names[number] for number in np.flatnonzero(value)]
    boxes = upright(with_area(value), sample.picture)
    return sorted((names[kind], tuple(box)) for kind, box in zip(boxes.cls, boxes.values.tolist(), strict=True))


def upright(boxes: Boxes, picture: bytes) -> Boxes:
    """In pixels of the upright picture, cut to it."""
    header = read_header(picture)
    placed = to_upright(boxes, picture, header)
    return boxes_in(Entry(0, "", (header.width, header.height), 3, placed), "pixel")


def farthest(a: list[list[object]], b: list[list[object]]) -> float:
    """Pixels between the corners of two pictures' boxes; infinite where classes or counts differ, 0 for classes."""
    if len(a) != len(b):
        return float("inf")
    worst = 0.0
    for one, other in zip(a, b, strict=True):
        if one and isinstance(one[0], tuple):
            if [each[0] for each in one] != [each[0] for each in other]:
                return float("inf")
            worst = max(worst, nearest(one, other))
        elif one != other:
            return float("inf")
    return worst


def nearest(one: list[object], other: list[object]) -> float:
    """The farthest corner between boxes of the same classes, each paired with the nearest that is left."""
    worst = 0.0
    for name in {each[0] for each in one}:
        left = [np.array(each[1]) for each in other if each[0] == name]
        for each in (np.array(each[1]) for each in one if each[0] == name):
            distances = [float(np.abs(each - its).max()) for its in left]
            place = int(np.argmin(distances))
            worst = max(worst, distances[place])
            left.pop(place)
    return worst


def main(shared: Path, work: Path, wanted: list[str]) -> int:
    work.mkdir(parents=True, exist_ok=True)
    wrong = 0
    told: dict[str, dict[str, str]] = {form: {} for form in TARGETS}
    for name, data in sets(shared, work):
        if wanted and name not in wanted:
            continue
        print(f"\n## {name}: {data.task}, {len(data.train):,} training pictures, {len(data.class_names)} classes")
        before = content(data)
        forms = [form for form, target in TARGETS.items() if data.task in target.tasks]
        for first in forms:
            report = convert(data, work / "first", first, quiet=True)
            for line in report.said:
                if line.startswith((first, *"0123456789")) or "left out" in line:
                    told[first][line.partition(":")[0]] = f"{name}: {line}"
            between = open_data(work / "first", task=data.task)
            results = [f"{compare(before, content(between)):.3f}"]
            for second in forms:
                convert(between, work / "second", second, quiet=True)
                distance = compare(before, content(open_data(work / "second", task=data.task)))
                wrong += distance > 0.5
                results.append(f"{distance:.3f}")
                shutil.rmtree(work / "second")
            shutil.rmtree(work / "first")
            print(f"{first:15} {' '.join(results)}", flush=True)
    for form, lines in told.items():
        for line in lines.values():
            print(f"- {form}: {line}")
    print(f"\n{wrong} pairs differ by more than half a pixel")
    return 1 if wrong else 0


def compare(a: dict[tuple[str, bytes], list[list[object]]], b: dict[tuple[str, bytes], list[list[object]]]) -> float:
    if a.keys() != b.keys():
        return float("inf")
    return max(farthest(a[key], b[key]) for key in a)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
