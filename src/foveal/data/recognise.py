"""Opening whatever labelled pictures lie at a path. Every decision is said in a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from foveal.data.locate import BOX_FORMS, FORMS, MIXED_FORMS, TEACH_BOXES, TEACH_SEVERAL, Found, Options, locate
from foveal.data.naming import innermost, with_names
from foveal.data.remote import local, told_by_address
from foveal.data.tables import carried, open_table, source_of, train_rows
from foveal.data.unpack import contents, pictures_beside
from foveal.errors import UserError
from foveal.formats.boxfiles import Place, object_table
from foveal.formats.boxlabels import BoxLabelSource, look_like_boxes
from foveal.formats.boxtext import read_boxtext
from foveal.formats.coco import read_coco
from foveal.formats.folder import read_folder
from foveal.formats.imagefolder import read_imagefolder
from foveal.formats.lst import read_lst
from foveal.formats.manifest import read_manifest
from foveal.formats.multihot import looks_multi_hot
from foveal.formats.pictures import listed, read_class_names, shown
from foveal.formats.recsource import RecordSource
from foveal.formats.sagemaker_json import read_sagemaker_json
from foveal.formats.table import Table
from foveal.formats.voc import read_voc
from foveal.formats.webdataset import read_webdataset
from foveal.formats.yolo import read_yolo
from foveal.records import BoxSource, Dataset, Labels, Line, Reading, Remark, Source, TaskName
from foveal.storage.cache import named

CLASSES_FILE = "classes.txt"
_MEANT_FOR = {
    "labels": ("csv",), "label_attribute": ("manifest",), "label_format": ("manifest",), "columns": ("boxes",),
    "separator": ("csv", "boxes"), "unit": ("csv", "boxes"), "names": ("recordio", "lst", "manifest", "boxes"),
    "group_column": ("csv",), "idx": ("recordio",), "file_column": ("csv",), "label_column": ("csv", "imagefolder"),
}  # fmt: skip
_NAMES_SHOWN = 10
_ORDERED_BY = {"coco": "ids", "sagemaker-json": "ids", "yolo": "numbers"}  # forms whose classes aren't sorted by name
_LARGEST_CLASS = 100_000  # beyond it a label is no class number, and no names are made up


@dataclass
class _Opening:
    """What opening a path has come to so far."""

    origin: str
    options: Options
    said: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def say(self, lines: Iterable[Line], before: str = "") -> None:
        """Note what a reader says; ``before`` is put before each line."""
        for line in lines:
            told = shown(before + (line.line if isinstance(line, Remark) else line))
            self.said.append(told)
            if isinstance(line, Remark):
                self.remarks.append(replace(line, line=told))


@told_by_address()
def open_data(
    path: str | Path,
    *,
    task: TaskName | None = "classes",
    form: str | None = None,
    validation: str | Path | None = None,
    test: str | Path | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    root: str | Path | None = None,
    reading: Reading | None = None,
    channel: str = "",
) -> Dataset:
    """Open labelled pictures.

    Args:
        path: a ``.rec``, ``.lst``, ``.csv`` or ``.tsv`` file, COCO's ``.json``, YOLO's ``.yaml``, or a folder; or the
            address of one (``s3://bucket/photos/``), as everywhere below.
        task: what the pictures are to carry: ``classes``, ``multi-label`` or ``boxes``; None to tell it from the data.
            With ``classes``, data of several labels a picture is opened too, and ``Dataset.task`` tells it.
        form: one of ``foveal.data.locate.FORMS``, such as ``csv`` or ``coco``, instead of recognising it.
        validation, test: where these splits lie; they go before what ``path`` holds of them.
        file_column, label_column: columns of a table, where they haven't the usual names.
        root: folder of the pictures that lists, tables and COCO files name, those of the other splits included.
        reading: how a text of labels is to be read, where it doesn't tell itself.
        channel: ``train`` when the data is opened for training: messages are then the original's where it has some.

    Classes are named by a ``classes.txt`` beside the data (one name a line, in label order), else by folders, table or
    Pascal VOC's objects, sorted: as numbers where all are whole numbers, else by text; by COCO's categories, in the
    order of their ids; or by what YOLO and SageMaker's JSON call them. Where nothing names them (``named`` is False),
    they are called by their numbers. Other splits are matched with the training data's classes by name.

    Raises:
        UserError: when nothing recognisable is there, and when a split has a class that the training data lacks.
    """
    _check_form(form, task)
    said: list[str] = []
    path, root = local(path, said), local(root, said) if root else None
    root = root if root is None else contents(root, said)
    options = Options(form, file_column, label_column, root, task, reading or Reading())
    opening = _Opening(named(str(path)), options, said)
    parts = locate(path, opening.options, opening.said)
    if "all" in parts:
        parts = {"train": parts["all"]}
    if "train" not in parts:
        raise UserError(
            f"it has {', '.join(parts)} data, but none for training",
            str(path),
            "Add it, or name what is to be trained on.",
        )
    names = _classes_beside(path, parts["train"])
    _check_options(options, parts["train"].form)
    sources = _read_train(opening, parts["train"], names, channel)
    train = sources["train"]
    for split, given in (("validation", validation), ("test", test)):
        if given is not None:
            sources[split] = _read_given(opening, local(given, said), split, train.class_names, channel and split)
        elif split in parts:
            sources[split] = _read(opening, parts[split], train.class_names, split, channel and split)
    for split, source in sources.items():
        opening.said.append(_tell(split, source))
        if source.bad:
            first = source.bad[0]
            opening.said.append(f"{split}: {len(source.bad):,} left out; the first: {first.where}: {first.reason}")
    if train.class_names is not None:
        opening.said.extend(_order_line(train, train.class_names, names, opening.options.reading))
    class_names = train.class_names if train.class_names is not None else _numbers(train)
    return Dataset(
        train=train,
        validation=sources.get("validation"),
        test=sources.get("test"),
        class_names=class_names,
        named=train.class_names is not None,
        said=tuple(map(shown, opening.said)),
        task=_task_of(sources, task),
        remarks=tuple(opening.remarks),
    )


def look(path: str | Path) -> str:
    """What data a path holds, for a person: a line for each decision and split. Raises UserError when it holds none."""
    return "\n".join(open_data(path, task=None).said)


def _check_form(form: str | None, task: str | None) -> None:
    if form is not None and form not in FORMS:
        raise UserError(f"{form!r} is no form of data", "form", f"Known forms: {', '.join(FORMS)}.", setting="form")
    if task in ("classes", "multi-label") and form in BOX_FORMS:
        told = f"data of the form {form} has boxes, and image classification takes one class a picture"
        raise UserError(told, "form", "Train object detection on it, or give another form.", setting="form")
    if task == "boxes" and form == "folder":
        raise UserError(f"data of the form {form} has no boxes", "form", TEACH_BOXES, setting="form")


def _check_options(options: Options, form: str) -> None:
    """Raises UserError for what has no meaning for data of this form."""
    for name, forms in _MEANT_FOR.items():
        given = options if hasattr(options, name) else options.reading
        if getattr(given, name) and form not in forms:
            told = f"{name} is given, and has no meaning for data of the form {form}"
            raise UserError(told, name, f"It is for {', '.join(forms)}: leave it out, or give --format.", setting=name)


def _classes_beside(path: Path, train: Found) -> tuple[str, ...] | None:
    """The names of a ``classes.txt`` where the training data lies, or in the folder that was named."""
    inside = [train.paths[0]] if train.form in ("folder", *BOX_FORMS) else []
    for place in [*inside, *([] if train.form == "folder" else [train.paths[0].parent]), path]:
        if (place / CLASSES_FILE).is_file():
            return read_class_names(place / CLASSES_FILE)
    return None


def _read_train(opening: _Opening, found: Found, names: tuple[str, ...] | None, channel: str) -> dict[str, Source]:
    """The training data; where it is a table with a column of splits, the other splits too.

    What it carries is what the other splits have to carry.
    """
    if found.form != "csv":
        train = _read(opening, found, names, "train", channel)
        opening.options = replace(opening.options, task="boxes" if isinstance(train, BoxSource) else "classes")
        return {"train": train}
    table = open_table(found.paths[0], opening.options, opening.said)
    opening.options = replace(opening.options, task=carried(table))
    if isinstance(table, Table) and table.columns.classes:
        reading = replace(opening.options.reading, labels=table.columns.classes)
        opening.options = replace(opening.options, reading=reading)
    names = names or table.class_names(train_rows(table).tolist())
    sources = {"train": source_of(table, train_rows(table), names, opening.origin, table.bad)}
    for split in ("validation", "test") if table.splits else ():
        rows = table.rows(split)
        if len(rows):
            sources[split] = source_of(table, rows, names, opening.origin, ())
    return sources


def _read_given(opening: _Opening, path: Path, split: str, names: tuple[str, ...] | None, channel: str) -> Source:
    """Data that the user named as ``validation`` or ``test``."""
    options = replace(opening.options, form=None)
    inner = _Opening(str(path), options, opening.said, opening.remarks)
    parts = locate(path, options, opening.said)
    found = parts.get(split) or parts.get("all")
    if found is None:
        raise UserError(
            f"it has {', '.join(parts)}, but no {split} data",
            str(path),
            f"Name the folder or file that is {split} data.",
        )
    return _read(inner, found, names, split, channel)


def _read(opening: _Opening, found: Found, names: tuple[str, ...] | None, split: str, channel: str) -> Source:
    """One split, with the classes ``names`` (None: whatever it holds itself); ``channel`` as in training, or empty."""
    known = "" if split == "train" else f"the {split} data: "
    try:
        if found.form == "recordio":
            records = RecordSource(found.paths, opening.origin, names, channel, opening.options.reading.idx)
            return _boxes_or_classes(opening, records, channel, names)
        if found.form == "lst":
            origin, root = opening.origin, _root(opening, found)
            listed = read_lst(found.paths[0], root=root, origin=origin, class_names=names, channel=channel)
            return _boxes_or_classes(opening, listed, channel, names)
        if found.form == "manifest":
            return _read_manifest(opening, found.paths[0], names)
        if found.form in MIXED_FORMS:
            return _read_mixed(opening, found, names, split)
        source = None if found.place is None else _read_boxes(opening, found.place, names)
        if names is None and split != "train" and (source is None or source.class_names is not None):
            raise _named_only_here(found)
        if source is not None:
            return source
        if found.form == "folder":
            pictures, left_out = read_folder(found.paths[0], origin=opening.origin, class_names=names)
            opening.say(left_out)
            return pictures
        table = open_table(found.paths[0], opening.options, opening.said)
        rows = table.rows(split)
        return source_of(table, rows if len(rows) else table.rows(None), names, opening.origin, table.bad)
    except UserError as error:
        if not known or error.what.startswith(("Invalid lst", "Unable", "Not enough")):
            raise
        raise UserError(known + error.what, error.where, error.remedy, error.setting) from error


def _boxes_or_classes(opening: _Opening, source: Source, channel: str, names: tuple[str, ...] | None) -> Source:
    """Records and lists have the same numbers for both; how they are laid out tells, where nobody else does."""
    task = opening.options.task
    if task is None and look_like_boxes(source.labels()):
        opening.said.append("the labels are laid out as boxes: data for object detection")
        task = "boxes"
    source = BoxLabelSource(source, channel) if task == "boxes" else source
    return _with_names(opening, source, names)


def _read_mixed(opening: _Opening, found: Found, names: tuple[str, ...] | None, split: str) -> Source:
    """Forms that carry classes or boxes; the training data tells which, where nobody else does."""
    task, column, origin = opening.options.task, opening.options.label_column, opening.origin
    source: Source
    if found.place is not None:
        source = read_imagefolder(found.place, origin=origin, class_names=names, task=task, label_column=column)
    else:
        source, said = read_webdataset(found.paths, origin=origin, class_names=names, task=task)
        opening.say(said, f"{split}: ")
    if names is None and split != "train" and source.class_names is not None:
        raise _named_only_here(found)
    return source


def _read_manifest(opening: _Opening, path: Path, names: tuple[str, ...] | None) -> Source:
    """A manifest. Raises UserError where it carries something else than is asked for."""
    options, reading = opening.options, opening.options.reading
    source, said = read_manifest(
        path,
        root=options.root,
        origin=opening.origin,
        class_names=names,
        attribute=reading.label_attribute,
        label_format=reading.label_format,
        names=reading.names,
    )
    opening.said.append(said)
    boxes = isinstance(source, BoxSource)
    if options.task is not None and boxes != (options.task == "boxes"):
        told = "it has boxes, and classes are asked for" if boxes else "it has classes, and boxes are asked for"
        raise UserError(
            told, source.origin, "Train on it what it has, or name another attribute with --label-attribute."
        )
    return source


def _named_only_here(found: Found) -> UserError:
    return UserError(
        "it has names of classes, the training data only numbers",
        str(found.paths[0]),
        f"Put the names of the training classes into {CLASSES_FILE} beside them, one a line, in label order.",
    )


def _read_boxes(opening: _Opening, place: Place, names: tuple[str, ...] | None) -> Source:
    if place.form == "boxes":
        return _read_boxtext(opening, place, names)
    readers = {"voc": read_voc, "coco": read_coco, "yolo": read_yolo, "sagemaker-json": read_sagemaker_json}
    source, said = readers[place.form](place, origin=opening.origin, class_names=names)
    opening.say(said)
    return source


def _with_names(opening: _Opening, source: Source, names: tuple[str, ...] | None) -> Source:
    return with_names(source, opening.options.reading.names, names)


def _read_boxtext(opening: _Opening, place: Place, names: tuple[str, ...] | None) -> Source:
    """Boxes in text, their classes named. Raises UserError for names where classes have some already."""
    reading = opening.options.reading
    source, said = read_boxtext(place, reading, origin=opening.origin, class_names=None if reading.names else names)
    opening.say(said)
    if reading.names and source.class_names is not None:
        told = f"its classes have names ({', '.join(source.class_names[:5])}), and --names is for numbers"
        raise UserError(told, source.origin, "Leave --names out.", "names")
    return _with_names(opening, source, names)


def _root(opening: _Opening, found: Found) -> Path | None:
    """The folder of a list's or table's pictures, where it is given or they lie in an archive beside it."""
    return opening.options.root or pictures_beside(found.paths[0], opening.said)


def _task_of(sources: Mapping[str, Source], wanted: TaskName | None) -> TaskName:
    """What the training data carries. Raises UserError where another split or ``wanted`` doesn't go with it."""
    train = sources["train"]
    if not isinstance(train, BoxSource) and looks_multi_hot(train.labels()):
        _check_widths(sources)
        return "multi-label"
    if wanted == "multi-label":
        told = "it has boxes" if isinstance(train, BoxSource) else "it has one class a picture"
        raise UserError(told + ", and data with several labels a picture is asked for", train.origin, TEACH_SEVERAL)
    return "boxes" if isinstance(train, BoxSource) else "classes"


def _check_widths(sources: Mapping[str, Source]) -> None:
    """Rows of several labels have a number for each class, in all splits. Raises UserError."""
    train = sources["train"]
    width, names = int(train.labels().offsets[1]), train.class_names
    if names is not None and len(names) != width:
        raise UserError(
            f"its labels have {width:,} numbers, one a class, but {len(names):,} classes are named",
            train.origin,
            f"Name {width:,} classes in {CLASSES_FILE}, one a line, in the order of the labels.",
        )
    for split, source in sources.items():
        labels = source.labels()
        if not looks_multi_hot(labels):
            raise UserError(
                f"the {split} data has one label a picture, the training data several",
                source.origin,
                "Give data of the same kind.",
            )
        if int(labels.offsets[1]) != width:
            raise UserError(
                f"the {split} data has labels of {int(labels.offsets[1]):,} classes, the training data of {width:,}",
                source.origin,
                "Give data of the same classes, in the same order.",
            )


def _tell(split: str, source: Source) -> str:
    kinds = {
        "recordio": "RecordIO", "lst": "a list", "folder": "a folder per class", "csv": "a table",
        "imagefolder": "a folder with metadata", "webdataset": "WebDataset shards",
        "manifest": "an augmented manifest", "boxes": "boxes in text",
        "voc": "Pascal VOC", "coco": "COCO", "yolo": "YOLO", "sagemaker-json": "SageMaker's JSON",
    }  # fmt: skip
    pictures = f"{len(source):,} picture{'s' * (len(source) != 1)}"
    if isinstance(source, BoxSource):
        offsets = source.labels().offsets
        empty = int((np.diff(offsets) == 0).sum())
        pictures += f" ({empty:,} without objects)" if empty else ""
        pictures += f", {offsets[-1]:,} box{'es' * int(offsets[-1] != 1)}"
    elif looks_multi_hot(source.labels()):
        pictures += f" with several labels ({source.labels().values.sum() / len(source):.1f} on average)"
    if source.class_names is not None:
        pictures += f", {len(source.class_names):,} class{'es' * (len(source.class_names) != 1)}"
    return f"{split}: {kinds[source.form]}, {pictures}" + (" (never trained or chosen on)" if split == "test" else "")


def _order_line(
    train: Source, names: tuple[str, ...], beside: tuple[str, ...] | None, reading: Reading
) -> tuple[str, ...]:
    """In which order the classes are numbered; no line for folders in that of the alphabet."""
    form = innermost(train).form
    if beside is not None:
        order = f"in the order of {CLASSES_FILE}"
    elif reading.names:
        order = "in the order of their numbers in --names"
    elif form in _ORDERED_BY:
        order = f"in the order of their {_ORDERED_BY[form]}"
    elif form == "csv" and names == reading.labels:
        order = "in the order of their columns"
    elif form in ("manifest", *MIXED_FORMS):  # by their names, or by the numbers that these stand beside
        order = "in this order"
    elif names == tuple(sorted(names)):
        if form == "folder":
            return ()
        order = "in the order of their names"
    else:
        order = "in the order of their numbers"
    count = f" ({len(names):,} in all)" if len(names) > _NAMES_SHOWN else ""
    return (f"classes {order}: {listed(names, _NAMES_SHOWN)}{count}",)


def _numbers(source: Source) -> tuple[str, ...]:
    """``0``, ``1``, ... up to the largest label; () when the labels can't be class numbers."""
    labels = source.labels()
    values = labels.values
    if looks_multi_hot(labels) and not isinstance(source, BoxSource):
        return tuple(map(str, range(int(labels.offsets[1]))))
    if isinstance(source, BoxSource):
        table = object_table(source)
        values = table.ids[table.sound()]  # what has no area is dropped: often padding, of class -1
        labels = Labels(values, np.arange(len(values) + 1, dtype=np.int64))
    whole = len(values) and np.isfinite(values).all() and (values >= 0).all() and (values == np.floor(values)).all()
    if not whole or len(labels.offsets) - 1 != len(values) or values.max() > _LARGEST_CLASS:
        return ()
    return tuple(map(str, range(int(values.max()) + 1)))
