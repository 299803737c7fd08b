"""Artifacts: a trained model as a folder, or that folder packed as ``model.tar.gz``.

    model/
      foveal.json                 what the model is and what came of its training
      model.safetensors           weights of the best epoch, names as in the torch module
      epochs/NNNN.safetensors     with checkpoint_frequency: weights of epoch NNNN (from 1)

No file holds code. ``foveal.json`` carries the SHA-256 of ``model.safetensors``, so that a pair that does not
belong together is found.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import platform
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from foveal.data.remote import local
from foveal.errors import UserError
from foveal.files import sha256, write_aside, write_json

FORMAT = 1
DESCRIPTION = "foveal.json"
WEIGHTS = "model.safetensors"
ARCHIVE = "model.tar.gz"
MAX_DESCRIPTION = 64 << 20  # bytes; 10,000 class names and their figures fit many times
MAX_WEIGHTS = 16 << 30
DESCRIBED: dict[str, type] = {
    "algorithm": str,
    "network": dict,
    "class_names": list,
    "preprocessing": dict,
    "settings": dict,
    "sha256": str,
}
"""What ``foveal.json`` must hold besides its format, and of which kind."""


@dataclass(frozen=True)
class Artifact:
    """The description of a model; everything in it is JSON.

    Attributes:
        algorithm: ``image-classification``.
        network: a ``NetworkSpec`` as a dict.
        class_names: in label order.
        preprocessing: a ``Preprocessing`` rule as a dict, used wherever the model is asked.
        settings: every effective setting of the training.
        metrics: figures of the stored weights on the validation data.
        data: fingerprint and counts of the training data, and how validation data came about.
        thresholds: decision thresholds, where the algorithm has some.
        calibration: ``temperature``, by which logits are divided, where one was fitted on the validation data.
        epoch: number of the stored epoch, from 1; 0 when training ended before its first validation.
    """

    algorithm: str
    network: Mapping[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0


def write_artifact(folder: Path, artifact: Artifact, tensors: Mapping[str, Tensor]) -> None:
    """Write description and weights into ``folder``, each aside and renamed, the weights first."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
    describe(folder, artifact)


def describe(folder: Path, artifact: Artifact) -> None:
    """Write ``foveal.json`` for the weights that lie in ``folder``."""
    fields = asdict(artifact)
    fields |= {"format": FORMAT, "sha256": sha256(folder / WEIGHTS), "versions": _versions()}
    write_json(folder / DESCRIPTION, fields)


def write_epoch(folder: Path, epoch: int, tensors: Mapping[str, Tensor]) -> None:
    """Keep the weights of one epoch (from 1) beside the best ones."""
    (folder / "epochs").mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "epochs" / f"{epoch:04d}.safetensors", tensors)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, aside and renamed."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        write_aside(path, lambda aside: save_file(ready, aside))
    except SafetensorError as error:
        raise UserError(f"can't be written: {error}", str(path), "Look whether there is room on the disk.") from error


def check_fit(
    mine: Mapping[str, Tensor], tensors: Mapping[str, Tensor], place: str, any_rows: tuple[str, ...] = ()
) -> None:
    """Check stored weights against a network's: the same names and shapes, all finite.

    Args:
        any_rows: names of tensors whose first dimension may differ.

    Raises:
        UserError: naming the first tensor that is wrong.
    """
    wrong = [name for name in mine.keys() | tensors.keys() if name not in mine or name not in tensors]
    for name in mine.keys() & tensors.keys():
        start = int(name in any_rows)
        if mine[name].shape[start:] != tensors[name].shape[start:]:
            wrong.append(name)
    if wrong:
        raise UserError(
            f"the weights do not fit the network that {DESCRIPTION} names ({len(wrong)} tensors, e.g. {min(wrong)})",
            place,
            "Copy the artifact again.",
        )
    broken = sorted(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))
    if broken:
        raise UserError(
            f"the weights are not finite ({len(broken)} tensors, e.g. {broken[0]})",
            place,
            "Train anew with a lower learning_rate, or take an earlier epoch (--epoch).",
        )


def expect_algorithm(artifact: Artifact, name: str, place: str) -> None:
    """Raises UserError for a model of another algorithm."""
    if artifact.algorithm != name:
        raise UserError(
            f"this is a model of {artifact.algorithm}; here one of {name} is needed",
            place,
            "Name another model; or update Foveal, when this one was trained by a newer version.",
        )


def pack_artifact(folder: Path, archive: Path) -> None:
    """Pack the folder's files as ``model.tar.gz``: the same bytes for the same content."""

    def write(aside: Path) -> None:
        with aside.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
                    info = tarfile.TarInfo(path.relative_to(folder).as_posix())
                    info.size, info.mode = path.stat().st_size, 0o644
                    with path.open("rb") as file:
                        tar.addfile(info, file)

    write_aside(archive, write)


def is_artifact(path: Path) -> bool:
    """Whether ``path`` looks like one of our artifacts: by its files, without reading weights."""
    if path.is_dir():
        return (path / DESCRIPTION).is_file() or (path / "model" / DESCRIPTION).is_file()
    return path.is_file() and path.name.endswith((".tar.gz", ".tgz", ".tar"))


def open_artifact(path: str | Path, epoch: int | None = None) -> tuple[Artifact, dict[str, Tensor]]:
    """Read an artifact's description and weights.

    Args:
        path: the artifact's folder, the folder of the training run that holds it, or its ``model.tar.gz``;
            or an address of these (``s3://models/photos/model.tar.gz``).
        epoch: take the weights of this stored epoch (from 1) instead of the best one's.

    Raises:
        UserError: when it is no artifact, of a newer format, torn, or has no such epoch.
    """
    place = local(path)
    member = WEIGHTS if epoch is None else f"epochs/{epoch:04d}.safetensors"
    files = _read_folder(place, member) if place.is_dir() else _read_archive(place, member)
    if DESCRIPTION not in files:
        raise UserError(
            f"no {DESCRIPTION} in it: this is not a model that Foveal wrote",
            str(place),
            "Give the folder or the model.tar.gz that `foveal train` named at its end.",
        )
    fields = _fields(files[DESCRIPTION], place)
    if member not in files:
        stored = ", ".join(str(number) for number in sorted(_epochs(place))) or "none"
        raise UserError(
            f"the weights {member} are not in it (stored epochs: {stored})",
            str(place),
            "Copy the artifact again."
            if epoch is None
            else "Train with checkpoint_frequency=1 to keep every epoch."
            if stored == "none"
            else "Choose one of the stored epochs.",
        )
    if epoch is None and hashlib.sha256(files[WEIGHTS]).hexdigest() != fields["sha256"]:
        raise UserError(
            f"{WEIGHTS} does not belong to {DESCRIPTION}: its SHA-256 differs",
            str(place),
            "The copy is damaged, or files of two models were mixed: copy the artifact again.",
        )
    try:
        tensors = load(files[member])
    except SafetensorError as error:
        raise UserError(f"{member} can't be read: {error}", str(place), "Copy the artifact again.") from error
    names = {name: fields[name] for name in Artifact.__dataclass_fields__ if name in fields}
    names["class_names"] = tuple(names["class_names"])
    if epoch is not None:
        names |= {"epoch": epoch, "metrics": {}}
    return Artifact(**names), tensors


def _fields(content: bytes, place: Path) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{DESCRIPTION} can't be read ({error})", str(place), "Copy the artifact again.") from error
    number = fields.get("format") if isinstance(fields, dict) else None
    if number is not None and number != FORMAT:
        raise UserError(
            f"the artifact has format {number}; this version of Foveal reads format {FORMAT}",
            str(place),
            "Update Foveal: pip install --upgrade foveal",
        )
    problem = "it is no JSON object" if not isinstance(fields, dict) else _problem(fields)
    if problem:
        raise UserError(f"{DESCRIPTION} is damaged: {problem}", str(place), "Copy the artifact again.")
    found: dict[str, Any] = fields
    return found


def _problem(fields: Mapping[str, Any]) -> str:
    """What is wrong with a description, or an empty text."""
    missing = [name for name in ("format", *DESCRIBED) if name not in fields]
    if missing:
        return f"it lacks {', '.join(missing)}"
    kinds = DESCRIBED | {"metrics": dict, "data": dict, "thresholds": dict, "calibration": dict}
    for name, kind in kinds.items():
        value = fields.get(name, kind())
        if not isinstance(value, kind) or (
            isinstance(value, list) and not all(isinstance(each, str) for each in value)
        ):
            return f"{name} is {json.dumps(value)[:80]}"
    temperature = fields.get("calibration", {}).get("temperature", 1.0)
    if not isinstance(temperature, float) or not 0 < temperature < math.inf:
        return f"the temperature is {json.dumps(temperature)[:80]}"
    classes, names = fields["network"].get("num_classes", len(fields["class_names"])), len(fields["class_names"])
    return "" if classes == names else f"it names {names} classes, its network has {classes}"


def _read_folder(folder: Path, member: str) -> dict[str, bytes]:
    if not (folder / DESCRIPTION).is_file() and (folder / "model" / DESCRIPTION).is_file():
        folder = folder / "model"
    return {name: (folder / name).read_bytes() for name in (DESCRIPTION, member) if (folder / name).is_file()}


def _read_archive(path: Path, member: str) -> dict[str, bytes]:
    """The two files wanted, read straight from the archive: nothing is unpacked to disk."""
    if not path.is_file():
        raise UserError("there is no such file or folder", str(path), "Give a model.tar.gz, or its folder.")
    if _begins_with(path, b"PK\x03\x04"):
        raise UserError("this is a zip archive, not a model.tar.gz", str(path), "Unpack it, and give the folder.")
    files: dict[str, bytes] = {}
    try:
        for info, file in _members(path):
            if info.name not in (DESCRIPTION, member):
                continue
            limit = MAX_DESCRIPTION if info.name == DESCRIPTION else MAX_WEIGHTS
            if info.size > limit:
                raise UserError(f"{info.name} claims {info.size:,} bytes; at most {limit:,} are read", str(path))
            files[info.name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"the archive can't be read ({error})", str(path), "Copy the archive again.") from error
    return files


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, io.BufferedIOBase]]:
    with tarfile.open(path, mode="r|*") as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            if file is not None:
                info.name = str(PurePosixPath(info.name))
                yield info, file  # type: ignore[misc]


def _epochs(place: Path) -> set[int]:
    if place.is_dir():
        names = [p.relative_to(place).as_posix() for p in place.rglob("epochs/*.safetensors")]
    else:
        names = [info.name for info, _ in _members(place)]
    return {int(Path(n).stem) for n in names if "epochs/" in n and Path(n).stem.isdigit()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("foveal", "torch", "numpy", "pillow", "simplejpeg", "timm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
