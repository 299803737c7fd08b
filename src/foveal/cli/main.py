"""``foveal``: the commands, and how an error becomes two lines and exit status 2.

Nothing heavy is imported here: ``foveal --help`` answers at once, and each command imports what it needs.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import click

from foveal.cli.shared import say_error
from foveal.errors import UserError

COMMANDS = {
    "pack": "Turn labelled pictures into RecordIO files.",
    "convert": "Turn labelled pictures of one form into another.",
    "train": "Train a classifier on labelled pictures.",
    "tune": "Search the settings that are best for labelled pictures.",
    "evaluate": "Judge a trained model on labelled pictures.",
    "compare": "Judge two trained models on the same pictures.",
    "predict": "Ask a trained model about pictures.",
    "export": "Write a trained model as a graph for other engines (ONNX, OpenVINO).",
    "check": "Say what is wrong with labelled pictures.",
    "inspect": "Tell what a file or folder is.",
}

NO_ROOM = "Make room on the disk, or write elsewhere; a training run goes on when the same command is given again."
OTHER_PATH = "Name another path, or move away what is there."
OUTSIDE = {
    errno.ENOSPC: NO_ROOM,
    errno.EDQUOT: NO_ROOM,
    errno.EFBIG: NO_ROOM,
    errno.EACCES: "Change who may read and write it, or name another path.",
    errno.EPERM: "Change who may read and write it, or name another path.",
    errno.EROFS: "Name a path that can be written to.",
    errno.EISDIR: OTHER_PATH,
    errno.ENOTDIR: OTHER_PATH,
    errno.EEXIST: OTHER_PATH,
    errno.ENOTEMPTY: OTHER_PATH,
    errno.ENAMETOOLONG: "Name a shorter path.",
    errno.ELOOP: "Mend the link.",
    errno.EIO: "Look whether the disk or the network drive is well.",
    errno.EMFILE: "Allow more open files (ulimit -n).",
}
"""What the system refuses for reasons outside the program, and what to do; other errors are bugs and show where."""


class Commands(click.Group):
    """Lists the commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"foveal.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        try:
            click.echo(f"foveal {version('foveal')}")
        except PackageNotFoundError:
            click.echo("foveal, from a checkout that is not installed")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def foveal() -> None:
    """Image classification as SageMaker's built-in algorithm does it, on your own machine.

    \b
    A first model, from a folder with one subfolder of pictures per class:
      foveal train photos/                      trains, judges, writes foveal-runs/photos/model
      foveal evaluate foveal-runs/photos photos/test/
      foveal predict foveal-runs/photos new.jpg

    `foveal COMMAND --help` teaches each command by example.
    """


def main() -> None:
    """The entry point: runs a command, and tells a person's mistake in two lines with exit status 2."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # active waiting makes torch crawl beside other work
    try:
        foveal.main(standalone_mode=False, prog_name="foveal")
    except UserError as error:
        say_error(str(error))
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in OUTSIDE:
            raise
        where = error.filename2 or error.filename or "the system refuses"
        say_error(
            f"{os.fsdecode(where) if isinstance(where, bytes) else where}: {error.strerror}\n{OUTSIDE[error.errno]}"
        )
        sys.exit(2)
    except MemoryError as error:
        say_error(f"the memory does not suffice{f': {error}' if str(error) else ''}\nTake smaller pictures or batches.")
        sys.exit(2)


if __name__ == "__main__":
    main()
