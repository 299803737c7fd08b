"""Settings from what a person, a file or a program gave; and the tables in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from foveal.errors import UserError
from foveal.kinds import Kind
from foveal.settings.classification import ClassificationSettings, check_classification
from foveal.settings.detection import DetectionSettings, check_detection
from foveal.settings.table import EMA_AUTO, MODERN, REQUIRED, Settings, column_of, read_value, rows_of, shown

TABLES: dict[str, type[Settings]] = {table.ALGORITHM: table for table in (ClassificationSettings, DetectionSettings)}
NAMES: tuple[str, ...] = tuple(dict.fromkeys(name for table in TABLES.values() for name in rows_of(table)))
"""Every setting of any algorithm."""


@dataclass(frozen=True)
class Parsed:
    """Settings, the names of those that the user gave, and a line for each doubt about them."""

    settings: Settings
    given: frozenset[str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Described:
    """A row of the table in words.

    ``default`` is as one would type it, "" where there is none, "chosen" where the recipe decides it from the data.
    """

    name: str
    type: str
    allowed: str
    default: str
    meaning: str
    ours: bool


def defaults(recipe: str, algorithm: str = ClassificationSettings.ALGORITHM) -> dict[str, Any]:
    """The recipe's column: setting -> value. Raises UserError for an unknown recipe."""
    return column_of(TABLES[algorithm], recipe)


def describe_settings(recipe: str, algorithm: str = ClassificationSettings.ALGORITHM) -> list[Described]:
    """The table with the recipe's defaults, for help and documentation: the original's by name, then ours."""
    column = defaults(recipe, algorithm)
    rows = []
    for name, row in rows_of(TABLES[algorithm]).items():
        kind: Kind = row.metadata["kind"]
        open_here = column[name] is None and row.default is not None
        default = "chosen" if open_here else _typed_as(name, column[name], kind)
        rows.append(Described(name, kind.type, kind.allowed, default, row.metadata["meaning"], row.metadata["ours"]))
    return rows


def _typed_as(name: str, value: Any, kind: Kind) -> str:
    if value is None or value == EMA_AUTO:
        return "auto" if "auto" in kind.allowed and (value is not None or name != "ema_decay") else ""
    if isinstance(value, bool):
        return kind.allowed.split(", ")[int(value)]
    return f"{value:g}" if isinstance(value, float) else shown(value)


def parse_settings(
    given: Mapping[str, object],
    *,
    recipe: str,
    algorithm: str = ClassificationSettings.ALGORITHM,
    strict: bool = False,
    required: bool = False,
) -> Parsed:
    """Settings from what a person, a file or a program gave.

    Args:
        given: setting -> string or typed value. None and "" mean "not given"; names that begin with "_" are
            SageMaker's own and skipped.
        recipe: ``original`` or ``modern``; a ``recipe`` among the given settings wins.
        algorithm: ``image-classification`` or ``object-detection``.
        strict: unknown names are an error and not a warning; so does the setting ``strict``, which is on in recipe
            ``original`` of detection, as its original refuses them.
        required: ``num_classes`` and ``num_training_samples`` must be given, as the original demands.

    Raises:
        UserError: for a missing, unknown (strict) or wrong setting, its text the original's where that is known.
    """
    table = TABLES[algorithm]
    names = rows_of(table)
    wanted = {name: value for name, value in given.items() if value is not None and value != ""}
    column = column_of(table, str(wanted.get("recipe", recipe)))
    unknown = [name for name in wanted if name not in names and not name.startswith("_")]
    if required:
        _demand(table, [name for name in REQUIRED if name not in wanted], unknown)
    values = {name: read_value(table, name, wanted[name], column["recipe"]) for name in names if name in wanted}
    settings = table(**{**column, **values})
    if unknown and (strict or settings.strict):
        raise _unexpected(table, unknown)
    warnings = [
        f"{_owner(name)}'s setting {name!r} is ignored in {algorithm}"
        if _owner(name)
        else f"unknown hyperparameter {name!r} is ignored{_guess(table, name)}"
        for name in unknown
    ]
    if settings.lr_scheduler_step and settings.lr_schedule != "step" and "lr_schedule" not in values:
        warnings.append(f"lr_scheduler_step is given: lr_schedule is step here, not {settings.lr_schedule}")
        settings = replace(settings, lr_schedule="step")
    return Parsed(settings, frozenset(values), (*warnings, *_check(settings, values, wanted)))


def setting_kind(algorithm: str, name: str) -> Kind:
    """What values a setting takes. Raises UserError for a setting that the algorithm has not."""
    table = TABLES[algorithm]
    if name not in rows_of(table):
        near = _guess(table, name, "Did you mean ", "? ")
        raise UserError(f"{name!r} is no setting of {algorithm}", "", f"{near}docs/settings.md has them all.", name)
    kind: Kind = rows_of(table)[name].metadata["kind"]
    return kind


def read_setting(algorithm: str, name: str, value: object, recipe: str = MODERN) -> Any:
    """One value of a setting, from a string or a typed value. Raises UserError for an unknown name, a wrong value."""
    setting_kind(algorithm, name)
    return read_value(TABLES[algorithm], name, value, recipe)


def _check(settings: Settings, values: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    if isinstance(settings, DetectionSettings):
        return check_detection(settings, values, wanted)
    assert isinstance(settings, ClassificationSettings)
    return check_classification(settings, values)


def _guess(table: type[Settings], name: str, before: str = "; did you mean ", after: str = "?") -> str:
    near = difflib.get_close_matches(name.lower(), list(rows_of(table)), 1, 0.6)
    return f"{before}{near[0]!r}{after}" if near else ""


def _owner(name: str) -> str:
    """The algorithm that has a setting which this one lacks, or ""."""
    return next((algorithm for algorithm, table in TABLES.items() if name in rows_of(table)), "")


def _demand(table: type[Settings], missing: list[str], unknown: list[str]) -> None:
    if missing:
        near = "".join(_guess(table, name, f" {name!r} is not known; did you mean ") for name in unknown)
        raise UserError(
            f"Missing required hyperparameters: {', '.join(missing)}",
            "",
            f"Set {' and '.join(missing)} in the job's hyperparameters.{near}",
            missing[0],
        )


def _unexpected(table: type[Settings], unknown: list[str]) -> UserError:
    names = ", ".join(f"'{name}'" for name in unknown)
    near = "".join(
        f"{name!r} is a setting of {_owner(name)}. "
        if _owner(name)
        else _guess(table, name, f"For {name!r} did you mean ", "? ")
        for name in unknown
    )
    return UserError(
        f"Additional properties are not allowed ({names} {'was' if len(unknown) == 1 else 'were'} unexpected)",
        "",
        f"{near}Correct or remove {'it' if len(unknown) == 1 else 'them'}, or set strict=0 to be warned only.",
        unknown[0],
    )
