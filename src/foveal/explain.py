"""Where in a picture an answer comes from: a heat map for each label or box.

The method: the score's gradient by a map of the network, times that map, summed over its channels, place by place; what
speaks against the label is cut off (Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020; for a network that
averages its last map and has one linear layer it is the class activation map itself). It is taken at the two deepest
maps that the score depends on and that have enough places, each brought to a highest value of 1, and averaged: the
deeper one knows best what the network looked for, the finer one where it was.

The score is the label's log-odds: against all other labels where they exclude each other, and in a detector against
background too, for the one anchor that the box came from. So a box's map tells what made this box, and is 0 where its
anchor can't see.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.algorithms.asking import exact_float32
from foveal.algorithms.memory import enough_memory
from foveal.errors import UserError
from foveal.models.detector import Detector, Outputs, scored
from foveal.models.resnet import ResNet
from foveal.models.vgg import RELU4_3, Vgg16, VggReduced
from foveal.records import Detections

DEEPEST = 2  # maps that are averaged
FEWEST = 4  # places of a map's shorter side; coarser ones tell next to nothing of where
VGG_STAGES = (8, 15, RELU4_3, 29)  # numbers of the ReLUs before a pooling


@dataclass(frozen=True)
class Explained:
    """One answer, and where it comes from.

    Attributes:
        label, index: the class. score: its probability or confidence, 0..1.
        heat: float32 [H, W], 0..1, in pixels of the upright picture; 1 is where most speaks for the label, 0 where
            nothing does, or what the network isn't shown.
        box: xmin, ymin, xmax, ymax of an object in pixels of the upright picture; None for a picture's label.
    """

    label: str
    index: int
    score: float
    heat: NDArray[np.float32]
    box: tuple[float, float, float, float] | None = None


Maps = tuple[NDArray[np.float32], ...]
"""What speaks for one answer: float32 [h, w], 0..1, over the network's whole input each, in different finenesses."""


def label_maps(
    network: nn.Module, pixels: NDArray[np.uint8], labels: Sequence[int], several: bool = False
) -> Iterator[Maps]:
    """Maps of labels of one picture.

    Args:
        network: takes uint8 [B, H, W, channels], gives logits [B, C].
        pixels: uint8 [H, W, channels] at the network's size.
        labels: class indices. several: whether labels don't exclude each other.

    Raises:
        UserError: when the network has no maps with places, as some of timm's have not.
    """

    def scores(logits: Tensor) -> list[Tensor]:
        return [logits[0, label] if several else log_odds(logits[0], label) for label in labels]

    return _maps(network, pixels, scores)


def box_maps(network: Detector, pixels: NDArray[np.uint8], found: Detections) -> Iterator[Maps]:
    """Maps of the boxes found in one picture, in their order.

    Args:
        pixels: uint8 [S, S, 3] at the network's size.
        found: by this network in these pixels.

    Raises:
        UserError: as ``label_maps``.
    """

    def scores(outputs: Outputs) -> list[Tensor]:
        logits = outputs[0][0]
        chances, boxes = (each[0].detach() for each in scored(network.spec.head, outputs))
        picked = []
        for cls, score, box in zip(found.cls.tolist(), found.scores.tolist(), found.values, strict=True):
            away = (boxes - torch.from_numpy(box).to(boxes)).abs().sum(1) + (chances[:, cls] - score).abs()
            anchor = int(away.argmin())
            picked.append(log_odds(logits[anchor], cls + 1) if network.background else logits[anchor, cls])
        return picked

    return _maps(network, pixels, scores)


def log_odds(logits: Tensor, number: int) -> Tensor:
    """ln(p / (1 - p)) of one of the softmax's classes, from logits [C]; the logit itself where there is only one."""
    others = torch.cat([logits[:number], logits[number + 1 :]])
    return logits[number] - others.logsumexp(0) if len(others) else logits[number]


def spread_out(
    maps: Maps, affine: NDArray[np.float64], network: tuple[int, int], size: tuple[int, int], seen: tuple[int, int]
) -> NDArray[np.float32]:
    """Maps as one picture of heat, the highest value 1.

    Args:
        affine: float64 [2, 3], from the network's pixels to the upright picture's, without a turn.
        network: (height, width) of the network's input. size: (height, width) of the upright picture.
        seen: (height, width) of the heat that is wanted, over the whole picture.

    Returns:
        float32 [seen]; all 0 where nothing speaks for the answer.
    """
    total = np.zeros(seen, np.float64)
    for each in maps:
        down, across = (
            _weights(seen[axis], size[axis], affine[1 - axis], 1 - axis, network[axis], each.shape[axis])
            for axis in (0, 1)
        )
        total += down @ each.astype(np.float64) @ across.T
    most = total.max(initial=0.0)
    return (total / most if most > 0 else total).astype(np.float32)


def _weights(
    wanted: int, side: int, affine: NDArray[np.float64], axis: int, network: int, places: int
) -> NDArray[np.float64]:
    """How much each of a map's places counts at each of ``wanted`` points along a side: float64 [wanted, places].

    A quadratic B-spline: smooth, never outside the values it goes between. Points that the network isn't shown are 0.
    """
    points = (np.arange(wanted) + 0.5) * side / wanted  # in the picture's pixels
    at = (points - affine[2]) / affine[axis]  # in the network's
    away = np.abs(at[:, None] * places / network - (np.arange(places) + 0.5))
    near, far = 0.75 - away**2, 0.5 * np.maximum(0.0, 1.5 - away) ** 2
    weights = np.where(away < 0.5, near, far)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return np.where(((at >= 0) & (at <= network))[:, None], weights, 0.0)


def _maps(network: nn.Module, pixels: NDArray[np.uint8], scores: Callable[[Any], list[Tensor]]) -> Iterator[Maps]:
    """For each of the scores of the network's outputs its maps."""
    network.eval()
    stages, shape_of = _stages(network)
    batch = torch.from_numpy(pixels)[None].to(next(network.parameters()).device)
    doing = f"explaining a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels"
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        exact_float32(),
        enough_memory(doing, "Close what else uses the memory, or ask on another device."),
    ):
        with _watched(stages) as seen:
            outputs = network(batch)
        values = [seen[stage] for stage in stages if stage in seen]
        for score in scores(outputs):
            slopes = torch.autograd.grad(score, values, retain_graph=True, allow_unused=True)
            pairs = zip(values, slopes, strict=True)
            speaking = [shape_of((value * slope).detach()) for value, slope in pairs if slope is not None]
            yield _deepest(speaking)


def _deepest(speaking: list[Tensor | None]) -> Maps:
    """The deepest maps (of [1, c, h, w], None for those without places) that something stands on, each up to 1."""
    maps: list[NDArray[np.float32]] = []
    for each in reversed(speaking):
        if each is None or (min(each.shape[2:]) < FEWEST and len(speaking) > 1):
            continue
        heat = each[0].float().sum(0).clamp(min=0)
        most = float(heat.max())
        if most > 0:
            maps.append((heat / most).cpu().numpy())
        if len(maps) == DEEPEST:
            break
    return tuple(maps)


@contextmanager
def _watched(stages: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What the stages give in this thread, as copies that what follows goes on from and doesn't write into."""
    seen: dict[nn.Module, Tensor] = {}
    thread = threading.get_ident()

    def keep(module: nn.Module, _: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != thread or not isinstance(output, Tensor):
            return None
        seen[module] = output.clone()
        return seen[module]

    handles = [stage.register_forward_hook(keep) for stage in stages]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _stages(network: nn.Module) -> tuple[list[nn.Module], Callable[[Tensor], Tensor | None]]:
    """The modules of a network whose outputs are its maps, the finest first, and what makes [1, c, h, w] of an output.

    Raises UserError for a network that has none.
    """
    body: Any = network.body
    body = getattr(body, "backbone", body)
    if isinstance(body, ResNet):
        found = [getattr(body, f"layer{number}") for number in range(1, len(body.plan.filters) + 1)]
        return ([*found[:-1], body.norm] if body.norm is not None else found), _as_it_is
    if isinstance(body, Vgg16):
        return [body.features[number] for number in VGG_STAGES], _as_it_is
    if isinstance(body, VggReduced):
        return [*(body.features[number] for number in VGG_STAGES[:3]), body.fc7], _as_it_is
    known = dict(body.named_modules())
    names = [entry["module"] for entry in getattr(body, "feature_info", ()) if entry["module"] in known]
    if not names:
        raise UserError(
            f"{type(body).__name__} tells of no maps, and heat maps are made from them",
            "--explain",
            "Heat maps are for networks of convolutions, and for transformers that timm's feature_info describes.",
        )
    return [known[name] for name in names], lambda output: _in_places(body, output)


def _as_it_is(output: Tensor) -> Tensor:
    return output


def _in_places(body: Any, output: Tensor) -> Tensor | None:
    """An output of a network of timm's as [1, c, h, w]; None for one without places.

    Some put channels last, and transformers list places one after another, behind what stands for the whole picture.
    """
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if getattr(body, "output_fmt", "NCHW") == "NHWC" else output
    grid = getattr(getattr(body, "patch_embed", None), "grid_size", None)
    if output.ndim != 3 or grid is None:
        return None
    places = output[:, output.shape[1] - grid[0] * grid[1] :]
    return places.reshape(1, *grid, -1).permute(0, 3, 1, 2)
