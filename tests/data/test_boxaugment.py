from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mxnet_io import (
    arrays,
    assert_same_distribution,
    assert_same_share,
    boxes,
    described,
    error_of_std,
    labelled,
    objects,
)
from numpy.random import Generator, Philox

from foveal.data.boxaugment import (
    FILL,
    SSD,
    BoxDraw,
    BoxRanges,
    Sampler,
    apply,
    augment_boxes,
    collate_boxes,
    draw_change,
    move,
    targets_of,
)
from foveal.data.boxes import to_pixels
from foveal.data.colour import scale_contrast, shift_hls
from foveal.data.decode import Decoded, decode_upright
from foveal.data.resize import KERNELS
from foveal.data.views import Preprocessing, views
from foveal.records import Boxes

DRAWS = 1500


def rng(*key: int) -> Generator:
    return Generator(Philox(key=[11, sum(key)]))


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return rng(height, width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def rule_of(height: int, width: int, channels: int = 3) -> Preprocessing:
    return Preprocessing("squeeze", channels, height, width, None, antialias=False)


def targets(*rows: tuple[float, ...]) -> np.ndarray:
    """Rows of class, xmin, ymin, xmax, ymax, none difficult."""
    return np.array([[*row, 0] for row in rows], dtype=np.float32).reshape(-1, 6)


def in_pixels(image: np.ndarray, rows: np.ndarray) -> Boxes:
    return to_pixels(boxes(rows), Decoded(image))


# The original's pictures and labels, its numbers fed in ---------------------------------------------------------------

NEUTRAL = {"path_imgrec", "batch_size", "data_shape", "label_pad_width", "label_pad_value", "round_batch", "fill_value"}
DETERMINISTIC = NEUTRAL | {"inter_method", "rand_mirror_prob"}


def reason_left_out(arguments: dict) -> str:
    """Why MXNet's settings of a case cannot be set here; empty where they can."""
    if arguments.get("resize_mode", "force") != "force":
        return "the algorithm forces pictures to its square only"
    if arguments.get("crop_emit_mode", "center") != "center":
        return "the algorithm keeps objects by their centre only"
    return ""


def kernel_of(method: int, shape: tuple[int, ...], height: int, width: int) -> str:
    """By MXNet's inter_method; 9 chooses by the sizes."""
    if method != 9:
        return KERNELS[method]
    if shape[0] > height and shape[1] > width:
        return "area"
    return "cubic" if shape[0] < height and shape[1] < width else "bilinear"


def wanted_objects(label: np.ndarray) -> np.ndarray:
    """float32 [n, 5] of a row (channels, height, width, length, the label as augmented, padding)."""
    return objects(label[4 : 4 + int(label[3])])[:, :5]


def assert_same_objects(got: np.ndarray, wanted: np.ndarray, what: object = "") -> None:
    assert got.shape == (len(wanted), 6), what
    assert np.abs(got[:, :5] - wanted).max(initial=0) <= 1e-5, what


def assert_same_pixels(got: np.ndarray, wanted: np.ndarray, kernel: str, what: object = "") -> None:
    difference = np.abs(got.astype(int) - wanted)
    assert difference.max() <= (0 if kernel == "nearest" else 2), what
    assert difference.mean() <= 0.6, what


@pytest.mark.parametrize(("folder", "case", "description"), described("deterministic.json", "detection"))
def test_the_originals_numbers_give_the_originals_pictures_and_labels(
    folder: Path, case: str, description: dict
) -> None:
    arguments = description["arguments"]
    if reason := reason_left_out(arguments):
        pytest.skip(reason)
    channels, height, width = arguments["data_shape"]
    data, label = (arrays(folder)[f"det__{case}__{name}"] for name in ("data", "label"))
    for i, (encoded, stored) in enumerate(labelled(folder, arguments["path_imgrec"])):
        decoded = decode_upright(encoded, channels)
        kernel = kernel_of(arguments.get("inter_method", 1), decoded.pixels.shape, height, width)
        if "geometry" in description:
            draw = replayed(description["geometry"][i], kernel, arguments.get("fill_value", FILL))
        elif unknown := set(arguments) - DETERMINISTIC - {"resize_mode"}:
            pytest.skip(f"the algorithm does not set {', '.join(sorted(unknown))}")
        else:
            draw = BoxDraw(mirror=arguments.get("rand_mirror_prob", 0) == 1, kernel=kernel)
        rows = move(targets_of(to_pixels(stored, decoded)), draw)
        assert_same_objects(rows, wanted_objects(label[i]), i)
        if "geometry" in description:
            assert_same_objects(rows, np.array(description["geometry"][i]["objects"]).reshape(-1, 5), i)
        pixels = apply(decoded.pixels, draw, rule_of(height, width, channels))
        assert_same_pixels(pixels, data[i].transpose(1, 2, 0), kernel, i)


def replayed(numbers: dict, kernel: str, fill: int) -> BoxDraw:
    assert numbers["matches_mxnet"]
    pad, crop = numbers["pad"], numbers["crop"]
    return BoxDraw(
        mirror=numbers["mirror"],
        pad=None if pad is None else tuple(pad["box"]),
        border=(0, 0, 0, 0) if pad is None else tuple(pad["left_top_right_bottom"]),
        crop=None if crop is None else tuple(crop["box"]),
        rectangle=None if crop is None else tuple(crop["left_top_width_height"]),
        kernel=kernel,
        fill=fill,
    )


# Its distributions ----------------------------------------------------------------------------------------------------

SAMPLER = {"min_crop_scales": 0.0, "max_crop_scales": 1.0, "min_crop_aspect_ratios": 1.0, "max_crop_aspect_ratios": 1.0}
SAMPLER |= {"min_crop_overlaps": 0.0, "max_crop_overlaps": 1.0, "max_crop_trials": 25}
SAMPLER |= {"min_crop_sample_coverages": 0.0, "max_crop_sample_coverages": 1.0}
SAMPLER |= {"min_crop_object_coverages": 0.0, "max_crop_object_coverages": 1.0}
FIXED = ("max_crop_overlaps", *(name for name in SAMPLER if name.endswith("coverages")))


def ranges_of(arguments: dict | str) -> BoxRanges | str:
    """What MXNet's settings draw, or why the algorithm never draws so."""
    if isinstance(arguments, str):
        assert arguments == "all four as in the SSD example, probability 0.5 each"
        return BoxRanges(SSD.hue, SSD.saturation, SSD.lightness, SSD.contrast)
    colours = {
        name: arguments.get(f"max_random_{theirs}", 0)
        for name, theirs in zip(("hue", "saturation", "lightness", "contrast"), COLOURS, strict=True)
    }
    known = {"rand_mirror_prob", "rand_pad_prob", "max_pad_scale", "rand_crop_prob", "num_crop_sampler", "inter_method"}
    known |= {"crop_emit_mode", *SAMPLER, *(f"max_random_{c}" for c in COLOURS), *(f"random_{c}_prob" for c in COLOURS)}
    if unknown := set(arguments) - known:
        return f"the algorithm does not set {', '.join(sorted(unknown))}"
    listed = {name: np.atleast_1d(arguments.get(name, value)) for name, value in SAMPLER.items()}
    if any((listed[name] != SAMPLER[name]).any() for name in FIXED) or reason_left_out(arguments):
        return "the algorithm bounds a crop's overlap from below only, and keeps objects by their centre"
    count = arguments.get("num_crop_sampler", 1)
    each = {name: np.broadcast_to(values, count).tolist() for name, values in listed.items()}
    samplers = tuple(
        Sampler(
            (each["min_crop_scales"][i], each["max_crop_scales"][i]),
            (each["min_crop_aspect_ratios"][i], each["max_crop_aspect_ratios"][i]),
            each["min_crop_overlaps"][i],
            each["max_crop_trials"][i],
        )
        for i in range(count)
    )
    return BoxRanges(
        **colours,
        mirror_chance=arguments.get("rand_mirror_prob", 0),
        pad_chance=arguments.get("rand_pad_prob", 0),
        pad=arguments.get("max_pad_scale", 1),
        crop_chance=arguments.get("rand_crop_prob", 0),
        samplers=samplers,
        kernels=KERNELS if arguments.get("inter_method") == 10 else ("bilinear",),
    )


COLOURS = ("hue", "saturation", "illumination", "contrast")
CASES = described("statistics.json", iterator="ImageDetRecordIter")


@pytest.mark.parametrize(("folder", "case", "description"), CASES)
def test_random_numbers_are_distributed_as_the_originals(folder: Path, case: str, description: dict) -> None:
    ranges = ranges_of(description["arguments"])
    if isinstance(ranges, str):
        pytest.skip(ranges)
    generator = rng(len(case))
    if "picture_bgr" in description:
        grey = targets((0, 0.1, 0.1, 0.9, 0.9))
        assert_same_colours([draw_change(ranges, (32, 32), grey, 3, generator) for _ in range(DRAWS)], description)
        return
    shape = (description["probe_height"], description["probe_width"])
    rows = np.pad(objects(np.array(description["label"], dtype=np.float32)), ((0, 0), (0, 1)))
    draws = [draw_change(ranges, shape, rows, 3, generator) for _ in range(DRAWS)]
    assert_same_geometry(np.array([seen(draw, shape) for draw in draws]), draws, shape, description["parameters"])
    assert_same_labels([move(rows, draw) for draw in draws], description["parameters"])


def seen(draw: BoxDraw, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """What the network sees (left, top, right, bottom), as fractions of the picture before it is mirrored."""
    height, width = shape
    left, top, right, bottom = -draw.border[0], -draw.border[1], width + draw.border[2], height + draw.border[3]
    if draw.rectangle is not None:
        left, top = left + draw.rectangle[0], top + draw.rectangle[1]
        right, bottom = left + draw.rectangle[2], top + draw.rectangle[3]
    if draw.mirror:
        left, right = width - right, width - left
    return left / width, top / height, right / width, bottom / height


def assert_same_geometry(frames: np.ndarray, draws: list[BoxDraw], shape: tuple[int, int], wanted: dict) -> None:
    assert_same_share(np.mean([draw.mirror for draw in draws]), wanted["mirror_fraction"], DRAWS, 5000, "mirror")
    whole = (np.abs(frames - (0, 0, 1, 1)) < 0.006).all(axis=1)
    assert_same_share(whole.mean(), wanted["whole_picture_fraction"], DRAWS, 5000, "whole")
    if "left" not in wanted:
        assert whole.mean() >= 0.99  # the fixtures measure from 50 pictures on
        return
    left, top, right, bottom = frames[~whole].T
    got = {"left": left, "top": top, "right": right, "bottom": bottom, "width": right - left, "height": bottom - top}
    got["area"] = got["width"] * got["height"]
    got["log_pixel_aspect"] = np.log(got["width"] * shape[1] / (got["height"] * shape[0]))
    for name, values in got.items():
        assert_same_distribution(values, wanted[name], 0.5 / min(shape), name)


def assert_same_labels(labels: list[np.ndarray], wanted: dict) -> None:
    for count, times in wanted["objects_left"].items():
        share = np.mean([len(rows) == int(count) for rows in labels])
        assert_same_share(share, times / 5000, DRAWS, 5000, f"{count} objects")
    together = np.concatenate(labels)
    for cls, theirs in wanted["objects"].items():
        boxes_of = together[together[:, 0] == int(cls), 1:5]
        assert_same_share(len(boxes_of) / DRAWS, theirs["kept_fraction"], DRAWS, 5000, f"object {cls}")
        if not len(boxes_of):
            continue
        count = theirs["kept_fraction"] * 5000
        for values, mean, std in zip(boxes_of.T, theirs["mean_box"], theirs["std_box"], strict=True):
            assert abs(values.mean() - mean) <= 4 * std * np.sqrt(1 / len(values) + 1 / count) + 1e-3, cls
            assert abs(values.std() - std) <= 4 * error_of_std(values, count) + 1e-2, cls


def assert_same_colours(draws: list[BoxDraw], description: dict) -> None:
    wanted, arguments = description["parameters"], description["arguments"]
    shifts = np.array([draw.hls or (0, 0, 0) for draw in draws])
    factors = np.array([draw.contrast or 1 for draw in draws])
    if "shift" in wanted:
        (channel,) = (
            i for i, name in enumerate(("hue", "illumination", "saturation")) if f"max_random_{name}" in arguments
        )
        assert_same_distribution(shifts[:, channel], wanted["shift"], 0.0, "shift")
        assert (shifts[:, [i for i in range(3) if i != channel]] == 0).all()
        return
    if "factor" in wanted:
        assert_same_distribution(np.rint(factors * 100) / 100, wanted["factor"], 0.0, "factor")
        assert_same_share((np.rint(factors * 100) == 100).mean(), wanted["unchanged_fraction"], DRAWS, 5000, "same")
        return
    patch = np.uint8([[description["picture_bgr"][::-1]]])
    got = np.array(
        [scale_contrast(shift_hls(patch, *shift), factor)[0, 0] for shift, factor in zip(shifts, factors, strict=True)]
    )
    for i, channel in enumerate(("red", "green", "blue")):
        assert_same_distribution(got[:, i].astype(float), wanted[channel], 1.0, channel)
    assert_same_share((got == patch[0]).all(axis=1).mean(), description["unchanged_fraction"], DRAWS, 5000, "unchanged")


# What else holds ------------------------------------------------------------------------------------------------------


def test_the_level_is_the_ssd_examples() -> None:
    assert BoxRanges(18, 32, 32, 0.5, 0.5, 0.5, 0.5, 4.0, 5 / 6, SSD.samplers, KERNELS) == SSD
    assert SSD.samplers == tuple(Sampler((0.3, 1.0), (0.5, 2.0), least, 25) for least in (0.1, 0.3, 0.5, 0.7, 0.9))


THREE = targets((4, 0.1, 0.2, 0.5, 0.7), (0, 0.6, 0.6, 0.7, 0.75), (2, 0.0, 0.0, 0.05, 0.04))


def test_without_augmentation_training_sees_what_asking_sees() -> None:
    image, rule = noise(60, 90), rule_of(32, 32)
    pixels, rows = augment_boxes(image, in_pixels(image, THREE), rule, rng(0), "none")
    assert np.array_equal(pixels, views(rule, image)[0].pixels)
    assert np.abs(rows - THREE).max() < 1e-6


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (1, 1), (48, 48), (3, 900), (24, 30)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows", [THREE, THREE[:0]], ids=["three", "empty"])
def test_every_picture_gives_the_networks_size_and_boxes_within(
    shape: tuple[int, int], channels: int, rows: np.ndarray
) -> None:
    image, rule = noise(*shape, channels), rule_of(48, 48, channels)
    objects_of, before = in_pixels(image, rows), image.copy()
    image.flags.writeable = False
    for i in range(40):
        pixels, found = augment_boxes(image, objects_of, rule, rng(i))
        assert pixels.shape == (48, 48, channels)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous and pixels.flags.writeable
        assert found.shape[1] == 6 and found.dtype == np.float32
        assert len(rows) >= len(found) >= min(1, len(rows))
        assert ((found[:, 1:5] >= 0) & (found[:, 1:5] <= 1)).all()
        assert (found[:, 3:5] > found[:, 1:3]).all()
    assert np.array_equal(image, before)


def test_the_same_generator_gives_the_same_picture_and_another_another() -> None:
    image, rule = noise(60, 80), rule_of(48, 48)
    rows = in_pixels(image, THREE)
    first, again, other = (augment_boxes(image, rows, rule, rng(key)) for key in (1, 1, 2))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_every_picture_takes_the_same_numbers_of_the_generator() -> None:
    states = set()
    for shape, rows, channels, flip in (((60, 80), THREE, 3, True), ((5, 7), THREE[:0], 1, False)):
        for key in range(5):
            generator = rng(5)
            generator.random(key)
            state = generator.bit_generator.state["state"]["counter"][0]
            draw_change(SSD, shape, rows, channels, generator, flip)
            states.add(int(generator.bit_generator.state["state"]["counter"][0] - state))
    assert max(states) - min(states) <= 1  # Philox makes four numbers at a time


def test_mirroring_can_be_forbidden_and_changes_nothing_else() -> None:
    with_flip = [draw_change(SSD, (60, 80), THREE, 3, rng(i)) for i in range(40)]
    without = [draw_change(SSD, (60, 80), THREE, 3, rng(i), flip=False) for i in range(40)]
    assert any(draw.mirror for draw in with_flip)
    assert not any(draw.mirror for draw in without)
    assert [draw.border for draw in with_flip] == [draw.border for draw in without]
    assert [draw.hls for draw in with_flip] == [draw.hls for draw in without]


def test_grey_pictures_keep_their_lightness_but_not_their_contrast() -> None:
    draws = [draw_change(SSD, (40, 40), THREE, 1, rng(i)) for i in range(20)]
    assert all(draw.hls is None for draw in draws)
    assert any(draw.contrast is not None for draw in draws)


@pytest.mark.parametrize("least", [0.1, 0.5, 0.9])
def test_a_crop_overlaps_an_object_as_its_sampler_demands(least: float) -> None:
    ranges = BoxRanges(crop_chance=1, samplers=(Sampler(overlap=least),))
    rows = targets((0, 0.25, 0.2, 0.75, 0.9), (1, 0.0, 0.0, 0.3, 0.3))
    crops = [draw_change(ranges, (300, 400), rows, 3, rng(i)).crop for i in range(200)]
    found = [crop for crop in crops if crop is not None]
    assert found
    for x, y, w, h in found:
        best = 0.0
        for _, x0, y0, x1, y1, _ in rows.tolist():
            shared = max(0, min(x + w, x1) - max(x, x0)) * max(0, min(y + h, y1) - max(y, y0))
            best = max(best, shared / (w * h + (x1 - x0) * (y1 - y0) - shared))
        assert best >= least - 1e-6
        assert min(x, y) >= 0 and max(x + w, y + h) <= 1 + 1e-9


def test_objects_whose_centre_the_crop_misses_are_dropped_and_others_cut() -> None:
    rows = targets((0, 0.0, 0.0, 0.4, 0.4), (1, 0.4, 0.4, 0.7, 0.7), (2, 0.0, 0.5, 0.99, 0.6), (3, 0.5, 0.5, 0.6, 0.6))
    moved = move(rows, BoxDraw(crop=(0.5, 0.5, 0.5, 0.5), rectangle=(10, 10, 10, 10)))
    assert moved[:, 0].tolist() == [1, 3]  # the second's centre is at 0.495
    assert moved[:, 1:5].round(5).tolist() == np.float32([[0, 0, 0.4, 0.4], [0, 0, 0.2, 0.2]]).round(5).tolist()


def test_a_picture_that_the_crop_emptied_is_legal() -> None:
    draw = BoxDraw(crop=(0.5, 0.5, 0.5, 0.5), rectangle=(20, 20, 20, 20))
    assert move(THREE[2:], draw).shape == (0, 6)
    assert apply(noise(40, 40), draw, rule_of(16, 16)).shape == (16, 16, 3)


def test_empty_pictures_are_zoomed_into_as_others_are() -> None:
    draws = [draw_change(SSD, (60, 80), THREE[:0], 3, rng(i)) for i in range(400)]
    cropped = [draw for draw in draws if draw.crop is not None]
    assert 0.6 < len(cropped) / len(draws) < 0.9
    for draw in cropped:
        left, top, right, bottom = seen(draw, (60, 80))
        assert left - 0.04 <= 0.5 <= right + 0.04 and top - 0.04 <= 0.5 <= bottom + 0.04  # but for pixels cut off


def test_crowds_are_no_targets_and_difficult_objects_are_marked() -> None:
    image = noise(20, 40)
    three = in_pixels(image, THREE)
    marked = replace(three, crowd=np.array([False, True, False]), difficult=np.array([True, False, False]))
    rows = targets_of(marked)
    assert rows[:, 0].tolist() == [4, 2]
    assert rows[:, 5].tolist() == [1, 0]


def with_rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """A black picture with a white rectangle."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = 255
    return image


def test_pixels_and_boxes_move_together() -> None:
    image = with_rectangle(150, 200, (60, 40, 130, 120))
    whole = in_pixels(image, targets((0, 60 / 200, 40 / 150, 130 / 200, 120 / 150)))
    rule = rule_of(128, 128)
    for i in range(150):
        rows = targets_of(whole)
        draw = replace(draw_change(SSD, (150, 200), rows, 3, rng(i)), hls=None, contrast=None)
        pixels, moved = apply(image, draw, rule), move(rows, draw)
        bright = pixels.mean(axis=2) > 191
        y, x = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        found = np.array([x[0], y[0], x[-1] + 1, y[-1] + 1]) / 128
        left, top, right, bottom = seen(draw, (150, 200))
        # Up to two pixels by cutting to whole ones, where boxes are not cut, and one by what counts as bright.
        across, along = 2 / (200 * (right - left)) + 1 / 128, 2 / (150 * (bottom - top)) + 1 / 128
        assert (np.abs(found - moved[0, 1:5]) <= [across, along, across, along]).all(), (i, draw)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("side", [24, 300])
def test_the_canvas_keeps_its_grey_whatever_the_colour(kernel: str, side: int) -> None:
    draw = BoxDraw((10, 30, -20), 1.4, True, (-0.5, -1.0, 3, 3), (40, 60, 120, 60), kernel=kernel)
    pixels = apply(noise(60, 80), draw, rule_of(side, side))
    cell = side // 12
    assert (
        (pixels[: 3 * cell] == FILL).all()
        and (pixels[:, :cell] == FILL).all()
        and (pixels[:, -5 * cell :] == FILL).all()
    )
    assert (pixels[4 * cell : 7 * cell, 2 * cell : 6 * cell] != FILL).mean() > 0.9


def test_colour_before_and_after_the_resize_are_nearly_the_same() -> None:
    y, x = np.mgrid[0:300, 0:400]
    smooth = np.stack(
        [120 + 100 * np.sin(x / 40), 120 + 100 * np.cos(y / 30), 120 + 80 * np.sin((x + y) / 50)], axis=-1
    )
    image, draw = smooth.astype(np.uint8), BoxDraw((8, -20, 15), 1.2)
    first = apply(scale_contrast(shift_hls(image, *draw.hls), 1.2), BoxDraw(), rule_of(150, 200))
    assert np.abs(apply(image, draw, rule_of(150, 200)).astype(int) - first).mean() < 1


def test_targets_of_a_batch_are_padded_with_minus_one() -> None:
    batch = collate_boxes([THREE, THREE[:0], THREE[1:]])
    assert batch.shape == (3, 3, 6)
    assert batch.dtype == torch.float32
    assert np.array_equal(batch[0].numpy(), THREE)
    assert (batch[1] == -1).all() and (batch[2, 2] == -1).all()
    assert collate_boxes([THREE[:0]]).shape == (1, 1, 6)
    assert collate_boxes([]).shape == (0, 1, 6)
