"""Trees seen from above, on large pictures: what tiles give against squeezing a whole picture into the network.

    python benchmarks/aerial.py WORK                   fetch, train with tiles and without, judge both
    python benchmarks/aerial.py WORK --minutes 12 --only tiles
    python benchmarks/aerial.py WORK --head pyramid --tile-size 512

The pictures lie in the Python package deepforest (MIT licence), which is fetched and not installed: 2,299 x 2,472
pixels with 574 trees, of which the upper two thirds are trained on and the rest is validated on; and another place,
1,249 x 1,035 pixels with 279 trees, which is judged on once. FOVEAL_WEIGHTS names the weights to start from.
A line of JSON for each run is printed, and added to WORK/aerial.jsonl.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.blood_cells.fetch import TREES, TREES_PACKAGE, Tree, boxes_of, download, take_out

FOVEAL = (sys.executable, "-m", "foveal.cli.main")
TRAINED = 2 / 3  # of the large picture's height
SHOWN = 0.4  # of a tree's area: those of which a part shows less are in neither part


def part(image: Image.Image, trees: list[Tree], top: int, bottom: int) -> tuple[Image.Image, list[Tree]]:
    """A band of a picture, and its trees in it."""
    kept = []
    for tree in trees:
        upper, lower = max(tree.ymin, top), min(tree.ymax, bottom)
        if lower - upper >= SHOWN * (tree.ymax - tree.ymin):
            kept.append(Tree(tree.xmin, upper - top, tree.xmax, lower - top))
    return image.crop((0, top, image.width, bottom)), kept


def fetch(folder: Path) -> Path:
    """The table of boxes, with the pictures beside it; made once."""
    table = folder / "trees.csv"
    if table.is_file():
        return table
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    with tempfile.TemporaryDirectory(dir=folder) as work, zipfile.ZipFile(download(TREES_PACKAGE, Path(work))) as wheel:
        for split, name in TREES.items():
            trees = boxes_of(take_out(wheel, f"deepforest/data/{name}.xml", Path(work)))
            with Image.open(take_out(wheel, f"deepforest/data/{name}.png", Path(work))) as opened:
                pictures[split] = opened.convert("RGB"), trees
    image, trees = pictures.pop("train")
    cut = round(image.height * TRAINED)
    pictures |= {"train": part(image, trees, 0, cut), "validation": part(image, trees, cut, image.height)}
    rows: list[tuple[object, ...]] = [("file", *Tree._fields, "class", "split")]
    for split, (image, trees) in pictures.items():
        image.save(folder / f"{split}.png")
        rows += [(f"{split}.png", *tree, "tree", split) for tree in trees]
    aside = folder / "unfinished.csv"
    with aside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    aside.replace(table)
    return table


def run(*arguments: object) -> str:
    done = subprocess.run([*FOVEAL, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def measure(table: Path, out: Path, options: list[str]) -> dict[str, object]:
    """Train unless that is done, and judge on the other place."""
    run("train", table, "--output", out, "--seed", 1, *options)
    judged = json.loads(run("evaluate", out, table, "--split", "test", "--json"))
    stored = json.loads((out / "model" / "foveal.json").read_text(encoding="utf-8"))
    figures = {name: judged.get(name) for name in ("mAP", "mAP_50_95", "recall", "precision")}
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "options": " ".join(options),
        "side": stored["preprocessing"]["height"],
        "steps": steps[-1]["step"],
        "validation_mAP": stored["metrics"]["mAP"],
        **{f"test_{name}": value for name, value in figures.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=6, help="of each training")
    parser.add_argument("--only", choices=("tiles", "whole"))
    parser.add_argument("--head", choices=("ssd", "pyramid"), default="ssd")
    parser.add_argument("--tile-size", type=int, default=400, help="pixels")
    wanted = parser.parse_args()
    table = fetch(wanted.work / "trees")
    weights = os.environ.get("FOVEAL_WEIGHTS")
    both = ["--head", wanted.head, "--max-minutes", f"{wanted.minutes:g}", *(["--weights", weights] if weights else [])]
    ways = {"tiles": ["--tile-size", str(wanted.tile_size)], "whole": ["--image-shape", "512"]}
    for way, options in ways.items():
        if wanted.only in (way, None):
            size = f"-{wanted.tile_size}" if way == "tiles" else ""
            out = wanted.work / f"{way}{size}-{wanted.head}-{wanted.minutes:g}"
            line = json.dumps({"way": way, **measure(table, out, [*both, *options])})
            print(line, flush=True)
            with (wanted.work / "aerial.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
