"""Wrong inputs given to readers, and what may come of it: data, or an error that a person can mend.

    python tests/fuzz/fuzzing.py [READER ...] [--count N] [--seed N] [--keep FOLDER]      as `make fuzz` does

Each input is made of the reader's real ones (``mutation``), and goes through the whole reader. A failure is: any
exception but UserError, a warning, a message that can't be printed, more than a second of processor time, more than
512 MB of memory, a file written outside the folder. What failed is kept in ``build/fuzz``. It wants Linux.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

from fence import Escaped, fenced
from readers import PACKAGE, READERS, Reader, begin, printable

from foveal.errors import UserError

MEMORY = 512 << 20  # bytes beyond what the process has at the start
SLOW = 1.0  # seconds of processor time for one input
STOPPED = 10.0  # seconds of processor time after which it is stopped
COUNTS = {"binary": 200_000, "text": 20_000}  # of `make fuzz`
MEASURED = 1_500  # inputs, after those of the corpus, whose lines are noted: it takes several times as long
FOUND = Path("build") / "fuzz"


class Stopped(BaseException):
    """It took too long."""


@dataclass(frozen=True)
class Failure:
    """An input that came to something else than data or a UserError."""

    what: str
    content: bytes


@dataclass
class Report:
    """What came of all inputs. ``lines``: of each module which lines of its functions were reached, and of how many."""

    reader: str
    inputs: int = 0
    read: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0
    peak: int = 0
    lines: dict[str, tuple[set[int], int]] = field(default_factory=dict)
    rare: list[bytes] = field(default_factory=list)


def fuzz(reader: Reader, folder: Path, count: int, seed: int = 0, *, measure: bool = False) -> Report:
    """Give a reader what its corpus has, and ``count`` inputs that the seed makes.

    Args:
        folder: an empty one, to work in.
        measure: whether to note which lines are reached, at ``MEASURED`` inputs.
    """
    report = Report(reader.name)
    right, seeds = reader.right(), reader.seeds()
    begin(reader, folder)
    for content in right:  # whatever is imported late, is imported now
        _outcome(reader, folder, content)
    before = _peak()
    tracer = _Lines([PACKAGE / module for module in reader.modules]) if measure else None
    started = time.process_time()
    with _guarded(folder):
        for number, content in enumerate(_inputs(reader, right, seeds, count, seed)):
            if tracer is None or number >= len(seeds) + MEASURED:
                _try(reader, folder, content, report)
            elif tracer.reached(_try, reader, folder, content, report):
                report.rare.append(content)
    report.seconds = time.process_time() - started
    report.peak = _peak() - before
    report.lines = tracer.share() if tracer is not None else {}
    return report


def _inputs(reader: Reader, right: Sequence[bytes], seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    yield from seeds
    for number in range(count):
        rng = Random(f"{reader.name}/{seed}/{number}")
        yield reader.make(rng, right if rng.random() < 0.8 else seeds, reader.words)


def _try(reader: Reader, folder: Path, content: bytes, report: Report) -> None:
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, STOPPED)
    try:
        outcome = _outcome(reader, folder, content)
    except (Exception, Escaped, Stopped) as error:  # noqa: BLE001 - told below, each of them
        last = traceback.extract_tb(error.__traceback__)[-12:]
        report.failures.append(
            Failure("".join(traceback.format_list(last)) + f"{type(error).__name__}: {error}", content)
        )
    else:
        report.read += not outcome
        if outcome:
            report.errors[outcome] += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    took = time.process_time() - started
    report.inputs += 1
    if sys.gettrace() is not None:  # which takes much longer
        return
    report.slowest = max(report.slowest, took)
    if took > SLOW:
        report.failures.append(Failure(f"it took {took:.1f} s", content))


def _outcome(reader: Reader, folder: Path, content: bytes) -> str:
    """The kind of UserError that reading comes to; empty for none."""
    try:
        reader.read(folder, content)
    except UserError as error:
        printable(str(error))
        return f"{type(error).__name__}: {_kind(error.what)}"
    return ""


def _kind(what: str) -> str:
    """A message without what differs from input to input."""
    line = re.sub(r"'.*'|\".*\"|[-+.\w]*\d[-+.,\w]*", "_", what.splitlines()[0] if what else "")
    return line[:90]


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    """Hold what runs inside to its memory, its time and its folder, and make errors of warnings."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGPROF, _stop)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, hard))
    try:
        with fenced(folder), warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(f"stopped after {STOPPED:.0f} s of processor time")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Lines:
    """Which lines of functions are reached in some modules."""

    def __init__(self, modules: Sequence[Path]) -> None:
        self.seen: dict[str, set[int]] = {str(module): set() for module in modules}
        self.grew = False

    def reached(self, call: Any, *args: Any) -> bool:
        """Call, and tell whether it reached a line for the first time."""
        self.grew = False
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            call(*args)
        finally:
            sys.settrace(before)
        return self.grew

    def share(self) -> dict[str, tuple[set[int], int]]:
        """Of each module, which lines were reached, and of how many."""
        there = {module: _lines_of(compile(Path(module).read_bytes(), module, "exec")) for module in self.seen}
        return {
            Path(module).relative_to(PACKAGE).as_posix(): (seen & there[module], len(there[module]))
            for module, seen in self.seen.items()
        }

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename in self.seen else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            seen = self.seen[frame.f_code.co_filename]
            if frame.f_lineno not in seen:
                seen.add(frame.f_lineno)
                self.grew = True
        return self._line


def _lines_of(code: CodeType) -> set[int]:
    """The lines of the functions in compiled code, their ``def`` left out."""
    found: set[int] = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _lines_of(constant)
            if constant.co_flags & 1:  # a function, not a class's body
                found |= {line for _, _, line in constant.co_lines() if line} - {constant.co_firstlineno}
    return found


def _run(name: str, count: int, seed: int) -> Report:
    reader = READERS[name]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        inner = Path(folder) / "a" / "b" / "c" / "d"  # a name may lead up a few folders, and reaches nobody's
        inner.mkdir(parents=True)
        return fuzz(reader, inner, count, seed, measure=True)


def told(report: Report) -> str:
    """A report as lines of text."""
    errors, failures = sum(report.errors.values()), len(report.failures)
    reached = ", ".join(f"{name} {len(seen)}/{there}" for name, (seen, there) in report.lines.items())
    lines = [
        f"{report.reader}: {report.inputs:,} inputs, {report.read:,} read, {errors:,} refused by {len(report.errors)}"
        f" kinds of message, {failures:,} {'FAILURES' if failures else 'failures'}",
        f"  {report.seconds:.0f} s, slowest {1000 * report.slowest:.0f} ms, peak +{report.peak / 2**20:.0f} MB",
        f"  lines reached by {MEASURED:,} of them: {reached}",
    ]
    lines += [f"  {count:>7,}  {kind}" for kind, count in report.errors.most_common(8)]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; all when left out")
    parser.add_argument("--count", type=int, help="inputs for each; 200,000 for a binary form, 20,000 for a text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that reach lines which none reached before")
    args = parser.parse_args()
    unknown = set(args.readers) - set(READERS)
    if unknown:
        parser.error(f"no reader is called {', '.join(sorted(unknown))}")
    failed = 0
    reached: dict[str, tuple[set[int], int]] = {}
    for name in args.readers or READERS:
        count = args.count or COUNTS["binary" if READERS[name].binary else "text"]
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # of its own, for the peak of its memory
            report = pool.submit(_run, name, count, args.seed).result()
        print(told(report), flush=True)
        for module, (seen, there) in report.lines.items():
            reached[module] = reached.get(module, (set(), 0))[0] | seen, there
        for content in report.rare if args.keep else ():
            _keep(args.keep / name, content)
        different = {failure.what: failure for failure in report.failures}
        for failure in list(different.values())[:20]:
            print(f"{failure.what}\n  of the input {_keep(FOUND / name, failure.content)}", flush=True)
        failed += bool(report.failures)
    print("lines of functions that were reached, by all readers together:")
    for module, (seen, there) in sorted(reached.items()):
        print(f"  {module:28} {len(seen):4} of {there:4}, {100 * len(seen) / there:.0f} %")
    return failed > 0


def _keep(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / sha256(content).hexdigest()[:12]
    path.write_bytes(content)
    return path


if __name__ == "__main__":
    sys.exit(main())
