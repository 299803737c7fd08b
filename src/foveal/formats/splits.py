"""How the parts of a data set are called, in names of folders, files and columns."""

from __future__ import annotations

import re
from pathlib import Path

from foveal.errors import UserError

SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""How splits are called, in lower case, and what they are called here."""


def split_in_name(file: Path) -> str | None:
    """``train``, ``validation`` or ``test`` when a file's name has such a word: flowers_train-001.rec, train2017.

    Raises UserError when it has words of two splits.
    """
    words = re.split(r"[^a-z]+", file.stem.lower())
    splits = {SPLITS[word] for word in words if word in SPLITS}
    if len(splits) > 1:
        raise UserError(
            f"its name speaks of {' and '.join(sorted(splits))}", str(file), "Rename it, or name it itself."
        )
    return splits.pop() if splits else None
