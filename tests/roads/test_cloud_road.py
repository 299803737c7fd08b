"""Training, judging and asking where the pictures lie in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import foveal
from foveal.cli.predict import find_pictures
from foveal.errors import UserError
from foveal.storage import cache
from foveal.training.events import Event, StepDone

SETTINGS: dict[str, object] = {
    "num_layers": 20,
    "image_shape": "3,32,32",
    "epochs": 2,
    "mini_batch_size": 8,
    "use_pretrained_model": 0,
    "log_steps": 1,
}


@pytest.fixture
def address(bucket: Any, shapes_folder: Path) -> str:
    return str(bucket.put_folder(shapes_folder, "shapes"))


def test_a_bucket_teaches_what_its_copy_on_disk_teaches(address: str, shapes_folder: Path, tmp_path: Path) -> None:
    far = foveal.train(address, tmp_path / "far", **SETTINGS)
    near = foveal.train(shapes_folder, tmp_path / "near", **SETTINGS)
    assert far.figures == near.figures
    assert (
        foveal.evaluate(far.model, address).verdict.figures
        == foveal.evaluate(near.model, shapes_folder).verdict.figures
    )
    pictures = find_pictures((f"{address}/test/disc/",))
    assert len(pictures) == 10
    assert [each.label for each in foveal.load(far.model).stream(pictures)] == [
        each.label for each in foveal.load(near.model).stream(sorted((shapes_folder / "test" / "disc").iterdir()))
    ]


def test_a_model_in_a_bucket_is_a_model(bucket: Any, shapes_folder: Path, tmp_path: Path) -> None:
    trained = foveal.train(shapes_folder, tmp_path / "run", **(SETTINGS | {"epochs": 1}))
    there = bucket.put("models/model.tar.gz", Path(trained.archive).read_bytes())
    picture = next((shapes_folder / "test").rglob("*.png"))
    answers = [foveal.load(place).predict(picture)[0].probabilities.tolist() for place in (trained.model, there)]
    assert answers[0] == answers[1]


def test_a_store_that_refuses_while_a_network_learns_ends_the_run_and_it_goes_on_later(
    address: str, shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS | {"loader_workers": 0, "cache_pictures": False}

    def lock_out(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 15:  # in the second epoch
            monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
            for place in cache.objects_folder().rglob("*.*g"):
                stat = place.stat()
                cache.make_hollow(place, cache.StoredObject("", stat.st_size, stat.st_mtime_ns))

    with pytest.raises(UserError) as caught:
        foveal.train(address, tmp_path / "far", listeners=[lock_out], **settings)
    assert str(caught.value).startswith(f"{address}/train/")
    assert caught.value.what == "the store refuses to let us read this"
    monkeypatch.delenv("AWS_SKIP_SIGNATURE")
    far = foveal.train(address, tmp_path / "far", **settings)
    assert far.figures == foveal.train(shapes_folder, tmp_path / "near", **settings).figures
