"""Weight files of small networks, as different sources would have written them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from foveal.models.network import NetworkSpec, build

SaveResNet = Callable[..., Path]


@pytest.fixture
def save_resnet(tmp_path: Path) -> SaveResNet:
    """Write ResNet-18's tensors, by default as timm's ImageNet weights look: ``post``, 1000 classes."""

    def save(
        name: str = "resnet18.safetensors",
        kind: Literal["pre", "post"] = "post",
        num_classes: int = 1000,
        depth: int = 18,
    ) -> Path:
        torch.manual_seed(5)
        tensors: dict[str, Tensor] = build(
            NetworkSpec("resnet", num_classes, (3, 64, 64), depth, kind)
        ).body.state_dict()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
        return path

    return save


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOVEAL_WEIGHTS", raising=False)
