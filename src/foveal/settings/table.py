"""What the tables of both algorithms share: how a row is written, the rows that mean the same in both, stored forms.

A row has a kind (type and range), the original's default, its meaning, and the default of recipe ``modern`` where that
differs; what Foveal adds is marked ``ours``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, Self

from foveal.errors import UserError
from foveal.kinds import Kind, choice, epoch_list, flag, number, text, whole

ORIGINAL, MODERN = "original", "modern"
REQUIRED = ("num_classes", "num_training_samples")  # in the original; ours counts them in the data
EMA_AUTO = -1.0  # what ``ema_decay=auto`` is read as: the decay follows the length of the run
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
class Settings:
    """The rows that both tables have. Those without a value here differ in range or default: each table has its own.

    The defaults are the original's; yes-or-no settings are bools.
    """

    ALGORITHM: ClassVar[str]
    DECAYED: ClassVar[tuple[str, ...]]
    """The optimizers that heed ``weight_decay``."""

    num_classes: int | None = theirs(whole(1, 1_000_000), None, "number of classes; labels are 0 to num_classes-1")
    num_training_samples: int | None = theirs(whole(1, 10**12), None, "training pictures; the real count is used")
    early_stopping: bool = theirs(flag("False", "True"), False, "stop when the validation figure no longer improves")
    early_stopping_min_epochs: int = theirs(whole(1), 10, "epochs before early stopping may act")
    early_stopping_patience: int = theirs(whole(1), 5, "epochs in a row without improvement that end the run")
    early_stopping_tolerance: float = theirs(number(0, 1), 0.0, "relative improvement that counts as one")
    epochs: int | None = theirs(whole(1, 1_000_000), 30, "passes over the training pictures", modern=None)
    kv_store: str | None = theirs(choice("dist_sync", "dist_async"), None, "how several machines share weights")
    lr_scheduler_step: tuple[int, ...] | None = theirs(
        epoch_list(), None, "epochs at which the learning rate drops, such as 10,20"
    )
    mini_batch_size: int | None = theirs(
        whole(1, 1_000_000, auto=True), 32, "pictures of one step; auto: as many as a card's memory holds", modern=None
    )
    # detection's guide leaves 0 out of the range, and has it in its tuning ranges (reference 1.4)
    momentum: float = theirs(number(0, 1), 0.9, "share of the last step that goes on (sgd, nag)")
    use_pretrained_model: bool | None = theirs(flag(), False, "start from ImageNet weights", modern=None)

    recipe: str = ours(choice(ours=(ORIGINAL, MODERN)), ORIGINAL, "which defaults", modern=MODERN)
    seed: int = ours(whole(0, 2**63 - 1), 0, "decides order, augmentation and first weights")
    strict: bool = ours(flag(), False, "refuse unknown hyperparameters instead of warning")
    device: str = ours(choice(ours=("auto", "cpu", "cuda", "mps")), "auto", "where the network is trained")
    loader_workers: int | None = ours(whole(0, 256, auto=True), None, "threads that decode pictures; auto: by cores")
    cache_pictures: bool | None = ours(flag(auto=True), None, "keep decoded pictures in memory; auto: when they fit")
    validation_fraction: float = ours(
        number(0, 1, below=True), 0.0, "share of the pictures held back when no validation data is given", modern=0.15
    )
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
    sync_batch_norm: bool = ours(flag(), False, "several processes: statistics of norms over all, not each its own")
    gradient_accumulation: int = ours(
        whole(1, 1_000), 1, "parts that a step's pictures are worked off in, one after another, to save memory"
    )
    compile: bool | None = ours(flag(auto=True), None, "compile the training step; auto: on cards, where it pays")
    order: str = ours(
        choice(ours=("auto", "permutation", "window", "shards+window", "none")),
        "auto",
        "how pictures are shuffled; auto: a window where data is read through ranges, else a permutation",
    )
    shuffle_buffer: int = ours(whole(1), 10_000, "pictures that a window holds")
    bad_records_limit: float = ours(number(0, 1), 0.05, "share of unreadable pictures beyond which the run stops")

    augmentation_type: str | None
    checkpoint_frequency: int | None
    learning_rate: float | None
    lr_scheduler_factor: float
    optimizer: str | None
    precision_dtype: str
    weight_decay: float | None
    resnet: Literal["pre", "post"] | None

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON-able values; tuples become lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave; settings it lacks take their recipe's default. Raises UserError for wrong ones."""
        unknown = sorted(set(stored) - set(rows_of(cls)))
        if unknown:
            raise UserError(
                f"unknown: {', '.join(unknown)}", "stored settings", "A newer Foveal wrote them: update Foveal."
            )
        column = column_of(cls, str(stored.get("recipe", ORIGINAL)))
        given = {
            name: read_value(cls, name, value, column["recipe"]) for name, value in stored.items() if value is not None
        }
        return cls(**{**column, **{name: None for name in stored if stored[name] is None}, **given})


def rows_of(table: type[Settings]) -> dict[str, Field[Any]]:
    """The table's rows by name: the original's, required ones first, then by name; after them ours as they stand."""
    rows = fields(table)
    originals = [row for row in rows if not row.metadata["ours"]]
    originals.sort(key=lambda row: (row.name not in REQUIRED, row.name))
    return {row.name: row for row in [*originals, *(row for row in rows if row.metadata["ours"])]}


def column_of(table: type[Settings], recipe: str) -> dict[str, Any]:
    """A recipe's defaults: setting -> value. Raises UserError for an unknown recipe."""
    column = read_value(table, "recipe", recipe, recipe)
    return {name: row.default if column == ORIGINAL else row.metadata["modern"] for name, row in rows_of(table).items()}


def read_value(table: type[Settings], name: str, value: object, recipe: str) -> Any:
    """Read one value. Raises UserError whose first line is the original's, with its values only, in its recipe."""
    row = rows_of(table)[name]
    kind: Kind = row.metadata["kind"]
    try:
        return kind.read(value)
    except (ValueError, OverflowError):
        text = shown(value)
        rule = kind.original_rule + CAUSE if recipe == ORIGINAL and not row.metadata["ours"] else kind.rule
        what = f"The value '{text}' is not valid for the '{name}' hyperparameter which {rule}"
        raise UserError(what, "", kind.remedy(name, text), name) from None


def shown(value: object) -> str:
    """A value as one types it, cut to 80 characters."""
    words = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    words = words if words.isprintable() else ascii(words)[1:-1]
    return words if len(words) <= 80 else words[:77] + "..."


Rule = tuple[bool, tuple[str, ...], str]
"""(whether it applies, names of settings, why they then do nothing)"""


def idle_lines(rules: list[Rule], values: Mapping[str, object]) -> list[str]:
    """A line for each given setting that does nothing in this run."""
    return [
        f"{name}={shown(values[name])} has no effect: {reason}"
        for applies, names, reason in rules
        for name in names
        if applies and name in values
    ]


def shared_rules(settings: Settings) -> list[Rule]:
    """The settings of both tables that may do nothing."""
    optimizer, without = settings.optimizer, f"optimizer={settings.optimizer} does not use it"
    stopping = ("early_stopping_min_epochs", "early_stopping_patience", "early_stopping_tolerance")
    drops = settings.lr_schedule == "step" and settings.lr_scheduler_step is not None
    return [
        (not settings.early_stopping, stopping, "early_stopping is False"),
        (optimizer not in ("sgd", "nag", None), ("momentum",), without),
        (optimizer is not None and optimizer not in settings.DECAYED, ("weight_decay",), without),
        (settings.lr_schedule != "step", ("lr_scheduler_step",), f"lr_schedule is {settings.lr_schedule}"),
        (not drops, ("lr_scheduler_factor",), "no lr_scheduler_step is in use"),
        (settings.order in ("permutation", "none"), ("shuffle_buffer",), f"order={settings.order} does not use it"),
        (True, ("kv_store",), "processes add up their gradients in every step"),
    ]


def refuse_idle_checkpoints(settings: Settings) -> None:
    """Raises UserError for a checkpoint_frequency that the run never reaches."""
    frequency, epochs = settings.checkpoint_frequency, settings.epochs
    if frequency is not None and epochs is not None and frequency > epochs:
        raise UserError(
            f"checkpoint_frequency={frequency} is more than epochs={epochs}: no epoch would be kept",
            "",
            f"Set checkpoint_frequency to 1 to {epochs}, or leave it out to keep the best epoch.",
            "checkpoint_frequency",
        )
