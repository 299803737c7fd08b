"""The order in which pictures come: a global sequence that every rank and every restart agrees on.

Passes over the data follow each other without a gap: position k of the run is position k % n of pass k // n.
A batch is a run of positions, so it may straddle two passes, and each picture comes exactly once a pass.

    permutation     any picture may come next
    window          in the source's order through a shuffle buffer: it is filled with the first ``window`` pictures,
                    then a random slot gives its picture and takes the next one; what is left comes in random order
    shards+window   the shards in an order drawn anew each pass, one behind the other, through the same buffer
    none            as the source has them

Position k of a window needs no walk from the start: what a slot holds before a step is what was put in at the last
earlier step that drew it. Slots are drawn in blocks, each by its own counter, so the blocks before are looked through
backwards until every slot is known, a few windows back. So memory depends on the window (about 250 bytes a picture of
it, and 6 MB at least), not on the data; a permutation takes 8 bytes a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from foveal.data.subset import Subset
from foveal.errors import UserError
from foveal.records import Sharded, Source, SourceAround
from foveal.storage.cache import room_left

Rows = NDArray[np.int64]
Kind = Literal["permutation", "window", "shards+window", "none"]
T = TypeVar("T")

WINDOWS_KEPT = 10  # windows' bytes within which nearly every picture has come before its part makes room
_ORDER = 0x6F72646572  # keys of the counter-based generator, so that order and augmentation never share numbers
_AUGMENT = 0x617567
_PERMUTATION, _SLOTS, _LEFT, _SHARDS = range(4)  # what an order draws
_LEAST_BLOCK, _LARGEST_BLOCK = 1 << 16, 1 << 22  # steps whose slots are drawn together


@dataclass(frozen=True)
class Order:
    """A sequence of rows of an indexed source.

    Attributes:
        length: pictures of the source, at least 1.
        window: pictures that the shuffle buffer holds, at least 1; only of the two kinds that have one.
        shards: pictures of each shard in the order of the source, of ``shards+window``; their sum is ``length``.
    """

    length: int
    seed: int
    kind: Kind = "permutation"
    window: int = 1
    shards: tuple[int, ...] = ()

    def rows(self, places: range) -> tuple[Rows, Rows]:
        """Rows and pass numbers, both int64 [len(places)], of these positions of the run."""
        positions = np.arange(places.start, places.stop, places.step, dtype=np.int64)
        passes, rows = np.divmod(positions, self.length)
        for number in np.unique(passes).tolist():
            here = passes == number
            rows[here] = self._in_pass(rows[here], number)
        return rows, passes

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what a checkpoint keeps to tell whether a run goes on in its order."""
        return asdict(self) | {"shards": list(self.shards)}

    def _in_pass(self, positions: Rows, number: int) -> Rows:
        if self.kind == "none":
            return positions
        if self.kind == "permutation":
            return _permutation(self.length, self.seed, number)[positions]
        rows = _through_window(positions, self.length, min(self.window, self.length), self.seed, number)
        return rows if self.kind == "window" else _shuffled_shards(self.shards, self.seed, number).rows(rows)


def choose_order(
    wanted: str, window: int, source: Source, window_given: bool = False
) -> tuple[Kind, tuple[str, ...], tuple[str, ...]]:
    """The order for a source (setting ``order``), lines that tell why, and warnings.

    ``auto`` is a permutation, and a window for what is read through ranges from a store. ``window_given``: whether the
    user gave the window, and is told where none is used.

    Raises:
        UserError: for ``shards+window`` where there are no shards.
    """
    inner = _innermost(source)
    sharded = isinstance(inner, Sharded)
    if wanted == "shards+window" and not sharded:
        raise UserError(
            f"order={wanted} is for .rec files and WebDataset's shards, and this is data of the form {source.form}",
            source.origin,
            "Set order=window for a shuffle buffer over it, or leave order out.",
            "order",
        )
    ranged = inner.ranged if isinstance(inner, Sharded) else 0
    told: tuple[str, ...] = ()
    kind = cast(Kind, wanted)
    if wanted == "auto":
        kind = "permutation"
        if isinstance(inner, Sharded) and ranged:
            kind = "shards+window" if len(inner.shards) > 1 else "window"
            told = (f"order={kind} with shuffle_buffer={window}, for the data is read through ranges from its store",)
        elif window_given:
            idle = f"shuffle_buffer={window} has no effect: order=auto shuffles what is on disk all over"
            return kind, (), (f"{idle}; order=window would use it",)
    return kind, told, _warn_of_ranges(kind, window, ranged, len(inner)) if ranged else ()


def order_of(kind: str, window: int, seed: int, source: Source) -> Order:
    """The order of a kind that ``choose_order`` gave for a source."""
    assert kind != "auto"
    shards = shards_of(source) if kind == "shards+window" else ()
    return Order(len(source), seed, cast(Kind, kind), window if "window" in kind else 1, shards)


def shards_of(source: Source) -> tuple[int, ...]:
    """How many of a source's pictures lie in each of its shards, also where some are left out (``Subset``)."""
    inner = _innermost(source)
    assert isinstance(inner, Sharded)
    if source is inner or not isinstance(source, Subset):
        return inner.shards
    ends = np.cumsum(inner.shards)
    counts = np.bincount(np.searchsorted(ends, source.rows, side="right"), minlength=len(ends))
    return tuple(counts.tolist())


def _innermost(source: Source) -> Source:
    while isinstance(source, Subset | SourceAround) and not isinstance(source, Sharded):  # tiles have shards themselves
        source = source.source
    return source


def _warn_of_ranges(kind: Kind, window: int, ranged: int, pictures: int) -> tuple[str, ...]:
    """What makes the store be read more often than once a pass."""
    room = room_left()
    if ranged <= room or kind == "none":
        return ()
    if kind == "permutation":
        return ("order=permutation reads a part of a shard for nearly every picture: order=auto reads each about once",)
    each = ranged / pictures
    if WINDOWS_KEPT * window * each <= room:
        return ()
    smaller = max(1, int(room / WINDOWS_KEPT / each))
    return (
        f"shuffle_buffer={window} pictures of {each / 1000:,.1f} kB want {WINDOWS_KEPT} times their bytes of cache, or "
        f"parts are read more than once a pass: {smaller} would fit, or FOVEAL_CACHE_GB set higher",
    )


def shuffled(stream: Iterable[T], window: int, seed: int, number: int) -> Iterator[T]:
    """What comes along a stream of unknown length, in the order that ``window`` gives to a source of its length.

    Holds ``window`` of them. Of shards the stream has to be ``shard_order``'s for the same pass ``number``.
    """
    coming = iter(stream)
    held = list(islice(coming, window))
    slots: list[int] = []
    size = _block_size(window)
    for step, each in enumerate(coming):
        if step % size == 0:
            slots = _slots(window, seed, number, step // size).tolist()
        slot = slots[step % size]
        yield held[slot]
        held[slot] = each
    yield from (held[slot] for slot in _generator(seed, number, _LEFT).permutation(len(held)).tolist())


def shard_order(count: int, seed: int, number: int) -> Rows:
    """Numbers of the shards in the order in which pass ``number`` goes through them: int64 [count]."""
    return _generator(seed, number, _SHARDS).permutation(count)


def picture_generator(seed: int, number: int, row: int) -> np.random.Generator:
    """The generator of one picture in one pass: the same whatever the workers, ranks or restarts."""
    return np.random.Generator(np.random.Philox(key=[seed, _AUGMENT], counter=[0, row, number, 0]))


def _generator(seed: int, number: int, what: int, block: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, _ORDER], counter=[0, block, number, what]))


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int, number: int) -> Rows:
    return _generator(seed, number, _PERMUTATION).permutation(length)


@dataclass(frozen=True)
class _Shards:
    """Shards one behind the other: their first ``rows`` in the source, and the places at which they end."""

    starts: Rows
    begins: Rows
    ends: Rows

    def rows(self, places: Rows) -> Rows:
        shard = np.searchsorted(self.ends, places, side="right")
        found: Rows = self.starts[shard] + places - self.begins[shard]
        return found


@lru_cache(maxsize=4)
def _shuffled_shards(shards: tuple[int, ...], seed: int, number: int) -> _Shards:
    lengths = np.array(shards, dtype=np.int64)
    order = shard_order(len(shards), seed, number)
    ends = np.cumsum(lengths[order])
    return _Shards((np.cumsum(lengths) - lengths)[order], ends - lengths[order], ends)


def _through_window(positions: Rows, length: int, window: int, seed: int, number: int) -> Rows:
    """What comes at positions of a pass: its number (from 0) along the stream that goes through the buffer."""
    steps, size = length - window, _block_size(window)  # after so many steps nothing is left to take
    found = np.empty_like(positions)
    blocks = np.where(positions < steps, positions // size, -1)
    for block in np.unique(blocks).tolist():
        here = blocks == block
        if block < 0:
            found[here] = _left(window, seed, number, steps)[positions[here] - steps]
        else:
            found[here] = _given(window, seed, number, block)[positions[here] - block * size]
    return found


def _block_size(window: int) -> int:
    return min(max(_LEAST_BLOCK, 4 * window), _LARGEST_BLOCK)


def _slots(window: int, seed: int, number: int, block: int) -> Rows:
    """The slots that the steps of a block draw."""
    return _generator(seed, number, _SLOTS, block).integers(0, window, _block_size(window))


@lru_cache(maxsize=4)
def _given(window: int, seed: int, number: int, block: int) -> Rows:
    """What each step of a block gives: what was put in at the step before that drew its slot."""
    slots = _slots(window, seed, number, block)
    first = block * len(slots)
    by_slot = np.argsort(slots, kind="stable")
    drawn = slots[by_slot]
    again = np.concatenate([[False], drawn[1:] == drawn[:-1]])
    given = np.empty_like(slots)
    given[by_slot] = np.where(again, window + first + np.roll(by_slot, 1), _held(window, seed, number, first)[drawn])
    return given


@lru_cache(maxsize=2)
def _left(window: int, seed: int, number: int, steps: int) -> Rows:
    return _held(window, seed, number, steps)[_generator(seed, number, _LEFT).permutation(window)]


def _held(window: int, seed: int, number: int, step: int) -> Rows:
    """What the slots hold before a step."""
    held = np.arange(window)  # as long as they were not drawn
    unknown = np.ones(window, dtype=np.bool_)
    size = _block_size(window)
    for block in range(step // size, -1, -1):
        slots = _slots(window, seed, number, block)[: step - block * size]
        latest = np.full(window, -1)
        np.maximum.at(latest, slots, np.arange(len(slots)))
        told = unknown & (latest >= 0)
        held[told] = window + block * size + latest[told]
        unknown &= latest < 0
        if not unknown.any():
            break
    return held
