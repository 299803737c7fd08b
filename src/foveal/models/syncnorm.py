"""Batch normalisation whose statistics are those of the whole batch when several ranks share it.

On cards it is torch's ``SyncBatchNorm``, on a CPU, which torch's refuses, a short one of ours; either keeps the names
and values of the parameters and buffers of the norm whose place it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from foveal.errors import UserError


def sync_norms(network: nn.Module, device: torch.device) -> int:
    """Put a norm over all ranks in the place of every batch norm, and return how many there were.

    Raises:
        UserError: for a norm that does more than normalise, of a kind that is not known here.
    """
    replaced = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, _synced(child, device))
                replaced += 1
    return replaced


@contextmanager
def uncounted(network: nn.Module) -> Iterator[None]:
    """Within this block the statistics are those of the other ranks: this one has only a picture to fill the place.

    A card's norms count it all the same.
    """
    norms = [each for each in network.modules() if isinstance(each, SyncedNorm)]
    for each in norms:
        each.counted = False
    try:
        yield
    finally:
        for each in norms:
            each.counted = True


class SyncedNorm(_BatchNorm):
    """Ours, with the arithmetic of ``nn.BatchNorm2d`` on the whole batch; the ranks' own parts may differ in size."""

    counted = True

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions does."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return _then(self, super().forward(x))
        normal, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps, self.counted)  # type: ignore[no-untyped-call]
        self._remember(mean, variance * count / (count - 1).clamp(min=1))
        return _then(self, normal)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        step = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
        self.running_var.lerp_(variance.to(self.running_var.dtype), step)


class CardNorm(nn.SyncBatchNorm):
    """torch's, with what timm's norms do besides."""

    def forward(self, input: Tensor) -> Tensor:
        return _then(self, super().forward(input))


class _Normalise(torch.autograd.Function):
    """(x [B, C, ...], weight [C], bias [C]) -> normalised x; mean and variance float64 [C] and their count, a scalar.

    Each way the ranks add up one vector.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, counted: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(_precise(x), _over(x), correction=0)
        mean, variance = mean.double(), variance.double()
        count = x.numel() // x.shape[1] if counted else 0
        own = torch.cat([mean, variance + mean.square(), mean.new_ones(1)])
        sums = own * count if count else torch.zeros_like(own)
        dist.all_reduce(sums)
        total = sums[-1].clone()
        mean, square = (sums[:-1] / total).view(2, -1)
        variance = (square - mean.square()).clamp(min=0)
        kind = torch.promote_types(x.dtype, torch.float32)
        ctx.save_for_backward(x, weight, mean.to(kind), (variance + eps).rsqrt().to(kind), total.to(kind))
        ctx.counted = counted
        ctx.mark_non_differentiable(mean, variance, total)
        normal = F.batch_norm(x, mean.to(kind), variance.to(kind), weight, bias, False, 0.0, eps)
        return normal, mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, total = ctx.saved_tensors
        shape = (1, -1, *(1,) * (x.dim() - 2))
        normal = (_precise(x) - mean.view(shape)) * scale.view(shape)
        wanted = _precise(gradient)
        own = torch.stack([wanted.sum(_over(x)), (wanted * normal).sum(_over(x))])
        sums = own.clone()
        dist.all_reduce(sums)
        along, across = (sums / total if ctx.counted else torch.zeros_like(sums)).view(2, *shape)
        scale = scale if weight is None else scale * weight
        by_x = (wanted - along - normal * across) * scale.view(shape)
        by_weight, by_bias = ctx.needs_input_grad[1:3]
        return by_x.to(x.dtype), own[1] if by_weight else None, own[0] if by_bias else None, None, None


def _over(x: Tensor) -> list[int]:
    """The dimensions that statistics are taken over."""
    return [0, *range(2, x.dim())]


def _precise(x: Tensor) -> Tensor:
    """In float32, or float64 where it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _synced(norm: _BatchNorm, device: torch.device) -> SyncedNorm | CardNorm:
    more = type(norm).forward is not _BatchNorm.forward
    if more and not (hasattr(norm, "act") and hasattr(norm, "drop")):  # timm's have both
        raise UserError(
            f"the network has norms of kind {type(norm).__name__}, whose statistics can't be taken over all processes",
            "sync_batch_norm",
            "Leave sync_batch_norm out, or take another network.",
            "sync_batch_norm",
        )
    kind = CardNorm if device.type == "cuda" else SyncedNorm
    synced = kind(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
    synced.weight, synced.bias = norm.weight, norm.bias
    if kind is CardNorm and norm.weight is None and norm.bias is not None:  # else torch's gives the bias no gradient
        del synced.weight
        synced.register_buffer("weight", torch.ones_like(norm.bias.detach()), persistent=False)
    synced.track_running_stats = norm.track_running_stats
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(synced, name, getattr(norm, name))
    if more:
        synced.drop, synced.act = norm.drop, norm.act
    return synced.train(norm.training)


def _then(norm: nn.Module, x: Tensor) -> Tensor:
    """What timm's norms do after normalising."""
    if not hasattr(norm, "act"):
        return x
    after: Tensor = norm.get_submodule("act")(norm.get_submodule("drop")(x))
    return after
