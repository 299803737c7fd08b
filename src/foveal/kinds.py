"""Kinds of values that a setting can take: how each is read from a string or a typed value, and explained.

Reading is strict, as the original's is (reference 1.1): nothing is rounded, stripped or guessed.
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, TypeVar

N = TypeVar("N", int, float)
MOST = 2**31 - 1  # whole numbers are bounded, so that no slip of the hand asks for endless work
LARGEST_SIDE = 10_000  # pixels; the bound of the sister algorithm's validator (reference 1.3)


@dataclass(frozen=True)
class Kind:
    """How one sort of value is read and explained.

    Attributes:
        type: as a table shows it.
        allowed: the allowed values, in words.
        read: string or typed value -> value; raises ValueError for what is not allowed.
        rule: what follows "hyperparameter which" in the error text, with every value Foveal takes.
        original_rule: the same with the values of the original only.
        remedy: (name, value as text) -> a sentence that says what to do.
    """

    type: str
    allowed: str
    read: Callable[[object], Any]
    rule: str
    original_rule: str
    remedy: Callable[[str, str], str]


def whole(low: int, high: int = MOST, auto: bool = False) -> Kind:
    """Whole numbers low..high; strings without sign, blank, leading zero or decimals (reference 1.1).

    With ``auto`` the word "auto" is allowed too and read as None.
    """
    pattern = "[1-9][0-9]*" if low > 0 else "(0|[1-9][0-9]*)"

    def read(value: Any) -> int | None:
        if auto and value == "auto":
            return None
        if isinstance(value, str):
            accepted = len(value) < 20 and re.fullmatch(pattern, value) is not None
        else:
            accepted = isinstance(value, Real) and not isinstance(value, bool) and value % 1 == 0  # not so for NaN, inf
        if not accepted:
            raise ValueError
        return _within(int(value), low, high)

    words = f"{low} to {high}" if high < MOST else f"{low} or more"
    also = ", or auto" if auto else ""

    def remedy(name: str, value: str) -> str:
        plain = re.fullmatch(r"\s*\+?0*([1-9][0-9]{0,9})(\.0*)?\s*", value)
        if plain and low <= int(plain[1]) <= high:
            return f"Write it without sign, blanks, leading zeros or decimals: {name}={plain[1]}."
        return f"Set {name} to a whole number, {words}{also}."

    string = f"a string which matches the pattern '^{pattern}$'"
    rule = f"expects one of the following: {string}; or an integer between {low} and {high}"
    return Kind("integer", words + also, read, rule, rule, remedy)


def number(low: float, high: float, above: bool = False, below: bool = False, auto: float | None = None) -> Kind:
    """Numbers low..high, decimal or scientific; ``above`` and ``below`` leave the bound itself out.

    With ``auto`` the word "auto" is allowed too and read as that number.
    """

    def read(value: Any) -> float:
        if auto is not None and value in ("auto", auto):
            return auto
        if isinstance(value, str):
            accepted = re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value) is not None
        else:
            accepted = isinstance(value, Real) and not isinstance(value, bool)
        if not accepted:
            raise ValueError
        found = float(value)
        if (above and found == low) or (below and found == high):
            raise ValueError
        return _within(found, low, high)

    words = f"above {low:g}" if above else f"{low:g}"
    words += f" {'to below' if below else 'to'} {high:g}" if high < 1e6 else "" if above else " or more"
    also = ", or auto" if auto is not None else ""
    rule = f"expects one of the following: a string with a decimal or scientific number; or a number, {words}"
    return _alike("float", words + also, read, rule, f"a number, {words}{also}")


def _alike(type: str, allowed: str, read: Callable[[object], Any], rule: str, wanted: str) -> Kind:
    """A kind of which the original allows the same values."""
    return Kind(type, allowed, read, rule, rule, lambda name, value: f"Set {name} to {wanted}.")


def _within(value: N, low: float, high: float) -> N:
    if not low <= value <= high:  # true for NaN as well
        raise ValueError
    return value


def choice(*values: str, ours: tuple[str, ...] = ()) -> Kind:
    """One of some words, as they are written; ``ours`` are those that the original does not have."""
    every = values + ours

    def read(value: object) -> str:
        if value not in every:
            raise ValueError
        return str(value)

    def remedy(name: str, value: str) -> str:
        near = difflib.get_close_matches(value.lower(), every, 1, 0.5)
        first = f"Did you mean '{near[0]}'? " if near else ""
        return f"{first}Set {name} to one of: {', '.join(every)}."

    return Kind("string", ", ".join(every), read, _one_of(every), _one_of(values or ours), remedy)


def depth(*values: int) -> Kind:
    """One of some whole numbers; the nearest one is named."""
    digits = whole(1)

    def read(value: object) -> int:
        found: int = digits.read(value)
        if found not in values:
            raise ValueError
        return found

    def remedy(name: str, value: str) -> str:
        known = re.fullmatch("[0-9]{1,9}", value)
        near = f"{min(values, key=lambda each: abs(each - int(value)))} is the nearest. " if known else ""
        return f"{near}Set {name} to one of: {', '.join(map(str, values))}."

    rule = _one_of(tuple(map(str, values)))
    return Kind("integer", ", ".join(map(str, values)), read, rule, rule, remedy)


def _one_of(values: tuple[str, ...]) -> str:
    return "accepts one of the following: " + ", ".join(f"'{value}'" for value in values)


def flag(no: str = "0", yes: str = "1", auto: bool = False) -> Kind:
    """A yes or no, written 0 and 1 or True and False in any case; with ``auto`` that word too, read as None."""
    known = {"0": False, "false": False, "1": True, "true": True} | ({"auto": None} if auto else {})

    def read(value: object) -> bool | None:
        if isinstance(value, Real) and value in (0, 1):
            return bool(value)
        if not isinstance(value, str) or value.lower() not in known:
            raise ValueError
        return known[value.lower()]

    every = (no, yes, "auto") if auto else (no, yes)
    words = ", ".join(every)
    return _alike(" or ".join(every[:2]), words, read, _one_of(every), f"one of: {words}")


def shape() -> Kind:
    """``channels,height,width``; blanks are allowed."""

    def read(value: object) -> tuple[int, int, int]:
        parts = [part.strip(" ") for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or len(parts) != 3:
            raise ValueError
        channels, height, width = (whole(1, LARGEST_SIDE).read(part) for part in parts)
        if channels not in (1, 3, 4):
            raise ValueError
        return channels, height, width

    def remedy(name: str, value: str) -> str:
        if re.fullmatch("[1-9][0-9]{0,4}", value):
            return (
                f"One number is object detection's form. For colour pictures {value} pixels high and wide "
                f"set {name}=3,{value},{value}."
            )
        return f"Set {name} to channels (1, 3 or 4), height and width (up to {LARGEST_SIDE} pixels), such as 3,224,224."

    rule = "expects a string of the form 'channels,height,width'"
    return Kind("string", "channels,height,width", read, rule, rule, remedy)


def side(low: int) -> Kind:
    """The side of a square picture in pixels; classification's form ``3,side,side`` is taken too (complaint 21)."""
    digits = whole(low, LARGEST_SIDE)

    def read(value: object) -> int:
        parts = [part.strip(" ") for part in value.split(",")] if isinstance(value, str) else value
        if isinstance(parts, list | tuple) and len(parts) == 3:
            channels, height, width = (whole(1).read(part) for part in parts)
            if channels != 3 or height != width:
                raise ValueError
            return int(digits.read(height))
        return int(digits.read(value))

    def remedy(name: str, value: str) -> str:
        if "," in value:
            return f"Pictures are forced to a square: set {name} to its side in pixels, {digits.allowed}, such as 512."
        return digits.remedy(name, value)

    return Kind(digits.type, digits.allowed, read, digits.rule, digits.original_rule, remedy)


def network_name(*values: str) -> Kind:
    """One of some names, or timm's name of a network, which have no hyphen; timm is asked when it is built."""
    twins = {value.replace("-", ""): value for value in values}

    def read(value: object) -> str:
        if value in values:
            return str(value)
        if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?", value) or value in twins:
            raise ValueError
        return value

    def remedy(name: str, value: str) -> str:
        near = difflib.get_close_matches(value.lower(), values, 1, 0.7)
        first = f"Did you mean '{near[0]}'? " if near else ""
        ways = f"{', '.join(values)}, or to timm's name of a network, such as mobilenetv3_large_100"
        return f"{first}Set {name} to one of: {ways}."

    rule = _one_of((*values, "a timm network"))
    return Kind("string", f"{', '.join(values)}, or a timm network", read, rule, _one_of(values), remedy)


def pattern() -> Kind:
    """A regular expression; ``false``, which SageMaker's console sends, is read as None: it matches nothing."""

    def read(value: object) -> str | None:
        if str(value).lower() == "false":
            return None
        if not isinstance(value, str):
            raise ValueError
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "possible nested set" and the like: it works as written
                re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError from error
        return value

    rule = "expects a regular expression"
    return Kind(
        "string", "a regular expression", read, rule, rule,
        lambda name, value: f"Set {name} to a regular expression that matches names from their start, "
        f"such as {name}=^(conv1_|conv2_).*, or leave it out.",
    )  # fmt: skip


def epoch_list() -> Kind:
    """Epochs from 1, increasing, with commas between; blanks are allowed."""

    def read(value: object) -> tuple[int, ...]:
        parts = [part.strip(" ") for part in value.split(",")] if isinstance(value, str) else value
        epochs = tuple(whole(1).read(part) for part in (parts if isinstance(parts, list | tuple) else [parts]))
        if not epochs or any(later <= earlier for earlier, later in pairwise(epochs)):
            raise ValueError
        return epochs

    rule = "expects a string of strictly increasing epochs, separated by commas"
    return Kind(
        "string", "increasing epochs with commas between", read, rule, rule,
        lambda name, value: f"Set {name} to epochs from 1, each later than the one before, such as {name}=10,20.",
    )  # fmt: skip


def text(allowed: str) -> Kind:
    """Any words but none; a path counts as its text."""

    def read(value: object) -> str:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ValueError
        return value

    rule = f"expects {allowed}"
    return _alike("string", allowed, read, rule, allowed)
