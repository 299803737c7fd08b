"""The training and validation pictures of a run: labels checked, classes named, validation set aside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from foveal.checking.odd_splits import warn_of_splits
from foveal.data.check import CheckedBoxes, KeptBoxes, box_warnings, check_objects, class_indices, count_warnings
from foveal.data.split import split_rows, stratified_split
from foveal.data.subset import BoxSubset, Subset
from foveal.errors import UserError
from foveal.judging import COCO_LEFT_OUT, coco_available
from foveal.records import BadRecord, BoxSource, Dataset, Source
from foveal.settings import ClassificationSettings
from foveal.training.events import Listener, Said


@dataclass(frozen=True)
class Pictures:
    """The training and validation pictures, checked; with boxes, both are ``BoxSource`` too.

    ``labels``: int64, the class of each training picture, or of each object in them, a picture's one after another.
    """

    train: Subset
    validation: Subset | None
    class_names: tuple[str, ...]
    named: bool
    fingerprint: str
    split_off: bool
    labels: NDArray[np.int64]


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


def check_pictures(dataset: Dataset, settings: ClassificationSettings, tell: Listener) -> Pictures:
    """Check every label, set validation pictures aside where none are given, and say what was found.

    Raises:
        UserError: labels that are no classes, too many bad records, no validation data with ``recipe=original``.
    """
    for line in dataset.said:
        tell(Said(line))
    names = dataset.class_names if dataset.named else None
    indices, left_out = class_indices(dataset.train, settings.num_classes, names)
    _tell_left_out(left_out, tell)
    for line in count_warnings(indices, dataset.class_names, settings.num_classes, settings.num_training_samples):
        tell(Said(line, warning=True))
    _bound(len(left_out), len(dataset.train), settings, dataset.train.origin)
    class_names = _all_names(dataset, settings)
    kept, aside = _divide(
        dataset,
        settings,
        tell,
        lambda: stratified_split(indices, settings.validation_fraction, settings.seed, dataset.train.groups),
    )
    validation = Subset(dataset.train, aside, indices[aside].tolist())
    if dataset.validation is not None:
        validation = _checked_validation(dataset.validation, class_names, names, tell)
        _tell_splits(dataset, validation, tell)
    return Pictures(
        train=Subset(dataset.train, kept, indices[kept].tolist()),
        validation=validation if len(validation) else None,
        class_names=class_names,
        named=dataset.named,
        fingerprint=dataset.train.fingerprint(),
        split_off=len(aside) > 0,
        labels=indices[kept],
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
    class_names = _all_names(dataset, settings)
    kept, aside = _divide(
        dataset, settings, tell, lambda: split_rows(train, settings.validation_fraction, settings.seed)
    )
    validation = _box_subset(train, checked, aside)
    if dataset.validation is not None:
        validation = _checked_validation_boxes(dataset.validation, class_names, names, tell)
        _tell_splits(dataset, validation, tell)
    if not coco_available():
        tell(Said(COCO_LEFT_OUT))
    in_training = np.isin(np.repeat(np.arange(len(train)), np.diff(checked.offsets)), kept)
    return Pictures(
        train=_box_subset(train, checked, kept),
        validation=validation if len(validation) else None,
        class_names=class_names,
        named=dataset.named,
        fingerprint=train.fingerprint(),
        split_off=len(aside) > 0,
        labels=checked.classes[in_training],
    )


def _all_names(dataset: Dataset, settings: _Choices) -> tuple[str, ...]:
    """The data's class names, and numbers for those that ``num_classes`` has beyond them."""
    names = dataset.class_names
    return names + tuple(str(number) for number in range(len(names), settings.num_classes or 0))


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
        by = "by the rarest class in each" if dataset.task == "boxes" else "by class"
        how = f"whole groups, {len(set(groups))} in all" if groups is not None else by
        tell(Said(f"{len(aside):,} of {len(kept) + len(aside):,} pictures are set aside for validation ({how})"))
    else:
        tell(Said("no validation data: the last epoch is kept, not the best", warning=True))
    if not len(kept):
        raise UserError("no training pictures are left", dataset.train.origin, "Give more pictures of each class.")
    return kept, aside


def _box_subset(source: BoxSource, checked: CheckedBoxes, rows: NDArray[np.int64]) -> BoxSubset:
    assert isinstance(checked.boxes, KeptBoxes)
    return BoxSubset(source, rows, checked.boxes.part(rows))


def _tell_left_out(records: list[BadRecord], tell: Listener) -> None:
    for record in records:
        tell(Said(f"left out: {record.where}: {record.reason}", warning=True))


def _tell_splits(dataset: Dataset, validation: Subset, tell: Listener) -> None:
    """What the validation data lacks, or shares with the training data."""
    classes = validation.labels().values.astype(np.int64)
    counts = np.bincount(classes, minlength=len(dataset.class_names))
    for line in warn_of_splits(dataset, {"validation": counts}):
        tell(Said(line, warning=True))


def _checked_validation(
    source: Source, class_names: tuple[str, ...], names: tuple[str, ...] | None, tell: Listener
) -> Subset:
    """Validation pictures whose classes are all among those of the training data. Raises UserError."""
    indices, left_out = class_indices(source, None, names, channel="validation", gaps_allowed=True)
    _tell_left_out(left_out, tell)
    beyond = np.flatnonzero(indices >= len(class_names))
    if len(beyond):
        row = int(beyond[0])
        raise _untrained(int(indices[row]), len(class_names), source.where(row))
    return Subset(source, np.arange(len(indices)), indices.tolist())


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
