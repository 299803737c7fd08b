"""Pascal VOC: an XML file for each picture.

    JPEGImages/001.jpg                 or images/001.jpg, or pictures and XML side by side
    Annotations/001.xml                or annotations/001.xml
    ImageSets/Main/train.txt           names of the pictures of a split, one a line; val, trainval, test too

Coordinates are pixels, decimals included, and are kept as they are written. (The original development kit counts the
first pixel as 1; most tools that write the form count from 0. The difference of one pixel is not mended.)
The XML's own name tells the picture; its ``filename`` only where no picture has that name. ``path`` is ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers import expat

from foveal.errors import BadPicture
from foveal.formats.boxfiles import (
    Annotation,
    BoxFileSource,
    Gathered,
    Object,
    Place,
    find_picture,
    folders_by_name,
    match_classes,
    nothing_usable,
    picture_folder,
    read_annotation,
    stated_size,
    without_annotation,
)
from foveal.formats.pictures import (
    LONGEST_PATH,
    Listing,
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
from foveal.records import BadRecord, Line, Remark

ANNOTATION_FOLDERS = ("annotations", "annotation", "xmls", "xml", "labels", "label")  # in lower case
_ROOT = re.compile(rb"<annotation[\s>/]")
_BEGINNING = 4096  # bytes in which the root of an annotation stands
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find_voc(folder: Path) -> dict[str, Place]:
    """The splits in a folder (or ``all``), as ``ImageSets`` or subfolders tell them; {} when it isn't Pascal VOC."""
    inner = folders_by_name(folder)
    for name in ANNOTATION_FOLDERS:
        if name not in inner or not _holds_voc(inner[name], deep=True):
            continue
        annotations, pictures = inner[name], picture_folder(folder)
        lists = _lists(folder)
        if lists:
            return {split: Place("voc", annotations, (pictures,), lists[split]) for split in lists}
        splits = {SPLITS[each]: path for each, path in folders_by_name(annotations).items() if each in SPLITS}
        if "train" not in splits:
            return {"all": Place("voc", annotations, (pictures,))}
        beside = folders_by_name(pictures)
        return {split: Place("voc", path, (beside.get(path.name.lower(), pictures),)) for split, path in splits.items()}
    return {"all": Place("voc", folder, (picture_folder(folder),))} if _holds_voc(folder, deep=False) else {}


def read_voc(
    place: Place, *, origin: str = "", class_names: tuple[str, ...] | None = None
) -> tuple[BoxFileSource, tuple[Line, ...]]:
    """Read the annotations of one split.

    Args:
        class_names: names in label order. Left out, the names that the objects have, sorted.

    Returns:
        The source, and lines that tell what was left out without being broken.

    Annotations that can't be read or whose picture isn't there, and listed names without annotation, are left out and
    named in ``bad``.

    Raises:
        UserError: when none can be used, and for a class that is not among ``class_names``.
    """
    root = place.pictures[0]
    listing = Listing(root)
    files: list[str] = []
    notes: list[str] = []
    bad: list[BadRecord] = []
    renamed: list[str] = []
    gathered = Gathered()
    for found in _annotations(place):
        if isinstance(found, BadRecord):
            bad.append(found)
            continue
        path = place.annotations / found
        try:
            annotation = parse_voc(read_annotation(path, shown(str(path))), shown(str(path)))
        except BadPicture as error:
            bad.append(BadRecord(error.where, error.what))
            continue
        stem, named = found[: -len(".xml")], tidy_path(annotation.file)
        folder = stem.rpartition("/")[0]
        picture = find_picture(listing, (stem, named, f"{folder}/{named}" if folder else "", named.rpartition("/")[2]))
        if picture is None:
            told = f"its picture {short(named or stem, LONGEST_PATH)} isn't in {root}"
            bad.append(BadRecord(shown(str(path)), shown(told)))
            continue
        if named and named.rpartition("/")[2] not in (picture.rpartition("/")[2], stem.rpartition("/")[2]):
            renamed.append(f"{found} names {short(named, LONGEST_PATH)}")
        files.append(picture)
        notes.append(found)
        gathered.add(annotation)
    if not files:
        raise nothing_usable(place.listing or place.annotations, len(bad), bad, "annotations")
    said = () if place.listing is not None else without_annotation(walk_files(root), files, root)
    if renamed:
        told = f"other names: {len(renamed):,} annotation{'s' * (len(renamed) != 1)} taken for the picture of the same "
        told = shown(f"{told}name, and not for the one named inside; the first: {renamed[0]}")
        said += (Remark("other-names", told),)
    names = sort_class_names(str(kind) for kind in gathered.kinds)
    objects = gathered.table({name: number for number, name in enumerate(names)}, "pixel")
    source = BoxFileSource(
        "voc", origin or str(place.annotations), root, files, notes, objects, class_names=names, bad=bad
    )
    return match_classes(source, class_names), said


def parse_voc(content: bytes, where: str) -> Annotation:
    """Take one annotation apart.

    Declarations of documents and entities are refused: what they can name lies outside the file or has no end.

    Raises:
        BadPicture: for what is no XML, no annotation, or an object without name or numbers.
    """
    root = _parse(content, where)
    if root.tag != "annotation":
        raise BadPicture(f"its root is <{short(root.tag)}>, not <annotation>", where)
    size = root.find("size")
    stated = None if size is None else stated_size(_number(size, "width"), _number(size, "height"))
    objects = tuple(_object(each, number, where) for number, each in enumerate(root.findall("object"), start=1))
    return Annotation(objects, stated, _text(root, "filename"))


def _parse(content: bytes, where: str) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise BadPicture("it declares a document type, which annotations have no need of", where)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, ParseError) as error:
        raise BadPicture(f"is no XML: {error}", where) from error
    except (ValueError, LookupError) as error:  # an encoding that is unknown, or of several bytes
        raise BadPicture(f"is no XML: {error}", where) from error


def _object(element: Element, number: int, where: str) -> Object:
    name = _text(element, "name")
    if not name:
        raise BadPicture(f"object {number} has no name", where)
    box = element.find("bndbox")
    texts = ["" if box is None else _text(box, corner) for corner in _CORNERS]
    try:
        xmin, ymin, xmax, ymax = map(float, texts)
        sound = all(map(math.isfinite, (xmin, ymin, xmax, ymax)))
    except ValueError:
        sound = False
    if not sound:
        told = next(_fault(corner, text) for corner, text in zip(_CORNERS, texts, strict=True) if _fault(corner, text))
        raise BadPicture(f"object {number} ({short(name)}): {told}", where)
    return Object(name, xmin, ymin, xmax, ymax, _text(element, "difficult").lower() in ("1", "true"))


def _fault(corner: str, text: str) -> str:
    """What is wrong with the text of a coordinate, or an empty text."""
    if not text:
        return f"no {corner}"
    try:
        return "" if math.isfinite(float(text)) else f"{corner} is {short(text)}"
    except ValueError:
        return f"{corner} is {short(text)!r}, no number"


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _number(element: Element, tag: str) -> float | None:
    try:
        return float(_text(element, tag))
    except ValueError:
        return None


def _holds_voc(folder: Path, *, deep: bool) -> bool:
    """Whether the first XML files of a folder (``deep``: and below) begin like annotations of pictures."""
    try:
        there = walk_files(folder) if deep else (each.name for each in folder.iterdir() if not is_hidden(each.name))
        files = _first(name for name in there if name.lower().endswith(".xml"))
        return any(_begins_like_voc(folder / name) for name in files)
    except OSError:
        return False


def _first(names: Iterator[str], count: int = 5) -> list[str]:
    return [name for name, _ in zip(names, range(count), strict=False)]


def _begins_like_voc(path: Path) -> bool:
    with path.open("rb") as file:
        return _ROOT.search(file.read(_BEGINNING)) is not None


def _lists(folder: Path) -> dict[str, Path]:
    """The lists of splits in ``ImageSets/Main``; ``trainval`` is training data where there is no ``train``."""
    sets = folders_by_name(folder).get("imagesets")
    main = folders_by_name(sets).get("main", sets) if sets is not None else None
    if main is None:
        return {}
    there = {path.stem.lower(): path for path in sorted(main.glob("*.txt"))}
    found = {SPLITS[stem]: path for stem, path in there.items() if stem in SPLITS}
    if "train" not in found and "trainval" in there:
        found["train"] = there["trainval"]
    return found


def _annotations(place: Place) -> Iterator[str | BadRecord]:
    """Paths of the split's XML files, relative to their folder; listed ones that are not there as ``BadRecord``."""
    files = (name for name in walk_files(place.annotations) if name.lower().endswith(".xml"))
    if place.listing is None:
        yield from in_natural_order(files)
        return
    there = {name[: -len(".xml")]: name for name in files}
    for number, line in enumerate(_lines(place.listing), start=1):
        name = tidy_path(line)
        if not name:
            continue
        if name not in there:  # a column of 1 and -1 behind the name, or a suffix
            name = name.split()[0]
            name = name.rpartition(".")[0] if is_picture_name(name) or name.lower().endswith(".xml") else name
        if name in there:
            yield there[name]
        else:
            reason = f"there is no annotation {short(name, LONGEST_PATH)}.xml in {place.annotations}"
            yield BadRecord(shown(f"{place.listing}, line {number}"), shown(reason))


def _lines(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
