"""The loss of single-label classification is torch's cross entropy: MXNet's SoftmaxOutput has the same gradients.

The original's gradient is softmax - onehot a picture, rescaled by 1 / batch outside the operator; a mean has it inside.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

FOLDER = Path(os.environ.get("FOVEAL_OPTIM_FIXTURES", Path(__file__).parents[1] / "fixtures" / "optim"))
CASES: dict[str, dict[str, Any]] = json.loads((FOLDER / "losses.json").read_text())["cases"]
ARRAYS = dict(np.load(FOLDER / "losses.npz"))
SOFTMAX = [name for name, case in CASES.items() if case["op"] == "SoftmaxOutput" and not case.get("out_grad")]


def loss(name: str, logits: torch.Tensor) -> torch.Tensor:
    """The scalar whose gradient SoftmaxOutput gives: a sum, divided as its normalization says."""
    case = CASES[name]
    label = torch.from_numpy(ARRAYS[f"{name}__label"])
    if label.shape == logits.shape:  # probabilities: normalization is not applied
        return float(case.get("grad_scale", 1.0)) * cross_entropy(logits, label, reduction="sum")
    target = label.long()
    ignored = int(case["ignore_label"]) if case.get("use_ignore") else -100
    # smooth_alpha is spread over the other classes, torch's label_smoothing over all of them
    smooth = case.get("smooth_alpha", 0.0) * logits.shape[1] / (logits.shape[1] - 1)
    total = cross_entropy(logits, target, ignore_index=ignored, reduction="sum", label_smoothing=smooth)
    positions = target[0].numel() if case.get("multi_output") else 1
    divisor = {
        "null": positions,
        "batch": len(target) * positions,
        "valid": max(1, int((target != ignored).sum())),
    }[case.get("normalization", "null")]
    return total * float(case.get("grad_scale", 1.0)) / divisor


@pytest.mark.parametrize("name", SOFTMAX)
def test_gradient_and_output_equal_softmax_output(name: str) -> None:
    logits = torch.from_numpy(ARRAYS[f"{name}__data"]).requires_grad_()
    loss(name, logits).backward()
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), ARRAYS[f"{name}__grad"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits.detach().softmax(1).numpy(), ARRAYS[f"{name}__output"], rtol=1e-5, atol=1e-6)


def test_mean_over_the_batch_is_null_normalization_rescaled_by_one_over_batch() -> None:
    name = "softmax_null_plain_1"
    logits = torch.from_numpy(ARRAYS[f"{name}__data"]).requires_grad_()
    cross_entropy(logits, torch.from_numpy(ARRAYS[f"{name}__label"]).long()).backward()
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), ARRAYS[f"{name}__grad"] / len(logits), rtol=1e-5, atol=1e-6)


def test_exceptions_are_the_outputs_of_other_tasks_and_a_fault_of_1_9() -> None:
    own = {name: case for name, case in CASES.items() if not name.startswith("x_")}
    left_out = {case["op"].partition("(")[0] for name, case in own.items() if name not in SOFTMAX}
    assert left_out == {"SoftmaxOutput", "LogisticRegressionOutput", "MakeLoss", "smooth_l1"}
    assert [name for name, case in own.items() if case.get("out_grad")] == ["softmax_out_grad"]
