"""``foveal``: the commands, and how an error becomes two lines and exit status 2.

Nothing heavy is imported here: ``foveal --help`` answers at once, and each command imports what it needs.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from foveal.errors import UserError

COMMANDS = {
    "pack": "Turn labelled pictures into RecordIO files.",
    "train": "Train a classifier on labelled pictures.",
    "evaluate": "Judge a trained model on labelled pictures.",
    "predict": "Ask a trained model about pictures.",
    "inspect": "Tell what a file or folder is.",
}


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


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="foveal")
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
        foveal.main(standalone_mode=False)
    except UserError as error:
        first, _, rest = str(error).partition("\n")
        click.echo(f"Error: {first}" + (f"\n{rest}" if rest else ""), err=True)
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


if __name__ == "__main__":
    main()
