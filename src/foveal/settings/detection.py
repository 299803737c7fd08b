"""Hyperparameters of object detection. Names, ranges and original defaults: reference 1.3, all 22, and nms_topk.

The original's optimizers have no further settings here: adam, rmsprop and adadelta take MXNet's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from foveal.kinds import LARGEST_SIDE, choice, flag, network_name, number, pattern, side, whole
from foveal.settings.table import Settings, idle_lines, ours, refuse_idle_checkpoints, shared_rules, shown, theirs

SMALLEST_SIDE = 300  # pixels; below it SSD's last layers have no room
SMALLEST_TILE = 64  # pixels


@dataclass(frozen=True, kw_only=True)
class DetectionSettings(Settings):
    """All settings of a detection run. The defaults here are the original's; yes-or-no settings are bools."""

    ALGORITHM: ClassVar[str] = "object-detection"
    DECAYED: ClassVar[tuple[str, ...]] = ("sgd", "rmsprop", "nag", "adamw")  # the guide: sgd and rmsprop only

    base_network: str | None = theirs(
        network_name("vgg-16", "resnet-50"), "vgg-16", "the network that finds features", modern=None
    )
    freeze_layer_pattern: str | None = theirs(
        pattern(), None, "parameters whose names match from the start, the original's or ours, are not trained"
    )
    image_shape: int | None = theirs(
        side(SMALLEST_SIDE), 300, "pictures are forced to a square of so many pixels", modern=None
    )
    label_width: int = theirs(
        whole(1), 350, "numbers of the longest label; longer ones are taken too, and room is made for them"
    )
    learning_rate: float | None = theirs(number(0, 1, above=True), 0.001, "step length of the optimizer", modern=None)
    lr_scheduler_factor: float = theirs(
        number(0, 1, above=True, below=True), 0.1, "multiplies the learning rate at each lr_scheduler_step"
    )
    nms_threshold: float = theirs(
        number(0, 1, above=True), 0.45, "of two boxes of a class that overlap so much (IoU) the less sure one goes"
    )
    nms_topk: int = theirs(whole(1), 400, "surest boxes of a picture that are looked at; the rest goes")
    optimizer: str | None = theirs(
        choice("sgd", "adam", "rmsprop", "adadelta", ours=("nag", "adamw")),
        "sgd",
        "how weights follow gradients",
        modern=None,
    )
    overlap_threshold: float = theirs(
        number(0, 1, above=True), 0.5, "overlap (IoU) above which a found box counts as right when it is judged"
    )
    # the guide leaves 0 out of the range, and has it in its tuning ranges (reference 1.4)
    weight_decay: float | None = theirs(
        number(0, 1, below=True), 0.0005, "pull of the weights towards zero (sgd, rmsprop, nag, adamw)", modern=None
    )

    loss_shares: Literal["batch", "device"] = ours(
        choice(ours=("batch", "device")),
        "batch",
        "several processes: divide losses by all their anchors, or each by its own",
    )
    strict: bool = ours(flag(), True, "refuse unknown hyperparameters instead of warning", modern=False)
    resnet: Literal["pre", "post"] | None = ours(
        choice(ours=("pre", "post")), None, "resnet-50 as the original's or torchvision's"
    )
    head: Literal["ssd", "pyramid"] = ours(
        choice(ours=("ssd", "pyramid")), "ssd", "what turns features into boxes: the original's, or a feature pyramid"
    )
    augmentation_type: str = ours(choice(ours=("ssd", "none")), "ssd", "how training pictures are varied")
    negatives_per_empty_picture: int = ours(
        whole(0), 0, "anchors that a picture without objects teaches not to answer; 0: it teaches nothing", modern=32
    )
    mosaic: float = ours(
        number(0, 1), 0.0, "share of the training pictures that are put together of four; none in the last epochs"
    )
    multi_scale: float = ours(
        number(0, 0.75), 0.0, "train at other sides too, a step each: smaller and larger by up to this share"
    )
    tile_size: int | None = ours(
        whole(SMALLEST_TILE, LARGEST_SIDE), None, "large pictures are cut into squares of so many pixels (tiles)"
    )
    tile_overlap: float = ours(number(0, 1, below=True), 0.2, "share of its side by which a tile overlaps the next one")
    class_weights: Literal["none", "auto"] = ours(
        choice(ours=("none", "auto")), "none", "auto: objects of each class weigh the same together, however rare"
    )
    ap_form: Literal["area", "11-point"] = ours(
        choice(ours=("area", "11-point")), "area", "average precision as an area, or by 11 points as in VOC 2007"
    )
    precision_dtype: str = ours(
        choice(ours=("float32", "float16")), "float32", "float16: mixed precision where it pays"
    )
    checkpoint_frequency: int | None = ours(
        whole(1), None, "keep the weights of every so many epochs; else only the best epoch's"
    )


def check_detection(settings: DetectionSettings, given: Mapping[str, object], typed: Mapping[str, object]) -> list[str]:
    """A line for each given setting that does nothing, and for each that is probably not meant so.

    Args:
        given: setting -> its value as it was read, of those that the user gave. typed: the same before reading.

    Raises:
        UserError: for settings that are right one by one and do not go together.
    """
    refuse_idle_checkpoints(settings)
    adadelta, rated = settings.optimizer == "adadelta", ("learning_rate", "lr_scheduler_step", "warmup_epochs")
    network = settings.base_network
    rules = [
        *shared_rules(settings),
        (adadelta, rated, "optimizer=adadelta has no learning rate"),
        (network not in ("resnet-50", None), ("resnet",), f"base_network={network} is the network"),
        (settings.tile_size is None, ("tile_overlap",), "without tile_size there are no tiles"),
        (settings.augmentation_type == "none", ("flip", "mosaic"), "augmentation_type=none varies nothing"),
        (
            settings.head == "pyramid",
            ("negatives_per_empty_picture",),
            "with head=pyramid all places learn in all pictures",
        ),
    ]
    side = typed.get("image_shape")
    form = [f"image_shape={shown(side)} is classification's form: read as {settings.image_shape}"]
    return [*idle_lines(rules, given), *(form if isinstance(side, list | tuple) or "," in str(side) else [])]
