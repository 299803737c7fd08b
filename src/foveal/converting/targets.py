"""The forms that data is turned into: how each lays out its files, and what it can't express."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foveal.converting.selection import SHORT
from foveal.data.recognise import CLASSES_FILE
from foveal.errors import UserError
from foveal.formats.pictures import is_hidden, short
from foveal.formats.splits import SPLITS
from foveal.formats.table import FILE_COLUMNS, GROUP_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS, usual_name
from foveal.formats.write_coco import write_coco
from foveal.formats.write_lst import write_lst
from foveal.formats.write_manifest import write_manifest
from foveal.formats.write_sagemaker_json import write_sagemaker_json
from foveal.formats.write_table import write_table
from foveal.formats.write_voc import write_voc
from foveal.formats.write_yolo import write_yolo
from foveal.formats.writing import Write
from foveal.records import TaskName
from foveal.storage.address import parse_address


@dataclass(frozen=True)
class Target:
    """How a form is written.

    Attributes:
        tasks: what its pictures can carry.
        write: writes the annotations of a split; None where they lie in the records or in the names of folders.
        base: the name of a split's file, ``{}`` for the split. pictures: the folder of its pictures.
        difficult, crowd: whether it has marks for such objects.
        container: pictures lie in records or shards, not in files.
    """

    tasks: tuple[TaskName, ...]
    write: Write | None
    base: str = "{}"
    pictures: str = "images/{}"
    difficult: bool = False
    crowd: bool = False
    container: bool = False


_ANY: tuple[TaskName, ...] = ("classes", "multi-label", "boxes")
TARGETS = {
    "recordio": Target(_ANY, None, difficult=True, container=True),
    "lst": Target(_ANY, write_lst, difficult=True),
    "folder": Target(("classes",), None, pictures="{}"),
    "csv": Target(_ANY, write_table, difficult=True, crowd=True),
    "coco": Target(("boxes",), write_coco, base="annotations/instances_{}", pictures="{}", crowd=True),
    "voc": Target(("boxes",), write_voc, pictures="JPEGImages", difficult=True),
    "yolo": Target(("boxes",), write_yolo),
    "sagemaker-json": Target(("boxes",), write_sagemaker_json, pictures="{}"),
    "manifest": Target(_ANY, write_manifest),
    "webdataset": Target(_ANY, None, container=True),
}
BY_SUFFIX = {
    ".rec": "recordio", ".lst": "lst", ".csv": "csv", ".json": "coco", ".manifest": "manifest", ".tar": "webdataset",
}  # fmt: skip
"""Forms that a path without ``form`` asks for; the split's file is then that path itself."""
_COLUMNS = frozenset((*FILE_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS, *GROUP_COLUMNS))
_CARRY = {"classes": "one class a picture", "multi-label": "several labels a picture", "boxes": "boxes"}


@dataclass(frozen=True)
class Layout:
    """Where the files of a conversion lie.

    Attributes:
        form, target: what is written.
        stem: name of the split's files where the path that was asked for is a file: ``cats`` of ``cats.rec``; else
            empty, and the path is a folder.
        splits: the splits that there are.
        prefix: address below which annotations name the pictures, with a slash at its end; empty for relative paths.
    """

    form: str
    target: Target
    stem: str
    splits: tuple[str, ...]
    prefix: str = ""

    def base(self, split: str) -> str:
        """The name of a split's file without suffix."""
        if self.stem:
            return self.stem if len(self.splits) == 1 else f"{self.stem}_{self._short(split)}"
        return self.target.base.format(self._short(split))

    def pictures(self, split: str) -> str:
        """The folder of a split's pictures; empty for the folder of all."""
        if self.stem:
            return f"{self.base(split)}_images"
        if self.form == "folder" and len(self.splits) == 1:
            return ""
        return self.target.pictures.format(self._short(split))

    def named(self, split: str) -> str:
        """The folder of a split's pictures as annotations name it."""
        return self.prefix + self.pictures(split)

    def _short(self, split: str) -> str:
        return split if self.form == "sagemaker-json" else SHORT[split]


def lay_out(out: Path, form: str | None, task: TaskName, splits: Sequence[str], prefix: str = "") -> Layout:
    """The layout that a path and a form ask for.

    Args:
        prefix: the address that the pictures will be copied to; empty where they stay.

    Raises:
        UserError: when the form can't be told, isn't known, contradicts the path, or can't carry the labels; for a
            prefix that is no address of a store, or is given for a form that has no addresses.
    """
    meant = BY_SUFFIX.get(out.suffix.lower())
    wanted = form or meant
    if wanted is None:
        told = "its name doesn't tell the form to write"
        raise UserError(told, str(out), f"Give one with --to: {', '.join(TARGETS)}.", "to")
    if wanted not in TARGETS:
        raise UserError(f"{wanted!r} is no form that is written", "to", f"Known forms: {', '.join(TARGETS)}.", "to")
    if meant is not None and wanted != meant:
        told = f"its name is one of a file of {meant}, and {wanted} is asked for"
        raise UserError(told, str(out), f"Name a folder, or leave --to {wanted} out.", "to")
    target = TARGETS[wanted]
    if task not in target.tasks:
        able = ", ".join(name for name, each in TARGETS.items() if task in each.tasks)
        told = f"the data has {_CARRY[task]}, which the form {wanted} can't express"
        raise UserError(told, str(out), f"These can: {able}.", "to")
    stem = out.name[: -len(out.suffix)] if meant is not None else ""
    return Layout(wanted, target, stem, tuple(splits), _checked_prefix(prefix, wanted) if prefix else "")


def _checked_prefix(prefix: str, form: str) -> str:
    if form != "manifest":
        told = f"an address for pictures is given, and the form {form} names them by paths only"
        raise UserError(told, "prefix", "Write a manifest, or leave --prefix out.", "prefix")
    address = parse_address(prefix)
    if address.http:
        told = f"{prefix} is no place in a store of objects"
        raise UserError(told, "prefix", "Give one such as s3://bucket/photos/.", "prefix")
    return f"{address}/"


def check_class_names(names: Sequence[str], where: str, form: str = "", task: TaskName = "classes") -> None:
    """Raises UserError for a name that can't be a line of ``classes.txt``, the name of a folder (``folder``), or that
    of a column among others (``csv``, several labels).

    Lines are read without the blanks at their ends.
    """
    for name in names:
        if [line.strip() for line in name.splitlines()] != [name]:
            raise UserError(
                f"the name of the class {short(name)!r} has a line break, or blanks at its ends",
                where,
                f"{CLASSES_FILE} holds one name a line: rename the class.",
            )
        if any(unicodedata.category(each) in ("Cc", "Cs") for each in name):
            told = f"the name of the class {short(name)!r} has a control character"
            raise UserError(told, where, "Rename the class: --map OLD=NEW.")
        if form == "folder" and (
            set(name) & set("/\\") or is_hidden(name) or len(name.encode()) > 255 or name.lower() in SPLITS
        ):
            told = f"the class {short(name)!r} can't be the name of a folder of pictures"
            raise UserError(told, where, "Rename it: --map OLD=NEW. (Slashes, hidden names and names of splits.)")
        if form == "csv" and task == "multi-label" and usual_name(name) in _COLUMNS:
            told = f"the class {short(name)!r} can't be a column of 0 and 1: tables have other things in one called so"
            raise UserError(told, where, "Rename it: --map OLD=NEW.")
