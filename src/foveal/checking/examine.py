"""Everything that can be told of labelled pictures before training: what there is, what is odd, which settings fit.

    examine(dataset) -> Examination: a summary of each split, findings (odd_labels, odd_splits, odd_pictures), advice

Each picture is decoded once (``measure.py``); everything else works on what is kept of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveal.checking.finding import SEVERITIES, Finding, Severity, Suspect, finding, plural
from foveal.checking.measure import Measured, measure
from foveal.checking.odd_labels import check_labels, odd_boxes, odd_counts
from foveal.checking.odd_pictures import (
    MANY_TINY,
    TINY,
    Part,
    doubles,
    look_alikes,
    odd_box_sizes,
    odd_files,
    odd_looks,
)
from foveal.checking.odd_splits import missing_classes, shared_groups
from foveal.errors import UserError
from foveal.formats.boxfiles import object_table
from foveal.formats.boxlabels import BoxLabelSource
from foveal.records import BoxSource, Dataset, Remark, Source

BAD_RECORDS_LIMIT = 0.05  # the setting's default
CUT_AWAY = 0.4
"""Share of the median picture that a crop may cut away without a word."""
SMALL, MIDDLE, USUAL = 32, 96, 224  # pixels; as in recipe modern
CROP_SHARE = 0.875  # of the resized shorter side (224 of 256), where that leaves enough of the picture
DETECTOR_SIDES = (300, 512)
OBJECT_NUMBERS, HEADER_NUMBERS = 5, 2  # of a label with boxes

_REMARKS: dict[str, tuple[Severity, str]] = {
    "passed-over": ("warning", "Annotate them, or move them away."),
    "other-names": ("note", "Nothing has to be done, if pictures and labels were renamed or moved together."),
    "category-ids": ("note", "Nothing has to be done; other programs may take 0 for the background."),
}
"""``Remark.kind``, the code of a finding -> its severity and remedy."""

Shape = tuple[int, int, int]
"""channels, height, width."""


@dataclass(frozen=True)
class Spread:
    """Least, median and greatest of some numbers."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class BoxSummary:
    """The boxes of a split.

    Attributes:
        boxes: all of them. without: pictures that have none.
        per_picture: boxes of the pictures that have some.
        width, height, aspect: pixels, and width / height, of the boxes as they lie in their pictures; None without any.
        tiny: under 8 pixels on a side. difficult, crowd: marked so.
    """

    boxes: int
    without: int
    per_picture: Spread | None
    width: Spread | None
    height: Spread | None
    aspect: Spread | None
    tiny: int
    difficult: int
    crowd: int


@dataclass(frozen=True)
class SplitSummary:
    """One split.

    Attributes:
        pictures: that it lists. left_out: records that were left out on opening. unreadable: of ``pictures``.
        width, height: in pixels, upright; None when no picture can be read.
        grey: pictures of one channel. kinds: form of the files -> how many.
        counts: pictures (boxes) of each class, in label order; None when the labels are wrong.
        boxes: None where pictures carry none.
    """

    pictures: int
    left_out: int
    unreadable: int
    width: Spread | None
    height: Spread | None
    grey: int
    kinds: dict[str, int]
    counts: list[int] | None
    boxes: BoxSummary | None


@dataclass(frozen=True)
class Examination:
    """What a check has found.

    Attributes:
        origin: the data, as it was named. form, task, class_names, said: as of ``Dataset``.
        splits: by name: ``train``, ``validation``, ``test``.
        advice: setting -> what it should be.
        findings: errors first, then warnings, then notes.
    """

    origin: str
    form: str
    task: str
    class_names: tuple[str, ...]
    said: tuple[str, ...]
    splits: dict[str, SplitSummary]
    advice: dict[str, int | str]
    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity | None:
        """Of the worst finding; None without any."""
        return self.findings[0].severity if self.findings else None


def examine(
    dataset: Dataset,
    *,
    image_shape: Shape | None = None,
    resize: int | None = None,
    bad_records_limit: float = BAD_RECORDS_LIMIT,
    workers: int | None = None,
    quiet: bool = False,
) -> Examination:
    """Look at every picture and label of all splits.

    Args:
        image_shape, resize: settings that are meant to be trained with, which crop and box sizes are then judged by;
            left out, those of the advice.
        bad_records_limit: share of records that may be unusable.
        workers: threads that decode; by the machine when left out.
        quiet: show no progress.
    """
    sources = sources_of(dataset)
    parts = [Part(name, each, measure(each, f"checking {name}", workers, quiet)) for name, each in sources.items()]
    labels = check_labels(dataset, sources)
    box_sources = {name: each for name, each in sources.items() if isinstance(each, BoxSource)}
    unit = "box" if dataset.task == "boxes" else "picture"
    splits = {part.name: _summary(part.source, part.seen, labels.counts.get(part.name)) for part in parts}
    advice = _advise(dataset, parts[0])
    findings: list[Finding] = [*labels.findings, *_left_out(sources), *_remarked(dataset.remarks)]
    findings += odd_files(parts, bad_records_limit)
    findings += missing_classes(labels.counts, dataset.class_names, unit)
    findings += odd_counts(labels.counts["train"], dataset.class_names, unit) if "train" in labels.counts else ()
    findings += shared_groups(sources)
    findings += doubles(parts)
    findings += look_alikes(parts)
    if box_sources:
        side = image_shape[1] if image_shape is not None else int(advice["image_shape"])
        findings += odd_boxes(box_sources, {part.name: part.seen.size for part in parts})
        findings += odd_box_sizes(parts, side)
    elif splits["train"].width is not None:
        findings += _crop(splits["train"], advice, image_shape, resize)
    findings += odd_looks(parts)
    return Examination(
        origin=dataset.train.origin,
        form=dataset.train.form,
        task=dataset.task,
        class_names=dataset.class_names,
        said=dataset.said,
        splits=splits,
        advice=advice,
        findings=tuple(sorted(findings, key=lambda each: -SEVERITIES.index(each.severity))),
    )


def refused(origin: str, error: UserError) -> Examination:
    """The examination of data that can't be opened: one error."""
    told = Finding("not-opened", "error", error.what, error.remedy, 1, (Suspect((error.where or origin,)),))
    return Examination(origin, "", "", (), (), {}, {}, (told,))


def sources_of(dataset: Dataset) -> dict[str, Source]:
    """The splits that there are, by name."""
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {name: source for name, source in splits.items() if source is not None}


def as_json(examination: Examination, examples: int = 100) -> dict[str, Any]:
    """The examination as plain values, with at most ``examples`` suspects a finding (docs/check.md)."""
    return {
        "kind": "check",
        "data": examination.origin,
        "form": examination.form,
        "task": examination.task,
        "classes": list(examination.class_names),
        "said": list(examination.said),
        "severity": examination.severity or "fine",
        "splits": {name: asdict(each) for name, each in examination.splits.items()},
        "advice": examination.advice,
        "findings": [
            {
                "code": each.code,
                "severity": each.severity,
                "count": each.count,
                "what": each.what,
                "remedy": each.remedy,
                "suspects": [
                    {
                        "where": list(suspect.where),
                        "why": suspect.why,
                        "pictures": [{"split": split, "row": row} for split, row in suspect.spots],
                    }
                    for suspect in each.suspects[:examples]
                ],
            }
            for each in examination.findings
        ],
    }


def kept_by_crop(width: float, height: float, shape: Shape, resize: int | None) -> float:
    """Share (0..1] of a picture that a centre crop shows: its shorter side to ``resize``, then ``shape`` cut out.

    Pictures smaller than the crop are enlarged until it fits, as in training.
    """
    scale = resize / min(width, height) if resize is not None else 1.0
    scale = max(scale, shape[1] / height, shape[2] / width)
    return (shape[1] * shape[2]) / (width * scale * height * scale)


def _left_out(sources: Mapping[str, Source]) -> tuple[Finding, ...]:
    records = [record for source in sources.values() for record in source.bad]
    what = f"{plural(len(records), 'record')} can't be used and {'is' if len(records) == 1 else 'are'} left out"
    suspects = [Suspect((record.where,), record.reason) for record in records]
    return finding("left-out", "warning", what, "Mend or remove them.", suspects)


def _remarked(remarks: Sequence[Remark]) -> tuple[Finding, ...]:
    """What opening the data told that is a fault of it, such as pictures without annotation."""
    return tuple(
        Finding(each.kind, severity, each.line, remedy, 1)
        for each in dict.fromkeys(remarks)
        for severity, remedy in [_REMARKS[each.kind]]
    )


def _summary(source: Source, seen: Measured, counts: NDArray[np.int64] | None) -> SplitSummary:
    rows = seen.readable
    return SplitSummary(
        pictures=len(source),
        left_out=len(source.bad),
        unreadable=len(seen.unreadable),
        width=_spread(seen.size[rows, 0]),
        height=_spread(seen.size[rows, 1]),
        grey=int(seen.grey.sum()),
        kinds=dict(sorted(seen.kinds.items())),
        counts=None if counts is None else counts.tolist(),
        boxes=_box_summary(source, seen) if isinstance(source, BoxSource) else None,
    )


def _box_summary(source: BoxSource, seen: Measured) -> BoxSummary:
    table = object_table(source)
    sound = table.sound()
    per_picture = np.bincount(table.rows()[sound], minlength=len(source))
    sizes = seen.box_sizes[(seen.box_sizes > 0).all(axis=1)]
    return BoxSummary(
        boxes=int(sound.sum()),
        without=int((per_picture == 0).sum()),
        per_picture=_spread(per_picture[per_picture > 0]),
        width=_spread(sizes[:, 0]),
        height=_spread(sizes[:, 1]),
        aspect=_spread(sizes[:, 0] / sizes[:, 1]),
        tiny=int((sizes.min(axis=1, initial=np.inf) < TINY).sum()),
        difficult=int((table.difficult & sound).sum()),
        crowd=int((table.crowd & sound).sum()),
    )


def _spread(values: NDArray[Any]) -> Spread | None:
    if not len(values):
        return None
    return Spread(*(round(float(each), 3) for each in (values.min(), np.median(values), values.max())))


def _advise(dataset: Dataset, train: Part) -> dict[str, int | str]:
    """Settings that fit the training data."""
    advice: dict[str, int | str] = {
        "num_classes": len(dataset.class_names),
        "num_training_samples": len(dataset.train),
    }
    size = train.seen.size[train.seen.readable]
    if isinstance(dataset.train, BoxSource):
        sources = [each for each in sources_of(dataset).values() if isinstance(each, BoxSource)]
        advice["label_width"] = max(map(_label_width, sources))
        advice["image_shape"] = _detector_side(train.seen, size)
        return advice
    if dataset.task == "multi-label":
        advice["multi_label"] = 1
    if len(size):
        shape = _shape(size, bool(train.seen.grey.sum() == len(size)))
        advice["image_shape"] = ",".join(map(str, shape))
        median = np.median(size, axis=0)
        resize = round(max(shape[1:]) / CROP_SHARE)
        if kept_by_crop(float(median[0]), float(median[1]), shape, resize) < 1 - CUT_AWAY:
            resize = max(shape[1:])
        if tuple(median) != (shape[2], shape[1]):
            advice["resize"] = resize
    return advice


def _shape(size: NDArray[np.int32], grey: bool) -> Shape:
    """As recipe modern takes it on a card; ``size`` int32 [n, 2]."""
    short, long = np.median(size.min(axis=1)), np.median(size.max(axis=1))
    channels = 1 if grey else 3
    if long <= SMALL and len(np.unique(size, axis=0)) == 1:
        return channels, int(size[0, 1]), int(size[0, 0])
    side = max(SMALL, -(-int(short) // 8) * 8) if short <= MIDDLE else USUAL
    return channels, side, side


def _detector_side(seen: Measured, size: NDArray[np.int32]) -> int:
    """The larger side where the smaller one would leave many boxes tiny that aren't tiny in their pictures."""
    small, large = DETECTOR_SIDES
    if not len(seen.box_sizes) or np.median(size.max(axis=1)) <= small:
        return small
    squeezed = (seen.box_sizes * small / seen.size[seen.box_rows]).min(axis=1) < TINY
    squeezed &= seen.box_sizes.min(axis=1) >= TINY
    return large if squeezed.mean() > MANY_TINY else small


def _label_width(source: BoxSource) -> int:
    """Numbers of the longest label: as it lies in records or a list, else header and five for each object."""
    if isinstance(source, BoxLabelSource):
        return max(len(source.stored(row)) for row in range(len(source)))
    return HEADER_NUMBERS + OBJECT_NUMBERS * int(np.diff(source.labels().offsets).max(initial=0))


def _crop(
    train: SplitSummary, advice: Mapping[str, int | str], image_shape: Shape | None, resize: int | None
) -> tuple[Finding, ...]:
    """What the centre crop shows of the median picture, with the given settings or the advised ones."""
    assert train.width is not None and train.height is not None
    width, height = train.width.median, train.height.median
    advised_shape, advised_resize = _advised(advice)
    given = image_shape is not None or resize is not None
    shape = image_shape or advised_shape
    size = resize if given else advised_resize
    cut = 1 - kept_by_crop(width, height, shape, size)
    told = f"of {shape[1]} x {shape[2]} pixels cuts away {cut:.0%} of the median picture ({width:g} x {height:g})"
    how = f"after resize={size}" if size is not None else "without resize"
    best = 1 - kept_by_crop(width, height, shape, max(shape[1:]))
    cure = f"Set resize={max(shape[1:])}, which cuts away {best:.0%}."
    if best > CUT_AWAY:
        cure = "Make the pictures squarer first; recipe modern squeezes such pictures whole, when resize is left out."
    if cut > CUT_AWAY:
        return (Finding("crop", "warning", f"{how}, the crop {told}", cure, 1),)
    bare = 1 - kept_by_crop(width, height, shape, None)
    if given or bare <= CUT_AWAY:
        return ()
    what = (
        f"without resize, the original's default, the crop of {shape[1]} x {shape[2]} pixels would cut away {bare:.0%} "
        f"of the median picture ({width:g} x {height:g})"
    )
    return (Finding("crop-without-resize", "note", what, f"Set resize={advised_resize}.", 1),)


def _advised(advice: Mapping[str, int | str]) -> tuple[Shape, int | None]:
    channels, height, width = (int(side) for side in str(advice["image_shape"]).split(","))
    resize = advice.get("resize")
    return (channels, height, width), None if resize is None else int(resize)
