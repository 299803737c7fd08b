"""``.lst``: a list of pictures with their labels, as MXNet's im2rec takes it.

    0	3	cats/001.jpg
    1	3.000000	cats/002.jpg
    2	0	a dog.jpg

Index, one label or more, and path, separated by tabs; no header. Paths are relative to the list's folder, or to a root.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveal.errors import UserError
from foveal.formats.pictures import LONGEST_PATH, FileSource, Listing, find_root, short, shown, tidy_path
from foveal.records import BadRecord, Labels

_NUMBER_ANEW = "Each line has an index of its own: number the lines anew."
_EXPECTED = "A line is `index<tab>label<tab>path`: a whole number, a class number from 0, the picture's relative path."


def read_lst(
    path: Path,
    *,
    root: Path | None = None,
    origin: str = "",
    class_names: tuple[str, ...] | None = None,
    channel: str = "",
) -> FileSource:
    """Read a list. Line ends of Windows, blank lines and blanks at the end of a line do no harm.

    Args:
        root: the folder of the pictures; left out, the list's own folder, or one beside it that has them.
        channel: ``train`` or ``validation`` where the list is opened for training, for the original's message.

    Pictures that are not there are left out and named in ``bad``.

    Raises:
        UserError: for a line that can't be understood (file, line and its text are told), an empty list, and when
            none of the pictures is there.
    """
    files: list[str] = []
    values: list[float] = []
    widths: list[int] = []
    lines: list[int] = []
    first_lines: dict[int, int] = {}
    numbers: list[int] = []
    for number, line in enumerate(_lines(path), start=1):
        text = line.rstrip()
        if not text:
            continue
        fields = text.split("\t")
        problem = _problem(fields)
        if problem:
            raise _invalid(f"{path}, line {number}", f"{problem}: {short(text)!r}", channel)
        earlier = first_lines.setdefault(int(fields[0]), number)
        if earlier < number:
            told = f"the index {short(fields[0])} is in line {earlier} already: {short(text)!r}"
            raise _invalid(f"{path}, line {number}", told, channel, _NUMBER_ANEW)
        files.append(tidy_path(fields[-1]))
        values += map(float, fields[1:-1])
        widths.append(len(fields) - 2)
        lines.append(number)
        numbers.append(int(fields[0]))
    if not files:
        raise _invalid(str(path), "it names no picture", channel)
    root = root or find_root(path.parent, path.stem, files[:20])
    return _keep_what_is_there(path, root, origin or str(path), files, values, widths, lines, numbers, class_names)


def _invalid(where: str, what: str, channel: str, remedy: str = _EXPECTED) -> UserError:
    """In training, the original's sentence comes first (reference 1.1)."""
    if channel:
        return UserError(f"Invalid lst file in the {channel} channel.\n{where}: {what}", remedy=remedy)
    return UserError(what, where, remedy)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error


def _problem(fields: list[str]) -> str:
    """What is wrong with the fields of a line, or an empty text."""
    if len(fields) < 3:
        columns = "column" if len(fields) == 1 else "columns"
        return f"{len(fields)} {columns} separated by tabs, at least 3 are needed"
    try:
        int(fields[0])
    except ValueError:
        return f"the index {short(fields[0])!r} is no whole number"
    for field in fields[1:-1]:
        try:
            float(field)
        except ValueError:
            return f"the label {short(field)!r} is no number"
    return "" if fields[-1].strip() else "the path is empty"


def _keep_what_is_there(
    path: Path,
    root: Path,
    origin: str,
    files: list[str],
    values: list[float],
    widths: list[int],
    lines: list[int],
    numbers: list[int],
    class_names: tuple[str, ...] | None,
) -> FileSource:
    listing = Listing(root)
    places = [listing.find(file) for file in files]
    there = np.array([place is not None for place in places])
    bad = [
        BadRecord(
            shown(f"{path.name}, line {lines[row]}"),
            shown(f"the picture {short(files[row], LONGEST_PATH)} isn't in {root}"),
        )
        for row in np.flatnonzero(~there).tolist()
    ]
    if len(bad) == len(files):
        raise UserError(
            f"none of its {len(files):,} pictures is there; the first: {bad[0].reason}",
            str(path),
            "Paths are relative to the list's folder. Put the list there, or give the pictures' folder with --root.",
        )
    width = np.asarray(widths, dtype=np.int64)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as no class number
        kept = np.asarray(values, dtype=np.float32)[np.repeat(there, width)]
    return FileSource(
        "lst",
        origin,
        root,
        [place for place in places if place is not None],
        Labels(kept, np.concatenate([[0], np.cumsum(width[there])]).astype(np.int64)),
        class_names=class_names,
        bad=bad,
        listing=path.name,
        lines=np.asarray(lines, dtype=np.int64)[there],
        numbers=np.asarray(numbers, dtype=np.int64)[there] if all(0 <= each < 2**63 for each in numbers) else None,
    )
