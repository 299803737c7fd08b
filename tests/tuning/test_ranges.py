"""What a tuning searches: ranges as they are typed, and those that the guide recommends."""

from __future__ import annotations

import pytest

from foveal.errors import UserError
from foveal.tuning.ranges import Range, read_range, recommended

CLASSES, BOXES = "image-classification", "object-detection"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate=1e-4..1e-1", Range("learning_rate", "float", 1e-4, 1e-1, True)),
        ("learning_rate=1e-4..1e-1:linear", Range("learning_rate", "float", 1e-4, 1e-1, False)),
        ("momentum=0.5..0.9", Range("momentum", "float", 0.5, 0.9, False)),
        ("momentum=0.5..0.9:log", Range("momentum", "float", 0.5, 0.9, True)),
        ("mini_batch_size=8..64", Range("mini_batch_size", "integer", 8, 64, False)),
        ("optimizer=sgd,adam", Range("optimizer", "choice", choices=("sgd", "adam"))),
        ("image_shape=3,64,64|3,96,96", Range("image_shape", "choice", choices=("3,64,64", "3,96,96"))),
        ("num_layers=18, 34", Range("num_layers", "choice", choices=("18", "34"))),
    ],
)
def test_a_range_as_it_is_typed(text: str, expected: Range) -> None:
    assert read_range(text, CLASSES) == expected


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "learning_rate",
            "range: 'learning_rate' is no range\n"
            "Write --range NAME=LOW..HIGH or NAME=A,B,C, such as learning_rate=1e-4..1e-1.",
        ),
        (
            "learning_rat=1e-4..1e-1",
            "'learning_rat' is no setting of image-classification\n"
            "Did you mean 'learning_rate'? docs/settings.md has them all.",
        ),
        (
            "learning_rate=1e-1..1e-4",
            "range: learning_rate: 0.1 is not below 0.0001\nWrite the lower end first.",
        ),
        (
            "momentum=0..0.9:log",
            "range: momentum: a logarithmic range can't begin at 0\nBegin above 0.",
        ),
        (
            "optimizer=sgd..adam",
            "range: optimizer takes words, which have no range\n"
            "Name them: optimizer=A,B. Allowed: sgd, adam, rmsprop, nag, adamw.",
        ),
        (
            "optimizer=sgd",
            "range: 'optimizer=sgd' leaves nothing to choose\n"
            "Write --range NAME=LOW..HIGH or NAME=A,B,C, such as learning_rate=1e-4..1e-1.",
        ),
        (
            "momentum=0.5..2",
            "The value '2' is not valid for the 'momentum' hyperparameter which expects one of the "
            "following: a string with a decimal or scientific number; or a number, 0 to 1\n"
            "Set momentum to a number, 0 to 1.",
        ),
    ],
)
def test_a_wrong_range_is_told(text: str, lines: str) -> None:
    with pytest.raises(UserError) as error:
        read_range(text, CLASSES)
    assert str(error.value) == lines


def test_the_guides_ranges_leave_out_what_is_given() -> None:
    names = {each.name for each in recommended(CLASSES, {})}
    assert names == {
        "learning_rate", "mini_batch_size", "optimizer", "momentum", "weight_decay", "beta_1", "beta_2", "eps", "gamma",
    }  # fmt: skip
    assert names - {each.name for each in recommended(CLASSES, {"optimizer": "sgd"})} == {"optimizer"}
    boxes = {each.name: each for each in recommended(BOXES, {})}
    assert boxes["mini_batch_size"] == Range("mini_batch_size", "integer", 8, 64, False)
    assert boxes["optimizer"].choices == ("sgd", "adam", "rmsprop", "adadelta")
