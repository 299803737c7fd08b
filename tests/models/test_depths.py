"""Which ResNet a depth means at a height: the rule of the original's code, and what we add to it."""

from __future__ import annotations

import pytest

from foveal.errors import UserError
from foveal.models.depths import plan_resnet


@pytest.mark.parametrize(
    ("num_layers", "height", "units", "stem", "filters", "bottleneck"),
    [
        (20, 28, (3,) * 3, 16, (16, 32, 64), False),
        (50, 28, (8,) * 3, 16, (16, 32, 64), False),  # a network for small pictures, not the ResNet-50 known by name
        (110, 28, (18,) * 3, 16, (16, 32, 64), False),
        (164, 28, (18,) * 3, 16, (64, 128, 256), True),
        (200, 28, (22,) * 3, 16, (64, 128, 256), True),
        (18, 32, (2, 2, 2, 2), 64, (64, 128, 256, 512), False),
        (34, 224, (3, 4, 6, 3), 64, (64, 128, 256, 512), False),
        (50, 29, (3, 4, 6, 3), 64, (256, 512, 1024, 2048), True),
        (200, 224, (3, 24, 36, 3), 64, (256, 512, 1024, 2048), True),
    ],
)
def test_pre_follows_the_originals_rule(
    num_layers: int, height: int, units: tuple[int, ...], stem: int, filters: tuple[int, ...], bottleneck: bool
) -> None:
    plan = plan_resnet(num_layers, "pre", height, extended=False)
    assert (plan.units, plan.stem, plan.filters, plan.bottleneck) == (units, stem, filters, bottleneck)
    assert plan.small_stem == (height <= 32)


@pytest.mark.parametrize(("num_layers", "height"), [(20, 32), (110, 224), (101, 28), (19, 28), (21, 224), (2, 28)])
def test_other_depths_are_refused_in_the_originals_words(num_layers: int, height: int) -> None:
    with pytest.raises(UserError) as error:
        plan_resnet(num_layers, "pre", height, extended=False)
    assert error.value.what == f"no experiments done on num_layers {num_layers}, you can do it yourself"
    assert error.value.setting == "num_layers"


def test_18_and_34_layers_at_small_heights_have_four_stages_and_say_so() -> None:
    plan = plan_resnet(18, "pre", 28, extended=False)
    assert plan.units == (2, 2, 2, 2)
    assert plan.said == (
        "num_layers=18 at a height of 28 pixels: four stages are built, as for larger pictures; "
        "MXNet's example refuses this depth there."
    )


def test_small_depths_go_up_to_32_pixels_when_extended() -> None:
    assert plan_resnet(20, "pre", 32).filters == (16, 32, 64)
    with pytest.raises(UserError, match="need a height of at most 32"):
        plan_resnet(20, "pre", 33)


def test_post_has_four_stages_at_any_height_and_a_small_stem_up_to_32_pixels() -> None:
    assert plan_resnet(50, "post", 28).units == (3, 4, 6, 3)
    assert plan_resnet(50, "post", 32).small_stem
    assert not plan_resnet(50, "post", 33).small_stem


def test_post_refuses_small_depths_and_names_what_there_is() -> None:
    with pytest.raises(UserError, match="With resnet=post choose one of 18, 34, 50, 101, 152, 200;"):
        plan_resnet(20, "post", 28)


def test_width_rounds_filters_to_multiples_of_four() -> None:
    plan = plan_resnet(20, "pre", 28, width=0.3)
    assert (plan.stem, plan.filters) == (4, (4, 8, 20))
