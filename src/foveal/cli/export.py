"""``foveal export``: a model as a graph for other engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foveal.cli.shared import NEW_PATH, PATH, say_lines

if TYPE_CHECKING:
    from foveal.exporting.export import Form


@click.command("export")
@click.argument("model", type=PATH)
@click.option(
    "--format", "form", type=click.Choice(("onnx", "openvino")), help="Form of the graph. [told from --output, or onnx]"
)
@click.option("-o", "--output", type=NEW_PATH, help="File to write: .onnx, or .xml. [beside the model]")
@click.option("--data", type=PATH, help="Labelled pictures to compare graph and model on. [made ones]")
@click.option("--epoch", type=click.IntRange(1), help="Export a stored epoch (checkpoint_frequency), not the best.")
def command(model: Path, form: Form | None, output: Path | None, data: Path | None, epoch: int | None) -> None:
    """Write MODEL as a graph: uint8 pictures in, probabilities or boxes out.

    \b
    foveal export foveal-runs/photos                        foveal-runs/photos/model.onnx
    foveal export model.tar.gz --format openvino            model.xml and model.bin
    foveal export model.tar.gz -o shop.onnx --data photos/

    Normalisation and suppression are in the graph; how pictures are resized stands in its metadata. It is compared with
    the model on 100 pictures, and written only when both agree.
    """
    from foveal.exporting.export import export

    done = export(model, output, format=form, data=data, epoch=epoch)
    say_lines(done.said)
    for file in done.files:
        click.echo(f"wrote {file}")
