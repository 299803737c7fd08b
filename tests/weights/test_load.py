"""What becomes of each tensor when weights go into a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from foveal.errors import UserError
from foveal.models.network import NetworkSpec, build
from foveal.weights import find_weights, load_pretrained, network_for


def test_all_but_the_last_layer_are_taken(save_resnet: Callable[..., Path]) -> None:
    weights = find_weights(save_resnet())
    network = build(network_for(weights, 4, (3, 64, 64)))
    before = network.get_parameter("body.fc.weight").clone()
    report = load_pretrained(network, weights)
    stored = load_file(weights.path)
    assert report.new == ("fc.weight", "fc.bias")
    assert set(report.left_out) == set(report.new)
    assert set(report.taken) == set(stored) - {"fc.weight", "fc.bias"}
    assert all(torch.equal(network.body.state_dict()[name], stored[name]) for name in report.taken)
    assert torch.equal(network.get_parameter("body.fc.weight"), before)
    assert report.said == ("120 tensors taken, new: fc",)


def test_the_last_layer_is_new_even_where_it_fits_unless_it_is_kept(save_resnet: Callable[..., Path]) -> None:
    weights = find_weights(save_resnet())
    network = build(network_for(weights, 1000, (3, 64, 64)))
    assert load_pretrained(network, weights).new == ("fc.weight", "fc.bias")
    assert load_pretrained(network, weights, keep_last=True).new == ()


@pytest.mark.parametrize(("channels", "how"), [(1, "summed over its 3 channels"), (6, "its average repeated")])
def test_the_first_filter_answers_grey_as_it_did_in_rgb(
    save_resnet: Callable[..., Path], channels: int, how: str
) -> None:
    weights = find_weights(save_resnet())
    network = build(network_for(weights, 4, (channels, 64, 64)))
    report = load_pretrained(network, weights)
    assert how in report.said[1]
    grey = torch.randn(1, 1, 32, 32)
    rgb = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), load_file(weights.path)["conv1.weight"])
    ours = torch.nn.functional.conv2d(
        grey.expand(-1, channels, -1, -1), network.get_parameter("body.conv1.weight").detach()
    )
    torch.testing.assert_close(ours, rgb, rtol=1e-4, atol=1e-5)


def test_small_pictures_keep_their_own_stem(save_resnet: Callable[..., Path]) -> None:
    weights = find_weights(save_resnet())
    report = load_pretrained(build(network_for(weights, 4, (3, 32, 32))), weights)
    assert report.new == ("conv1.weight", "fc.weight", "fc.bias")
    assert report.said[1] == "the first filter is new: the file's is 64x3x7x7, small pictures take 64x3x3x3"


def test_weights_of_the_other_kind_are_refused(save_resnet: Callable[..., Path]) -> None:
    weights = find_weights(save_resnet())
    with pytest.raises(
        UserError, match=r"belong to ResNet-18 \(num_layers=18, resnet=post\), the network is .*resnet=pre"
    ):
        load_pretrained(build(NetworkSpec("resnet", 4, (3, 64, 64), 18, "pre")), weights)


def test_missing_tensors_other_shapes_and_infinite_values_are_named(save_resnet: Callable[..., Path]) -> None:
    weights = find_weights(save_resnet())
    network = build(network_for(weights, 4, (3, 64, 64)))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    stored = load_file(weights.path)

    def refused(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, weights.path)
        with pytest.raises(UserError) as error:
            load_pretrained(network, replace(weights))
        return error.value.what

    assert refused({k: v for k, v in stored.items() if k != "bn1.bias"}) == "1 tensors are missing: bn1.bias"
    assert refused(stored | {"bn1.bias": torch.zeros(32)}) == (
        "1 tensors are of another shape: bn1.bias is 32, the network takes 64"
    )
    assert refused(stored | {"bn1.bias": torch.full((64,), torch.nan)}) == "1 tensors are not finite: bn1.bias"
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
