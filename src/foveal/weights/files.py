"""Weight files: safetensors, and torch's files as far as they hold tensors only.

A torch file is a pickle; it is read with ``weights_only=True`` and never otherwise. What its pickle claims is bounded
by what lies in the file: entries of the zip must be stored, not compressed, and no tensor may be larger than the file.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from foveal.errors import UserError

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
MAX_BYTES = 8 << 30  # a file of weights; ViT-g's 1.9 billion numbers in float32 fit
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # how torch.save started before its zip files (1.6)
# Where training scripts keep the weights in a checkpoint, best first.
INNER = ("state_dict_ema", "model_ema", "state_dict", "model")
# What torch's reader raises on damaged or hostile files.
TORCH_ERRORS = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    ArithmeticError,
    MemoryError,
    struct.error,
    OSError,
)
CONVERT = (
    "Give a file of tensors: in Python `safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')` "
    "writes one."
)

T = TypeVar("T")


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a file; of safetensors without reading the tensors.

    Raises:
        UserError: as ``read_tensors``.
    """
    if path.suffix != ".safetensors":
        return {name: tuple(tensor.shape) for name, tensor in read_tensors(path).items()}
    _check_size(path)
    try:
        with safe_open(path, framework="pt") as file:
            return _plain_names({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name, on the CPU, in the stored dtype.

    Names lose a prefix that all of them share: ``module.`` (data-parallel training) or ``body.`` (our artifacts).

    Raises:
        UserError: when the file is missing, damaged, too large, of an unknown kind, or holds more than tensors.
    """
    _check_size(path)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return _plain_names({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
    return _plain_names(_read_torch(path))


def read_metadata(path: Path) -> dict[str, str]:
    """A safetensors file's metadata; empty for other files."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _check_size(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"a file of weights ends in one of {', '.join(SUFFIXES)}, not {path.suffix or path.name!r}",
            str(path),
            CONVERT,
            "weights",
        )
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(
            f"cannot be read: {error}", str(path), "Give the path of a file of weights.", "weights"
        ) from error
    if size > MAX_BYTES:
        raise UserError(
            f"the file has {size:,} bytes, more than the {MAX_BYTES:,} that are read", str(path), CONVERT, "weights"
        )


def _read_torch(path: Path) -> dict[str, Tensor]:
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        _check_zip(path, size)
    else:
        with path.open("rb") as file:
            if file.read(len(LEGACY_MAGIC)) != LEGACY_MAGIC:
                raise UserError("this is no file that torch.save wrote", str(path), CONVERT, "weights")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own text advises to run the code
        raise UserError("it holds more than tensors; code in it is not run", str(path), CONVERT, "weights") from error
    except TORCH_ERRORS as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"torch cannot read it as weights alone: {first_line[:200]}", str(path), CONVERT, "weights"
        ) from error
    tensors = _state_dict(content)
    if not tensors:
        raise UserError("no tensors by name are in it", str(path), CONVERT, "weights")
    for name, tensor in tensors.items():
        # Strides of 0 let a small file claim a tensor of any size.
        if tensor.numel() * tensor.element_size() > size:
            raise UserError(
                f"{name} claims {tensor.numel():,} numbers, more than the file holds", str(path), CONVERT, "weights"
            )
    return tensors


def _check_zip(path: Path, size: int) -> None:
    """Refuse what torch.save does not write: programs (TorchScript), compressed or overlapping entries."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, struct.error) as error:
        raise _damaged(path, error) from error
    names = [entry.filename for entry in entries]
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise UserError(
            "this is a TorchScript program, not a file of weights",
            str(path),
            "Store its weights alone: `safetensors.torch.save_file(torch.jit.load(FILE).state_dict(), NEW_FILE)`.",
            "weights",
        )
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size:
        raise UserError(
            "its zip entries are compressed or overlap, which torch.save never does", str(path), CONVERT, "weights"
        )


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The mapping of names to tensors, also inside a training checkpoint."""
    if not isinstance(content, Mapping):
        return {}
    for key in INNER:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _plain_names(named: dict[str, T]) -> dict[str, T]:
    for prefix in ("module.", "body."):
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"the file is damaged: {error}", str(path), "Copy or download it again.", "weights")
