"""What a run works with, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveal.algorithms.algorithm import Algorithm, Verdict
from foveal.data.loader import Decoder
from foveal.data.order import Order
from foveal.training.early_stopping import EarlyStopping, EarlyStoppingState
from foveal.training.ema import Ema
from foveal.training.plan import Plan
from foveal.training.ranks import Ranks


@dataclass(frozen=True)
class Job:
    """Everything a run works with, set up once.

    Attributes:
        forward: the network, or the same compiled; what training steps go through.
        synced: whether the network's norms are over all ranks.
        loss_shares: what a loss is divided by (``algorithms/shares.py``).
        parts: in how many parts, one after another, a rank's pictures of a step are worked off.
        adapts: whether they may become more when the memory does not suffice.
        keep_best: writes the artifact with the network's weights. keep_epoch: stores one epoch's weights beside it.
    """

    algorithm: Algorithm
    plan: Plan
    network: nn.Module
    ema: Ema | None
    optimizer: torch.optim.Optimizer
    device: torch.device
    autocast: torch.dtype | None
    scaler: torch.amp.GradScaler
    clip_gradient: float | None
    pictures: Decoder
    validation: Decoder | None
    order: Order
    workers: int
    early_stopping: EarlyStopping | None
    checkpoint_frequency: int | None
    checkpoint_seconds: float
    checkpoint_steps: int | None
    log_steps: int
    bad_pictures: int
    checkpoints: Path
    keep_best: Callable[[nn.Module, Verdict | None, int], str]
    keep_epoch: Callable[[nn.Module, int], None]
    forward: Callable[[Tensor], Any]
    settings: dict[str, object] = field(default_factory=dict)
    ranks: Ranks = field(default_factory=Ranks)
    synced: bool = False
    loss_shares: Literal["batch", "device"] = "batch"
    parts: int = 1
    adapts: bool = False
    compiled: bool = False


@dataclass
class Progress:
    """How far a run is; what a checkpoint restores besides weights and optimizer.

    ``sums``: since the epoch's start, the loss a picture, the pictures, and the algorithm's counts. ``not_finite``: the
    first step (from 1) whose loss was not finite, or 0. Both stay on the device. ``parts``: as ``Job.parts``, more once
    the memory has not sufficed.
    """

    sums: Tensor
    not_finite: Tensor
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    early: EarlyStoppingState = field(default_factory=EarlyStoppingState)
    bad: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    parts: int = 1
