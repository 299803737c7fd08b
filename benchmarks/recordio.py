"""How quickly ``.rec`` files are opened and read, and what that costs in memory.

    python benchmarks/recordio.py read photos.rec [--samples 7]
    python benchmarks/recordio.py scale FOLDER [--gigabytes 20] [--records 250000]

``read`` prints a line of JSON for each work, records a second of wall time (``median``) and of this process's time
(``cpu_median``), more is better: ``foveal-index`` opens the file and reads all labels, ``foveal-view`` gives each
payload without a copy, ``foveal-bytes`` with one, ``foveal-sample`` takes it apart into picture and label. A script
that prints lines with the same ``work``, ``batch`` and ``threads`` for other software can be run in alternation with
this one; only ratios from such runs mean anything.

``scale`` makes a large file in FOLDER (real headers, mixed lengths, holes for the pictures), opens it twice, each time
in a fresh process that then reads 10,000 records in random order, prints times, memory and what they come to for a
terabyte, and removes it. The second opening takes the index that the first one kept (in FOLDER).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foveal.formats.imagerecord import HEADER_BYTES, pack
from foveal.formats.recordio import frame
from foveal.formats.recsource import RecordSource

READS = 10_000
LEAST = 4_000  # records in a sample: fewer take too short a time to measure
START = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"  # of a picture; the rest is a hole


def rates(work: Callable[[], object], records: int, samples: int) -> dict[str, float]:
    """Records a second: medians over ``samples`` after one that warms up."""
    wall, busy = [], []
    for _ in range(samples + 1):
        started, started_busy = time.perf_counter(), time.process_time()
        work()
        busy.append(time.process_time() - started_busy)
        wall.append(time.perf_counter() - started)
    return {"median": records / statistics.median(wall[1:]), "cpu_median": records / statistics.median(busy[1:])}


def read(path: Path, samples: int) -> None:
    source = RecordSource([path])
    rounds = max(1, LEAST // len(source))
    order = list(range(len(source)))
    shuffled = random.Random(1).sample(order, len(order))

    def opened() -> None:
        for _ in range(rounds):
            RecordSource([path])

    def taken(rows: list[int], use: Callable[[memoryview], object]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(rounds):
                for row in rows:
                    use(source.payload(row))

        return work

    def sampled() -> None:
        for _ in range(rounds):
            for row in order:
                source.read(row)

    works: list[tuple[str, str, Callable[[], None]]] = [
        ("read_sequential", "foveal-index", opened),
        ("read_sequential", "foveal-view", taken(order, len)),
        ("read_sequential", "foveal-bytes", taken(order, bytes)),
        ("read_shuffled", "foveal-view", taken(shuffled, len)),
        ("read_shuffled", "foveal-bytes", taken(shuffled, bytes)),
        ("read_sequential_unpack", "foveal-sample", sampled),
    ]
    for name, engine, work in works:
        line = {"work": name, "engine": engine, "threads": 1, "batch": 1, "unit": "items/s", "n": samples}
        print(json.dumps(line | rates(work, rounds * len(source), samples)), flush=True)


def make(path: Path, size: int, records: int) -> None:
    """A ``.rec`` of about ``size`` bytes: real headers and labels, and holes where the pictures would go on."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(0, 0.6, records)
    lengths = np.maximum(lengths * (size / lengths.sum()) - HEADER_BYTES - 8, len(START)).astype(np.int64)
    offset = 0
    with path.open("wb") as file:
        for number, length in enumerate(lengths.tolist()):
            head = bytearray(frame(pack(START, float(number % 1000), number)))[: 8 + HEADER_BYTES + len(START)]
            head[4:8] = (HEADER_BYTES + length).to_bytes(4, "little")
            file.seek(offset)
            file.write(head)
            offset += 8 + (HEADER_BYTES + length + 3 & ~3)
        file.truncate(offset)


def memory() -> dict[str, int]:
    """MiB of this process alone: what only it has touched, the pages of files among it."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    fields = {line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines}
    return {name: fields[name] for name in ("Rss", "Private_Clean", "Private_Dirty")}


def open_and_read(path: Path) -> None:
    """What ``scale`` runs in a fresh process: a line of JSON."""
    before, peak = memory(), 0
    started, busy = time.perf_counter(), time.process_time()
    source = RecordSource([path])
    opened, opened_busy = time.perf_counter() - started, time.process_time() - busy
    after = memory()
    peak = after["Private_Clean"] + after["Private_Dirty"]
    kept = sum(value.nbytes for value in vars(source).values() if isinstance(value, np.ndarray))
    started, total = time.perf_counter(), 0
    for count, row in enumerate(random.Random(0).choices(range(len(source)), k=READS)):
        total += len(source.read(row).picture)
        if count % 100 == 0:
            now = memory()
            peak = max(peak, now["Private_Clean"] + now["Private_Dirty"])
    line = {
        "records": len(source), "left_out": len(source.bad), "open_s": opened, "open_cpu_s": opened_busy,
        "kept_bytes_a_record": kept / len(source), "reads": READS, "reads_s": time.perf_counter() - started,
        "read_gb": total / 1e9, "before_mib": before, "peak_private_mib": peak,
    }  # fmt: skip
    print(json.dumps(line))


def scale(folder: Path, size: int, records: int) -> None:
    path = folder / "scale.rec"
    if path.exists() or (folder / "cache").exists():
        sys.exit(f"{path} or {folder / 'cache'} is there already: remove it, or name another folder")
    try:
        started = time.perf_counter()
        make(path, size, records)
        held = path.stat().st_blocks * 512
        print(f"made {path.stat().st_size:,} bytes ({held:,} on disk) in {time.perf_counter() - started:.1f} s")
        env = os.environ | {"XDG_CACHE_HOME": str(folder.resolve() / "cache")}
        figures = []
        for turn in ("first", "second"):
            command = [sys.executable, __file__, "one", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
            figures.append(json.loads(done.stdout))
            print(f"{turn} opening: {done.stdout.strip()}", flush=True)
        first, second = figures
        times = 1e12 / path.stat().st_size
        records = first["records"] * times
        print(
            f"by arithmetic, 1 TB of such records: {records:,.0f} records; index of"
            f" {first['kept_bytes_a_record'] * records / 1e6:,.0f} MB in memory; opened first in"
            f" {first['open_s'] * times:,.0f} s ({first['open_cpu_s'] * times:,.0f} s of one core), where the first"
            f" page of each record is in the file cache ({4096 * records / 1e9:,.0f} GB), and then in"
            f" {second['open_s'] * times:,.1f} s"
        )
    finally:
        path.unlink(missing_ok=True)
        shutil.rmtree(folder / "cache", ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", choices=("read", "scale", "one"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--samples", type=int, default=7)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--records", type=int, default=250_000)
    options = parser.parse_args()
    if options.work == "read":
        read(options.path, options.samples)
    elif options.work == "one":
        open_and_read(options.path)
    else:
        os.makedirs(options.path, exist_ok=True)
        scale(options.path, int(options.gigabytes * 1e9), options.records)


if __name__ == "__main__":
    main()
