"""timm's networks: found by name, absent with a word."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from foveal.errors import UserError
from foveal.models.backbone import build_backbone
from foveal.models.network import NetworkSpec, build

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")


@needs_timm
def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no network named 'resnet-18'") as error:
        build_backbone("resnet-18", (3, 64, 64), 2)
    assert "resnet18" in error.value.remedy


@needs_timm
def test_a_tag_may_follow_the_name() -> None:
    assert build_backbone("resnet10t.c3_in1k", (3, 64, 64), 2).num_classes == 2


@needs_timm
def test_a_network_of_fixed_size_is_built_for_the_picture() -> None:
    network = build(NetworkSpec("timm", 2, (3, 64, 96), backbone="vit_tiny_patch16_224")).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 64, 96, 3, dtype=torch.uint8)).shape == (1, 2)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError) as error:
        build_backbone("resnet18", (3, 64, 64), 2)
    assert str(error.value) == (
        'backbone: this network comes from timm, and timm is not installed\nInstall it: pip install "foveal[timm]"'
    )


def test_our_own_networks_need_neither_timm_nor_torchvision() -> None:
    program = (
        "import sys\n"
        "from foveal.models.network import NetworkSpec, build\n"
        "build(NetworkSpec('resnet', 2, (3, 28, 28), 20, 'pre'))\n"
        "assert not {'timm', 'torchvision'} & set(sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
