"""What a recipe leaves open in object detection is decided here, as ``recipe.py`` does for classification.

``original`` leaves only the counts open, and which form of ResNet-50 fits. ``modern`` leaves nearly everything open.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace

import torch

from foveal.algorithms.detection import SIDE_STEP, sides_around
from foveal.algorithms.recipe import (
    Resolved,
    centred,
    schedule_for,
    take_weights,
    weights_asked,
    weights_named,
    weights_welcome,
)
from foveal.artifact import Artifact
from foveal.data.facts import Facts
from foveal.data.views import Preprocessing
from foveal.errors import UserError
from foveal.models.detector import RESNET50, VGG, DetectorSpec
from foveal.models.ssd import VGG_LARGE_SIDE
from foveal.settings import SMALLEST_SIDE, DetectionSettings
from foveal.weights import NetworkHint, Weights, detector_for

TUNED_CPU = "tf_efficientnet_lite0"  # with ImageNet weights; a step is about a tenth of VGG-16's
SCRATCH_CPU = "resnet18"  # has norms, which a network needs to learn from random weights
VGG_MEAN = (123.0, 117.0, 104.0)  # RGB; the open trainer subtracts it and does not scale (reference 2.6)
SIDE_CPU, SIDE_PYRAMID_CPU, SIDE_CARD = 300, 416, 512
TILE_CPU, TILE_CARD = 512, 1024  # at most, of tiles
BATCH_CPU, BATCH_CARD = 8, 16
MANY = 5_000  # pictures from which a card takes batches of 32
BATCH_MANY = 32
RATES = {"sgd": 0.02, "nag": 0.02, "adamw": 5e-4, "adam": 5e-4, "rmsprop": 5e-4, "adadelta": 1.0}  # batches of 8
PYRAMID_OPTIMIZER, PYRAMID_FASTER = "adamw", 2.0  # and the factor of the adaptive optimizers' rates
VGG_SLOWER = 0.1  # of the rate; without norms it does not bear more
DECAYS = {"adamw": 0.05, "adam": 0.0, "adadelta": 0.0}
DECAY = 5e-4  # of the others
SCRATCH_SEEN, TUNED_SEEN = 60_000, 15_000  # pictures shown in a run on small sets, all epochs together
SCRATCH_EPOCHS, TUNED_EPOCHS = (30, 200), (12, 80)


def resolve_detection(
    settings: DetectionSettings,
    given: frozenset[str],
    facts: Facts,
    num_classes: int,
    pictures: int,
    device: torch.device,
    earlier: Artifact | None,
) -> Resolved:
    """Decide what is open; arguments and errors as those of ``recipe.resolve``."""
    said: list[str] = []
    warnings: list[str] = []
    settings = replace(settings, num_classes=num_classes, num_training_samples=pictures)
    if earlier is not None:
        return _incremental(settings, given, pictures, device, earlier)
    weights = _weights(settings, given, device, said.append)
    if weights is not None:
        settings = _of_weights(settings, weights, num_classes)
    elif settings.recipe == "original":
        warnings.append(
            "use_pretrained_model=0: training starts from random weights, which needs many more pictures and epochs; "
            "use_pretrained_model=1 starts from ImageNet weights"
        )
    if settings.base_network is None:
        settings = replace(settings, base_network=_scratch_network(device, said.append))
    if settings.base_network == RESNET50 and settings.resnet is None:
        settings = replace(settings, resnet="pre" if settings.recipe == "original" else "post")
    if settings.freeze_layer_pattern is not None and weights is None:
        warnings.append(
            f"freeze_layer_pattern={settings.freeze_layer_pattern} is not used: "
            "random weights that stay as they are would teach nothing"
        )
        settings = replace(settings, freeze_layer_pattern=None)
    if settings.recipe == "modern":
        settings = replace(settings, image_shape=settings.image_shape or _side(settings, facts, device))
        settings = _teaching(settings, given, pictures, weights is not None, device, said.append)
    spec = _spec(settings, num_classes, weights)
    settings = replace(settings, use_pretrained_model=weights is not None)
    side = spec.image_shape[1]
    said.insert(0, f"network: {spec.label}, pictures of {side} x {side} pixels{_of_tiles(settings)}")
    return Resolved(settings, spec, _rule(settings), weights, tuple(said), (*warnings, *_one_side(settings)))


def _one_side(settings: DetectionSettings) -> tuple[str, ...]:
    """A line where ``multi_scale`` is so small that there is no other side."""
    assert settings.image_shape is not None
    reach = settings.multi_scale
    if not reach or len(sides_around(settings.image_shape, reach, 1)) > 1:
        return ()
    return (
        f"multi_scale={reach:g} has no effect: sides are {SIDE_STEP} pixels apart, more than {reach:g} of the side",
    )


def _weights(
    settings: DetectionSettings, given: frozenset[str], device: torch.device, say: Callable[[str], None]
) -> Weights | None:
    """Pretrained weights where they are asked for, or where ``modern`` can have them."""
    asked, named = weights_asked(settings), weights_named(settings)
    if not asked and not weights_welcome(settings, given):
        return None
    if settings.base_network == RESNET50 and settings.resnet == "pre" and not named:
        if asked:
            raise UserError(
                "there are no public ImageNet weights for resnet-50 in the original's form (resnet=pre)",
                "use_pretrained_model",
                "Leave resnet out, or set it to post, torchvision's form. Or set weights=FILE.",
                "resnet",
            )
        say("resnet-50 in the original's form (resnet=pre) has no public ImageNet weights: training from scratch")
        return None
    name = settings.base_network
    if name is None and not named:
        name = TUNED_CPU if device.type == "cpu" and _has_timm() else RESNET50
    wanted = None if name is None else _hint(name, settings.resnet)
    found = take_weights(settings, wanted, say)
    if found is not None and settings.recipe == "original" and settings.base_network == RESNET50:
        say(f"resnet-50 is of torchvision's form here (resnet={found.network.resnet}): these weights are")
    return found


def _hint(name: str, resnet: str | None) -> NetworkHint:
    if name == VGG:
        return NetworkHint("vgg", 16)
    if name == RESNET50:
        return NetworkHint("resnet", 50, "pre" if resnet == "pre" else "post")
    return NetworkHint("timm", backbone=name)


def _of_weights(settings: DetectionSettings, weights: Weights, num_classes: int) -> DetectionSettings:
    """The network that weights belong to, where it is not set; ``find_weights`` has seen to it that they agree."""
    spec = detector_for(weights, num_classes, (3, SIDE_CPU, SIDE_CPU))
    return replace(settings, base_network=settings.base_network or spec.base, resnet=spec.resnet or settings.resnet)


def _has_timm() -> bool:
    return importlib.util.find_spec("timm") is not None


def _scratch_network(device: torch.device, say: Callable[[str], None]) -> str:
    """What to train from random weights; VGG-16 has no norms and hardly learns so, and takes longest."""
    if device.type != "cpu":
        return RESNET50
    if _has_timm():
        say(f"base_network={SCRATCH_CPU}: from random weights on a processor, the quickest that learns")
        return SCRATCH_CPU
    say(f'base_network={RESNET50}: smaller networks, quicker on a processor, come with pip install "foveal[timm]"')
    return RESNET50


def _side(settings: DetectionSettings, facts: Facts, device: torch.device) -> int:
    if settings.tile_size is not None:  # within bounds objects keep their size
        return min(max(settings.tile_size, SMALLEST_SIDE), TILE_CPU if device.type == "cpu" else TILE_CARD)
    if facts.long <= SIDE_CPU:
        return SIDE_CPU
    if device.type != "cpu":
        return SIDE_CARD
    return SIDE_PYRAMID_CPU if settings.head == "pyramid" else SIDE_CPU


def _teaching(
    settings: DetectionSettings,
    given: frozenset[str],
    pictures: int,
    tuned: bool,
    device: torch.device,
    say: Callable[[str], None],
) -> DetectionSettings:
    """Fill how long and how fast a network learns; what was given stays."""
    on_card = BATCH_MANY if pictures >= MANY else BATCH_CARD
    batch = settings.mini_batch_size or (BATCH_CPU if device.type == "cpu" else on_card)
    optimizer = settings.optimizer or (PYRAMID_OPTIMIZER if settings.head == "pyramid" else "sgd")
    seen, (fewest, most) = (TUNED_SEEN, TUNED_EPOCHS) if tuned else (SCRATCH_SEEN, SCRATCH_EPOCHS)
    epochs = settings.epochs or max(fewest, min(most, round(seen / pictures)))
    rate = settings.learning_rate
    if rate is None:
        rate = _rate(optimizer, batch, settings)
    decay = DECAYS.get(optimizer, DECAY) if settings.weight_decay is None else settings.weight_decay
    limit = " at most" if settings.max_minutes else ""
    say(
        f"{optimizer}, learning rate {rate:g}, batches of {batch}, {epochs} epoch{'s' * (epochs != 1)}{limit}, "
        f"augmentation {settings.augmentation_type}"
    )
    return replace(
        settings,
        mini_batch_size=batch,
        optimizer=optimizer,
        learning_rate=rate,
        weight_decay=decay,
        epochs=epochs,
        lr_schedule=schedule_for(settings, given),
    )


def _rate(optimizer: str, batch: int, settings: DetectionSettings) -> float:
    """Linear in the batch for sgd and nag, with its root for the adaptive ones; at most 1, as the setting."""
    linear = optimizer in ("sgd", "nag")
    scale = batch / BATCH_CPU if linear else (batch / BATCH_CPU) ** 0.5
    slower = VGG_SLOWER if settings.base_network == VGG else 1.0
    faster = PYRAMID_FASTER if settings.head == "pyramid" and not linear else 1.0
    return float(min(1.0, RATES[optimizer] * scale * slower * faster))


def _spec(settings: DetectionSettings, num_classes: int, weights: Weights | None) -> DetectorSpec:
    assert settings.base_network is not None and settings.image_shape is not None
    shape = (3, settings.image_shape, settings.image_shape)
    if weights is not None:
        return replace(detector_for(weights, num_classes, shape), head=settings.head)
    kind = settings.resnet or "" if settings.base_network == RESNET50 else ""
    if kind == "pre":  # begins with a norm: raw pixels
        return DetectorSpec(settings.base_network, num_classes, shape, kind, settings.head)
    mean, std = (VGG_MEAN, (1.0, 1.0, 1.0)) if settings.base_network == VGG else centred(3)
    return DetectorSpec(settings.base_network, num_classes, shape, kind, settings.head, mean=mean, std=std)


def _rule(settings: DetectionSettings) -> Preprocessing:
    assert settings.image_shape is not None
    side, antialias = settings.image_shape, settings.recipe == "modern"
    if settings.tile_size is None:
        return Preprocessing("squeeze", 3, side, side, antialias=antialias)
    tile, overlap = settings.tile_size, settings.tile_overlap
    return Preprocessing("tiles", 3, side, side, antialias=antialias, tile_size=tile, tile_overlap=overlap)


def _of_tiles(settings: DetectionSettings) -> str:
    """What the network's pictures are, where they are tiles."""
    tile, side = settings.tile_size, settings.image_shape
    if tile is None or side is None:
        return ""
    how = "as they are" if tile == side else "shrunk" if tile > side else "enlarged"
    return f": tiles of {tile} x {tile}, {how}"


def _incremental(
    settings: DetectionSettings, given: frozenset[str], pictures: int, device: torch.device, earlier: Artifact
) -> Resolved:
    """The network of the earlier artifact; the pictures' size may be another one where the head stays the same."""
    before = DetectorSpec.from_dict(earlier.network)
    for name, value, old in (
        ("base_network", settings.base_network, before.base),
        ("resnet", settings.resnet, before.resnet or None),
        ("head", settings.head, before.head),
    ):
        if name in given and value is not None and value != old:
            raise UserError(
                f"{name}={value} was given, but the earlier model has {old}",
                "model",
                f"Leave {name} out: incremental training goes on with the earlier network.",
                name,
            )
    side = settings.image_shape if "image_shape" in given and settings.image_shape else before.image_shape[1]
    large = (side >= VGG_LARGE_SIDE, before.image_shape[1] >= VGG_LARGE_SIDE)
    if (before.base, before.head) == (VGG, "ssd") and large[0] != large[1]:
        room = f"below {VGG_LARGE_SIDE}" if before.image_shape[1] < VGG_LARGE_SIDE else f"{VGG_LARGE_SIDE} or more"
        raise UserError(
            f"image_shape={side} was given, but the earlier model has {before.image_shape[1]}: "
            f"VGG-16's head has other layers from {VGG_LARGE_SIDE} on",
            "model",
            f"Leave image_shape out, or set it to {room}.",
            "image_shape",
        )
    assert settings.num_classes is not None
    spec = replace(before, num_classes=settings.num_classes, image_shape=(3, side, side))
    rule = Preprocessing.from_dict(earlier.preprocessing)
    if rule.tile_size is not None and settings.tile_size is None:
        raise UserError(
            f"the earlier model sees pictures in tiles of {rule.tile_size} pixels, and tile_size is not given",
            "model",
            f"Set tile_size={rule.tile_size} and tile_overlap={rule.tile_overlap:g}, or other tiles.",
            "tile_size",
        )
    settings = replace(
        settings,
        base_network=before.base,
        resnet=before.resnet or None,
        head=before.head,
        image_shape=side,
        use_pretrained_model=False,  # the earlier model wins, as in the original (reference 2.8)
    )
    said = [f"going on from the earlier model: {spec.label}, pictures of {side} x {side} pixels{_of_tiles(settings)}"]
    if settings.recipe == "modern":
        settings = _teaching(settings, given, pictures, True, device, said.append)
    rule = replace(_rule(settings), antialias=rule.antialias)
    return Resolved(settings, spec, rule, None, tuple(said), _one_side(settings))
