"""MXNet's names for the ResNet's tensors, and arrays that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.models.depths import plan_resnet
from foveal.models.resnet import ResNet
from foveal.mxnet.resnet import load_mxnet, mxnet_names


def narrow() -> ResNet:
    return ResNet(plan_resnet(20, "pre", 28, width=0.25), 3, 4)


def arrays_for(body: ResNet) -> dict[str, NDArray[Any]]:
    state = body.state_dict()
    return {there: np.zeros(state[ours].shape, np.float16) for ours, there in mxnet_names(state).items()}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("bn_data.bias", "arg:bn_data_beta"),
        ("bn_data.running_mean", "aux:bn_data_moving_mean"),
        ("conv1.weight", "arg:conv0_weight"),
        ("bn1.weight", "arg:bn0_gamma"),
        ("layer1.0.bn1.weight", "arg:stage1_unit1_bn1_gamma"),
        ("layer3.2.conv3.weight", "arg:stage3_unit3_conv3_weight"),
        ("layer4.0.downsample.weight", "arg:stage4_unit1_sc_weight"),
        ("layer2.10.bn3.running_var", "aux:stage2_unit11_bn3_moving_var"),
        ("norm.bias", "arg:bn1_beta"),
        ("fc.weight", "arg:fc1_weight"),
        ("fc.bias", "arg:fc1_bias"),
    ],
)
def test_each_tensor_has_mxnets_name(ours: str, theirs: str) -> None:
    assert mxnet_names([ours]) == {ours: theirs}


def test_counts_of_batches_have_no_name() -> None:
    assert mxnet_names(["norm.num_batches_tracked"]) == {}


def test_float16_is_cast_and_the_fixed_gamma_ignored() -> None:
    body = narrow()
    arrays = arrays_for(body) | {"arg:bn_data_gamma": np.full(3, 2.0, np.float32)}
    arrays["arg:fc1_bias"] = np.array([0.5, 1.0, 1.5, 2.0], np.float16)
    load_mxnet(body, arrays)
    assert body.fc.bias.dtype == torch.float32
    assert body.fc.bias.tolist() == [0.5, 1.0, 1.5, 2.0]


def test_a_missing_array_is_named() -> None:
    arrays = arrays_for(body := narrow())
    del arrays["aux:bn1_moving_var"]
    with pytest.raises(UserError, match="1 arrays are missing: aux:bn1_moving_var"):
        load_mxnet(body, arrays, "a.params")


def test_an_array_left_over_is_named() -> None:
    arrays = arrays_for(body := narrow()) | {"arg:stage4_unit1_conv1_weight": np.zeros(1)}
    with pytest.raises(UserError, match="1 arrays are not in the network: arg:stage4_unit1_conv1_weight"):
        load_mxnet(body, arrays)


def test_an_array_of_another_shape_is_told_with_both_and_nothing_is_loaded() -> None:
    arrays = arrays_for(body := narrow()) | {"arg:fc1_weight": np.zeros((10, 16))}
    before = body.fc.bias.clone()
    with pytest.raises(UserError, match="arg:fc1_weight is 10x16, the network takes 4x16"):
        load_mxnet(body, arrays)
    assert torch.equal(body.fc.bias, before)
