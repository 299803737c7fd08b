"""The training and validation pictures of a run: labels checked, classes named, validation set aside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from foveal.checking.odd_splits import warn_of_splits
from foveal.data.check import (
    CheckedBoxes,
    KeptBoxes,
    box_warnings,
    check_objects,
    count_warnings,
)
from foveal.data.labels import class_labels, classes_of, labelled
from foveal.data.loader import default_workers
from foveal.data.split import split_labels, split_rows
from foveal.data.subset import BoxSubset, Subset
from foveal.data.tiles import TiledSource, cut_up, picture_sizes
from foveal.errors import UserError
from foveal.judging import COCO_LEFT_OUT, coco_available
from foveal.records import BadRecord, BoxSource, Dataset, Source
from foveal.settings import ClassificationSettings
from foveal.training.events import Listener, Said

MANY = 1_000  # pictures; reading their sizes takes so long that it is said


@dataclass(frozen=True)
class Pictures:
    """The training and validation pictures, checked; with boxes, both are ``BoxSource`` too.

    ``labels``: int64, the classes of all training pictures, a picture's one after another: one each, several, or one of
    each object. ``several``: whether each picture carries a row of numbers, float32 [C], 1 for the classes that it has.
    """

    train: Subset
    validation: Subset | None
    class_names: tuple[str, ...]
    named: bool
    fingerprint: str
    split_off: bool
    labels: NDArray[np.int64]
    several: bool = False

    @property
    def count(self) -> int:
        """Training pictures, however many tiles they make."""
        return self.train.pictures if isinstance(self.train, TiledSource) else len(self.train)


class _Choices(Protocol):
    """What of a run's settings decides which pictures are taken."""

    @property
    def recipe(self) -> str: ...
    @property
    def num_classes(self) -> int | None: ...
    @property
    def num_training_samples(self) -> int | None: ...
    @property
    def validation_fraction(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def bad_records_limit(self) -> float: ...


class _BoxChoices(_Choices, Protocol):
    @property
    def label_width(self) -> int: ...
    @property
    def tile_size(self) -> int | None: ...
    @property
    def tile_overlap(self) -> float: ...
    @property
    def loader_workers(self) -> int | None: ...


def check_pictures(dataset: Dataset, settings: ClassificationSettings, tell: Listener) -> Pictures:
    """Check every label, set validation pictures aside where none are given, and say what was found.

    Raises:
        UserError: labels that are no classes, too many bad records, no validation data with ``recipe=original``.
    """
    for line in dataset.said:
        tell(Said(line))
    names = dataset.class_names if dataset.named else None
    several, train = bool(settings.multi_label), dataset.train
    labels, left_out = class_labels(train, several, settings.num_classes, names)
    _tell_left_out(left_out, tell)
    classes = classes_of(labels)
    width = labels.shape[1] if several else settings.num_classes
    pictures = len(train) if several else None
    for line in count_warnings(classes, dataset.class_names, width, settings.num_training_samples, pictures):
        tell(Said(line, warning=True))
    _bound(len(left_out), len(train), settings, train.origin)
    class_names = _all_names(dataset, width)
    fraction, seed = settings.validation_fraction, settings.seed
    kept, aside = _divide(dataset, settings, tell, lambda: split_labels(labels, fraction, seed, train.groups))
    validation = labelled(train, aside, labels)
    if dataset.validation is not None:
        validation, there = _checked_validation(dataset.validation, several, class_names, names, tell)
        _tell_splits(dataset, np.bincount(there, minlength=len(dataset.class_names)), tell)
    if settings.calibrate and not len(validation):
        tell(Said("no validation data: confidences are not calibrated"))
    return Pictures(
        train=labelled(train, kept, labels),
        validation=validation if len(validation) else None,
        class_names=class_names,
        named=dataset.named,
        fingerprint=train.fingerprint(),
        split_off=len(aside) > 0,
        labels=classes_of(labels[kept]),
        several=several,
    )


def check_boxes(dataset: Dataset, settings: _BoxChoices, tell: Listener) -> Pictures:
    """Check every box, set validation pictures aside where none are given, and say what was found.

    Raises:
        UserError: boxes that can't be meant, classes out of range, too many bad records, data without boxes, no
            validation data with ``recipe=original``.
    """
    train = dataset.train
    if not isinstance(train, BoxSource):
        raise UserError(
            "it has one class a picture, and object detection needs boxes",
            train.origin,
            "Give data with boxes, or train image classification on it (--algorithm image-classification).",
        )
    for line in dataset.said:
        tell(Said(line))
    names = dataset.class_names if dataset.named else None
    checked = check_objects(train, settings.num_classes, names)
    _tell_left_out(checked.left_out, tell)
    for line in checked.said + box_warnings(
        checked,
        train,
        dataset.class_names,
        settings.num_classes,
        settings.num_training_samples,
        settings.label_width,
    ):
        tell(Said(line, warning=True))
    _bound(len(checked.left_out), len(train), settings, train.origin)
    class_names = _all_names(dataset, settings.num_classes)
    kept, aside = _divide(
        dataset, settings, tell, lambda: split_rows(train, settings.validation_fraction, settings.seed)
    )
    validation = _box_subset(train, checked, aside)
    if dataset.validation is not None:
        validation = _checked_validation_boxes(dataset.validation, class_names, names, tell)
        counts = np.bincount(validation.labels().values.astype(np.int64), minlength=len(dataset.class_names))
        _tell_splits(dataset, counts, tell)
    if not coco_available():
        tell(Said(COCO_LEFT_OUT))
    in_training = np.isin(np.repeat(np.arange(len(train)), np.diff(checked.offsets)), kept)
    return Pictures(
        train=_tiled(train, checked, kept, settings, tell) if settings.tile_size else _box_subset(train, checked, kept),
        validation=validation if len(validation) else None,
        class_names=class_names,
        named=dataset.named,
        fingerprint=train.fingerprint(),
        split_off=len(aside) > 0,
        labels=checked.classes[in_training],
    )


def _all_names(dataset: Dataset, num_classes: int | None) -> tuple[str, ...]:
    """The data's class names, and numbers for those that ``num_classes`` has beyond them."""
    names = dataset.class_names
    return names + tuple(str(number) for number in range(len(names), num_classes or 0))


def _divide(
    dataset: Dataset, settings: _Choices, tell: Listener, split: Callable[[], tuple[NDArray[np.int64], ...]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are trained on, and rows that are set aside for validation. Raises UserError when none are left."""
    kept, aside = np.arange(len(dataset.train)), np.zeros(0, dtype=np.int64)
    if dataset.validation is not None:
        pass
    elif settings.recipe == "original" and settings.validation_fraction == 0:
        raise UserError(
            "recipe=original needs validation data, as the original does, and there is none",
            dataset.train.origin,
            "Give it (--validation, or a val folder beside train), or take recipe=modern, which sets a part aside.",
        )
    elif settings.validation_fraction > 0:
        kept, aside = split()
        groups = dataset.train.groups
        by = {"boxes": "by the rarest class in each", "multi-label": "by all classes of each"}
        how = f"whole groups, {len(set(groups))} in all" if groups is not None else by.get(dataset.task, "by class")
        tell(Said(f"{len(aside):,} of {len(kept) + len(aside):,} pictures are set aside for validation ({how})"))
    else:
        tell(Said("no validation data: the last epoch is kept, not the best", warning=True))
    if not len(kept):
        raise UserError("no training pictures are left", dataset.train.origin, "Give more pictures of each class.")
    return kept, aside


def _box_subset(source: BoxSource, checked: CheckedBoxes, rows: NDArray[np.int64]) -> BoxSubset:
    assert isinstance(checked.boxes, KeptBoxes)
    return BoxSubset(source, rows, checked.boxes.part(rows))


def _tiled(
    source: BoxSource, checked: CheckedBoxes, rows: NDArray[np.int64], settings: _BoxChoices, tell: Listener
) -> TiledSource:
    """The tiles of the training pictures, whose sizes are read from their headers."""
    assert settings.tile_size is not None and isinstance(checked.boxes, KeptBoxes)
    workers = default_workers() if settings.loader_workers is None else settings.loader_workers
    if len(rows) >= MANY:
        tell(Said(f"reading the sizes of {len(rows):,} pictures"))
    sizes = picture_sizes(source, rows, workers)
    numbers, regions = cut_up(sizes, settings.tile_size, settings.tile_overlap)
    counts = np.bincount(numbers)
    each = f"{counts.min():,} to {counts.max():,}" if counts.min() < counts.max() else f"{counts.min():,}"
    tell(
        Said(
            f"tiles of {settings.tile_size} x {settings.tile_size} pixels: {len(numbers):,} of {len(rows):,} training "
            f"pictures, {each} a picture; in training each counts as a picture"
        )
    )
    pixels = sum(size[0] * size[1] for size in sizes if size is not None)
    return TiledSource(source, rows[numbers], checked.boxes.part(rows[numbers]), regions, pixels)


def _tell_left_out(records: list[BadRecord], tell: Listener) -> None:
    for record in records:
        tell(Said(f"left out: {record.where}: {record.reason}", warning=True))


def _tell_splits(dataset: Dataset, counts: NDArray[np.int64], tell: Listener) -> None:
    """What the validation data, with so many of each class, lacks, or shares with the training data."""
    for line in warn_of_splits(dataset, {"validation": counts}):
        tell(Said(line, warning=True))


def _checked_validation(
    source: Source, several: bool, class_names: tuple[str, ...], names: tuple[str, ...] | None, tell: Listener
) -> tuple[Subset, NDArray[np.int64]]:
    """Validation pictures whose classes are all among those of the training data, and these. Raises UserError."""
    labels, left_out = class_labels(source, several, None, names, channel="validation", gaps_allowed=True)
    _tell_left_out(left_out, tell)
    classes, rows = classes_of(labels), np.nonzero(labels)[0] if several else np.arange(len(labels))
    beyond = np.flatnonzero(classes >= len(class_names))
    if len(beyond):
        number = int(beyond[0])
        raise _untrained(int(classes[number]), len(class_names), source.where(int(rows[number])))
    if several and labels.shape[1] < len(class_names):
        labels = np.pad(labels, ((0, 0), (0, len(class_names) - labels.shape[1])))
    return labelled(source, np.arange(len(labels)), labels), classes


def _checked_validation_boxes(
    source: Source, class_names: tuple[str, ...], names: tuple[str, ...] | None, tell: Listener
) -> BoxSubset:
    """Validation pictures whose boxes are all of classes of the training data. Raises UserError."""
    assert isinstance(source, BoxSource)
    checked = check_objects(source, None, names, channel="validation", gaps_allowed=True)
    _tell_left_out(checked.left_out, tell)
    for line in checked.said:
        tell(Said(f"validation: {line}", warning=True))
    beyond = np.flatnonzero(checked.classes >= len(class_names))
    if len(beyond):
        number = int(beyond[0])
        row = int(np.searchsorted(checked.offsets, number, side="right")) - 1
        raise _untrained(int(checked.classes[number]), len(class_names), source.where(row))
    return _box_subset(source, checked, np.arange(len(source)))


def _untrained(number: int, trained: int, where: str) -> UserError:
    return UserError(
        f"the validation data has class {number}, the training data only 0..{trained - 1}",
        where,
        "Validate on classes that are trained: mend the label, or add training pictures of that class.",
    )


def _bound(bad: int, good: int, settings: _Choices, origin: str) -> None:
    """Raises UserError when more records were left out on opening than the settings allow."""
    allowed = math.ceil(settings.bad_records_limit * (bad + good))
    if bad > allowed:
        raise UserError(
            f"{bad:,} of {bad + good:,} records can't be used, more than the {allowed:,} that are allowed",
            origin,
            "Mend or remove the records named above, or raise bad_records_limit.",
            "bad_records_limit",
        )
