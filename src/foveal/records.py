"""What passes between the rooms: samples, boxes, bad records, and the interface that every data form offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Boxes:
    """The objects of one picture, as the data form stores them.

    Attributes:
        values: float32 [n, 4], xmin, ymin, xmax, ymax exactly as stored; n may be 0.
        cls: int64 [n], class index from 0.
        unit: whether ``values`` are fractions of the picture's sides (0..1) or pixels.
        of: whether they refer to the picture as ``stored`` in the file or ``upright`` (EXIF applied).
        size: (width, height) in pixels as the source states it, when it does.
        difficult: bool [n]. crowd: bool [n]. extra: float32 [n, k], further columns as stored.
    """

    values: NDArray[np.float32]
    cls: NDArray[np.int64]
    unit: Literal["fraction", "pixel"]
    of: Literal["stored", "upright"]
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    extra: NDArray[np.float32]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Detections:
    """What a detector found in one picture, in the order of falling score.

    Attributes:
        values: float32 [n, 4], xmin, ymin, xmax, ymax as fractions (0..1) of the upright picture's sides.
        cls: int64 [n], class index from 0.
        scores: float32 [n], confidence, 0..1.
        size: (width, height) of the upright picture in pixels.
    """

    values: NDArray[np.float32]
    cls: NDArray[np.int64]
    scores: NDArray[np.float32]
    size: tuple[int, int]

    @property
    def pixels(self) -> NDArray[np.float32]:
        """The boxes in pixels of the upright picture: float32 [n, 4]."""
        width, height = self.size
        return self.values * np.array([width, height, width, height], dtype=np.float32)


Label = int | NDArray[np.float32] | Boxes
"""A class index, a multi-hot vector (float32 [num_classes]), or boxes."""


@dataclass(frozen=True)
class Sample:
    """One labelled picture. ``key`` is stable and unique in its source; ``picture`` is the encoded file."""

    key: str
    picture: bytes
    label: Label


@dataclass(frozen=True)
class BadRecord:
    """A record, line or picture that is left out, where it is, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """A line that a reader says of something odd.

    ``kind``: ``passed-over``, pictures or labels that nothing is known of; ``other-names``, labels that name other
    pictures than those they count for; ``category-ids``, ids that don't run from 1.
    """

    kind: Literal["passed-over", "other-names", "category-ids"]
    line: str


Line = str | Remark
"""What a reader says of the data."""


@dataclass(frozen=True)
class Labels:
    """All labels of a source as stored, ragged.

    Attributes:
        values: float32 [total], the numbers of all records one after another.
        offsets: int64 [n + 1]; record i holds ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: NDArray[np.float32]
    offsets: NDArray[np.int64]


class Source(Protocol):
    """Labelled pictures that can be read in any order, whatever form the data had.

    A source of boxes is a ``BoxSource`` too.

    Reading is thread-safe: ``read`` may be called from several threads at once.
    """

    @property
    def form(self) -> str:
        """Name of the data form: ``recordio``, ``lst``, ``folder``, ``csv``."""

    @property
    def origin(self) -> str:
        """The path that was opened, as the user gave it."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names in label order when the form knows them, else None."""

    @property
    def groups(self) -> tuple[str, ...] | None:
        """A group name a record (patient, part, video) when the form knows it, else None."""

    @property
    def bad(self) -> tuple[BadRecord, ...]:
        """Records left out on opening."""

    def __len__(self) -> int: ...

    def labels(self) -> Labels:
        """All labels as stored, without reading pictures."""

    def where(self, index: int) -> str:
        """The place of a record in a person's words: ``train.rec, record 17 at byte 40960``."""

    def read(self, index: int) -> Sample:
        """One sample. Raises BadPicture when the file or record cannot be read."""

    def fingerprint(self) -> str:
        """A cheap stable hash (hex) of names, sizes and labels; not of every pixel."""


class SourceAround:
    """What a source that is laid around another one passes on of it."""

    source: Source

    @property
    def form(self) -> str:
        return self.source.form

    @property
    def origin(self) -> str:
        return self.source.origin

    @property
    def groups(self) -> tuple[str, ...] | None:
        return self.source.groups

    @property
    def bad(self) -> tuple[BadRecord, ...]:
        return self.source.bad

    def __len__(self) -> int:
        return len(self.source)


@runtime_checkable
class Sharded(Protocol):
    """Of a source whose pictures lie in shards, in the order of its rows: how many in each, and how many bytes of the
    shards are read through ranges from a store (0 where all are on disk)."""

    @property
    def shards(self) -> tuple[int, ...]: ...

    @property
    def ranged(self) -> int: ...


@runtime_checkable
class BoxSource(Source, Protocol):
    """Pictures with boxes. ``read`` gives samples whose label is ``Boxes``; ``labels`` gives the class of every object,
    a picture's objects one after another (none for a picture without objects)."""

    def boxes(self, index: int) -> Boxes:
        """The objects of one picture as stored, without reading the picture. Raises BadPicture for a broken label."""


TaskName = Literal["classes", "multi-label", "boxes"]
"""What pictures carry."""


@dataclass(frozen=True)
class Reading:
    """How a text of labels is to be read, where it doesn't tell itself.

    Attributes:
        labels: of a table, the columns that hold 0 or 1, one a class; or the one column whose cells list classes.
        label_attribute: of an augmented manifest, the attribute that holds the label.
        label_format: of an augmented manifest, what its lists of numbers are.
        columns: of a text of boxes, what the fields of a line are.
        separator: between the fields of a line; None for blanks and tabs.
        unit: of a text of boxes, the unit of its coordinates.
        names: class number -> name, where labels are numbers.
        group_column: of a table, the column that tells which pictures belong together.
        idx: of ``.rec`` files, read only the records that the ``.idx`` file beside each lists.
    """

    labels: tuple[str, ...] = ()
    label_attribute: str | None = None
    label_format: Literal["multi-hot", "class-id"] | None = None
    columns: tuple[str, ...] = ()
    separator: str | None = None
    unit: Literal["pixel", "fraction"] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    group_column: str | None = None
    idx: bool = False


@dataclass(frozen=True)
class Dataset:
    """What a path held: its splits, its class names in label order, and what was decided on the way.

    ``said`` has one line a decision ("found folders per class: 10 classes, 60,000 pictures"); those that tell of
    something odd are in ``remarks`` too. ``task`` tells what the pictures carry: one class each (``classes``); any
    number of them (``multi-label``: every label is a row of as many numbers as there are classes, 1 for those that it
    has, else 0); or ``boxes`` (every source is a ``BoxSource``).
    """

    train: Source
    validation: Source | None
    test: Source | None
    class_names: tuple[str, ...]
    named: bool
    said: tuple[str, ...] = field(default=())
    task: TaskName = "classes"
    remarks: tuple[Remark, ...] = ()
