"""A folder per class:

    photos/
      cat/1.jpg  cat/2.png  cat/holiday/3.jpg
      dog/1.jpg

The subfolders' names are the classes; pictures lie in them at any depth.
"""

from __future__ import annotations

import os
from pathlib import Path

from foveal.errors import UserError
from foveal.formats.pictures import (
    FileSource,
    in_natural_order,
    is_hidden,
    is_picture_name,
    listed,
    shown,
    single_labels,
    sort_class_names,
    walk_files,
)
from foveal.records import Line, Remark


def class_folders(root: Path) -> tuple[str, ...]:
    """Names of the visible subfolders, sorted."""
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not is_hidden(entry.name)))


def has_pictures(folder: Path) -> bool:
    """Whether a picture lies in a folder, at any depth, told by the files' names."""
    return any(is_picture_name(file) for file in walk_files(folder))


def read_folder(
    root: Path, *, origin: str = "", class_names: tuple[str, ...] | None = None
) -> tuple[FileSource, tuple[Line, ...]]:
    """Read a folder per class; pictures come class by class, in natural order of their names (2.jpg before 10.jpg).

    Args:
        class_names: names in label order. Left out, the names of the subfolders that hold pictures, sorted: as
            numbers where all are whole numbers, else by text.

    Returns:
        The source, and lines that tell what was left out.

    Raises:
        UserError: when no subfolder holds a picture, or one is not among ``class_names``.
    """
    said: list[Line] = []
    found: dict[str, list[str]] = {}
    others: list[str] = []
    for name in class_folders(root):
        files = list(walk_files(root / name))
        pictures = in_natural_order(file for file in files if is_picture_name(file))
        others += [f"{name}/{file}" for file in files if not is_picture_name(file)]
        if pictures:
            found[name] = pictures
        else:
            said.append(Remark("passed-over", f"left out: the folder {root / name}, which holds no picture"))
    loose = sorted(entry.name for entry in root.iterdir() if entry.is_file() and is_picture_name(entry.name))
    if not found:
        raise UserError(
            "no subfolder of it holds a picture",
            str(root),
            "Put the pictures of each class into a subfolder of its own.",
        )
    if loose:
        told = f"left out: {len(loose):,} pictures in {root} itself, which have no class, e.g. {loose[0]}"
        said.append(Remark("passed-over", told))
    if others:
        told = f"left out: {len(others):,} files in {root} that are no pictures by name, e.g. {others[0]}"
        said.append(Remark("passed-over", told))
    names = sort_class_names(found) if class_names is None else class_names
    _check_names(root, found, names)
    index = {name: number for number, name in enumerate(names)}
    order = [name for name in names if name in found]
    source = FileSource(
        "folder",
        origin or str(root),
        root,
        [f"{name}/{file}" for name in order for file in found[name]],
        single_labels(index[name] for name in order for _ in found[name]),
        class_names=names,
        bad=(),
    )
    return source, tuple(said)


def read_deep_folder(root: Path, *, origin: str = "") -> FileSource:
    """Read a folder in which every folder that holds pictures, at any depth, is a class, as im2rec's ``--recursive``.

    Classes are called by their paths and numbered in the order of walking: a folder's own pictures before those of
    its subfolders, names in the order of their text.

    Raises:
        UserError: when there is no picture.
    """
    files: list[str] = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        inner = Path(parent).relative_to(root).as_posix()
        pictures = sorted(name for name in names if is_picture_name(name) and not is_hidden(name))
        files += [name if inner == "." else f"{inner}/{name}" for name in pictures]
    if not files:
        raise UserError("it holds no picture, at any depth", str(root), "Name the folder of the pictures.")
    of = [file.rpartition("/")[0] or "." for file in files]
    index = {name: number for number, name in enumerate(dict.fromkeys(of))}
    labels = single_labels(index[name] for name in of)
    return FileSource("folder", origin or str(root), root, files, labels, class_names=tuple(index))


def _check_names(root: Path, found: dict[str, list[str]], names: tuple[str, ...]) -> None:
    unknown = sorted(name for name in found if name not in set(names))
    if unknown:
        raise UserError(
            shown(f"the class {listed(unknown, 5)} is not among the known classes ({listed(names, 10)})"),
            str(root),
            "The classes are those of the training data, or of a classes.txt beside it: rename the folder, or add it.",
        )
    for name in found:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"the name of the class folder {name!r} isn't UTF-8", str(root), "Rename the folder."
            ) from error
