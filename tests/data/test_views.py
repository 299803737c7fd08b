from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mxnet_io import arrays, described, pictures

from foveal.data.augment import Draw, affine_matrix, apply
from foveal.data.decode import decode
from foveal.data.resize import resize
from foveal.data.views import Preprocessing, enlarged_sizes, is_enlarged, modern_resize, resized_sizes, views
from foveal.errors import UserError
from foveal.models.normalise import Normalise

NOT_SETTINGS_OF_OURS = {
    "pad": "the algorithm does not pad",
    "max_img_size": "the algorithm sets no largest size",
    "max_crop_size": "the algorithm crops to image_shape only",
    "dtype_int8": "quantised input is not offered",
    "inter_method": "the algorithm resamples bilinearly (1) only",
}
NEUTRAL = {"path_imgrec", "batch_size", "data_shape", "path_imglist", "label_width"}
KNOWN = NEUTRAL | {"resize", "mirror", "dtype", "scale", "fill_value", "rotate", "min_aspect_ratio", "max_aspect_ratio"}
KNOWN |= {f"{kind}_{channel}" for kind in ("mean", "std") for channel in "rgb"}


def reason_left_out(arguments: dict) -> str:
    """Why MXNet's settings of a case cannot be set here; empty where they can."""
    if arguments.get("dtype") == "int8":
        return NOT_SETTINGS_OF_OURS["dtype_int8"]
    if arguments.get("min_aspect_ratio") != arguments.get("max_aspect_ratio") or "min_random_scale" in arguments:
        return "random scales are not drawn by the algorithm"
    unknown = set(arguments) - KNOWN
    return "; ".join(NOT_SETTINGS_OF_OURS.get(name, f"no setting {name}") for name in sorted(unknown))


def as_the_original(image: np.ndarray, arguments: dict) -> np.ndarray:
    """uint8 [h, w, c] by the rule, and by ``apply`` where the case fixes an affine map or a mirror."""
    channels, height, width = arguments["data_shape"]
    rule = Preprocessing("crop", channels, height, width, arguments.get("resize"), antialias=False)
    if not set(arguments) & {"mirror", "rotate", "min_aspect_ratio"}:
        return views(rule, image)[0].pixels
    sizes = resized_sizes(rule, *image.shape[:2])
    matrix = warped = None
    enlarged = ()
    if set(arguments) & {"rotate", "min_aspect_ratio"}:
        warped, sizes = image.shape[:2], ()
        enlarged = enlarged_sizes(rule, *warped)
        matrix = affine_matrix(0.0, arguments.get("rotate", 0), arguments.get("min_aspect_ratio", 1.0), warped)
    full = (*sizes, *enlarged)[-1:] or (image.shape[:2],)
    corner = ((full[0][0] - height) // 2, (full[0][1] - width) // 2)
    draw = Draw(sizes=sizes, matrix=matrix, warped=warped, fill=arguments.get("fill_value", 255))
    draw = Draw(**{**vars(draw), "enlarged": enlarged, "corner": corner, "mirror": bool(arguments.get("mirror"))})
    return apply(image, draw, rule)


@pytest.mark.parametrize(("folder", "case", "description"), described("deterministic.json", "classification"))
def test_pictures_are_sized_and_cropped_as_the_original_does(folder: Path, case: str, description: dict) -> None:
    arguments = description["arguments"]
    if reason := reason_left_out(arguments):
        pytest.skip(reason)
    decoded = [decode(picture, arguments["data_shape"][0]) for picture in pictures(folder, arguments["path_imgrec"])]
    got = np.stack([as_the_original(image, arguments) for image in decoded])
    wanted = arrays(folder)[f"cls__{case}__data"].transpose(0, 2, 3, 1).astype(np.float32)
    one = 1.0
    values = got.astype(np.float32)
    if set(arguments) & {"mean_r", "scale", "std_r"}:
        scale = arguments.get("scale", 1.0)
        mean = [arguments.get(f"mean_{c}", 0.0) for c in "rgb"]
        std = [arguments.get(f"std_{c}", 1.0) / scale for c in "rgb"]
        values = Normalise(mean, std)(torch.from_numpy(got)).permute(0, 2, 3, 1).numpy()
        one = 1 / min(std)
    difference = np.abs(values - wanted)
    assert difference.max() <= 2 * one + 1e-5
    assert difference.mean() <= 0.6 * one


def picture(height: int, width: int) -> np.ndarray:
    """Red is the column, green the row."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_the_centre_is_cropped_with_offsets_rounded_down() -> None:
    view = views(Preprocessing("crop", 3, 4, 4), picture(9, 7))[0]
    assert view.pixels[0, 0].tolist() == [1, 2, 0]
    assert view.affine.tolist() == [[1, 0, 1], [0, 1, 2]]
    assert not view.enlarged


def test_the_shorter_side_is_resized_and_the_other_cut_to_whole_pixels() -> None:
    rule = Preprocessing("crop", 3, 32, 32, resize=40)
    assert resized_sizes(rule, 48, 67) == ((40, 55),)  # 40 * 67 // 48
    assert resized_sizes(rule, 67, 48) == ((55, 40),)
    assert resized_sizes(rule, 50, 50) == ((40, 40),)


def test_small_pictures_are_enlarged_height_first_then_width() -> None:
    rule = Preprocessing("crop", 3, 32, 40)
    assert resized_sizes(rule, 16, 30) == ((32, 60),)
    assert resized_sizes(rule, 64, 20) == ((128, 40),)
    assert resized_sizes(rule, 16, 10) == ((32, 20), (64, 40))
    assert is_enlarged(rule, 32, 39)
    assert not is_enlarged(rule, 32, 40)
    view = views(rule, picture(16, 10))[0]
    assert view.pixels.shape == (32, 40, 3)
    assert view.enlarged


def test_squeezing_keeps_everything_but_the_aspect() -> None:
    view = views(Preprocessing("squeeze", 3, 10, 30), picture(20, 40))[0]
    assert np.array_equal(view.pixels, resize(picture(20, 40), 10, 30, antialias=True))
    assert view.affine @ [30, 10, 1] == pytest.approx([40, 20])


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (200, 31), (12, 20)])
@pytest.mark.parametrize(("kind", "shorter"), [("crop", 48), ("crop", None), ("squeeze", None)])
def test_the_affine_map_leads_back_to_the_pictures_pixels(height: int, width: int, kind: str, shorter) -> None:
    view = views(Preprocessing(kind, 3, 32, 40, shorter, antialias=True), picture(height, width))[0]
    y, x = np.mgrid[4:28, 4:36]
    places = view.affine @ np.stack([x.ravel() + 0.5, y.ravel() + 0.5, np.ones(x.size)])
    inside = (places[0] > 1) & (places[0] < width - 1) & (places[1] > 1) & (places[1] < height - 1)
    assert np.abs(view.pixels[y, x, 0].ravel() + 0.5 - places[0])[inside].max() < 1.5
    assert np.abs(view.pixels[y, x, 1].ravel() + 0.5 - places[1])[inside].max() < 1.5


@pytest.mark.parametrize(("height", "width"), [(1, 60_000), (60_000, 1), (2, 9000)])
def test_a_line_of_pixels_takes_no_gigabytes(height: int, width: int) -> None:
    view = views(Preprocessing("crop", 1, 224, 224, resize=256), np.zeros((height, width, 1), dtype=np.uint8))[0]
    assert view.pixels.shape == (224, 224, 1)
    middle = view.affine @ [112, 112, 1]
    assert middle == pytest.approx([width / 2, height / 2], abs=1)


def test_modern_crops_seven_eighths() -> None:
    assert modern_resize(224, 224) == 256
    assert modern_resize(28, 28) == 32
    assert modern_resize(32, 64) == 73


def test_the_rule_survives_json() -> None:
    rule = Preprocessing("crop", 3, 224, 160, resize=None, antialias=False)
    assert Preprocessing.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            {"kind": "bars"},
            "foveal.json: preprocessing kind 'bars' is none of 'crop', 'squeeze', 'tiles'\nUpdate Foveal.",
        ),
        ({"height": 0}, "foveal.json: preprocessing height 0 is no whole number from 1 to 65535"),
        ({"width": "9"}, "foveal.json: preprocessing width '9' is no whole number from 1 to 65535"),
        ({"resize": 2.5}, "foveal.json: preprocessing resize 2.5 is no whole number from 1 to 65535"),
        ({"channels": 2}, "foveal.json: preprocessing channels 2 is none of 1, 3, 4"),
        ({"antialias": 1}, "foveal.json: preprocessing antialias 1 is neither true nor false"),
        ({"tta_flip": "no"}, "foveal.json: preprocessing tta_flip 'no' is neither true nor false"),
        (
            {"tile": 3},
            "foveal.json: the preprocessing rule lacks [] and has ['tile'] that this version does not know\n"
            "Was it written by a newer version? Update Foveal.",
        ),
    ],
)
def test_a_wrong_entry_of_a_stored_rule_is_named(change: dict, error: str) -> None:
    with pytest.raises(UserError) as caught:
        Preprocessing.from_dict(Preprocessing("crop", 3, 32, 32).to_dict() | change, "foveal.json")
    assert str(caught.value) == error


def test_a_rule_of_before_mirror_images_were_asked_is_read() -> None:
    rule = Preprocessing("crop", 3, 32, 32)
    stored = {name: value for name, value in rule.to_dict().items() if name != "tta_flip"}
    assert Preprocessing.from_dict(stored) == rule
