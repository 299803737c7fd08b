"""Layer-wise decay of the learning rate, and frozen layers of a classifier."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from foveal.models.network import ClassificationNetwork, NetworkSpec, build
from foveal.mxnet.resnet import frozen_names
from foveal.settings import parse_settings
from foveal.training.layers import layer_multipliers
from foveal.training.task import CLASSIFICATION


def network(**changed: Any) -> ClassificationNetwork:
    return build(NetworkSpec(**{"family": "resnet", "num_classes": 3, "image_shape": (3, 28, 28), **changed}))


PRE: dict[str, Any] = {"num_layers": 20, "resnet": "pre", "width": 0.25}


def test_each_block_moves_by_a_share_of_the_next_ones_rate() -> None:
    rates = {name: rate for name, (rate, _) in layer_multipliers(network(**PRE), 0.5, False).items()}
    blocks = [f"body.layer{stage}.{block}.conv1.weight" for stage in (1, 2, 3) for block in range(3)]
    assert rates["body.fc.weight"] == rates["body.fc.bias"] == rates["body.norm.weight"] == 1
    assert [rates[name] for name in reversed(blocks)] == [0.5**power for power in range(1, 10)]
    assert rates["body.conv1.weight"] == rates["body.bn_data.bias"] == 0.5**10


def test_weight_decay_acts_as_without_it() -> None:
    made = network(**PRE)
    modern, original = (layer_multipliers(made, 0.5, decay_norm) for decay_norm in (False, True))
    assert [modern[f"body.{name}"][1] for name in ("fc.weight", "fc.bias", "norm.weight")] == [1, 0, 0]
    assert [original[f"body.{name}"][1] for name in ("fc.weight", "fc.bias", "norm.weight")] == [1, 0, 1]


def test_timms_networks_tell_their_layers_themselves() -> None:
    if find_spec("timm") is None:
        pytest.skip("needs timm")
    made = network(family="timm", backbone="mobilenetv3_small_050", image_shape=(3, 32, 32))
    rates = layer_multipliers(made, 0.5, False)
    assert set(rates) == {name for name, _ in made.named_parameters()}
    first, last = rates["body.conv_stem.weight"][0], rates["body.classifier.weight"][0]
    inner = rates["body.blocks.2.0.conv_pw.weight"][0]
    assert first < inner < last == 1


@pytest.mark.parametrize("recipe", ["modern", "original"])
def test_the_optimizers_rates_follow(recipe: str) -> None:
    given = {"layer_decay": 0.5, "learning_rate": 0.1, "optimizer": "sgd", "weight_decay": 0.01}
    settings = parse_settings(given, recipe=recipe).settings
    made = network(**PRE)
    optimizer = CLASSIFICATION.optimizer(made, settings)
    rates = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
    assert rates[id(made.get_parameter("body.fc.weight"))] == pytest.approx(0.1)
    assert rates[id(made.get_parameter("body.layer3.2.conv1.weight"))] == pytest.approx(0.05)


def test_a_pattern_freezes_by_the_originals_names_and_by_ours() -> None:
    made = network(**PRE)
    by_theirs = frozen_names(made, True, "^(bn_data|conv0|stage1)_.*")
    assert by_theirs == frozen_names(made, True, r"body\.(bn_data|conv1|layer1)\.")
    assert by_theirs == frozen_names(made, True, r"(bn_data|conv1|layer1)\.")
    assert "body.layer1.2.conv2.weight" in by_theirs and "body.layer2.0.conv1.weight" not in by_theirs


def test_a_network_of_timms_is_frozen_by_its_own_names() -> None:
    if find_spec("timm") is None:
        pytest.skip("needs timm")
    made = network(family="timm", backbone="mobilenetv3_small_050", image_shape=(3, 32, 32))
    settings = parse_settings({"freeze_layer_pattern": r"conv_stem|bn1\.|blocks\."}, recipe="modern").settings
    frozen = CLASSIFICATION.freeze(made, settings)
    assert frozen[0] == "body.conv_stem.weight"
    assert {name.split(".")[1] for name, _ in made.named_parameters() if name not in frozen} == {
        "conv_head", "classifier"
    }  # fmt: skip
    assert CLASSIFICATION.freeze(made, parse_settings({}, recipe="modern").settings) == ()


def test_decay_of_a_vgg_goes_by_its_convolutions() -> None:
    with torch.device("meta"):
        made = network(family="vgg", num_layers=16, image_shape=(3, 32, 32))
    rates = [rate for rate, _ in layer_multipliers(made, 0.9, False).values()]
    assert rates == sorted(rates) and rates[-1] == 1
