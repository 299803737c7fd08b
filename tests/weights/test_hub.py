"""The hub's client against a server of our own that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

RESNET18 = "timm/resnet18.a1_in1k"
ASK = """
import sys
from foveal.errors import UserError
from foveal.weights import NetworkHint, NoWeights, find_weights
for request in sys.argv[1:]:
    try:
        found = find_weights(request, NetworkHint("resnet", 18, "post"))
    except UserError as error:
        print(type(error).__name__, str(error).replace(chr(10), " / "))
    else:
        print(found.origin, found.network.label, found.normalisation.mean[0], found.path.name)
"""


class Hub(ThreadingHTTPServer):
    """Serves files of repositories as huggingface.co does; keeps what was asked for."""

    def __init__(self, files: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = files
        self.asked: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        repo, _, name = self.path.removeprefix("/").partition("/resolve/main/")
        file = self.server.files.get(f"{repo}/{name}")
        if file is None:
            known = any(key.startswith(f"{repo}/") for key in self.server.files)
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(save_resnet: Callable[..., Path], tmp_path: Path) -> Iterator[Hub]:
    config = tmp_path / "config.json"
    cfg = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    config.write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": cfg}))
    files = {
        f"{RESNET18}/model.safetensors": save_resnet(),
        f"{RESNET18}/config.json": config,
        "owner/empty/README.md": config,
    }
    with Hub(files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(endpoint: str, home: Path, *requests: str) -> list[str]:
    """A line for each request, from a process of its own: the client reads its environment when it is imported."""
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("HF_")} | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK, *requests], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_weights_come_by_name_once_and_then_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    lines = ask(f"http://127.0.0.1:{hub.server_port}", tmp_path / "home", "", RESNET18)
    assert lines == [f"{RESNET18} ResNet-18 (num_layers=18, resnet=post) 123.675 model.safetensors"] * 2
    assert [asked for asked in hub.asked if asked.startswith("GET")] == [
        f"GET /{RESNET18}/resolve/main/config.json",
        f"GET /{RESNET18}/resolve/main/model.safetensors",
    ]


def test_what_the_hub_lacks_is_told(hub: Hub, tmp_path: Path) -> None:
    lines = ask(f"http://127.0.0.1:{hub.server_port}", tmp_path, "owner/none", "owner/empty")
    assert lines[0].startswith("UserError weights: the hub has no repository 'owner/none' / Download")
    assert lines[1].startswith("UserError weights: owner/empty has no model.safetensors / Download")


def test_an_unreachable_hub_is_told_at_once_with_the_way_out(tmp_path: Path) -> None:
    assert ask("http://127.0.0.1:9", tmp_path, "") == [
        f"NoWeights weights: the weights {RESNET18} cannot be had: the hub (http://127.0.0.1:9) is not reachable / "
        f"Download model.safetensors from https://huggingface.co/{RESNET18} on a machine that can reach it, then set "
        "weights=FILE, or let FOVEAL_WEIGHTS name the file or a folder of such files."
    ]
