"""Exponential moving average of the weights: a calmer network to judge and to keep than that of the last step."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A copy of a network whose weights and BatchNorm statistics follow the trained one's slowly.

    After step t the decay is min(decay, (1 + t) / (10 + t)), so that the first steps are not averaged with the start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards ``network`` after ``step`` (from 1)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, theirs = self.network.state_dict(), network.state_dict()
        floating = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floating], [theirs[n] for n in floating], weight)
        for name in mine.keys() - set(floating):
            mine[name].copy_(theirs[name])
