"""Boxes and offsets: overlap, and the coding that a detector learns. The arithmetic is MXNet's, operation by operation,
in float32, so that comparisons with a threshold decide as they do there.

Boxes are corner form, xmin, ymin, xmax, ymax, in fractions of the picture; no side gets a pixel added. Offsets are
centre x, centre y, width, height of a box as seen from its anchor, divided by the variances (reference 6.4, 6.6).
"""

from __future__ import annotations

import torch
from torch import Tensor

VARIANCES = (0.1, 0.1, 0.2, 0.2)
"""What the offsets x, y, width, height are divided by."""

Corners = tuple[Tensor, Tensor, Tensor, Tensor]
"""xmin, ymin, xmax, ymax of boxes, each a tensor of its own: strided columns cost five times the time."""


def corners(boxes: Tensor) -> Corners:
    """The columns of boxes [..., 4], each in memory of its own."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return x0.contiguous(), y0.contiguous(), x1.contiguous(), y1.contiguous()


def overlaps(one: Corners, other: Corners) -> Tensor:
    """IoU of boxes whose corners broadcast against each other; 0 where a union has no area."""
    ax0, ay0, ax1, ay1 = one
    bx0, by0, bx1, by1 = other
    wide = torch.minimum(ax1, bx1).sub_(torch.maximum(ax0, bx0)).clamp_(min=0)
    high = torch.minimum(ay1, by1).sub_(torch.maximum(ay0, by0)).clamp_(min=0)
    shared = wide.mul_(high)
    union = ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0)).sub_(shared)
    return torch.where(union > 0, shared.div_(union), 0.0)


def overlap_matrix(one: Tensor, other: Tensor) -> Tensor:
    """IoU of all pairs: boxes [..., N, 4] and [..., M, 4] -> float32 [..., N, M]."""
    ax0, ay0, ax1, ay1 = (each[..., :, None] for each in corners(one))
    bx0, by0, bx1, by1 = (each[..., None, :] for each in corners(other))
    return overlaps((ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1))


def encode(anchors: Tensor, boxes: Tensor, variances: tuple[float, float, float, float] = VARIANCES) -> Tensor:
    """The offsets that lead from anchors to boxes: float32 [..., 4]; not finite for a box without width or height."""
    ax0, ay0, ax1, ay1 = anchors.unbind(-1)
    bx0, by0, bx1, by1 = boxes.unbind(-1)
    aw, ah, bw, bh = ax1 - ax0, ay1 - ay0, bx1 - bx0, by1 - by0
    vx, vy, vw, vh = variances
    return torch.stack(
        [
            ((bx0 + bx1) * 0.5 - (ax0 + ax1) * 0.5) / aw / vx,
            ((by0 + by1) * 0.5 - (ay0 + ay1) * 0.5) / ah / vy,
            (bw / aw).log() / vw,
            (bh / ah).log() / vh,
        ],
        dim=-1,
    )


def decode(
    anchors: Tensor,
    offsets: Tensor,
    variances: tuple[float, float, float, float] = VARIANCES,
    clip: bool = True,
) -> Tensor:
    """The boxes at the end of offsets from anchors: float32 [..., 4]; with ``clip`` cut off at the picture's edges."""
    ax0, ay0, ax1, ay1 = anchors.unbind(-1)
    x, y, w, h = offsets.unbind(-1)
    aw, ah = ax1 - ax0, ay1 - ay0
    vx, vy, vw, vh = variances
    centre_x, centre_y = x * vx * aw + (ax0 + ax1) / 2, y * vy * ah + (ay0 + ay1) / 2
    half_w, half_h = (w * vw).exp() * aw / 2, (h * vh).exp() * ah / 2
    boxes = torch.stack([centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h], dim=-1)
    return boxes.clamp(0, 1) if clip else boxes
