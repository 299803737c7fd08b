"""Settings of object detection: the original's 22 names, ranges, defaults and error texts; two recipes."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.settings import NAMES, DetectionSettings, Parsed, defaults, describe_settings, parse_settings

OD = "object-detection"
CAUSE = "(caused by ValidationError)"
INTEGER = "expects one of the following: a string which matches the pattern '^[1-9][0-9]*$'; or an integer between"
NUMBER = "expects one of the following: a string with a decimal or scientific number; or a number,"

# the guide's 22 names (reference 1.3) and nms_topk; defaults as the container's own file has them (reference 1.1)
ORIGINAL = {
    "num_classes": None,
    "num_training_samples": None,
    "base_network": "vgg-16",
    "early_stopping": False,
    "early_stopping_min_epochs": 10,
    "early_stopping_patience": 5,
    "early_stopping_tolerance": 0.0,
    "image_shape": 300,
    "epochs": 30,
    "freeze_layer_pattern": None,
    "kv_store": None,
    "label_width": 350,
    "learning_rate": 0.001,
    "lr_scheduler_factor": 0.1,
    "lr_scheduler_step": None,
    "mini_batch_size": 32,
    "momentum": 0.9,
    "nms_threshold": 0.45,
    "nms_topk": 400,
    "optimizer": "sgd",
    "overlap_threshold": 0.5,
    "use_pretrained_model": False,
    "weight_decay": 0.0005,
}
LEFT_OPEN = {
    "base_network",
    "epochs",
    "image_shape",
    "learning_rate",
    "mini_batch_size",
    "optimizer",
    "use_pretrained_model",
    "weight_decay",
}


def parsed(recipe: str = "original", /, **given: object) -> Parsed:
    return parse_settings(given, recipe=recipe, algorithm=OD)


def read(**given: object) -> DetectionSettings:
    found = parsed(**given).settings
    assert isinstance(found, DetectionSettings)
    return found


def refusal(given: dict[str, object], **how: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse_settings(given, **{"recipe": "original", "algorithm": OD, **how})
    return str(caught.value)


def test_the_table_has_the_originals_names_and_defaults_and_marks_ours() -> None:
    rows = describe_settings("original", OD)
    assert {row.name for row in rows if not row.ours} == set(ORIGINAL)
    assert {name: getattr(read(), name) for name in ORIGINAL} == ORIGINAL
    assert {row.name for row in rows} == {field.name for field in fields(DetectionSettings)} <= set(NAMES)


def test_the_dataclass_itself_holds_the_originals_defaults() -> None:
    assert DetectionSettings() == read()


def test_modern_leaves_open_what_the_data_decides_and_teaches_by_empty_pictures() -> None:
    modern = defaults("modern", OD)
    assert {name for name in ORIGINAL if modern[name] is None and ORIGINAL[name] is not None} == LEFT_OPEN
    assert (modern["negatives_per_empty_picture"], defaults("original", OD)["negatives_per_empty_picture"]) == (32, 0)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("image_shape", "300", 300),
        ("image_shape", 512, 512),
        ("image_shape", "10000", 10000),
        ("base_network", "resnet-50", "resnet-50"),
        ("base_network", "tf_efficientnet_lite0", "tf_efficientnet_lite0"),
        ("base_network", "resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("early_stopping", "false", False),
        ("early_stopping", "TRUE", True),
        ("freeze_layer_pattern", "^(conv1_|conv2_).*", "^(conv1_|conv2_).*"),
        ("freeze_layer_pattern", "false", None),  # as SageMaker's console sends it
        ("freeze_layer_pattern", False, None),
        ("learning_rate", "1", 1.0),
        ("learning_rate", "1e-05", 1e-05),
        ("momentum", "0", 0.0),
        ("weight_decay", "0.0", 0.0),
        ("lr_scheduler_factor", "0.999", 0.999),
        ("lr_scheduler_step", "3,6", (3, 6)),
        ("nms_threshold", "1", 1.0),
        ("optimizer", "adadelta", "adadelta"),
        ("optimizer", "adamw", "adamw"),
        ("label_width", "600", 600),
        ("use_pretrained_model", "True", True),
        ("negatives_per_empty_picture", "0", 0),
        ("head", "pyramid", "pyramid"),
        ("mosaic", "0.5", 0.5),
        ("multi_scale", "0.25", 0.25),
        ("class_weights", "auto", "auto"),
        ("ap_form", "11-point", "11-point"),
        ("precision_dtype", "float16", "float16"),
    ],
)
def test_strings_and_typed_values_are_read(name: str, value: object, found: object) -> None:
    got = getattr(read(**{name: value}), name)
    assert (got, type(got)) == (found, type(found))


@pytest.mark.parametrize("form", ["3,416,416", "3, 416, 416", (3, 416, 416)])
def test_classifications_form_of_image_shape_is_read_with_a_warning(form: object) -> None:
    found = parsed(image_shape=form)
    text = form if isinstance(form, str) else "3,416,416"
    assert found.settings == read(image_shape=416)
    assert found.warnings == (f"image_shape={text} is classification's form: read as 416",)


SQUARE = "Pictures are forced to a square: set image_shape to its side in pixels, 300 to 10000, such as 512."


@pytest.mark.parametrize(
    ("name", "value", "rule", "remedy"),
    [
        # the text of reference 1.1 to the letter, for a value that is wrong here too
        ("image_shape", "1,416,416", f"{INTEGER} 300 and 10000 {CAUSE}", SQUARE),
        ("image_shape", "3,416,300", f"{INTEGER} 300 and 10000 {CAUSE}", SQUARE),
        ("image_shape", "3,224,224", f"{INTEGER} 300 and 10000 {CAUSE}", SQUARE),
        (
            "image_shape",
            "299",
            f"{INTEGER} 300 and 10000 {CAUSE}",
            "Set image_shape to a whole number, 300 to 10000.",
        ),
        (
            "base_network",
            "resnet-101",
            f"accepts one of the following: 'vgg-16', 'resnet-50' {CAUSE}",
            "Did you mean 'resnet-50'? Set base_network to one of: vgg-16, resnet-50, or to timm's name of a network, "
            "such as mobilenetv3_large_100.",
        ),
        (
            "base_network",
            "vgg16",
            f"accepts one of the following: 'vgg-16', 'resnet-50' {CAUSE}",
            "Did you mean 'vgg-16'? Set base_network to one of: vgg-16, resnet-50, or to timm's name of a network, "
            "such as mobilenetv3_large_100.",
        ),
        ("learning_rate", "0", f"{NUMBER} above 0 to 1 {CAUSE}", "Set learning_rate to a number, above 0 to 1."),
        ("learning_rate", "1.1", f"{NUMBER} above 0 to 1 {CAUSE}", "Set learning_rate to a number, above 0 to 1."),
        (
            "lr_scheduler_factor",
            "1",
            f"{NUMBER} above 0 to below 1 {CAUSE}",
            "Set lr_scheduler_factor to a number, above 0 to below 1.",
        ),
        ("nms_threshold", "0.0", f"{NUMBER} above 0 to 1 {CAUSE}", "Set nms_threshold to a number, above 0 to 1."),
        (
            "overlap_threshold",
            "-1",
            f"{NUMBER} above 0 to 1 {CAUSE}",
            "Set overlap_threshold to a number, above 0 to 1.",
        ),
        ("weight_decay", "1", f"{NUMBER} 0 to below 1 {CAUSE}", "Set weight_decay to a number, 0 to below 1."),
        (
            "optimizer",
            "adagrad",
            f"accepts one of the following: 'sgd', 'adam', 'rmsprop', 'adadelta' {CAUSE}",
            "Did you mean 'adam'? Set optimizer to one of: sgd, adam, rmsprop, adadelta, nag, adamw.",
        ),
        (
            "freeze_layer_pattern",
            "^(conv1_",
            f"expects a regular expression {CAUSE}",
            "Set freeze_layer_pattern to a regular expression that matches names from their start, such as "
            "freeze_layer_pattern=^(conv1_|conv2_).*, or leave it out.",
        ),
        ("label_width", "0", f"{INTEGER} 1 and 2147483647 {CAUSE}", "Set label_width to a whole number, 1 or more."),
        ("augmentation_type", "crop", "accepts one of the following: 'ssd', 'none'", None),
        ("head", "fpn", "accepts one of the following: 'ssd', 'pyramid'", None),
    ],
)
def test_a_wrong_value_gets_the_originals_text_and_a_remedy(
    name: str, value: object, rule: str, remedy: str | None
) -> None:
    first, _, second = refusal({name: value}).partition("\n")
    assert first == f"The value '{value}' is not valid for the '{name}' hyperparameter which {rule}"
    assert remedy is None or second == remedy


def test_the_original_refuses_unknown_names_unless_strict_is_off() -> None:
    assert refusal({"mini_batch_siz": "3"}) == (
        "Additional properties are not allowed ('mini_batch_siz' was unexpected)\n"
        "For 'mini_batch_siz' did you mean 'mini_batch_size'? Correct or remove it, or set strict=0 to be warned only."
    )
    assert parsed(mini_batch_siz="3", strict="0").warnings == (
        "unknown hyperparameter 'mini_batch_siz' is ignored; did you mean 'mini_batch_size'?",
    )
    assert parsed(_num_kv_servers="auto").warnings == ()


def test_modern_warns_of_unknown_names_and_refuses_them_when_strict() -> None:
    assert parsed("modern", aa="3").warnings == ("unknown hyperparameter 'aa' is ignored",)
    assert refusal({"aa": "3", "strict": "1"}, recipe="modern").startswith("Additional properties are not allowed")


def test_a_setting_of_the_other_algorithm_is_named_as_such() -> None:
    assert parsed("modern", num_layers="18").warnings == (
        "image-classification's setting 'num_layers' is ignored in object-detection",
    )
    assert refusal({"num_layers": "18"}) == (
        "Additional properties are not allowed ('num_layers' was unexpected)\n"
        "'num_layers' is a setting of image-classification. Correct or remove it, or set strict=0 to be warned only."
    )
    told = parse_settings({"base_network": "vgg-16"}, recipe="original").warnings
    assert told == ("object-detection's setting 'base_network' is ignored in image-classification",)


def test_the_two_required_settings_are_demanded_at_once() -> None:
    assert refusal({}, required=True).splitlines()[0] == (
        "Missing required hyperparameters: num_classes, num_training_samples"
    )


def test_checkpoints_that_never_come_are_refused() -> None:
    assert refusal({"checkpoint_frequency": "31"}) == (
        "checkpoint_frequency=31 is more than epochs=30: no epoch would be kept\n"
        "Set checkpoint_frequency to 1 to 30, or leave it out to keep the best epoch."
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"early_stopping_patience": "3"}, "early_stopping_patience=3 has no effect: early_stopping is False"),
        ({"momentum": "0.5", "optimizer": "adam"}, "momentum=0.5 has no effect: optimizer=adam does not use it"),
        (
            {"weight_decay": "0.1", "optimizer": "adam"},
            "weight_decay=0.1 has no effect: optimizer=adam does not use it",
        ),
        (
            {"weight_decay": "0.1", "optimizer": "adadelta"},
            "weight_decay=0.1 has no effect: optimizer=adadelta does not use it",
        ),
        (
            {"learning_rate": "0.1", "optimizer": "adadelta"},
            "learning_rate=0.1 has no effect: optimizer=adadelta has no learning rate",
        ),
        ({"lr_scheduler_factor": "0.5"}, "lr_scheduler_factor=0.5 has no effect: no lr_scheduler_step is in use"),
        ({"kv_store": "dist_sync"}, "kv_store=dist_sync has no effect: processes add up their gradients in every step"),
        ({"resnet": "post"}, "resnet=post has no effect: base_network=vgg-16 is the network"),
        (
            {"flip": "0", "augmentation_type": "none"},
            "flip=False has no effect: augmentation_type=none varies nothing",
        ),
        (
            {"mosaic": "0.5", "augmentation_type": "none"},
            "mosaic=0.5 has no effect: augmentation_type=none varies nothing",
        ),
        (
            {"negatives_per_empty_picture": "8", "head": "pyramid"},
            "negatives_per_empty_picture=8 has no effect: with head=pyramid all places learn in all pictures",
        ),
    ],
)
def test_a_setting_that_does_nothing_is_warned_about(given: dict[str, object], said: str) -> None:
    assert parsed(**given).warnings == (said,)


def test_settings_in_use_give_no_warning() -> None:
    used = {"optimizer": "rmsprop", "weight_decay": "0.1", "base_network": "resnet-50", "resnet": "pre"}
    assert parsed(**used, lr_scheduler_step="3,6", lr_scheduler_factor="0.5", label_width="350").warnings == ()


@pytest.mark.parametrize("recipe", ["original", "modern"])
def test_described_defaults_are_read_as_the_defaults(recipe: str) -> None:
    typed = {row.name: row.default for row in describe_settings(recipe, OD) if row.default != "chosen"}
    assert parsed(recipe, **typed).settings == parsed(recipe).settings


def test_stored_settings_are_checked_and_completed() -> None:
    assert DetectionSettings.from_dict({"recipe": "modern"}) == parsed("modern").settings
    with pytest.raises(UserError, match="'image_shape'"):
        DetectionSettings.from_dict({"image_shape": 200})
    with pytest.raises(UserError, match=r"^stored settings: unknown: num_layers\n"):
        DetectionSettings.from_dict({"num_layers": 18})


values = st.fixed_dictionaries(
    {},
    optional={
        "recipe": st.sampled_from(["original", "modern"]),
        "num_classes": st.integers(1, 1_000_000),
        "learning_rate": st.floats(0, 1, exclude_min=True),
        "image_shape": st.integers(300, 10_000),
        "base_network": st.sampled_from(["vgg-16", "resnet-50", "resnet18.a1_in1k"]),
        "freeze_layer_pattern": st.sampled_from(["conv1_.*", "^(a|b)", "false"]),
        "early_stopping": st.booleans(),
        "nms_topk": st.integers(1, 10**6),
        "negatives_per_empty_picture": st.integers(0, 1000),
    },
)


@settings(max_examples=50, deadline=None)
@given(values)
def test_typed_values_strings_and_json_give_the_same_settings(typed: dict[str, object]) -> None:
    found = read(**typed)
    assert read(**{name: str(value) for name, value in typed.items()}) == found
    assert DetectionSettings.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([field.name for field in fields(DetectionSettings)]), st.text() | st.floats() | st.integers())
def test_any_value_is_read_or_refused_with_a_user_error(name: str, value: object) -> None:
    try:
        found = read(**{name: value})
    except UserError as error:
        assert error.setting and len(str(error)) < 700
    else:
        json.dumps(found.to_dict(), allow_nan=False)
