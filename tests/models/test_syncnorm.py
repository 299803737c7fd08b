"""Norms over all ranks: the same names and values as those whose place they take, and the same arithmetic.

Over several ranks they are tried in tests/training/test_ranks.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from foveal.errors import UserError
from foveal.models.network import NetworkSpec, build
from foveal.models.resnet import FixedGammaNorm
from foveal.models.syncnorm import CardNorm, SyncedNorm, sync_norms, uncounted

CPU = torch.device("cpu")


@pytest.fixture
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


class Act(nn.BatchNorm2d):
    """Does what timm's norms do besides normalising."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]


class Other(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


def small() -> nn.Sequential:
    torch.manual_seed(5)
    layers = nn.Sequential(FixedGammaNorm(3, 2e-5), nn.Conv2d(3, 4, 3), Act(4), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
    for norm in (layers[2], layers[4]):
        nn.init.normal_(norm.weight)
    return layers


def answer_and_gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_(True)
    y = network(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(each.grad for each in network.parameters() if each.grad is not None)]


def test_one_rank_gets_what_a_plain_norm_gives(one_rank: None) -> None:
    plain, synced = small().double(), small().double()
    assert sync_norms(synced, CPU) == 3
    x = torch.randn(4, 3, 7, 7, dtype=torch.float64) * 60 + 100
    found, wanted = answer_and_gradients(synced, x), answer_and_gradients(plain, x)
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
    for (name, mine), (_, other) in zip(synced.state_dict().items(), plain.state_dict().items(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize(("device", "kind"), [("cpu", SyncedNorm), ("cuda", CardNorm)])
def test_names_values_and_answers_stay_what_they_were(device: str, kind: type[nn.Module]) -> None:
    """A card's too, which compute here as long as they do not learn."""
    network, before = small().eval(), small().eval()
    sync_norms(network, torch.device(device))
    assert isinstance(network[0], kind) and isinstance(network[2], kind)
    mine, other = network.state_dict(), before.state_dict()
    assert list(mine) == list(other) and all(torch.equal(mine[name], other[name]) for name in other)
    assert [name for name, _ in network.named_parameters()] == [name for name, _ in before.named_parameters()]
    x = torch.randn(2, 3, 7, 7)
    torch.testing.assert_close(network(x), before(x))


def test_every_norm_of_a_resnet_is_replaced() -> None:
    network = build(NetworkSpec("resnet", 3, (3, 28, 28), 20, "pre"))
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in network.modules())
    assert sync_norms(network, CPU) == norms > 10
    assert not any(isinstance(each, nn.BatchNorm2d) for each in network.modules())


def test_a_picture_that_fills_a_place_is_not_counted(one_rank: None) -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    sync_norms(network, CPU)
    norm = network[0]
    assert isinstance(norm, SyncedNorm) and norm.counted
    with uncounted(network):
        assert not norm.counted
    assert norm.counted


def test_a_norm_that_does_more_is_refused() -> None:
    with pytest.raises(UserError) as error:
        sync_norms(nn.Sequential(Other(3)), CPU)
    assert str(error.value) == (
        "sync_batch_norm: the network has norms of kind Other, whose statistics can't be taken over all processes\n"
        "Leave sync_batch_norm out, or take another network."
    )
