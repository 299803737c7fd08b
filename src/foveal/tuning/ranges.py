"""What a tuning searches: ranges of settings, and those that the guide recommends (reference 1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from foveal.errors import UserError
from foveal.settings import read_setting, setting_kind

LOGARITHMIC = 100  # a range whose ends are so many times apart is searched by orders of magnitude

USED_BY = {
    "momentum": ("sgd", "nag"),
    "beta_1": ("adam", "adamw"),
    "beta_2": ("adam", "adamw"),
    "eps": ("adam", "adamw", "rmsprop"),
    "gamma": ("rmsprop",),
}
"""Settings that only some optimizers heed; others are not searched with them."""


@dataclass(frozen=True)
class Range:
    """What one setting is searched in: ``low`` to ``high``, or one of ``choices`` (as they are typed)."""

    name: str
    kind: Literal["integer", "float", "choice"]
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"{self.name}: {', '.join(self.choices)}"
        return f"{self.name}: {self.low:g} to {self.high:g}{' (logarithmic)' if self.logarithmic else ''}"


def read_range(text: str, algorithm: str) -> Range:
    """``learning_rate=1e-4..1e-1``, ``mini_batch_size=8..64``, ``optimizer=sgd,adam``; values with commas in them have
    ``|`` between. ``:log`` or ``:linear`` at the end says how numbers are searched.

    Raises:
        UserError: for a setting that the algorithm has not, a value that it does not take, and what is no range.
    """
    name, equals, told = text.partition("=")
    name = name.strip()
    form = "Write --range NAME=LOW..HIGH or NAME=A,B,C, such as learning_rate=1e-4..1e-1."
    if not equals or not told.strip():
        raise UserError(f"{text!r} is no range", "range", form, "range")
    kind = setting_kind(algorithm, name)
    told, _, scale = told.rpartition(":") if told.endswith((":log", ":linear")) else (told, "", "")
    low, dots, high = told.partition("..")
    if not dots:
        choices = tuple(part.strip() for part in told.split("|" if "|" in told else ","))
        for each in choices:
            read_setting(algorithm, name, each)
        if len(set(choices)) < 2:
            raise UserError(f"{text!r} leaves nothing to choose", "range", form, "range")
        return Range(name, "choice", choices=choices)
    if kind.type not in ("integer", "float"):
        raise UserError(
            f"{name} takes words, which have no range",
            "range",
            f"Name them: {name}=A,B. Allowed: {kind.allowed}.",
            name,
        )
    ends = [float(read_setting(algorithm, name, part.strip())) for part in (low, high)]
    return _numbers(name, kind.type, ends[0], ends[1], scale)


def _numbers(name: str, kind: str, low: float, high: float, scale: str = "") -> Range:
    if low >= high:
        raise UserError(f"{name}: {low:g} is not below {high:g}", "range", "Write the lower end first.", "range")
    if scale == "log" and low <= 0:
        raise UserError(f"{name}: a logarithmic range can't begin at {low:g}", "range", "Begin above 0.", "range")
    wide = low > 0 and high / low >= LOGARITHMIC
    return Range(name, "integer" if kind == "integer" else "float", low, high, scale == "log" or (wide and not scale))


def recommended(algorithm: str, settings: Mapping[str, object]) -> tuple[Range, ...]:
    """The guide's ranges (reference 1.4) of all settings that were not given, whichever of them an optimizer uses."""
    table = {
        "image-classification": (
            "learning_rate=1e-6..0.5", "mini_batch_size=8..512", "optimizer=sgd,adam,rmsprop,nag", "momentum=0..0.999",
            "weight_decay=0..0.999", "beta_1=1e-6..0.999", "beta_2=1e-6..0.999", "eps=1e-8..1", "gamma=1e-8..0.999",
        ),
        "object-detection": (
            "learning_rate=1e-6..0.5", "mini_batch_size=8..64", "optimizer=sgd,adam,rmsprop,adadelta",
            "momentum=0..0.999", "weight_decay=0..0.999",
        ),
    }  # fmt: skip
    return tuple(
        each for each in (read_range(text, algorithm) for text in table[algorithm]) if each.name not in settings
    )
