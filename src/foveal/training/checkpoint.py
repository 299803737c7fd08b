"""Checkpoints: what a run needs to go on at a step as if nothing had happened.

    checkpoints/
      step-00001200/
        tensors.safetensors   network/, ema/, optimizer/, counters/, generator/
        state.json            step, plan, best so far, early stopping, bad pictures, what bit-equality depends on
        manifest.json         SHA-256 of the two files above

A checkpoint is written into a folder aside and renamed, and the newest two are kept. One whose hashes do not
agree is torn: it is passed over, with a word, and the one before is used.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from foveal.errors import UserError
from foveal.files import sha256, sync, write_json
from foveal.training.ranks import Ranks

KEPT = 2
STATE = ("plan", "best", "best_epoch", "early", "bad", "scaler", "threads", "torch")
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """``step`` steps are done. ``tensors`` is flat, on the CPU; ``state`` is JSON."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into ``folder`` and remove all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:08d}"
    aside = folder / f".step-{checkpoint.step:08d}.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        save_file({name: t.contiguous() for name, t in checkpoint.tensors.items()}, aside / "tensors.safetensors")
    except SafetensorError as error:
        raise UserError(f"can't be written: {error}", str(final), "Look whether there is room on the disk.") from error
    sync(aside / "tensors.safetensors")
    write_json(aside / "state.json", checkpoint.state)
    hashes = {name: sha256(aside / name) for name in ("tensors.safetensors", "state.json")}
    write_json(aside / "manifest.json", {"step": checkpoint.step, "sha256": hashes})
    if final.exists():  # written before, by the run that this one resumes
        shutil.rmtree(final)
    os.replace(aside, final)
    sync(folder)
    for _, old in _newest_first(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def read_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint in ``folder``, and a line for each torn one that was passed over."""
    passed: list[str] = []
    for step, path in _newest_first(folder):
        problem = _problem(path)
        if problem:
            passed.append(f"checkpoint {path.name} is torn ({problem}) and passed over")
            continue
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return Checkpoint(step, load_file(path / "tensors.safetensors"), state), passed
    return None, passed


def shared_checkpoint(folder: Path, ranks: Ranks) -> tuple[Checkpoint | None, list[str]]:
    """What ``read_checkpoint`` finds on the first rank, on all of them."""
    checkpoint, passed = read_checkpoint(folder) if ranks.first else (None, [])
    if ranks.count == 1:
        return checkpoint, passed
    told = ranks.decide(lambda: [checkpoint.step, checkpoint.state] if checkpoint is not None else None)
    if told is None:
        return None, passed
    tensors = ranks.firsts(save(checkpoint.tensors) if checkpoint is not None else b"")
    return checkpoint or Checkpoint(told[0], load(tensors), told[1]), passed


def _newest_first(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def _problem(path: Path) -> str:
    """Why a checkpoint can't be used, or an empty text."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        hashes = dict(manifest["sha256"])
        for name in ("tensors.safetensors", "state.json"):
            if sha256(path / name) != hashes[name]:
                return f"{name} differs from its SHA-256"
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        lacking = [name for name in STATE if name not in state]
        if lacking:
            return f"state.json lacks {lacking[0]}: another version wrote it"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"manifest.json can't be read: {type(error).__name__}"
    return ""
