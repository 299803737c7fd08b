"""What passes between the rooms: samples, boxes, bad records, and the interface that every data form offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

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


@dataclass(frozen=True)
class Dataset:
    """What a path held: its splits, its class names in label order, and what was decided on the way.

    ``said`` has one line a decision ("found folders per class: 10 classes, 60,000 pictures").
    """

    train: Source
    validation: Source | None
    test: Source | None
    class_names: tuple[str, ...]
    named: bool
    said: tuple[str, ...] = field(default=())
