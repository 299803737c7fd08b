"""YOLO: a text file for each picture, a line for each object.

    images/train/001.jpg   labels/train/001.txt      or train/images and train/labels, or side by side
    data.yaml              names: [cat, dog], train: images/train, val: images/val, path: where these lie

    0 0.51 0.42 0.25 0.30                            class, then centre x, centre y, width, height as fractions

The label of a picture lies where ``images`` in its path is replaced by ``labels``, else beside the picture. A missing
or empty file means a picture without objects. Classes are named by the YAML file's ``names``, or by ``classes.txt``,
``obj.names`` or ``_darknet.labels``. Boxes are kept as corners, in fractions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import (
    Annotation,
    BoxFileSource,
    Gathered,
    Object,
    Place,
    as_name,
    folders_by_name,
    match_classes,
    nothing_usable,
    picture_folder,
    read_annotation,
)
from foveal.formats.pictures import (
    LONGEST_PATH,
    file_size,
    in_natural_order,
    is_hidden,
    is_picture_name,
    read_class_names,
    short,
    shown,
    tidy_path,
    walk_files,
)
from foveal.formats.splits import SPLITS
from foveal.records import BadRecord, Line

NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names")
_YAML_KEYS = ("train", "val", "test")
_LARGEST_YAML = 1_000_000  # bytes
_MOST_BRACKETS = 200  # PyYAML takes seconds for a thousand in each other
_LOOKED_AT = 20  # label files that tell whether a folder is such
_TEACH = (
    "A YOLO data file has `names: [cat, dog]` and `train:` (`val:`, `test:`) with folders of pictures, relative to"
    " `path:` or to the file's own folder."
)
_FIELDS = ("class", "x", "y", "width", "height")


def find_yolo(folder: Path) -> dict[str, Place]:
    """The splits in a folder (or ``all``), as a YAML file or subfolders tell them; {} when it isn't YOLO."""
    for path in _yaml_files(folder):
        if _load(path, strict=False):
            return yaml_places(path)
    inner = folders_by_name(folder)
    pictures, labels = picture_folder(folder), inner.get("labels")
    names = names_file(folder, *([labels] if labels else []), folder.parent)
    if pictures != folder and labels is not None and _holds_labels(labels, deep=True):
        splits = {SPLITS[name]: path for name, path in folders_by_name(pictures).items() if name in SPLITS}
        if "train" in splits:
            return {split: Place("yolo", path, (path,), names) for split, path in splits.items()}
        return {"all": Place("yolo", pictures, (pictures,), names)}
    if _holds_labels(folder, deep=False) and any(is_picture_name(name) for name in _names_in(folder)):
        return {"all": Place("yolo", folder, (folder,), names)}
    return {}


def yaml_places(path: Path) -> dict[str, Place]:
    """The splits that a YAML file names.

    Raises:
        UserError: when it isn't YAML, has no ``train``, or a folder that it names isn't there.
    """
    data = _load(path, strict=True)
    if not data.get("train"):
        raise UserError("names no training pictures (train)", str(path), _TEACH)
    places = {}
    for key in _YAML_KEYS:
        entries = data.get(key)
        listed = [entries] if isinstance(entries, str) else entries or []
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            raise UserError(f"{key} is {short(repr(entries))}, no path or list of paths", str(path), _TEACH)
        found = tuple(_resolve(path, data.get("path"), each, key) for each in listed if each)
        if found:
            places[SPLITS[key]] = Place("yolo", path, found, path)
    return places


def read_yolo(
    place: Place, *, origin: str = "", class_names: tuple[str, ...] | None = None
) -> tuple[BoxFileSource, tuple[Line, ...]]:
    """Read the labels of one split.

    Args:
        class_names: names in label order; left out, those of the YAML or names file, if there is one.

    Returns:
        The source, and lines that tell what was left out without being broken.

    Pictures with a broken label, and labels without a picture, are left out and named in ``bad``.

    Raises:
        UserError: when there is no picture, none with a label file, a names file is broken, and for a class that is
            not among ``class_names``.
    """
    own = _own_names(place)
    pictures, bad = _pictures(place)
    if len({picture.is_absolute() for picture in pictures}) > 1:
        pictures = [picture.absolute() for picture in pictures]
    root = Path(os.path.commonpath([os.path.dirname(each) for each in pictures])) if pictures else place.annotations
    labels = _LabelFiles()
    files: list[str] = []
    notes: list[str] = []
    gathered = Gathered()
    labelled = 0
    for picture in pictures:
        label = labels.find(picture)
        try:
            where = shown(str(label or picture))
            annotation = parse_yolo(_content(label, where), where) if label is not None else Annotation(())
        except BadPicture as error:
            bad.append(BadRecord(error.where, error.what))
            continue
        labelled += label is not None
        files.append(Path(os.path.relpath(picture, root)).as_posix())
        notes.append(label.name if label is not None else "no label file")
        gathered.add(annotation)
    bad += labels.without_picture()
    if not files:
        raise nothing_usable(place.annotations, len(pictures), bad, "pictures")
    if not labelled:
        raise UserError(
            f"none of its {len(files):,} pictures has a label file; the first: {labels.wanted(pictures[0])}",
            str(place.annotations),
            "Labels lie in a folder called labels beside images, or beside the pictures.",
        )
    missing = notes.count("no label file")
    said = (f"{missing:,} pictures have no label file, and count as pictures without objects",) if missing else ()
    numbers = {kind: kind for kind in gathered.kinds if isinstance(kind, int)}
    objects = gathered.table(numbers, "fraction")
    source = BoxFileSource("yolo", origin or str(place.annotations), root, files, notes, objects,
                           class_names=own, bad=bad)  # fmt: skip
    return match_classes(source, class_names), said


def parse_yolo(content: bytes, where: str) -> Annotation:
    """Take the label of one picture apart. Raises BadPicture that names line and text."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadPicture("isn't UTF-8 text", where) from error
    objects = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if fields:
            objects.append(_object(fields, f"line {number}: {short(line.strip())!r}", where))
    return Annotation(tuple(objects))


def names_file(*folders: Path) -> Path | None:
    """The file that names the classes in the first of ``folders`` that has one."""
    return next((each / name for each in folders for name in NAMES_FILES if (each / name).is_file()), None)


def _object(fields: Sequence[str], line: str, where: str) -> Object:
    if len(fields) != len(_FIELDS):
        shape = ", as polygons have" if len(fields) > 6 and len(fields) % 2 else ""
        raise BadPicture(f"{line} has {len(fields)} numbers{shape}; a box has 5: {', '.join(_FIELDS)}", where)
    numbers: list[float] = []
    for field, text in zip(_FIELDS, fields, strict=True):
        try:
            numbers.append(float(text))
        except ValueError:
            raise BadPicture(f"{line}: the {field} {short(text)!r} is no number", where) from None
        if not math.isfinite(numbers[-1]):
            raise BadPicture(f"{line}: the {field} is {short(text)}", where)
    kind, x, y, width, height = numbers
    if not kind.is_integer() or not 0 <= kind < 2**24:
        raise BadPicture(f"{line}: the class {short(fields[0])} is no whole number from 0", where)
    return Object(int(kind), x - width / 2, y - height / 2, x + width / 2, y + height / 2)


class _LabelFiles:
    """Finds the label of each picture, reading each folder of labels once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, str]] = {}
        self._of: dict[Path, Path] = {}  # folder of pictures -> folder of their labels
        self._seen: set[Path] = set()

    def find(self, picture: Path) -> Path | None:
        folder, name = self._folder(picture), picture.stem + ".txt"
        names = self._folders.get(str(folder))
        if names is None:
            there = (each for each in _names_in(folder) if each.lower().endswith(".txt") and each not in NAMES_FILES)
            names = self._folders[str(folder)] = {each: each for each in there}
        path = folder / name
        if names.pop(name, None) is not None:
            self._seen.add(path)
        return path if path in self._seen else None  # two pictures may share a name but for the suffix

    def wanted(self, picture: Path) -> str:
        """Where the label of a picture should lie."""
        return shown(str(self._folder(picture) / (picture.stem + ".txt")))

    def without_picture(self) -> list[BadRecord]:
        """Label files that no picture asked for, where labels have a folder of their own."""
        return [
            BadRecord(shown(str(Path(folder) / name)), "there is no picture of that name")
            for folder, names in self._folders.items()
            if "labels" in (part.lower() for part in Path(folder).parts)
            for name in in_natural_order(names)
        ]

    def _folder(self, picture: Path) -> Path:
        if picture.parent not in self._of:
            self._of[picture.parent] = _label_folder(picture.parent)
        return self._of[picture.parent]


def _label_folder(pictures: Path) -> Path:
    """The folder of labels of a folder of pictures; the same one where there is none."""
    parts = pictures.parts
    for place in range(len(parts) - 1, -1, -1):
        if parts[place].lower() == "images":
            other = Path(*parts[:place], "labels", *parts[place + 1 :])
            return other if other.is_dir() else pictures
    beside = pictures.parent / "labels"
    return beside if beside.is_dir() and not _names_like(pictures) else pictures


def _names_like(folder: Path) -> bool:
    """Whether a folder has text files that can be labels."""
    return any(name.lower().endswith(".txt") and name not in NAMES_FILES for name in _names_in(folder))


def _content(path: Path, where: str) -> bytes:
    """The bytes of a label; a file of none means a picture without objects."""
    return b"" if file_size(path) == 0 else read_annotation(path, where)


def _pictures(place: Place) -> tuple[list[Path], list[BadRecord]]:
    """The split's pictures, folder by folder in natural order, or as a text file lists them."""
    found: list[Path] = []
    bad: list[BadRecord] = []
    for each in place.pictures:
        if each.is_dir():
            names = in_natural_order(name for name in walk_files(each) if is_picture_name(name))
            found += [each / name for name in names]
            continue
        for number, line in enumerate(_lines(each), start=1):
            name = tidy_path(line)
            if not name:
                continue
            path = next(
                (base / name for base in (each.parent, place.annotations.parent) if os.path.isfile(base / name)), None
            )
            if path is None:
                bad.append(BadRecord(shown(f"{each}, line {number}"), shown(f"the picture {short(name)} isn't there")))
            else:
                found.append(path)
    return list(dict.fromkeys(found)), bad


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error


def _own_names(place: Place) -> tuple[str, ...] | None:
    if place.listing is None:
        return None
    if place.listing.suffix.lower() in (".yaml", ".yml"):
        return _yaml_names(place.listing, _load(place.listing, strict=True))
    return read_class_names(place.listing)


def _yaml_names(path: Path, data: Mapping[str, Any]) -> tuple[str, ...] | None:
    """``names`` as a list, or as a mapping from class numbers; None where there are none."""
    names = data.get("names")
    if names is None or names == "":
        return None
    if isinstance(names, dict):
        numbers = {key: str(value).strip() for key, value in names.items()}
        missing = [str(row) for row in range(len(numbers)) if str(row) not in numbers]
        if missing:
            told = f"names has {len(numbers)} entries, but none for class {missing[0]}"
            raise UserError(told, str(path), "Name the classes from 0 on, each once.")
        names = [numbers[str(row)] for row in range(len(numbers))]
    tidy = tuple(each for each in map(as_name, names) if each is not None) if isinstance(names, list) else ()
    if not tidy or len(tidy) < len(names):
        raise UserError(f"names is {short(repr(names))}, no list of names", str(path), _TEACH)
    twice = next((name for name in tidy if tidy.count(name) > 1), None) if len(set(tidy)) < len(tidy) else None
    if twice is not None:
        raise UserError(f"names has {short(twice)!r} twice", str(path), "Name each class once.")
    return tidy


def _load(path: Path, *, strict: bool) -> dict[str, Any]:
    """A YAML file whose values are all text, lists or mappings; unless ``strict``, {} for one that isn't YOLO's."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_YAML + 1)
        if len(content) > _LARGEST_YAML:
            raise ValueError("the file is too large")
        if content.count(b"[") + content.count(b"{") > _MOST_BRACKETS:
            raise ValueError(f"it has more than {_MOST_BRACKETS} opening brackets")
        # BaseLoader makes text of every scalar: a class called `no` or `1e3` keeps its name, and no object is built
        data = yaml.load(content, Loader=yaml.BaseLoader)  # noqa: S506
    except OSError as error:
        if strict:
            told = f"can't be opened: {error.strerror}"
            raise UserError(told, str(path), "Check the path and who may read it.") from error
        return {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if strict:
            raise UserError(f"is no YAML: {short(str(error).replace(chr(10), ' '), 200)}", str(path), _TEACH) from error
        return {}
    if not isinstance(data, dict) or not ("names" in data or strict) or not ("train" in data or strict):
        if strict:
            raise UserError("isn't a mapping of keys and values", str(path), _TEACH)
        return {}
    return data


def _resolve(path: Path, base: object, entry: str, key: str) -> Path:
    """A folder or list that a YAML file names: under ``path``, else beside the file.

    Exports often speak of ``../train/images`` and lie beside ``train``, or name a ``path`` of another machine.
    """
    bases = [path.parent / base] if isinstance(base, str) and base else []
    bases.append(path.parent)
    shorter = tidy_path(entry)
    while shorter.startswith("../"):
        shorter = shorter[3:]
    tried = [folder / name for folder in bases for name in (entry, shorter)]
    for each in tried:
        if os.path.exists(each):  # ``Path.exists`` would raise for names that are too long
            return each
    looked = ", ".join(dict.fromkeys(short(str(each), LONGEST_PATH) for each in tried))
    raise UserError(f"{key} names {short(entry)!r}, which isn't there (looked for {looked})", str(path), _TEACH)


def _yaml_files(folder: Path) -> list[Path]:
    return [folder / name for name in _names_in(folder) if name.lower().endswith((".yaml", ".yml"))]


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not is_hidden(name))
    except OSError:
        return []


def _holds_labels(folder: Path, *, deep: bool) -> bool:
    """Whether the first text files of a folder (``deep``: and below) have lines of at least five numbers."""
    names: Iterable[str] = walk_files(folder) if deep else _names_in(folder)
    texts = (name for name in names if name.lower().endswith(".txt") and os.path.basename(name) not in NAMES_FILES)
    found = [name for name, _ in zip(texts, range(_LOOKED_AT), strict=False)]
    kinds = [_kind(folder / name) for name in found]
    pictures = {os.path.splitext(name)[0] for name in _names_in(folder) if is_picture_name(name)}
    if not deep and not any(os.path.splitext(name)[0] in pictures for name in found):
        return False
    return "boxes" in kinds or (deep and bool(kinds) and set(kinds) == {"empty"})


def _kind(path: Path) -> str:
    """``boxes``, ``empty`` or ``other``, by the first line that isn't blank."""
    for line in _first_lines(path):
        fields = line.split()
        if fields:
            try:
                numbers = [float(field) for field in fields]
            except ValueError:
                return "other"
            return "boxes" if len(numbers) >= len(_FIELDS) and numbers[0].is_integer() else "other"
    return "empty"


def _first_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            yield from (line for line, _ in zip(file, range(20), strict=False))
    except OSError:
        return
