"""Hyperparameters: one table for each algorithm, with type, range, default and meaning; parsing and checking.

Names, ranges and original defaults are those of SageMaker's algorithms; what Foveal adds is marked ``ours``. A recipe
is a column of defaults: ``original`` holds the original's, ``modern`` ours. There a default of None means: decided from
pictures, weights and device before training; a few settings are None in both columns, meaning "not used" (``resize``,
``freeze_layer_pattern``, ...). What the user gives always wins.
"""

from __future__ import annotations

from foveal.settings.classification import SMALL_DEPTHS, ClassificationSettings, refuse_together
from foveal.settings.detection import SMALLEST_SIDE, DetectionSettings
from foveal.settings.parsing import (
    NAMES,
    TABLES,
    Described,
    Parsed,
    defaults,
    describe_settings,
    parse_settings,
    read_setting,
    setting_kind,
)
from foveal.settings.table import EMA_AUTO, MODERN, ORIGINAL, REQUIRED, Settings

__all__ = [
    "EMA_AUTO",
    "MODERN",
    "NAMES",
    "ORIGINAL",
    "REQUIRED",
    "SMALLEST_SIDE",
    "SMALL_DEPTHS",
    "TABLES",
    "ClassificationSettings",
    "Described",
    "DetectionSettings",
    "Parsed",
    "Settings",
    "defaults",
    "describe_settings",
    "parse_settings",
    "read_setting",
    "refuse_together",
    "setting_kind",
]
