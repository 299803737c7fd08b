"""Foveal: image classification as SageMaker's built-in algorithm does it, on your own machine.

    >>> import foveal
    >>> result = foveal.train("photos/", epochs=10)
    >>> model = foveal.load(result.model)
    >>> model.predict("new.jpg")[0].label
    'cat'

Importing this package imports neither torch nor anything else that is slow; each name is loaded when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveal.comparison import compare
    from foveal.display import Display
    from foveal.errors import BadPicture, UserError
    from foveal.evaluation import evaluate
    from foveal.exporting.export import export
    from foveal.predictor import Prediction, Predictor, load
    from foveal.records import Reading
    from foveal.training.run import Result, train
    from foveal.tuning.study import tune

__all__ = [
    "BadPicture",
    "Display",
    "Prediction",
    "Predictor",
    "Reading",
    "Result",
    "UserError",
    "compare",
    "evaluate",
    "export",
    "load",
    "train",
    "tune",
]

_HOMES = {
    "BadPicture": "foveal.errors",
    "Display": "foveal.display",
    "Prediction": "foveal.predictor",
    "Predictor": "foveal.predictor",
    "Reading": "foveal.records",
    "Result": "foveal.training.run",
    "UserError": "foveal.errors",
    "compare": "foveal.comparison",
    "evaluate": "foveal.evaluation",
    "export": "foveal.exporting.export",
    "load": "foveal.predictor",
    "train": "foveal.training.run",
    "tune": "foveal.tuning.study",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'foveal' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
