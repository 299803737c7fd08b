"""How quickly pictures are read, resized and augmented on one core, against the parts that were weighed.

    python benchmarks/pictures.py [--quality 90] [--rounds 7]

All candidates run in alternation, round by round, and the quickest round of each counts: other work on the machine
then falls on all of them alike. Compare ratios of one run only. OpenCV takes part where it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import io
import time
from collections.abc import Callable
from types import ModuleType

import numpy as np
import simplejpeg
import torch
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from PIL import Image

from foveal.data.augment import LEVELS, OURS, augment
from foveal.data.colour import shift_hls
from foveal.data.decode import decode
from foveal.data.resize import resize, warp
from foveal.data.views import Preprocessing

Bytes = NDArray[np.uint8]
HEIGHT, WIDTH, COUNT = 375, 500, 8


def photograph(seed: int) -> Bytes:
    """Smoothed noise of several octaves with common light and separate tints, uint8 [HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(seed)

    def octave(cell: int) -> NDArray[np.float32]:
        small = rng.standard_normal((HEIGHT // cell + 2, WIDTH // cell + 2)).astype(np.float32)
        return np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))

    light = sum(octave(cell) * (cell / 128) ** 0.7 for cell in (128, 64, 32, 16, 8, 4, 2))
    tints = [octave(128) + octave(32) * 0.4 for _ in range(3)]
    planes = [rng.uniform(60, 190) + 35 * light + 14 * tint for tint in tints]
    noise = rng.standard_normal((HEIGHT, WIDTH)) * 4
    return np.clip(np.stack(planes, axis=-1) + noise[:, :, None], 0, 255).astype(np.uint8)


def encoded(image: Bytes, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def milliseconds(candidates: dict[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Time of one picture by candidate: the quickest of ``rounds`` alternating rounds over all pictures."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds + 1):  # one more to warm up
        for name, work in candidates.items():
            start = time.perf_counter()
            for i in range(COUNT):
                work(i)
            best[name] = min(best[name], (time.perf_counter() - start) / COUNT * 1e3)
    return best


def show(title: str, times: dict[str, float], chosen: str) -> None:
    print(f"\n{title}")
    for name, took in sorted(times.items(), key=lambda item: item[1]):
        print(f"  {name:34s} {took:7.3f} ms {1000 / took:9,.0f} a second   {took / times[chosen]:5.2f} x {chosen}")


def readers(files: list[bytes], cv2: ModuleType | None) -> dict[str, Callable[[int], object]]:
    found: dict[str, Callable[[int], object]] = {
        "decode": lambda i: decode(files[i], 3),
        "simplejpeg alone": lambda i: simplejpeg.decode_jpeg(files[i]),
        "pillow": lambda i: np.asarray(Image.open(io.BytesIO(files[i])).convert("RGB")),
    }
    if cv2 is not None:
        found["opencv"] = lambda i: cv2.imdecode(np.frombuffer(files[i], np.uint8), cv2.IMREAD_COLOR)
    return found


def resizers(images: list[Bytes], cv2: ModuleType | None) -> dict[str, Callable[[int], object]]:
    """500 x 375 to a shorter side of 256."""
    found: dict[str, Callable[[int], object]] = {
        "resize": lambda i: resize(images[i], 256, 341, antialias=False),
        "resize, antialias": lambda i: resize(images[i], 256, 341, antialias=True),
        "resize, box to 224, antialias": lambda i: resize(images[i], 224, 224, True, (86, 23, 414, 351)),
        "pillow, antialias": lambda i: np.asarray(
            Image.fromarray(images[i]).resize((341, 256), Image.Resampling.BILINEAR)
        ),
        "pillow, box to 224, antialias": lambda i: np.asarray(
            Image.fromarray(images[i]).resize((224, 224), Image.Resampling.BILINEAR, box=(86, 23, 414, 351))
        ),
    }
    if cv2 is not None:
        found["opencv"] = lambda i: cv2.resize(images[i], (341, 256))
        found["opencv, box to 224"] = lambda i: cv2.resize(images[i][23:351, 86:414], (224, 224))
    return found


def colours(images: list[Bytes], cv2: ModuleType | None) -> dict[str, Callable[[int], object]]:
    """HLS shifts of 224 x 224."""
    crops = [np.ascontiguousarray(image[:224, :224]) for image in images]
    found: dict[str, Callable[[int], object]] = {"shift_hls": lambda i: shift_hls(crops[i], 20, -30, 40)}
    if cv2 is not None:

        def by_opencv(i: int) -> object:
            moved = cv2.cvtColor(crops[i], cv2.COLOR_RGB2HLS).astype(np.int16) + np.array([20, -30, 40], dtype=np.int16)
            return cv2.cvtColor(np.clip(moved, 0, [180, 255, 255]).astype(np.uint8), cv2.COLOR_HLS2RGB)

        found["opencv"] = by_opencv
    return found


def warps(images: list[Bytes], cv2: ModuleType | None) -> dict[str, Callable[[int], object]]:
    """A rotated crop of 224 x 224 out of 341 x 256."""
    small = [resize(image, 256, 341, antialias=False) for image in images]
    forward = np.array([[1.0, 0.1, -5.0], [-0.1, 1.0, 5.0]])
    coefficients = (1.0, -0.1, 5.0, 0.1, 1.0, -5.0)
    found: dict[str, Callable[[int], object]] = {
        "warp": lambda i: warp(small[i], forward, (58, 16, 282, 240)),
        "pillow": lambda i: np.asarray(
            Image.fromarray(small[i]).transform(
                (224, 224), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
            )
        ),
    }
    if cv2 is not None:
        found["opencv, whole picture"] = lambda i: cv2.warpAffine(small[i], forward, (341, 256))
    return found


def levels(files: list[bytes]) -> dict[str, Callable[[int], object]]:
    """Decoding and augmenting to 224 x 224, shorter side 256."""
    original = Preprocessing("crop", 3, 224, 224, 256, antialias=False)
    modern = Preprocessing("crop", 3, 224, 224, 256, antialias=True)

    def run(level: str | None, rule: Preprocessing) -> Callable[[int], object]:
        return lambda i: augment(decode(files[i], 3), level, rule, Generator(Philox(key=[0, i])))

    found = {f"decode + {level}": run(level, original) for level in ("none", *LEVELS)}
    return (
        found | {f"decode + {level}": run(level, modern) for level in OURS} | {"decode": lambda i: decode(files[i], 3)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", type=int, default=90, help="of the JPEGs")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    try:
        cv2: ModuleType | None = importlib.import_module("cv2")
    except ImportError:
        cv2 = None
    if cv2 is not None:
        cv2.setNumThreads(1)
    # A loader has freed a batch by then, after which glibc gives small arrays back to the system no longer (each
    # picture would pay for fresh pages again: up to twice the time).
    np.ones((32, 224, 224, 3), dtype=np.uint8)
    images = [photograph(seed) for seed in range(COUNT)]
    files = [encoded(image, chosen.quality) for image in images]
    print(f"{COUNT} pictures of {WIDTH} x {HEIGHT}, {sum(map(len, files)) / COUNT / 1000:.0f} kB each, one thread")
    show("reading", milliseconds(readers(files, cv2), chosen.rounds), "decode")
    show("resizing to 341 x 256", milliseconds(resizers(images, cv2), chosen.rounds), "resize")
    show("HLS shifts, 224 x 224", milliseconds(colours(images, cv2), chosen.rounds), "shift_hls")
    show("affine warp to 224 x 224", milliseconds(warps(images, cv2), chosen.rounds), "warp")
    show("whole pictures to 224 x 224", milliseconds(levels(files), chosen.rounds), "decode")


if __name__ == "__main__":
    main()
