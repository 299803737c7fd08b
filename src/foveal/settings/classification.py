"""Hyperparameters of image classification. Names, ranges and original defaults: reference 1.2, all 29."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from foveal.errors import UserError
from foveal.kinds import LARGEST_SIDE, choice, depth, flag, number, pattern, shape, text, whole
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
    multi_label: bool | None = theirs(flag(), False, "any number of labels a picture", modern=None)
    num_layers: int | None = theirs(
        depth(18, 34, 50, 101, 152, 200, *SMALL_DEPTHS), 152, "depth of the ResNet", modern=None
    )
    optimizer: str | None = theirs(
        choice("sgd", "adam", "rmsprop", "nag", ours=("adamw",)), "sgd", "how weights follow gradients", modern=None
    )
    precision_dtype: str = theirs(choice("float32", "float16"), "float32", "float16: mixed precision where it pays")
    resize: int | None = theirs(whole(1, LARGEST_SIDE), None, "pixels of a picture's shorter side before it is cropped")
    top_k: int | None = theirs(whole(2, 1_000_000), None, "count as well whether the class is among the k likeliest")
    use_weighted_loss: bool = theirs(flag(), False, "weigh classes by their frequency; only with multi_label=1")
    weight_decay: float | None = theirs(
        number(0, 1), 0.0001, "pull of the weights towards zero (sgd, nag, adamw)", modern=None
    )

    resnet: Literal["pre", "post"] | None = ours(
        choice(ours=("pre", "post")), None, "ResNet as the original's or torchvision's"
    )
    backbone: str | None = ours(text("the name of a timm network"), None, "a timm network instead of a ResNet")
    calibrate: bool = ours(
        flag(), False, "fit a temperature on the validation pictures, so that confidences mean something", modern=True
    )
    tta_flip: bool = ours(flag(), False, "when asked, answer for a picture and its mirror image together")
    mixup: float = ours(number(0, 100), 0.0, "blend each training picture with another one; alpha, 0: off")
    cutmix: float = ours(number(0, 100), 0.0, "paste a part of another picture into each one; alpha, 0: off")
    random_erasing: float = ours(number(0, 1), 0.0, "share of the training pictures that lose a rectangle to noise")
    label_smoothing: float = ours(number(0, 1, below=True), 0.0, "share of a label that is spread over all classes")
    class_weights: Literal["none", "auto"] = ours(
        choice(ours=("none", "auto")), "none", "auto: each class weighs the same, however rare; one label a picture"
    )
    layer_decay: float = ours(
        number(0, 1, above=True), 1.0, "learning rate of each layer as a share of the next one's; 1: the same for all"
    )
    freeze_layer_pattern: str | None = ours(
        pattern(), None, "parameters whose names match from the start, the original's or ours, are not trained"
    )


def check_classification(settings: ClassificationSettings, given: Mapping[str, object]) -> list[str]:
    """A line for each given setting that does nothing, and for each that is probably not meant so.

    Args:
        given: setting -> its value as it was read, of those that the user gave.

    Raises:
        UserError: for settings that are right one by one and do not go together.
    """
    refuse_together(settings)
    return [*_idle(settings, given), *_doubts(settings)]


def refuse_together(settings: ClassificationSettings) -> None:
    """Raises UserError for settings that are right one by one and do not go together."""
    if settings.multi_label and settings.top_k is not None:
        raise UserError(
            f"top_k={settings.top_k} is not possible with multi_label=1", "", "Leave one of the two out.", "top_k"
        )
    if settings.multi_label and settings.class_weights == "auto":
        raise UserError(
            "class_weights=auto is for one label a picture, and multi_label is 1",
            "",
            "Set use_weighted_loss=1 instead, which weighs each class of several labels.",
            "class_weights",
        )
    if settings.tta_flip and not settings.flip:
        raise UserError(
            "tta_flip=1 shows the network mirror images, and flip=0 says that pictures may not be mirrored",
            "",
            "Leave one of the two out.",
            "tta_flip",
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
        (settings.multi_label is False, ("use_weighted_loss",), "multi_label is 0"),
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
