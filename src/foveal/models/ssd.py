"""SSD: boxes and classes read from maps of several sizes (reference, sections 6.1 to 6.3).

A backbone gives the first maps, small convolutions make further ones from the last, each half as large:

    backbone        maps of the backbone                                   further maps
    VGG-16          relu4_3 (stride 8, L2-normalised, scaled), relu7 (16)  4 below 448 pixels, else 5
    ResNet-50       ends of stages 3 (16) and 4 (32)                       4
    timm's          the last of stride 8, 16 and 32                        3

On every map two 3x3 convolutions, one for classes and one for boxes, answer for each anchor of each place. Their
answers are put one after another in the order of the anchors: map, row, column, anchor of the cell; within an anchor
the class, background first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.models.anchors import OURS, SIX, VGG_LARGE, VGG_SMALL, AnchorLayout
from foveal.models.backbone import backbone_maps
from foveal.models.depths import scaled
from foveal.models.resnet import ResNet
from foveal.models.vgg import VggReduced

VGG_LARGE_SIDE = 448  # pixels; from here on VGG has a map more
L2_EPS = 1e-10
L2_SCALE = 20.0


@dataclass(frozen=True)
class Further:
    """A further map: a 1x1 convolution to half of the filters (at least 128), then this 3x3, each with a ReLU."""

    filters: int
    stride: int
    padding: int


@dataclass(frozen=True)
class SsdPlan:
    """Anchors and further maps of a detector.

    Attributes:
        layout: shapes of the anchors of all maps.
        further: the maps after the backbone's.
        scaled_first: the backbone's first map is L2-normalised and scaled.
        normed: the backbone's maps pass a BatchNorm: those of timm's networks differ tenfold in size, and the layers
            that find boxes would start with answers far too sure.
    """

    layout: AnchorLayout
    further: tuple[Further, ...]
    scaled_first: bool = False
    normed: bool = False


RESNET = SsdPlan(SIX, (Further(512, 2, 1), Further(256, 2, 1), Further(256, 2, 1), Further(128, 2, 1)))
TIMM = SsdPlan(OURS, (Further(512, 2, 1), Further(256, 2, 1), Further(256, 2, 1)), normed=True)


def vgg_plan(side: int) -> SsdPlan:
    """The original's VGG detector for pictures of ``side`` pixels."""
    halving = (Further(512, 2, 1), Further(256, 2, 1))
    if side < VGG_LARGE_SIDE:
        return SsdPlan(VGG_SMALL, (*halving, Further(256, 1, 0), Further(256, 1, 0)), scaled_first=True)
    return SsdPlan(VGG_LARGE, (*halving, Further(256, 2, 1), Further(256, 2, 1), Further(256, 1, 1)), scaled_first=True)


class Ssd(nn.Module):
    """Logits and offsets of all anchors from normalised pictures.

    Args:
        backbone: ``VggReduced``, a ``ResNet`` without classes, or a network of timm's.
        plan: anchors and further maps.
        channels: of the backbone's maps.
        num_classes: without background.
        width: factor on the further maps' filters.
        numbers: of the backbone's maps, of a network of timm's.
    """

    def __init__(
        self,
        backbone: nn.Module,
        plan: SsdPlan,
        channels: tuple[int, ...],
        num_classes: int,
        width: float = 1.0,
        numbers: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.numbers = numbers
        self.answers = num_classes + 1
        self.scale = nn.Parameter(torch.full((1, channels[0], 1, 1), L2_SCALE)) if plan.scaled_first else None
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels if plan.normed)
        self.extras = nn.ModuleList()
        for each in plan.further:
            self.extras.append(ExtraMap(channels[-1], each, width))
            channels = (*channels, scaled(each.filters, width))
        cells = list(zip(channels, plan.layout.per_cell, strict=True))
        self.class_heads = nn.ModuleList(nn.Conv2d(c, n * self.answers, 3, padding=1) for c, n in cells)
        self.box_heads = nn.ModuleList(nn.Conv2d(c, n * 4, 3, padding=1) for c, n in cells)
        for part in (self.extras, self.class_heads, self.box_heads):
            initialise(part)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Normalised pictures [B, C, H, W] -> the maps that answers are read from."""
        if isinstance(self.backbone, VggReduced):
            found = self.backbone.maps(x)
        elif isinstance(self.backbone, ResNet):
            found = self.backbone.stages(x)[-2:]
        else:
            found = backbone_maps(self.backbone, x, self.numbers)
            found = [norm(each) for norm, each in zip(self.norms, found, strict=True)]
        if self.scale is not None:
            found[0] = l2_normalise(found[0]) * self.scale
        for extra in self.extras:
            found.append(extra(found[-1]))
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pictures [B, C, H, W] -> logits [B, A, classes + 1], offsets [B, A, 4]."""
        logits, offsets = [], []
        for each, class_head, box_head in zip(self.maps(x), self.class_heads, self.box_heads, strict=True):
            logits.append(by_anchor(class_head(each), self.answers))
            offsets.append(by_anchor(box_head(each), 4))
        return torch.cat(logits, 1), torch.cat(offsets, 1)


class ExtraMap(nn.Module):
    """From one map to the next: 1x1, ReLU, 3x3, ReLU."""

    def __init__(self, before: int, further: Further, width: float) -> None:
        super().__init__()
        inner = scaled(max(128, further.filters // 2), width)
        self.conv1 = nn.Conv2d(before, inner, 1)
        self.conv2 = nn.Conv2d(inner, scaled(further.filters, width), 3, further.stride, further.padding)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x), inplace=True)
        return F.relu(self.conv2(x), inplace=True)


def by_anchor(answers: Tensor, numbers: int) -> Tensor:
    """[B, anchors * numbers, h, w] -> [B, h * w * anchors, numbers]; a view where memory is channels last."""
    return answers.permute(0, 2, 3, 1).reshape(answers.shape[0], -1, numbers)


def l2_normalise(x: Tensor) -> Tensor:
    """Each place's channels to length 1; in float32, because squares of a VGG's features leave float16."""
    x = x.float()
    return x * (x.square().sum(1, keepdim=True) + L2_EPS).rsqrt()


def initialise(module: nn.Module) -> None:
    """Xavier, uniform, by the average of inputs and outputs, magnitude 3, in all convolutions; biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
