"""What surrounds the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import foveal
from foveal.training import run
from foveal.training.events import Event, StepDone


def test_free_memory_is_kept_from_the_first_step_to_the_last(
    monkeypatch: pytest.MonkeyPatch, shapes_folder: Path, tmp_path: Path
) -> None:
    kept: list[torch.device] = []
    steps: list[int] = []

    @contextmanager
    def watched(device: torch.device) -> Iterator[None]:
        kept.append(device)
        yield
        kept.clear()

    def hear(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(len(kept))

    monkeypatch.setattr(run, "memory_kept", watched)
    settings = {"num_layers": 20, "image_shape": "3,28,28", "mini_batch_size": 32, "use_pretrained_model": 0}
    foveal.train(shapes_folder, tmp_path / "run", epochs=1, log_steps=1, listeners=[hear], device="cpu", **settings)
    assert len(steps) > 1 and set(steps) == {1}
    assert not kept
