"""Hyperparameters of image classification: one table with type, range, defaults and meaning; parsing and checking.

Names, ranges and original defaults are those of SageMaker's Image Classification (reference 1.2, all 29); what Foveal
adds is marked ``ours``. A recipe is a column of defaults: ``original`` holds the original's, ``modern`` ours. There a
default of None means: decided from pictures, weights and device before training; a few settings are None in both
columns, meaning "not used" (``resize``, ``top_k``, ...). What the user gives always wins.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, Literal

from foveal.errors import UserError
from foveal.kinds import LARGEST_SIDE, Kind, choice, depth, epoch_list, flag, number, shape, text, whole

ORIGINAL, MODERN = "original", "modern"
REQUIRED = ("num_classes", "num_training_samples")  # in the original; ours counts them in the data
EMA_AUTO = -1.0  # what ``ema_decay=auto`` is read as: the decay follows the length of the run
SMALL_DEPTHS = (20, 32, 44, 56, 110)  # networks for small pictures
CAUSE = " (caused by ValidationError)"  # ends the original's texts
_SAME: Any = object()


def theirs(kind: Kind, default: Any, meaning: str, modern: Any = _SAME) -> Any:
    """A row of the table: a setting of the original; ``modern`` is its default in that recipe where it differs."""
    row = {"kind": kind, "meaning": meaning, "ours": False, "modern": default if modern is _SAME else modern}
    return field(default=default, metadata=row)


def ours(kind: Kind, default: Any, meaning: str, modern: Any = _SAME) -> Any:
    """A row of the table: a setting that the original does not have."""
    row = {"kind": kind, "meaning": meaning, "ours": True, "modern": default if modern is _SAME else modern}
    return field(default=default, metadata=row)


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings:
    """All settings of a classification run. The defaults here are the original's; yes-or-no settings are bools."""

    num_classes: int | None = theirs(whole(1, 1_000_000), None, "number of classes; labels are 0 to num_classes-1")
    num_training_samples: int | None = theirs(whole(1, 10**12), None, "training pictures; the real count is used")
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
    early_stopping: bool = theirs(flag("False", "True"), False, "stop when validation accuracy no longer improves")
    early_stopping_min_epochs: int = theirs(whole(1), 10, "epochs before early stopping may act")
    early_stopping_patience: int = theirs(whole(1), 5, "epochs in a row without improvement that end the run")
    early_stopping_tolerance: float = theirs(number(0, 1), 0.0, "relative improvement that counts as one")
    epochs: int | None = theirs(whole(1, 1_000_000), 30, "passes over the training pictures", modern=None)
    eps: float = theirs(number(0, 1), 1e-8, "small number that keeps divisions finite (adam, adamw, rmsprop)")
    gamma: float = theirs(number(0, 1), 0.9, "decay of the squared gradient (rmsprop)")
    image_shape: tuple[int, int, int] | None = theirs(
        shape(), (3, 224, 224), "what the network takes: channels,height,width", modern=None
    )
    kv_store: str | None = theirs(choice("dist_sync", "dist_async"), None, "how several machines share weights")
    learning_rate: float | None = theirs(number(0, 1), 0.1, "step length of the optimizer", modern=None)
    lr_scheduler_factor: float = theirs(number(0, 1), 0.1, "multiplies the learning rate at each lr_scheduler_step")
    lr_scheduler_step: tuple[int, ...] | None = theirs(
        epoch_list(), None, "epochs at which the learning rate drops, such as 10,20"
    )
    mini_batch_size: int | None = theirs(whole(1, 1_000_000), 32, "pictures of one step", modern=None)
    momentum: float = theirs(number(0, 1), 0.9, "share of the last step that goes on (sgd, nag)")
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
    use_pretrained_model: bool | None = theirs(flag(), False, "start from ImageNet weights", modern=None)
    use_weighted_loss: bool = theirs(flag(), False, "weigh classes by their frequency; only with multi_label")
    weight_decay: float | None = theirs(
        number(0, 1), 0.0001, "pull of the weights towards zero (sgd, nag, adamw)", modern=None
    )

    recipe: str = ours(choice(ours=(ORIGINAL, MODERN)), ORIGINAL, "which defaults", modern=MODERN)
    seed: int = ours(whole(0, 2**63 - 1), 0, "decides order, augmentation and first weights")
    strict: bool = ours(flag(), False, "refuse unknown hyperparameters instead of warning")
    device: str = ours(choice(ours=("auto", "cpu", "cuda", "mps")), "auto", "where the network is trained")
    loader_workers: int | None = ours(whole(0, 256, auto=True), None, "threads that decode pictures; auto: by cores")
    cache_pictures: bool | None = ours(flag(auto=True), None, "keep decoded pictures in memory; auto: when they fit")
    validation_fraction: float = ours(
        number(0, 1, below=True), 0.0, "share of the pictures held back when no validation data is given", modern=0.15
    )
    resnet: Literal["pre", "post"] | None = ours(
        choice(ours=("pre", "post")), None, "ResNet as the original's or torchvision's"
    )
    backbone: str | None = ours(text("the name of a timm network"), None, "a timm network instead of a ResNet")
    weights: str | None = ours(text("a file, a folder or a hub name"), None, "pretrained weights to start from")
    weights_normalisation: str | None = ours(
        choice(ours=("imagenet", "caffe", "half", "raw")), None, "how the weights want pixels, where they do not say it"
    )
    lr_schedule: Literal["step", "cosine", "one_cycle"] = ours(
        choice(ours=("step", "cosine", "one_cycle")), "step", "course of the learning rate", modern="cosine"
    )
    warmup_epochs: float = ours(number(0, 1e6), 0.0, "epochs in which the learning rate rises", modern=1.0)
    ema_decay: float | None = ours(
        number(0, 1, below=True, auto=EMA_AUTO), None, "moving average of the weights; 0: none", modern=EMA_AUTO
    )
    clip_gradient: float | None = ours(number(0, 1e9, above=True), None, "longest gradient (norm) of a step")
    flip: bool = ours(flag(), True, "augmentation may mirror; 0 for texts and digits")
    max_minutes: float | None = ours(number(0, 525_600, above=True), None, "plan the epochs to fit this time")
    checkpoint_seconds: float = ours(number(0, 1e9), 60.0, "time between checkpoints")
    checkpoint_steps: int | None = ours(whole(1), None, "a checkpoint every so many steps, besides")
    log_steps: int = ours(whole(1), 20, "steps between two lines of metrics.jsonl")
    bad_records_limit: float = ours(number(0, 1), 0.05, "share of unreadable pictures beyond which the run stops")

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON-able values; tuples become lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ClassificationSettings:
        """What ``to_dict`` gave; settings it lacks take their recipe's default. Raises UserError for wrong ones."""
        unknown = sorted(set(stored) - set(NAMES))
        if unknown:
            raise UserError(
                f"unknown: {', '.join(unknown)}", "stored settings", "A newer Foveal wrote them: update Foveal."
            )
        column = defaults(str(stored.get("recipe", ORIGINAL)))
        given = {name: _read(name, value, column["recipe"]) for name, value in stored.items() if value is not None}
        return cls(**{**column, **{name: None for name in stored if stored[name] is None}, **given})


ROWS: tuple[Field[Any], ...] = fields(ClassificationSettings)
NAMES = tuple(row.name for row in ROWS)
OURS = frozenset(row.name for row in ROWS if row.metadata["ours"])
KINDS: dict[str, Kind] = {row.name: row.metadata["kind"] for row in ROWS}


@dataclass(frozen=True)
class Parsed:
    """Settings, the names of those that the user gave, and a line for each doubt about them."""

    settings: ClassificationSettings
    given: frozenset[str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Described:
    """A row of the table in words.

    ``default`` is as one would type it, "" where there is none, "chosen" where the recipe decides it from the data.
    """

    name: str
    type: str
    allowed: str
    default: str
    meaning: str
    ours: bool


def defaults(recipe: str) -> dict[str, Any]:
    """The recipe's column: setting -> value. Raises UserError for an unknown recipe."""
    column = _read("recipe", recipe, recipe)
    return {row.name: row.default if column == ORIGINAL else row.metadata["modern"] for row in ROWS}


def describe_settings(recipe: str) -> list[Described]:
    """The table with the recipe's defaults, for help and documentation."""
    column = defaults(recipe)
    return [
        Described(
            row.name,
            KINDS[row.name].type,
            KINDS[row.name].allowed,
            "chosen" if column[row.name] is None and row.default is not None else _typed_as(row.name, column[row.name]),
            row.metadata["meaning"],
            row.name in OURS,
        )
        for row in ROWS
    ]


def _typed_as(name: str, value: Any) -> str:
    if value is None or value == EMA_AUTO:
        return "auto" if "auto" in KINDS[name].allowed and (value is not None or name != "ema_decay") else ""
    if isinstance(value, bool):
        return KINDS[name].allowed.split(", ")[int(value)]
    return f"{value:g}" if isinstance(value, float) else _shown(value)


def parse_settings(
    given: Mapping[str, object],
    *,
    recipe: str,
    algorithm: str = "image-classification",
    strict: bool = False,
    required: bool = False,
) -> Parsed:
    """Settings from what a person, a file or a program gave.

    Args:
        given: setting -> string or typed value. None and "" mean "not given"; names that begin with "_" are
            SageMaker's own and skipped.
        recipe: ``original`` or ``modern``; a ``recipe`` among the given settings wins.
        algorithm: only ``image-classification`` so far.
        strict: unknown names are an error and not a warning; so does ``strict`` among the given settings.
        required: ``num_classes`` and ``num_training_samples`` must be given, as the original demands.

    Raises:
        UserError: for a missing, unknown (strict) or wrong setting, its text the original's where that is known.
    """
    assert algorithm == "image-classification", algorithm
    wanted = {name: value for name, value in given.items() if value is not None and value != ""}
    column = defaults(str(wanted.get("recipe", recipe)))
    unknown = [name for name in wanted if name not in NAMES and not name.startswith("_")]
    if required:
        _demand([name for name in REQUIRED if name not in wanted], unknown)
    values = {name: _read(name, wanted[name], column["recipe"]) for name in NAMES if name in wanted}
    if unknown and (strict or values.get("strict", False)):
        raise _unexpected(unknown)
    warnings = [f"unknown hyperparameter {name!r} is ignored{_guess(name)}" for name in unknown]
    settings = ClassificationSettings(**{**column, **values})
    if settings.lr_scheduler_step and settings.lr_schedule != "step" and "lr_schedule" not in values:
        warnings.append(f"lr_scheduler_step is given: lr_schedule is step here, not {settings.lr_schedule}")
        settings = replace(settings, lr_schedule="step")
    _refuse(settings)
    return Parsed(settings, frozenset(values), (*warnings, *_idle(settings, values), *_doubts(settings)))


def _read(name: str, value: object, recipe: str) -> Any:
    """Read one value. Raises UserError whose first line is the original's, with its values only, in its recipe."""
    kind = KINDS[name]
    try:
        return kind.read(value)
    except (ValueError, OverflowError):
        shown = _shown(value)
        rule = kind.original_rule + CAUSE if recipe == ORIGINAL and name not in OURS else kind.rule
        what = f"The value '{shown}' is not valid for the '{name}' hyperparameter which {rule}"
        raise UserError(what, "", kind.remedy(name, shown), name) from None


def _shown(value: object) -> str:
    words = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    words = words if words.isprintable() else ascii(words)[1:-1]
    return words if len(words) <= 80 else words[:77] + "..."


def _guess(name: str, before: str = "; did you mean ", after: str = "?") -> str:
    near = difflib.get_close_matches(name.lower(), NAMES, 1, 0.6)
    return f"{before}{near[0]!r}{after}" if near else ""


def _demand(missing: list[str], unknown: list[str]) -> None:
    if missing:
        near = "".join(_guess(name, f" {name!r} is not known; did you mean ") for name in unknown)
        raise UserError(
            f"Missing required hyperparameters: {', '.join(missing)}",
            "",
            f"Set {' and '.join(missing)} in the job's hyperparameters.{near}",
            missing[0],
        )


def _unexpected(unknown: list[str]) -> UserError:
    names = ", ".join(f"'{name}'" for name in unknown)
    near = "".join(_guess(name, f"For {name!r} did you mean ", "? ") for name in unknown)
    return UserError(
        f"Additional properties are not allowed ({names} {'was' if len(unknown) == 1 else 'were'} unexpected)",
        "",
        f"{near}Correct or remove {'it' if len(unknown) == 1 else 'them'}, or set strict=0 to be warned only.",
        unknown[0],
    )


def _refuse(settings: ClassificationSettings) -> None:
    """Settings that are right one by one and do not go together."""
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
    frequency, epochs = settings.checkpoint_frequency, settings.epochs
    if frequency is not None and epochs is not None and frequency > epochs:
        raise UserError(
            f"checkpoint_frequency={frequency} is more than epochs={epochs}: no epoch would be kept",
            "",
            f"Set checkpoint_frequency to 1 to {epochs}, or leave it out to keep the best epoch.",
            "checkpoint_frequency",
        )
    if settings.resnet == "post" and settings.num_layers in SMALL_DEPTHS and settings.backbone is None:
        raise UserError(
            f"resnet=post is not possible with num_layers={settings.num_layers}: networks of that depth are always pre",
            "",
            "Leave resnet out, or set num_layers to 18, 34, 50, 101, 152 or 200.",
            "resnet",
        )


def _idle(settings: ClassificationSettings, values: Mapping[str, object]) -> list[str]:
    """A line for each given setting that does nothing in this run."""
    optimizer, without = settings.optimizer, f"optimizer={settings.optimizer} does not use it"
    stopping = ("early_stopping_min_epochs", "early_stopping_patience", "early_stopping_tolerance")
    drops = settings.lr_schedule == "step" and settings.lr_scheduler_step is not None
    rules: list[tuple[bool, tuple[str, ...], str]] = [
        (not settings.early_stopping, stopping, "early_stopping is False"),
        (optimizer not in ("sgd", "nag", None), ("momentum",), without),
        (optimizer not in ("adam", "adamw", None), ("beta_1", "beta_2"), without),
        (optimizer not in ("adam", "adamw", "rmsprop", None), ("eps",), without),
        (optimizer not in ("rmsprop", None), ("gamma",), without),
        (optimizer in ("adam", "rmsprop"), ("weight_decay",), without),
        (settings.lr_schedule != "step", ("lr_scheduler_step",), f"lr_schedule is {settings.lr_schedule}"),
        (not drops, ("lr_scheduler_factor",), "no lr_scheduler_step is in use"),
        (settings.backbone is not None, ("num_layers", "resnet"), f"backbone={settings.backbone} is the network"),
        (True, ("kv_store",), "one machine trains"),
    ]
    return [
        f"{name}={_shown(values[name])} has no effect: {reason}"
        for applies, names, reason in rules
        for name in names
        if applies and name in values
    ]


def _doubts(settings: ClassificationSettings) -> list[str]:
    """A line for each setting that works and is probably not meant so."""
    lines = []
    if settings.resize is not None and settings.image_shape and settings.resize < max(settings.image_shape[1:]):
        lines.append(
            f"resize={settings.resize} is smaller than a side of image_shape={_shown(settings.image_shape)}: "
            "pictures are enlarged again before the crop"
        )
    if settings.top_k is not None and settings.num_classes is not None and settings.top_k >= settings.num_classes:
        lines.append(f"top_k={settings.top_k} with num_classes={settings.num_classes} counts every picture as right")
    return lines
