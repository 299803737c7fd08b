"""``foveal train``: from labelled pictures to a judged classifier or detector."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foveal.cli.shared import NEW_PATH, PATH, data_options
from foveal.settings import Described, describe_settings
from foveal.storage.address import as_written

if TYPE_CHECKING:
    from foveal.records import Reading

NO_SETTINGS = frozenset(
    "data output algorithm validation test model form file_column label_column root reading tensorboard_folder"
    " listeners".split()
)
"""What ``foveal.training.run.train`` takes besides the recipe and the settings."""
NOT_OFFERED = ("recipe",)  # it has an option of its own
ALGORITHMS = {"image-classification": "Classes", "object-detection": "Objects"}
STOPPED = {"SIGINT": 130, "SIGTERM": 143}  # exit status of a run that was stopped, as shells give it


def settings_options(command: Any) -> Any:
    """An option for every hyperparameter of either algorithm; values stay strings and are checked by the tables."""
    tables = {name: {row.name: row for row in describe_settings("modern", algorithm=name)} for name in ALGORITHMS}
    names = dict.fromkeys(name for table in tables.values() for name in table if name not in NOT_OFFERED)
    for name in reversed(names):
        rows = {algorithm: table[name] for algorithm, table in tables.items() if name in table}
        spellings = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
        kinds = dict.fromkeys(kind for row in rows.values() for kind in row.type.split(" or "))
        metavar = "|".join(kinds) if len(kinds) > 1 else next(iter(kinds)).upper()
        command = click.option(*spellings, name, metavar=metavar, help=_help(rows))(command)
    return command


def _help(rows: dict[str, Described]) -> str:
    """Meaning and default of a setting; told apart where the algorithms differ."""
    told = {algorithm: row.meaning + (f" [{row.default}]" if row.default else "") for algorithm, row in rows.items()}
    if len(told) == len(ALGORITHMS) and len(set(told.values())) == 1:
        return next(iter(told.values()))
    return ". ".join(f"{ALGORITHMS[algorithm]}: {text}" for algorithm, text in told.items())


@click.command("train")
@click.argument("data", type=PATH)
@click.option("--output", "-o", type=NEW_PATH, help="Folder of the run. [foveal-runs/<name of DATA>]")
@click.option(
    "--algorithm", type=click.Choice(list(ALGORITHMS)), help="Classify pictures or find objects; else by the data."
)
@click.option(
    "--recipe",
    default="modern",
    show_default=True,
    help="modern, or original: the defaults of SageMaker's.",
)
@click.option("--model", type=PATH, help="Go on from this earlier model, also with more classes.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A hyperparameter by its SageMaker name.")
@click.option("--tensorboard", type=NEW_PATH, help="Also write TensorBoard files into this folder.")
@click.option("--sagemaker-log", is_flag=True, help="Print the log lines of SageMaker's algorithm to standard output.")
@data_options
@settings_options
def command(
    data: Path,
    output: Path | None,
    algorithm: str | None,
    recipe: str,
    model: Path | None,
    pairs: tuple[str, ...],
    tensorboard: Path | None,
    sagemaker_log: bool,
    form: str | None,
    validation: Path | None,
    test: Path | None,
    file_column: str | None,
    label_column: str | None,
    root: Path | None,
    reading: Reading,
    **settings: str | None,
) -> None:
    """Train a classifier or a detector on DATA, judge it, and write the model.

    DATA is a folder with a subfolder of pictures per class (or train/val/test of such), RecordIO, a .lst or a CSV
    file; for objects: Pascal VOC, COCO or YOLO folders, SageMaker's JSON, RecordIO or a .lst with boxes. Test data is
    never trained or chosen on.

    \b
    foveal train photos/                                   everything decided from pictures and machine, and told
    foveal train s3://bucket/photos/                       pictures in an object store
    foveal train photos/ --max-minutes 20                  as good as it gets in that time
    foveal train train.rec --validation val.rec --num-layers 50 --use-pretrained-model 1
    foveal train photos/ --weights resnet18.safetensors    from ImageNet weights in a file
    foveal train more-photos/ --model foveal-runs/photos   go on from an earlier model
    foveal train voc/ --base-network vgg-16                find objects: by the data, or --algorithm object-detection
    foveal train data/ --recipe original --set num_layers=18 --set epochs=10

    A run that was stopped or killed goes on when the same command is given again.
    """
    from foveal.container.log_lines import original_log
    from foveal.display import Display
    from foveal.training.ranks import ToldByAnother, ranks_of
    from foveal.training.run import train

    given: dict[str, object] = {name: value for name, value in settings.items() if value is not None}
    given |= given_pairs(pairs)
    recipe = str(given.pop("recipe", recipe))
    if sagemaker_log:
        given.setdefault("log_steps", 1)  # so that batches 20, 40, ... are among those reported
    tells = ranks_of(os.environ).first  # of several processes, one alone
    try:
        with Display() if tells else nullcontext() as display:
            listeners: list[Any] = [each for each in (display, original_log() if sagemaker_log else None) if each]
            result = train(
                data,
                output,
                algorithm=algorithm,
                recipe=recipe,
                validation=validation,
                test=test,
                model=model,
                form=form,
                file_column=file_column,
                label_column=label_column,
                root=root,
                reading=reading,
                tensorboard_folder=tensorboard,
                listeners=listeners,
                **given,
            )
    except ToldByAnother:
        sys.exit(2)
    out = Path(result.model).parent
    if result.stopped in STOPPED:
        if tells:
            click.echo(f"To go on: {shlex.join([*_started_by(), *sys.argv[1:]])}", err=True)
        sys.exit(STOPPED[result.stopped])
    if not tells:
        return
    click.echo(f"Ask it:   {shlex.join(['foveal', 'predict', str(out), 'PICTURE'])}", err=True)
    judged = test or (validation if validation is not None else data)
    click.echo(f"Judge it: {shlex.join(['foveal', 'evaluate', str(out), as_written(judged)])}", err=True)


def _started_by() -> list[str]:
    """How the command was started; of several machines, on this one."""
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return ["foveal"] if beside == "1" else ["torchrun", "--nproc-per-node", beside, "-m", "foveal"]


def given_pairs(pairs: tuple[str, ...]) -> dict[str, object]:
    """What ``--set NAME=VALUE`` gives."""
    given: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(
                f"{pair!r} is not of the form NAME=VALUE, such as num_layers=18", param_hint="--set"
            )
        if name.strip() in NO_SETTINGS:
            raise click.BadParameter(
                f"{name.strip()!r} is no hyperparameter, but an option or argument", param_hint="--set"
            )
        given[name.strip()] = value
    return given
