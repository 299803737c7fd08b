"""Finding objects, through its doors: train, evaluate, predict; the same figures wherever they are asked for.

The network is a small one of timm's, from random weights: it learns a little in these few steps, and that is enough,
for here equality is asked for, not quality.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

import foveal
from foveal.artifact import open_artifact
from foveal.cli.main import main
from foveal.data.loader import Decoder
from foveal.data.recognise import open_data
from foveal.judging import judge_detection
from foveal.predictor import Detected, Detection, DetectionPredictor, Unreadable
from foveal.records import Boxes, Detections
from foveal.training.events import Event, Said, StepDone

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="small networks of timm's are trained here")

NETWORK = {"base_network": "mobilenetv3_small_050", "image_shape": 300, "use_pretrained_model": 0, "mini_batch_size": 4}
LEARNING = {"epochs": 10, "optimizer": "adam", "learning_rate": 0.002, "augmentation_type": "none", "ema_decay": 0}
NAMES = ("disc", "square", "triangle")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


def command(*arguments: object) -> Ended:
    """``foveal`` with these arguments, in this process, by the function that the installed command calls."""
    before, out, err, status = sys.argv, io.StringIO(), io.StringIO(), 0
    sys.argv = ["foveal", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.argv = before
    return Ended(status, out.getvalue(), err.getvalue())


def options(settings: dict[str, object]) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@dataclass(frozen=True)
class Trained:
    folder: Path
    log: str

    @property
    def model(self) -> DetectionPredictor:
        found = foveal.load(self.folder)
        assert isinstance(found, DetectionPredictor)
        return found


@pytest.fixture(scope="module")
def trained(voc_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = tmp_path_factory.mktemp("found") / "run"
    done = command("train", voc_folder, "-o", out, "--sagemaker-log", *options({**NETWORK, **LEARNING}))
    assert done.status == 0, done.err
    return Trained(out, done.out)


def listed(voc: Path, split: str) -> list[Path]:
    names = (voc / "ImageSets/Main" / f"{split}.txt").read_text(encoding="utf-8").split()
    return [next((voc / "JPEGImages").glob(f"{name}.*")) for name in names]


def asked(model: Path, files: Sequence[Path], *more: object) -> list[dict[str, object]]:
    done = command("predict", model, *files, "--json", *more)
    assert done.status == 0, done.err
    return done.rows


def truths(voc: Path, split: str) -> list[Boxes]:
    """The objects of a split in pixels of the upright pictures."""
    source = getattr(open_data(voc, task="boxes"), split)
    decoder = Decoder(source, 3)
    labels = [decoder(row)[1] for row in range(len(source))]
    assert all(isinstance(label, Boxes) for label in labels)
    return labels  # type: ignore[return-value]


def as_detections(answer: dict[str, object]) -> Detections:
    """What a line of ``predict --json`` says, as judging takes it."""
    rows = np.array(answer["prediction"], dtype=np.float32).reshape(-1, 6)
    return Detections(rows[:, 2:], rows[:, 0].astype(np.int64), rows[:, 1], tuple(answer["size"]))  # type: ignore[arg-type]


def judged_from_json(voc: Path, split: str, answers: list[dict[str, object]]) -> dict[str, object]:
    return judge_detection(truths(voc, split), [as_detections(each) for each in answers], NAMES).to_dict()


def test_it_learns_shapes(trained: Trained, voc_folder: Path) -> None:
    assert foveal.evaluate(trained.model, voc_folder).split == "test"
    assert foveal.evaluate(trained.model, voc_folder, split="validation").verdict.objective > 0.1


def test_training_evaluate_and_predicted_rows_give_one_map_to_the_last_digit(
    trained: Trained, voc_folder: Path
) -> None:
    lines = [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    best = [line for line in lines if line["kind"] == "epoch" and line["improved"]][-1]
    stored, _ = open_artifact(trained.folder)
    done = command("evaluate", trained.folder, voc_folder, "--split", "validation", "--json")
    evaluated = json.loads(done.out)
    assert evaluated.pop("split") == "validation"
    assert evaluated == stored.metrics
    told = {name.removeprefix("validation:"): value for name, value in best.items() if name.startswith("validation:")}
    assert {"mAP", "mAP_11_point", "recall", "precision", "false_alarms_per_empty_picture"} <= told.keys()
    assert told == {name: evaluated[name] for name in told}
    answers = asked(trained.folder, listed(voc_folder, "val"), "--min-score", 0)
    assert judged_from_json(voc_folder, "validation", answers)["mAP"] == evaluated["mAP"] > 0


def mixed_pictures(voc: Path, draw: Callable[..., object], xml: Callable[..., str], count: int) -> None:
    """Pictures as people have them: small to large, JPEG and PNG, turned by EXIF, grey, CMYK, with alpha."""
    rng = np.random.default_rng(5)
    back = {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    back |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    back |= {8: Image.Transpose.ROTATE_270}
    for folder in ("JPEGImages", "Annotations"):
        (voc / folder).mkdir(parents=True)
    for number in range(count):
        pixels, shapes = draw(rng, int(rng.integers(0, 4)))  # type: ignore[misc]
        zoom = (1, 1, 2, 4, 6)[number % 5]
        shapes = [type(each)(each.name, tuple(zoom * side for side in each.box), each.difficult) for each in shapes]
        upright = Image.fromarray(pixels).resize((pixels.shape[1] * zoom, pixels.shape[0] * zoom))
        orientation = 1 + number % 8
        stored = upright.transpose(back[orientation]) if orientation > 1 else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        mode = {1: "L", 2: "CMYK", 3: "RGBA", 4: "P"}.get(number % 7, "RGB")
        suffix = "png" if mode in ("RGBA", "P") else "jpg"
        file = voc / "JPEGImages" / f"{number:03d}.{suffix}"
        stored.convert(mode).save(file, exif=exif.tobytes())
        (voc / "Annotations" / f"{number:03d}.xml").write_text(xml(file.name, upright.size, shapes), encoding="utf-8")
        with Image.open(file) as image:
            assert ImageOps.exif_transpose(image).size == upright.size


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, drawing: tuple[Callable[..., object], Callable[..., str]]) -> Path:
    folder = tmp_path_factory.mktemp("mixed") / "voc"
    mixed_pictures(folder, *drawing, count=200)
    return folder


def rows_of(answer: Detected) -> NDArray[np.float64]:
    found = answer.found
    return np.concatenate([found.cls[:, None], found.scores[:, None], found.values], axis=1).astype(np.float64)


def unmatched(a: NDArray[np.float64], b: NDArray[np.float64], tolerance: float) -> list[NDArray[np.float64]]:
    """The rows of ``a`` for which ``b`` has none left of the same class, score and box."""
    near = (np.abs(a[:, None] - b[None]) <= np.array([0, *[tolerance] * 5])).all(axis=2)
    left = []
    for row, candidates in zip(a, near, strict=True):
        found = np.flatnonzero(candidates)
        if len(found):
            near[:, found[0]] = False
        else:
            left.append(row)
    return left


def tied(row: NDArray[np.float64], rows: NDArray[np.float64], tolerance: float) -> bool:
    """Whether a row's fate hangs on the last digits: its score is at the threshold, at that of the last row, or that of
    another box of its class, of which only one can stay."""
    least = min(float(rows[:, 1].min()), 0.01 + tolerance) if len(rows) else 0.01
    others = rows[(rows[:, 0] == row[0]) & (np.abs(rows[:, 1] - row[1]) <= tolerance)]
    return bool(row[1] <= least + tolerance or len(others))


def test_rows_do_not_depend_on_the_batch_and_evaluate_judges_the_same_ones(trained: Trained, mixed: Path) -> None:
    model = trained.model
    source = open_data(mixed, task="boxes").train
    paths = [mixed / "JPEGImages" / Path(source.read(row).key).name for row in range(len(source))]
    answers = {size: list(model.stream(paths, min_score=0, batch_size=size)) for size in (1, 7, 8, 32)}
    assert all(isinstance(each, Detected) for rows in answers.values() for each in rows)
    counted = 0
    for size in (1, 7, 32):
        for mine, theirs in zip(answers[size], answers[8], strict=True):
            assert isinstance(mine, Detected) and isinstance(theirs, Detected)
            a, b = rows_of(mine), rows_of(theirs)
            assert all(tied(row, b, 1e-4) for row in unmatched(a, b, 1e-4)), mine.picture
            assert all(tied(row, a, 1e-4) for row in unmatched(b, a, 1e-4)), mine.picture
            counted += len(a)
    assert counted > 1000
    evaluated = foveal.evaluate(model, mixed, split="all").verdict
    found = [each.found for each in answers[8] if isinstance(each, Detected)]
    assert judge_detection(truths(mixed, "train"), found, NAMES).mean_ap == evaluated.figures["mAP"]
    json_rows = asked(trained.folder, paths, "--min-score", 0)
    assert judged_from_json(mixed, "train", json_rows)["mAP"] == evaluated.figures["mAP"]


def test_boxes_are_those_of_the_upright_picture(trained: Trained, mixed: Path) -> None:
    """The same picture stored turned and upright gives the same answer."""
    model = trained.model
    turned = mixed / "JPEGImages" / "015.jpg"  # orientation 8, stored lying
    with Image.open(turned) as image:
        assert image.getexif()[0x0112] == 8
        upright = np.asarray(ImageOps.exif_transpose(image))
    (a,), (b,) = model.predict(turned, min_score=0), model.predict(upright, min_score=0)
    assert a.size == b.size == (upright.shape[1], upright.shape[0])
    assert np.abs(a.found.scores - b.found.scores).max() < 1e-3
    assert np.abs(a.found.values - b.found.values).max() < 1e-3


def test_answers_are_typed_in_pixels_and_in_fractions(trained: Trained, voc_folder: Path) -> None:
    path = listed(voc_folder, "test")[0]
    (answer,) = trained.model.predict(path, min_score=0)
    with Image.open(path) as image:
        assert answer.size == image.size
    assert answer.picture == str(path)
    assert answer.objects
    assert all(isinstance(each, Detection) for each in answer.objects)
    scores = [each.score for each in answer.objects]
    assert scores == sorted(scores, reverse=True)
    for each in answer.objects:
        assert each.label == NAMES[each.index]
        assert all(0 <= value <= 1 for value in (each.score, *each.fractions))
        sides = (*answer.size, *answer.size)
        assert each.box == pytest.approx([part * side for part, side in zip(each.fractions, sides, strict=True)])


def test_paths_bytes_arrays_and_pil_images_are_asked_alike(trained: Trained, voc_folder: Path) -> None:
    path = listed(voc_folder, "test")[0]
    given = [path, str(path), path.read_bytes(), np.asarray(Image.open(path)), Image.open(path)]
    answers = [answer.objects for answer in trained.model.predict(given, min_score=0)]
    for answer in answers[1:]:
        assert [each.label for each in answer] == [each.label for each in answers[0]]
        assert [each.score for each in answer] == pytest.approx([each.score for each in answers[0]], abs=0.02)


def test_without_a_confidence_each_class_has_its_own(trained: Trained, voc_folder: Path) -> None:
    model = trained.model
    assert set(model.thresholds) == set(NAMES)
    for every, some in zip(
        model.predict(listed(voc_folder, "val"), min_score=0), model.predict(listed(voc_folder, "val")), strict=True
    ):
        assert some.objects == tuple(each for each in every.objects if each.score >= model.thresholds[each.label])


def test_an_unreadable_picture_is_named_and_the_others_are_answered(
    trained: Trained, voc_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no more")
    first, second = trained.model.stream([broken, listed(voc_folder, "test")[0]])
    assert isinstance(first, Unreadable) and first.picture == str(broken) and first.reason
    assert isinstance(second, Detected)


def test_only_the_classes_asked_for_are_told(trained: Trained, voc_folder: Path) -> None:
    files = listed(voc_folder, "val")
    every = asked(trained.folder, files, "--min-score", 0)
    some = asked(trained.folder, files, "--min-score", 0, "--class", "disc", "--class", "triangle")
    for all_rows, rows in zip(every, some, strict=True):
        assert rows["prediction"] == [row for row in all_rows["prediction"] if row[0] != 1]  # type: ignore[attr-defined]
        assert "square" not in rows["labels"]  # type: ignore[operator]
    (one,) = trained.model.predict(files[0], min_score=0, classes="disc")
    assert {each.label for each in one.objects} <= {"disc"}


def test_drawn_pictures_are_written(trained: Trained, voc_folder: Path, tmp_path: Path) -> None:
    files = listed(voc_folder, "test")
    done = command("predict", trained.folder, *files, "--draw", tmp_path / "drawn")
    assert done.status == 0
    assert len(done.out.splitlines()) == len(files)
    assert sorted(path.stem for path in (tmp_path / "drawn").iterdir()) == [file.stem for file in files]


def test_coco_results_have_the_ids_of_the_file_that_is_named(
    trained: Trained, voc_folder: Path, tmp_path: Path
) -> None:
    files = listed(voc_folder, "val")
    ids = {
        "images": [{"id": 100 + number, "file_name": f"old/{file.name}"} for number, file in enumerate(files)],
        "categories": [{"id": 7, "name": "triangle"}, {"id": 9, "name": "disc"}, {"id": 4, "name": "square"}],
    }
    (tmp_path / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    plain, named = tmp_path / "new" / "plain.json", tmp_path / "named.json"
    answers = asked(trained.folder, files, "--min-score", 0, "--coco", plain)
    asked(trained.folder, files, "--min-score", 0, "--coco", named, "--coco-ids", tmp_path / "ids.json")
    rows = [(number, row, each["size"]) for number, each in enumerate(answers) for row in each["prediction"]]  # type: ignore[attr-defined]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in (plain, named)]
    assert len(rows) == len(results[0]) == len(results[1]) > 0
    for (number, row, (width, height)), without, with_ids in zip(rows, *results, strict=True):
        assert (without["image_id"], without["category_id"]) == (number + 1, row[0] + 1)
        assert without["file_name"] == str(files[number])
        assert (with_ids["image_id"], with_ids["category_id"]) == (100 + number, (9, 4, 7)[int(row[0])])
        box = [row[2] * width, row[3] * height, (row[4] - row[2]) * width, (row[5] - row[3]) * height]
        assert without["bbox"] == with_ids["bbox"] == pytest.approx(box, abs=1e-3)
        assert without["score"] == row[1]


PUBLISHED = {  # expressions by which SageMaker finds the metrics (reference 2.5)
    "train:progress": r"#progress_metric: host=\S+, completed (\S+) %",
    "train:smooth_l1": r"#quality_metric: host=\S+, epoch=\S+, batch=\S+ train smooth_l1 <loss>=(\S+)",
    "train:cross_entropy": r"#quality_metric: host=\S+, epoch=\S+, batch=\S+ train cross_entropy <loss>=(\S+)",
    "train:throughput": r"#throughput_metric: host=\S+, train throughput=(\S+) records/second",
    "validation:mAP": r"#quality_metric: host=\S+, epoch=\S+, validation mAP <score>=\((\S+)\)",
}


def test_the_published_metrics_are_found_in_the_originals_log(trained: Trained) -> None:
    found = {name: re.findall(pattern, trained.log) for name, pattern in PUBLISHED.items()}
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(PUBLISHED, LEARNING["epochs"])
    lines = [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [float(value) for value in found["validation:mAP"]] == [line["validation:mAP"] for line in epochs]
    losses = [float(value.strip("()")) for value in found["train:smooth_l1"]]
    assert losses == [line["train:smooth_l1"] for line in epochs]


def test_packed_records_train_as_the_files_they_were_packed_from(few_boxes: Path, tmp_path: Path) -> None:
    done = command("pack", few_boxes, tmp_path / "packed", "--no-shuffle")
    assert done.status == 0, done.err
    settings = {**NETWORK, "epochs": 1, "log_steps": 1}
    losses = []
    for name, data in (("voc", few_boxes), ("rec", tmp_path / "packed")):
        foveal.train(data, tmp_path / name, algorithm="object-detection", **settings)
        lines = (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append(json.loads(lines[0])["train:loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert foveal.load(tmp_path / "rec").class_names == NAMES


def test_a_signal_keeps_the_model_and_the_same_call_goes_on_to_the_same_end(few_boxes: Path, tmp_path: Path) -> None:
    settings = {**NETWORK, "epochs": 2, "log_steps": 1, "warmup_epochs": 0}

    def stop_after_three_steps(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            signal.raise_signal(signal.SIGTERM)

    stopped = foveal.train(few_boxes, tmp_path / "run", listeners=[stop_after_three_steps], **settings)
    assert stopped.stopped == "SIGTERM"
    assert isinstance(foveal.load(stopped.model), DetectionPredictor)
    heard: list[Event] = []
    resumed = foveal.train(few_boxes, tmp_path / "run", listeners=[heard.append], **settings)
    whole = foveal.train(few_boxes, tmp_path / "whole", **{**settings, "loader_workers": 0})
    weights = [(Path(each.model) / "model.safetensors").read_bytes() for each in (resumed, whole)]
    assert weights[0] == weights[1]
    assert [event.step for event in heard if isinstance(event, StepDone)] == [4, 5]
    assert "overlap_threshold" not in resumed.figures  # a setting, no figure
    again = foveal.train(few_boxes, tmp_path / "run", **settings)
    assert again == resumed


@pytest.fixture(scope="module")
def grown(trained: Trained, few_boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that goes on from ``trained`` with one class more, in which some layers are frozen."""
    root = tmp_path_factory.mktemp("grown")
    for folder in ("JPEGImages", "Annotations"):
        (root / "data" / folder).mkdir(parents=True)
    discs = 0
    for file in listed(few_boxes, "train"):
        (root / "data/JPEGImages" / file.name).write_bytes(file.read_bytes())
        xml = (few_boxes / "Annotations" / f"{file.stem}.xml").read_text(encoding="utf-8")
        discs += "<name>disc<" in xml
        xml = xml.replace("<name>disc<", "<name>ball<") if discs == 2 else xml
        (root / "data/Annotations" / f"{file.stem}.xml").write_text(xml, encoding="utf-8")
    settings = {"epochs": 1, "mini_batch_size": 4, "ema_decay": 0, "learning_rate": 0.001, "warmup_epochs": 0}
    frozen = "--freeze-layer-pattern", r"(body\.)?class_heads|backbone\.conv_stem"
    done = command(
        "train", root / "data", "-o", root / "run", "--model", trained.folder, *options(settings), *frozen,
        "--validation-fraction", 0,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "3 classes stay, 1 new (ball)" in done.err
    return root / "run"


def test_incremental_training_carries_answers_over_by_name(trained: Trained, grown: Path) -> None:
    model = foveal.load(grown)
    assert isinstance(model, DetectionPredictor)
    assert model.class_names == ("ball", *NAMES)
    _, before = open_artifact(trained.folder)
    after = model.network.state_dict()
    kept = [0, 2, 3, 4]  # background, and the three classes behind the new one
    for name in model.network.prediction_names:
        theirs = before[name].unflatten(0, (-1, 4))
        assert after[name].unflatten(0, (-1, 5))[:, kept].equal(theirs), name


def test_frozen_parameters_stay_bit_for_bit_and_the_others_learn(trained: Trained, grown: Path) -> None:
    _, before = open_artifact(trained.folder)
    network = foveal.load(grown).network
    same = {name for name, tensor in network.named_parameters() if tensor.equal(before[name])}
    frozen = {name for name, _ in network.named_parameters() if "conv_stem" in name}
    assert frozen <= same
    learning = [name for name, _ in network.named_parameters() if name.startswith("body.box_heads")]
    assert set(learning) - same, "some maps have no anchor with an object in so few pictures"


def test_early_stopping_goes_by_map_and_epochs_are_kept(few_boxes: Path, tmp_path: Path) -> None:
    settings = {**NETWORK, "epochs": 9, "learning_rate": 1e-12, "ema_decay": 0, "checkpoint_frequency": 1}
    settings |= {"early_stopping": True, "early_stopping_min_epochs": 2, "early_stopping_patience": 1}
    done = command("train", few_boxes, "-o", tmp_path / "run", *options(settings))
    assert done.status == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = sum(line["kind"] == "epoch" for line in lines)
    assert 2 <= epochs < 9
    stored = sorted(path.name for path in (tmp_path / "run/model/epochs").iterdir())
    assert stored == [f"{number:04d}.safetensors" for number in range(1, epochs + 1)]
    assert f" of {9 * 11 // 4}; best so far " in command("inspect", tmp_path / "run").out
    picture = listed(few_boxes, "val")[0]
    first, last = (asked(tmp_path / "run", [picture], "--min-score", 0, "--epoch", each) for each in (1, epochs))
    assert first[0]["size"] == last[0]["size"]


def test_inspect_tells_what_a_detector_is_and_how_good(trained: Trained) -> None:
    done = command("inspect", trained.folder / "model.tar.gz")
    assert done.status == 0, done.err
    _, classes, pictures, epoch, _ = done.out.splitlines()
    assert "is a model: object-detection, SSD on mobilenetv3_small_050, " in done.out
    assert (classes, pictures) == (f"classes (3): {', '.join(NAMES)}", "pictures: squeeze to 300 x 300, 3 channels")
    figures = trained.model.artifact.metrics
    assert epoch == f"epoch {trained.model.artifact.epoch}: validation mAP {figures['mAP']:.6f} on 12 pictures"


def test_a_pattern_that_freezes_nothing_is_told(few_boxes: Path, trained: Trained, tmp_path: Path) -> None:
    heard: list[Event] = []
    settings = {"epochs": 1, "mini_batch_size": 11, "freeze_layer_pattern": "conv9_", "validation_fraction": 0}
    foveal.train(few_boxes, tmp_path / "run", model=trained.folder, listeners=[heard.append], **settings)
    told = [event.text for event in heard if isinstance(event, Said) and event.warning]
    assert "freeze_layer_pattern=conv9_ matches no parameter: all of them learn" in told


def test_the_originals_recipe_wants_validation_and_says_what_it_does(few_boxes: Path, tmp_path: Path) -> None:
    settings = {"base_network": "mobilenetv3_small_050", "epochs": 1, "mini_batch_size": 4, "num_classes": 3}
    settings["num_training_samples"] = 11
    done = command("train", few_boxes, "-o", tmp_path / "run", "--recipe", "original", *options(settings))
    assert done.status == 0, done.err
    assert "use_pretrained_model=0: training starts from random weights" in done.err
    artifact, _ = open_artifact(tmp_path / "run")
    expected = {"optimizer": "sgd", "learning_rate": 0.001, "momentum": 0.9, "weight_decay": 0.0005, "image_shape": 300}
    expected |= {"lr_schedule": "step", "negatives_per_empty_picture": 0, "ema_decay": None, "nms_threshold": 0.45}
    assert {name: artifact.settings[name] for name in expected} == expected
    assert artifact.preprocessing["antialias"] is False
