"""Optimizers with the original's arithmetic (reference 2.2), built by name.

    name      what it is
    sgd       ``Sgd``: the learning rate goes into the momentum buffer, so old momentum keeps its old rate
    nag       torch's SGD with nesterov=True: the rule of MXNet 1.3 and 1.4, the rate outside the buffer
    adam      ``Adam``: epsilon outside the root and not scaled by the bias correction; decay as L2
    rmsprop   ``RmsProp``: epsilon inside the root
    adadelta  ``AdaDelta``: no learning rate; decay outside the adaptive step
    adamw     torch's AdamW, decoupled decay; ours, the original has none

In the formulas below w is the weight, g its gradient, d the weight decay of its group, r the learning rate.
The original rescales gradients by 1 / batch; here losses are means over the batch, which is the same.

All optimizers work on whole groups of tensors at once (``torch._foreach_*``), take the learning rate from
``group["lr"]`` at each step, and never wait for the device.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from foveal.errors import UserError
from foveal.settings import ClassificationSettings

Group = dict[str, Any]
"""A parameter group: ``params``, ``lr``, ``weight_decay``, and what the optimizer adds."""

NAMES = ("sgd", "adam", "rmsprop", "nag", "adadelta", "adamw")

Multipliers = Mapping[str, tuple[float, float]]
"""Parameter's name -> factors of the learning rate and of the weight decay, in place of 1 and what its name says."""


def build_optimizer(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    name: str,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    decay_norm: bool,
    decayed: Collection[str] = ClassificationSettings.DECAYED,
    multipliers: Multipliers | None = None,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    eps: float = 1e-8,
    gamma: float = 0.9,
) -> Optimizer:
    """The optimizer called ``name`` over all parameters that want a gradient.

    Args:
        named_parameters: as ``network.named_parameters()`` gives them.
        name: one of ``NAMES``.
        learning_rate: of the first update; set a new one at any step with ``set_learning_rate``.
        momentum: of sgd and nag.
        weight_decay: acts on weights, see ``decay_groups``, and only for the optimizers in ``decayed``.
        decay_norm: whether the gammas of norms decay too, as in the original.
        decayed: names of the optimizers that heed ``weight_decay``; ``DECAYED`` of the algorithm's settings.
        multipliers: see ``Multipliers``; adadelta, which has no rate, heeds only those of the decay.
        beta_1, beta_2: of adam and adamw. eps: of adam, adamw and rmsprop. gamma: decay of rmsprop's squared gradient.
            Where an algorithm does not set them, MXNet's defaults hold (reference 2.2).

    Raises:
        UserError: when every parameter is frozen.
    """
    decay = weight_decay if name in decayed else 0.0
    groups = decay_groups(named_parameters, decay, decay_norm, multipliers or {})
    if not groups:
        raise UserError(
            "every parameter of the network is frozen: nothing is left to train",
            "freeze_layer_pattern",
            "Narrow freeze_layer_pattern, or leave it out.",
            "freeze_layer_pattern",
        )
    for group in groups:
        group["lr"] = learning_rate * group.get("lr_multiplier", 1.0)
    if name == "sgd":
        return Sgd(groups, learning_rate, momentum)
    if name == "nag":
        return SGD(groups, learning_rate, momentum, nesterov=momentum > 0, foreach=True)
    if name == "adam":
        return Adam(groups, learning_rate, beta_1, beta_2, eps)
    if name == "rmsprop":
        return RmsProp(groups, learning_rate, gamma, eps)
    if name == "adadelta":
        return AdaDelta(groups)
    if name == "adamw":
        return AdamW(groups, learning_rate, (beta_1, beta_2), eps, foreach=True)
    raise AssertionError(f"unknown optimizer {name!r}: settings let it through")


def decay_groups(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    weight_decay: float,
    decay_norm: bool,
    multipliers: Multipliers | None = None,
) -> list[Group]:
    """Parameters with weight decay, those without, and one group for each further pair of multipliers.

    The original decides by name: what ends in ``weight`` or ``gamma`` decays, biases, betas and everything else
    do not. In torch a norm's gamma is called ``weight`` too, and is told by its single axis. The order of the groups
    follows from that of the parameters alone; those without a parameter are left out, and so are frozen parameters.
    """
    groups: dict[tuple[float, float], Group] = {
        (1.0, 1.0): {"params": [], "weight_decay": weight_decay},
        (1.0, 0.0): {"params": [], "weight_decay": 0.0},
    }
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        rate, decay = (multipliers or {}).get(name, (1.0, float(decays(name, parameter, decay_norm))))
        new = {"params": [], "weight_decay": weight_decay * decay, "lr_multiplier": rate}
        groups.setdefault((rate, decay), new)["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def decays(name: str, parameter: Tensor, decay_norm: bool) -> bool:
    """Whether weight decay acts on a parameter, by its name and its axes: see ``decay_groups``."""
    return name.endswith(("weight", "gamma")) and (decay_norm or parameter.ndim > 1)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """The learning rate of the next update, times each group's ``lr_multiplier`` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_multiplier", 1.0)


class Sgd(Optimizer):
    """m <- momentum m - r (g + d w);  w <- w + m.  Without momentum: w <- w - r (g + d w)."""

    def __init__(self, params: Iterable[Tensor] | Iterable[Group], lr: float, momentum: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no line search: takes no closure
        for group in self.param_groups:
            weights, gradients = _with_gradients(group)
            if not weights:
                continue
            gradients = _decayed(gradients, weights, group["weight_decay"])
            if group["momentum"] == 0:
                torch._foreach_add_(weights, gradients, alpha=-group["lr"])
                continue
            moving = _states(self, weights, "momentum")
            torch._foreach_mul_(moving, group["momentum"])
            torch._foreach_add_(moving, gradients, alpha=-group["lr"])
            torch._foreach_add_(weights, moving)


class Adam(Optimizer):
    """With G = g + d w:  m <- b1 m + (1 - b1) G;  v <- b2 v + (1 - b2) G^2;
    w <- w - r sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "beta_1": beta_1, "beta_2": beta_2, "eps": eps, "weight_decay": 0.0, "updates": 0}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # as above
        for group in self.param_groups:
            weights, gradients = _with_gradients(group)
            if not weights:
                continue
            group["updates"] += 1
            beta_1, beta_2, t = group["beta_1"], group["beta_2"], group["updates"]
            gradients = _decayed(gradients, weights, group["weight_decay"])
            mean, square = _states(self, weights, "mean"), _states(self, weights, "square")
            torch._foreach_mul_(mean, beta_1)
            torch._foreach_add_(mean, gradients, alpha=_one_minus(beta_1))
            torch._foreach_mul_(square, beta_2)
            torch._foreach_addcmul_(square, gradients, gradients, _one_minus(beta_2))
            # a beta of 1 would divide by 0: nothing was averaged, so nothing is corrected
            correction = math.sqrt(1 - beta_2**t) / (1 - beta_1**t) if beta_1 < 1 else math.sqrt(1 - beta_2**t)
            below = torch._foreach_sqrt(square)
            torch._foreach_add_(below, group["eps"])
            torch._foreach_addcdiv_(weights, mean, below, -group["lr"] * correction)


class RmsProp(Optimizer):
    """With G = g + d w:  n <- gamma n + (1 - gamma) G^2;  w <- w - r G / sqrt(n + eps).

    Centered (Graves):  a <- gamma a + (1 - gamma) G;  m <- gamma_2 m - r G / sqrt(n - a^2 + eps);  w <- w + m.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float,
        gamma: float = 0.9,
        eps: float = 1e-8,
        centered: bool = False,
        gamma_2: float = 0.9,
    ) -> None:
        defaults = {"lr": lr, "gamma": gamma, "gamma_2": gamma_2, "eps": eps, "centered": centered, "weight_decay": 0.0}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # as above
        for group in self.param_groups:
            weights, gradients = _with_gradients(group)
            if not weights:
                continue
            gamma, rest = group["gamma"], _one_minus(group["gamma"])
            gradients = _decayed(gradients, weights, group["weight_decay"])
            square = _states(self, weights, "square")
            torch._foreach_mul_(square, gamma)
            torch._foreach_addcmul_(square, gradients, gradients, rest)
            if not group["centered"]:
                below = torch._foreach_add(square, group["eps"])
                torch._foreach_sqrt_(below)
                torch._foreach_addcdiv_(weights, gradients, below, -group["lr"])
                continue
            mean, moving = _states(self, weights, "mean"), _states(self, weights, "momentum")
            torch._foreach_mul_(mean, gamma)
            torch._foreach_add_(mean, gradients, alpha=rest)
            below = torch._foreach_addcmul(square, mean, mean, -1.0)
            torch._foreach_clamp_min_(below, 0.0)  # a variance; rounding may bring it below 0 by more than eps
            torch._foreach_add_(below, group["eps"])
            torch._foreach_sqrt_(below)
            torch._foreach_mul_(moving, group["gamma_2"])
            torch._foreach_addcdiv_(moving, gradients, below, -group["lr"])
            torch._foreach_add_(weights, moving)


class AdaDelta(Optimizer):
    """A <- rho A + (1 - rho) g^2;  x = sqrt(D + eps) / sqrt(A + eps) g;  D <- rho D + (1 - rho) x^2;
    w <- w - (x + d w).  The learning rate is not used, and decay is not multiplied by it.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[Group], rho: float = 0.9, eps: float = 1e-5) -> None:
        super().__init__(params, {"lr": 1.0, "rho": rho, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # as above
        for group in self.param_groups:
            weights, gradients = _with_gradients(group)
            if not weights:
                continue
            rho, rest, eps = group["rho"], 1 - group["rho"], group["eps"]
            square, delta = _states(self, weights, "square"), _states(self, weights, "delta")
            torch._foreach_mul_(square, rho)
            torch._foreach_addcmul_(square, gradients, gradients, rest)
            change = list(torch._foreach_add(delta, eps))
            torch._foreach_sqrt_(change)
            below = torch._foreach_add(square, eps)
            torch._foreach_sqrt_(below)
            torch._foreach_div_(change, below)
            torch._foreach_mul_(change, gradients)
            torch._foreach_mul_(delta, rho)
            torch._foreach_addcmul_(delta, change, change, rest)
            change = _decayed(change, weights, group["weight_decay"])
            torch._foreach_sub_(weights, change)


_STATES: dict[type[Optimizer], frozenset[str]] = {
    Sgd: frozenset({"momentum"}),
    SGD: frozenset({"momentum_buffer"}),
    Adam: frozenset({"mean", "square"}),
    RmsProp: frozenset({"square", "mean", "momentum"}),
    AdaDelta: frozenset({"square", "delta"}),
    AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}),
}


def state_tensors(
    optimizer: Optimizer, named_parameters: Iterable[tuple[str, torch.nn.Parameter]]
) -> dict[str, Tensor]:
    """What the optimizer remembers, by name: ``momentum/layer1.0.conv1.weight``, and update counts ``updates/0``.

    The live tensors, not copies. Before the first update there is none but the counts.
    """
    tensors = {
        f"updates/{i}": torch.tensor(group["updates"], dtype=torch.int64)
        for i, group in enumerate(optimizer.param_groups)
        if "updates" in group
    }
    for name, parameter in named_parameters:
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{key}/{name}"] = value.detach()
    return tensors


def load_state_tensors(
    optimizer: Optimizer,
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    tensors: Mapping[str, Tensor],
) -> None:
    """Make the optimizer remember what ``state_tensors`` gave, so that it goes on bit by bit as if never interrupted.

    Raises UserError when the tensors belong to another optimizer or another network.
    """
    parameters = dict(named_parameters)
    optimizer.state.clear()
    for full, tensor in tensors.items():
        key, _, name = full.partition("/")
        if key == "updates":
            counts = [group for group in optimizer.param_groups if "updates" in group]
            if not name.isdigit() or int(name) >= len(counts):
                raise _foreign(full)
            optimizer.param_groups[int(name)]["updates"] = int(tensor)
            continue
        parameter = parameters.get(name)
        if parameter is None or key not in _STATES[type(optimizer)]:
            raise _foreign(full)
        if key == "step":  # torch keeps counts of updates on the CPU
            optimizer.state[parameter][key] = tensor.detach().clone().cpu()
            continue
        if tensor.shape != parameter.shape:
            raise _foreign(f"{full} of shape {tuple(tensor.shape)}")
        # empty_like keeps the parameter's memory order (channels last), which a saved file does not
        optimizer.state[parameter][key] = torch.empty_like(parameter, requires_grad=False).copy_(tensor)


def _foreign(what: str) -> UserError:
    return UserError(
        f"the optimizer state holds {what}, which this network and optimizer do not have",
        "checkpoint",
        "Resume with the settings that wrote the checkpoint, or remove it to start anew.",
    )


def _with_gradients(group: Group) -> tuple[list[Tensor], list[Tensor]]:
    """The group's weights that have a gradient, and these gradients."""
    weights: list[Tensor] = [weight for weight in group["params"] if weight.grad is not None]
    return weights, [weight.grad for weight in weights if weight.grad is not None]


def _decayed(gradients: list[Tensor], weights: list[Tensor], weight_decay: float) -> list[Tensor]:
    """gradients + weight_decay * weights, leaving ``gradients`` as they are."""
    if weight_decay == 0:
        return gradients
    return list(torch._foreach_add(gradients, weights, alpha=weight_decay))


def _states(optimizer: Optimizer, weights: list[Tensor], key: str) -> list[Tensor]:
    """The state ``key`` of each weight, zeros the first time."""
    found = []
    for weight in weights:
        state = optimizer.state[weight]
        if key not in state:
            state[key] = torch.zeros_like(weight, requires_grad=False)
        found.append(state[key])
    return found


def _one_minus(rate: float) -> float:
    """1 - rate as MXNet's kernels form it, in float32: for 0.999 it is 1.3e-5 off, relatively."""
    return float(np.float32(1) - np.float32(rate))
