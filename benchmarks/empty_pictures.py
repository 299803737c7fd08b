"""What pictures without objects teach: false alarms in empty pictures, with and without negatives_per_empty_picture.

    python benchmarks/empty_pictures.py BCCD WEIGHTS WORK [--seeds 3] [--epochs 8]

BCCD is a folder with train, val and test in Pascal VOC form; WEIGHTS a file of EfficientNet-Lite0. In a copy every
second training picture is emptied: its boxes are painted over with its own background, and its annotation names no
object. As many emptied pictures join the test pictures. For each seed two detectors are trained that differ in
negatives_per_empty_picture alone (0 and 32). Both are asked at the confidence at which they find the same share of the
test pictures' objects, and their false alarms in the emptied test pictures are counted.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import foveal
from foveal.algorithms.detection import ask, collect
from foveal.data.loader import Decoder
from foveal.data.recognise import open_data
from foveal.evaluation import evaluate
from foveal.judging.detection import DetectionJudgement, judge_detection
from foveal.predictor import DetectionPredictor, load

RECALLS = (0.7, 0.8)
COLOURED = 20  # difference of a pixel's channels from which it belongs to a cell


def emptied(picture: Path, annotation: str, rng: np.random.Generator) -> Image.Image:
    """The picture with each box, grown by a tenth, and whatever else is coloured like a cell (many have no box) filled
    with its background: pixels taken at random from the rest. Dust, seams and shades stay."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).copy()
    height, width = pixels.shape[:2]
    covered = np.zeros((height, width), dtype=bool)
    for corners in re.findall(
        r"<xmin>(\d+)</xmin>\s*<ymin>(\d+)</ymin>\s*<xmax>(\d+)</xmax>\s*<ymax>(\d+)</ymax>", annotation
    ):
        left, top, right, bottom = map(int, corners)
        x, y = (right - left) // 10 + 2, (bottom - top) // 10 + 2
        covered[max(0, top - y) : bottom + y, max(0, left - x) : right + x] = True
    coloured = np.ptp(pixels.astype(np.int16), axis=2) > COLOURED
    spread = Image.fromarray(coloured).convert("L").filter(ImageFilter.MaxFilter(9))
    covered |= np.asarray(spread) > 0
    bright = pixels.sum(2) >= np.quantile(pixels.sum(2), 0.7)
    background = pixels[bright & ~coloured] if (bright & ~coloured).any() else pixels[bright]
    pixels[covered] = background[rng.integers(0, len(background), int(covered.sum()))]
    return Image.fromarray(pixels)


def make_set(source: Path, out: Path) -> None:
    """Copy the set; in train every second picture is emptied, in test an emptied copy of each joins it."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for folder in ("JPEGImages", "Annotations"):
            (out / split / folder).mkdir(parents=True)
        for number, xml in enumerate(sorted((source / split / "Annotations").glob("*.xml"))):
            text = xml.read_text(encoding="utf-8")
            picture = source / split / "JPEGImages" / f"{xml.stem}.jpg"
            without = re.sub(r"<object>.*?</object>\s*", "", text, flags=re.DOTALL)
            empty = split == "train" and number % 2 == 1
            if not empty:
                shutil.copy(picture, out / split / "JPEGImages" / picture.name)
                (out / split / "Annotations" / xml.name).write_text(text, encoding="utf-8")
            if empty or split == "test":
                name = f"{xml.stem}_empty"
                without = without.replace(picture.name, f"{name}.jpg")
                emptied(picture, text, rng).save(out / split / "JPEGImages" / f"{name}.jpg", quality=92)
                (out / split / "Annotations" / f"{name}.xml").write_text(without, encoding="utf-8")


def at_recall(model: DetectionPredictor, data: Path, recalls: Sequence[float]) -> list[float]:
    """False alarms per empty test picture at the confidence at which each share of all objects is found."""
    source = open_data(data, task="boxes").test
    assert source is not None
    answers = collect(ask(model.network, Decoder(source, 3), model.rule, model.suppression, 1))

    def judged(confidence: float) -> DetectionJudgement:
        return judge_detection(answers.truths, answers.found, model.class_names, coco=False, confidence=confidence)

    alarms = []
    for recall in recalls:
        low, high = 0.0, 1.0
        for _ in range(20):  # recall falls with confidence
            middle = (low + high) / 2
            counts = judged(middle).classes
            if counts.found.sum() / counts.objects.sum() >= recall:
                low = middle
            else:
                high = middle
        alarms.append(judged(low).false_alarms_per_empty_picture)
    return alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bccd", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    data = options.work / "data"
    if not data.exists():
        make_set(options.bccd, data)
    for seed in range(options.seeds):
        for negatives in (0, 32):
            run = options.work / f"seed{seed}-{negatives}"
            foveal.train(
                data,
                run,
                seed=seed,
                epochs=options.epochs,
                weights=options.weights,
                negatives_per_empty_picture=negatives,
                freeze_layer_pattern=r"^(conv_stem|bn1|blocks\.[012]\.)",
            )
            model = load(run)
            assert isinstance(model, DetectionPredictor)
            judged = evaluate(model, data, split="test")
            line = {"seed": seed, "negatives": negatives, "mAP": judged.verdict.figures["mAP"]}
            for recall, alarms in zip(RECALLS, at_recall(model, data, RECALLS), strict=True):
                line[f"false_alarms_at_recall_{recall:g}"] = alarms
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
