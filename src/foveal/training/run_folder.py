"""What a run's folder tells of the run that is in it: ``run.json`` and ``finished.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveal.errors import UserError

Fields = dict[str, Any]


def make_folder(out: Path) -> None:
    """Raises UserError where it can't be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't be made: {error.strerror}", str(out), "Name another folder with --output.") from error


def read_run(out: Path) -> Fields | None:
    """What ``run.json`` holds: ``identity`` and ``resolved``; None when there is none. Raises UserError."""
    return _read_json(out / "run.json", ("identity", "resolved"))


def find_finished(out: Path, identity: Mapping[str, Any]) -> Fields | None:
    """What ``finished.json`` holds when this very run (see ``identity``) has ended in ``out``, else None.

    A run with other settings that never came to its first checkpoint, as after a wrong setting, gives way.

    Raises:
        UserError: for a run with other settings or data, a damaged file, and a finished run without its model.
    """
    stored = read_run(out)
    if stored is None:
        return None
    before = stored["identity"]
    was, now = before["settings"], identity["settings"]
    changed = [
        f"{name}: {_told(was.get(name))} before, {_told(now[name])} now" for name in now if was.get(name) != now[name]
    ]
    changed += [f"other {name}" for name in ("data", "validation", "model") if before[name] != identity[name]]
    finished = _read_json(out / "finished.json", ("best_epoch", "stopped"))
    if changed and finished is None and not any((out / "checkpoints").glob("step-*")):
        (out / "run.json").unlink()
        return None
    if changed:
        raise UserError(
            f"a run with other settings or data is in this folder ({'; '.join(changed[:3])})",
            str(out),
            "Name another folder with --output, or give the same settings to go on with that run.",
        )
    if finished is not None and not (out / "model").is_dir():
        raise UserError(
            "this run is finished, but its model is gone", str(out), "Name another folder with --output to train anew."
        )
    return finished


def _read_json(path: Path, names: tuple[str, ...]) -> Fields | None:
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        problem = "" if isinstance(fields, dict) and fields.keys() >= set(names) else f"it lacks {' and '.join(names)}"
    except ValueError as error:
        problem = f"it is no JSON: {error}"
    if problem:
        remedy = "Name another folder with --output, or remove this one to train anew."
        raise UserError(f"is damaged: {problem}", str(path), remedy)
    found: Fields = fields
    return found


def _told(value: object) -> str:
    return "not given" if value is None else str(value)
