"""Layer-wise decay of the learning rate: what lies deeper in a pretrained network is moved less."""

from __future__ import annotations

import re
from typing import Any

from foveal.models.network import ClassificationNetwork
from foveal.training.optimizers import Multipliers, decays

# The layers of our networks, in the order of ``named_parameters``: a ResNet's blocks, VGG's convolutions, the rest.
_BLOCK = re.compile(r"body\.(layer\d+\.\d+|features\.\d+|\w+)\.")
_STEM = ("bn_data", "conv1", "bn1")
_HEAD = ("norm", "fc")


def layer_multipliers(network: ClassificationNetwork, decay: float, decay_norm: bool) -> Multipliers:
    """Factors on the learning rate: 1 for the last layer, ``decay`` times as much for each layer before it.

    Args:
        network: one of ours, or timm's, which tells its layers itself (``group_matcher``).
        decay: above 0, at most 1.
        decay_norm: as in ``build_optimizer``.
    """
    levels = _timm_levels(network) if network.spec.family == "timm" else _levels(network)
    last = max(levels.values())
    return {
        name: (decay ** (last - levels[name]), float(decays(name, parameter, decay_norm)))
        for name, parameter in network.named_parameters()
    }


def _levels(network: ClassificationNetwork) -> dict[str, int]:
    """Parameter -> number of its layer, from 0: the stem, each block or convolution, the last layer with its norm."""
    found: dict[str, int] = {}
    numbers: dict[str, int] = {}
    for name, _ in network.named_parameters():
        block = _BLOCK.match(name)
        assert block, name
        layer = "stem" if block[1] in _STEM else "head" if block[1] in _HEAD else block[1]
        found[name] = numbers.setdefault(layer, len(numbers))
    return found


def _timm_levels(network: ClassificationNetwork) -> dict[str, int]:
    from timm.models import group_parameters

    body: Any = network.body
    levels = group_parameters(body, body.group_matcher(coarse=False), reverse=True)
    return {f"body.{name}": level for name, level in levels.items()}
