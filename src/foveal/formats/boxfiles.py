"""Pictures in files, with boxes that lie beside them: what the forms voc, coco, yolo and sagemaker-json share.

Values are kept as the form has them, corners in float32: no pixel is added or taken away, nothing is clipped.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from foveal.errors import BadPicture, UserError
from foveal.formats.pictures import (
    Listing,
    file_size,
    is_hidden,
    is_picture_name,
    listed,
    read_named,
    short,
    shown,
)
from foveal.records import BadRecord, Boxes, BoxSource, Labels, Remark, Sample

LARGEST_ANNOTATION = 16_000_000  # bytes of the annotation of one picture: beyond it a file is something else
PICTURE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos")  # in lower case
UNKNOWN_CLASS = "The classes are those of the training data, or of a classes.txt beside it: mend the name, or add it."


@dataclass(frozen=True)
class Place:
    """Where one split lies.

    Attributes:
        form: ``voc``, ``coco``, ``yolo`` or ``sagemaker-json``.
        annotations: the folder or file that holds the boxes; for ``yolo`` the folder or file that was recognised.
        pictures: folders of pictures, in the order in which they are tried (``coco``) or read.
        listing: a file that lists the split's pictures (``voc``), or names the classes (``yolo``).
    """

    form: str
    annotations: Path
    pictures: tuple[Path, ...]
    listing: Path | None = None


class Object(NamedTuple):
    """One box of a picture: its class, by name or number, and its corners in the form's unit."""

    kind: str | int
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool = False
    crowd: bool = False


@dataclass(frozen=True)
class Annotation:
    """What an annotation says of one picture. ``file``: the picture as it is named there; ``size``: width, height."""

    objects: tuple[Object, ...]
    size: tuple[int, int] | None = None
    file: str = ""


@dataclass(frozen=True)
class ObjectTable:
    """All objects of a source, one picture's after another's; m objects in n pictures.

    Attributes:
        values: float32 [m, 4], xmin, ymin, xmax, ymax as stored.
        ids: float32 [m], class numbers as stored.
        difficult, crowd: bool [m].
        offsets: int64 [n + 1]; picture i has the objects ``offsets[i]:offsets[i + 1]``.
        sizes: int32 [n, 2], width and height as stated; 0, 0 where they are not.
        unit: of ``values``.
    """

    values: NDArray[np.float32]
    ids: NDArray[np.float32]
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    unit: Literal["fraction", "pixel"]

    def sound(self) -> NDArray[np.bool_]:
        """bool [m], which boxes have an area; the others are dropped on reading, as MXNet does."""
        return (self.values[:, 2] > self.values[:, 0]) & (self.values[:, 3] > self.values[:, 1])

    def rows(self) -> NDArray[np.int64]:
        """int64 [m], the picture of each object."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), np.diff(self.offsets))

    def boxes(self, index: int) -> Boxes:
        """The objects of one picture, as it is seen upright."""
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        width, height = self.sizes[index].tolist()
        return Boxes(
            values=self.values[part],
            cls=self.ids[part].astype(np.int64),
            unit=self.unit,
            of="upright",
            difficult=self.difficult[part],
            crowd=self.crowd[part],
            extra=np.zeros((part.stop - part.start, 0), dtype=np.float32),
            size=(width, height) if width and height else None,
        )


@runtime_checkable
class _Tabled(Protocol):
    @property
    def objects(self) -> ObjectTable: ...


def object_table(source: BoxSource) -> ObjectTable:
    """All objects of a source. Raises BadPicture for a broken label."""
    if isinstance(source, _Tabled):
        return source.objects
    gathered = Gathered()
    unit: Literal["fraction", "pixel"] = "fraction"
    for row in range(len(source)):
        boxes = source.boxes(row)
        unit = boxes.unit
        marks = zip(boxes.cls.tolist(), boxes.values.tolist(), boxes.difficult, boxes.crowd, strict=True)
        objects = tuple(Object(kind, x0, y0, x1, y1, bool(d), bool(c)) for kind, (x0, y0, x1, y1), d, c in marks)
        gathered.add(Annotation(objects, boxes.size))
    return gathered.table({kind: int(kind) for kind in gathered.kinds}, unit)


class Gathered:
    """Objects of pictures while they are read, 22 bytes each."""

    def __init__(self) -> None:
        self.kinds: dict[str | int, int] = {}
        self._corners, self._kinds, self._marks = array("f"), array("i"), bytearray()
        self._offsets, self._sizes = array("q", [0]), array("i")

    def add(self, annotation: Annotation) -> None:
        """Append the objects of the next picture."""
        for kind, *corners, difficult, crowd in annotation.objects:
            self._kinds.append(self.kinds.setdefault(kind, len(self.kinds)))
            self._corners.extend(corners)
            self._marks.append(difficult + 2 * crowd)
        self._offsets.append(len(self._kinds))
        self._sizes.extend(annotation.size or (0, 0))

    def table(self, numbers: Mapping[Any, int], unit: Literal["fraction", "pixel"]) -> ObjectTable:
        """All of them; ``numbers`` gives the class number of each kind."""
        number = np.array([numbers[kind] for kind in self.kinds] or [0], dtype=np.float32)
        marks = np.frombuffer(bytes(self._marks), dtype=np.uint8)
        return ObjectTable(
            values=np.array(self._corners, dtype=np.float32).reshape(-1, 4),
            ids=number[np.array(self._kinds, dtype=np.int64)],
            difficult=(marks & 1) > 0,
            crowd=(marks & 2) > 0,
            offsets=np.array(self._offsets, dtype=np.int64),
            sizes=np.array(self._sizes, dtype=np.int32).reshape(-1, 2),
            unit=unit,
        )


class BoxFileSource:
    """Pictures in files, under one folder, with boxes each.

    Args:
        form: name of the data form.
        origin: what the user named.
        root: the folder that ``files`` are relative to.
        files: paths with forward slashes, or addresses (``s3://bucket/key``).
        notes: where the boxes of each file are written, for messages: ``001.xml``.
        objects: the boxes of all files.
        class_names: names in label order, when known.
        groups: a group name for each file, when known.
        bad: what was left out.

    ``key`` is the path as in ``files``; with the note where a file occurs more than once.
    """

    def __init__(
        self,
        form: str,
        origin: str,
        root: Path,
        files: Sequence[str],
        notes: Sequence[str],
        objects: ObjectTable,
        *,
        class_names: tuple[str, ...] | None = None,
        groups: Sequence[str] | None = None,
        bad: Sequence[BadRecord] = (),
    ) -> None:
        assert len(files) == len(notes) == len(objects.offsets) - 1
        self.form = form
        self.origin = origin
        self.root = root
        self.files = tuple(files)
        self.objects = objects
        self.class_names = class_names
        self.groups = None if groups is None else tuple(groups)
        self.bad = tuple(bad)
        self._notes = tuple(notes)
        self._repeated = len(set(self.files)) < len(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def labels(self) -> Labels:
        return Labels(self.objects.ids, self.objects.offsets)

    def where(self, index: int) -> str:
        """The picture's path and the place of its boxes: ``photos/1.jpg (1.xml)``."""
        return shown(f"{self.root / self.files[index]} ({self._notes[index]})")

    def boxes(self, index: int) -> Boxes:
        return self.objects.boxes(index)

    def read(self, index: int) -> Sample:
        file = self.files[index]
        picture = read_named(self.root, file, self.where(index))
        key = f"{file} ({self._notes[index]})" if self._repeated else file
        return Sample(shown(key), picture, self.boxes(index))

    def fingerprint(self) -> str:
        """SHA-256 over the relative paths and sizes of the files, and all boxes."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file}\0{file_size(self.root / file)}\0".encode("utf-8", "surrogateescape"))
        table = self.objects
        for numbers in (table.values, table.ids, table.difficult, table.crowd, table.offsets, table.sizes):
            digest.update(numbers.tobytes())
        return digest.hexdigest()


def match_classes(source: BoxFileSource, known: tuple[str, ...] | None) -> BoxFileSource:
    """The source with classes numbered as in ``known``, matched by name; unchanged where one has no names.

    Raises:
        UserError: for an object of a class that is not known. Names of classes without objects need not be.
    """
    objects, names = match_objects(source.objects, source.class_names, known, source.where)
    return source if names == source.class_names else _with(source, objects, names)


def match_objects(
    objects: ObjectTable, own: tuple[str, ...] | None, known: tuple[str, ...] | None, where: Callable[[int], str]
) -> tuple[ObjectTable, tuple[str, ...] | None]:
    """Objects whose classes ``own`` names, numbered as in ``known``, and the names that then count.

    Raises UserError as ``match_classes`` does; ``where`` is the place of a picture.
    """
    if known is None or own == known:
        return objects, own
    if own is None:
        return objects, known
    ids = objects.ids
    used = np.unique(ids).astype(np.int64).tolist()
    number = {name: row for row, name in enumerate(known)}
    table = np.zeros(max([*used, 0]) + 1, dtype=np.float32)
    for each in used:
        name = own[each] if 0 <= each < len(own) else None
        if name not in number:
            row = int(objects.rows()[np.argmax(ids == each)])
            called = f"class {short(name)}" if name is not None else f"class id {each}"
            raise UserError(
                f"the {called} is not among the known classes ({listed(known, 10)})", where(row), UNKNOWN_CLASS
            )
        table[each] = number[name]
    return replace(objects, ids=table[ids.astype(np.int64)]), known


def _with(source: BoxFileSource, objects: ObjectTable, names: tuple[str, ...] | None) -> BoxFileSource:
    notes = [source._notes[row] for row in range(len(source))]
    return BoxFileSource(
        source.form, source.origin, source.root, source.files, notes, objects,
        class_names=names, groups=source.groups, bad=source.bad,
    )  # fmt: skip


def read_annotation(path: Path, where: str) -> bytes:
    """The bytes of one picture's annotation. Raises BadPicture when it can't be read, is empty, or is far too large."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_ANNOTATION + 1)
    except OSError as error:
        raise BadPicture(f"can't be read: {error.strerror}", where) from error
    if len(content) > LARGEST_ANNOTATION:
        raise BadPicture(f"more than {LARGEST_ANNOTATION:,} bytes are no annotation of one picture", where)
    if not content.strip():
        raise BadPicture("the file is empty", where)
    return content


def read_json(content: bytes, where: str) -> Any:
    """Parse JSON. Raises BadPicture that names line and column."""
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise BadPicture(f"is no JSON: {error.msg} (line {error.lineno}, column {error.colno})", where) from error
    except (ValueError, RecursionError) as error:  # other encodings, endless digits, endless nesting
        raise BadPicture(f"is no JSON: {type(error).__name__}", where) from error


def as_number(value: object) -> float | None:
    """A finite number of JSON, else None; true and false are none."""
    if type(value) is float:  # nearly always, and there are millions of them
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def as_whole(value: object) -> int | None:
    """A whole number of JSON below 2^31, also where it is written as 3.0, else None."""
    if type(value) is int:
        return value if abs(value) < 2**31 else None
    number = as_number(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**31 else None


def as_name(value: object) -> str | None:
    """A text without blanks at its ends; None for what is no text, blank, or can't be written as UTF-8."""
    name = value.strip() if isinstance(value, str) else ""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return name or None


def stated_size(width: object, height: object) -> tuple[int, int] | None:
    """A size as an annotation states it; None where it states none that can be meant."""
    sides = as_whole(width) or 0, as_whole(height) or 0
    return sides if min(sides) > 0 else None


def folders_by_name(folder: Path) -> dict[str, Path]:
    """The visible subfolders by their names in lower case."""
    try:
        there = sorted(each for each in folder.iterdir() if each.is_dir() and not is_hidden(each.name))
    except OSError:
        return {}
    return {each.name.lower(): each for each in there}


def picture_folder(folder: Path) -> Path:
    """The subfolder that is called like one of pictures, else the folder itself."""
    inner = folders_by_name(folder)
    return next((inner[name] for name in PICTURE_FOLDERS if name in inner), folder)


def without_annotation(pictures: Iterable[str], annotated: Iterable[str], root: Path) -> tuple[Remark, ...]:
    """A line about pictures that nothing is written about; none where there are none."""
    there = set(annotated)
    left = [name for name in pictures if is_picture_name(name) and name not in there]
    if not left:
        return ()
    told = f"left out: {len(left):,} pictures in {root} without an annotation, e.g. {short(min(left))}"
    return (Remark("passed-over", shown(told)),)


def nothing_usable(place: Path, count: int, bad: Sequence[BadRecord], what: str) -> UserError:
    """For a split of which not one picture is left."""
    first = f"; the first: {bad[0].where}: {bad[0].reason}" if bad else ""
    return UserError(
        f"none of its {count:,} {what} can be used{first}" if count else f"it holds no {what}",
        str(place),
        "Look whether pictures and annotations belong together, and whether the form was recognised rightly.",
    )


def find_picture(listing: Listing, names: Iterable[str]) -> str | None:
    """The first of ``names`` (with or without suffix) that is a picture that is there."""
    for name in names:
        found = listing.find(name) if name else None
        if found is not None and is_picture_name(found):
            return found
    return None
