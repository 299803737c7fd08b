"""``foveal tune``: many runs with other settings each, of which the best one counts.

What a tuning leaves in its folder:

    OUT/
      tuning.json         what is searched, and the call of ``train`` that all runs share
      study.db            the runs so far, by optuna
      trials/0007.json    the whole call of ``train`` of run 7
      trials/0007.log     what it said
      trials/0007/        its run folder

Each run is a process of its own. The tuner may be killed at any moment: runs that were under way then are gone on
with, those that had ended are not started again.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foveal.errors import UserError
from foveal.files import lock, write_json
from foveal.progress import duration
from foveal.records import Reading
from foveal.settings import parse_settings
from foveal.storage.address import as_written
from foveal.training.run_folder import make_folder
from foveal.training.stopping import stop_on_signals
from foveal.tuning.ranges import USED_BY, Range, read_range, recommended

if TYPE_CHECKING:
    import optuna

WARM_EPOCHS, WARM_TRIALS = 2, 5  # what the median rule waits for
FAILURES = 3  # runs in a row that fail before any has succeeded: all would
POLL = 0.3  # seconds between two looks at the runs
LESS_IS_BETTER = ("log_loss", "calibration_error", "hamming_loss", "false_alarms_per_empty_picture")
OBJECTIVES = {"image-classification": "accuracy", "object-detection": "mAP"}


@dataclass(frozen=True)
class Search:
    """What a tuning looks for.

    Attributes:
        algorithm: ``image-classification`` or ``object-detection``.
        ranges: what each setting is searched in.
        metric: the validation figure that counts; by the algorithm when left out.
        trials: runs in all. jobs: runs at a time. pruning: whether a run below the median of the others is stopped.
        seed: decides what is tried; the runs' own seed is a setting of theirs.
    """

    algorithm: str
    ranges: tuple[Range, ...]
    metric: str
    trials: int = 20
    jobs: int = 1
    pruning: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """One run: its number from 0, its settings, and how it ended. ``value`` is None where it failed."""

    number: int
    settings: Mapping[str, object]
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    folder: str


@dataclass(frozen=True)
class Tuned:
    """What a tuning came to. ``best`` is None when no run succeeded; ``stopped`` names the signal that ended it."""

    best: Trial | None
    trials: tuple[Trial, ...]
    metric: str
    stopped: str = ""


def tune(
    data: str | Path,
    output: str | Path | None = None,
    *,
    ranges: Sequence[str] = (),
    algorithm: str | None = None,
    metric: str | None = None,
    trials: int = 20,
    jobs: int = 1,
    pruning: bool = True,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    **call: Any,
) -> Tuned:
    """Search settings: ``trials`` runs of ``foveal.train``, ``jobs`` at a time; the same call again goes on.

    Args:
        data: as ``foveal.train`` takes it.
        output: the tuning's folder; ``foveal-tuning/<name of data>`` when left out.
        ranges: as ``read_range`` takes them; none: the guide's (reference 1.4) of every setting that is not given.
        algorithm: by the data when left out.
        metric: the validation figure that counts, such as ``accuracy``, ``macro_f1`` or ``log_loss``.
        pruning: stop runs that are below the median of the others at the same epoch.
        seed: decides what is tried.
        say: gets a line for each run that has ended, and for what was decided.
        call: everything else that ``foveal.train`` takes; settings among it hold for all runs.

    Returns:
        The best run and all of them.

    Raises:
        UserError: for wrong ranges, settings or data; when another tuning lies in ``output``; when every run fails.
    """
    _need_optuna()
    out = Path(output) if output is not None else Path("foveal-tuning") / (Path(as_written(data)).stem or "data")
    search = _search(data, tuple(ranges), algorithm, metric, trials, jobs, pruning, seed, call)
    make_folder(out)
    with lock(out, "another process is tuning in this folder"):
        _keep(out, search, _plain({"data": as_written(data), **call}))
        say(f"searching for the best validation {search.metric}: {'; '.join(map(str, search.ranges))}")
        return _Tuning(out, search, {"data": as_written(data), **call}, say).run()


def _need_optuna() -> None:
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "tuning needs the package optuna, which is not installed", "tune", 'Install it: pip install "foveal[tune]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _search(
    data: str | Path, ranges: tuple[str, ...], algorithm: str | None, metric: str | None, trials: int, jobs: int,
    pruning: bool, seed: int, call: Mapping[str, Any],
) -> Search:  # fmt: skip
    if trials < 1 or jobs < 1:
        raise UserError(f"trials={trials}, jobs={jobs}", "tune", "Both are whole numbers from 1.", "trials")
    found = algorithm or _algorithm_of(data, call)
    settings = {name: value for name, value in call.items() if name not in CALL}
    parse_settings(settings, recipe=str(call.get("recipe", "modern")), algorithm=found)  # wrong ones are told now
    read = tuple(read_range(text, found) for text in ranges) or recommended(found, settings)
    for each in read:
        if each.name in settings:
            raise UserError(
                f"{each.name} is given as {settings[each.name]} and searched as well",
                "range",
                "Leave one out.",
                each.name,
            )
    if not read:
        raise UserError("every setting that the guide would search is given", "range", "Name what to search: --range.")
    return Search(found, read, metric or OBJECTIVES[found], trials, jobs, pruning, seed)


def _algorithm_of(data: str | Path, call: Mapping[str, Any]) -> str:
    from foveal.data.recognise import open_data

    told = ("form", "validation", "test", "file_column", "label_column", "root", "reading")
    dataset = open_data(data, **{name: call[name] for name in told if call.get(name) is not None})
    return "object-detection" if dataset.task == "boxes" else "image-classification"


CALL = frozenset(
    "algorithm recipe validation test model form file_column label_column root reading tensorboard_folder".split()
)
"""What ``train`` takes besides data, output and settings."""


def _plain(call: Mapping[str, Any]) -> dict[str, Any]:
    """The call as JSON can hold it."""

    def value(each: Any) -> Any:
        if isinstance(each, Reading):
            return {**asdict(each), "names": {str(number): name for number, name in each.names.items()}}
        return os.fspath(each) if isinstance(each, os.PathLike) else each

    return {name: value(each) for name, each in call.items() if each is not None}


def _keep(out: Path, search: Search, call: Mapping[str, Any]) -> None:
    """Write what is searched, or compare it with what was. More trials, jobs and pruning may be asked for later."""
    path = out / "tuning.json"
    fixed = {"search": asdict(replace(search, trials=0, jobs=0, pruning=True)), "call": call}
    now = json.loads(json.dumps(fixed))
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"is damaged: {error}", str(path), "Name another folder with --output.") from error
        if before != now:
            raise UserError(
                "a tuning of other data, settings or ranges is in this folder",
                str(out),
                "Name another folder with --output, or give the same to go on with that one.",
            )
        return
    write_json(path, now)


@dataclass
class _Running:
    """A run that is under way, and how far its figures were read."""

    trial: optuna.trial.Trial
    process: subprocess.Popen[bytes]
    began: float
    values: list[float] = field(default_factory=list)
    read: int = 0
    pruned: bool = False


class _Tuning:
    """The runs of one study: asked for, started, watched, told."""

    def __init__(self, out: Path, search: Search, call: Mapping[str, Any], say: Callable[[str], None]) -> None:
        import optuna

        self.out, self.search, self.call, self.say = out, search, _plain(call), say
        self.state = optuna.trial.TrialState
        self.less = search.metric in LESS_IS_BETTER
        median = optuna.pruners.MedianPruner(n_startup_trials=WARM_TRIALS, n_warmup_steps=WARM_EPOCHS)
        self.study = optuna.create_study(
            study_name="foveal",
            storage=f"sqlite:///{(out / 'study.db').absolute()}",
            direction="minimize" if self.less else "maximize",
            load_if_exists=True,
            pruner=median if search.pruning else optuna.pruners.NopPruner(),
        )
        (out / "trials").mkdir(exist_ok=True)
        self.failed = 0
        self.took: list[float] = []

    def run(self) -> Tuned:
        unfinished = self._unfinished()
        running: list[_Running] = []
        if unfinished:
            self.say(f"going on with {len(unfinished)} run{'s' * (len(unfinished) != 1)} that had not ended")
        with stop_on_signals() as request:
            try:
                while not request.reason:
                    while len(running) < self.search.jobs and (trial := self._next(unfinished)) is not None:
                        running.append(self._start(trial))
                    if not running:
                        break
                    time.sleep(POLL)
                    running = [each for each in running if not self._ended(each)]
            finally:
                _end(running)
        return Tuned(self._best(), tuple(self._trials()), self.search.metric, request.reason)

    def _unfinished(self) -> deque[optuna.trial.Trial]:
        import optuna

        left = self.study.get_trials(deepcopy=False, states=(self.state.RUNNING,))
        return deque(optuna.trial.Trial(self.study, each._trial_id) for each in left)

    def _next(self, unfinished: deque[optuna.trial.Trial]) -> optuna.trial.Trial | None:
        import optuna

        if unfinished:
            return unfinished.popleft()
        number = len(self.study.get_trials(deepcopy=False))
        if number >= self.search.trials:
            return None
        # a sampler's own state is lost with its process: each run's is made anew
        self.study.sampler = optuna.samplers.TPESampler(seed=(self.search.seed * 1_000_003 + number) % 2**32)
        return self.study.ask()

    def _start(self, trial: optuna.trial.Trial) -> _Running:
        call = {**self.call, **self._suggested(trial), "algorithm": self.search.algorithm}
        call["output"] = str(self._folder(trial.number))
        write_json(self._folder(trial.number).with_suffix(".json"), call)
        self._wait_for_orphan(trial.number)
        threads = max(1, (os.cpu_count() or 1) // self.search.jobs)
        environment = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(threads), **os.environ}
        with self._folder(trial.number).with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "foveal.tuning.trial", str(self._folder(trial.number).with_suffix(".json"))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        return _Running(trial, process, time.monotonic())

    def _wait_for_orphan(self, number: int) -> None:
        """A tuner that was killed leaves its runs behind: one that still goes on is let come to its end."""
        folder, waited = self._folder(number), False
        while folder.exists():
            try:
                with lock(folder, ""):
                    return
            except UserError:
                if not waited:
                    self.say(f"run {number + 1} still goes on in a process of its own: waiting for it")
                waited = True
                time.sleep(POLL)

    def _suggested(self, trial: optuna.trial.Trial) -> dict[str, object]:
        """The trial's value of each range; of a trial that was begun before, the same as then."""
        values: dict[str, object] = {}
        optimizer = self.call.get("optimizer")
        for each in sorted(self.search.ranges, key=lambda each: each.name != "optimizer"):
            if optimizer is not None and optimizer not in USED_BY.get(each.name, (optimizer,)):
                continue
            if each.kind == "choice":
                values[each.name] = trial.suggest_categorical(each.name, each.choices)
            elif each.kind == "integer":
                values[each.name] = trial.suggest_int(each.name, int(each.low), int(each.high), log=each.logarithmic)
            else:
                values[each.name] = trial.suggest_float(each.name, each.low, each.high, log=each.logarithmic)
            optimizer = values.get("optimizer", optimizer)
        return values

    def _ended(self, each: _Running) -> bool:
        """Look at a run; tell the study when it has ended."""
        code = each.process.poll()
        self._read(each)
        if code is None:
            if not each.pruned and self.search.pruning and each.values and each.trial.should_prune():
                each.pruned = True
                each.process.send_signal(signal.SIGTERM)
            return False
        number = each.trial.number
        best = (min if self.less else max)(each.values) if each.values else None
        if code == 0 and best is not None and not each.pruned:
            self.study.tell(each.trial, best)
        elif each.pruned:
            self.study.tell(each.trial, state=self.state.PRUNED)
        else:
            self._tell_failed(each, code)
        shutil.rmtree(self._folder(number) / "checkpoints", ignore_errors=True)  # an ended run needs none
        self.took.append(time.monotonic() - each.began)
        self._say_ended(number)
        return True

    def _tell_failed(self, each: _Running, code: int) -> None:
        log = self._folder(each.trial.number).with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        last = " ".join(log.strip().splitlines()[-2:]) or f"it ended with status {code}"
        if code == 0:
            last = f"it has no validation {self.search.metric}"
        each.trial.set_user_attr("why", last)
        self.study.tell(each.trial, state=self.state.FAIL)
        self.failed += 1
        some = any(
            one.state in (self.state.COMPLETE, self.state.PRUNED) for one in self.study.get_trials(deepcopy=False)
        )
        if self.failed >= FAILURES and not some:
            raise UserError(
                f"the first {self.failed} runs failed; the last one: {last}", str(self._folder(each.trial.number)),
                "Mend that, or narrow the ranges; their .log files have the whole.",
            )  # fmt: skip

    def _read(self, each: _Running) -> None:
        """Report the epochs that came since the last look."""
        path = self._folder(each.trial.number) / "metrics.jsonl"
        if not path.exists():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        epochs = [json.loads(line) for line in lines if line.endswith("\n") and '"kind": "epoch"' in line]
        values = [line[key] for line in epochs if (key := f"validation:{self.search.metric}") in line]
        each.values = [value for value in values if value is not None and math.isfinite(value)]
        for epoch in range(each.read, len(each.values)):
            each.trial.report(each.values[epoch], epoch)
        each.read = max(each.read, len(each.values))

    def _say_ended(self, number: int) -> None:
        trials = {each.number: each for each in self._trials()}
        one, best = trials[number], self._best()
        told = {
            "complete": f"{self.search.metric} {one.value or 0:.4f}",
            "pruned": "stopped: below the median of the others",
            "failed": f"failed: {self.study.trials[number].user_attrs.get('why', '')}",
        }
        shown = ", ".join(f"{name}={_short(value)}" for name, value in one.settings.items())
        left = self.search.trials - len(trials)
        pace = sum(self.took) / len(self.took) / self.search.jobs
        self.say(
            f"run {number + 1}/{self.search.trials}  {told[one.state]}  {shown}"
            + (
                f"  best {best.value:.4f} of run {best.number + 1}"
                if best is not None and best.value is not None
                else ""
            )
            + (f"  about {duration(pace * left)} left" if left > 0 else "")
        )

    def _trials(self) -> list[Trial]:
        names: dict[Any, Literal["complete", "pruned", "failed"]] = {
            self.state.COMPLETE: "complete", self.state.PRUNED: "pruned", self.state.FAIL: "failed",
        }  # fmt: skip
        return [
            Trial(each.number, dict(each.params), names[each.state], each.value, str(self._folder(each.number)))
            for each in self.study.get_trials(deepcopy=False)
            if each.state in names
        ]

    def _best(self) -> Trial | None:
        done = [each for each in self._trials() if each.state == "complete" and each.value is not None]
        better = min if self.less else max
        return better(done, key=lambda each: each.value or 0.0) if done else None

    def _folder(self, number: int) -> Path:
        return self.out / "trials" / f"{number + 1:04d}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _end(running: Sequence[_Running]) -> None:
    """Ask runs to stop; they keep a checkpoint and are gone on with later."""
    for each in running:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGTERM)
    for each in running:
        each.process.wait()
