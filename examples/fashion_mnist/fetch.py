"""Gets Fashion-MNIST (70,000 pictures of clothes, 28 x 28, ten classes, MIT licence) as a folder per class.

    python examples/fashion_mnist/fetch.py OUT

    OUT/train/Ankle_boot/00000.png ...   60,000 pictures to train on
    OUT/test/Ankle_boot/00000.png ...    10,000 pictures that are never trained on

It comes from Debian's package dataset-fashion-mnist where apt is there (no root rights needed), else from its
public source, else a smaller real set is taken: the handwritten digits that scikit-learn ships. What is taken is said.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.progress import track

CLASSES = ("T-shirt_top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle_boot")
FILES = {  # SHA-256; the same files in Debian's package and at the source
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
SPLITS = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
SOURCE = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DIGITS_ROWS = 1797
STAMP = "origin.json"  # written last: the folder is whole when it is there
LARGEST_FILE = 64 << 20  # bytes


class Unavailable(Exception):
    """A way to get the pictures that does not work here, and why."""


def fetch(out: Path) -> str:
    """Make the folder ``out`` unless it is there already, and return one line about what it holds."""
    shown, out = out, out.resolve()  # the commands below run in other folders
    stamp = out / STAMP
    if stamp.is_file():
        return f"{json.loads(stamp.read_text(encoding='utf-8'))['said']} (already in {shown})"
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".fetch-") as folder:
        work = Path(folder)
        for get in (from_debian, from_source, digits):
            try:
                said = get(work)
                break
            except Unavailable as error:
                print(error, file=sys.stderr, flush=True)
        else:
            sys.exit("No pictures could be had: neither from Debian nor from the network. Try again when online.")
        made = work / "made"
        (made / STAMP).write_text(json.dumps({"said": said}), encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)  # a folder without the stamp: an attempt that was cut off
        made.rename(out)
    return said


def from_debian(work: Path) -> str:
    """Debian's package, fetched and unpacked without root rights, with own package lists where there are none."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable("Debian's package: there is no apt-get here")
    lists, cache = work / "lists", work / "cache"
    own = ["-o", f"Dir::Cache={cache}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
    (cache / "archives" / "partial").mkdir(parents=True)
    (lists / "partial").mkdir(parents=True)
    try:
        run(["apt-get", *own, "download", DEBIAN_PACKAGE], work)
    except Unavailable:
        own += ["-o", f"Dir::State::Lists={lists}"]
        run(["apt-get", *own, "update"], work)
        run(["apt-get", *own, "download", DEBIAN_PACKAGE], work)
    packages = sorted(work.glob(f"{DEBIAN_PACKAGE}_*.deb"))
    if not packages:
        raise Unavailable(f"Debian's package: apt-get brought no {DEBIAN_PACKAGE}")
    run(["dpkg-deb", "-x", str(packages[0]), str(work / "unpacked")], work)
    folder = work / "unpacked" / "usr" / "share" / "datasets" / "fashion-mnist"
    write_fashion(lambda name: (folder / name).read_bytes(), work / "made")
    return "Fashion-MNIST from Debian's package dataset-fashion-mnist: 60,000 + 10,000 pictures, MIT licence"


def from_source(work: Path) -> str:
    """The four files of the data set's own repository."""

    def download(name: str) -> bytes:
        try:
            with urllib.request.urlopen(SOURCE + name, timeout=60) as answer:
                return bytes(answer.read(LARGEST_FILE))
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise Unavailable(f"Fashion-MNIST's public source: {error}") from error

    write_fashion(download, work / "made")
    return "Fashion-MNIST from its public source: 60,000 + 10,000 pictures, MIT licence"


def digits(work: Path) -> str:
    """The handwritten digits (1,797 pictures, 8 x 8, CC BY 4.0, from UCI) that lie in scikit-learn's package."""
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), "scikit-learn"], work)
    wheels = sorted(work.glob("scikit_learn*.whl"))
    if not wheels:
        raise Unavailable("scikit-learn's digits: pip brought no wheel of it")
    with zipfile.ZipFile(wheels[0]) as wheel:
        table = gzip.decompress(wheel.read("sklearn/datasets/data/digits.csv.gz"))
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.int64)
    if rows.shape != (DIGITS_ROWS, 65) or rows.min() < 0 or rows[:, :64].max() > 16 or rows[:, 64].max() > 9:
        raise Unavailable("scikit-learn's digits: the table in its package has changed")
    pictures = (rows[:, :64] * 255 // 16).astype(np.uint8).reshape(-1, 8, 8)
    labels, names = rows[:, 64], tuple(str(digit) for digit in range(10))
    last = np.arange(DIGITS_ROWS) >= DIGITS_ROWS * 4 // 5  # other writers than the first, as the set is ordered
    write_folders(work / "made" / "train", pictures[~last], labels[~last], names)
    write_folders(work / "made" / "test", pictures[last], labels[last], names)
    return "A smaller set instead of Fashion-MNIST: scikit-learn's digits, 1,437 + 360 pictures, CC BY 4.0"


def run(command: list[str], folder: Path) -> None:
    """Run a command in ``folder`` and show its last line when it fails. Raises Unavailable."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise Unavailable(f"{' '.join(command[:1] + command[-2:])}: {lines[-1]}")


def write_fashion(read: Callable[[str], bytes], out: Path) -> None:
    """Check the four files and write their pictures. Raises Unavailable when one is missing or wrong."""
    files = {name: checked(read, name) for name in FILES}
    for split, (prefix, count) in SPLITS.items():
        pictures = idx(files[f"{prefix}-images-idx3-ubyte.gz"], (count, 28, 28))
        labels = idx(files[f"{prefix}-labels-idx1-ubyte.gz"], (count,))
        write_folders(out / split, pictures, labels.astype(np.int64), CLASSES)


def checked(read: Callable[[str], bytes], name: str) -> bytes:
    try:
        content = read(name)
    except OSError as error:
        raise Unavailable(f"{name}: {error}") from error
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise Unavailable(f"{name}: not the file it should be (its SHA-256 differs)")
    return content


def idx(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array of an IDX file: magic 0x0000 08 <dimensions>, big-endian sizes, then uint8. Raises Unavailable."""
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise Unavailable(f"an IDX file cannot be unpacked: {error}") from error
    head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    if not content.startswith(head) or len(content) != len(head) + int(np.prod(shape)):
        raise Unavailable(f"an IDX file does not hold an array of {shape}")
    return np.frombuffer(content, np.uint8, offset=len(head)).reshape(shape)


def write_folders(out: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64], names: tuple[str, ...]) -> None:
    """Write uint8 pictures [n, h, w] as ``out/<class>/NNNNN.png``; the number is the picture's place in the set."""
    for name in names:
        (out / name).mkdir(parents=True, exist_ok=True)
    rows = zip(pictures, labels.tolist(), strict=True)
    for number, (picture, label) in enumerate(track(rows, len(pictures), f"writing {out.name} pictures")):
        Image.fromarray(picture).save(out / names[label] / f"{number:05d}.png", compress_level=1)


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python examples/fashion_mnist/fetch.py OUT")
    print(fetch(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
