"""Which ResNet a depth means: stages, units, filters and stem, by kind and picture height. No torch here.

``pre`` follows the classification example of MXNet that the original is built on (reference, section 6.1): up to 28
pixels of height three stages of 16, 32, 64 filters, above that four stages of 64 to 512 (2048) filters. ``post`` is
the ResNet of torchvision and timm, four stages at any height. Pictures of at most 32 pixels get a 3x3 stem that keeps
their size in both kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveal.errors import UserError

Kind = Literal["pre", "post"]

LARGE_UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
SMALL_DEPTHS = (20, 32, 44, 56, 110)  # those that the original documents; its rule takes further ones
SMALL_HEIGHT = 28  # pixels; the original builds three stages up to here
SMALL_STEM_HEIGHT = 32  # pixels; up to here the stem is 3x3 without pooling


@dataclass(frozen=True)
class ResNetPlan:
    """What a ResNet is built from.

    Attributes:
        kind: ``pre`` (activation before convolution, v2) or ``post`` (after it, v1.5).
        bottleneck: units of three convolutions (1x1, 3x3, 1x1) instead of two 3x3.
        units: number of units in each stage; the first unit of every stage but the first halves the picture.
        stem: filters of the first convolution.
        filters: output channels of each stage.
        small_stem: 3x3 with stride 1 and no pooling, instead of 7x7 with stride 2 and max pooling.
        said: a line for the user where the plan departs from the original's rule, else empty.
    """

    kind: Kind
    bottleneck: bool
    units: tuple[int, ...]
    stem: int
    filters: tuple[int, ...]
    small_stem: bool
    said: str = ""


def default_kind(num_layers: int, recipe: Literal["original", "modern"], pretrained: bool = False) -> Kind:
    """The kind that a depth means unless ``resnet`` says otherwise.

    20 to 110 are always ``pre``; the others ``post`` in the recipe modern and wherever public ImageNet weights are
    loaded, which exist for ``post`` only.
    """
    if num_layers not in LARGE_UNITS:
        return "pre"
    return "post" if recipe == "modern" or pretrained else "pre"


def plan_resnet(num_layers: int, kind: Kind, height: int, width: float = 1.0, extended: bool = True) -> ResNetPlan:
    """Decide stages, units and filters of a ResNet.

    Args:
        num_layers: depth as in its name.
        kind: ``pre`` or ``post``.
        height: of the network's input, in pixels.
        width: factor on all filters, rounded to multiples of 4 (at least 4); for trials. Beware of training with
            fewer than 8 filters on a CPU: oneDNN's gradient of a strided 1x1 convolution then crashes in
            channels-last memory (torch 2.13, avx2), which ``torch.backends.mkldnn.flags(enabled=False)`` avoids.
        extended: also take 20, 32, 44, 56, 110 at heights 29..32, which the original refuses.

    Raises:
        UserError: when the depth does not exist for this kind and height; the original's text comes first.
    """
    units: tuple[int, ...]
    filters: tuple[int, ...]
    small = _small_units(num_layers) if kind == "pre" and _three_stages(num_layers, height, extended) else None
    said = ""
    if small is not None:
        units, bottleneck = small
        stem, filters = 16, (64, 128, 256) if bottleneck else (16, 32, 64)
    elif num_layers in LARGE_UNITS and (kind == "post" or height > SMALL_HEIGHT or num_layers in (18, 34)):
        units, bottleneck = LARGE_UNITS[num_layers], num_layers >= 50
        stem, filters = 64, (256, 512, 1024, 2048) if bottleneck else (64, 128, 256, 512)
        if kind == "pre" and height <= SMALL_HEIGHT:
            said = (
                f"num_layers={num_layers} at a height of {height} pixels: four stages are built, as for larger "
                "pictures; MXNet's example refuses this depth there."
            )
    else:
        raise _no_such_depth(num_layers, kind, height, extended)
    return ResNetPlan(
        kind,
        bottleneck,
        units,
        scaled(stem, width),
        tuple(scaled(count, width) for count in filters),
        height <= SMALL_STEM_HEIGHT,
        said,
    )


def _three_stages(num_layers: int, height: int, extended: bool) -> bool:
    return height <= SMALL_HEIGHT or (extended and height <= SMALL_STEM_HEIGHT and num_layers in SMALL_DEPTHS)


def _small_units(num_layers: int) -> tuple[tuple[int, ...], bool] | None:
    """Units of the three stages and whether they are bottlenecks; None when no such network exists."""
    layers = num_layers - 2
    if num_layers >= 164 and layers % 9 == 0:
        return (layers // 9,) * 3, True
    if 0 < layers < 162 and layers % 6 == 0:
        return (layers // 6,) * 3, False
    return None


def scaled(filters: int, width: float) -> int:
    """Filters of a narrowed layer: a multiple of 4, at least 4; as they are where ``width`` is 1."""
    return filters if width == 1.0 else max(4, round(filters * width / 4) * 4)


def _no_such_depth(num_layers: int, kind: Kind, height: int, extended: bool) -> UserError:
    large = ", ".join(map(str, LARGE_UNITS))
    small = ", ".join(map(str, SMALL_DEPTHS))
    limit = SMALL_STEM_HEIGHT if extended else SMALL_HEIGHT
    if kind == "post":
        remedy = f"With resnet=post choose one of {large}; 20 to 110 layers are built with resnet=pre."
    elif num_layers in SMALL_DEPTHS:
        remedy = (
            f"image_shape has a height of {height} pixels: {small} layers need a height of at most {limit}. "
            f"Choose one of {large}, or a smaller image_shape."
        )
    elif num_layers in LARGE_UNITS:
        remedy = (
            f"image_shape has a height of {height} pixels: {num_layers} layers need a height above {SMALL_HEIGHT}. "
            f"Choose one of 18, 34, {small}, a larger image_shape, or resnet=post."
        )
    else:
        remedy = f"Choose one of {large}, or for heights of at most {limit} pixels one of {small}."
    return UserError(
        f"no experiments done on num_layers {num_layers}, you can do it yourself", "num_layers", remedy, "num_layers"
    )
