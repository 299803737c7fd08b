"""Where in a path the splits lie, and in which form.

Forms: ``.rec`` files, a ``.lst`` list with its pictures, a CSV or TSV table, an augmented manifest, a folder per class,
WebDataset shards, Hugging Face's image folder; with boxes Pascal VOC, COCO, YOLO, SageMaker's JSON, and any text whose
fields are named. All of them may be packed (``data/unpack.py``) or lie at an address (``data/remote.py``). Splits:
subfolders or files called ``train``, ``val`` (``valid``, ``validation``) and ``test``, and what the forms with boxes
have of their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from foveal.data.unpack import pictures_beside, unpacked
from foveal.errors import UserError
from foveal.formats.archive import archive_suffix, member_names
from foveal.formats.boxfiles import Place
from foveal.formats.boxtable import has_boxes
from foveal.formats.boxtext import boxtext_file, find_boxtext
from foveal.formats.coco import coco_place, find_coco, looks_like_coco
from foveal.formats.folder import has_pictures
from foveal.formats.imagefolder import find_imagefolder
from foveal.formats.manifest import looks_like_manifest
from foveal.formats.pictures import is_hidden, is_picture_name
from foveal.formats.recordio import MAGIC_BYTES
from foveal.formats.sagemaker_json import find_sagemaker_json
from foveal.formats.splits import SPLITS, split_in_name
from foveal.formats.table import is_picture_table
from foveal.formats.voc import find_voc
from foveal.formats.webdataset import expand_shards, looks_like_webdataset
from foveal.formats.yolo import find_yolo, yaml_places
from foveal.records import Reading, TaskName

BOX_FORMS = ("coco", "voc", "yolo", "sagemaker-json", "boxes")  # in the order in which they are looked for
MIXED_FORMS = ("imagefolder", "webdataset")  # classes or boxes
FORMS = ("recordio", "lst", "folder", "csv", "manifest", *MIXED_FORMS, *BOX_FORMS)
TEACH_BOXES = (
    "Data with boxes is Pascal VOC (a folder Annotations of XML beside JPEGImages), COCO JSON, YOLO (images and labels,"
    " or its .yaml file), SageMaker's JSON (train and train_annotation), an augmented manifest, a CSV table with the"
    " columns xmin, ymin, xmax, ymax, a .rec or .lst file with boxes as labels, WebDataset shards or a metadata.jsonl"
    " with objects, or any text whose fields are named (--columns 'x1 y1 x2 y2 class')."
)
TEACH = (
    "Data is a folder with a subfolder of pictures per class, a .rec file, a .lst list beside its pictures, a CSV table"
    " with a file and a label column, an augmented manifest, WebDataset shards (.tar), or a folder with Hugging Face's"
    " metadata.jsonl; any of these may lie in train, val and test, in a zip or tar archive, or at an address (s3://...)."
)
TEACH_SEVERAL = (
    "Several labels a picture are a CSV table with a column of 0 and 1 per class (--labels a,b,c), an augmented"
    " manifest with lists, or a .lst or .rec file with as many labels of 0 and 1 as there are classes."
)
TEACH_SHARDS = (
    "WebDataset is an uncompressed tar file, or several, in which a picture and its label (.cls, .json or .txt) have"
    " one name and follow each other."
)
TEACH_PARQUET = "Export the pictures as files with a metadata.jsonl, or as WebDataset shards."
TEACH_TEXTS = " Boxes in the text files beside them: --format boxes --columns 'x1 y1 x2 y2 class'."
_LOOKED_AT = 1000  # members of an archive that tell what it is
_SUFFIX_FORMS = {".rec": "recordio", ".lst": "lst", ".csv": "csv", ".tsv": "csv", ".manifest": "manifest"}


@dataclass(frozen=True)
class Options:
    """How a path is to be read, where the user says so. ``root``: the folder of a list's or table's pictures; ``task``:
    what the pictures are to carry, None for whatever is there; ``reading``: how its text is to be read."""

    form: str | None = None
    file_column: str | None = None
    label_column: str | None = None
    root: Path | None = None
    task: TaskName | None = "classes"
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Found:
    """One split's place: a folder, a list or table, or ``.rec`` files. ``place`` tells more of the forms with boxes."""

    form: str
    paths: tuple[Path, ...]
    place: Place | None = None


def locate(path: Path, options: Options, said: list[str]) -> dict[str, Found]:
    """Find form and place of each split: keys ``train`` and maybe ``validation`` and ``test``, or only ``all``."""
    if not path.exists():
        shards = expand_shards(path)
        if shards:
            return {"all": Found("webdataset", shards)}
        raise UserError("there is no such file or folder", str(path), "Check the path.")
    if path.is_file() and archive_suffix(path):
        return _locate_archive(path, options, said)
    described = _locate_described(path, options)
    if described:
        return described
    boxes = _locate_boxes(path, options)
    if boxes:
        return {split: _with_archive(found, options, said) for split, found in boxes.items()}
    if path.is_file():
        if options.form == "folder":
            raise UserError("this is a file, not a folder per class", str(path), TEACH, setting="form")
        return {"all": Found(options.form or _form_of_file(path, said), (path,))}
    _refuse_artifact(path)
    files, folders = _entries(path)
    loose = _locate_files(path, files, options, said)
    split_folders: dict[str, Path] = {}
    for folder in folders:
        split = SPLITS.get(folder.name.lower())
        if split in split_folders:
            raise UserError(
                f"{split_folders[split].name} and {folder.name} are both {split} data", str(path), "Keep one of them."
            )
        if split is not None:
            split_folders[split] = folder
    meant = options.form is not None and any(_form_by_name(file) == options.form for file in files)
    listed = bool(loose) and all(_only_pictures(folder) for folder in split_folders.values())
    if not split_folders or meant or listed:
        loose = loose or _locate_archives(path, files, options, said)
        return loose or {"all": _locate_whole(path, files, folders, options, said)}
    if "train" not in split_folders:
        there = next(iter(split_folders.values()))
        raise UserError(
            f"it has {', '.join(f.name for f in split_folders.values())}, but no folder train",
            str(path), f"Add train, or name {there} itself.",
        )  # fmt: skip
    split_folders = dict(sorted(split_folders.items(), key=_split_order))
    others = [folder.name for folder in folders if folder not in split_folders.values()]
    said.append(f"folders of splits in {path}: {', '.join(folder.name for folder in split_folders.values())}")
    if others or loose:
        beside = others + [each.paths[0].name for each in loose.values()]
        said.append(f"not read, beside the folders of splits: {', '.join(beside)}")
    return {split: _locate_in_split(folder, options, said) for split, folder in split_folders.items()}


def _only_pictures(folder: Path) -> bool:
    files, folders = _entries(folder)
    return not folders and all(is_picture_name(file.name) for file in files)


def _split_order(item: tuple[str, object]) -> int:
    return ("train", "validation", "test").index(item[0])


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Visible files and folders, each sorted by name."""
    try:
        there = sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))
    except OSError as error:
        raise UserError(f"can't be opened: {error.strerror}", str(folder), "Check who may read it.") from error
    return [entry for entry in there if entry.is_file()], [entry for entry in there if entry.is_dir()]


def _locate_in_split(folder: Path, options: Options, said: list[str]) -> Found:
    files, folders = _entries(folder)
    inner = [each.name for each in folders if each.name.lower() in SPLITS]
    if inner:
        told = f"folders of splits ({', '.join(inner)}) inside one of a split"
        raise UserError(told, str(folder), f"Name {folder} itself, or move them up.")
    return _locate_whole(folder, files, folders, options, said)


def _locate_files(path: Path, files: Sequence[Path], options: Options, said: list[str]) -> dict[str, Found]:
    """Splits in the names of ``.rec``, ``.lst`` or table files; {} when there is no train among them."""
    for form in ("recordio", "lst", "manifest", "csv"):
        if options.form not in (None, form):
            continue
        splits: dict[str, list[Path]] = {}
        rest: list[str] = []
        for file in files:
            if _form_by_name(file) == form and not (form == "csv" and options.task == "boxes" and not has_boxes(file)):
                split = split_in_name(file)
                if split is None:
                    rest.append(file.name)
                else:
                    splits.setdefault(split, []).append(file)
        if "train" not in splits:
            continue
        if rest:
            said.append(f"not read, for want of a split's name: {', '.join(rest)}")
        return {split: _one_form(path, form, found) for split, found in sorted(splits.items(), key=_split_order)}
    return {}


def _locate_boxes(path: Path, options: Options) -> dict[str, Found]:
    """The splits of a form with boxes, as the path itself tells them; {} when it is none, or none is wanted."""
    if options.task in ("classes", "multi-label") or options.form not in (None, *BOX_FORMS):
        return {}
    looked_for = [form for form in BOX_FORMS if (form == "boxes") == bool(options.reading.columns)]
    for form in looked_for if options.form is None else (options.form,):
        places = _box_file(path, form, options) if path.is_file() else _box_folder(path, form, options)
        if places:
            return {split: Found(place.form, (place.annotations,), place) for split, place in places.items()}
    if options.form is not None and path.is_file():
        raise UserError(f"this file isn't read as {options.form}", str(path), TEACH_BOXES, setting="form")
    return {}


def _box_file(path: Path, form: str, options: Options) -> dict[str, Place]:
    if form == "coco" and (looks_like_coco(path) or (options.form == form and path.suffix.lower() == ".json")):
        place = coco_place(path)
        return {"all": Place(place.form, path, (options.root,)) if options.root is not None else place}
    if form == "yolo" and path.suffix.lower() in (".yaml", ".yml"):
        return yaml_places(path)
    if form == "boxes":
        place = boxtext_file(path, options.reading.columns)
        pictures = place.pictures if options.root is None else (options.root,)
        return {"all": Place(form, path, pictures, place.listing)}
    return {}


def _box_folder(path: Path, form: str, options: Options) -> dict[str, Place]:
    _refuse_artifact(path)
    if form == "voc":
        places = find_voc(path)
    elif form == "yolo":
        places = find_yolo(path)
    elif form == "sagemaker-json":
        places = find_sagemaker_json(path)
    elif form == "boxes":
        places = find_boxtext(path, options.reading.columns)
    else:
        places = {}
        for split, found in find_coco(path).items():
            if len(found) > 1:
                raise _several(path, form, [place.annotations for place in found])
            places[split] = found[0]
    if options.root is None:
        return places
    return {split: Place(form, place.annotations, (options.root,), place.listing) for split, place in places.items()}


def _locate_described(path: Path, options: Options) -> dict[str, Found]:
    """The splits that Hugging Face's metadata in a folder tells of; {} where it has none, or columns are named."""
    if options.form not in (None, "imagefolder") or options.file_column or options.reading.labels or path.is_file():
        return {}
    places = find_imagefolder(path)
    return {split: Found("imagefolder", (place.annotations,), place) for split, place in places.items()}


def _with_archive(found: Found, options: Options, said: list[str]) -> Found:
    """COCO's pictures may lie in an archive beside the JSON file."""
    if found.form != "coco" or found.place is None or options.root is not None:
        return found
    folder = pictures_beside(found.place.annotations, said)
    return (
        found
        if folder is None
        else replace(found, place=replace(found.place, pictures=(folder, *found.place.pictures)))
    )


def _locate_archive(path: Path, options: Options, said: list[str]) -> dict[str, Found]:
    """What lies in an archive: shards are read in place, everything else is unpacked."""
    if options.form in (None, "webdataset") and looks_like_webdataset(path):
        return {"all": Found("webdataset", (path,))}
    names = list(islice(member_names(path), _LOOKED_AT))
    if any(name.endswith(".cls") for name in names):
        told = "it holds WebDataset's samples (.cls), and shards are read from uncompressed tar files only"
        raise UserError(told, str(path), "Decompress it first (gunzip, xz -d), or unpack and pack it with tar.")
    if options.form == "webdataset":
        raise UserError(f"this file isn't read as {options.form}", str(path), TEACH_SHARDS, setting="form")
    if any(name.rpartition("/")[2] == "foveal.json" for name in names):
        raise UserError("this is a trained model, not data", str(path), f"`foveal inspect` tells what it is. {TEACH}")
    return locate(unpacked(path, said), options, said)


def _locate_archives(path: Path, files: Sequence[Path], options: Options, said: list[str]) -> dict[str, Found]:
    """Splits in the names of archives or shards: train.zip, test.zip; {} when there is no train among them."""
    splits: dict[str, list[Path]] = {}
    rest: list[str] = []
    for file in files:
        if archive_suffix(file):
            split = split_in_name(file)
            if split is None:
                rest.append(file.name)
            else:
                splits.setdefault(split, []).append(file)
    if "train" not in splits:
        return {}
    if rest:
        said.append(f"not read, for want of a split's name: {', '.join(rest)}")
    return {
        split: _locate_packed(path, found, split, options, said)
        for split, found in sorted(splits.items(), key=_split_order)
    }


def _locate_packed(path: Path, files: Sequence[Path], split: str, options: Options, said: list[str]) -> Found:
    """One split that lies in an archive, or in shards."""
    if options.form in (None, "webdataset") and looks_like_webdataset(files[0]):
        return Found("webdataset", tuple(files))
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise UserError(f"{len(files)} archives for one split: {names}", str(path), "Unpack them into one folder.")
    parts = _locate_archive(files[0], options, said)
    found = parts.get(split) or parts.get("all")
    if found is None:
        raise UserError(f"it has {', '.join(parts)}, but no {split} data", str(files[0]), "Name it by what it holds.")
    return found


def _locate_whole(
    path: Path, files: Sequence[Path], folders: Sequence[Path], options: Options, said: list[str]
) -> Found:
    """The one form of data in a folder without splits."""
    described = _locate_described(path, options)
    if described:
        return described.get("all") or described["train"]
    boxes = _locate_boxes(path, options)
    if boxes:
        if "all" not in boxes:
            raise UserError(f"it has splits of its own ({', '.join(boxes)}) inside one of a split", str(path), TEACH)
        return boxes["all"]
    for form in ("recordio", "lst", "manifest"):
        there = [file for file in files if _form_by_name(file) == form]
        if there and options.form in (None, form):
            return _one_form(path, form, there)
    wanted = options.task != "boxes"
    tables = [file for file in files if _form_by_name(file) == "csv" and (wanted or has_boxes(file))]
    classes = [folder for folder in folders if wanted and has_pictures(folder)]
    named = options.file_column, options.label_column, options.reading.labels
    fitting = [table for table in tables if is_picture_table(table, *named, marked=not classes)]
    if options.form == "csv" or (options.form is None and (fitting or (tables and not classes))):
        if tables:
            return _one_form(path, "csv", fitting or tables)
    elif classes and options.form in (None, "folder"):
        _refuse_data_sets(path, classes)
        return Found("folder", (path,))
    archives = [file for file in files if archive_suffix(file)]
    if archives and not classes:
        return _locate_packed(path, archives, "train", options, said)
    if any(file.suffix.lower() == ".parquet" for file in files):
        raise UserError("its Parquet files aren't read", str(path), TEACH_PARQUET)
    pictures = sum(is_picture_name(file.name) for file in files)
    kinds = sorted({file.suffix or file.name for file in files})
    holds = [f"{pictures:,} pictures without a label"] if pictures else []
    holds += [f"{len(files):,} files ({', '.join(kinds[:5])})"] if files and not pictures else []
    holds += [f"{len(folders):,} folders ({', '.join(f.name for f in folders[:5])})"] if folders else []
    sought = "labelled pictures" if wanted else "pictures with boxes"
    raise UserError(
        f"no {sought} found; it holds {' and '.join(holds) or 'nothing'}"
        + (f" (looked for form {options.form})" if options.form else ""),
        str(path),
        (TEACH if wanted and options.form not in BOX_FORMS else TEACH_BOXES)
        + (TEACH_TEXTS if options.task != "classes" and pictures and any(f.suffix == ".txt" for f in files) else ""),
    )


def _refuse_data_sets(path: Path, classes: Sequence[Path]) -> None:
    for folder in classes:
        with os.scandir(folder) as entries:
            inner = sorted(entry.name for entry in entries if entry.name.lower() in SPLITS and entry.is_dir())
        if inner:
            raise UserError(
                f"its subfolder {folder.name} is no class, for it holds folders of splits ({', '.join(inner)})",
                str(path),
                f"Name one data set, such as {folder}.",
            )


def _one_form(path: Path, form: str, files: Sequence[Path]) -> Found:
    if form != "recordio" and len(files) > 1:
        raise _several(path, form, files)
    return Found(form, tuple(sorted(files, key=lambda file: file.name)))


def _several(path: Path, form: str, files: Sequence[Path]) -> UserError:
    names = ", ".join(file.name for file in files)
    return UserError(f"{len(files)} files of form {form} for one split: {names}", str(path), "Name one of them itself.")


def _form_by_name(file: Path) -> str | None:
    """The form that a file's suffix tells; of lines of JSON (``.jsonl``) a look inside."""
    if file.suffix.lower() == ".jsonl":
        return "manifest" if looks_like_manifest(file) else None
    return _SUFFIX_FORMS.get(file.suffix.lower())


def _form_of_file(path: Path, said: list[str]) -> str:
    form = _form_by_name(path) or ("manifest" if path.suffix.lower() == ".json" and looks_like_manifest(path) else None)
    if form is not None:
        return form
    with path.open("rb") as file:
        start = file.read(4)
    if start == MAGIC_BYTES:
        said.append(f"{path.name} begins like a RecordIO file, and is read as one")
        return "recordio"
    if is_picture_name(path.name):
        raise UserError("this is one picture, not labelled data", str(path), f"`foveal predict` asks about it. {TEACH}")
    if path.suffix.lower() == ".parquet":
        raise UserError("Parquet files aren't read", str(path), TEACH_PARQUET)
    if path.suffix.lower() in (".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"):
        raise UserError("this is no archive that is read", str(path), f"Unpack it, or pack it as zip or tar. {TEACH}")
    raise UserError(f"no form of data is known by the suffix {path.suffix!r}", str(path), TEACH)


def _refuse_artifact(path: Path) -> None:
    for folder in (path, path / "model"):
        if (folder / "foveal.json").is_file():
            raise UserError(
                "this is a trained model, not data", str(folder), f"`foveal inspect` tells what it is. {TEACH}"
            )
