"""Settings: the original's names, ranges, defaults and error texts; two recipes; what the user gives wins."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.settings import ClassificationSettings, defaults, describe_settings, parse_settings

CAUSE = "(caused by ValidationError)"
INTEGER = "expects one of the following: a string which matches the pattern '^[1-9][0-9]*$'; or an integer between"
NUMBER = "expects one of the following: a string with a decimal or scientific number; or a number,"
DEPTHS = "18, 34, 50, 101, 152, 200, 20, 32, 44, 56, 110"
DEPTHS_QUOTED = ", ".join(f"'{depth}'" for depth in DEPTHS.split(", "))
SHAPE = "Set image_shape to channels (1, 3 or 4), height and width (up to 10000 pixels), such as 3,224,224."

# the guide's 29 names and defaults (reference 1.2); momentum as the original resolves it (reference 1.1)
ORIGINAL = {
    "num_classes": None,
    "num_training_samples": None,
    "augmentation_type": "none",
    "beta_1": 0.9,
    "beta_2": 0.999,
    "checkpoint_frequency": None,
    "early_stopping": False,
    "early_stopping_min_epochs": 10,
    "early_stopping_patience": 5,
    "early_stopping_tolerance": 0.0,
    "epochs": 30,
    "eps": 1e-8,
    "gamma": 0.9,
    "image_shape": (3, 224, 224),
    "kv_store": None,
    "learning_rate": 0.1,
    "lr_scheduler_factor": 0.1,
    "lr_scheduler_step": None,
    "mini_batch_size": 32,
    "momentum": 0.9,
    "multi_label": False,
    "num_layers": 152,
    "optimizer": "sgd",
    "precision_dtype": "float32",
    "resize": None,
    "top_k": None,
    "use_pretrained_model": False,
    "use_weighted_loss": False,
    "weight_decay": 0.0001,
}
LEFT_OPEN = {  # by the recipe modern, to be decided from the data
    "augmentation_type",
    "epochs",
    "image_shape",
    "learning_rate",
    "mini_batch_size",
    "multi_label",
    "num_layers",
    "optimizer",
    "use_pretrained_model",
    "weight_decay",
}


def original(**given: object) -> ClassificationSettings:
    return parse_settings(given, recipe="original").settings


def warnings(recipe: str = "original", **given: object) -> tuple[str, ...]:
    return parse_settings(given, recipe=recipe).warnings


def refusal(given: dict[str, object], **how: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse_settings(given, **{"recipe": "original", **how})
    return str(caught.value)


def test_the_table_has_the_originals_29_names_and_defaults_and_marks_ours() -> None:
    rows = describe_settings("original")
    assert {row.name for row in rows if not row.ours} == set(ORIGINAL)
    assert {name: getattr(original(), name) for name in ORIGINAL} == ORIGINAL
    assert {row.name for row in rows} == {field.name for field in fields(ClassificationSettings)}


def test_the_description_has_the_required_first_the_originals_by_name_and_then_ours() -> None:
    names = [row.name for row in describe_settings("original")]
    assert names[:2] == ["num_classes", "num_training_samples"]
    assert names[2:29] == sorted(names[2:29]) == sorted(ORIGINAL.keys() - set(names[:2]))
    assert names[29] == "recipe"


def test_the_dataclass_itself_holds_the_originals_defaults() -> None:
    assert ClassificationSettings() == original()


def test_modern_leaves_open_what_the_data_decides() -> None:
    modern = defaults("modern")
    assert {name for name in ORIGINAL if modern[name] is None and ORIGINAL[name] is not None} == LEFT_OPEN
    assert (modern["validation_fraction"], modern["lr_schedule"], modern["recipe"]) == (0.15, "cosine", "modern")


def test_what_is_given_wins_over_both_recipes() -> None:
    for recipe in ("original", "modern"):
        parsed = parse_settings({"epochs": "7", "num_layers": 18}, recipe=recipe)
        assert (parsed.settings.epochs, parsed.settings.num_layers) == (7, 18)
        assert parsed.given == {"epochs", "num_layers"}


def test_a_recipe_among_the_settings_wins() -> None:
    parsed = parse_settings({"recipe": "modern"}, recipe="original")
    assert (parsed.settings.recipe, parsed.settings.epochs) == ("modern", None)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("epochs", "10", 10),
        ("epochs", 10.0, 10),
        ("learning_rate", "0.00012345", 0.00012345),
        ("learning_rate", "1e-05", 1e-05),
        ("learning_rate", "1", 1.0),
        ("learning_rate", 0, 0.0),
        ("momentum", "0", 0.0),
        ("early_stopping", "True", True),
        ("early_stopping", "false", False),
        ("early_stopping", True, True),
        ("use_pretrained_model", "1", True),
        ("use_pretrained_model", "True", True),
        ("use_pretrained_model", 0, False),
        ("image_shape", "3,405,720", (3, 405, 720)),
        ("image_shape", "3, 224, 224", (3, 224, 224)),
        ("image_shape", [1, 28, 28], (1, 28, 28)),
        ("lr_scheduler_step", "10, 20", (10, 20)),
        ("lr_scheduler_step", 5, (5,)),
        ("num_layers", "110", 110),
        ("augmentation_type", "crop_color", "crop_color"),
        ("augmentation_type", "random_resized_crop", "random_resized_crop"),
        ("loader_workers", "auto", None),
        ("loader_workers", "0", 0),
        ("cache_pictures", "auto", None),
        ("ema_decay", "auto", -1.0),
        ("ema_decay", "0", 0.0),
        ("seed", "0", 0),
        ("weights", "timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
    ],
)
def test_strings_and_typed_values_are_read(name: str, value: object, read: object) -> None:
    found = getattr(original(**{name: value}), name)
    assert (found, type(found)) == (read, type(read))


def test_an_empty_string_and_none_mean_not_given() -> None:
    parsed = parse_settings({"resize": "", "epochs": None}, recipe="original")
    assert (parsed.settings, parsed.given) == (original(), frozenset())


def plainly(name: str) -> str:
    return f"Write it without sign, blanks, leading zeros or decimals: {name}=10."


@pytest.mark.parametrize(
    ("name", "value", "rule", "remedy"),
    [
        ("epochs", "10.0", f"{INTEGER} 1 and 1000000 {CAUSE}", plainly("epochs")),
        ("epochs", " 10", f"{INTEGER} 1 and 1000000 {CAUSE}", plainly("epochs")),
        ("epochs", "+10", f"{INTEGER} 1 and 1000000 {CAUSE}", plainly("epochs")),
        ("epochs", "010", f"{INTEGER} 1 and 1000000 {CAUSE}", plainly("epochs")),
        ("epochs", "0", f"{INTEGER} 1 and 1000000 {CAUSE}", "Set epochs to a whole number, 1 to 1000000."),
        ("epochs", "-3", f"{INTEGER} 1 and 1000000 {CAUSE}", "Set epochs to a whole number, 1 to 1000000."),
        ("epochs", "1e3", f"{INTEGER} 1 and 1000000 {CAUSE}", "Set epochs to a whole number, 1 to 1000000."),
        ("epochs", "٣", f"{INTEGER} 1 and 1000000 {CAUSE}", "Set epochs to a whole number, 1 to 1000000."),
        ("epochs", True, f"{INTEGER} 1 and 1000000 {CAUSE}", "Set epochs to a whole number, 1 to 1000000."),
        ("epochs", 2.5, f"{INTEGER} 1 and 1000000 {CAUSE}", "Set epochs to a whole number, 1 to 1000000."),
        ("epochs", 10**400, f"{INTEGER} 1 and 1000000 {CAUSE}", "Set epochs to a whole number, 1 to 1000000."),
        ("resize", "20000", f"{INTEGER} 1 and 10000 {CAUSE}", "Set resize to a whole number, 1 to 10000."),
        ("top_k", "1", f"{INTEGER} 2 and 1000000 {CAUSE}", "Set top_k to a whole number, 2 to 1000000."),
        ("learning_rate", "nan", f"{NUMBER} 0 to 1 {CAUSE}", "Set learning_rate to a number, 0 to 1."),
        ("learning_rate", float("inf"), f"{NUMBER} 0 to 1 {CAUSE}", "Set learning_rate to a number, 0 to 1."),
        ("learning_rate", float("nan"), f"{NUMBER} 0 to 1 {CAUSE}", "Set learning_rate to a number, 0 to 1."),
        ("learning_rate", "1.5", f"{NUMBER} 0 to 1 {CAUSE}", "Set learning_rate to a number, 0 to 1."),
        ("learning_rate", "0,1", f"{NUMBER} 0 to 1 {CAUSE}", "Set learning_rate to a number, 0 to 1."),
        ("momentum", "-0.1", f"{NUMBER} 0 to 1 {CAUSE}", "Set momentum to a number, 0 to 1."),
        ("weight_decay", "1e400", f"{NUMBER} 0 to 1 {CAUSE}", "Set weight_decay to a number, 0 to 1."),
        ("clip_gradient", "0", f"{NUMBER} above 0", "Set clip_gradient to a number, above 0."),
        (
            "augmentation_type",
            "crop_color_transformation",
            f"accepts one of the following: 'crop', 'crop_color', 'crop_color_transform' {CAUSE}",
            "Did you mean 'crop_color_transform'? Set augmentation_type to one of: "
            "crop, crop_color, crop_color_transform, none, pad_crop, random_resized_crop.",
        ),
        (
            "optimizer",
            "adadelta",
            f"accepts one of the following: 'sgd', 'adam', 'rmsprop', 'nag' {CAUSE}",
            "Did you mean 'adam'? Set optimizer to one of: sgd, adam, rmsprop, nag, adamw.",
        ),
        (
            "num_layers",
            "19",
            f"accepts one of the following: {DEPTHS_QUOTED} {CAUSE}",
            f"18 is the nearest. Set num_layers to one of: {DEPTHS}.",
        ),
        (
            "early_stopping",
            "maybe",
            f"accepts one of the following: 'False', 'True' {CAUSE}",
            "Set early_stopping to one of: False, True.",
        ),
        ("multi_label", "2", f"accepts one of the following: '0', '1' {CAUSE}", "Set multi_label to one of: 0, 1."),
        ("image_shape", "3,224", f"expects a string of the form 'channels,height,width' {CAUSE}", SHAPE),
        ("image_shape", "2,64,64", f"expects a string of the form 'channels,height,width' {CAUSE}", SHAPE),
        ("image_shape", "3,224,99999", f"expects a string of the form 'channels,height,width' {CAUSE}", SHAPE),
        (
            "image_shape",
            "224",
            f"expects a string of the form 'channels,height,width' {CAUSE}",
            "One number is object detection's form. For colour pictures 224 pixels high and wide "
            "set image_shape=3,224,224.",
        ),
        (
            "lr_scheduler_step",
            "20,10",
            f"expects a string of strictly increasing epochs, separated by commas {CAUSE}",
            "Set lr_scheduler_step to epochs from 1, each later than the one before, such as lr_scheduler_step=10,20.",
        ),
        (
            "device",
            "gpu",
            "accepts one of the following: 'auto', 'cpu', 'cuda', 'mps'",
            "Did you mean 'cpu'? Set device to one of: auto, cpu, cuda, mps.",
        ),
    ],
)
def test_a_wrong_value_gets_the_originals_text_and_a_remedy(name: str, value: object, rule: str, remedy: str) -> None:
    shown = str(value) if len(str(value)) <= 80 else str(value)[:77] + "..."
    assert (
        refusal({name: value})
        == f"The value '{shown}' is not valid for the '{name}' hyperparameter which {rule}\n{remedy}"
    )


def test_under_modern_the_error_lists_our_values_too() -> None:
    first = refusal({"augmentation_type": "crops"}, recipe="modern").splitlines()[0]
    assert first == (
        "The value 'crops' is not valid for the 'augmentation_type' hyperparameter which accepts one of the following: "
        "'crop', 'crop_color', 'crop_color_transform', 'none', 'pad_crop', 'random_resized_crop'"
    )


def test_the_error_carries_the_name_of_the_setting() -> None:
    with pytest.raises(UserError) as caught:
        parse_settings({"epochs": "x"}, recipe="original")
    assert caught.value.setting == "epochs"


def test_an_unknown_recipe_is_refused() -> None:
    assert refusal({}, recipe="modrn") == (
        "The value 'modrn' is not valid for the 'recipe' hyperparameter which accepts one of the following: "
        "'original', 'modern'\nDid you mean 'modern'? Set recipe to one of: original, modern."
    )


def test_all_missing_settings_are_named_at_once_and_before_anything_else() -> None:
    assert refusal({"num_clases": "3", "epochs": "x"}, required=True) == (
        "Missing required hyperparameters: num_classes, num_training_samples\n"
        "Set num_classes and num_training_samples in the job's hyperparameters. "
        "'num_clases' is not known; did you mean 'num_classes'?"
    )


def test_an_unknown_name_is_warned_about_with_the_nearest() -> None:
    assert warnings(mini_batch_siz="3", model_prefix="x") == (
        "unknown hyperparameter 'mini_batch_siz' is ignored; did you mean 'mini_batch_size'?",
        "unknown hyperparameter 'model_prefix' is ignored",
    )


@pytest.mark.parametrize(("given", "how"), [({"strict": "1"}, {}), ({}, {"strict": True})])
def test_strict_refuses_unknown_names(given: dict[str, object], how: dict[str, Any]) -> None:
    assert refusal({**given, "mini_batch_siz": "3"}, **how) == (
        "Additional properties are not allowed ('mini_batch_siz' was unexpected)\n"
        "For 'mini_batch_siz' did you mean 'mini_batch_size'? Correct or remove it, or set strict=0 to be warned only."
    )
    assert refusal({**given, "aa": "3", "bb": "4"}, **how) == (
        "Additional properties are not allowed ('aa', 'bb' were unexpected)\n"
        "Correct or remove them, or set strict=0 to be warned only."
    )


def test_names_with_an_underscore_in_front_are_sagemakers_own_and_skipped() -> None:
    parsed = parse_settings({"_tuning_objective_metric": "validation:accuracy"}, recipe="original", strict=True)
    assert parsed.warnings == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"multi_label": "1", "top_k": "5"},
            "top_k=5 is not possible with multi_label=1\nLeave one of the two out.",
        ),
        (
            {"multi_label": "1", "class_weights": "auto"},
            "class_weights=auto is for one label a picture, and multi_label is 1\n"
            "Set use_weighted_loss=1 instead, which weighs each class of several labels.",
        ),
        (
            {"tta_flip": "1", "flip": "0"},
            "tta_flip=1 shows the network mirror images, and flip=0 says that pictures may not be mirrored\n"
            "Leave one of the two out.",
        ),
        (
            {"checkpoint_frequency": "31"},
            "checkpoint_frequency=31 is more than epochs=30: no epoch would be kept\n"
            "Set checkpoint_frequency to 1 to 30, or leave it out to keep the best epoch.",
        ),
        (
            {"resnet": "post", "num_layers": "20"},
            "resnet=post is not possible with num_layers=20: networks of that depth are always pre\n"
            "Leave resnet out, or set num_layers to 18, 34, 50, 101, 152 or 200.",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, object], said: str) -> None:
    assert refusal(given) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"early_stopping_patience": "3"}, "early_stopping_patience=3 has no effect: early_stopping is False"),
        ({"beta_1": "0.5"}, "beta_1=0.5 has no effect: optimizer=sgd does not use it"),
        ({"eps": "0.5"}, "eps=0.5 has no effect: optimizer=sgd does not use it"),
        ({"gamma": "0.5", "optimizer": "adam"}, "gamma=0.5 has no effect: optimizer=adam does not use it"),
        ({"momentum": "0.5", "optimizer": "adam"}, "momentum=0.5 has no effect: optimizer=adam does not use it"),
        ({"weight_decay": "1", "optimizer": "adam"}, "weight_decay=1.0 has no effect: optimizer=adam does not use it"),
        ({"lr_scheduler_factor": "0.5"}, "lr_scheduler_factor=0.5 has no effect: no lr_scheduler_step is in use"),
        (
            {"lr_scheduler_step": "5", "lr_schedule": "cosine"},
            "lr_scheduler_step=5 has no effect: lr_schedule is cosine",
        ),
        ({"kv_store": "dist_sync"}, "kv_store=dist_sync has no effect: processes add up their gradients in every step"),
        (
            {"backbone": "mobilenetv3_small_100", "num_layers": "18"},
            "num_layers=18 has no effect: backbone=mobilenetv3_small_100 is the network",
        ),
        (
            {"resize": "100"},
            "resize=100 is smaller than a side of image_shape=3,224,224: pictures are enlarged again before the crop",
        ),
        ({"use_weighted_loss": "1"}, "use_weighted_loss=True has no effect: multi_label is 0"),
        ({"top_k": "5", "num_classes": "5"}, "top_k=5 with num_classes=5 counts every picture as right"),
    ],
)
def test_a_setting_that_does_nothing_is_warned_about(given: dict[str, object], said: str) -> None:
    assert warnings(**given) == (said,)


def test_settings_in_use_give_no_warning() -> None:
    used = {
        "early_stopping": "True",
        "early_stopping_patience": "3",
        "optimizer": "rmsprop",
        "eps": "0.1",
        "gamma": "0.5",
    }
    assert warnings(**used, lr_scheduler_step="5,10", lr_scheduler_factor="0.5", resize="224") == ()


def test_steps_given_to_modern_choose_the_step_schedule() -> None:
    parsed = parse_settings({"lr_scheduler_step": "3"}, recipe="modern")
    assert parsed.settings.lr_schedule == "step"
    assert parsed.warnings == ("lr_scheduler_step is given: lr_schedule is step here, not cosine",)


def test_the_description_shows_values_as_one_types_them() -> None:
    rows = {row.name: row for row in describe_settings("original")}
    assert rows["image_shape"].default == "3,224,224"
    assert rows["early_stopping"].default == "False"
    assert (rows["flip"].default, rows["eps"].default, rows["resize"].default) == ("1", "1e-08", "")
    assert rows["loader_workers"].default == "auto"
    modern = {row.name: row for row in describe_settings("modern")}
    assert (modern["epochs"].default, modern["top_k"].default, modern["ema_decay"].default) == ("chosen", "", "auto")


@pytest.mark.parametrize("recipe", ["original", "modern"])
def test_described_defaults_are_read_as_the_defaults(recipe: str) -> None:
    typed = {row.name: row.default for row in describe_settings(recipe) if row.default != "chosen"}
    assert parse_settings(typed, recipe=recipe).settings == parse_settings({}, recipe=recipe).settings


def test_stored_settings_of_a_newer_version_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"^stored settings: unknown: sharpness\nA newer Foveal wrote them: update Foveal\.$"
    ):
        ClassificationSettings.from_dict({"sharpness": 1})


def test_stored_settings_are_checked_and_completed() -> None:
    assert ClassificationSettings.from_dict({"recipe": "modern"}) == parse_settings({}, recipe="modern").settings
    with pytest.raises(UserError, match="'epochs'"):
        ClassificationSettings.from_dict({"epochs": "many"})


values = st.fixed_dictionaries(
    {},
    optional={
        "recipe": st.sampled_from(["original", "modern"]),
        "num_classes": st.integers(1, 1_000_000),
        "epochs": st.integers(1, 1_000_000),
        "learning_rate": st.floats(0, 1),
        "eps": st.floats(0, 1),
        "image_shape": st.tuples(st.sampled_from([1, 3, 4]), st.integers(1, 10_000), st.integers(1, 10_000)),
        "lr_scheduler_step": st.sets(st.integers(1, 10**6), min_size=1).map(lambda epochs: tuple(sorted(epochs))),
        "early_stopping": st.booleans(),
        "flip": st.booleans(),
        "cache_pictures": st.booleans(),
        "num_layers": st.sampled_from([18, 34, 50, 101, 152, 200]),
        "ema_decay": st.floats(0, 1, exclude_max=True),
        "seed": st.integers(0, 2**63 - 1),
    },
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_typed_values_strings_and_json_give_the_same_settings(typed: dict[str, object]) -> None:
    parsed = parse_settings(typed, recipe="original").settings
    words = {name: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for name, v in typed.items()}
    assert parse_settings(words, recipe="original").settings == parsed
    assert ClassificationSettings.from_dict(json.loads(json.dumps(parsed.to_dict(), allow_nan=False))) == parsed
    assert all(getattr(parsed, name) == value for name, value in typed.items())


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([field.name for field in fields(ClassificationSettings)]), st.text() | st.floats() | st.integers()
)
def test_any_value_is_read_or_refused_with_a_user_error(name: str, value: object) -> None:
    try:
        parsed = parse_settings({name: value}, recipe="original").settings
    except UserError as error:
        assert error.setting and len(str(error)) < 600
    else:
        json.dumps(parsed.to_dict(), allow_nan=False)
