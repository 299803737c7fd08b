"""What a recipe decides in detection: network, picture size, weights, optimizer; what is given stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from foveal.algorithms import detection_recipe
from foveal.algorithms.detection import sides_around
from foveal.algorithms.detection_recipe import resolve_detection
from foveal.algorithms.recipe import Resolved
from foveal.artifact import Artifact
from foveal.data.facts import Facts
from foveal.data.views import Preprocessing
from foveal.errors import UserError
from foveal.models.detector import DetectorSpec
from foveal.models.network import NetworkSpec, build
from foveal.settings import DetectionSettings, parse_settings

CPU, CARD = torch.device("cpu"), torch.device("cuda")
FACTS = Facts(
    short=480,
    long=640,
    height=480,
    width=640,
    aspect=0.75,
    same=True,
    grey=False,
    looked=128,
    unread=0,
    first_unread="",
)
SaveWeights = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights are named, and the hub is a port at which nothing listens."""
    monkeypatch.delenv("FOVEAL_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def save_weights(tmp_path: Path) -> SaveWeights:
    """Write a network's tensors as a file of ImageNet weights."""

    def save(family: Any, layers: int = 0, kind: Any = "") -> Path:
        network = build(NetworkSpec(family, 2, (3, 64, 64), layers, kind))
        path = tmp_path / f"{family}{layers}.safetensors"
        save_file(network.body.state_dict(), path)
        path.with_suffix(".json").write_text(json.dumps({"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}))
        return path

    return save


def resolved(
    recipe: str = "modern",
    /,
    device: torch.device = CPU,
    pictures: int = 200,
    facts: Facts = FACTS,
    earlier: Artifact | None = None,
    **given: object,
) -> tuple[Resolved, DetectionSettings, DetectorSpec]:
    parsed = parse_settings(given, recipe=recipe, algorithm="object-detection")
    assert isinstance(parsed.settings, DetectionSettings)
    found = resolve_detection(parsed.settings, parsed.given, facts, 3, pictures, device, earlier)
    assert isinstance(found.settings, DetectionSettings) and isinstance(found.network, DetectorSpec)
    return found, found.settings, found.network


def refusal(recipe: str = "modern", /, **given: Any) -> str:
    with pytest.raises(UserError) as caught:
        resolved(recipe, **given)
    return str(caught.value)


def test_original_decides_nothing_and_warns_of_random_weights() -> None:
    found, settings, spec = resolved("original")
    assert spec == DetectorSpec("vgg-16", 3, (3, 300, 300), mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0))
    assert found.rule == Preprocessing("squeeze", 3, 300, 300, antialias=False)
    assert settings == replace(DetectionSettings(), num_classes=3, num_training_samples=200)
    assert found.said == ("network: SSD on VGG-16, pictures of 300 x 300 pixels",)
    assert found.warnings == (
        "use_pretrained_model=0: training starts from random weights, which needs many more pictures and epochs; "
        "use_pretrained_model=1 starts from ImageNet weights",
    )


def test_originals_resnet_50_takes_raw_pixels() -> None:
    _, settings, spec = resolved("original", base_network="resnet-50", image_shape="512")
    assert spec == DetectorSpec("resnet-50", 3, (3, 512, 512), "pre")
    assert settings.resnet == "pre"


def test_modern_fills_everything_it_leaves_open() -> None:
    found, settings, spec = resolved(use_pretrained_model=0)
    original = DetectionSettings().to_dict()
    assert {name for name, value in settings.to_dict().items() if value is None and original[name] is not None} == set()
    assert found.rule == Preprocessing("squeeze", 3, 300, 300, antialias=True)
    assert (settings.optimizer, settings.mini_batch_size, settings.use_pretrained_model) == ("sgd", 8, False)
    assert found.warnings == ()
    assert spec.image_shape == (3, 300, 300)


def test_what_is_given_stays() -> None:
    given: dict[str, Any] = {
        "base_network": "resnet-50",
        "image_shape": 400,
        "epochs": 3,
        "learning_rate": 0.5,
        "weight_decay": 0.0,
        "mini_batch_size": 5,
        "optimizer": "adamw",
    }
    _, settings, _ = resolved(**given)
    assert {name: getattr(settings, name) for name in given} == given


def test_without_weights_a_processor_trains_a_small_network_and_a_card_resnet_50(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detection_recipe, "_has_timm", lambda: True)
    found, _, spec = resolved(use_pretrained_model=0)
    assert spec.base == "resnet18"
    assert "base_network=resnet18: from random weights on a processor, the quickest that learns" in found.said
    monkeypatch.setattr(detection_recipe, "_has_timm", lambda: False)
    assert resolved(use_pretrained_model=0)[2].base == "resnet-50"
    assert (resolved(device=CARD)[2].base, resolved(device=CARD)[2].resnet) == ("resnet-50", "post")


def test_no_weights_to_be_had_are_told_with_the_way_out() -> None:
    found, _, _ = resolved(base_network="resnet-50")
    told = [line for line in found.said if line.startswith("no pretrained weights (the weights timm/resnet50.a1_in1k ")]
    assert len(told) == 1 and "set weights=FILE" in told[0]


def test_weights_that_are_asked_for_and_cannot_be_had_are_an_error() -> None:
    assert "the weights timm/vgg16.tv_in1k cannot be had" in refusal("original", use_pretrained_model=1)


@pytest.mark.parametrize("recipe", ["original", "modern"])
def test_the_original_form_of_resnet_50_has_no_public_weights(recipe: str) -> None:
    assert refusal(recipe, base_network="resnet-50", resnet="pre", use_pretrained_model=1) == (
        "use_pretrained_model: there are no public ImageNet weights for resnet-50 in the original's form (resnet=pre)\n"
        "Leave resnet out, or set it to post, torchvision's form. Or set weights=FILE."
    )


@pytest.mark.parametrize(
    ("network", "base", "kind"),
    [
        (("vgg",), "vgg-16", ""),
        (("resnet", 50, "post"), "resnet-50", "post"),
        (("resnet", 18, "post"), "resnet18", ""),
    ],
)
def test_weights_say_which_network_is_trained_and_how_it_wants_pixels(
    save_weights: SaveWeights, network: tuple[Any, ...], base: str, kind: str
) -> None:
    path = save_weights(*network)
    found, settings, spec = resolved(weights=str(path))
    assert (spec.base, spec.resnet, settings.base_network) == (base, kind, base)
    assert (spec.mean, spec.std) == ((127.5,) * 3, (63.75,) * 3)
    assert found.weights is not None and found.weights.path == path
    assert settings.use_pretrained_model is True


def test_the_variable_names_weights_for_modern_only(save_weights: SaveWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_WEIGHTS", str(save_weights("vgg")))
    assert resolved()[2].base == "vgg-16"
    assert resolved()[0].weights is not None
    assert resolved("original")[0].weights is None
    assert resolved(use_pretrained_model=0)[0].weights is None


def test_weights_of_a_network_without_a_detector_are_refused(save_weights: SaveWeights) -> None:
    path = save_weights("resnet", 18, "pre")
    assert "on which no detector is built" in refusal(weights=str(path))


def test_weights_of_another_network_than_the_one_set_are_refused(save_weights: SaveWeights) -> None:
    path = save_weights("vgg")
    assert "these weights belong to VGG-16" in refusal(weights=str(path), base_network="resnet-50")


def test_originals_resnet_50_with_public_weights_is_of_torchvisions_form(save_weights: SaveWeights) -> None:
    path = save_weights("resnet", 50, "post")
    found, settings, spec = resolved("original", base_network="resnet-50", weights=str(path))
    assert (spec.resnet, settings.resnet) == ("post", "post")
    assert "resnet-50 is of torchvision's form here (resnet=post): these weights are" in found.said


def test_freezing_is_dropped_when_training_from_random_weights(save_weights: SaveWeights) -> None:
    found, settings, _ = resolved("original", freeze_layer_pattern="^conv1_.*")
    assert settings.freeze_layer_pattern is None
    assert found.warnings[1] == (
        "freeze_layer_pattern=^conv1_.* is not used: random weights that stay as they are would teach nothing"
    )
    kept = resolved(freeze_layer_pattern="^conv1_.*", weights=str(save_weights("vgg")))
    assert kept[1].freeze_layer_pattern == "^conv1_.*" and kept[0].warnings == ()


def test_a_card_takes_larger_pictures_and_batches_where_pictures_are_large() -> None:
    _, settings, _ = resolved(device=CARD, use_pretrained_model=0)
    assert (settings.image_shape, settings.mini_batch_size) == (512, 16)
    assert resolved(device=CARD, pictures=5_000, use_pretrained_model=0)[1].mini_batch_size == 32
    little = replace(FACTS, short=200, long=260)
    assert resolved(device=CARD, facts=little, use_pretrained_model=0)[1].image_shape == 300


def test_epochs_follow_the_pictures_and_rates_the_batch(save_weights: SaveWeights) -> None:
    path = str(save_weights("resnet", 50, "post"))
    epochs = [resolved(weights=path, pictures=pictures)[1].epochs for pictures in (50, 500, 100_000)]
    assert epochs == [80, 30, 12]
    rates = [resolved(weights=path, mini_batch_size=batch)[1].learning_rate for batch in (8, 16)]
    assert rates == [0.02, 0.04]


@pytest.mark.parametrize(("optimizer", "decay"), [("sgd", 5e-4), ("adamw", 0.05), ("adam", 0.0), ("adadelta", 0.0)])
def test_weight_decay_fits_the_optimizer(optimizer: str, decay: float) -> None:
    _, settings, _ = resolved(optimizer=optimizer, use_pretrained_model=0)
    assert settings.weight_decay == decay
    assert settings.learning_rate is not None and 0 < settings.learning_rate <= 1


def test_a_pyramid_sees_more_pixels_and_is_taught_by_adamw_at_twice_the_rate() -> None:
    found, settings, spec = resolved(head="pyramid", base_network="resnet18", use_pretrained_model=0)
    assert spec.head == "pyramid" and found.said[0] == "network: pyramid on resnet18, pictures of 416 x 416 pixels"
    assert (settings.optimizer, settings.learning_rate, settings.weight_decay) == ("adamw", 0.001, 0.05)
    little = replace(FACTS, short=200, long=260)
    assert resolved(head="pyramid", facts=little, use_pretrained_model=0)[1].image_shape == 300
    by_sgd = resolved(head="pyramid", base_network="resnet18", optimizer="sgd", use_pretrained_model=0)[1]
    assert (by_sgd.learning_rate, by_sgd.weight_decay) == (0.02, 5e-4)
    assert resolved(use_pretrained_model=0)[1].head == resolved("original")[1].head == "ssd"


def test_sides_that_leave_no_other_one_are_told() -> None:
    found, _, _ = resolved(multi_scale=0.1, use_pretrained_model=0)
    assert found.warnings == ("multi_scale=0.1 has no effect: sides are 32 pixels apart, more than 0.1 of the side",)
    assert resolved(multi_scale=0.25, use_pretrained_model=0)[0].warnings == ()


def test_sides_lie_32_pixels_apart_around_the_one_that_is_asked_at() -> None:
    assert sides_around(300, 0.25, 32) == (236, 268, 300, 332, 364)
    assert sides_around(300, 0.25, 268) == (268, 300, 332, 364)
    assert sides_around(320, 0.1, 32) == (288, 320, 352)
    assert sides_around(300, 0.1, 32) == (300,)


def test_a_run_that_has_to_end_in_time_gets_one_cycle() -> None:
    assert resolved(max_minutes=5, use_pretrained_model=0)[1].lr_schedule == "one_cycle"
    assert resolved(max_minutes=5, lr_schedule="cosine", use_pretrained_model=0)[1].lr_schedule == "cosine"


def test_resolved_settings_and_network_survive_json() -> None:
    _, settings, spec = resolved(use_pretrained_model=0)
    stored = json.loads(json.dumps({"settings": settings.to_dict(), "network": spec.as_dict()}))
    assert DetectionSettings.from_dict(stored["settings"]) == settings
    assert DetectorSpec.from_dict(stored["network"]) == spec


def artifact(spec: DetectorSpec, settings: Mapping[str, Any] | None = None) -> Artifact:
    side = spec.image_shape[1]
    rule = Preprocessing("squeeze", 3, side, side, antialias=False)
    return Artifact("object-detection", spec.as_dict(), ("a", "b"), rule.to_dict(), settings or {})


def test_incremental_training_goes_on_with_the_earlier_network_and_more_classes() -> None:
    before = DetectorSpec("resnet-50", 2, (3, 400, 400), "pre")
    found, settings, spec = resolved(earlier=artifact(before))
    assert spec == replace(before, num_classes=3)
    assert found.rule == Preprocessing("squeeze", 3, 400, 400, antialias=False)
    assert (settings.base_network, settings.resnet, settings.image_shape) == ("resnet-50", "pre", 400)
    assert found.said[0] == "going on from the earlier model: SSD on ResNet-50 (pre), pictures of 400 x 400 pixels"


def test_incremental_training_keeps_the_head_and_a_pyramid_on_vgg_takes_any_size() -> None:
    before = DetectorSpec("vgg-16", 2, (3, 400, 400), head="pyramid")
    found, settings, spec = resolved(earlier=artifact(before), image_shape=500)
    assert settings.head == spec.head == "pyramid" and spec.image_shape == (3, 500, 500)
    assert found.said[0] == "going on from the earlier model: pyramid on VGG-16, pictures of 500 x 500 pixels"


def test_incremental_training_may_change_the_pictures_size_where_the_head_stays() -> None:
    small = artifact(DetectorSpec("vgg-16", 2, (3, 300, 300)))
    assert resolved(earlier=small, image_shape=400)[2].image_shape == (3, 400, 400)
    assert resolved("original", earlier=small)[2].image_shape == (3, 300, 300)
    assert refusal("original", earlier=small, image_shape=512) == (
        "model: image_shape=512 was given, but the earlier model has 300: "
        "VGG-16's head has other layers from 448 on\n"
        "Leave image_shape out, or set it to below 448."
    )
    other = artifact(DetectorSpec("resnet-50", 2, (3, 300, 300), "pre"))
    assert resolved("original", earlier=other, image_shape=512)[2].image_shape == (3, 512, 512)


def test_incremental_training_refuses_another_network() -> None:
    before = artifact(DetectorSpec("resnet-50", 2, (3, 300, 300), "pre"))
    assert refusal("original", earlier=before, base_network="vgg-16") == (
        "model: base_network=vgg-16 was given, but the earlier model has resnet-50\n"
        "Leave base_network out: incremental training goes on with the earlier network."
    )
    assert "resnet=post was given, but the earlier model has pre" in refusal(
        "modern", earlier=before, resnet="post", base_network="resnet-50"
    )


# Tiles


@pytest.mark.parametrize(
    ("device", "tile", "side", "how"),
    [
        (CPU, 400, 400, "as they are"),
        (CPU, 120, 300, "enlarged"),
        (CPU, 1000, 512, "shrunk"),
        (CARD, 1000, 1000, "as they are"),
        (CARD, 2000, 1024, "shrunk"),
    ],
)
def test_tiles_are_seen_at_their_own_size_within_bounds(device: torch.device, tile: int, side: int, how: str) -> None:
    found, settings, _ = resolved(device=device, tile_size=tile, base_network="vgg-16")
    assert settings.image_shape == side
    assert found.rule == Preprocessing("tiles", 3, side, side, tile_size=tile, tile_overlap=0.2)
    assert found.said[0].endswith(f" of {side} x {side} pixels: tiles of {tile} x {tile}, {how}")


def test_a_size_that_is_given_wins_over_the_tiles_own() -> None:
    found, _, spec = resolved(tile_size=400, tile_overlap=0.3, image_shape=320, base_network="vgg-16")
    assert spec.image_shape == (3, 320, 320)
    assert found.rule == Preprocessing("tiles", 3, 320, 320, tile_size=400, tile_overlap=0.3)


def test_incremental_training_may_change_to_tiles_and_between_them() -> None:
    whole = artifact(DetectorSpec("vgg-16", 3, (3, 400, 400)))
    tiles = Preprocessing("tiles", 3, 400, 400, antialias=False, tile_size=200)
    for earlier in (whole, replace(whole, preprocessing=tiles.to_dict())):
        assert resolved(earlier=earlier, tile_size=300)[0].rule == replace(tiles, tile_size=300, tile_overlap=0.2)
