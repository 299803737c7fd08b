"""Writing many files so that a kill loses nothing: aside, with a journal of what is done, then renamed.

    OUT.partial/journal.jsonl    {"job": ...}, then a line for each picture that is done
    OUT.partial/data/            what becomes OUT

The same job finds the journal again and goes on behind its last whole line.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import UserError
from foveal.files import sync
from foveal.formats.writing import Entry
from foveal.records import Boxes


class Stage:
    """The folder in which something is written, and its journal.

    Args:
        out: what it becomes.
        job: tells this job from any other, as text.

    Attributes:
        folder: ``OUT.partial``. data: the folder that is written into.
        done: lines of the journal that were there already. last: the last of them that names a ``place``.
        complete: everything has been written, and only has to be put in its place.

    Raises:
        UserError: when another job lies there.
    """

    def __init__(self, out: Path, job: str) -> None:
        self.folder = out.with_name(out.name + ".partial")
        self.data = self.folder / "data"
        self._journal = self.folder / "journal.jsonl"
        self.done, self.last, self.complete = 0, None, False
        if self._journal.exists():
            self._go_on(job)
        elif self.data.exists():
            raise self._other("something that this didn't write")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._journal.open("ab", buffering=0)
            self._write({"job": job})
        self.data.mkdir(exist_ok=True)

    def note(self, line: dict[str, Any]) -> None:
        """Write down that a picture is done; it is, when this returns and the process dies."""
        self._write(line)

    def entries(self) -> Iterator[dict[str, Any]]:
        """All lines of pictures, in order."""
        with self._journal.open("rb") as file:
            next(file)
            for text in file:
                line = json.loads(text)
                if "complete" not in line:
                    yield line

    def finish(self) -> None:
        """Say that everything is written."""
        if not self.complete:
            self._write({"complete": True})
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _go_on(self, job: str) -> None:
        whole = 0
        with self._journal.open("rb") as file:
            for number, text in enumerate(file):
                line = _parsed(text)
                if line is None:
                    break
                if number == 0 and line.get("job") != job:
                    raise self._other("an unfinished job of other data or options")
                whole += len(text)
                self.complete = "complete" in line
                self.done += number > 0 and not self.complete
                self.last = line.get("place", self.last)
        self._file = self._journal.open("r+b", buffering=0)
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write({"job": job})

    def _other(self, what: str) -> UserError:
        return UserError(
            f"it holds {what}", str(self.folder), "Finish that with the command that began it, or remove the folder."
        )


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A whole line of a journal, else None."""
    if not text.endswith(b"\n"):
        return None
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


class Container:
    """Files that records or samples are appended to, one file after another.

    Args:
        folder: where they lie.
        last: the place of the last record that was noted, [file, first byte, end]: what lies behind is cut off.
    """

    def __init__(self, folder: Path, last: list[Any] | None) -> None:
        self._folder = folder
        self.name, self.end = "", 0
        self._handle = -1
        if last is not None:
            self._open(last[0], last[2])

    def append(self, name: str, content: bytes) -> list[Any]:
        """Write into the file ``name`` (a new one, or the last one); returns the place."""
        if name != self.name:
            self._open(name, 0)
        start = self.end
        view = memoryview(content)
        while view:
            view = view[os.write(self._handle, view) :]
        self.end = start + len(content)
        return [name, start, self.end]

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            sync(self._folder / self.name)
            self._handle = -1

    def _open(self, name: str, end: int) -> None:
        self.close()
        self._handle = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        os.ftruncate(self._handle, end)
        os.lseek(self._handle, end, os.SEEK_SET)
        self.name, self.end = name, end


def entry_line(entry: Entry) -> dict[str, Any]:
    """An entry for the journal; float32 numbers survive as JSON to the bit."""
    line: dict[str, Any] = {"number": entry.number, "file": entry.file, "size": entry.size, "depth": entry.depth}
    label = entry.label
    if isinstance(label, Boxes):
        marks = zip(label.cls.tolist(), label.values.tolist(), label.difficult, label.crowd, strict=True)
        rows = [[kind, *corners, int(difficult), int(crowd)] for kind, corners, difficult, crowd in marks]
        line |= {"boxes": rows, "unit": label.unit}
    else:
        line["label"] = label.tolist() if isinstance(label, np.ndarray) else label
    if entry.group is not None:
        line["group"] = entry.group
    if entry.stored is not None:
        line["stored"] = entry.stored.tolist()
    return line


def entry_of(line: Mapping[str, Any]) -> Entry:
    """The entry of a line of the journal."""
    size = (line["size"][0], line["size"][1])
    label: Any = line.get("label")
    if "boxes" in line:
        rows = np.array(line["boxes"], dtype=np.float64).reshape(-1, 7)
        label = Boxes(
            values=rows[:, 1:5].astype(np.float32),
            cls=rows[:, 0].astype(np.int64),
            unit=line["unit"],
            of="upright",
            difficult=rows[:, 5] > 0,
            crowd=rows[:, 6] > 0,
            extra=np.zeros((len(rows), 0), dtype=np.float32),
            size=size,
        )
    elif isinstance(label, list):
        label = np.array(label, dtype=np.float32)
    stored = np.array(line["stored"], dtype=np.float32) if "stored" in line else None
    return Entry(line["number"], line["file"], size, line["depth"], label, line.get("group"), stored)
