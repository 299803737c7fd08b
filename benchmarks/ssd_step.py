"""Milliseconds of one training step of SSD: forward, matching, loss, backward, update by SGD with momentum.

    python benchmarks/ssd_step.py [--only vgg16_300,resnet50_512] [--mixed] [--plain] [--threads 1] [--profile]

VGG-16 at 300 pixels with 4 pictures a step, the original's ResNet-50 at 512 with 2; 20 classes, pictures of noise, one
to five boxes each. Prints a line of JSON for each, less is better. A script that prints lines with the same ``work``,
``batch`` and ``threads`` for other software can be run in alternation with this one; only ratios from such runs mean
anything. ``--plain`` lays memory out channel by channel instead of as training does; ``--profile`` says instead where
the time of a step goes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass

if "--threads" in sys.argv:  # read by OpenMP when torch is loaded
    os.environ["OMP_NUM_THREADS"] = sys.argv[sys.argv.index("--threads") + 1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from foveal.models.allocation import memory_kept
from foveal.models.detector import Detector, DetectorSpec, build_detector
from foveal.models.device import choose_precision, place
from foveal.models.matching import match_anchors, ssd_loss
from foveal.training.optimizers import build_optimizer

WORKS = {"vgg16_300": ("vgg-16", "", 300, 4), "resnet50_512": ("resnet-50", "pre", 512, 2)}
CLASSES = 20
MEAN, STD = (123.68, 116.78, 103.94), (58.4, 57.1, 57.4)


@dataclass
class Step:
    """A network with everything that a step needs; ``run`` does one."""

    network: Detector
    optimizer: torch.optim.Optimizer
    pixels: Tensor
    labels: Tensor
    autocast: torch.dtype | None

    def run(self) -> float:
        """The loss before the update."""
        with torch.autocast("cpu", self.autocast) if self.autocast else nullcontext():
            logits, offsets, anchors = self.network(self.pixels)
            targets = match_anchors(anchors, self.labels, logits.detach())
            sums, shares, _ = ssd_loss(logits, offsets, targets)
            loss = (sums / shares.clamp(min=1)).sum()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def prepare(work: str, mixed: bool, plain: bool) -> Step:
    base, kind, side, batch = WORKS[work]
    torch.manual_seed(1)
    spec = DetectorSpec(base, CLASSES, (3, side, side), resnet=kind, mean=MEAN, std=STD)  # type: ignore[arg-type]
    device = torch.device("cpu")
    network = place(build_detector(spec), device).train()
    assert isinstance(network, Detector)
    if plain:
        network.to(memory_format=torch.contiguous_format)
        network.normalise.register_forward_hook(lambda _, __, pictures: pictures.contiguous())
    optimizer = build_optimizer(
        network.named_parameters(), "sgd", learning_rate=1e-3, momentum=0.9, weight_decay=1e-4, decay_norm=True
    )
    rng = np.random.default_rng(1)
    pixels = torch.from_numpy(rng.integers(0, 256, (batch, side, side, 3), dtype=np.uint8))
    labels = torch.from_numpy(boxes(rng, batch))
    return Step(network, optimizer, pixels, labels, choose_precision("float16", device).autocast if mixed else None)


def boxes(rng: np.random.Generator, batch: int) -> np.ndarray:
    """Labels float32 [batch, 8, 6]: one to five boxes a picture, the rest -1."""
    labels = np.full((batch, 8, 6), -1, np.float32)
    for picture in labels:
        for row in picture[: rng.integers(1, 6)]:
            size = rng.uniform(0.1, 0.6, 2)
            corner = rng.uniform(0, 1 - size)
            row[:] = [rng.integers(CLASSES), *corner, *(corner + size), 0]
    return labels


def measure(step: Step, samples: int) -> dict[str, float]:
    wall, cpu = [], []
    for number in range(samples + 1):
        began = time.perf_counter(), time.process_time()
        step.run()
        if number:  # warmed up
            wall.append(1e3 * (time.perf_counter() - began[0]))
            cpu.append(1e3 * (time.process_time() - began[1]))
    return {
        "median": round(statistics.median(wall), 2),
        "min": round(min(wall), 2),
        "max": round(max(wall), 2),
        "n": samples,
        "cpu_median": round(statistics.median(cpu), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(WORKS), help="comma-separated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--mixed", action="store_true", help="bfloat16 where the processor computes in it")
    parser.add_argument("--plain", action="store_true", help="memory channel by channel")
    parser.add_argument("--profile", action="store_true", help="list what takes the time of one step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for work in options.only.split(","):
        step = prepare(work, options.mixed, options.plain)
        if options.profile:
            step.run()
            with profile(activities=[ProfilerActivity.CPU]) as found:
                step.run()
            print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=50))
            continue
        with memory_kept(torch.device("cpu")):
            figures = measure(step, options.samples)
        engine = "foveal" + ("-plain" if options.plain else "") + ("-bfloat16" if step.autocast else "")
        row = {"work": f"train_ssd_{work}", "engine": engine, "threads": options.threads, "batch": len(step.pixels)}
        print(json.dumps(row | figures | {"unit": "ms"}), flush=True)


if __name__ == "__main__":
    main()
