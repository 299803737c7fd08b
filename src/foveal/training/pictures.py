"""The training and validation pictures of a run: labels checked, classes named, validation set aside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveal.data.check import class_indices, count_warnings
from foveal.data.split import stratified_split
from foveal.data.subset import Subset
from foveal.errors import UserError
from foveal.records import Dataset, Source
from foveal.settings import ClassificationSettings
from foveal.training.events import Listener, Said


@dataclass(frozen=True)
class Pictures:
    """The training and validation pictures, checked."""

    train: Subset
    validation: Subset | None
    class_names: tuple[str, ...]
    named: bool
    fingerprint: str
    split_off: bool
    labels: NDArray[np.int64]


def check_pictures(dataset: Dataset, settings: ClassificationSettings, tell: Listener) -> Pictures:
    """Check every label, set validation pictures aside where none are given, and say what was found.

    Raises:
        UserError: labels that are no classes, too many bad records, no validation data with ``recipe=original``.
    """
    for line in dataset.said:
        tell(Said(line))
    names = dataset.class_names if dataset.named else None
    indices, left_out = class_indices(dataset.train, settings.num_classes, names)
    for record in left_out:
        tell(Said(f"left out: {record.where}: {record.reason}", warning=True))
    for line in count_warnings(indices, dataset.class_names, settings.num_classes, settings.num_training_samples):
        tell(Said(line, warning=True))
    _bound(len(left_out), len(dataset.train), settings, dataset.train.origin)
    class_names = dataset.class_names
    if settings.num_classes is not None and settings.num_classes > len(class_names):
        class_names += tuple(str(number) for number in range(len(class_names), settings.num_classes))
    usable = np.arange(len(indices))
    validation: Subset | None = None
    split_off = False
    if dataset.validation is not None:
        validation = _checked_validation(dataset.validation, class_names, names, tell)
    elif settings.recipe == "original" and settings.validation_fraction == 0:
        raise UserError(
            "recipe=original needs validation data, as the original does, and there is none",
            dataset.train.origin,
            "Give it (--validation, or a val folder beside train), or take recipe=modern, which sets a part aside.",
        )
    elif settings.validation_fraction > 0:
        groups = dataset.train.groups
        kept, aside = stratified_split(indices, settings.validation_fraction, settings.seed, groups)
        validation = Subset(dataset.train, aside, indices[aside].tolist())
        usable, split_off = kept, True
        how = f"whole groups, {len(set(groups))} in all" if groups is not None else "by class"
        tell(Said(f"{len(aside):,} of {len(kept) + len(aside):,} pictures are set aside for validation ({how})"))
    else:
        tell(Said("no validation data: the last epoch is kept, not the best", warning=True))
    if not len(usable):
        raise UserError("no training pictures are left", dataset.train.origin, "Give more pictures of each class.")
    return Pictures(
        train=Subset(dataset.train, usable, indices[usable].tolist()),
        validation=validation if validation is not None and len(validation) else None,
        class_names=class_names,
        named=dataset.named,
        fingerprint=dataset.train.fingerprint(),
        split_off=split_off,
        labels=indices[usable],
    )


def _checked_validation(
    source: Source, class_names: tuple[str, ...], names: tuple[str, ...] | None, tell: Listener
) -> Subset:
    """Validation pictures whose classes are all among those of the training data. Raises UserError."""
    indices, left_out = class_indices(source, None, names, channel="validation", gaps_allowed=True)
    for record in left_out:
        tell(Said(f"left out: {record.where}: {record.reason}", warning=True))
    beyond = np.flatnonzero(indices >= len(class_names))
    if len(beyond):
        row = int(beyond[0])
        raise UserError(
            f"the validation data has class {indices[row]}, the training data only 0..{len(class_names) - 1}",
            source.where(row),
            "Validate on classes that are trained: mend the label, or add training pictures of that class.",
        )
    return Subset(source, np.arange(len(indices)), indices.tolist())


def _bound(bad: int, good: int, settings: ClassificationSettings, origin: str) -> None:
    """Raises UserError when more records were left out on opening than the settings allow."""
    allowed = math.ceil(settings.bad_records_limit * (bad + good))
    if bad > allowed:
        raise UserError(
            f"{bad:,} of {bad + good:,} records can't be used, more than the {allowed:,} that are allowed",
            origin,
            "Mend or remove the records named above, or raise bad_records_limit.",
            "bad_records_limit",
        )
