"""What the recipes reach on real pictures: train with documented commands, judge once on the test pictures, add up.

    python benchmarks/real_sets.py SETS WORK                          every set, three seeds for classes, one for boxes
    python benchmarks/real_sets.py SETS WORK --only faces xray --seeds 1
    python benchmarks/real_sets.py SETS WORK --only bccd --variant no-ema="--ema-decay 0" --minutes 15
    python benchmarks/real_sets.py SETS WORK --choose                 on a part of train, instead of test
    python benchmarks/real_sets.py --table                            what real_sets.jsonl holds, as text

SETS holds a folder for each set, unpacked. A finished run appends one line of JSON to real_sets.jsonl beside this
script, and is not started again; a run that was interrupted goes on when the script is started again. ``--choose`` sets
a quarter of the training pictures aside (in groups, where shots of one thing would leak) and judges on these: recipes
are chosen so, and test pictures are left for the end. FOVEAL_WEIGHTS names the weights to start from.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_suffix(".jsonl")
FOVEAL = (sys.executable, "-m", "foveal.cli.main")
PCB = (
    "--format", "boxes", "--columns", "x1 y1 x2 y2 class", "--separator", " ",
    "--names", "1=open,2=short,3=mousebite,4=spur,5=copper,6=pin-hole",
)  # fmt: skip
NEIGHBOURS = 100  # numbers of magnet tiles up to so far apart are shots of one tile
TAGS = "person,vehicle,animal,food,kitchen,furniture,electronic,appliance,indoor,accessory,sports,outdoor"


@dataclass(frozen=True)
class RealSet:
    """A set and the command that trains on it.

    Attributes:
        train: what is trained on, below the set's folder. test: what is judged on; None: the test split of ``train``.
        reading: options that say how it is read, for both.
        figure: of what evaluate prints, the one to compare.
        minutes: most minutes of training. seeds: runs with seeds 1, 2, ...
    """

    name: str
    train: str
    figure: str
    minutes: int
    seeds: int
    test: str | None = None
    reading: tuple[str, ...] = ()


SETS = (
    RealSet("faces", ".", "accuracy", 10, 3),
    RealSet("vehicle-damage", ".", "accuracy", 10, 3),
    RealSet("magnetic-tile", ".", "accuracy", 10, 3),
    RealSet("multilabel-photos", "train.csv", "mAP", 10, 3, "test.csv", ("--labels", TAGS)),
    RealSet("bccd", ".", "mAP", 60, 1),
    RealSet("deeppcb", ".", "mAP", 60, 1, reading=PCB),
    RealSet("xray", ".", "mAP", 60, 1),
    RealSet("face-mask", "annotations/train.json", "mAP", 60, 1, "annotations/val.json"),
)


@dataclass(frozen=True)
class Run:
    """One training: a set, a seed, what is added to the documented command, and whether it chooses or judges."""

    set: RealSet
    seed: int
    variant: str
    added: tuple[str, ...]
    minutes: int
    choosing: bool

    @property
    def name(self) -> str:
        return f"{self.set.name}-{self.variant}-{self.minutes}min-{'choose-' * self.choosing}{self.seed}"

    def key(self) -> tuple[object, ...]:
        return self.set.name, self.seed, self.variant, list(self.added), self.minutes, self.choosing


def key_of(line: dict[str, Any]) -> tuple[object, ...]:
    return tuple(line[name] for name in ("set", "seed", "variant", "added", "minutes", "choosing"))


def chosen_parts(folder: Path, work: Path) -> tuple[Path, Path]:
    """A table of three quarters of a folder's training pictures, and one of the rest, in groups of one thing's shots.

    Magnet tiles were photographed up to six times (exp1 to exp6) under neighbouring numbers: every fourth run of
    neighbours is set aside. Elsewhere every fourth picture of a class is.
    """
    rows: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for each in sorted((folder / "train").iterdir()):
        group, last = -1, None
        for place, path in enumerate(sorted(each.iterdir(), key=_number)):
            number = _number(path)
            together = "exp" in path.name and last is not None and number - last <= NEIGHBOURS
            group = group + (not together) if "exp" in path.name else place
            last = number
            rows[group % 4 == 3].append((str(path), each.name))
    tables = (work / f"{folder.name}-part.csv", work / f"{folder.name}-rest.csv")
    for table, aside in zip(tables, (False, True), strict=True):
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file", "label"), *rows[aside]])
    return tables


def _number(path: Path) -> int:
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else 0


def commands(run: Run, sets: Path, work: Path) -> tuple[list[str], list[str]]:
    """The command that trains, and the one that judges."""
    folder = sets / run.set.name
    data, judged = folder / run.set.train, folder / (run.set.test or run.set.train)
    split = [] if run.set.test else ["--split", "test"]
    if run.choosing and run.set.figure == "accuracy":
        data, judged = chosen_parts(folder, work)
        split = []
    elif run.choosing:
        judged, split = data, ["--split", "validation"]
    out = work / run.name
    own = ["--seed", str(run.seed), "--max-minutes", str(run.minutes), "--output", str(out)]
    train = [*FOVEAL, "train", str(data), *run.set.reading, *own, *run.added]
    judge = [*FOVEAL, "evaluate", str(out), str(judged), *run.set.reading, *split, "--json"]
    return train, judge


def perform(run: Run, sets: Path, work: Path) -> dict[str, Any]:
    """Train and judge; the line that is kept."""
    train, judge = commands(run, sets, work)
    print(f"{run.name}: {shlex.join(train[3:])}", flush=True)
    started, spent = time.monotonic(), _children()
    with (work / f"{run.name}.log").open("ab") as log:
        subprocess.run(train, stdout=log, stderr=subprocess.STDOUT, check=True)
    wall, cpu = time.monotonic() - started, _children() - spent
    figures = json.loads(subprocess.run(judge, stdout=subprocess.PIPE, check=True, text=True).stdout)
    line = {
        "set": run.set.name,
        "seed": run.seed,
        "variant": run.variant,
        "added": list(run.added),
        "minutes": run.minutes,
        "choosing": run.choosing,
        "figure": run.set.figure,
        "value": figures[run.set.figure],
        "wall_minutes": round(wall / 60, 2),
        "cpu_minutes": round(cpu / 60, 2),
        "weights": Path(os.environ.get("FOVEAL_WEIGHTS", "")).name,
        "command": shlex.join(["foveal", *train[3:]]).replace(str(sets), "SETS").replace(str(work), "WORK"),
        "commit": _commit(),
        "torch": version("torch"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "day": time.strftime("%Y-%m-%d"),
        "figures": {name: value for name, value in figures.items() if isinstance(value, (int, float))},
        "per_class": figures.get("per_class"),
    }
    print(f"{run.name}: {run.set.figure} {line['value']:.4f} after {line['wall_minutes']} min", flush=True)
    return line


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    )
    return asked.stdout.strip()


def read_results() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []


def print_table() -> None:
    """A line for each set and variant: mean and spread over seeds."""
    groups: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for line in read_results():
        judged = "part of train" if line["choosing"] else "test"
        groups[line["set"], line["variant"], line["minutes"], judged, line["figure"]].append(line["value"])
    for (name, variant, minutes, judged, figure), values in sorted(groups.items(), key=str):
        spread = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        mean = statistics.mean(values)
        print(f"{name:18} {variant:20} {minutes:3} min  {judged:14} {figure} {mean:.4f}{spread} ({len(values)} runs)")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", type=Path, nargs="?")
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--only", nargs="+", choices=[each.name for each in SETS])
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--minutes", type=int)
    parser.add_argument("--variant", action="append", default=[], help='NAME="options added to the command"')
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(arguments)
    if options.table:
        print_table()
        return
    options.work.mkdir(parents=True, exist_ok=True)
    variants = [each.split("=", 1) for each in options.variant] or [["documented", ""]]
    done = [key_of(line) for line in read_results()]
    for each in SETS:
        if options.only and each.name not in options.only:
            continue
        for seed in range(1, (options.seeds or each.seeds) + 1):
            for name, added in variants:
                minutes = options.minutes or each.minutes
                run = Run(each, seed, name, tuple(shlex.split(added)), minutes, options.choose)
                if run.key() in done:
                    continue
                line = perform(run, options.sets, options.work)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
