"""Memory that a training step frees is kept for the next step, where the C library can be told so (glibc).

Left alone, glibc hands blocks above 32 MiB back to the system as soon as they are free, and gets them anew in the next
step, page by page: an eighth of a step's time with SSD at 512 pixels on a CPU. PyTorch has a cache of its own for
cards, and none for a CPU.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Names and standard values of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = -1
STANDARD_TRIM, STANDARD_MAPS = 128 * 1024, 65536


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keep free memory in this process while the body runs; then give back what is free. Nests: the outermost counts.

    Does nothing where there is no glibc.
    """
    library = _glibc()
    if library is None or _depth[0]:
        yield
        return
    _depth[0] += 1
    try:
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, NEVER)
        yield
    finally:
        _depth[0] -= 1
        library.mallopt(M_MMAP_MAX, STANDARD_MAPS)
        library.mallopt(M_TRIM_THRESHOLD, STANDARD_TRIM)
        library.malloc_trim(0)


_depth = [0]


def _glibc() -> ctypes.CDLL | None:
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)
