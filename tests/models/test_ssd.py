"""The layers that find boxes: what they are built of, how they start, and in which order they answer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveal.models.anchors import SIX, VGG_LARGE, VGG_SMALL
from foveal.models.detector import DetectorSpec, build_detector
from foveal.models.ssd import (
    RESNET,
    ExtraMap,
    Further,
    Ssd,
    SsdPlan,
    by_anchor,
    initialise,
    l2_normalise,
    vgg_plan,
)
from foveal.models.vgg import VggReduced

FURTHER = {
    "vgg-16 below 448": (vgg_plan(447), [(256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0)]),
    "vgg-16 from 448 on": (
        vgg_plan(448),
        [(256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 2, 1), (128, 256, 2, 1), (128, 256, 1, 1)],
    ),
    "resnet-50": (RESNET, [(256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 2, 1), (128, 128, 2, 1)]),
}


@pytest.mark.parametrize("name", FURTHER)
def test_further_maps_have_the_references_layers(name: str) -> None:
    plan, expected = FURTHER[name]
    with torch.device("meta"):
        maps = [ExtraMap(1024, each, 1.0) for each in plan.further]
    assert [(m.conv1.out_channels, m.conv2.out_channels, m.conv2.stride[0], m.conv2.padding[0]) for m in maps] == (
        expected
    )
    assert all(m.conv1.kernel_size == (1, 1) and m.conv2.kernel_size == (3, 3) for m in maps)


def test_vggs_head_changes_at_448_pixels() -> None:
    assert (vgg_plan(300).layout, vgg_plan(447).layout) == (VGG_SMALL, VGG_SMALL)
    assert (vgg_plan(448).layout, vgg_plan(10_000).layout) == (VGG_LARGE, VGG_LARGE)
    assert vgg_plan(300).scaled_first and vgg_plan(512).scaled_first
    assert RESNET.layout == SIX and not RESNET.scaled_first


def vgg(classes: int = 2, width: float = 1 / 32, side: int = 300) -> Ssd:
    body = build_detector(DetectorSpec("vgg-16", classes, (3, side, side), width=width)).body
    assert isinstance(body, Ssd)
    return body


def test_answers_go_by_row_column_anchor_and_number() -> None:
    cells = torch.arange(6.0).reshape(1, 1, 2, 3) * 100  # two rows, three columns
    answers = by_anchor(torch.arange(8.0).reshape(1, 8, 1, 1) + cells, 4)  # two anchors a cell, four numbers an anchor
    assert answers.shape == (1, 12, 4)
    assert answers[0, :3].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [100, 101, 102, 103]]
    assert answers[0, 6].tolist() == [300, 301, 302, 303]  # the second row's first cell


def test_ordering_answers_copies_nothing_where_memory_is_channels_last() -> None:
    answers = torch.zeros(2, 12, 3, 3).to(memory_format=torch.channels_last)
    assert by_anchor(answers, 4).data_ptr() == answers.data_ptr()


def test_each_heads_answers_come_at_the_place_of_its_maps_anchors() -> None:
    body = vgg().eval()
    cells = [38 * 38, 19 * 19, 100, 25, 9, 1]
    with torch.inference_mode():
        for number, (classes, boxes) in enumerate(zip(body.class_heads, body.box_heads, strict=True)):
            assert isinstance(classes, nn.Conv2d) and isinstance(boxes, nn.Conv2d)
            for head, each in ((classes, 3), (boxes, 4)):
                head.weight.zero_()
                head.bias.copy_(10 * number + torch.arange(head.out_channels) / (each * 10))  # type: ignore[union-attr]
        logits, offsets = body(torch.zeros(1, 3, 300, 300))
    start = 0
    for number, (count, anchors) in enumerate(zip(cells, (4, 6, 6, 6, 4, 4), strict=True)):
        found = logits[0, start : start + count * anchors].reshape(count, anchors, 3)
        expected = 10 * number + torch.arange(anchors * 3).reshape(anchors, 3) / 30
        assert torch.allclose(found, expected.expand_as(found))
        assert offsets[0, start : start + count * anchors].floor().eq(10 * number).all()
        start += count * anchors
    assert logits.shape == (1, start, 3) and offsets.shape == (1, start, 4)


def test_maps_are_those_of_the_reference_for_a_side_that_is_no_multiple() -> None:
    shapes = [tuple(each.shape[1:]) for each in vgg(side=317).maps(torch.zeros(1, 3, 317, 317))]
    assert shapes == [(16, 40, 40), (32, 20, 20), (16, 10, 10), (8, 5, 5), (8, 3, 3), (8, 1, 1)]  # 79 become 40


def test_the_first_map_of_vgg_has_length_20_at_each_place_whatever_its_size() -> None:
    torch.manual_seed(2)
    body = vgg()
    pictures = torch.rand(1, 3, 300, 300) * 200
    assert isinstance(body.backbone, VggReduced)
    with torch.inference_mode():
        before, after = body.backbone.maps(pictures)[0], body.maps(pictures)[0]
    lively = before.square().sum(1) > 1e-5  # far above what keeps the division from 0
    assert lively.float().mean() > 0.9
    torch.testing.assert_close(after.square().sum(1).sqrt()[lively], torch.full((int(lively.sum()),), 20.0))


def test_length_by_hand_and_in_float32_where_squares_leave_float16() -> None:
    x = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert l2_normalise(x).flatten().tolist() == pytest.approx([0.6, 0.8])
    assert not l2_normalise(torch.zeros(1, 2, 1, 1)).any()
    large = torch.tensor([300.0, 400.0], dtype=torch.float16).reshape(1, 2, 1, 1)
    assert l2_normalise(large).dtype == torch.float32
    assert l2_normalise(large).flatten().tolist() == pytest.approx([0.6, 0.8])


def test_new_layers_start_as_the_originals_do() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 128, 3)
    initialise(layer)
    bound = (3 / ((64 + 128) * 9 / 2)) ** 0.5
    assert 0.99 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert float(layer.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.01)
    assert layer.bias is not None and not layer.bias.any()


@pytest.mark.parametrize("base", ["vgg-16", "resnet-50"])
def test_the_originals_initialiser_draws_its_backbones_as_well(base: str) -> None:
    side, kind = (300, "") if base == "vgg-16" else (64, "pre")
    torch.manual_seed(1)
    body = build_detector(DetectorSpec(base, 2, (3, side, side), kind, width=1 / 8)).body  # type: ignore[arg-type]
    for name, layer in body.named_modules():
        if isinstance(layer, nn.Conv2d):
            area = layer.kernel_size[0] * layer.kernel_size[1]
            bound = (6 / ((layer.in_channels + layer.out_channels) * area)) ** 0.5
            assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound, name
            assert layer.bias is None or not layer.bias.any(), name


def test_narrow_further_maps_have_multiples_of_four_filters() -> None:
    narrow = ExtraMap(8, Further(256, 2, 1), 1 / 64)
    assert (narrow.conv1.out_channels, narrow.conv2.out_channels) == (4, 4)


def test_maps_of_a_plan_pass_a_normalisation_where_it_says_so() -> None:
    plain = SsdPlan(SIX, (), normed=False)
    normed = SsdPlan(SIX, (), normed=True)
    channels = (8,) * 6
    assert len(Ssd(VggReduced(3, 1 / 64), plain, channels, 2).norms) == 0
    assert [n.num_features for n in Ssd(VggReduced(3, 1 / 64), normed, channels, 2).norms] == [8] * 6  # type: ignore[union-attr]


def test_what_comes_in_is_left_as_it_was() -> None:
    """ReLUs work in place, on maps of their own."""
    pictures = torch.randn(1, 3, 300, 300)
    before = pictures.clone()
    vgg()(pictures)
    assert torch.equal(pictures, before)
