"""Weight gradients of our own equal torch's, and are used only where they are meant to be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from foveal.models import convolution
from foveal.models.convolution import Convolution, needs_quick_convolutions, quick_convolutions, weight_gradient
from foveal.models.detector import DetectorSpec, build_detector
from foveal.models.device import place

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def torchs(x: Tensor, gradient: Tensor, kernel: tuple[int, int], *shape: tuple[int, int]) -> Tensor:
    """The same by torch, in float64."""
    weight = torch.zeros((gradient.shape[1], x.shape[1], *kernel), dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(F.conv2d(x.double(), weight, None, *shape), weight, gradient.double())
    return found


def assert_equal(ours: Tensor, theirs: Tensor, x: Tensor, gradient: Tensor) -> None:
    """To rounding: float32's step times the sum of what was added, at most."""
    places = gradient.shape[0] * gradient.shape[2] * gradient.shape[3]
    largest = float(x.abs().max() * gradient.abs().max()) * places
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1.2e-7 * max(largest, 1e-30)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    side=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    kernel=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=PAIRS,
    piece=st.sampled_from([1, 200, convolution.PIECE]),
    last=st.booleans(),
)
def test_gradients_equal_torchs_whatever_the_shape(
    seed: int,
    sizes: tuple[int, int, int],
    side: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    piece: int,
    last: bool,
) -> None:
    shape = [(s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in zip(side, kernel, stride, padding, dilation)]  # noqa: B905
    assume(min(shape) >= 1)
    generator = torch.Generator().manual_seed(seed)
    batch, channels, filters = sizes
    x = torch.randn(batch, channels, *side, generator=generator)
    gradient = torch.randn(batch, filters, *shape, generator=generator)
    if last:
        x, gradient = (each.to(memory_format=torch.channels_last) for each in (x, gradient))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "PIECE", piece)
        ours = weight_gradient(x, gradient, kernel, stride, padding, dilation)
    assert_equal(ours, torchs(x, gradient, kernel, stride, padding, dilation), x, gradient)
    assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 6, 6), (3, 1, 0, 1), (7, 2, 3, 1)],
    ids=["vgg", "halving", "fc6", "unpadded", "stem"],
)
def test_all_gradients_of_a_detectors_layers_equal_torchs(
    kernel: int, stride: int, padding: int, dilation: int
) -> None:
    torch.manual_seed(4)
    plain = nn.Sequential(nn.Conv2d(16, 24, kernel, stride, padding, dilation)).to(memory_format=torch.channels_last)
    quick = nn.Sequential(nn.Conv2d(16, 24, kernel, stride, padding, dilation)).to(memory_format=torch.channels_last)
    quick.load_state_dict(plain.state_dict())
    quick_convolutions(quick)
    assert type(quick[0]) is Convolution
    x = torch.randn(2, 16, 19, 23).to(memory_format=torch.channels_last)
    wanted = torch.randn_like(plain(x))
    found = []
    for network in (plain, quick):
        given = x.clone().requires_grad_()
        answers = network(given)
        answers.backward(wanted)
        found.append([answers, given.grad, *(p.grad for p in network.parameters())])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)
    assert torch.equal(found[0][0], found[1][0])  # the answers are torch's own


def changed(layer: nn.Module) -> bool:
    network = nn.Sequential(layer)
    quick_convolutions(network)
    return type(network[0]) is Convolution


def test_a_layer_is_replaced_with_its_own_parameters_and_shape() -> None:
    layer = nn.Conv2d(16, 8, 3, stride=2, padding=6, dilation=6)
    network = nn.Sequential(layer).eval()
    quick_convolutions(network)
    found = network[0]
    assert isinstance(found, Convolution)
    assert found.weight is layer.weight and found.bias is layer.bias and not found.training
    assert (found.stride, found.padding, found.dilation) == ((2, 2), (6, 6), (6, 6))
    assert list(network.state_dict()) == ["0.weight", "0.bias"]
    assert changed(nn.Conv2d(16, 8, (1, 3), bias=False))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 8, 1),
        nn.Conv2d(15, 8, 3),
        nn.Conv2d(16, 16, 3, groups=2),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 16, 3, padding="same"),
        nn.ConvTranspose2d(16, 16, 3),
        nn.Linear(16, 16),
    ],
    ids=["1x1", "15 channels", "groups", "reflecting", "same", "transposed", "linear"],
)
def test_other_layers_stay_as_they_are(layer: nn.Module) -> None:
    assert not changed(layer)


def test_layers_are_found_inside_of_others_and_a_second_time_nothing_changes() -> None:
    network = nn.Sequential(nn.Sequential(nn.ModuleDict({"a": nn.Conv2d(16, 8, 3)})), nn.Conv2d(16, 8, 3))
    quick_convolutions(network)
    once = [module for module in network.modules() if type(module) is Convolution]
    quick_convolutions(network)
    assert len(once) == 2
    assert [module for module in network.modules() if type(module) is Convolution] == once


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each weight gradient that is ours."""
    calls: list[object] = []

    def count(*arguments: object) -> Tensor:
        calls.append(arguments)
        return weight_gradient(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(convolution, "weight_gradient", count)
    return calls


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_piece_that_lies_in_the_padding_alone_adds_nothing(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(convolution, "PIECE", rows * (4 + 2 * 4) * (2 + 3))  # numbers in so many rows
    x, gradient = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 11, 11)
    shape = ((2, 2), (1, 1), (4, 4), (1, 1))
    assert_equal(weight_gradient(x, gradient, *shape), torchs(x, gradient, *shape), x, gradient)


def learn(layer: Convolution, x: Tensor) -> None:
    layer(x).float().sum().backward()


def quick() -> Convolution:
    return Convolution(16, 4, 3)


def test_it_is_used_in_float32(counted: list[object]) -> None:
    learn(quick(), torch.randn(1, 16, 64, 64))
    assert len(counted) == 1


def test_it_is_not_used_in_other_types_or_mixed_precision(counted: list[object]) -> None:
    learn(quick().double(), torch.randn(1, 16, 64, 64).double())
    learn(quick().bfloat16(), torch.randn(1, 16, 64, 64).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        learn(quick(), torch.randn(1, 16, 64, 64))
    assert not counted


def test_it_is_not_used_where_no_weight_learns(counted: list[object]) -> None:
    x = torch.randn(1, 16, 64, 64, requires_grad=True)
    frozen = quick().requires_grad_(False)
    learn(frozen, x)
    assert x.grad is not None and not counted
    with torch.no_grad():
        assert not quick()(x).requires_grad


def test_a_first_layer_whose_pictures_learn_nothing_gets_its_gradients(counted: list[object]) -> None:
    layer = Convolution(16, 4, 3, bias=False)
    learn(layer, torch.ones(1, 16, 64, 64))
    assert layer.weight.grad is not None and layer.weight.grad.eq(62 * 62).all()


def test_small_maps_and_empty_batches_are_left_to_torch(counted: list[object]) -> None:
    learn(quick(), torch.randn(1, 16, 63, 64))
    learn(quick(), torch.randn(0, 16, 64, 64))
    assert not counted


def test_a_gradient_of_the_gradient_is_refused() -> None:
    layer = quick()
    (first,) = torch.autograd.grad(layer(torch.randn(1, 16, 64, 64)).square().sum(), layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(("capability", "used"), [("AVX2", True), ("AVX512", False), ("DEFAULT", False)])
def test_networks_get_it_on_processors_without_avx_512_only(
    monkeypatch: pytest.MonkeyPatch, capability: str, used: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert needs_quick_convolutions() == used
    spec = DetectorSpec("vgg-16", 2, (3, 268, 268), width=1 / 8)
    network = place(build_detector(spec), torch.device("cpu"))
    assert any(type(module) is Convolution for module in network.modules()) == used
    assert list(network.state_dict()) == list(build_detector(spec).state_dict())
