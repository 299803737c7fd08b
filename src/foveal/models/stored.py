"""What the specifications of classifiers and detectors share: being read back from JSON, and being checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from foveal.errors import UserError

TUPLES = ("image_shape", "mean", "std")  # lists in JSON


class Checked(Protocol):
    """A specification: a dataclass that can tell whether its values make sense."""

    def check(self) -> None: ...


S = TypeVar("S", bound=Checked)


def read_stored(kind: type[S], stored: Mapping[str, Any], where: str) -> S:
    """A specification from what its ``as_dict`` gave and JSON kept.

    Raises:
        UserError: when a field is unknown, missing or of the wrong type; ``where`` names the file.
    """
    unknown = sorted(set(stored) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    try:
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}")
        spec = kind(**dict(stored) | {name: tuple(stored.get(name, ())) for name in TUPLES})
        spec.check()
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the network's description does not fit: {error}",
            where,
            "The file is damaged, or a newer Foveal wrote it: copy it again, or update Foveal.",
        ) from error
    return spec


def check_pictures(
    num_classes: int, image_shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """Check what every network has. Raises ValueError."""
    numbers = (num_classes, *image_shape)
    refuse(
        (all(type(number) is int for number in numbers), f"numbers {numbers}"),
        (len(image_shape) == 3, f"image_shape {image_shape}"),
    )
    refuse(
        (num_classes > 0, f"num_classes {num_classes}"),
        (min(image_shape) > 0, f"image_shape {image_shape}"),
        (len(mean) == len(std), f"mean {mean} and std {std}"),
        (len(mean) in (0, image_shape[0]), f"mean {mean} for image_shape {image_shape}"),
        (all(value > 0 for value in std), f"std {std}"),
    )


def refuse(*claims: tuple[bool, str]) -> None:
    """Raise ValueError with the text of the first claim that does not hold."""
    for holds, text in claims:
        if not holds:
            raise ValueError(text)
