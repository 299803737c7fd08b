"""Milliseconds from a detector's answers to the boxes that count: SSD-300, 20 classes, 8732 anchors, batches of 8.

    python benchmarks/suppression.py [--threads 1] [--samples 30]

Two inputs: ``sparse`` is like a trained network's (about 3 % of the anchors are over the threshold, around a few
objects), ``dense`` like an untrained one's (nearly all are). Prints a line of JSON each, less is better; ``fixed`` is
the variant for other devices and exported graphs. A script that prints lines with the same ``work``, ``batch`` and
``threads`` for other software can be run in alternation with this one; only ratios from such runs mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

if "--threads" in sys.argv:  # read by OpenMP when torch is loaded
    os.environ["OMP_NUM_THREADS"] = sys.argv[sys.argv.index("--threads") + 1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from foveal.models.suppression import Rule, detect, detect_fixed

BATCH, ANCHORS, CLASSES = 8, 8732, 20


def inputs(case: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities [B, A, C + 1], offsets [B, A, 4] and anchors [A, 4]: the same numbers every time."""
    rng = np.random.RandomState(7)
    centre, size = rng.uniform(0.05, 0.95, (ANCHORS, 2)), rng.uniform(0.05, 0.5, (ANCHORS, 2))
    logits = rng.standard_normal((BATCH, CLASSES + 1, ANCHORS)).astype(np.float32)
    if case == "sparse":
        logits[:, 0] += 10
        for picture in logits:
            for _ in range(5):
                distance = ((centre - rng.uniform(0.2, 0.8, 2)) ** 2).sum(axis=1)
                near = np.argsort(distance)[:50]
                picture[rng.randint(1, CLASSES + 1), near] += rng.uniform(6, 14, 50)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    offsets = (0.5 * rng.standard_normal((BATCH, ANCHORS * 4))).astype(np.float32)
    anchors = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    return (
        torch.from_numpy(probabilities).transpose(1, 2).contiguous(),
        torch.from_numpy(offsets).reshape(BATCH, ANCHORS, 4),
        torch.from_numpy(anchors),
    )


def timed(work: Callable[[], object], samples: int) -> dict[str, float]:
    wall, cpu = [], []
    for number in range(samples + 3):
        began = time.perf_counter(), time.process_time()
        work()
        if number >= 3:  # warmed up
            wall.append(1e3 * (time.perf_counter() - began[0]))
            cpu.append(1e3 * (time.process_time() - began[1]))
    return {
        "median": round(statistics.median(wall), 4),
        "min": round(min(wall), 4),
        "max": round(max(wall), 4),
        "n": samples,
        "cpu_median": round(statistics.median(cpu), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--fixed", action="store_true", help="measure the variant with fixed shapes instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rule = Rule(nms_threshold=0.5, nms_topk=400)
    for case in ("sparse", "dense"):
        given = inputs(case)
        with torch.inference_mode():
            if options.fixed:
                figures = timed(lambda: detect_fixed(*given, rule), options.samples)  # noqa: B023
            else:
                figures = timed(lambda: detect(*given, rule=rule), options.samples)  # noqa: B023
        row = {"work": f"post_ssd300_{case}", "engine": "foveal-fixed" if options.fixed else "foveal"}
        print(json.dumps(row | {"threads": options.threads, "batch": BATCH, **figures, "unit": "ms"}), flush=True)


if __name__ == "__main__":
    main()
