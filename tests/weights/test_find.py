"""Where weights come from, which network they choose, and how pictures are normalised for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from foveal.errors import UserError
from foveal.weights import NetworkHint, NoWeights, find_weights, network_for
from foveal.weights.find import public_weights

RESNET18 = NetworkHint("resnet", 18, "post")
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def test_a_file_chooses_its_network(save_resnet: Callable[..., Path]) -> None:
    found = find_weights(save_resnet())
    assert found.network == NetworkHint("resnet", 18, "post", num_classes=1000)
    assert (found.normalisation.mean, found.normalisation.std) == IMAGENET
    assert found.normalisation.source == "known: ImageNet ResNets of torchvision and timm"


def test_the_variable_names_a_file_or_a_folder(
    save_resnet: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_resnet("models/deep/resnet18.safetensors")
    for place in (path, path.parent, path.parent.parent):
        monkeypatch.setenv("FOVEAL_WEIGHTS", str(place))
        assert find_weights().path == path
    monkeypatch.setenv("FOVEAL_WEIGHTS", str(path) + ".gone")
    with pytest.raises(UserError, match=r"^FOVEAL_WEIGHTS: '.*gone' does not exist\n"):
        find_weights()


def test_in_a_folder_the_file_that_fits_is_taken(save_resnet: Callable[..., Path]) -> None:
    path = save_resnet("a/one.safetensors")
    save_resnet("a/two.safetensors", kind="pre")
    torch.save({"fc.weight": torch.zeros(2)}, path.parent / "other.pth")
    (path.parent / "training_args.bin").write_bytes(b"no tensors at all")
    assert find_weights(path.parent, RESNET18).path == path
    with pytest.raises(UserError, match=r"holds 2 files whose network can be told: one\.safetensors, two\.safetensors"):
        find_weights(path.parent)
    with pytest.raises(UserError, match=r"holds no weights that fit ResNet-50 \(num_layers=50, resnet=post\)"):
        find_weights(path.parent, NetworkHint("resnet", 50, "post"))


def test_the_same_weights_in_two_forms_count_once(save_resnet: Callable[..., Path]) -> None:
    path = save_resnet("a/model.safetensors")
    torch.save(load_file(path), path.with_suffix(".pth"))
    assert find_weights(path.parent, RESNET18).path == path


def test_weights_of_the_other_kind_are_an_error_that_says_so(save_resnet: Callable[..., Path]) -> None:
    path = save_resnet(kind="pre")
    with pytest.raises(UserError) as error:
        find_weights(path, RESNET18, "raw")
    assert str(error.value) == (
        f"{path}: these weights belong to ResNet-18 (num_layers=18, resnet=pre), "
        "not to ResNet-18 (num_layers=18, resnet=post)\n"
        "Choose the network that they belong to (ResNet-18 (num_layers=18, resnet=pre)), or other weights."
    )


def test_an_unknown_normalisation_is_an_error_that_lists_the_choices(save_resnet: Callable[..., Path]) -> None:
    path = save_resnet(num_classes=10)  # not ImageNet's classes, so anyone's
    with pytest.raises(UserError, match="how pictures are normalised for these weights is not known") as error:
        find_weights(path)
    assert all(name in error.value.remedy for name in ("imagenet", "caffe", "half", "raw", "resnet18.json"))
    assert error.value.setting == "weights_normalisation"


def test_normalisation_comes_from_the_setting_the_json_beside_or_the_metadata(save_resnet: Callable[..., Path]) -> None:
    path = save_resnet(num_classes=10)
    assert find_weights(path, normalisation="half").normalisation.mean == (127.5,) * 3
    assert find_weights(path, normalisation="raw").normalisation.mean == ()
    save_file(load_file(path), path, {"mean": "[0.25, 0.5, 0.75]", "std": "[0.5, 0.5, 0.5]"})
    assert find_weights(path).normalisation.mean == (63.75, 127.5, 191.25)
    path.with_suffix(".json").write_text(json.dumps({"mean": [0, 0, 0], "std": [1, 1, 1]}))
    assert find_weights(path).normalisation.std == (255.0,) * 3
    path.with_suffix(".json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.2] * 3, "std": [1, 1, 1]}}))
    assert find_weights(path).normalisation.mean == (51.0,) * 3
    assert find_weights(path, normalisation="half").normalisation.mean == (127.5,) * 3


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"mean": [123.68, 116.779, 103.939], "std": [1, 1, 1]}', "not three numbers each, in 0..1"),
        ('{"mean": [0.5], "std": [1, 1, 1]}', "not three numbers each"),
        ('{"mean": [0.5, 0.5, 0.5]}', "std None"),
        ('{"mean": [0.5, 0.5, 0.5], "std": [0, 1, 1]}', "not three numbers each"),
        ("{", "is no JSON"),
    ],
)
def test_a_wrong_json_beside_the_file_is_told(save_resnet: Callable[..., Path], content: str, what: str) -> None:
    path = save_resnet()
    path.with_suffix(".json").write_text(content)
    with pytest.raises(UserError, match=what) as error:
        find_weights(path)
    assert error.value.where == str(path.with_suffix(".json"))


def test_an_unknown_name_of_a_normalisation_is_told(save_resnet: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="'imagnet' is none of imagenet, caffe, half, raw"):
        find_weights(save_resnet(), normalisation="imagnet")


def test_weights_that_do_not_tell_their_network_need_its_name(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_file({"stem.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="which network these weights belong to cannot be told"):
        find_weights(path)
    wanted = NetworkHint("timm", backbone="convnext_atto")
    assert find_weights(path, wanted, "imagenet").network == wanted
    path.with_suffix(".json").write_text(json.dumps({"architecture": "convnext_atto", "mean": [0] * 3, "std": [1] * 3}))
    assert find_weights(path).network == wanted


def test_a_request_that_is_nothing_is_told() -> None:
    with pytest.raises(UserError, match=r"'no/such/file\.pth' is no file, no folder and no name on the hub"):
        find_weights("no/such/file.pth")


def test_nothing_named_and_nothing_wanted_is_no_weights() -> None:
    with pytest.raises(NoWeights, match="no pretrained weights were named and FOVEAL_WEIGHTS is not set"):
        find_weights()


@pytest.mark.parametrize(
    ("network", "remedy"),
    [
        (NetworkHint("resnet", 20, "pre"), "num_layers=18 with resnet=post. They are for pictures of 224x224"),
        (NetworkHint("resnet", 110, "pre"), "num_layers=101 with resnet=post. They"),
        (NetworkHint("resnet", 200, "post"), "num_layers=152 with resnet=post. Or"),
        (NetworkHint("resnet", 50, "pre"), "num_layers=50 with resnet=post. Or"),
    ],
)
def test_networks_without_public_weights_name_the_nearest(network: NetworkHint, remedy: str) -> None:
    with pytest.raises(NoWeights, match="there are no public ImageNet weights for ResNet") as error:
        public_weights(network)
    assert remedy in error.value.remedy


def test_public_weights_are_those_of_the_depth() -> None:
    assert public_weights(RESNET18) == "timm/resnet18.a1_in1k"


def test_a_specification_takes_the_normalisation_by_channels(save_resnet: Callable[..., Path]) -> None:
    found = find_weights(save_resnet())
    assert network_for(found, 4, (3, 64, 64)).mean == IMAGENET[0]
    grey = network_for(found, 4, (1, 64, 64))
    assert grey.mean == pytest.approx((114.495,)) and grey.std == pytest.approx((57.63,))
    assert network_for(find_weights(save_resnet(), normalisation="raw"), 4, (1, 64, 64)).mean == ()
