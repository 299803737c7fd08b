from __future__ import annotations

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foveal.data.boxaugment import augment_boxes
from foveal.data.loader import Decoder
from foveal.data.order import choose_order, order_of
from foveal.data.tiles import Latest, TiledSource, cut_out, cut_up, picture_sizes, tiles_each, window_for
from foveal.data.views import Preprocessing, tiles, views
from foveal.errors import BadPicture, UserError
from foveal.records import BadRecord, Boxes, Labels, Sample

RULE = Preprocessing("tiles", 3, 32, 32, tile_size=40, tile_overlap=0.25)


def boxes(*values: tuple[float, ...], size: tuple[int, int] | None = None) -> Boxes:
    n = len(values)
    kept = np.array(values, np.float32).reshape(n, 4)
    none = np.zeros(n, bool)
    extra = np.zeros((n, 0), np.float32)
    return Boxes(kept, np.arange(n), "pixel", "upright", none, none.copy(), extra, size)


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def numbered(height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] in which each pixel tells its place."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, x // 256 + y // 256], axis=2).astype(np.uint8)


class Large:
    """Pictures of these (height, width), as the opener of a data form gives them; None for one that is no picture."""

    form, origin, class_names, groups = "test", "test", None, None
    bad: tuple[BadRecord, ...] = ()

    def __init__(self, *shapes: tuple[int, int] | None, objects: Boxes | None = None) -> None:
        self.pictures = [b"no picture" if shape is None else png(numbered(*shape)) for shape in shapes]
        self.objects = boxes() if objects is None else objects
        self.read_rows: list[int] = []

    def __len__(self) -> int:
        return len(self.pictures)

    def labels(self) -> Labels:
        raise AssertionError

    def boxes(self, index: int) -> Boxes:
        return self.objects

    def where(self, index: int) -> str:
        return f"picture {index}"

    def read(self, index: int) -> Sample:
        self.read_rows.append(index)
        return Sample(str(index), self.pictures[index], self.objects)

    def fingerprint(self) -> str:
        return ""


def tiled(source: Large, tile: int, overlap: float) -> TiledSource:
    rows = np.arange(len(source))
    sizes = picture_sizes(source, rows, 1)
    numbers, regions = cut_up(sizes, tile, overlap)
    pixels = sum(width * height for width, height in (size for size in sizes if size))
    return TiledSource(source, rows[numbers], [source.objects] * len(numbers), regions, pixels)


def lefts(width: int, tile: int, overlap: float) -> list[int]:
    return [left for left, top, *_ in tiles(1, width, tile, overlap) if top == 0]


# The grid


def test_tiles_are_spread_evenly_from_the_first_pixel_to_the_last() -> None:
    assert lefts(1000, 300, 0.2) == [0, 233, 466, 700]
    assert lefts(900, 300, 0.0) == [0, 300, 600]
    assert lefts(901, 300, 0.0) == [0, 200, 400, 601]
    assert lefts(300, 300, 0.2) == [0]
    assert lefts(301, 300, 0.2) == [0, 1]
    assert lefts(540, 300, 0.2) == [0, 240]


def test_steps_are_rounded_and_never_nothing() -> None:
    assert lefts(9, 5, 0.3) == [0, 4]  # 3.5: to the even number
    assert lefts(10, 5, 0.3) == [0, 2, 5]
    assert lefts(8, 5, 0.999) == [0, 1, 2, 3]


def test_tiles_come_row_by_row() -> None:
    assert tiles(500, 400, 300, 0.0) == [
        (0, 0, 300, 300),
        (100, 0, 400, 300),
        (0, 200, 300, 500),
        (100, 200, 400, 500),
    ]


def test_a_picture_smaller_than_a_tile_has_one_that_reaches_beyond_it() -> None:
    assert tiles(20, 30, 40, 0.5) == [(0, 0, 40, 40)]
    assert tiles(20, 60, 40, 0.5) == [(0, 0, 40, 40), (20, 0, 60, 40)]


def test_more_tiles_than_can_be_meant_are_refused_before_they_are_made() -> None:
    assert len(tiles(13_377, 13_377, 64, 0.2)) == 69_169
    with pytest.raises(UserError) as error:
        tiles(10_000, 9_000, 100, 0.97)
    assert str(error.value) == (
        "tiles: a picture of 9,000 x 10,000 pixels makes 9,797,368 tiles of 100 that overlap by 0.97, and 100,000 is "
        "the most\nTrain with a larger tile_size or a smaller tile_overlap."
    )


@given(
    length=st.integers(1, 5000), tile=st.integers(1, 800), overlap=st.floats(0, 1, exclude_max=True, allow_nan=False)
)
def test_every_pixel_is_in_a_tile_and_neighbours_overlap_as_asked(length: int, tile: int, overlap: float) -> None:
    starts, step = np.array(lefts(length, tile, overlap)), max(1, round(tile * (1 - overlap)))
    assert (starts[0], starts[-1] + tile) == (0, max(length, tile))
    assert ((np.diff(starts) > 0) & (np.diff(starts) <= min(step, tile))).all()
    assert len(starts) == 1 or (len(starts) - 2) * step < length - tile  # with one less they would not do


# What the network sees


def test_a_tile_is_a_part_of_the_picture_at_its_own_size() -> None:
    image = numbered(70, 60)
    rule = replace(RULE, height=40, width=40)
    seen = views(rule, image)
    assert [view.affine[:, 2].tolist() for view in seen] == [[0, 0], [20, 0], [0, 30], [20, 30]]
    assert (seen[3].pixels == image[30:70, 20:60]).all()
    assert not any(view.enlarged for view in seen)


def test_tiles_are_resized_and_their_affines_lead_back() -> None:
    view = views(RULE, numbered(70, 60))[3]
    assert view.pixels.shape == (32, 32, 3)
    assert (view.affine @ [32, 32, 1]).tolist() == [60, 70]


def test_what_lies_beyond_a_small_picture_is_grey_and_objects_keep_their_scale() -> None:
    image = numbered(20, 30)
    (view,) = views(replace(RULE, height=40, width=40), image)
    assert (view.pixels[:20, :30] == image).all()
    assert (view.pixels[20:] == 127).all()
    assert (view.pixels[:, 30:] == 127).all()


def test_rules_of_tiles_are_stored_and_older_ones_still_open() -> None:
    assert Preprocessing.from_dict(RULE.to_dict()) == RULE
    squeeze = Preprocessing("squeeze", 3, 300, 300)
    assert "tile_size" not in squeeze.to_dict()
    assert Preprocessing.from_dict(squeeze.to_dict()) == squeeze


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("tile_size", None, "model: preprocessing tile_size None is no whole number from 1 to 65535"),
        ("tile_overlap", 1, "model: preprocessing tile_overlap 1 is no number from 0 to below 1"),
        (
            "kind",
            "stripes",
            "model: preprocessing kind 'stripes' is none of 'crop', 'squeeze', 'tiles'\nUpdate Foveal.",
        ),
    ],
)
def test_impossible_rules_are_named(name: str, value: object, told: str) -> None:
    with pytest.raises(UserError) as error:
        Preprocessing.from_dict({**RULE.to_dict(), name: value}, "model")
    assert str(error.value) == told


# Objects


def seen_in(tile: tuple[int, int, int, int], *values: tuple[float, ...]) -> list[list[float]]:
    image = np.zeros((200, 200, 1), np.uint8)
    return cut_out((image, boxes(*values, size=(200, 200))), tile)[1].values.tolist()  # type: ignore[union-attr]


def test_objects_move_with_their_tile() -> None:
    assert seen_in((50, 60, 150, 160), (70, 80, 90, 110)) == [[20, 20, 40, 50]]


def test_an_object_is_cut_to_the_tile_and_belongs_to_it_from_four_tenths_of_its_area_on() -> None:
    tile = (0, 0, 100, 100)
    assert seen_in(tile, (96, 10, 106, 20)) == [[96, 10, 100, 20]]
    assert seen_in(tile, (96.1, 10, 106.1, 20)) == []
    assert seen_in(tile, (96, 10, 106, 20), (0, 0, 5, 5)) == [[96, 10, 100, 20], [0, 0, 5, 5]]


def test_an_object_larger_than_the_tile_belongs_to_the_one_at_its_centre() -> None:
    whole = (0, 0, 200, 200)
    assert seen_in((60, 60, 110, 110), whole) == [[0, 0, 50, 50]]
    assert seen_in((0, 0, 50, 50), whole) == []


def test_crowds_difficult_ones_and_classes_go_along() -> None:
    objects = replace(boxes((5, 5, 9, 9), (90, 90, 99, 99), size=(100, 100)), crowd=np.array([False, True]))
    _, seen = cut_out((np.zeros((100, 100, 1), np.uint8), objects), (60, 60, 100, 100))
    assert isinstance(seen, Boxes)
    assert (seen.cls.tolist(), seen.crowd.tolist(), seen.size) == ([1], [True], (40, 40))


# The source


def test_rows_are_tiles_and_decoding_gives_them_with_their_objects() -> None:
    source = tiled(Large((40, 40), (70, 60), objects=boxes((25, 35, 35, 45))), 40, 0.25)
    decoder = Decoder(source, 3)
    pixels, objects = decoder(4)
    assert (len(source), source.shards, source.pictures) == (5, (1, 4), 2)
    assert (pixels == numbered(70, 60)[30:70, 20:60]).all()
    assert isinstance(objects, Boxes)
    assert objects.values.tolist() == [[5, 5, 15, 15]]
    assert [source.where(row) for row in range(5)] == ["picture 0"] + ["picture 1"] * 4


def test_training_without_augmentation_sees_what_asking_sees() -> None:
    decoder = Decoder(tiled(Large((70, 60), objects=boxes((25, 35, 35, 45))), 40, 0.25), 3)
    for row, view in enumerate(views(RULE, numbered(70, 60))):
        image, objects = decoder(row)
        assert isinstance(objects, Boxes)
        seen, _ = augment_boxes(image, objects, RULE, np.random.default_rng(0), "none")
        assert (seen == view.pixels).all()


def test_an_augmented_tile_without_objects_has_no_targets() -> None:
    image, objects = Decoder(tiled(Large((70, 60), objects=boxes((1, 1, 5, 5))), 40, 0.25), 3)(3)
    assert isinstance(objects, Boxes)
    assert augment_boxes(image, objects, RULE, np.random.default_rng(0))[1].shape == (0, 6)


def test_a_picture_that_cannot_be_read_has_one_tile_and_is_named_when_it_has_its_turn() -> None:
    source = tiled(Large((70, 60), None), 40, 0.25)
    assert source.shards == (4, 1)
    with pytest.raises(BadPicture, match=r"^picture 1: is not a picture of a known kind"):
        Decoder(source, 3)(4)


def test_how_many_tiles_a_picture_has_tells_how_long_asking_about_it_takes() -> None:
    assert tiles_each(tiled(Large((40, 40), (70, 60)), 40, 0.25)) == 2
    assert tiles_each(Large((40, 40))) == 1


def test_a_picture_is_decoded_once_for_all_of_its_tiles() -> None:
    large = Large((70, 60), (70, 60))
    decoder = Decoder(tiled(large, 40, 0.25), 3)
    large.read_rows.clear()
    for row in range(8):
        decoder(row)
    assert large.read_rows == [0, 1]


# What is kept


def test_the_latest_are_kept_within_their_room_and_the_last_in_any_case() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name * 4

    kept: Latest[str] = Latest(8, len)
    for name in "abacab":
        assert kept.get(name, lambda name=name: make(name)) == name * 4
    assert made == ["a", "b", "c", "b"]
    assert Latest[str](0, len).get("d", lambda: "dddd") == "dddd"


def test_what_several_threads_ask_for_is_made_once() -> None:
    kept: Latest[int] = Latest(100, lambda each: 1)
    started, made = threading.Event(), []

    def make() -> int:
        made.append(1)
        started.wait(5)
        return 7

    threads = [threading.Thread(target=kept.get, args=("a", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_tiles_of_pictures_that_do_not_fit_in_memory_come_through_a_window_picture_by_picture() -> None:
    source = tiled(Large(*[(70, 60)] * 20), 40, 0.25)
    assert window_for(source, 3 * 20 * 70 * 60) is None
    window = window_for(source, 3 * 5 * 70 * 60)
    assert window == 4
    kind, said, _ = choose_order("shards+window", window, source, True)
    assert (kind, said) == ("shards+window", ())
    rows, _ = order_of(kind, window, 0, source).rows(range(80))
    assert sorted(rows.tolist()) == list(range(80))
    apart = [np.ptp(np.flatnonzero(source.rows[rows] == picture)) for picture in range(20)]
    assert max(apart) < 40
