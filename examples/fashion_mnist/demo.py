"""The main job on real pictures: folders -> RecordIO -> training -> judging -> predictions -> a model to keep.

Run by `make demo`. Every step is a command that is printed before it runs; the line after it says how to do the same
with your own pictures. A second run finds its work done and only shows it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MINUTES = 6.0
SHOWN = 20


def foveal(*arguments: object) -> None:
    """Print a foveal command and run it; the demo ends where it fails."""
    words = [str(word) for word in arguments]
    print(f"\n$ foveal {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "foveal.cli.main", *words]).returncode
    if status:
        sys.exit(status)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="folder for pictures and model")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time to train in")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    pictures, packed, run = options.work / "pictures", options.work / "packed", options.work / "run"

    fetched = subprocess.run([sys.executable, str(HERE / "fetch.py"), str(pictures)]).returncode
    if fetched:
        sys.exit(fetched)
    if not (packed / "train.rec").exists():
        foveal("pack", pictures, packed)
    say("Packed into RecordIO. With your own: foveal pack YOUR_FOLDER packed/ (a subfolder of pictures per class)")

    foveal("train", packed, "--output", run, "--max-minutes", options.minutes)
    say("Trained. With your own: foveal train packed/, or straight on the folder: foveal train YOUR_FOLDER")

    foveal("evaluate", run, packed, "--split", "test")
    say("Judged on pictures it was not trained on. With your own: foveal evaluate MODEL packed/")

    sheet = draw_predictions(run, pictures / "test", options.work / "predictions.png")
    some = sorted((pictures / "test").rglob("*.png"))[:: max(1, len(list((pictures / "test").rglob("*.png"))) // 5)][:5]
    foveal("predict", run, *some)
    say("Asked. With your own: foveal predict MODEL PICTURES, or in Python: foveal.load(MODEL).predict(PICTURE)")

    print(f"\nPredictions drawn with their pictures: {sheet}")
    print(f"The model, to copy wherever it is wanted:  {run / 'model.tar.gz'}")
    print(f"Figures of every epoch:                    {run / 'metrics.jsonl'}")


def draw_predictions(run: Path, test: Path, target: Path) -> Path:
    """A sheet of test pictures, one or two of each class, with what they are and what the model says."""
    import foveal
    from foveal.data.decode import decode
    from foveal.draw import Caption, contact_sheet

    classes = sorted(folder for folder in test.iterdir() if folder.is_dir())
    files = [sorted(folder.iterdir())[turn] for turn in range(2) for folder in classes][:SHOWN]
    model = foveal.load(run)
    assert isinstance(model, foveal.Predictor)
    answers = model.predict(files)
    captions = [
        Caption(answer.label or "none", answer.score, file.parent.name)
        for file, answer in zip(files, answers, strict=True)
    ]
    contact_sheet([decode(file.read_bytes(), 3) for file in files], captions, columns=5).save(target)
    return target


if __name__ == "__main__":
    main()
