"""Hyperparameters of image classification. Names, ranges and original defaults: reference 1.2, all 29."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from foveal.errors import UserError
from foveal.kinds import LARGEST_SIDE, choice, depth, flag, number, shape, text, whole
from foveal.settings.table import Settings, idle_lines, ours, refuse_idle_checkpoints, shared_rules, shown, theirs

SMALL_DEPTHS = (20, 32, 44, 56, 110)  # networks for small pictures


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings(Settings):
    """All settings of a classification run. The defaults here are the original's; yes-or-no settings are bools."""

    ALGORITHM: ClassVar[str] = "image-classification"
    DECAYED: ClassVar[tuple[str, ...]] = ("sgd", "nag", "adamw")  # the guide: sgd and nag only; adamw is ours

    augmentation_type: str | None = theirs(
        choice("crop", "crop_color", "crop_color_transform", ours=("none", "pad_crop", "random_resized_crop")),
        "none",
        "how training pictures are varied; none: centre crop",
        modern=None,
    )
    beta_1: float = theirs(number(0, 1), 0.9, "decay of the first moment (adam, adamw)")
    beta_2: float = theirs(number(0, 1), 0.999, "decay of the second moment (adam, adamw)")
    checkpoint_frequency: int | None = theirs(
        whole(1), None, "keep the weights of every so many epochs; else only the best epoch's"
    )
    eps: float = theirs(number(0, 1), 1e-8, "small number that keeps divisions finite (adam, adamw, rmsprop)")
    gamma: float = theirs(number(0, 1), 0.9, "decay of the squared gradient (rmsprop)")
    image_shape: tuple[int, int, int] | None = theirs(
        shape(), (3, 224, 224), "what the network takes: channels,height,width", modern=None
    )
    learning_rate: float | None = theirs(number(0, 1), 0.1, "step length of the optimizer", modern=None)
    lr_scheduler_factor: float = theirs(number(0, 1), 0.1, "multiplies the learning rate at each lr_scheduler_step")
    multi_label: bool = theirs(flag(), False, "several labels a picture; comes with a later version")
    num_layers: int | None = theirs(
        depth(18, 34, 50, 101, 152, 200, *SMALL_DEPTHS), 152, "depth of the ResNet", modern=None
    )
    optimizer: str | None = theirs(
        choice("sgd", "adam", "rmsprop", "nag", ours=("adamw",)), "sgd", "how weights follow gradients", modern=None
    )
    precision_dtype: str = theirs(choice("float32", "float16"), "float32", "float16: mixed precision where it pays")
    resize: int | None = theirs(whole(1, LARGEST_SIDE), None, "pixels of a picture's shorter side before it is cropped")
    top_k: int | None = theirs(whole(2, 1_000_000), None, "count as well whether the class is among the k likeliest")
    use_weighted_loss: bool = theirs(flag(), False, "weigh classes by their frequency; only with multi_label")
    weight_decay: float | None = theirs(
        number(0, 1), 0.0001, "pull of the weights towards zero (sgd, nag, adamw)", modern=None
    )

    resnet: Literal["pre", "post"] | None = ours(
        choice(ours=("pre", "post")), None, "ResNet as the original's or torchvision's"
    )
    backbone: str | None = ours(text("the name of a timm network"), None, "a timm network instead of a ResNet")


def check_classification(settings: ClassificationSettings, given: Mapping[str, object]) -> list[str]:
    """A line for each given setting that does nothing, and for each that is probably not meant so.

    Args:
        given: setting -> its value as it was read, of those that the user gave.

    Raises:
        UserError: for settings that are right one by one and do not go together.
    """
    _refuse(settings)
    return [*_idle(settings, given), *_doubts(settings)]


def _refuse(settings: ClassificationSettings) -> None:
    if settings.multi_label and settings.top_k is not None:
        raise UserError(
            f"top_k={settings.top_k} is not possible with multi_label=1", "", "Leave one of the two out.", "top_k"
        )
    for name in ("multi_label", "use_weighted_loss"):
        if getattr(settings, name):
            raise UserError(
                f"{name}=1: multi-label comes with a later version of Foveal",
                "",
                f"Leave {name} out, and give each picture one label.",
                name,
            )
    refuse_idle_checkpoints(settings)
    if settings.resnet == "post" and settings.num_layers in SMALL_DEPTHS and settings.backbone is None:
        raise UserError(
            f"resnet=post is not possible with num_layers={settings.num_layers}: networks of that depth are always pre",
            "",
            "Leave resnet out, or set num_layers to 18, 34, 50, 101, 152 or 200.",
            "resnet",
        )


def _idle(settings: ClassificationSettings, given: Mapping[str, object]) -> list[str]:
    optimizer, without = settings.optimizer, f"optimizer={settings.optimizer} does not use it"
    rules = [
        *shared_rules(settings),
        (optimizer not in ("adam", "adamw", None), ("beta_1", "beta_2"), without),
        (optimizer not in ("adam", "adamw", "rmsprop", None), ("eps",), without),
        (optimizer not in ("rmsprop", None), ("gamma",), without),
        (settings.backbone is not None, ("num_layers", "resnet"), f"backbone={settings.backbone} is the network"),
    ]
    return idle_lines(rules, given)


def _doubts(settings: ClassificationSettings) -> list[str]:
    lines = []
    if settings.resize is not None and settings.image_shape and settings.resize < max(settings.image_shape[1:]):
        lines.append(
            f"resize={settings.resize} is smaller than a side of image_shape={shown(settings.image_shape)}: "
            "pictures are enlarged again before the crop"
        )
    if settings.top_k is not None and settings.num_classes is not None and settings.top_k >= settings.num_classes:
        lines.append(f"top_k={settings.top_k} with num_classes={settings.num_classes} counts every picture as right")
    return lines
