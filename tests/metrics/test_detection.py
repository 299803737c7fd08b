"""Detection figures: against MXNet's MApMetric, against a slow reference written from its rules, and by hand."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from foveal.metrics import detection as metrics
from foveal.metrics.detection import (
    FALSE,
    HIT,
    IGNORED,
    ApForm,
    Found,
    Matches,
    Objects,
    average_precision,
    average_precisions,
    best_confidences,
    counts_at,
    curves,
    false_alarms,
    match,
    mean_over_seen,
    overlaps,
)

FOLDER = Path(os.environ.get("FOVEAL_OPTIM_FIXTURES", Path(__file__).parents[1] / "fixtures" / "optim"))
CASES: dict[str, dict[str, Any]] = json.loads((FOLDER / "detection_metrics.json").read_text())["cases"]
ARRAYS = dict(np.load(FOLDER / "detection_metrics.npz"))
FORMS: dict[str, ApForm] = {"MApMetric": "area", "VOC07MApMetric": "11-point"}

Rows = list[NDArray[np.float64]]  # a picture each

QUARTER = (0.0, 0.0, 0.5, 0.5)  # of the picture, top left
OTHER = (0.5, 0.5, 1.0, 1.0)  # bottom right
LEFT_HALF = (0.0, 0.0, 0.25, 0.5)  # of QUARTER: an overlap of exactly 0.5
AWAY = (0.0, 0.75, 0.1, 0.85)


def there(*pictures: list[tuple[Any, ...]]) -> Rows:
    """Objects of each picture: (class, box) or (class, box, ignored)."""
    return [np.array([[row[0], *row[1], *row[2:], 0][:6] for row in rows]).reshape(-1, 6) for rows in pictures]


def given(*pictures: list[tuple[Any, ...]]) -> Rows:
    """Detections of each picture: (class, score, box)."""
    return [np.array([[row[0], row[1], *row[2]] for row in rows]).reshape(-1, 6) for rows in pictures]


def matched(objects: Rows, found: Rows, threshold: float = 0.5, num_classes: int = 3) -> Matches:
    truth, rows = np.concatenate(objects), np.concatenate(found)
    return match(
        Objects(
            np.repeat(np.arange(len(objects)), [len(each) for each in objects]),
            truth[:, 0].astype(np.int64),
            truth[:, 1:5],
            truth[:, 5] > 0,
        ),
        Found(
            np.repeat(np.arange(len(found)), [len(each) for each in found]),
            rows[:, 0].astype(np.int64),
            rows[:, 2:],
            rows[:, 1],
        ),
        threshold,
        num_classes,
    )


def mean_ap(objects: Rows, found: Rows, form: ApForm = "area", empty_pictures: bool = False) -> float:
    return mean_over_seen(average_precisions(matched(objects, found), form, empty_pictures))


def case_rows(name: str, use_difficult: bool) -> tuple[Rows, Rows]:
    """Objects and detections of a fixture, without padding; with ``use_difficult`` none is difficult."""
    objects: Rows = []
    found: Rows = []
    for batch in range(CASES[name]["batches"]):
        labels = ARRAYS[f"{name}__label{batch}"].astype(np.float64)
        difficult = labels[..., 5:6] if labels.shape[2] > 5 and not use_difficult else np.zeros_like(labels[..., :1])
        for label in np.concatenate([labels[..., :5], difficult], axis=2):
            objects.append(label[label[:, 0] >= 0])
        for rows in ARRAYS[f"{name}__pred{batch}"].astype(np.float64):
            found.append(rows[rows[:, 0] >= 0])
    return objects, found


RESULTS = [
    pytest.param(
        name,
        result,
        id=f"{name}-{result['metric']}-{result['ovp_thresh']}-{result['use_difficult']}-{result['class_names']}",
    )
    for name, case in CASES.items()
    for result in case["results"]
]


@pytest.mark.parametrize(("name", "result"), RESULTS)
def test_value_equals_mxnets_metric(name: str, result: dict[str, Any]) -> None:
    num_classes = CASES[name]["num_classes"]
    matches = matched(*case_rows(name, result["use_difficult"]), result["ovp_thresh"], num_classes)
    ours = average_precisions(matches, FORMS[result["metric"]])
    value = result["value"]
    if not result["class_names"]:
        assert mean_over_seen(ours) == pytest.approx(value, abs=1e-6)
        return
    theirs = [float(value[f"c{number}"]) for number in range(num_classes)]
    assert ours == pytest.approx(theirs, abs=1e-6, nan_ok=True)
    assert mean_over_seen(ours) == pytest.approx(value["mAP"], abs=1e-6)


# what the reference text states, each computed with MXNet's class


def test_a_perfect_detection_is_1() -> None:
    assert mean_ap(there([(0, QUARTER)]), given([(0, 0.9, QUARTER)])) == 1.0


def test_an_overlap_of_exactly_the_threshold_is_no_hit() -> None:
    assert mean_ap(there([(0, QUARTER)]), given([(0, 0.9, LEFT_HALF)])) == 0.0


def test_false_alarms_in_a_picture_without_objects_do_not_count_unless_asked_for() -> None:
    objects, found = there([(0, QUARTER)], []), given([(0, 0.9, QUARTER)], [(0, 0.95, QUARTER)])
    assert mean_ap(objects, found) == 1.0
    assert mean_ap(objects, found, empty_pictures=True) == 0.5


def test_a_class_that_is_only_detected_enters_with_0() -> None:
    assert mean_ap(there([(0, QUARTER)]), given([(0, 0.9, QUARTER), (1, 0.8, OTHER)])) == 0.5


def test_a_class_that_is_not_detected_enters_with_0() -> None:
    assert mean_ap(there([(0, QUARTER), (1, OTHER)]), given([(0, 0.9, QUARTER)])) == 0.5


def test_the_first_listed_takes_the_object_even_with_a_lower_score() -> None:
    found = given([(0, 0.9, QUARTER), (0, 0.95, QUARTER)])
    assert matched(there([(0, QUARTER)]), found).outcome.tolist() == [HIT, FALSE]
    assert mean_ap(there([(0, QUARTER)]), found) == 0.5


@pytest.mark.parametrize(("form", "value"), [("area", 2 / 3), ("11-point", 7 / 11)])
def test_two_of_three_found_and_none_wrong(form: ApForm, value: float) -> None:
    objects = there([(0, QUARTER), (0, OTHER), (0, AWAY)])
    assert mean_ap(objects, given([(0, 0.9, QUARTER), (0, 0.8, OTHER)]), form) == pytest.approx(value)


def test_equal_scores_rank_as_listed_and_later_pictures_first() -> None:
    objects = there([(0, QUARTER)], [(0, OTHER)])
    found = given([(0, 0.5, QUARTER), (0, 0.5, AWAY)], [(0, 0.5, AWAY), (0, 0.5, OTHER)])
    assert matched(objects, found).ranked[0].tolist() == [2, 3, 0, 1]
    assert mean_ap(objects, found) == pytest.approx(2 / 3)  # a false one, two hits, a false one


def test_a_class_never_seen_is_nan_and_left_out_of_the_mean() -> None:
    precisions = average_precisions(matched(there([(0, QUARTER)]), given([(0, 0.9, QUARTER)])))
    assert precisions.tolist()[0] == 1.0
    assert np.isnan(precisions[1:]).all()
    assert mean_over_seen(precisions) == 1.0


# the ways of counting objects to ignore


def test_a_detection_of_an_object_to_ignore_does_not_count() -> None:
    objects = there([(0, QUARTER, 1), (0, OTHER)])
    found = given([(0, 0.9, QUARTER), (0, 0.85, QUARTER), (0, 0.8, OTHER)])
    assert matched(objects, found).outcome.tolist() == [IGNORED, IGNORED, HIT]
    assert mean_ap(objects, found) == 1.0


def test_an_object_to_ignore_is_missed_where_its_class_was_not_detected_at_all() -> None:
    objects = there([(0, QUARTER, 1)], [(0, QUARTER)])
    assert mean_ap(objects, given([], [(0, 0.9, QUARTER)])) == 0.5
    assert mean_ap(objects, given([(0, 0.1, AWAY)], [(0, 0.9, QUARTER)])) == 1.0  # one false alarm mends that


def test_objects_do_not_count_where_all_detections_of_their_class_were_ignored() -> None:
    """The second object of the first picture was missed, and still all is well."""
    objects = there([(0, QUARTER, 1), (0, OTHER)], [(0, QUARTER)])
    found = given([(0, 0.9, QUARTER)], [(0, 0.9, QUARTER)])
    assert mean_ap(objects, found) == 1.0
    assert np.isnan(mean_ap(objects[:1], found[:1]))  # alone, the class has not even been seen


# a second, slow way


def slow_overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union >= 1e-12 else 0.0


def slow_precisions(objects: Rows, found: Rows, threshold: float, num_classes: int, form: ApForm) -> list[float]:
    """Picture by picture, class by class, detection by detection, as the reference text tells it."""
    records: dict[int, list[tuple[float, int, bool]]] = {}
    counts: dict[int, int] = {}
    for picture, (truth, rows) in enumerate(zip(objects, found, strict=True)):
        if not len(truth):
            continue
        for cls in range(num_classes):
            mine, dets = truth[truth[:, 0] == cls], rows[rows[:, 0] == cls]
            if not len(dets):
                if len(mine):
                    records.setdefault(cls, [])
                    counts[cls] = counts.get(cls, 0) + len(mine)
                continue
            taken: set[int] = set()
            new: list[tuple[float, int, bool]] = []
            for det in dets:
                shares = [slow_overlap(det[2:], each[1:5]) for each in mine]
                best = max(range(len(shares)), key=lambda number: shares[number], default=-1)
                if best < 0 or not shares[best] > threshold:
                    new.append((det[1], picture, False))
                elif not mine[best][5]:
                    new.append((det[1], picture, best not in taken))
                    taken.add(best)
            if new:
                records.setdefault(cls, []).extend(new)
                counts[cls] = counts.get(cls, 0) + sum(1 for each in mine if not each[5])
    return [slow_ap(records[cls], counts[cls], form) if cls in records else float("nan") for cls in range(num_classes)]


def slow_ap(records: list[tuple[float, int, bool]], count: int, form: ApForm) -> float:
    ranked = sorted(records, key=lambda record: (-record[0], -record[1]))
    recall, precision, right = [0.0], [0.0], 0
    for place, (_, _, hit) in enumerate(ranked, 1):
        right += hit
        recall.append(right / count if count else 0.0)
        precision.append(right / place)
    if form == "11-point":
        levels = [level * 0.1 for level in range(11)]
        points = list(zip(recall, precision, strict=True))[1:]
        return sum(max((p for r, p in points if r >= level), default=0.0) for level in levels) / 11
    area = 0.0
    for i in range(1, len(recall)):
        area += (recall[i] - recall[i - 1]) * max(precision[i:])
    return area


def random_rows(rng: np.random.Generator, pictures: int, num_classes: int) -> tuple[Rows, Rows]:
    """Pictures with and without objects, boxes on a coarse grid so that overlaps and scores are often equal."""
    objects, found = [], []
    for _ in range(pictures):
        n, k = rng.integers(0, 5), rng.integers(0, 12)
        corner = rng.integers(0, 6, (n, 2)) / 8
        boxes = np.concatenate([corner, corner + rng.integers(1, 5, (n, 2)) / 8], axis=1)
        objects.append(np.column_stack([rng.integers(0, num_classes, n), boxes, rng.random(n) < 0.3]))
        corner = rng.integers(0, 6, (k, 2)) / 8
        guesses = np.concatenate([corner, corner + rng.integers(1, 5, (k, 2)) / 8], axis=1)
        if n:
            near = rng.random(k) < 0.6
            guesses[near] = boxes[rng.integers(0, n, near.sum())]
        scores = rng.integers(1, 10, k) / 10
        scores = scores if rng.random() < 0.2 else np.sort(scores)[::-1]  # some lists in no order
        found.append(np.column_stack([rng.integers(0, num_classes, k), scores, guesses]))
    return objects, found


@pytest.mark.parametrize("form", ["area", "11-point"])
@pytest.mark.parametrize("seed", range(20))
def test_average_precision_equals_the_slow_reference(seed: int, form: ApForm) -> None:
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(1, 6))
    objects, found = random_rows(rng, int(rng.integers(1, 60)), num_classes)
    threshold = float(rng.choice([0.3, 0.5, 0.75]))
    ours = average_precisions(matched(objects, found, threshold, num_classes), form)
    assert ours == pytest.approx(slow_precisions(objects, found, threshold, num_classes, form), abs=1e-12, nan_ok=True)


def test_matching_does_not_depend_on_the_block_it_is_done_in(monkeypatch: pytest.MonkeyPatch) -> None:
    objects, found = random_rows(np.random.default_rng(5), 80, 3)
    whole = matched(objects, found).outcome
    for pairs in (1, 7, 64):
        monkeypatch.setattr(metrics, "_PAIRS", pairs)
        assert matched(objects, found).outcome.tolist() == whole.tolist()


def test_five_thousand_pictures_of_four_hundred_rows_take_seconds() -> None:
    rng = np.random.default_rng(0)
    pictures, rows = 5000, 400
    corner = rng.random((pictures * rows, 2))
    boxes = np.concatenate([corner, corner + 0.2], axis=1)
    owner = np.repeat(np.arange(pictures), rows)
    classes = rng.integers(0, 20, len(owner))
    some = np.sort(rng.choice(len(owner), 30_000, replace=False))
    objects = Objects(owner[some], classes[some], boxes[some] + 0.01, np.zeros(len(some), bool))
    found = Found(owner, classes, boxes, rng.random(len(owner)))
    start = time.process_time()
    precisions = average_precisions(match(objects, found, 0.5, 20))
    assert time.process_time() - start < 20  # 1 s on one core
    assert not np.isnan(precisions).any()


# the parts, by hand


def test_overlap_of_pairs_and_of_broken_boxes() -> None:
    first = np.array([QUARTER, QUARTER, QUARTER, (0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.2, 0.2)])
    second = np.array([QUARTER, LEFT_HALF, OTHER, (0.5, 0.5, 0.5, 0.5), (0.6, 0.6, 0.6, 0.6)])
    assert overlaps(first, second).tolist() == [1.0, 0.5, 0.0, 0.0, 0.0]


def test_a_detection_belongs_to_the_object_it_overlaps_most_even_when_that_is_taken() -> None:
    wide, narrow = (0.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.4, 0.5)  # an overlap of 0.8
    found = given([(0, 0.9, wide), (0, 0.8, wide)])
    assert matched(there([(0, wide), (0, narrow)]), found).outcome.tolist() == [HIT, FALSE]


def ap(hits: ArrayLike, expected: int, form: ApForm = "area") -> float:
    return average_precision(np.array(hits, bool), expected, form)


def test_area_under_the_falling_envelope() -> None:
    assert ap([1, 0, 1], 2) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert ap([0, 1], 1) == 0.5  # the dip before it does not count
    assert ap([], 3) == ap([0, 0], 3) == ap([0], 0) == 0.0


def test_eleven_points_compare_with_the_floats_of_their_steps() -> None:
    """3 / 10 is below 3 * 0.1: with 3 of 10 found only the levels 0, 0.1 and 0.2 are reached."""
    assert ap([1, 1, 1], 10, "11-point") == pytest.approx(3 / 11)
    assert ap([1, 1], 10, "11-point") == pytest.approx(3 / 11)
    assert ap([1, 1, 1, 1], 10, "11-point") == pytest.approx(5 / 11)


def one_class(scores: list[float], hits: list[int], missed: int = 0) -> Matches:
    """A picture an entry, with an object that is hit or a miss beside it; and pictures with objects never found."""
    objects = [*[[(0, QUARTER)] if hit else [(1, OTHER)] for hit in hits], *[[(0, QUARTER)]] * missed]
    found = [*[[(0, score, QUARTER)] for score in scores], *[[]] * missed]
    return matched(there(*objects), given(*found), num_classes=2)


def test_best_confidence_lies_between_the_last_kept_and_the_first_dropped() -> None:
    """F1 after 1, 2, 3, 4 detections: 2/3, 1, 4/5, 2/3."""
    best = best_confidences(one_class([0.875, 0.625, 0.25, 0.125], [1, 1, 0, 0]))
    assert best[0] == (0.625 + 0.25) / 2
    assert np.isnan(best[1])  # never found


def test_best_confidence_with_all_detections_kept_lies_halfway_to_0() -> None:
    assert best_confidences(one_class([0.75, 0.5], [1, 1]))[0] == 0.25


def test_of_equal_f1_the_highest_confidence() -> None:
    """1 of 2 found and none wrong, or 2 of 2 and 2 wrong: F1 2/3 both."""
    assert best_confidences(one_class([0.875, 0.75, 0.5, 0.25], [1, 0, 0, 1]))[0] == (0.875 + 0.75) / 2


def test_equal_scores_are_kept_or_dropped_together() -> None:
    """The hit and the false alarm at 0.5 can't be told apart: F1 is 1/2 without both, 4/5 with both."""
    assert best_confidences(one_class([0.75, 0.5, 0.5, 0.25], [1, 1, 0, 0]))[0] == (0.5 + 0.25) / 2


def test_best_confidence_keeps_the_same_detections_in_float32() -> None:
    low = np.nextafter(np.float32(0.5), np.float32(0))
    best = best_confidences(one_class([0.5, float(low)], [1, 0]))[0]
    scores = np.array([0.5, low], np.float32)
    assert (scores >= best).tolist() == [True, False]
    assert best == np.float32(best)


def test_a_class_without_objects_has_no_best_confidence() -> None:
    matches = matched(there([(0, QUARTER)], [(1, QUARTER, 1)]), given([(0, 0.9, QUARTER), (2, 0.9, OTHER)], []))
    assert np.isnan(best_confidences(matches)).tolist() == [False, True, True]


@pytest.mark.parametrize("seed", range(5))
def test_no_confidence_gives_a_higher_f1_than_the_best(seed: int) -> None:
    objects, found = random_rows(np.random.default_rng(seed), 40, 2)
    found = [rows[np.argsort(-rows[:, 1], kind="stable")] for rows in found]
    matches = matched(objects, found, num_classes=2)
    best = best_confidences(matches)
    highest = counts_at(matches, best).f1
    for confidence in np.unique(matches.found.scores):
        every = counts_at(matches, np.full(2, confidence)).f1
        assert (every <= highest).all()
        assert (best[every == highest] >= confidence - 0.1).all()  # scores are 0.1 apart


def test_counts_by_hand() -> None:
    """Class 0: one found, one missed, a second detection of the first is false. Class 1: a low score does not count;
    the object to ignore is neither missed nor found. Class 2: a false alarm in a picture without objects."""
    objects = there([(0, QUARTER), (0, OTHER)], [(1, QUARTER), (1, OTHER, 1)], [])
    found = given(
        [(0, 0.9, QUARTER), (0, 0.8, QUARTER)], [(1, 0.7, OTHER), (1, 0.4, QUARTER)], [(2, 0.6, AWAY), (2, 0.2, AWAY)]
    )
    matches = matched(objects, found)
    counts = counts_at(matches, np.array([0.5, 0.5, 0.5]))
    assert counts.objects.tolist() == [2, 1, 0]
    assert counts.found.tolist() == [1, 0, 0]
    assert counts.false.tolist() == [1, 0, 1]
    assert counts.precision == pytest.approx([0.5, np.nan, 0.0], nan_ok=True)
    assert counts.recall == pytest.approx([0.5, 0.0, np.nan], nan_ok=True)
    assert counts.f1 == pytest.approx([0.5, 0.0, 0.0])
    assert counts_at(matches, np.array([0.85, 0.4, 0.65])).found.tolist() == [1, 1, 0]
    assert counts_at(matches, np.array([0.85, 0.4, 0.65])).false.tolist() == [0, 0, 0]


def test_false_alarms_are_counted_a_picture_without_objects_and_by_the_class_s_confidence() -> None:
    objects = there([], [(0, QUARTER, 1)], [])
    found = given([(0, 0.9, QUARTER), (1, 0.9, OTHER)], [(0, 0.9, AWAY)], [(0, 0.5, QUARTER)])
    matches = matched(objects, found)
    assert false_alarms(matches, np.array([0.5, 0.95, 0.5]), 3) == 1.0
    assert false_alarms(matches, np.array([0.5, 0.5, 0.5]), 3) == 1.5
    assert np.isnan(false_alarms(matched(objects[1:2], found[1:2]), np.full(3, 0.5), 1))


def test_curve_has_a_point_where_hits_are_added() -> None:
    curve = curves(one_class([0.875, 0.75, 0.5, 0.25], [1, 0, 1, 0], missed=2), 50)[0]
    assert curve.confidence.tolist() == [0.875, 0.5]
    assert curve.precision.tolist() == [1.0, 2 / 3]
    assert curve.recall.tolist() == [0.25, 0.5]


def test_curves_are_thinned_and_keep_their_ends() -> None:
    rng = np.random.default_rng(1)
    scores = sorted(rng.random(600).tolist(), reverse=True)
    hits = (rng.random(600) < 0.7).astype(int).tolist()
    whole = curves(one_class(scores, hits), 10_000)[0]
    thin = curves(one_class(scores, hits), 50)[0]
    assert len(whole.recall) == sum(hits)
    assert 45 <= len(thin.recall) <= 50
    assert thin.recall[[0, -1]].tolist() == whole.recall[[0, -1]].tolist()
    assert np.diff(thin.recall).max() < 0.03
    assert set(zip(thin.recall, thin.precision, strict=True)) <= set(zip(whole.recall, whole.precision, strict=True))


def test_nothing_there_and_nothing_found() -> None:
    matches = matched(there([]), given([]), num_classes=2)
    assert np.isnan(average_precisions(matches)).all()
    assert np.isnan(mean_over_seen(average_precisions(matches)))
    assert np.isnan(best_confidences(matches)).all()
    assert false_alarms(matches, np.full(2, 0.5), 1) == 0.0
    assert [len(curve.recall) for curve in curves(matches, 50)] == [0, 0]
    assert counts_at(matches, np.full(2, 0.5)).objects.tolist() == [0, 0]
