"""``foveal tune``: search settings by many runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.cli.shared import NEW_PATH, PATH, data_options, say_lines
from foveal.cli.train import ALGORITHMS, STOPPED, given_pairs, settings_options
from foveal.errors import UserError

if TYPE_CHECKING:
    from foveal.records import Reading


@click.command("tune")
@click.argument("data", type=PATH)
@click.option("--output", "-o", type=NEW_PATH, help="Folder of the tuning. [foveal-tuning/<name of DATA>]")
@click.option(
    "--range", "ranges", multiple=True, metavar="NAME=LOW..HIGH|NAME=A,B", help="What a setting is searched in."
)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Runs in all.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Runs at a time.")
@click.option("--metric", metavar="NAME", help="The validation figure that counts. [accuracy; for objects mAP]")
@click.option("--pruning/--no-pruning", default=True, help="Stop runs that are below the median of the others.")
@click.option("--search-seed", type=click.IntRange(0), default=0, show_default=True, help="Decides what is tried.")
@click.option(
    "--algorithm", type=click.Choice(list(ALGORITHMS)), help="Classify pictures or find objects; else by the data."
)
@click.option("--recipe", default="modern", show_default=True, help="modern, or original: SageMaker's defaults.")
@click.option("--model", type=PATH, help="Every run goes on from this earlier model.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A hyperparameter that all runs share.")
@data_options
@settings_options
def command(
    data: Path,
    output: Path | None,
    ranges: tuple[str, ...],
    trials: int,
    jobs: int,
    metric: str | None,
    pruning: bool,
    search_seed: int,
    algorithm: str | None,
    recipe: str,
    model: Path | None,
    pairs: tuple[str, ...],
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    reading: Reading,
    **settings: str | None,
) -> None:
    """Search the settings that are best for DATA, by many runs of `foveal train`.

    Without --range the ranges are those that SageMaker's guide recommends. A run is judged by its best epoch on the
    validation data; test data is never looked at. Ranges whose ends are a hundred times apart are searched by orders
    of magnitude; :log or :linear at the end of a range says otherwise.

    \b
    foveal tune photos/ --trials 30
    foveal tune photos/ --range learning_rate=1e-4..1e-2 --range optimizer=adamw,nag --max-minutes 5
    foveal tune photos/ --range 'image_shape=3,128,128|3,224,224' --jobs 2
    foveal tune voc/ --range mini_batch_size=4..16 --metric mAP --epochs 10

    A tuning that was stopped or killed goes on when the same command is given again: runs that had ended are not
    started again, those under way go on from their checkpoints. More --trials may be asked for later.
    """
    from foveal.tuning.study import tune

    given: dict[str, object] = {name: value for name, value in settings.items() if value is not None}
    given |= given_pairs(pairs)
    call = {
        "recipe": str(given.pop("recipe", recipe)),
        "validation": validation,
        "test": test,
        "model": model,
        "form": form,
        "file_column": file_column,
        "label_column": label_column,
        "root": root,
        "reading": reading,
    }
    tuned = tune(
        data,
        output,
        ranges=ranges,
        algorithm=algorithm,
        metric=metric,
        trials=trials,
        jobs=jobs,
        pruning=pruning,
        seed=search_seed,
        say=lambda line: say_lines([line]),
        **call,
        **given,
    )
    if tuned.stopped:
        say_lines([f"To go on: {shlex.join(['foveal', *sys.argv[1:]])}"])
        sys.exit(STOPPED[tuned.stopped])
    best = tuned.best
    if best is None:
        raise UserError("no run came to an end with a figure", "tune", "Their .log files in the folder trials say why.")
    for name, value in best.settings.items():
        click.echo(f"{name}={value}")
    say_lines(
        [
            f"best: run {best.number + 1}, {tuned.metric} {best.value:.6f}; its settings are printed above",
            f"Ask it:   {shlex.join(['foveal', 'predict', best.folder, 'PICTURE'])}",
        ]
    )
