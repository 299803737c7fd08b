"""Pictures a second from records to batches: read, decode, vary, stack; by wall time and by CPU time, on one thread.

    python benchmarks/pipeline.py PHOTOS.rec PHOTOS_DET.rec [--repeat 5]

PHOTOS.rec holds pictures with a class, PHOTOS_DET.rec with boxes. Prints a line of JSON for each work, more is better:
the original's random crop of 224 out of 256 with mirroring, and SSD's variation at 300 pixels. A script that prints
lines with the same ``work``, ``batch`` and ``threads`` for other software can be run in alternation with this one; only
ratios from such runs mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from foveal.data.augment import augment
from foveal.data.boxaugment import augment_boxes, collate_boxes
from foveal.data.loader import Decoder, batches
from foveal.data.order import Order, picture_generator
from foveal.data.recognise import open_data
from foveal.data.views import Preprocessing
from foveal.records import Boxes, Source

BATCH = 32


def crop(image: Any, label: Any, row: int, number: int) -> Any:
    rule = Preprocessing("crop", 3, 224, 224, resize=256, antialias=False)
    return augment(image, "crop", rule, picture_generator(1, number, row)), 0 if isinstance(label, Boxes) else label


def ssd(image: Any, label: Any, row: int, number: int) -> Any:
    rule = Preprocessing("squeeze", 3, 300, 300, antialias=False)
    return augment_boxes(image, label, rule, picture_generator(1, number, row))


def measure(
    source: Source, prepare: Callable[..., Any], collate: Callable[[list[Any]], Any], repeat: int
) -> dict[str, Any]:
    """Pictures a second; a pass to warm up, then ``repeat`` passes. Decoded pictures are not kept."""
    decoder, order = Decoder(source, 3), Order(len(source), 1)
    wall, cpu = [], []
    for number in range(repeat + 1):
        slices = (
            range(at, at + BATCH) for at in range(number * len(source), (number + 1) * len(source) - BATCH + 1, BATCH)
        )
        began, pictures = (time.perf_counter(), time.process_time()), 0
        for batch in batches(decoder, order, slices, lambda places: prepare, collate, workers=0):
            pictures += len(batch.rows)
        if number:
            wall.append(pictures / (time.perf_counter() - began[0]))
            cpu.append(pictures / (time.process_time() - began[1]))
    figures = {
        "median": statistics.median(wall),
        "min": min(wall),
        "max": max(wall),
        "cpu_median": statistics.median(cpu),
    }
    return {name: round(value, 1) for name, value in figures.items()} | {"n": repeat, "unit": "items/s"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("boxes", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos, boxes = open_data(options.photos).train, open_data(options.boxes, task="boxes").train
    for work, figures in (
        ("pipeline_crop_224", measure(photos, crop, list, options.repeat)),
        ("pipeline_ssd_300", measure(boxes, ssd, collate_boxes, options.repeat)),
    ):
        print(json.dumps({"work": work, "engine": "foveal", "threads": 1, "batch": BATCH} | figures), flush=True)


if __name__ == "__main__":
    main()
