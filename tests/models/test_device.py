"""Which device computes is chosen by name."""

from __future__ import annotations

import pytest
import torch

from foveal.errors import UserError
from foveal.models.device import choose_device


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:", "cuda:x", "cuda0", "", "cpu:1"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_device(name)
    assert str(caught.value) == (
        f"device: {name!r} is no device\nChoose auto, cpu, cuda, cuda:N (card N, from 0) or mps."
    )


def test_the_cpu_is_there_and_told_with_its_threads() -> None:
    chosen = choose_device("cpu")
    assert chosen.device == torch.device("cpu")
    assert chosen.said.startswith("device: cpu with ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_without_a_card_cuda_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^device: no CUDA card was found"):
        choose_device(name)


def test_a_number_beyond_the_cards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="no card cuda:2 was found: there are 2, counted from cuda:0"):
        choose_device("cuda:2")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_without_an_apple_gpu_mps_is_refused() -> None:
    with pytest.raises(UserError, match=r"^device: no Apple GPU was found"):
        choose_device("mps")
