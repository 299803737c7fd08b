"""Addresses on the command line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from foveal.cli.main import foveal


@pytest.mark.parametrize(
    "words",
    ["train photos -o", "convert photos", "pack photos", "predict model 1.jpg --draw", "check photos --report"],
)
def test_results_are_written_to_disks_only(words: str) -> None:
    done = CliRunner().invoke(foveal, [*words.split(), "s3://bucket/out"])
    assert done.exit_code == 2
    told = " ".join(done.stderr.split())
    assert told.endswith("s3://bucket/out is an address: name a place on a disk, and copy it from there")
