"""Memory stays with the process while a network is trained on a CPU, and goes back afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from foveal.models import allocation
from foveal.models.allocation import memory_kept

CPU = torch.device("cpu")
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# Counts the pages that blocks of 64 MiB are given anew, each block being freed before the next is asked for.
COUNTING = """
import ctypes, resource, torch
from foveal.models.allocation import memory_kept
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = library.memset.argtypes = None
SIZE = 64 << 20
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        block = ctypes.c_void_p(library.malloc(SIZE))
        library.memset(block, 1, ctypes.c_size_t(SIZE))
        library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(pages())
with memory_kept(torch.device("cpu")):
    pages()
    held = resident()
    print(pages())
print(held - resident())
print(pages())
"""


@needs_glibc
def test_blocks_are_used_again_inside_and_given_back_after() -> None:
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True)
    before, inside, given_back, after = map(int, done.stdout.split())
    assert inside * 20 < before
    assert given_back > 60 << 20  # bytes
    assert after > before / 2


class Library:
    """Stands for the C library, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, ...]] = []

    def mallopt(self, name: int, value: int) -> None:
        self.told.append((name, value))

    def malloc_trim(self, pad: int) -> None:
        self.told.append((pad,))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda _: found)
    return found


@needs_glibc
def test_it_ends_with_the_body_whatever_happens_there(library: Library) -> None:
    def body() -> None:
        with memory_kept(CPU):
            assert library.told == [(-4, 0), (-1, -1)]
            raise KeyError

    with pytest.raises(KeyError):
        body()
    assert library.told[2:] == [(-4, 65536), (-3, 32 << 20), (-1, 64 << 20), (0,)]


@pytest.mark.parametrize(("system", "libc"), [("Linux", "musl"), ("Linux", ""), ("Darwin", ""), ("Windows", "")])
def test_without_glibc_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, library: Library, system: str, libc: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    with memory_kept(CPU):
        pass
    assert not library.told


def test_for_a_card_nothing_is_told(library: Library) -> None:
    with memory_kept(torch.device("cuda")):
        pass
    assert not library.told
