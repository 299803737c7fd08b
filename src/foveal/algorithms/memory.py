"""When memory runs out: an error that says what was too large, and what to make smaller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from foveal.errors import UserError


@contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Within this block, memory that runs out (the machine's or the card's) raises a UserError with these words."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has a class of its own for cards only; on a CPU its allocator raises a plain RuntimeError.
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(f"{what}: the memory does not suffice", "", remedy, "mini_batch_size") from error
