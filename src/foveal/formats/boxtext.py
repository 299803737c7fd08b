"""Boxes in any plain text: a line for each object, whose fields the user names.

    --columns 'x1 y1 x2 y2 class'        corners;  or  x y w h: upper left corner and size,  cx cy w h: centre and size

    001.jpg   001.txt                    a text file beside each picture, with its name (or 001_test.jpg for 001.txt)
    train.txt                            or files that list pairs, one a line: picture, label file
    boxes.txt                            or one text for all pictures, with a column `file`

Classes are numbers or names, coordinates pixels or fractions. A text without lines means a picture without objects.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import (
    LARGEST_ANNOTATION,
    Annotation,
    BoxFileSource,
    Gathered,
    Object,
    Place,
    match_classes,
    nothing_usable,
)
from foveal.formats.boxtable import told_unit
from foveal.formats.pictures import (
    LONGEST_PATH,
    Listing,
    find_root,
    in_natural_order,
    is_hidden,
    is_picture_name,
    short,
    shown,
    sort_class_names,
    tidy_path,
    walk_files,
)
from foveal.formats.splits import SPLITS
from foveal.records import BadRecord, Line, Reading, Remark

TEXTS = (".txt", ".csv", ".tsv", ".dat", ".lst", ".box", ".label", ".gt")  # suffixes of texts
_BOXES = {
    ("x1", "y1", "x2", "y2"): "corners",
    ("x", "y", "w", "h"): "corner and size",
    ("cx", "cy", "w", "h"): "centre and size",
}
_SPELLINGS = {
    "xmin": "x1", "ymin": "y1", "xmax": "x2", "ymax": "y2", "left": "x1", "top": "y1", "right": "x2", "bottom": "y2",
    "width": "w", "height": "h", "xc": "cx", "yc": "cy", "label": "class", "name": "class", "picture": "file",
}  # fmt: skip
_OTHERS = ("class", "file", "difficult", "-")
_TEACH = (
    "Name the fields of a line, in their order, as --columns 'x1 y1 x2 y2 class': corners x1 y1 x2 y2, or x y w h, or"
    " cx cy w h; class, file, difficult; - for a field to skip."
)
_LARGEST_TEXT = 1_000_000_000  # bytes of a list, or of a text of all pictures
_LOOKED_AT = 5  # lines that tell whether a text lists pairs


@dataclass(frozen=True)
class Fields:
    """What the fields of a line are. ``box``: places of the four coordinates, and what they are."""

    count: int
    box: tuple[int, int, int, int]
    kind: str
    label: int | None
    file: int | None
    difficult: int | None


@dataclass(frozen=True)
class _Text:
    """Boxes of one picture as they are found.

    Attributes:
        picture: the picture's path. note: where its boxes are written, for messages.
        path: the text that is read for it. lines: numbers and texts of its lines, where one text has all pictures.
    """

    picture: str
    note: str
    path: Path
    lines: Sequence[tuple[int, str]] | None = None


def parse_columns(columns: Sequence[str]) -> Fields:
    """Understand the names of the fields. Raises UserError for what no field is called, and for no or half a box."""
    names = [_SPELLINGS.get(name.lower(), name.lower()) for name in columns]
    if not names:
        raise UserError("the fields of a line aren't named", "columns", _TEACH, "columns")
    known = {*_OTHERS, *(name for box in _BOXES for name in box)}
    wrong = next((given for given, name in zip(columns, names, strict=True) if name not in known), None)
    if wrong is not None:
        raise UserError(f"{short(wrong)!r} is no field of a box", "columns", _TEACH, "columns")
    twice = next((name for name in names if name != "-" and names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is named twice", "columns", _TEACH, "columns")
    used = {name for name in names if name not in _OTHERS}
    box = next((box for box in _BOXES if set(box) == used), None)
    if box is None:
        raise UserError(f"{' '.join(columns)} names no box", "columns", _TEACH, "columns")
    x, y, right, bottom = map(names.index, box)

    def place(name: str) -> int | None:
        return names.index(name) if name in names else None

    return Fields(len(names), (x, y, right, bottom), _BOXES[box], place("class"), place("file"), place("difficult"))


def find_boxtext(folder: Path, columns: Sequence[str]) -> dict[str, Place]:
    """The splits in a folder: by lists of pairs, or texts of all pictures, that are called so; else ``all``.

    {} where texts and pictures lie in subfolders of splits, or there are none.
    """
    fields = parse_columns(columns)
    texts = sorted(path for path in folder.iterdir() if path.is_file() and _is_text(path.name))
    lists = {path.stem.lower(): path for path in texts if fields.file is not None or _lists_pairs(path)}
    named = {SPLITS[stem]: path for stem, path in lists.items() if stem in SPLITS}
    if "train" not in named and "trainval" in lists:
        named["train"] = lists["trainval"]
    if "train" not in named:
        named = dict.fromkeys(["all"], *lists.values()) if len(lists) == 1 else {}
    if named or fields.file is not None:
        pairs = fields.file is None
        return {split: Place("boxes", path, (folder,), path if pairs else None) for split, path in named.items()}
    if any(name.lower() in SPLITS and (folder / name).is_dir() for name in (each.name for each in folder.iterdir())):
        return {}
    if any(is_picture_name(name) for name in walk_files(folder)):
        return {"all": Place("boxes", folder, (folder,))}
    return {}


def boxtext_file(path: Path, columns: Sequence[str]) -> Place:
    """The place of a text that was named itself: of all pictures, or a list of pairs. Raises UserError for another."""
    if parse_columns(columns).file is not None:
        return Place("boxes", path, (path.parent,))
    if _lists_pairs(path):
        return Place("boxes", path, (path.parent,), path)
    raise UserError(
        "this text doesn't say to which pictures its boxes belong",
        str(path),
        "Name the folder of texts and pictures; a list of pairs, picture and label file; or a column `file`.",
    )


def read_boxtext(
    place: Place, reading: Reading, *, origin: str = "", class_names: tuple[str, ...] | None = None
) -> tuple[BoxFileSource, tuple[Line, ...]]:
    """Read one split.

    Args:
        reading: ``columns``, and ``separator`` and ``unit`` where they are given.
        class_names: names in label order. Left out, the names in the text, sorted; numbers have none.

    Returns:
        The source, and lines that tell how it was read.

    Texts with a line that can't be understood, and those whose picture isn't there, are left out and named in ``bad``.

    Raises:
        UserError: when none can be used, ``columns`` can't be understood, some classes are names and others numbers,
            and for a class that is not among ``class_names``.
    """
    fields = parse_columns(reading.columns)
    root = place.pictures[0]
    bad: list[BadRecord] = []
    said: list[Line] = []
    if fields.file is not None:
        root, found = _from_one_text(place.annotations, root, fields, reading, bad)
    elif place.listing is not None:
        found = _from_pairs(place.listing, root, bad, said)
    else:
        found = _beside_pictures(root, bad, said)
    kept: list[tuple[_Text, Annotation]] = []
    for text in found:
        try:
            kept.append((text, _parse(text, fields, reading)))
        except BadPicture as error:
            bad.append(BadRecord(error.where, error.what))
    if not kept:
        raise nothing_usable(place.annotations, len(bad), bad, "texts of boxes")
    gathered = Gathered()
    for _, annotation in kept:
        gathered.add(annotation)
    numbers, names = _classes(gathered.kinds, origin or str(place.annotations))
    unit = reading.unit or told_unit(annotation for _, annotation in kept)
    objects = gathered.table(numbers, unit)
    source = BoxFileSource(
        "boxes", origin or str(place.annotations), root, [text.picture for text, _ in kept],
        [text.note for text, _ in kept], objects, class_names=names, bad=bad,
    )  # fmt: skip
    how = "told" if reading.unit else "told from the numbers"
    size = {"pixel": "pixels", "fraction": "fractions of the picture"}[unit]
    said.append(f"{' '.join(reading.columns)}: {fields.kind}, in {size} ({how})")
    return match_classes(source, class_names), tuple(said)


def _classes(kinds: Iterable[str | int], origin: str) -> tuple[dict[str | int, int], tuple[str, ...] | None]:
    """Class numbers of the kinds; names, sorted, where they have some. Raises UserError where only some have."""
    numbers, texts = (
        [each for each in kinds if isinstance(each, int)],
        [each for each in kinds if isinstance(each, str)],
    )
    if numbers and texts:
        told = f"some classes are names ({short(min(texts))}), others numbers ({min(numbers)})"
        raise UserError(told, origin, "Use either everywhere.")
    names = sort_class_names(texts)
    return {number: number for number in numbers} | {name: row for row, name in enumerate(names)}, names or None


def _parse(text: _Text, fields: Fields, reading: Reading) -> Annotation:
    objects = []
    lines = text.lines
    if lines is None:
        lines = list(enumerate(_read(text.path, shown(str(text.path))), start=1))
    for number, line in lines:
        if not line.strip():
            continue
        where = shown(f"{text.path}, line {number}")
        objects.append(_object(_split(line, reading.separator), fields, reading.separator, where, line))
    return Annotation(tuple(each for each in objects if each is not None))


def _split(line: str, separator: str | None) -> list[str]:
    if separator is None or not separator.strip(" "):
        return line.split()
    return [part.strip() for part in line.strip("\r\n").split(separator)]


def _object(parts: list[str], fields: Fields, separator: str | None, where: str, line: str) -> Object | None:
    """The box of one line; None where a text of all pictures names one without objects."""
    if fields.file is not None and not any(part for place, part in enumerate(parts) if place != fields.file):
        return None
    if len(parts) != fields.count:
        between = "blanks" if separator is None or not separator.strip(" ") else repr(separator)
        told = f"{len(parts)} field{'s' * (len(parts) != 1)} between {between}, and {fields.count} columns are named"
        raise BadPicture(f"{told}: {short(line.strip())!r}", where)
    values = []
    for place in fields.box:
        try:
            value = float(parts[place])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadPicture(f"field {place + 1} is {short(parts[place])!r}, no number", where)
        values.append(value)
    x, y, right, bottom = values
    if fields.kind == "corner and size":
        right, bottom = x + right, y + bottom
    elif fields.kind == "centre and size":
        x, y, right, bottom = x - right / 2, y - bottom / 2, x + right / 2, y + bottom / 2
    kind = _kind(parts[fields.label], fields.label, where) if fields.label is not None else "object"
    difficult = fields.difficult is not None and parts[fields.difficult].lower() in ("1", "true", "yes")
    return Object(kind, x, y, right, bottom, difficult)


def _kind(text: str, place: int, where: str) -> str | int:
    """A class: a number where it is written as one, 3.0 included."""
    try:
        number = float(text)
    except ValueError:
        if text:
            return text
        raise BadPicture(f"field {place + 1}, the class, is empty", where) from None
    if not number.is_integer() or not 0 <= number < 2**31:
        raise BadPicture(f"field {place + 1} is {short(text)!r}, no class number", where)
    return int(number)


def _from_one_text(
    path: Path, base: Path, fields: Fields, reading: Reading, bad: list[BadRecord]
) -> tuple[Path, list[_Text]]:
    """The boxes of all pictures in one text, gathered by picture."""
    assert fields.file is not None
    by_file: dict[str, list[tuple[int, str]]] = {}
    for number, line in enumerate(_read(path, str(path), _LARGEST_TEXT), start=1):
        parts = _split(line, reading.separator)
        if not any(parts):
            continue
        name = tidy_path(parts[fields.file]) if fields.file < len(parts) else ""
        if name:
            by_file.setdefault(name, []).append((number, line))
        else:
            bad.append(BadRecord(f"{path.name}, line {number}", f"it names no file: {short(line.strip())!r}"))
    root = find_root(base, path.stem, list(by_file)[:20])
    listing = Listing(root)
    found = []
    for name, lines in by_file.items():
        picture = listing.find(name)
        note = f"{path.name}, line {lines[0][0]}"
        if picture is None:
            bad.append(BadRecord(shown(note), shown(f"the picture {short(name, LONGEST_PATH)} isn't in {root}")))
        else:
            found.append(_Text(picture, note, path, lines))
    return root, found


def _from_pairs(path: Path, root: Path, bad: list[BadRecord], said: list[Line]) -> list[_Text]:
    """Pictures and texts that a list names; what isn't where the list says is looked for by its name."""
    listing = Listing(root)
    everything = list(walk_files(root))
    texts = _by_name(name for name in everything if _is_text(name))
    pictures = _by_name(name for name in everything if is_picture_name(name))
    suffixes = _Suffixes(everything)
    found: list[_Text] = []
    elsewhere: list[str] = []
    for number, line in enumerate(_read(path, str(path), _LARGEST_TEXT), start=1):
        where = shown(f"{path.name}, line {number}")
        if not line.strip():
            continue
        pair = _pair(line)
        if pair is None:
            bad.append(BadRecord(where, f"isn't a picture and a label file: {short(line.strip())!r}"))
            continue
        named, label = pair
        text = listing.find(label) or texts.get(label.rpartition("/")[2])
        if text is None:
            bad.append(BadRecord(where, shown(f"the label file {short(label, LONGEST_PATH)} isn't in {root}")))
            continue
        picture = listing.find(named) or pictures.get(named.rpartition("/")[2]) or suffixes.picture(text)
        if picture is None:
            bad.append(BadRecord(where, shown(f"the picture {short(named, LONGEST_PATH)} isn't in {root}")))
            continue
        if picture != named or text != label:
            elsewhere.append(f"{where}: {named} {label}, found as {picture} {text}")
        found.append(_Text(picture, text, root / text))
    if elsewhere:
        count = f"{len(elsewhere):,} of the {len(found):,} pairs of {path.name} aren't where it says"
        told = shown(f"{count}, and were found by name; the first: {elsewhere[0]}")
        said.append(Remark("other-names", told))
    return found


def _beside_pictures(root: Path, bad: list[BadRecord], said: list[Line]) -> list[_Text]:
    """The texts that have a picture's name, and pictures that have no text."""
    everything = list(walk_files(root))
    suffixes = _Suffixes(everything)
    found: list[_Text] = []
    others = suffixes.others(root)
    for name in in_natural_order(each for each in everything if _is_text(each) and each not in others):
        picture = suffixes.picture(name)
        if picture is None:
            bad.append(BadRecord(shown(str(root / name)), "there is no picture of its name"))
        else:
            found.append(_Text(picture, name, root / name))
    taken = {text.picture for text in found}
    left = [name for name in everything if is_picture_name(name) and name not in taken]
    if suffixes.chosen:
        told = f"pictures called as their text with {suffixes.chosen!r} behind it are taken"
        said.append(told + (f"; {len(left):,} others are left out, e.g. {short(min(left))}" if left else ""))
    elif left:
        told = shown(f"left out: {len(left):,} pictures in {root} without a text, e.g. {short(min(left))}")
        said.append(Remark("passed-over", told))
    return found


class _Suffixes:
    """Finds the picture of a text by its name: the same, or with an ending that the most texts' pictures have."""

    def __init__(self, files: Sequence[str]) -> None:
        self._stems: dict[str, str] = {}
        for name in sorted(files, reverse=True):
            if is_picture_name(name):
                self._stems[name.rpartition(".")[0]] = name
        self._endings: Counter[str] = Counter()
        texts = {name.rpartition(".")[0] for name in files if _is_text(name)}
        for stem in self._stems:
            for cut in (place for place, mark in enumerate(stem) if mark in "_-." and place):
                if stem[:cut] in texts and stem[:cut] not in self._stems:
                    self._endings[stem[cut:]] += 1
        most = self._endings.most_common(2)
        tied = len(most) > 1 and most[0][1] == most[1][1]
        self.chosen = most[0][0] if most and not tied else ""

    def picture(self, text: str) -> str | None:
        stem = text.rpartition(".")[0]
        return self._stems.get(stem) or (self._stems.get(stem + self.chosen) if self.chosen else None)

    def others(self, root: Path) -> frozenset[str]:
        """Texts at the top that list pairs or classes, and are no boxes of a picture."""
        top = [each.name for each in root.iterdir() if _is_text(each.name)]
        return frozenset(
            name
            for name in top
            if self.picture(name) is None
            and (_lists_pairs(root / name) or name.lower() in ("classes.txt", "readme.txt", "license.txt"))
        )


def _by_name(files: Iterator[str]) -> dict[str, str]:
    """Paths by their last part, where only one has it."""
    found: dict[str, str] = {}
    twice = set()
    for file in files:
        name = file.rpartition("/")[2]
        if found.setdefault(name, file) != file:
            twice.add(name)
    return {name: file for name, file in found.items() if name not in twice}


def _pair(line: str) -> tuple[str, str] | None:
    """Picture and label file of a line, between blanks or a comma."""
    parts = [tidy_path(part) for part in line.replace(",", " ").split()]
    if len(parts) == 2 and is_picture_name(parts[0]) and _is_text(parts[1]):
        return parts[0], parts[1]
    return None


def _lists_pairs(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = [line for line, _ in zip(file, range(_LOOKED_AT), strict=False) if line.strip()]
    except OSError:
        return False
    return bool(lines) and all(_pair(line) is not None for line in lines)


def _is_text(name: str) -> bool:
    return name.lower().endswith(TEXTS) and not is_hidden(name.rpartition("/")[2])


def _read(path: Path, where: str, largest: int = LARGEST_ANNOTATION) -> list[str]:
    """The lines of a text. Raises BadPicture when it can't be read, or has more than ``largest`` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(min(os.fstat(file.fileno()).st_size, largest) + 1)  # the room for it is taken at once
    except OSError as error:
        raise BadPicture(f"can't be read: {error.strerror}", where) from error
    if len(content) > largest:
        raise BadPicture(f"it has more than {largest:,} bytes", where)
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(10) + 1
        raise BadPicture(f"isn't UTF-8 text: byte 0x{content[error.start]:02x}", f"{where}, line {line}") from error
