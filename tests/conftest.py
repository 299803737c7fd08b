"""What tests share: the folder of given material, and small pictures that a tiny network learns in seconds."""

from __future__ import annotations

import os

# before torch is imported, and for the processes that tests start: one thread each, and no spinning while it waits
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

# The same examples each time, so that a change alone turns a test red; HYPOTHESIS_PROFILE=random looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("random", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

SHAPES = ("disc", "square", "triangle")
SIDE = 32  # pixels
COUNTS = {"train": 40, "test": 10}  # pictures a class


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is unpacked and fetched goes into a folder of the test run, that of its processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of fixtures too large to keep here: FOVEAL_SHARED, else ``shared`` beside the checkout."""
    given = os.environ.get("FOVEAL_SHARED")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the fixtures in {folder} (or FOVEAL_SHARED=FOLDER), which is not there")
    return folder


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``{train,test}/{disc,square,triangle}/NNN.{png,jpg}``: coloured shapes on noise; not to be written to."""
    root = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(7)
    for split, count in COUNTS.items():
        for shape in SHAPES:
            folder = root / split / shape
            folder.mkdir(parents=True)
            for number in range(count):
                suffix = "jpg" if number % 2 else "png"
                Image.fromarray(shape_picture(shape, rng)).save(folder / f"{number:03d}.{suffix}", quality=95)
    return root


def shape_picture(shape: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One picture: a bright shape of random size, place and colour on dark noise. uint8 [32, 32, 3]."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    radius = rng.uniform(7, 10)
    left, top = rng.uniform(radius, SIDE - radius, size=2)
    inside = {
        "disc": (x - left) ** 2 + (y - top) ** 2 <= radius**2,
        "square": np.maximum(abs(x - left), abs(y - top)) <= radius * 0.85,
        "triangle": (y - top <= radius * 0.8) & (y - top >= 2 * abs(x - left) - radius),
    }[shape]
    picture = rng.integers(0, 90, size=(SIDE, SIDE, 3))
    colour = rng.integers(150, 256, size=3) + rng.integers(-20, 1, size=(SIDE, SIDE, 3))
    picture[inside] = colour[inside]
    return picture.astype(np.uint8)


@dataclass(frozen=True)
class Bucket:
    """An S3 bucket of moto's server, and boto3's client to it."""

    name: str
    client: Any

    def put(self, key: str, content: bytes) -> str:
        """Store an object; returns its address."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)
        return f"s3://{self.name}/{key}"

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Store all files below a folder; returns the address of ``prefix``."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"s3://{self.name}/{prefix}"

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


_SERVER = """
import json, sys
from collections import Counter
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
answer, ranges = server._server.app, Counter()
def counted(environ, start_response):
    if environ["PATH_INFO"] == "/ranges-asked-for":  # how often each, since this was asked
        told = json.dumps(ranges).encode()
        ranges.clear()
        start_response("200 OK", [("Content-Length", str(len(told)))])
        return [told]
    if environ["REQUEST_METHOD"] == "GET" and "HTTP_RANGE" in environ:
        ranges[environ["PATH_INFO"] + " " + environ["HTTP_RANGE"]] += 1
    return answer(environ, start_response)
server._server.app = counted
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 server on this machine, a process of its own."""
    for part in ("obstore", "boto3", "moto"):
        pytest.importorskip(part, reason=f"needs {part}: pip install foveal[cloud] boto3 moto[server]")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", _SERVER], text=True, **pipes)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.communicate()


@pytest.fixture
def cloudless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No credentials, no settings of clouds, and an empty home and cache; the home."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "FOVEAL_CACHE")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return home


@pytest.fixture
def bucket(s3_endpoint: str, cloudless: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, and an environment that leads to it."""
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.Session(region_name="us-east-1").client("s3")
    name = f"photos-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=name)
    yield Bucket(name, client)
    client.close()
