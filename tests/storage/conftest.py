"""A server of files behind http that knows ranges, can be made to hang, and notes what was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Website:
    """``files`` by path; ``ranges``: whether it gives parts; ``hang_from``: the byte from which it does not answer."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    hang_from: int | None = None
    asked: list[str] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


def handler(site: Website) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = site.files.get(self.path)
            wanted = self.headers.get("Range") if site.ranges else None
            site.asked.append(f"{self.command} {self.path}" + (f" {wanted}" if wanted else ""))
            if content is None:
                self.answer(404, {}, b"")
                return
            tags = {"ETag": f'"{sha256(content).hexdigest()[:16]}"'}
            if wanted is None:
                self.answer(200, tags, content)
                return
            start, _, last = wanted.removeprefix("bytes=").partition("-")
            if site.hang_from is not None and int(start) >= site.hang_from:
                site.hanging.set()
                site.ended.wait(60)
                return
            part = content[int(start) : int(last) + 1]
            tags["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
            self.answer(206, tags, part)

        do_HEAD = do_GET  # noqa: N815

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def website(cloudless: Path) -> Iterator[Website]:
    pytest.importorskip("obstore", reason="needs obstore: pip install foveal[cloud]")
    site = Website()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(site))
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield site
    site.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()
