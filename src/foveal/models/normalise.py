"""The first layer of every network: uint8 pictures to normalised float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """``(picture - mean) / std``, in units of pixel values 0..255.

    The numbers belong to the network's specification and are not stored with the weights: the buffers are not
    persistent, so a checkpoint's names are those of the layers that learn.

    Args:
        mean, std: one a channel; both empty leaves pixel values as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = (), std: Sequence[float] = ()) -> None:
        super().__init__()
        assert len(mean) == len(std)
        assert all(value > 0 for value in std)
        self.raw = not mean
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, batch: Tensor) -> Tensor:
        """uint8 [B, H, W, C] -> float32 [B, C, H, W], laid out channels last in memory."""
        pictures = batch.permute(0, 3, 1, 2)
        if self.raw:
            return pictures.to(torch.float32)
        return (pictures - self.mean) / self.std
