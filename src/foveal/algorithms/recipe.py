"""What a recipe leaves open is decided here, from the pictures, the device and the weights that can be had.

``original`` leaves only the counts open. ``modern`` leaves nearly everything open; each choice below was measured
(docs/recipes.md has the table), and each is told to the user in a line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from foveal.artifact import Artifact
from foveal.data.facts import Facts
from foveal.data.views import Preprocessing, modern_resize
from foveal.errors import UserError
from foveal.models.depths import SMALL_DEPTHS, Kind, plan_resnet
from foveal.models.detector import DetectorSpec
from foveal.models.network import NetworkSpec
from foveal.records import TaskName
from foveal.settings import ClassificationSettings, Settings, refuse_together
from foveal.weights import NetworkHint, NoWeights, Weights, find_weights, network_for

VARIABLE = "FOVEAL_WEIGHTS"
SMALL = 32  # pixels; up to here num_layers=20 and the 3x3 stem
MIDDLE = 96  # pixels; up to here pictures keep their own size
SIDE_CPU, SIDE_CARD, SIDE_PRETRAINED = 96, 224, 224
LONGISH = 0.7  # mean of short / long side; below it a centre crop shows less than half of the pictures
MANY = 20_000  # pictures from which a card trains ResNet-50 instead of ResNet-18
SCRATCH_SEEN, TUNED_SEEN = 20_000, 5_000  # pictures shown in a run on small sets, all epochs together
SCRATCH_EPOCHS, TUNED_EPOCHS = (12, 60), (5, 20)


@dataclass(frozen=True)
class Resolved:
    """``settings`` with nothing left open, and what follows from them. ``weights`` are to be loaded before training.

    ``said`` has a line for each decision, ``warnings`` one for each that is probably not what the user wants.
    """

    settings: Settings
    network: NetworkSpec | DetectorSpec
    rule: Preprocessing
    weights: Weights | None
    said: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read_task(
    settings: ClassificationSettings, given: frozenset[str], task: TaskName, origin: str
) -> tuple[ClassificationSettings, tuple[str, ...]]:
    """Decide ``multi_label`` by the data, where it is open; and a line for each doubt.

    Args:
        given: names of the settings that the user gave.
        task: what the pictures carry. origin: the data, for errors.

    Raises:
        UserError: settings that do not go with what the data carries.
    """
    several = task == "multi-label"
    if settings.multi_label is None:
        settings = replace(settings, multi_label=several)
        refuse_together(settings)
        lines = ["use_weighted_loss has no effect: the data has one label a picture"]
        return settings, tuple(lines if settings.use_weighted_loss and not several else ())
    if several and not settings.multi_label:
        raise UserError(
            "its pictures have several labels each, and multi_label is 0",
            origin,
            "Set multi_label=1, or give each picture one label.",
            "multi_label",
        )
    return settings, ()


def resolve(
    settings: ClassificationSettings,
    given: frozenset[str],
    facts: Facts,
    num_classes: int,
    pictures: int,
    device: torch.device,
    earlier: Artifact | None,
) -> Resolved:
    """Decide what is open.

    Args:
        settings: parsed; None where the recipe leaves a setting open.
        given: names of the settings that the user gave.
        facts: of the training pictures.
        num_classes, pictures: as found in the training data.
        device: where the network is trained.
        earlier: the artifact to go on from, whose network and pictures' size then hold.

    Raises:
        UserError: settings that contradict each other or the earlier artifact; weights that cannot be had.
    """
    said: list[str] = []
    settings = replace(settings, num_classes=num_classes, num_training_samples=pictures)
    if earlier is not None:
        return _incremental(settings, given, num_classes, pictures, earlier)
    weights = _weights(settings, given, facts, pictures, device, said.append)
    if settings.recipe == "modern":
        settings = _modern(settings, given, facts, pictures, device, weights, said.append)
    said += _several_line(settings)
    spec = _network(settings, num_classes, weights)
    if spec.resnet:
        said += filter(None, [plan_resnet(spec.num_layers, spec.resnet, spec.image_shape[1]).said])
    grey = ", grey" if spec.image_shape[0] == 1 else ""
    said.insert(0, f"network: {spec.label}, pictures of {spec.image_shape[1]} x {spec.image_shape[2]} pixels{grey}")
    rule = _rule(settings, facts)
    if rule.kind == "squeeze":
        said.append(
            f"pictures are squeezed whole: a centre crop would miss much of them (sides as 1 to {facts.aspect:.2f})"
        )
    return Resolved(settings, spec, rule, weights, tuple(said))


def _weights(
    settings: ClassificationSettings,
    given: frozenset[str],
    facts: Facts,
    pictures: int,
    device: torch.device,
    say: Callable[[str], None],
) -> Weights | None:
    """Pretrained weights where they are asked for, or where ``modern`` can have them."""
    asked, named = weights_asked(settings), weights_named(settings)
    if not asked and not weights_welcome(settings, given):
        return None
    if not asked and not named and facts.long <= SMALL:
        say(f"pictures of up to {SMALL} pixels: trained from scratch, ImageNet weights do not help there")
        return None
    return take_weights(settings, _wanted(settings, None if named else _depth(pictures, device)), say)


def weights_asked(settings: Settings) -> bool:
    """Whether the user wants pretrained weights, so that having none is an error."""
    return bool(settings.use_pretrained_model) or settings.weights is not None


def weights_welcome(settings: Settings, given: frozenset[str]) -> bool:
    """Whether the recipe takes pretrained weights when it can have them."""
    return settings.recipe == "modern" and "use_pretrained_model" not in given


def weights_named(settings: Settings) -> bool:
    """Whether a file, a folder or a name says where weights are; they may then say which network to take."""
    return bool(settings.weights or os.environ.get(VARIABLE, ""))


def take_weights(settings: Settings, wanted: NetworkHint | None, say: Callable[[str], None]) -> Weights | None:
    """Weights that fit ``wanted`` (None: any), or None, said so, where they are only welcome. Raises UserError."""
    try:
        found = find_weights(settings.weights or "", wanted, settings.weights_normalisation or "")
    except NoWeights as error:
        if weights_asked(settings):
            raise
        say(f"no pretrained weights ({error.what}): training from scratch, which needs more pictures. {error.remedy}")
        return None
    say(f"pretrained weights: {found.origin} for {found.network.label}, normalisation by {found.normalisation.source}")
    return found


def _wanted(settings: ClassificationSettings, otherwise: int | None) -> NetworkHint | None:
    """The network that weights must fit: as set, else a ResNet of depth ``otherwise``, else (None) any."""
    if settings.backbone is not None:
        return NetworkHint("timm", backbone=settings.backbone)
    layers = settings.num_layers or otherwise
    if layers is None:
        return None
    kind = "pre" if layers in SMALL_DEPTHS else "post"
    return NetworkHint("resnet", layers, "pre" if settings.resnet == "pre" or kind == "pre" else "post")


def _depth(pictures: int, device: torch.device) -> int:
    return 50 if device.type == "cuda" and pictures >= MANY else 18


def _modern(
    settings: ClassificationSettings,
    given: frozenset[str],
    facts: Facts,
    pictures: int,
    device: torch.device,
    weights: Weights | None,
    say: Callable[[str], None],
) -> ClassificationSettings:
    """Fill what ``modern`` leaves open; what was given stays."""
    tuned, small = weights is not None, facts.long <= SMALL
    shape = settings.image_shape or _shape(facts, tuned, device)
    small_shape = max(shape[1:]) <= SMALL
    layers = settings.num_layers
    if layers is None and settings.backbone is None:
        layers = weights.network.num_layers if weights is not None and weights.network.family == "resnet" else None
        layers = layers or (20 if small_shape else _depth(pictures, device))
    resize = settings.resize
    if resize is None and facts.aspect >= LONGISH:
        resize = min(shape[1:]) if small and facts.same else modern_resize(shape[1], shape[2])
    settings = replace(settings, image_shape=shape, num_layers=layers, resize=resize)
    return _teaching(settings, given, pictures, tuned, facts.short <= MIDDLE, say)


def _teaching(
    settings: ClassificationSettings,
    given: frozenset[str],
    pictures: int,
    tuned: bool,
    little: bool,
    say: Callable[[str], None],
) -> ClassificationSettings:
    """Fill how long, how fast and on what variations a network learns; ``little`` pictures are varied by pad_crop."""
    batch = settings.mini_batch_size or _batch(pictures, tuned)
    optimizer = settings.optimizer or ("adamw" if tuned else "nag")
    seen, (fewest, most) = (TUNED_SEEN, TUNED_EPOCHS) if tuned else (SCRATCH_SEEN, SCRATCH_EPOCHS)
    epochs = settings.epochs or max(fewest, min(most, round(seen / pictures)))
    augmentation = settings.augmentation_type or ("pad_crop" if little else "random_resized_crop")
    rate = _rate(optimizer, batch, tuned) if settings.learning_rate is None else settings.learning_rate
    decay = settings.weight_decay
    if decay is None:
        decay = {"adamw": 0.05, "adam": 0.0, "rmsprop": 0.0}.get(optimizer, 5e-4)
    limit = " at most" if settings.max_minutes else ""
    say(
        f"{optimizer}, learning rate {rate:g}, batches of {batch}, {epochs} epoch{'s' * (epochs != 1)}{limit}, "
        f"augmentation {augmentation}"
    )
    return replace(
        settings,
        mini_batch_size=batch,
        optimizer=optimizer,
        learning_rate=rate,
        weight_decay=decay,
        epochs=epochs,
        augmentation_type=augmentation,
        lr_schedule=schedule_for(settings, given),
    )


def schedule_for(settings: Settings, given: frozenset[str]) -> Literal["step", "cosine", "one_cycle"]:
    """A run that has to end in time gets ``one_cycle``."""
    return "one_cycle" if settings.max_minutes and "lr_schedule" not in given else settings.lr_schedule


def _shape(facts: Facts, tuned: bool, device: torch.device) -> tuple[int, int, int]:
    if tuned:
        return (3, SIDE_PRETRAINED, SIDE_PRETRAINED)
    channels = 1 if facts.grey else 3
    if facts.long <= SMALL and facts.same:
        return (channels, facts.height, facts.width)
    if facts.short <= MIDDLE:
        side = max(SMALL, -(-facts.short // 8) * 8)
        return (channels, side, side)
    side = SIDE_CPU if device.type == "cpu" else SIDE_CARD
    return (channels, side, side)


def _batch(pictures: int, tuned: bool) -> int:
    """Small sets want many updates; large ones fill the machine."""
    if pictures < 2_000:
        return 16
    return 32 if tuned else 64


def _rate(optimizer: str, batch: int, tuned: bool) -> float:
    """Linear in the batch for sgd and nag, with its root for the adaptive ones (Granziol et al. 2022)."""
    if optimizer in ("sgd", "nag"):
        return (0.01 if tuned else 0.1) * batch / 128 * (8 if tuned else 1)
    base = 5e-4 if tuned else 1e-3
    return float(base * (batch / 32) ** 0.5)


def _network(settings: ClassificationSettings, num_classes: int, weights: Weights | None) -> NetworkSpec:
    assert settings.image_shape is not None
    shape = settings.image_shape
    if weights is not None:
        return network_for(weights, num_classes, shape)
    if settings.backbone is not None:
        mean, std = centred(shape[0])
        return NetworkSpec("timm", num_classes, shape, backbone=settings.backbone, mean=mean, std=std)
    assert settings.num_layers is not None
    original = settings.recipe == "original"
    otherwise: Kind = "pre" if original or settings.num_layers in SMALL_DEPTHS else "post"
    kind = settings.resnet or otherwise
    plan_resnet(settings.num_layers, kind, shape[1], extended=not original)  # raises for a depth that is not there
    if kind == "pre":  # begins with a BatchNorm and takes raw pixels
        return NetworkSpec("resnet", num_classes, shape, settings.num_layers, "pre")
    mean, std = centred(shape[0])
    return NetworkSpec("resnet", num_classes, shape, settings.num_layers, "post", mean=mean, std=std)


def centred(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Pixels to about -1..1, for networks that do not begin with a BatchNorm."""
    return (127.5,) * channels, (63.75,) * channels


def _rule(settings: ClassificationSettings, facts: Facts) -> Preprocessing:
    assert settings.image_shape is not None
    channels, height, width = settings.image_shape
    modern = settings.recipe == "modern"
    kind: Literal["crop", "squeeze"] = (
        "squeeze" if modern and settings.resize is None and facts.aspect < LONGISH else "crop"
    )
    return Preprocessing(kind, channels, height, width, settings.resize, modern, settings.tta_flip)


def _several_line(settings: ClassificationSettings) -> list[str]:
    """What several labels a picture mean for a run, in a line."""
    if not settings.multi_label:
        return []
    best = "mAP" if settings.recipe == "modern" else "accuracy over all decisions"
    return [f"multi_label: each picture has any number of classes; epochs are compared by {best}"]


def _incremental(
    settings: ClassificationSettings, given: frozenset[str], num_classes: int, pictures: int, earlier: Artifact
) -> Resolved:
    """Network and preprocessing of the earlier artifact; a setting that contradicts them is an error."""
    before = earlier.settings
    for name in ("num_layers", "image_shape", "backbone", "resnet"):
        value, old = getattr(settings, name), before.get(name)
        old = tuple(old) if isinstance(old, list) else old
        if name in given and value is not None and value != old:
            raise UserError(
                f"{name}={value} was given, but the earlier model has {old}",
                "model",
                f"Leave {name} out: incremental training goes on with the earlier network.",
                name,
            )
    if bool(before.get("multi_label")) != bool(settings.multi_label):
        told = ("any number of labels a picture", "one label a picture")
        told = told if before.get("multi_label") else told[::-1]
        raise UserError(
            f"the earlier model gives {told[0]}, and this run is for {told[1]}",
            "model",
            f"Set multi_label={int(bool(before.get('multi_label')))} with data that fits it, or train anew.",
            "multi_label",
        )
    spec = replace(NetworkSpec.from_dict(earlier.network), num_classes=num_classes)
    rule = Preprocessing.from_dict(earlier.preprocessing)
    rule = replace(rule, tta_flip=settings.tta_flip) if "tta_flip" in given else rule
    settings = replace(settings, tta_flip=rule.tta_flip)
    shape = (rule.channels, rule.height, rule.width)
    settings = replace(settings, image_shape=shape, resize=rule.resize, num_layers=before.get("num_layers"))
    said = [f"going on from the earlier model: {spec.label}, pictures of {shape[1]} x {shape[2]} pixels"]
    said += _several_line(settings)
    if settings.recipe == "modern":
        settings = _teaching(settings, given, pictures, True, max(shape[1:]) <= MIDDLE, said.append)
    return Resolved(settings, spec, rule, None, tuple(said))
