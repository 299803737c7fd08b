"""How pictures must be normalised for given weights: told, stored beside them, or known; never guessed.

All numbers are in units of pixel values 0..255, RGB: ``(pixel - mean) / std``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.weights.files import read_metadata, read_tensors
from foveal.weights.identify import LITE0, NetworkHint, Shapes


@dataclass(frozen=True)
class Normalisation:
    """``mean`` and ``std`` have three numbers each, or none: raw pixel values. ``source`` says who told them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


NAMED = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "half": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "raw": ((), ()),
}
LITE0_NORMALISATION = ((127.0,) * 3, (128.0,) * 3)  # as its package's code has it

# Oxford's VGG-16 by numbers that other training would not give: its first weight (red; the file for BGR has another
# there) and last bias. torchvision's own VGG-16 has the same names and shapes, and another normalisation.
OXFORD_VGG = {"features.0.weight": 0.4800154, "features.28.bias": 0.18837857}
FLOAT16_STEP = 1e-3


def find_normalisation(path: Path, shapes: Shapes, hint: NetworkHint | None, told: str = "") -> Normalisation:
    """The normalisation that fits a file of weights.

    Args:
        path: the file.
        shapes: of its tensors.
        hint: the network it was recognised as.
        told: ``weights_normalisation``: a name of ``NAMED``, which wins; or empty.

    Raises:
        UserError: when nothing tells it, or what tells it cannot be read.
    """
    if told:
        if told not in NAMED:
            raise UserError(
                f"{told!r} is none of {', '.join(NAMED)}", "weights_normalisation", "", "weights_normalisation"
            )
        return Normalisation(*NAMED[told], f"weights_normalisation={told}")
    found = _beside(path) or _from_metadata(path) or _known(path, shapes, hint)
    if found is None:
        raise UserError(
            "how pictures are normalised for these weights is not known",
            str(path),
            "Set weights_normalisation to imagenet (0..1, ImageNet's mean and deviation), caffe (0..255 minus the "
            f"mean), half (-1..1) or raw (0..255); or write {path.stem}.json beside the file with the keys mean and "
            "std, three numbers each in 0..1. Wrong values cost accuracy without a word, so none is assumed.",
            "weights_normalisation",
        )
    return found


def description_beside(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """The JSON object that describes a weight file: ``NAME.json``, or the hub's ``config.json`` in its folder."""
    for place in (path.with_suffix(".json"), path.parent / "config.json"):
        if not place.is_file():
            continue
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"is no JSON: {error}", str(place), "Correct or remove it.", "weights") from error
        if isinstance(content, dict):
            return place, content
    return None


def _beside(path: Path) -> Normalisation | None:
    found = description_beside(path)
    if found is None:
        return None
    place, content = found
    inner = content.get("pretrained_cfg")  # as timm's repositories on the hub have it
    return _from_fields(inner if isinstance(inner, dict) else content, str(place))


def _from_metadata(path: Path) -> Normalisation | None:
    stored = read_metadata(path)
    try:
        fields: dict[str, Any] = {name: json.loads(stored[name]) for name in ("mean", "std") if name in stored}
    except ValueError as error:
        raise UserError(
            f"mean or std in its metadata is no list of numbers: {error}",
            str(path),
            "Set weights_normalisation.",
            "weights_normalisation",
        ) from error
    return _from_fields(fields, f"metadata of {path}")


def _from_fields(fields: Mapping[str, Any], where: str) -> Normalisation | None:
    """``mean`` and ``std`` for pixel values in 0..1."""
    if "mean" not in fields and "std" not in fields:
        return None
    mean, std = fields.get("mean"), fields.get("std")
    means, stds = _three(mean), _three(std)
    if not (means and stds and min(means) >= 0 and min(stds) > 0 and max(means + stds) <= 1):
        raise UserError(
            f"mean {mean} and std {std} are not three numbers each, in 0..1",
            where,
            "They are for pixel values in 0..1: divide numbers for 0..255 by 255.",
            "weights_normalisation",
        )
    return Normalisation(tuple(m * 255 for m in means), tuple(s * 255 for s in stds), where)


def _three(values: Any) -> list[float]:
    """Three numbers, or an empty list for anything else."""
    right = isinstance(values, list) and len(values) == 3 and all(isinstance(v, int | float) for v in values)
    return [float(value) for value in values] if right else []


def _known(path: Path, shapes: Shapes, hint: NetworkHint | None) -> Normalisation | None:
    """Sources recognised by their tensors. A last layer of 1000 classes stands for ImageNet."""
    if hint is None:
        return None
    if hint.family == "vgg" and _is_oxford(path):
        return Normalisation(*NAMED["caffe"], "known: Oxford's VGG-16")
    if hint.num_classes != 1000:
        return None
    if hint.family == "resnet" and hint.resnet == "post":
        return Normalisation(*NAMED["imagenet"], "known: ImageNet ResNets of torchvision and timm")
    if hint.family == "vgg":
        return Normalisation(*NAMED["imagenet"], "known: ImageNet VGG-16 of torchvision")
    if hint.backbone == LITE0 and "_conv_stem.weight" in shapes:
        return Normalisation(*LITE0_NORMALISATION, "known: EfficientNet-Lite0")
    return None


def _is_oxford(path: Path) -> bool:
    tensors = read_tensors(path)
    return all(abs(float(tensors[name].flatten()[0]) - value) < FLOAT16_STEP for name, value in OXFORD_VGG.items())
