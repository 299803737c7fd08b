"""ResNets, both kinds.

    post    convolution, normalisation, ReLU; ReLU after the addition. The v1.5 of torchvision and timm (stride in the
            3x3), with their parameter names, so that checkpoints of either load by name.
    pre     normalisation, ReLU, convolution; nothing after the addition. The v2 of MXNet's classification example
            (reference, section 6.1): the picture itself is normalised first (``bn_data``, gamma fixed at 1), and a
            last normalisation comes before the pooling.

The layers and their names, in order:

                post                              pre
    picture                                       bn_data
    stem        conv1 bn1 ReLU [max pool]         conv1 [bn1 ReLU max pool]
    stages      layer1 .. layer4, units 0 ..      layer1 .. layer4 (or layer3), units 0 ..
    unit        conv1 bn1 ReLU conv2 bn2 ReLU     bn1 ReLU conv1 bn2 ReLU conv2
                [conv3 bn3] + shortcut ReLU       [bn3 ReLU conv3] + shortcut
    shortcut    downsample.0 (1x1), .1 (norm)     downsample (1x1), from the unit's first ReLU
                where shapes change               in the first unit of every stage
    head        mean, fc                          norm ReLU mean, fc

In brackets: with the large stem; of bottlenecks. The small stem (pictures up to 32 pixels high) is a 3x3 convolution
with stride 1 and no pooling, in ``post`` with bn1 and ReLU, in ``pre`` without.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.models.depths import ResNetPlan

EPS = {"pre": 2e-5, "post": 1e-5}


class ResNet(nn.Module):
    """A classifier on normalised pictures, or, with ``num_classes`` 0, its stages alone.

    ``forward`` takes float [B, C, H, W] to logits [B, num_classes], ``embed`` to features [B, last filters], ``stages``
    to the map at the end of each stage; in ``pre`` these are sums that no normalisation has followed.
    """

    def __init__(self, plan: ResNetPlan, channels: int, num_classes: int) -> None:
        super().__init__()
        pre = plan.kind == "pre"
        self.plan = plan
        self.bn_data = FixedGammaNorm(channels, EPS["pre"]) if pre else None
        if plan.small_stem:
            self.conv1 = nn.Conv2d(channels, plan.stem, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, plan.stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = None if pre and plan.small_stem else norm(plan, plan.stem)
        unit = PreUnit if pre else PostUnit
        for stage, (before, filters) in enumerate(pairwise((plan.stem, *plan.filters)), 1):
            stride = 1 if stage == 1 else 2
            # The original projects in every stage's first unit, the others only where shapes change.
            project = pre or stride != 1 or before != filters
            first = unit(plan, before, filters, stride, project)
            others = (unit(plan, filters, filters, 1, project=False) for _ in range(plan.units[stage - 1] - 1))
            self.add_module(f"layer{stage}", nn.Sequential(first, *others))
        self.norm = norm(plan, plan.filters[-1]) if pre and num_classes else None
        self.fc = nn.Linear(plan.filters[-1], num_classes) if num_classes else None
        initialise(self)

    def stages(self, x: Tensor) -> list[Tensor]:
        """Normalised pictures [B, C, H, W] -> the maps at the ends of the stages."""
        if self.bn_data is not None:
            x = self.bn_data(x)
        x = self.conv1(x)
        if self.bn1 is not None:
            x = F.relu(self.bn1(x), inplace=True)
        if not self.plan.small_stem:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for stage in range(1, len(self.plan.filters) + 1):
            x = getattr(self, f"layer{stage}")(x)
            maps.append(x)
        return maps

    def embed(self, x: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] -> the last stage's features, averaged over the picture: [B, F]."""
        x = self.stages(x)[-1]
        if self.norm is not None:
            x = F.relu(self.norm(x), inplace=True)
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        assert self.fc is not None, "built without classes"
        logits: Tensor = self.fc(self.embed(x))
        return logits


class Unit(nn.Module):
    """The convolutions of a residual unit and the normalisations that go with them.

    Args:
        plan: of the whole network.
        before, filters: channels that come in and go out.
        stride: of the unit; a bottleneck has it in its 3x3.
    """

    def __init__(self, plan: ResNetPlan, before: int, filters: int, stride: int) -> None:
        super().__init__()
        inner = filters // 4 if plan.bottleneck else filters
        self.conv1 = conv1x1(before, inner) if plan.bottleneck else conv3x3(before, inner, stride)
        self.conv2 = conv3x3(inner, inner, stride if plan.bottleneck else 1)
        self.conv3 = conv1x1(inner, filters) if plan.bottleneck else None


class PostUnit(Unit):
    """Convolution, normalisation, ReLU; the sum goes through a ReLU."""

    def __init__(self, plan: ResNetPlan, before: int, filters: int, stride: int, project: bool) -> None:
        super().__init__(plan, before, filters, stride)
        self.bn1 = norm(plan, self.conv1.out_channels)
        self.bn2 = norm(plan, self.conv2.out_channels)
        self.bn3 = norm(plan, filters) if self.conv3 is not None else None
        self.downsample = nn.Sequential(conv1x1(before, filters, stride), norm(plan, filters)) if project else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.conv3 is not None and self.bn3 is not None:
            y = self.bn3(self.conv3(F.relu(y, inplace=True)))
        # In place: neither normalisation nor addition needs its result for the gradient.
        y += shortcut
        return F.relu(y, inplace=True)


class PreUnit(Unit):
    """Normalisation, ReLU, convolution; the sum is left as it is."""

    def __init__(self, plan: ResNetPlan, before: int, filters: int, stride: int, project: bool) -> None:
        super().__init__(plan, before, filters, stride)
        self.bn1 = norm(plan, before)
        self.bn2 = norm(plan, self.conv2.in_channels)
        self.bn3 = norm(plan, self.conv3.in_channels) if self.conv3 is not None else None
        self.downsample = conv1x1(before, filters, stride) if project else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.downsample is None else self.downsample(active)
        y = self.conv1(active)
        y = self.conv2(F.relu(self.bn2(y), inplace=True))
        if self.conv3 is not None and self.bn3 is not None:
            y = self.conv3(F.relu(self.bn3(y), inplace=True))
        y += shortcut
        total: Tensor = y
        return total


class FixedGammaNorm(nn.BatchNorm2d):
    """Batch normalisation that learns beta only (MXNet's ``fix_gamma``): its gamma is 1 and not stored."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps, affine=False)
        self.bias = nn.Parameter(torch.zeros(channels))


def norm(plan: ResNetPlan, channels: int) -> nn.BatchNorm2d:
    """Batch normalisation whose moving statistics move by 0.1 a step (momentum 0.9 in MXNet's sense)."""
    return nn.BatchNorm2d(channels, eps=EPS[plan.kind])


def conv3x3(before: int, filters: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, filters, 3, stride=stride, padding=1, bias=False)


def conv1x1(before: int, filters: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, filters, 1, stride=stride, bias=False)


def initialise(network: ResNet) -> None:
    """Draw starting weights from torch's global generator.

    ``pre``: He's normal by inputs in all convolutions and in ``fc``, as the original (Xavier, gaussian, factor in,
    magnitude 2). ``post``: He's normal by outputs in the convolutions, as torchvision; ``fc`` keeps torch's, and the
    last normalisation of each unit starts at gamma 0, so that units start as identities (timm's default).
    """
    pre = network.plan.kind == "pre"
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in" if pre else "fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear) and pre:
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, PostUnit):
            nn.init.zeros_((layer.bn3 or layer.bn2).weight)
