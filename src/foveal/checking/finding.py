"""What a check of data finds: one finding a kind of fault, with the records that are suspected of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")
"""What is worth knowing; what probably harms; what training refuses, or would break off for."""

KEPT = 1_000
"""Suspects that a finding keeps; all are counted."""


@dataclass(frozen=True)
class Suspect:
    """A record, or several that belong together, such as pictures that are the same.

    Attributes:
        where: the place of each in a person's words; empty where it is no record, but a class.
        why: what is odd about this one, where the finding doesn't say it all.
        spots: split and row of each in ``where``; empty where there is no picture to show.
    """

    where: tuple[str, ...]
    why: str = ""
    spots: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        code: its name, the same in every version.
        severity: how bad it is. what: what is the matter, with the numbers. remedy: what to do, as a sentence.
        count: how many records, boxes, pairs or classes it is about.
        suspects: at most ``KEPT`` of them; none where the finding is about the whole.
    """

    code: str
    severity: Severity
    what: str
    remedy: str
    count: int
    suspects: tuple[Suspect, ...] = ()

    @property
    def more(self) -> str:
        """A plus sign where suspects were too many to be kept."""
        return "+" if len(self.suspects) == KEPT else ""


def finding(
    code: str, severity: Severity, what: str, remedy: str, suspects: Sequence[Suspect], count: int | None = None
) -> tuple[Finding, ...]:
    """The finding, or none without suspects; ``count`` is their number when left out."""
    if not suspects:
        return ()
    count = len(suspects) if count is None else count
    return (Finding(code, severity, what, remedy, count, tuple(suspects[:KEPT])),)


def plural(count: int, one: str, several: str = "") -> str:
    """``1 box``, ``1,204 boxes``."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
