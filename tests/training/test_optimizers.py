"""The optimizers against twelve updates that MXNet 1.9.1 made, and against themselves interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foveal.errors import UserError
from foveal.settings import ClassificationSettings, DetectionSettings
from foveal.training.optimizers import (
    NAMES,
    AdaDelta,
    Adam,
    RmsProp,
    Sgd,
    build_optimizer,
    decay_groups,
    load_state_tensors,
    set_learning_rate,
    state_tensors,
)

FOLDER = Path(os.environ.get("FOVEAL_OPTIM_FIXTURES", Path(__file__).parents[1] / "fixtures" / "optim"))
CASES: dict[str, dict[str, Any]] = json.loads((FOLDER / "optimizers.json").read_text())["cases"]
ARRAYS = dict(np.load(FOLDER / "optimizers.npz"))
UPDATES = 12
OURS = ("sgd", "nag", "adam", "rmsprop", "adadelta")
STATES = {
    "sgd": ("momentum",),
    "nag": ("momentum_buffer",),
    "adam": ("mean", "square"),
    "rmsprop": ("square", "mean", "momentum"),
    "adadelta": ("square", "delta"),
}


def groups_of(case: dict[str, Any], tensors: dict[str, nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """A group for each tensor, with the multipliers that MXNet used."""
    return [
        {
            "params": [tensor],
            "weight_decay": decay * case["effective_wd_mult"].get(name, 1.0),
            "lr_multiplier": case["effective_lr_mult"].get(name, 1.0),
        }
        for name, tensor in tensors.items()
    ]


def multipliers_of(case: dict[str, Any], tensors: dict[str, nn.Parameter]) -> dict[str, tuple[float, float]]:
    """Those that a tensor's name does not say already."""
    found = {}
    for name in tensors:
        by_name = float(name.endswith(("weight", "gamma")))
        factors = case["effective_lr_mult"].get(name, 1.0), case["effective_wd_mult"].get(name, 1.0)
        if factors != (1.0, by_name):
            found[name] = factors
    return found


def optimizer_of(case: dict[str, Any], tensors: dict[str, nn.Parameter], decay: float) -> torch.optim.Optimizer:
    """The case's optimizer; through the door where that leads to it, else (other constants) from its class."""
    kind, value = case["optimizer"], case["effective"]
    usual = (value.get("rho", 0.9), value.get("epsilon", 1e-5)) == (0.9, 1e-5) if kind == "adadelta" else True
    if usual and not value.get("centered"):
        return build_optimizer(
            tensors.items(),
            kind,
            learning_rate=value.get("lr", 1.0),
            momentum=value.get("momentum", 0.0),
            weight_decay=decay,
            beta_1=value.get("beta1", 0.9),
            beta_2=value.get("beta2", 0.999),
            eps=value.get("epsilon", 1e-8),
            gamma=value.get("gamma1", 0.9),
            decay_norm=True,
            decayed=OURS,
            multipliers=multipliers_of(case, tensors),
        )
    groups = groups_of(case, tensors, decay)
    if kind == "sgd":
        return Sgd(groups, value["lr"], value["momentum"])
    if kind == "nag":
        return torch.optim.SGD(groups, value["lr"], value["momentum"], nesterov=value["momentum"] > 0)
    if kind == "adam":
        return Adam(groups, value["lr"], value["beta1"], value["beta2"], value["epsilon"])
    if kind == "rmsprop":
        return RmsProp(groups, value["lr"], value["gamma1"], value["epsilon"], bool(value["centered"]), value["gamma2"])
    return AdaDelta(groups, value["rho"], value["epsilon"])


def rate_at(case: dict[str, Any], update: int) -> float:
    """The rate of update 1, 2, ...: MXNet's MultiFactorScheduler where the case has one."""
    steps = case["settings"].get("multi_factor", {"step": [], "factor": 1.0})
    return float(case["effective"]["lr"] * steps["factor"] ** sum(update > step for step in steps["step"]))


def gradient_at(case: dict[str, Any], name: str, update: int, weight: Any, dtype: Any) -> tuple[Any, float]:
    """Gradient and weight decay to hand over: rescaled, and clipped by hand as the optimizer's kernel would.

    Sgd, nag and adadelta clip before the decay, adam and rmsprop after it: there the decay is handed over inside.
    """
    gradient = ARRAYS[f"input__{case['tensors']}__grads__{name}"][update].astype(dtype)
    gradient = gradient * dtype(case["effective"]["rescale_grad"])
    decay = case["effective"]["wd"] * case["effective_wd_mult"].get(name, 1.0)
    bound = case["effective"]["clip_gradient"]
    if bound is None or bound < 0:
        return gradient, decay
    if case["optimizer"] in ("adam", "rmsprop"):
        return np.clip(gradient + dtype(decay) * weight, -bound, bound), 0.0
    return np.clip(gradient, -bound, bound), decay


def run(case: dict[str, Any], dtype: torch.dtype) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Weights before and after each update, and the states after each, by name."""
    inputs = f"input__{case['tensors']}__w0__"
    tensors = {
        key.removeprefix(inputs): nn.Parameter(torch.from_numpy(value).to(dtype).clone())
        for key, value in ARRAYS.items()
        if key.startswith(inputs)
    }
    clips_decay = case["optimizer"] in ("adam", "rmsprop") and (case["effective"]["clip_gradient"] or -1) >= 0
    optimizer = optimizer_of(case, tensors, 0.0 if clips_decay else case["effective"]["wd"])
    weights: dict[str, list[Any]] = {name: [tensor.detach().numpy().copy()] for name, tensor in tensors.items()}
    states: dict[str, list[Any]] = {}
    for update in range(UPDATES):
        for name, tensor in tensors.items():
            gradient, _ = gradient_at(case, name, update, tensor.detach().numpy(), np.float32)
            tensor.grad = torch.from_numpy(gradient).to(dtype)
        set_learning_rate(optimizer, rate_at(case, update + 1))
        optimizer.step()
        bound = case["effective"].get("clip_weights")
        for name, tensor in tensors.items():
            if bound:
                tensor.data.clamp_(-bound, bound)
            weights[name].append(tensor.detach().numpy().copy())
        for name, value in state_tensors(optimizer, tensors.items()).items():
            states.setdefault(name, []).append(value.numpy().copy())
    return weights, states


def nag_in_float64(case: dict[str, Any], name: str, newer: bool) -> tuple[Any, Any]:
    """Weights [13, ...] and momentum [12, ...] by the rule of MXNet 1.9.1 (``newer``) or of 1.3 and 1.4."""
    weight = ARRAYS[f"{input_of(case)}{name}"].astype(np.float64)
    momentum, held = case["effective"]["momentum"], np.zeros_like(weight)
    weights, buffers = [weight], []
    for update in range(UPDATES):
        gradient, decay = gradient_at(case, name, update, weight, np.float64)
        rate = rate_at(case, update + 1) * case["effective_lr_mult"].get(name, 1.0)
        total = gradient + decay * weight
        if newer:
            carried = momentum * held
            weight = weight - carried + (1 + momentum) * (carried - rate * total)
            held = carried - rate * (gradient + decay * weight)
            buffers.append(held)
        else:
            held = momentum * held + total
            weight = weight - rate * (total + momentum * held)
            buffers.append(-rate * held)  # the rate is outside this buffer: brought to the other's scale
        weights.append(weight)
    return np.stack(weights), np.stack(buffers)


def input_of(case: dict[str, Any]) -> str:
    return f"input__{case['tensors']}__w0__"


def names_of(case: dict[str, Any]) -> list[str]:
    return [key.removeprefix(input_of(case)) for key in ARRAYS if key.startswith(input_of(case))]


def chosen(*kinds: str) -> list[str]:
    return [name for name, case in CASES.items() if case["optimizer"] in kinds]


def half(case: dict[str, Any]) -> bool:
    return bool(ARRAYS[f"{input_of(case)}{names_of(case)[0]}"].dtype == np.float16)


@pytest.mark.parametrize("name", chosen("sgd", "adam", "rmsprop", "adadelta"))
def test_twelve_updates_and_states_equal_mxnets(name: str) -> None:
    case = CASES[name]
    master = bool(case["arguments"].get("multi_precision"))
    rtol, atol = (2e-3, 1e-3) if half(case) else (1e-5, 1e-6)
    weights, states = run(case, torch.float16 if half(case) and not master else torch.float32)
    for tensor in names_of(case):
        np.testing.assert_allclose(np.stack(weights[tensor]), ARRAYS[f"{name}__w__{tensor}"], rtol, atol)
        kept = STATES[case["optimizer"]][: case["states_per_tensor"] - master]
        for i, state in enumerate(kept):
            np.testing.assert_allclose(states[f"{state}/{tensor}"], ARRAYS[f"{name}__s{i}__{tensor}"], rtol, atol)
        if master:  # the fp32 copy is what our weights are: it must agree as fp32 does
            np.testing.assert_allclose(weights[tensor][1:], ARRAYS[f"{name}__s{len(kept)}__{tensor}"], 1e-5, 1e-6)


@pytest.mark.parametrize("name", chosen("nag"))
def test_nag_equals_mxnet_once_the_newer_rule_is_taken_off(name: str) -> None:
    case = CASES[name]
    master = bool(case["arguments"].get("multi_precision"))
    weights, states = run(case, torch.float32)
    rtol, atol = (2e-3, 1e-3) if half(case) else (1e-5, 1e-6)
    for tensor in names_of(case):
        old, old_state = nag_in_float64(case, tensor, newer=False)
        new, new_state = nag_in_float64(case, tensor, newer=True)
        np.testing.assert_allclose(weights[tensor], old, 1e-5, 1e-6)
        np.testing.assert_allclose(np.stack(weights[tensor]) + (new - old), ARRAYS[f"{name}__w__{tensor}"], rtol, atol)
        if case["states_per_tensor"] > master:
            rates = np.array([rate_at(case, update + 1) for update in range(UPDATES)], np.float32)
            rates = rates.reshape(-1, *[1] * (old.ndim - 1)) * case["effective_lr_mult"].get(tensor, 1.0)
            ours = -rates * np.stack(states[f"momentum_buffer/{tensor}"])
            np.testing.assert_allclose(ours + (new_state - old_state), ARRAYS[f"{name}__s0__{tensor}"], rtol, atol)


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        ("nag_mom", 0.0),  # no decay: the rules are equal
        ("nag_zero_mom", 0.0),
        ("nag_rescale", 6.2e-7),  # decay 1e-4
        ("nag_fp16_multi_precision", 5.4e-5),  # decay 1e-3
        ("nag_mom_wd_clip", 4.1e-4),  # decay 0.01
    ],
)
def test_nag_of_1_4_differs_from_1_9_by_the_decay_in_its_buffer(name: str, apart: float) -> None:
    """The largest difference of a weight in twelve updates, relative to the tensor's largest weight."""
    measured = 0.0
    for tensor in names_of(CASES[name]):
        old, new = (nag_in_float64(CASES[name], tensor, newer)[0] for newer in (False, True))
        measured = max(measured, float(abs(new - old).max() / abs(old).max()))
    assert measured == pytest.approx(apart, rel=0.02, abs=1e-14)


def test_every_optimizer_of_the_fixture_is_tested() -> None:
    assert {case["optimizer"] for case in CASES.values()} <= set(OURS)


def test_weights_and_gammas_decay_and_nothing_else() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    names = dict(network.named_parameters())
    network.register_parameter("cls_token", nn.Parameter(torch.zeros(1, 1, 4)))
    network[3].bias.requires_grad = False

    def split(decay_norm: bool) -> list[tuple[float, list[str]]]:
        groups = decay_groups(network.named_parameters(), 0.1, decay_norm)
        found = {id(value): key for key, value in network.named_parameters()}
        return [(group["weight_decay"], [found[id(each)] for each in group["params"]]) for group in groups]

    assert set(names) == {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"}
    assert split(decay_norm=True) == [
        (0.1, ["0.weight", "1.weight", "3.weight"]),
        (0.0, ["cls_token", "0.bias", "1.bias"]),
    ]
    assert split(decay_norm=False) == [
        (0.1, ["0.weight", "3.weight"]),
        (0.0, ["cls_token", "0.bias", "1.weight", "1.bias"]),
    ]


@pytest.mark.parametrize(("name", "decays"), [("sgd", 1), ("nag", 1), ("adamw", 1), ("adam", 0), ("rmsprop", 0)])
def test_in_classification_decay_is_for_sgd_and_nag_as_the_guide_says(name: str, decays: int) -> None:
    optimizer = built(name, small_network(), weight_decay=0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1 * decays, 0.0]


def test_parameters_with_multipliers_have_groups_of_their_own_in_the_order_of_the_parameters() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    network.register_parameter("scale", nn.Parameter(torch.ones(1, 4, 1, 1)))
    network[0].requires_grad_(False)
    factors = {"2.bias": (2.0, 0.0), "1.bias": (2.0, 0.0), "scale": (1.0, 0.1), "0.bias": (2.0, 0.0)}
    optimizer = build_optimizer(
        network.named_parameters(),
        "sgd",
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=0.5,
        decay_norm=True,
        multipliers=factors,
    )
    found = {id(value): name for name, value in network.named_parameters()}
    told = [
        (group["lr"], group["weight_decay"], [found[id(each)] for each in group["params"]])
        for group in optimizer.param_groups
    ]
    assert told == [(0.01, 0.5, ["1.weight", "2.weight"]), (0.01, 0.05, ["scale"]), (0.02, 0.0, ["1.bias", "2.bias"])]
    set_learning_rate(optimizer, 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 1.0, 2.0]


def test_a_network_that_is_frozen_whole_is_refused() -> None:
    network = small_network().requires_grad_(False)
    with pytest.raises(
        UserError, match=r"^freeze_layer_pattern: every parameter of the network is frozen: nothing is left to train"
    ) as caught:
        built("sgd", network)
    assert caught.value.setting == "freeze_layer_pattern"


@pytest.mark.parametrize(
    ("name", "decays"), [("sgd", 1), ("nag", 1), ("adamw", 1), ("adam", 0), ("rmsprop", 1), ("adadelta", 0)]
)
def test_in_detection_decay_is_for_sgd_and_rmsprop_as_the_guide_says(name: str, decays: int) -> None:
    optimizer = built(name, small_network(), weight_decay=0.1, decayed=DetectionSettings.DECAYED)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1 * decays, 0.0]


def test_learning_rate_heeds_the_multipliers_of_groups() -> None:
    groups: list[dict[str, Any]] = [
        {"params": [torch.zeros(1)], "lr_multiplier": 2.0},
        {"params": [torch.zeros(1)]},
    ]
    optimizer = Sgd(groups, lr=1.0)
    set_learning_rate(optimizer, 0.05)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]


def test_sgd_keeps_the_old_rate_in_its_momentum() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = Sgd([weight], lr=1.0, momentum=0.5)
    weight.grad = torch.ones(1)
    optimizer.step()
    set_learning_rate(optimizer, 0.0)
    optimizer.step()
    assert weight.item() == -1.5  # -1, and half of it again, although the rate is 0


def test_adam_forms_one_minus_beta_in_float32_as_mxnets_kernel_does() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = Adam([weight], lr=0.1, beta_2=0.999)
    weight.grad = torch.ones(1)
    optimizer.step()
    assert state_tensors(optimizer, [("w", weight)])["square/w"].item() == 0.0009999871253967285  # not 0.001


def test_tensors_without_a_gradient_stay_as_they_are() -> None:
    weight, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = Adam([weight, other], lr=0.1)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert other.tolist() == [1.0, 1.0]
    assert set(state_tensors(optimizer, [("w", weight), ("o", other)])) == {"updates/0", "mean/w", "square/w"}


def small_network() -> nn.Module:
    torch.manual_seed(3)
    # channels last and odd sizes: memory order and the ends of vector loops must not tell a resumed run apart
    network = nn.Sequential(nn.Conv2d(3, 13, 3), nn.BatchNorm2d(13), nn.ReLU(), nn.Flatten(), nn.Linear(13 * 25, 5))
    first = network.get_parameter("0.weight")
    first.data = first.data.contiguous(memory_format=torch.channels_last)
    return network


def built(
    name: str,
    network: nn.Module,
    weight_decay: float = 0.01,
    decayed: tuple[str, ...] = ClassificationSettings.DECAYED,
    multipliers: dict[str, tuple[float, float]] | None = None,
) -> torch.optim.Optimizer:
    return build_optimizer(
        network.named_parameters(),
        name,
        learning_rate=0.05,
        momentum=0.9,
        weight_decay=weight_decay,
        beta_1=0.9,
        beta_2=0.99,
        eps=1e-8,
        gamma=0.9,
        decay_norm=True,
        decayed=decayed,
        multipliers=multipliers,
    )


def train(network: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for update in range(first, last):
        generator = torch.Generator().manual_seed(update)
        pictures = torch.randn(7, 3, 7, 7, generator=generator).to(memory_format=torch.channels_last)
        set_learning_rate(optimizer, 0.05 / (1 + update))
        loss = nn.functional.cross_entropy(network(pictures), torch.arange(7) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def everything(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {**network.state_dict(), **state_tensors(optimizer, network.named_parameters())}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("interrupted", [0, 1, 5])
def test_a_run_resumed_from_a_file_equals_the_uninterrupted_one_bit_by_bit(
    name: str, interrupted: int, tmp_path: Path
) -> None:
    factors = {"4.bias": (2.0, 0.0), "1.weight": (1.0, 0.1)}

    def network() -> nn.Module:
        made = small_network()
        made.get_parameter("0.bias").requires_grad_(False)
        return made

    whole = network()
    whole_optimizer = built(name, whole, multipliers=factors)
    train(whole, whole_optimizer, 0, 9)

    before = network()
    optimizer = built(name, before, multipliers=factors)
    train(before, optimizer, 0, interrupted)
    state = {key: value.contiguous() for key, value in state_tensors(optimizer, before.named_parameters()).items()}
    save_file(state, tmp_path / "optimizer.safetensors")

    after = network()
    after.load_state_dict(before.state_dict())
    resumed = built(name, after, multipliers=factors)
    load_state_tensors(resumed, after.named_parameters(), load_file(tmp_path / "optimizer.safetensors"))
    train(after, resumed, interrupted, 9)

    wanted, got = everything(whole, whole_optimizer), everything(after, resumed)
    assert wanted.keys() == got.keys()
    assert [key for key in wanted if not torch.equal(wanted[key], got[key])] == []


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"mean/0.bias": torch.zeros(13)}, "mean/0.bias"),
        ({"momentum/9.bias": torch.zeros(13)}, "momentum/9.bias"),
        ({"momentum/0.bias": torch.zeros(12)}, r"momentum/0.bias of shape \(12,\)"),
        ({"updates/0": torch.tensor(3)}, "updates/0"),
    ],
)
def test_a_foreign_state_is_refused_by_name(tensors: dict[str, Tensor], what: str) -> None:
    network = small_network()
    with pytest.raises(UserError, match=f"holds {what}, which this network and optimizer do not have"):
        load_state_tensors(built("sgd", network), network.named_parameters(), tensors)
