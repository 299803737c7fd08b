"""The log lines of SageMaker's algorithms equal those of saved logs (reference 2.4, 2.5); its expressions find them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from foveal.container.log_lines import classification_log, detection_log, original_log
from foveal.settings import parse_settings
from foveal.training.events import EpochDone, Event, Finished, ModelWritten, RunStarted, Said, StepDone

PREFIX = re.compile(r"^\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d [A-Z]+ \d+\] ")
MOMENT = 1662151903.0  # 2 September 2022, 20:51:43 UTC
MODEL = "/opt/ml/model/model_algo_1-0000.params"
SETTINGS = parse_settings(
    {"num_classes": "1", "lr_scheduler_step": "3,6"}, recipe="original", algorithm="object-detection"
).settings.to_dict()

STARTED = RunStarted(
    algorithm="object-detection",
    step=0,
    steps=7300,
    steps_per_epoch=73,
    epochs=100,
    batch_size=16,
    settings=SETTINGS,
)
EPOCH = EpochDone(
    step=72,
    epoch=0,
    learning_rate=0.001,
    train={"loss": 3.0, "cross_entropy": 2.015441646388144, "smooth_l1": 0.7727404780864044},
    validation={"mAP": 0.0008992603222396422, "recall": 0.5},
    improved=True,
    train_seconds=16.0,
    validation_seconds=2.0,
    pictures=1152,
)
STEP = StepDone(
    step=100, epoch=0, batch=99, learning_rate=0.001, loss=2.0, figures={}, pictures=1600, seconds=22.067521
)


def lines(events: Iterable[Event], seconds: float = 1.0) -> list[str]:
    """What is printed, ``seconds`` passing before each event but the first."""
    ticks = iter(MOMENT + seconds * count for count in range(1000))
    stream = io.StringIO()
    listen = detection_log(stream, clock=lambda: next(ticks))
    for event in events:
        listen(event)
    return stream.getvalue().splitlines()


def texts(events: Iterable[Event]) -> list[str]:
    return [PREFIX.sub("", line) for line in lines(events)]


def test_the_lines_of_an_epoch_are_those_of_a_saved_log() -> None:
    printed = texts([STARTED, EPOCH, ModelWritten(MODEL, 0)])
    assert printed[printed.index("Round of batches complete") - 2 : -1] == [
        "#quality_metric: host=algo-1, epoch=0, batch=72 train cross_entropy <loss>=(2.015441646388144)",
        "#quality_metric: host=algo-1, epoch=0, batch=72 train smooth_l1 <loss>=(0.7727404780864044)",
        "Round of batches complete",
        "#throughput_metric: host=algo-1, train throughput=72.0 records/second",
        "Updated the metrics",
        "#quality_metric: host=algo-1, epoch=0, validation mAP <score>=(0.0008992603222396422)",
        "Updating the best model with validation-mAP=0.0008992603222396422",
        f'Saved checkpoint to "{MODEL}"',
        "#progress_metric: host=algo-1, completed 1.0 % of epochs",
    ]


def test_a_line_begins_with_time_level_and_thread() -> None:
    (line,) = lines([Said("a doubt", warning=True)])
    assert re.fullmatch(r"\[09/02/2022 20:51:43 WARNING \d+\] a doubt", line)


def test_the_metrics_line_has_no_prefix_and_counts_epochs_only() -> None:
    line = lines([STARTED, EPOCH, ModelWritten(MODEL, 0)])[-1]
    assert line.startswith('#metrics {"StartTime": 1662151903.0, "EndTime": 1662151905.0, "Dimensions": {"Algorithm": ')
    fields = json.loads(line.removeprefix("#metrics "))
    assert fields["Dimensions"] == {
        "Algorithm": "AWS/Object Detection",
        "Host": "algo-1",
        "Operation": "training",
        "epoch": 0,
        "Meta": "training_data_iter",
    }
    assert fields["Metrics"].pop("Reset Count") == {"sum": 1.0, "count": 1, "min": 1, "max": 1}
    assert set(map(str, fields["Metrics"].values())) == {"{'sum': 0.0, 'count': 1, 'min': 0, 'max': 0}"}
    assert len(fields["Metrics"]) == 6


def test_a_worse_epoch_stores_nothing_and_ends_at_once() -> None:
    worse = replace(EPOCH, step=145, epoch=1, improved=False)
    printed = texts([STARTED, EPOCH, ModelWritten(MODEL, 0), worse])
    tail = printed[[i for i, text in enumerate(printed) if "validation mAP" in text][1] :]
    assert tail[0] == "#quality_metric: host=algo-1, epoch=1, validation mAP <score>=(0.0008992603222396422)"
    assert tail[1] == "#progress_metric: host=algo-1, completed 2.0 % of epochs"
    assert tail[2].startswith("#metrics ") and len(tail) == 3
    assert "epoch=1, batch=73 train" in " ".join(printed)


def test_without_validation_the_model_is_stored_and_no_map_is_told() -> None:
    printed = texts([STARTED, replace(EPOCH, validation={}), ModelWritten(MODEL, 0)])
    assert not [text for text in printed if "mAP" in text]
    assert f'Saved checkpoint to "{MODEL}"' in printed


def test_a_line_of_batches_comes_every_hundred() -> None:
    others = [replace(STEP, step=step, batch=step - 1) for step in (20, 99, 101)]
    printed = texts([*others, STEP])
    assert printed == [
        "Epoch:    0, batches:    100, num_examples:   1600, 72.5 samples/sec, epoch time so far:  0:00:22.067521"
    ]


def test_a_drop_of_the_learning_rate_is_told_by_the_number_of_its_first_update() -> None:
    at = [replace(STEP, step=step, batch=step - 3 * 1034 - 1) for step in (3102, 3103, 3104)]
    rates = (1e-4, 1e-5, 1e-5)
    steps = [replace(step, learning_rate=rate) for step, rate in zip(at, rates, strict=True)]
    assert "Update[3103]: Change learning rate to 1.00000e-05" in texts([STARTED, *steps])
    smooth = replace(STARTED, settings={**SETTINGS, "lr_schedule": "cosine"})
    assert not [text for text in texts([smooth, *steps]) if text.startswith("Update[")]


def test_a_run_that_goes_on_within_an_epoch_counts_all_of_its_batches() -> None:
    printed = texts([replace(STARTED, step=50), replace(STEP, step=60, batch=59), EPOCH])
    assert "#quality_metric: host=algo-1, epoch=0, batch=72 train smooth_l1 <loss>=(0.7727404780864044)" in printed
    assert "Creating a new state instance." not in printed


def test_the_start_tells_every_setting_in_force() -> None:
    printed = lines([replace(STARTED, settings={**SETTINGS, "use_pretrained_model": True})])
    assert "'nms_threshold': '0.45'" in printed[0] and "'lr_scheduler_step': '3,6'" in printed[0]
    assert "'use_pretrained_model': '1'" in printed[0] and "'freeze_layer_pattern': ''" in printed[0]
    assert re.search(r" WARNING \d+\] Training images are resized to image shape \(3, 300, 300\)$", printed[1])
    assert [PREFIX.sub("", line) for line in printed[2:-1]] == [
        "Create Store: device",
        "Start training from pretrained model 1.",
        "Creating a new state instance.",
    ]
    first = json.loads(printed[-1].removeprefix("#metrics "))
    assert first["Dimensions"]["Meta"] == "init_train_data_iter" and "epoch" not in first["Dimensions"]


def test_the_end_names_the_best_epoch_its_figure_and_the_file() -> None:
    end = Finished(step=7300, path="run/model.tar.gz", best_epoch=7, figures={"mAP": 0.5, "recall": 0.9})
    assert texts([STARTED, ModelWritten(MODEL, -1), end])[-2:] == [
        f'Saved checkpoint to "{MODEL}"',
        "Training ended: best epoch=6, validation-mAP=0.5, model=run/model.tar.gz",
    ]


# the definitions that the platform attaches to a job, verbatim (reference 2.5)
@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (r"#progress_metric: host=\S+, completed (\S+) %", "1.0"),
        (r"#quality_metric: host=\S+, epoch=\S+, batch=\S+ train smooth_l1 <loss>=(\S+)", "(0.7727404780864044)"),
        (r"#quality_metric: host=\S+, epoch=\S+, batch=\S+ train cross_entropy <loss>=(\S+)", "(2.015441646388144)"),
        (r"#throughput_metric: host=\S+, train throughput=(\S+) records/second", "72.0"),
        (r"#quality_metric: host=\S+, epoch=\S+, validation mAP <score>=\((\S+)\)", "0.0008992603222396422"),
    ],
)
def test_the_platforms_own_expressions_find_each_figure_once(expression: str, found: str) -> None:
    assert re.findall(expression, "\n".join(lines([STARTED, EPOCH, ModelWritten(MODEL, 0)]))) == [found]


def test_the_given_check_of_logs_is_content(shared: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("\n".join(lines([STARTED, EPOCH, ModelWritten(MODEL, 0)])) + "\n")
    check = [sys.executable, str(shared / "checks" / "log_check.py"), str(log), "detection"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "all found")


def test_the_lines_are_those_of_the_algorithm_that_runs() -> None:
    def told(algorithm: str) -> list[str]:
        stream = io.StringIO()
        listen = original_log(stream)
        for event in (Said("network: x"), replace(STARTED, algorithm=algorithm)):
            listen(event)
        return [PREFIX.sub("", line) for line in stream.getvalue().splitlines()]

    assert told("image-classification")[:2] == ["network: x", "---- Parameters ----"]
    assert told("object-detection")[0] == "network: x"
    assert told("object-detection")[1].startswith("Final configuration: {")


def test_classification_tells_its_figures_in_its_own_form() -> None:
    stream = io.StringIO()
    listen = classification_log(stream)
    figures = {"accuracy": 0.025670}
    listen(replace(STEP, step=21, batch=20, figures=figures, pictures=2688, seconds=2688 / 114.186))
    listen(replace(EPOCH, train={"loss": 1.0, "accuracy": 0.377018}, validation={"accuracy": 0.661371}))
    listen(ModelWritten("/opt/ml/model/image-classification-0001.params", 0))
    assert [PREFIX.sub("", line) for line in stream.getvalue().splitlines()] == [
        "Epoch[0] Batch [20]\tSpeed: 114.186 samples/sec\taccuracy=0.025670",
        "Epoch[0] Train-accuracy=0.377018",
        "Epoch[0] Time cost=16.000",
        "Epoch[0] Validation-accuracy=0.661371",
        "Storing the best model with validation accuracy: 0.661371",
        'Saved checkpoint to "/opt/ml/model/image-classification-0001.params"',
    ]
