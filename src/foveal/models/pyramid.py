"""A feature pyramid and one head for all of its levels: boxes are found at places, without anchors.

    backbone's maps, finest first   1x1 to one width; then from coarse to fine (each level enlarged and added to the
                                    next finer one) and from fine to coarse (each halved and added to the next coarser
                                    one), as in FPN (Lin et al. 2017) and PAN (Liu et al. 2018)
    head, the same on every level   two towers of ``DEPTH`` layers, for classes and for boxes; the norms are each
                                    level's own, since the levels' features differ

Layers are depthwise separable (3x3 in each channel, then 1x1 between them): a processor computes them several times as
fast as full ones. For each place of each level the head says how much each class is there (logits, each class for
itself) and how far the sides of a box lie from the place's centre: left, top, right, bottom in cells of the level, as
logarithms. The order of the places is level, row, column, finest level first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.models.backbone import backbone_maps
from foveal.models.resnet import ResNet
from foveal.models.ssd import by_anchor
from foveal.models.vgg import VggReduced

LEVELS = 3
WIDTH = 96  # channels of the pyramid and the head
DEPTH = 2  # layers of a tower
PRIOR = 0.01  # what every place says of every class at first, so that the many without objects cost little
FIRST_SIDE = 1.5  # cells from a place's centre to each side of its box at first
LONGEST = 6.0  # logarithm of the longest such distance, in cells: 403, more than any map has


class Pyramid(nn.Module):
    """Logits and distances of all places from normalised pictures.

    Args:
        backbone: ``VggReduced``, a ``ResNet`` without classes, or a network of timm's.
        channels: of the backbone's maps, finest first; where they are fewer than ``LEVELS``, further levels are made.
        num_classes: how many.
        numbers: of the backbone's maps, of a network of timm's.
    """

    def __init__(
        self, backbone: nn.Module, channels: Sequence[int], num_classes: int, numbers: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.numbers = numbers
        levels = max(LEVELS, len(channels))
        self.lateral = nn.ModuleList(Mixed(each) for each in channels)
        self.further = nn.ModuleList(Separable(stride=2) for _ in range(levels - len(channels)))
        self.finer = nn.ModuleList(Separable() for _ in range(levels - 1))
        self.halved = nn.ModuleList(Separable(stride=2) for _ in range(levels - 1))
        self.coarser = nn.ModuleList(Separable() for _ in range(levels - 1))
        self.class_tower = nn.ModuleList(Separable(levels=levels) for _ in range(DEPTH))
        self.box_tower = nn.ModuleList(Separable(levels=levels) for _ in range(DEPTH))
        self.classes = nn.Conv2d(WIDTH, num_classes, 1)
        self.sides = nn.Conv2d(WIDTH, 4, 1)
        assert self.classes.bias is not None and self.sides.bias is not None
        for layer in (self.classes, self.sides):
            nn.init.normal_(layer.weight, std=0.01)
        nn.init.constant_(self.classes.bias, math.log(PRIOR / (1 - PRIOR)))
        nn.init.constant_(self.sides.bias, math.log(FIRST_SIDE))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Normalised pictures [B, C, H, W] -> the levels that answers are read from, each [B, WIDTH, h, w]."""
        if isinstance(self.backbone, VggReduced):
            found = self.backbone.maps(x)
        elif isinstance(self.backbone, ResNet):
            found = self.backbone.stages(x)[-len(self.lateral) :]
        else:
            found = backbone_maps(self.backbone, x, self.numbers)
        levels = [lateral(each) for lateral, each in zip(self.lateral, found, strict=True)]
        for layer in self.further:
            levels.append(layer(levels[-1]))
        for i in range(len(levels) - 2, -1, -1):
            size = levels[i].shape[2:]
            levels[i] = self.finer[i](levels[i] + F.interpolate(levels[i + 1], size=size, mode="nearest"))
        for i in range(len(levels) - 1):
            height, width = levels[i + 1].shape[2:]
            # a backbone that rounds down has a row less than its map halved
            levels[i + 1] = self.coarser[i](levels[i + 1] + self.halved[i](levels[i])[:, :, :height, :width])
        return levels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pictures [B, C, H, W] -> logits [B, P, classes], logarithms of distances [B, P, 4]."""
        logits, sides = [], []
        for level, each in enumerate(self.maps(x)):
            of_classes = of_boxes = each
            for layer in self.class_tower:
                of_classes = layer(of_classes, level)
            for layer in self.box_tower:
                of_boxes = layer(of_boxes, level)
            logits.append(by_anchor(self.classes(of_classes), self.classes.out_channels))
            sides.append(by_anchor(self.sides(of_boxes), 4))
        return torch.cat(logits, 1), torch.cat(sides, 1)


class Mixed(nn.Module):
    """1x1 convolution to ``WIDTH`` channels, norm, ReLU."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(before, WIDTH, 1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.mix(x)), inplace=True)


class Separable(nn.Module):
    """A 3x3 convolution in each of ``WIDTH`` channels, one of 1x1 between them, norm, ReLU.

    With ``levels`` the norm is each level's own.
    """

    def __init__(self, stride: int = 1, levels: int = 1) -> None:
        super().__init__()
        self.spread = nn.Conv2d(WIDTH, WIDTH, 3, stride, 1, groups=WIDTH, bias=False)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(levels))

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        return F.relu(self.norms[level](self.mix(self.spread(x))), inplace=True)


def cells_for(maps: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """The cell of each place: boxes that divide the picture evenly.

    Args:
        maps: (height, width) of each level.

    Returns:
        float32 [P, 4], corner form, fractions of the network's input.
    """
    cells = []
    for height, width in maps:
        y, x = np.mgrid[:height, :width].reshape(2, -1)
        cells.append(np.stack([x / width, y / height, (x + 1) / width, (y + 1) / height], axis=1))
    return np.concatenate(cells).astype(np.float32)


def boxes_around(cells: Tensor, sides: Tensor) -> Tensor:
    """The boxes that the head's answers mean.

    Args:
        cells: float32 [..., P, 4], corner form.
        sides: float32 [..., P, 4], logarithms of the distances left, top, right, bottom in cells.

    Returns:
        float32 [..., P, 4], corner form, in the cells' unit; they hold their place's centre, and may reach outside.
    """
    x0, y0, x1, y1 = cells.unbind(-1)
    centre_x, centre_y, wide, high = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
    left, top, right, bottom = sides.clamp(max=LONGEST).exp().unbind(-1)
    return torch.stack(
        [centre_x - left * wide, centre_y - top * high, centre_x + right * wide, centre_y + bottom * high], dim=-1
    )
