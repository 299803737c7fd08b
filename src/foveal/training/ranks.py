"""Several processes that train one network together, as ``torchrun`` starts them: how they meet, add up and part.

Every rank runs every line of a run on the same numbers; what is decided by clock, disk or hub is decided by the first
and sent to the rest, and the first alone writes and tells. Texts and numbers of the host go by gloo, gradients and sums
by nccl where the network is on a card. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, NoReturn, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from foveal.data.loader import Batch
from foveal.errors import UserError
from foveal.records import BadRecord
from foveal.settings import DetectionSettings, Settings
from foveal.training.stopping import StopRequest

PATIENCE = timedelta(minutes=30)  # that a rank waits for another one that is there and does not answer
HEARD = timedelta(seconds=5)  # that a rank waits for the first one to tell what went wrong
BUCKET = 32 << 20  # bytes of gradients that are added up at a time
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ToldByAnother(UserError):
    """An error that ends this rank too, and that another one tells."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0. count: how many there are.
        here: its number among those of this machine. beside: how many of them there are.
    """

    rank: int = 0
    count: int = 1
    here: int = 0
    beside: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def part(self, places: range) -> range:
        """The places of the global order that are this rank's: every so manyth of them."""
        return places[self.rank :: self.count]

    def add(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks."""
        if self.count > 1:
            dist.all_reduce(tensor)

    def add_gradients(self, network: nn.Module, share: float, alike: bool) -> None:
        """Replace all gradients by their sum over all ranks, times ``share``.

        Args:
            alike: whether each rank has gradients of the same parameters. Those that only some have count 0 elsewhere;
                those that none has stay without one.
        """
        if self.count == 1:
            return
        learning = [each for each in network.parameters() if each.requires_grad]
        if not alike:
            had = torch.tensor([each.grad is not None for each in learning], dtype=torch.int64)
            dist.all_reduce(had)
            for parameter, number in zip(learning, had.tolist(), strict=True):
                if number and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        for gradients in _buckets(each.grad for each in learning if each.grad is not None):
            # order of memory does not matter: all ranks' tensors are laid out alike
            flat = torch.cat([each.flatten() for each in gradients])
            dist.all_reduce(flat)
            pieces = flat.mul_(share).split([each.numel() for each in gradients])
            torch._foreach_copy_(
                gradients, [piece.view(each.shape) for piece, each in zip(pieces, gradients, strict=True)]
            )

    def send_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first rank."""
        if self.count > 1:
            for tensor in tensors:
                sent = tensor.detach().contiguous()  # filters may lie channels last
                dist.broadcast(sent, 0)
                tensor.detach().copy_(sent)

    def everyones(self, content: bytes) -> list[bytes]:
        """What each rank gives here, by rank."""
        if self.count == 1:
            return [content]
        lengths = self.table([len(content)])
        mine = torch.zeros(max(1, *(length for (length,) in lengths)), dtype=torch.uint8)
        if content:
            mine[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        parts = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(parts, mine)
        return [part[:length].numpy().tobytes() for part, (length,) in zip(parts, lengths, strict=True)]

    def table(self, numbers: list[int]) -> list[list[int]]:
        """As many whole numbers of each rank, by rank."""
        if self.count == 1:
            return [numbers]
        parts = [torch.empty(len(numbers), dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(parts, torch.tensor(numbers, dtype=torch.int64))
        return [part.tolist() for part in parts]

    def meet(self) -> None:
        """Wait until all are here."""
        self.table([0])

    def decide(self, decision: Callable[[], Any]) -> Any:
        """What the first rank decides, which alone is asked; JSON-able."""
        if self.count == 1:
            return decision()
        return json.loads(self.firsts(json.dumps(decision()).encode() if self.first else b""))

    def firsts(self, content: bytes) -> bytes:
        """The first rank's bytes."""
        if self.count == 1:
            return content
        length = self.table([len(content)])[0][0]
        sent = torch.zeros(length, dtype=torch.uint8)
        if self.first and length:
            sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(sent, 0)
        return sent.numpy().tobytes()

    def agree(self, what: str, value: Mapping[str, Any]) -> None:
        """Raise UserError on all ranks when one has other values (JSON-able) than the first."""
        every = [json.loads(each) for each in self.everyones(json.dumps(value, sort_keys=True).encode())]
        for rank, other in enumerate(every):
            differing = [name for name in every[0] if other[name] != every[0][name]]
            if differing:
                raise UserError(
                    f"processes 0 and {rank} differ in their {differing[0]}",
                    what,
                    "Start all processes with the same command, on machines that see the same data.",
                )


def idle_alone(settings: Settings, ranks: Ranks) -> list[str]:
    """A line for each setting that does nothing where one process trains."""
    others = {"sync_batch_norm": "1" * settings.sync_batch_norm}
    if isinstance(settings, DetectionSettings) and settings.loss_shares != "batch":
        others["loss_shares"] = settings.loss_shares
    given = {name: value for name, value in others.items() if value}
    return [f"{name}={value} has no effect: one process trains" for name, value in given.items() if ranks.count == 1]


@dataclass(frozen=True)
class News:
    """What all ranks know of a step before they take it.

    Attributes:
        pictures: of all ranks that could be read. fewest: of the rank that has fewest.
        signal: name of a signal that has reached one of them, or "".
        due: whether a checkpoint is, by the first rank's clock.
        bad: pictures of the batch that could not be read.
    """

    pictures: int
    fewest: int
    signal: str
    due: bool
    bad: tuple[BadRecord, ...]


def exchange(ranks: Ranks, batch: Batch, stop: StopRequest, due: bool) -> News:
    """Tell each other of the next step, once."""
    table = ranks.table([len(batch.rows), _number(stop), due, len(batch.bad)])
    bad = batch.bad
    if ranks.count > 1 and any(row[3] for row in table):
        bad = everyones_bad(ranks, bad)
    counts = [row[0] for row in table]
    return News(sum(counts), min(counts), _signal(row[1] for row in table), bool(table[0][2]), bad)


def everyones_bad(ranks: Ranks, bad: Iterable[BadRecord]) -> tuple[BadRecord, ...]:
    told = ranks.everyones(json.dumps([[each.where, each.reason] for each in bad]).encode())
    return tuple(BadRecord(*each) for part in told for each in json.loads(part))


def stopping(ranks: Ranks, stop: StopRequest) -> str:
    """The name of a signal that has reached one of the ranks, or ""."""
    return _signal(row[0] for row in ranks.table([_number(stop)]))


def _number(stop: StopRequest) -> int:
    return signal.Signals[stop.reason].value if stop.reason else 0


def _signal(numbers: Iterable[int]) -> str:
    number = max(numbers)
    return signal.Signals(number).name if number else ""


def _buckets(gradients: Iterable[Tensor | None]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        assert gradient is not None
        bucket.append(gradient)
        if sum(each.nbytes for each in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """Who this process is, by the variables that ``torchrun`` sets; alone without them. Raises UserError."""
    count = _whole(environment, "WORLD_SIZE", 1)
    if count == 1:
        return Ranks()
    missing = [name for name in NEEDED if not environment.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE={count} asks for several processes, but {missing[0]} is not set",
            "environment",
            "Start them with torchrun, which sets all that is needed, or unset WORLD_SIZE.",
        )
    rank = _whole(environment, "RANK", 0)
    if not rank < count:
        raise UserError(f"RANK={rank} is outside 0..{count - 1} (WORLD_SIZE={count})", "environment", "Use torchrun.")
    return Ranks(rank, count, _whole(environment, "LOCAL_RANK", rank), _whole(environment, "LOCAL_WORLD_SIZE", count))


def _whole(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    text = environment.get(name, "") or str(otherwise)
    if not text.isdecimal():
        raise UserError(f"{name}={text!r} is no whole number", "environment", f"Use torchrun, or unset {name}.")
    return int(text)


class _Store(Protocol):
    """What of torch's key-value store is used here."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def check(self, keys: list[str], /) -> bool: ...
    def add(self, key: str, amount: int, /) -> int: ...
    def wait(self, keys: list[str], timeout: timedelta, /) -> None: ...


class Together:
    """``with Together() as ranks:`` all processes of a run meet, and part.

    What ends one of them ends all: as soon as its connections close, the others raise what it left word of, or that it
    has gone. The first rank tells it; the others, if the first one is no longer there.
    """

    def __init__(self) -> None:
        self.ranks = ranks_of(os.environ)
        self.store: _Store | None = None

    def __enter__(self) -> Ranks:
        if self.ranks.count > 1:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
            store, rank, count = next(iter(rendezvous("env://", timeout=PATIENCE)))
            self.store = dist.PrefixStore("foveal", store)  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
        return self.ranks

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.store is None:
            return
        if error is None:
            dist.destroy_process_group()
            return
        with _terminations_held():
            lost = is_lost(error)
            if not lost and isinstance(error, Exception):
                self._leave_word(self.store, error)
            dist.destroy_process_group()  # closes the connections, by which the others learn of it
            if lost or isinstance(error, UserError):
                self._raise(self.store, error, lost)

    def _leave_word(self, store: _Store, error: Exception) -> None:
        named = f"{type(error).__name__}: {error}"
        fields = [named, "training", "This is a bug in Foveal; its traceback is above.", ""]
        if isinstance(error, UserError):
            fields = [error.what, error.where, error.remedy, error.setting]
        try:
            if store.add("words", 1) == 1:
                store.set("word", json.dumps([self.ranks.rank, *fields]))
        except RuntimeError:
            return  # whoever keeps the store has gone; then there is nobody to tell either

    def _raise(self, store: _Store, error: BaseException, lost: bool) -> NoReturn:
        found = self._word(store) if lost else None
        if found is None:
            found = error if isinstance(error, UserError) else self._gone()
        if not self._tells(store):
            raise ToldByAnother(found.what, found.where, found.remedy, found.setting) from error
        raise found from (None if found is error else error)

    def _tells(self, store: _Store) -> bool:
        """Whether this rank is to tell: the first, or where it does not, whoever comes first of the others."""
        try:
            if self.ranks.first:
                store.set("told", "1")
                return True
            store.wait(["told"], HEARD)
            time.sleep(0.5)  # so that torchrun, which ends all when one ends, lets the first one finish its words
            return False
        except RuntimeError:
            try:
                return store.add("tellers", 1) == 1
            except RuntimeError:
                return True  # the store has gone with the first rank

    def _word(self, store: _Store) -> UserError | None:
        """What the rank that failed left, from any rank."""
        try:
            if not store.check(["word"]):
                return None
            rank, what, where, remedy, setting = json.loads(store.get("word"))
        except RuntimeError:
            return None
        return UserError(f"process {rank}: {what}" if rank != 0 else what, where, remedy, setting)

    def _gone(self) -> UserError:
        return UserError(
            f"another one of the {self.ranks.count} processes has ended without a word, or does not answer",
            "training",
            "Look whether the system killed it (for want of memory, as a rule); the same command goes on from the last "
            "checkpoint.",
        )


def is_lost(error: BaseException) -> bool:
    """Whether an error of torch's says that another process does not answer."""
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower() or "Connection closed" in str(error)


@contextmanager
def _terminations_held() -> Iterator[None]:
    """SIGTERM, which torchrun sends to all when one has ended, does not cut off what is said of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
