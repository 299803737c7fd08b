"""COCO: one JSON file for a whole split.

    {"images": [{"id": 17, "file_name": "17.jpg", "width": 640, "height": 480}, ...],
     "annotations": [{"image_id": 17, "category_id": 3, "bbox": [x, y, width, height], "iscrowd": 0}, ...],
     "categories": [{"id": 3, "name": "cat"}, ...]}

    annotations/instances_train.json   train/17.jpg      the pictures lie in a folder called like the split,
    train.json                         images/17.jpg     in one called images, beside the JSON file, or one above it
    train/_annotations.coco.json       train/17.jpg

Boxes are pixels from the upper left corner, 0 included; corners are kept, unrounded. Classes are numbered in the order
of the categories' ids, whatever these are. Crowds (``iscrowd`` 1) are kept and marked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.formats.boxfiles import (
    Annotation,
    BoxFileSource,
    Gathered,
    Object,
    Place,
    as_name,
    as_number,
    as_whole,
    folders_by_name,
    match_classes,
    nothing_usable,
    picture_folder,
    stated_size,
)
from foveal.formats.pictures import LONGEST_PATH, Listing, is_hidden, is_picture_name, short, shown, tidy_path
from foveal.formats.splits import SPLITS, split_in_name
from foveal.records import BadRecord, Line, Remark

_SMALL = 1_000_000  # bytes up to which a file is parsed to tell what it is
_BEGINNING = 65_536
_LIST = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_TEACH = "COCO is a JSON object with the lists images, annotations and categories."
ImageId = int | str


def find_coco(folder: Path) -> dict[str, tuple[Place, ...]]:
    """The COCO files of each split in a folder, ``all`` for those whose name speaks of none; {} when it has none.

    Where one split has several, those called ``instances...`` go before captions and keypoints.
    """
    inner = folders_by_name(folder)
    places = [each for each in (folder, inner.get("annotations"), inner.get("labels")) if each is not None]
    found: dict[str, list[Path]] = {}
    for place in places:
        for path in _json_files(place):
            if looks_like_coco(path):
                found.setdefault(split_in_name(path) or "all", []).append(path)
    if "train" in found:
        found.pop("all", None)
    chosen = {}
    for split, paths in found.items():
        instances = [path for path in paths if path.name.lower().startswith("instances")]
        chosen[split] = tuple(coco_place(path, folder, split) for path in instances or paths)
    return chosen


def coco_place(path: Path, base: Path | None = None, split: str | None = None) -> Place:
    """A COCO file with the folders in which its pictures may lie; ``base`` is the folder of the data set."""
    if base is None:
        base = path.parent.parent if path.parent.name.lower() in ("annotations", "labels") else path.parent
    split = split or split_in_name(path)
    pictures = picture_folder(base)
    folders = []
    for parent in (base, pictures):
        for name, inner in folders_by_name(parent).items():
            if split is not None and (SPLITS.get(name) or SPLITS.get(re.sub(r"[^a-z].*", "", name))) == split:
                folders.append(inner)
    return Place("coco", path, tuple(dict.fromkeys([*folders, pictures, base, path.parent])))


def looks_like_coco(path: Path) -> bool:
    """Whether a file is a JSON object with images and annotations; of large files only the beginning is read."""
    try:
        with path.open("rb") as file:
            content = file.read(_SMALL + 1)
    except OSError:
        return False
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    if len(content) > _SMALL:
        return _LIST.search(content[:_BEGINNING]) is not None
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return b'"images"' in content and b'"annotations"' in content
    return isinstance(data, dict) and {"images", "annotations"} <= data.keys()


def read_coco(
    place: Place, *, origin: str = "", class_names: tuple[str, ...] | None = None
) -> tuple[BoxFileSource, tuple[Line, ...]]:
    """Read one COCO file.

    Args:
        class_names: names in label order. Left out, those of the categories, in the order of their ids.

    Returns:
        The source, pictures in the order of the file, and lines that tell what was left out without being broken.

    Pictures that are not there, and those with a broken annotation, are left out and named in ``bad``.

    Raises:
        UserError: when the file isn't COCO, ids or names of categories occur twice, none of its pictures is there, and
            for a class that is not among ``class_names``.
    """
    data = _load(place.annotations)
    names, said = _categories(data, place.annotations)
    images = _images(data, place.annotations)
    orphans = _fill(data, images, names)
    root, there = _root(place, [image.file for image in images.values()])
    files: list[str] = []
    notes: list[str] = []
    bad = [orphans] if orphans is not None else []
    gathered = Gathered()
    listing = Listing(root)
    for number, image in images.items():
        note = f"{place.annotations.name}, image id {short(str(number))}"
        file = listing.find(_file_in(image.file, there))
        if file is None or not is_picture_name(file):
            image.broken = image.broken or f"the picture {short(image.file, LONGEST_PATH)} isn't in {root}"
        if image.broken:
            bad.append(BadRecord(shown(note), shown(image.broken)))
            continue
        files.append(file or "")
        notes.append(note)
        gathered.add(Annotation(tuple(image.objects), image.size))
    if not files:
        raise nothing_usable(place.annotations, len(images), bad[bool(orphans) :], "pictures")
    objects = gathered.table({kind: kind for kind in range(len(names))}, "pixel")
    source = BoxFileSource("coco", origin or str(place.annotations), root, files, notes, objects,
                           class_names=names_of(names), bad=bad)  # fmt: skip
    return match_classes(source, class_names), said


def names_of(names: Mapping[int, tuple[int, str]]) -> tuple[str, ...]:
    """Class names in label order from {category id: (class number, name)}."""
    return tuple(name for _, name in sorted(names.values()))


@dataclass
class _Image:
    """One entry of ``images`` while annotations are handed out; ``broken`` says why it is left out."""

    file: str
    size: tuple[int, int] | None
    objects: list[Object] = field(default_factory=list)
    broken: str = ""


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"can't be opened: {error.strerror}", str(path), "Check the path and who may read it."
        ) from error
    except json.JSONDecodeError as error:
        told = f"is no JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        raise UserError(told, str(path), _TEACH) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"is no JSON: {type(error).__name__}", str(path), _TEACH) from error
    if not isinstance(data, dict):
        raise UserError("isn't a JSON object", str(path), _TEACH)
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            raise UserError(f"has no list {key!r}", str(path), _TEACH)
        for number, entry in enumerate(data[key]):
            if not isinstance(entry, dict):
                raise UserError(f"entry {number} of {key!r} is no object", str(path), _TEACH)
    return data


def _categories(data: Mapping[str, Any], path: Path) -> tuple[dict[int, tuple[int, str]], tuple[Line, ...]]:
    """{category id: (class number, name)} in the order of the ids, and lines about what was left out."""
    found: dict[int, str] = {}
    for entry in data["categories"]:
        number, name = as_whole(entry.get("id")), as_name(entry.get("name"))
        if number is None or name is None:
            told = f"a category has the id {short(repr(entry.get('id')))} and the name {short(repr(entry.get('name')))}"
            raise UserError(told, str(path), "Give each category a whole number and a name.")
        if number in found:
            raise UserError(f"the category id {number} occurs twice", str(path), "Give each category an id of its own.")
        if name in found.values():
            told = f"the category {short(name)!r} occurs twice"
            raise UserError(told, str(path), "Name each category once, or join the two.")
        found[number] = name
    heading = _heading(data, found)
    said: list[Line] = []
    if heading is not None:
        told = f"left out: the category {found.pop(heading)}, which has no box and stands above the others"
        said.append(Remark("passed-over", told))
    ids = sorted(found)
    if ids and ids != list(range(1, len(ids) + 1)):
        how = "" if len(ids) == ids[-1] - ids[0] + 1 else " with gaps"
        told = f"category ids: {ids[0]} to {ids[-1]}{how}; the classes are numbered 0 to {len(ids) - 1} in their order"
        said.append(Remark("category-ids", told))
    return {number: (row, found[number]) for row, number in enumerate(ids)}, tuple(said)


def _heading(data: Mapping[str, Any], found: Mapping[int, str]) -> int | None:
    """The category without boxes that is the ``supercategory`` of all others, as Roboflow writes one, if any."""
    used = {as_whole(entry.get("category_id")) for entry in data["annotations"]}
    for number, name in found.items():
        others = [each for each in data["categories"] if as_whole(each["id"]) != number]
        if number not in used and others and all(each.get("supercategory") == name for each in others):
            return number
    return None


def _images(data: Mapping[str, Any], path: Path) -> dict[ImageId, _Image]:
    images: dict[ImageId, _Image] = {}
    for number, entry in enumerate(data["images"]):
        key, file = _image_id(entry.get("id")), entry.get("file_name")
        if key is None or not isinstance(file, str) or not file.strip():
            told = f"entry {number} of 'images' has the id {short(repr(entry.get('id')))} and the file_name "
            raise UserError(told + short(repr(file)), str(path), "Give each picture an id and a file name.")
        if key in images:
            raise UserError(f"the image id {key} occurs twice", str(path), "Give each picture an id of its own.")
        images[key] = _Image(tidy_path(file), stated_size(entry.get("width"), entry.get("height")))
    return images


def _fill(
    data: Mapping[str, Any], images: Mapping[ImageId, _Image], names: Mapping[int, tuple[int, str]]
) -> BadRecord | None:
    """Hand the annotations to their pictures; tells of those that have none."""
    orphans: list[str] = []
    for number, entry in enumerate(data["annotations"]):
        key = _image_id(entry.get("image_id"))
        image = images.get(key) if key is not None else None
        if image is None:
            orphans.append(f"{_called(entry, number)} names the picture {short(repr(entry.get('image_id')))}")
            continue
        category = names.get(as_whole(entry.get("category_id")))  # type: ignore[arg-type]
        box = entry.get("bbox")
        numbers = [as_number(each) for each in box] if isinstance(box, list) else []
        if category is None:
            told = f"has the category {short(repr(entry.get('category_id')))}, which is not listed"
            image.broken = f"{_called(entry, number)} {told}"
        elif len(numbers) != 4 or None in numbers:
            image.broken = f"{_called(entry, number)}: its bbox {short(repr(box))} is not four numbers"
        else:
            x, y, width, height = (each or 0.0 for each in numbers)
            crowd = entry.get("iscrowd") == 1
            image.objects.append(Object(category[0], x, y, x + width, y + height, False, crowd))
    if not orphans:
        return None
    return BadRecord("annotations without a picture", f"{len(orphans):,}; the first: {orphans[0]}, which isn't listed")


def _called(entry: Mapping[str, Any], number: int) -> str:
    return f"annotation {short(str(entry['id']))}" if "id" in entry else f"entry {number} of 'annotations'"


def _image_id(value: object) -> ImageId | None:
    return value if isinstance(value, str) else as_whole(value)


def _root(place: Place, files: list[str]) -> tuple[Path, bool]:
    """The folder that ``file_name`` is relative to, and whether its folders count there."""
    for whole in (True, False):
        for folder in place.pictures:
            listing = Listing(folder)
            if any(listing.find(_file_in(file, whole)) for file in files[:20]):
                return folder, whole
    return place.pictures[0], True


def _file_in(file: str, whole: bool) -> str:
    return file if whole else file.rpartition("/")[2]


def _json_files(folder: Path) -> Iterator[Path]:
    try:
        there = sorted(folder.iterdir())
    except OSError:
        return
    yield from (
        each for each in there if each.suffix.lower() == ".json" and not is_hidden(each.name) and each.is_file()
    )
