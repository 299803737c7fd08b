"""The boxes that count equal those of MXNet's MultiBoxDetection, one way or the other, exported or not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.models import suppression
from foveal.models.suppression import (
    Rule,
    detect,
    detect_fixed,
    detect_scored,
    detect_scored_fixed,
    detections,
)

DETECTORS = {"ssd_vgg300": 0.45, "ssd_resnet300": 0.45, "ssd_vgg512": 0.45, "ssd_resnet512": 0.5}  # nms_threshold


def rule_of(attributes: dict[str, Any]) -> Rule:
    """The operator's attributes with its own defaults."""
    return Rule(
        nms_threshold=attributes.get("nms_threshold", 0.5),
        nms_topk=attributes.get("nms_topk", -1),
        score_threshold=attributes.get("threshold", 0.01),
        across_classes=attributes.get("force_suppress", False),
        clip=attributes.get("clip", True),
        variances=attributes.get("variances", (0.1, 0.1, 0.2, 0.2)),
    )


def given_to(probabilities: NDArray[Any], offsets: NDArray[Any], anchors: NDArray[Any]) -> tuple[Tensor, ...]:
    """MXNet's [B, C + 1, A], [B, 4 A] and [1, A, 4] as ``detect`` takes them."""
    return (
        torch.from_numpy(probabilities).transpose(1, 2).contiguous(),
        torch.from_numpy(offsets).reshape(len(offsets), -1, 4),
        torch.from_numpy(anchors[0]),
    )


def assert_same_rows(ours: Tensor | NDArray[Any], theirs: Tensor | NDArray[Any], tolerance: float = 1e-6) -> None:
    """The rows that count, in their order; what is in the others is nobody's business."""
    assert len(ours) == len(theirs)
    for one, other in zip(np.asarray(ours), np.asarray(theirs), strict=True):
        one, other = one[one[:, 0] >= 0], other[other[:, 0] >= 0]
        assert one[:, 0].tolist() == other[:, 0].tolist()
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def assert_equal_to(case: Any) -> None:
    given = given_to(*(case.arrays[f"in:{name}"] for name in ("cls_prob", "loc_pred", "anchor")))
    rule = rule_of(case.attributes)
    assert_same_rows(detect(*given, rule=rule), case.arrays["out:0"])
    assert_same_rows(detect_fixed(*given, rule), case.arrays["out:0"])


def test_rows_equal_the_operators(multibox_detection_case: Any) -> None:
    assert_equal_to(multibox_detection_case)


def test_rows_equal_the_operators_in_every_case_there_is(
    shared: Path, multibox_cases: Callable[[Path], list[Any]]
) -> None:
    for case in multibox_cases(shared / "fixtures/mxnet/ops/multibox_detection.zip"):
        assert_equal_to(case)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("graph", ["train", "deploy", "deploy_force"])
def test_rows_equal_those_of_whole_detectors(shared: Path, name: str, graph: str) -> None:
    with np.load(shared / f"fixtures/mxnet/detection/{name}.npz") as arrays:
        given = given_to(arrays["train:cls_prob"], arrays["loc_pred"], arrays["anchors"])
        rule = Rule(DETECTORS[name], 400, across_classes=graph == "deploy_force")
        assert_same_rows(detect(*given, rule=rule), arrays[f"{graph}:det"])
        assert_same_rows(detect_fixed(*given, rule), arrays[f"{graph}:det"])


def worked_example(offsets: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The reference's three anchors with their probabilities."""
    return (
        torch.tensor([[[0.1, 0.8, 0.1], [0.2, 0.3, 0.5], [0.985, 0.005, 0.01]]]),
        torch.zeros(1, 3, 4) if offsets is None else offsets,
        torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25], [0.5, 0.5, 1, 1]]),
    )


@pytest.mark.parametrize(
    "way", [lambda *given: detect(*given[:3], rule=given[3]), detect_fixed], ids=["listed", "fixed"]
)
def test_worked_examples_of_the_reference(way: Callable[..., Tensor]) -> None:
    plain = way(*worked_example(), Rule())
    np.testing.assert_allclose(plain[0, :, :2], [[0, 0.8], [1, 0.5], [1, 0.01]], rtol=1e-6)  # exactly 0.01 stays
    assert way(*worked_example(), Rule(0.5, across_classes=True))[0, :, 0].tolist() == [0, -1, 1]  # IoU exactly 0.5
    assert way(*worked_example(), Rule(0.51, across_classes=True))[0, :, 0].tolist() == [0, 1, 1]
    moved = torch.zeros(1, 3, 4)
    moved[0, 0] = torch.tensor([1, 2, 0.5, -1])
    box = way(*worked_example(moved), Rule())[0, 0, 2:]
    np.testing.assert_allclose(box, [0.0237073, 0.1453173, 0.5762928, 0.5546827], atol=1e-6)


def test_the_two_thresholds_of_a_job_are_enough() -> None:
    rows = detect(*worked_example(), 0.45, 2)
    assert rows.shape == (1, 2, 6)
    assert rows[0, :, 0].tolist() == [0, 1]


def test_no_picture_no_anchor_over_the_threshold_and_no_box_to_compare() -> None:
    probabilities, offsets, anchors = worked_example()
    assert detect(probabilities[:0], offsets[:0], anchors).shape == (0, 0, 6)
    assert detect(probabilities, offsets, anchors, rule=Rule(score_threshold=0.9)).shape == (1, 0, 6)
    assert (detect_fixed(probabilities, offsets, anchors, Rule(score_threshold=0.9))[..., 0] == -1).all()
    assert detect(probabilities[:, :1], offsets[:, :1], anchors[:1]).shape == (1, 1, 6)


def test_answers_with_gradient_are_taken_too() -> None:
    probabilities, offsets, anchors = worked_example()
    assert not detect(probabilities.requires_grad_(), offsets.requires_grad_(), anchors).requires_grad


def one_by_one(rows: NDArray[np.float32], rule: Rule) -> NDArray[np.float32]:
    """Rows (class, score, box) of one picture by the rule itself: sorted, cut, and each compared with those kept."""
    rows = rows[np.argsort(-rows[:, 1], kind="stable")][: rule.nms_topk if rule.nms_topk > 0 else None]
    kept: list[NDArray[np.float32]] = []
    for row in rows:
        rivals = [other for other in kept if rule.across_classes or other[0] == row[0]]
        if all(overlap(other[2:], row[2:]) < np.float32(rule.nms_threshold) for other in rivals):
            kept.append(row)
    return np.array(kept).reshape(-1, 6)


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    wide = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
    high = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
    shared = wide * high
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return np.float32(shared / union if union > 0 else 0)


def random_answers(seed: int, pictures: int, anchors: int, classes: int, levels: int) -> tuple[Tensor, ...]:
    """Boxes on a coarse grid and probabilities of few levels: equal scores and overlaps are the rule."""
    rng = np.random.default_rng(seed)
    start, side = rng.integers(0, 12, (anchors, 2)), rng.integers(1, 5, (anchors, 2))
    boxes = (np.concatenate([start, start + side], axis=1) / 16).astype(np.float32)
    weights = rng.integers(0, levels, (pictures, anchors, classes + 1)).astype(np.float32)
    weights[..., 0] += 1
    probabilities = weights / weights.sum(axis=2, keepdims=True)
    return torch.from_numpy(probabilities), torch.zeros(pictures, anchors, 4), torch.from_numpy(boxes)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 60), st.integers(1, 3), st.sampled_from([2, 5, 100])),
    threshold=st.sampled_from([0.2, 0.25, 0.45, 0.5, 1.0]),
    topk=st.sampled_from([-1, 1, 7, 400]),
    across=st.booleans(),
)
def test_both_ways_equal_taking_boxes_one_by_one(
    seed: int, shape: tuple[int, int, int, int], threshold: float, topk: int, across: bool
) -> None:
    probabilities, offsets, anchors = random_answers(seed, *shape)
    rule = Rule(threshold, topk, across_classes=across)
    best, classes = probabilities[..., 1:].numpy().max(axis=2), probabilities[..., 1:].numpy().argmax(axis=2)
    expected = []
    for scores, kinds in zip(best, classes, strict=True):
        over = scores >= np.float32(0.01)
        boxes = suppression.decode(anchors, offsets[0]).numpy()
        expected.append(one_by_one(np.column_stack([kinds, scores, boxes])[over].astype(np.float32), rule))
    for rows in (
        detect(probabilities, offsets, anchors, rule=rule),
        detect_fixed(probabilities, offsets, anchors, rule),
    ):
        kept = [each[each[:, 0] >= 0] for each in rows.numpy()]
        assert [each.tolist() for each in kept] == [each.tolist() for each in expected]


def test_scores_and_boxes_give_the_rows_that_probabilities_and_offsets_give() -> None:
    probabilities, offsets, anchors = random_answers(5, 3, 200, 3, 40)
    boxes = suppression.decode(anchors, offsets)
    for rule in (Rule(0.45, 60), Rule(0.45, 60, 0.4, across_classes=True), Rule(0, 60)):
        expected = detect(probabilities, offsets, anchors, rule=rule)
        assert_same_rows(detect_scored(probabilities[..., 1:], boxes, rule), expected)
        assert_same_rows(detect_scored_fixed(probabilities[..., 1:], boxes, rule), expected)
    assert detect_scored(probabilities[:0, :, 1:], boxes[:0], Rule()).shape == (0, 0, 6)


def test_pairs_are_compared_in_parts_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = random_answers(5, 2, 80, 1, 100)
    whole = detect(*answers)
    monkeypatch.setattr(suppression, "PAIRS", 50)
    assert torch.equal(detect(*answers), whole)


def test_rows_do_not_depend_on_the_rest_of_the_batch() -> None:
    probabilities, offsets, anchors = random_answers(9, 6, 300, 3, 40)
    probabilities[2:] = torch.tensor([0.999, 0.001, 0, 0])  # pictures with nothing: the other road to the scores
    together = detect(probabilities, offsets, anchors)
    for row in range(6):
        alone = detect(probabilities[row : row + 1], offsets[row : row + 1], anchors)
        assert_same_rows(alone, together[row : row + 1], 0)


def test_rows_become_detections_in_their_order() -> None:
    rows = torch.tensor([[2, 0.9, 0, 0, 0.5, 0.5], [-1, 0.8, 0, 0, 1, 1], [0, 0.7, 0.25, 0, 1, 1]])
    found = detections(rows, (200, 100))
    assert found.cls.tolist() == [2, 0] and found.cls.dtype == np.int64
    assert found.scores.tolist() == np.array([0.9, 0.7], np.float32).tolist()
    assert found.pixels.tolist() == [[0, 0, 100, 50], [50, 0, 200, 100]]
    assert detections(rows[:0], (200, 100)).values.shape == (0, 4)


class Detecting(nn.Module):
    """``detect_fixed`` as an exported detector has it at its end."""

    def __init__(self, anchors: Tensor, rule: Rule) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors)
        self.rule = rule

    def forward(self, probabilities: Tensor, offsets: Tensor) -> Tensor:
        return detect_fixed(probabilities, offsets, self.get_buffer("anchors"), self.rule)


RULE = Rule(nms_topk=100)
SIZES = (1, 3, 8)


def exported(probabilities: Tensor, offsets: Tensor, anchors: Tensor, rule: Rule) -> torch.export.ExportedProgram:
    """A detector's end for batches of any size."""
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what torch itself deprecates
        return torch.export.export(
            Detecting(anchors, rule).eval(),
            (probabilities[:2], offsets[:2]),
            dynamic_shapes={"probabilities": {0: batch}, "offsets": {0: batch}},
        )


def onnx_session(program: torch.export.ExportedProgram, path: Path) -> Any:
    """The graph in onnxruntime; skips where a package for that is missing."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"exporting needs {package}")
    engine = pytest.importorskip("onnxruntime", reason="the exported graph is run by onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(program, f=path, opset_version=20, dynamo=True, external_data=False, verbose=False)
    return engine.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def clear() -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, offsets, anchors; no equal scores; every second picture has few boxes, the last one none."""
    generator = torch.Generator().manual_seed(2)
    centre, side = torch.rand(700, 2, generator=generator), torch.rand(700, 2, generator=generator) * 0.4 + 0.05
    logits = torch.randn(8, 700, 4, generator=generator)
    logits[1::2, :, 0] += 6
    logits[7, :, 0] += 20
    offsets = torch.randn(8, 700, 4, generator=generator) * 0.5
    return logits.softmax(dim=2), offsets, torch.cat([centre - side / 2, centre + side / 2], dim=1)


@pytest.fixture(scope="module")
def program(clear: tuple[Tensor, Tensor, Tensor]) -> torch.export.ExportedProgram:
    return exported(*clear, RULE)


def test_can_be_exported_by_torch_for_batches_of_any_size(
    program: torch.export.ExportedProgram, clear: tuple[Tensor, Tensor, Tensor]
) -> None:
    probabilities, offsets, anchors = clear
    for size in SIZES:
        rows = program.module()(probabilities[:size], offsets[:size])
        assert_same_rows(rows, detect(probabilities[:size], offsets[:size], anchors, rule=RULE))


def test_exported_to_onnx_it_finds_the_same_rows(
    program: torch.export.ExportedProgram, clear: tuple[Tensor, Tensor, Tensor], tmp_path: Path
) -> None:
    session = onnx_session(program, tmp_path / "model.onnx")
    probabilities, offsets, anchors = clear
    equal = random_answers(4, 8, 700, 3, 3)[0]  # scores of few levels: the anchors' order decides
    for case in (probabilities, equal):
        for size in SIZES:
            feed = {"probabilities": case[:size].numpy(), "offsets": offsets[:size].numpy()}
            expected = detect(case[:size], offsets[:size], anchors, rule=RULE)
            assert_same_rows(session.run(None, feed)[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_exported_to_onnx_it_finds_the_rows_of_a_whole_detector(shared: Path, tmp_path: Path, name: str) -> None:
    with np.load(shared / f"fixtures/mxnet/detection/{name}.npz") as arrays:
        probabilities, offsets, anchors = given_to(arrays["train:cls_prob"], arrays["loc_pred"], arrays["anchors"])
        twice = (torch.cat([each, each]) for each in (probabilities, offsets))
        session = onnx_session(exported(*twice, anchors, Rule(DETECTORS[name], 400)), tmp_path / "model.onnx")
        rows = session.run(None, {"probabilities": probabilities.numpy(), "offsets": offsets.numpy()})[0]
        assert_same_rows(rows, arrays["train:det"], 1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_rows_are_the_same_on_a_card() -> None:
    answers = random_answers(7, 4, 500, 3, 100)
    assert_same_rows(detect(*(each.cuda() for each in answers)).cpu(), detect(*answers))
