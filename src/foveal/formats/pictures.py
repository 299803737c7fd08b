"""Picture files on disk with a label each: what the forms ``lst``, ``folder`` and ``csv`` have in common."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveal.errors import BadPicture, UserError
from foveal.records import BadRecord, Label, Labels, Sample
from foveal.storage.address import is_address
from foveal.storage.cache import named, read_address, read_file

SUFFIXES = frozenset((
    ".apng", ".avif", ".avifs", ".bmp", ".bw", ".dds", ".dib", ".gif", ".icb", ".ico", ".j2c", ".j2k", ".jfif", ".jp2",
    ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi",
    ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp",
))  # fmt: skip
"""Suffixes of pictures that Pillow reads; lower case."""

LONGEST_FIELD, LONGEST_PATH = 80, 255  # characters of a list or table that messages show


class FileSource:
    """Pictures in files, under one folder.

    Args:
        form: name of the data form.
        origin: what the user named.
        root: the folder that ``files`` are relative to.
        files: paths with forward slashes, or addresses (``s3://bucket/key``).
        labels: of each file; one number, or several.
        class_names: names in label order, when known.
        groups: a group name for each file, when known.
        bad: what was left out.
        listing: name of the list or table that names the files, for messages; empty for folders.
        lines: int64 [n], line numbers in it, from 1.
        numbers: int64 [n], the number that a list gives each file, when it does.

    ``key`` is the path as in ``files``; where a list names a file more than once, with its line.
    """

    def __init__(
        self,
        form: str,
        origin: str,
        root: Path,
        files: Sequence[str],
        labels: Labels,
        *,
        class_names: tuple[str, ...] | None = None,
        groups: tuple[str, ...] | None = None,
        bad: Sequence[BadRecord] = (),
        listing: str = "",
        lines: NDArray[np.int64] | None = None,
        numbers: NDArray[np.int64] | None = None,
    ) -> None:
        self.form = form
        self.origin = origin
        self.root = root
        self.files = tuple(files)
        self.class_names = class_names
        self.groups = groups
        self.bad = tuple(bad)
        self.numbers = numbers
        self._labels = labels
        self._listing = listing
        self._lines = lines
        self._repeated = len(set(self.files)) < len(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def labels(self) -> Labels:
        return self._labels

    def where(self, index: int) -> str:
        """``train.lst, line 42 (cats/1.jpg)``, or the file's path."""
        if self._lines is None:
            return shown(str(self.root / self.files[index]))
        return shown(f"{self._listing}, line {self._lines[index]} ({self.files[index]})")

    def read(self, index: int) -> Sample:
        file = self.files[index]
        picture = read_named(self.root, file, self.where(index))
        key = f"{file} (line {self._lines[index]})" if self._repeated and self._lines is not None else file
        return Sample(shown(key), picture, self._label(index))

    def _label(self, index: int) -> Label:
        values = self._labels.values[self._labels.offsets[index] : self._labels.offsets[index + 1]]
        if len(values) == 1 and float(values[0]).is_integer():
            return int(values[0])
        return values

    def fingerprint(self) -> str:
        """SHA-256 over the relative paths and sizes of the files, and the labels."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file}\0{file_size(self.root / file)}\0".encode("utf-8", "surrogateescape"))
        digest.update(self._labels.values.tobytes())
        digest.update(self._labels.offsets.tobytes())
        return digest.hexdigest()


def read_named(root: Path, file: str, where: str) -> bytes:
    """The encoded picture at a path below ``root``, or at an address. Raises BadPicture when it can't be read."""
    return read_address(file, where) if is_address(file) else read_picture(root / file, where)


def read_picture(path: Path, where: str) -> bytes:
    """The encoded picture; of an object in a store, as ``foveal.storage.cache.read_file`` finds it.

    Raises BadPicture when it can't be read.
    """
    try:
        return read_file(path)
    except OSError as error:
        raise BadPicture(f"can't be read: {error.strerror}", where) from error


def file_size(path: Path) -> int:
    """Bytes of a file, -1 when it can't be asked."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # ValueError: a NUL byte, which an address may have
        return -1


def single_labels(numbers: Iterable[int]) -> Labels:
    """``Labels`` of one number a record."""
    values = np.fromiter(numbers, dtype=np.float32)
    return Labels(values, np.arange(len(values) + 1, dtype=np.int64))


def is_picture_name(name: str) -> bool:
    return "." + name.rpartition(".")[2].lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Hidden files, and the folder that macOS adds to zip archives."""
    return name.startswith(".") or name == "__MACOSX"


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sorting key in which digits count as numbers: ``2.jpg`` before ``10.jpg``. Ties are left to the text itself."""
    return tuple((0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", text))


def in_natural_order(files: Iterable[str]) -> list[str]:
    """Sorted by ``natural``, and by the text itself where that doesn't decide."""
    return sorted(files, key=lambda file: (natural(file), file))


def walk_files(folder: Path) -> Iterator[str]:
    """Paths below ``folder``, relative to it, with forward slashes; hidden ones and linked folders left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        relative = Path(parent).relative_to(folder).as_posix()
        prefix = "" if relative == "." else relative + "/"
        for name in names:
            if not is_hidden(name):
                yield prefix + name


def picture_files(folder: Path) -> list[Path]:
    """The pictures below a folder, told by their names, in natural order of their paths.

    Hidden files (macOS's ``._1.jpg`` are such), linked folders and links that lead nowhere are left out.
    """
    names = in_natural_order(file for file in walk_files(folder) if is_picture_name(file))
    return [folder / name for name in names if (folder / name).is_file()]


class Listing:
    """Tells which files are there, reading each folder once instead of asking for each file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, dict[str, str]] = {}

    def find(self, file: str) -> str | None:
        """``file`` when it is there; with a picture's suffix when it is there with that and has none; else None.

        Names that no file can have (too long, with a NUL byte) are not there.
        """
        folder, _, name = file.rpartition("/")
        names = self._folders.get(folder)
        if names is None:
            names = self._folders[folder] = self._read(folder)
        if name in names:
            return f"{folder}/{names[name]}" if folder else names[name]
        # Where upper and lower case are one. ``Path.is_file`` would raise for names that are too long.
        return file if name and os.path.isfile(self._root / file) else None

    def _read(self, folder: str) -> dict[str, str]:
        try:
            there = sorted(os.listdir(self._root / folder if folder else self._root))
        except (OSError, ValueError):  # ValueError: a NUL byte
            return {}
        stems = {os.path.splitext(name)[0]: name for name in reversed(there) if is_picture_name(name)}
        return stems | {name: name for name in there}


def find_root(base: Path, stem: str, files: Sequence[str]) -> Path:
    """The folder that the paths of a list or table refer to.

    ``base``, in which the list lies, when any of ``files`` is there; else a folder beside the list with its name
    (``train`` for ``train.csv``), ``train_images``, or ``images``; ``base`` again when they are in none.
    """
    for root in (base, base / stem, base / f"{stem}_images", base / "images"):
        listing = Listing(root)
        if os.path.isdir(root) and any(listing.find(file) for file in files):
            return root
    return base


def shown(text: str) -> str:
    """A path as it can be printed: bytes that aren't UTF-8 as escapes, copies of objects by their addresses."""
    return named(text).encode("utf-8", "backslashreplace").decode("utf-8")


def short(text: str, longest: int = LONGEST_FIELD) -> str:
    """The beginning of a text, as a message can show it."""
    return text if len(text) <= longest else text[:longest] + "..."


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names one after another, as a message can show them: the first ``most``, none of them too long."""
    return ", ".join(map(short, names[:most])) + (", ..." if len(names) > most else "")


def tidy_path(text: str) -> str:
    """A path of a list or table with forward slashes and without ``./`` at its start."""
    path = text.strip().replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    return path


def sort_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names in label order: as numbers where all are whole numbers (of up to 100 digits), else by text."""
    unique = set(names)
    if unique and all(re.fullmatch(r"[+-]?\d{1,100}", name) for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))


def refuse_one_name(names: Sequence[str], where: str, remedy: str) -> None:
    """Raise UserError where two classes, told apart by their numbers, have one name."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        first = numbers.setdefault(name, number)
        if first < number:
            raise UserError(f"the classes {first} and {number} have one name: {short(name)}", where, remedy)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line in label order; blank lines at the end don't count.

    Raises:
        UserError: when the file can't be read, names nothing, has a blank line between names, or a name twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"can't be read as text: {error}", str(path), "Store it as UTF-8, one class name a line."
        ) from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError("names no class", str(path), "Write one class name a line, in label order, or remove the file.")
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            raise UserError(
                "a blank line between class names", f"{path}, line {number}", "Remove it, or write the name."
            )
        first = seen.setdefault(line, number)
        if first < number:
            raise UserError(
                f"the class {short(line)!r} is already named in line {first}",
                f"{path}, line {number}",
                "Name each class once.",
            )
    return tuple(lines)
