"""What each place of a pyramid should learn, and what its answer costs.

Task-aligned assignment (Feng et al., TOOD, 2021): a place learns an object where its box already fits and it is already
sure, so what is said most surely comes to be what fits best. For object ``m`` and place ``p`` inside it

    fit(m, p) = score(p, class of m)^a * IoU(box of p, m)^b

and the ``MOST`` best places learn the object; a place that several objects want goes to the one that its box overlaps
most. How sure a place should be follows the same numbers: the best place of an object as sure as the object's best
IoU is, the others in proportion to their fit. All else should say no, in pictures without objects as well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.models.boxcoding import overlap_matrix

MOST = 10  # places that learn one object
SCORE_POWER, OVERLAP_POWER = 1.0, 6.0
BOX_WEIGHT = 2.0  # of the boxes' loss beside that of the classes
LEAST = 1e-9  # of an IoU whose logarithm is taken
PART = 2**24  # places times objects that are compared at once: 64 MiB a table


class Aligned(NamedTuple):
    """What the places of a batch should say.

    Attributes:
        scores: float32 [B, P, C], how sure of each class, 0 to 1.
        boxes: float32 [B, P, 4], the object's box, corner form; 0 where there is none.
        weights: float32 [B, P], how much the box counts: the score of the object's class.
    """

    scores: Tensor
    boxes: Tensor
    weights: Tensor


@torch.no_grad()
def align(cells: Tensor, logits: Tensor, boxes: Tensor, labels: Tensor) -> Aligned:
    """Assign to each place of each picture the object that it should learn, or none.

    An object too small to have a place's centre inside counts as large as a cell of the finest level for the question
    which places are inside. Nothing waits for the device: the work depends on the shapes alone.

    Args:
        cells: float32 [P, 4], corner form, the finest level first.
        logits: float32 [B, P, C], the network's answers before the sigmoid.
        boxes: float32 [B, P, 4], those that it answers, corner form.
        labels: float32 [B, M, 5 or more], rows (class, xmin, ymin, xmax, ymax, ...); class below 0: no object. M may be
            0. Objects marked difficult are as good as others.
    """
    pictures, width = labels.shape[:2]
    step = max(1, PART // max(1, width * len(cells)))
    parts = [slice(row, row + step) for row in range(0, pictures, step)]
    found = [_align(cells, logits[rows], boxes[rows], labels[rows].float()) for rows in parts]
    return Aligned(*(torch.cat(each) for each in zip(*found, strict=True)))


def _align(cells: Tensor, logits: Tensor, boxes: Tensor, labels: Tensor) -> Aligned:
    real, classes, objects = labels[..., 0] >= 0, labels[..., 0].clamp(min=0).long(), labels[..., 1:5]
    if not labels.shape[1]:
        return Aligned(torch.zeros_like(logits), torch.zeros_like(boxes), torch.zeros_like(boxes[..., 0]))
    overlap = overlap_matrix(objects, boxes)  # [B, M, P]
    sure = F.logsigmoid(logits).transpose(1, 2).gather(1, classes[..., None].expand(-1, -1, len(cells)))
    fit = SCORE_POWER * sure + OVERLAP_POWER * overlap.clamp(min=LEAST).log()
    fit = fit.masked_fill(~(_inside(cells, objects) & real[..., None]), -torch.inf)
    best, places = fit.topk(min(MOST, len(cells)), dim=2)
    wanted = torch.zeros_like(fit, dtype=torch.bool).scatter_(2, places, best > -torch.inf)
    rivals, owner = torch.where(wanted, overlap, -1.0).max(dim=1)  # [B, P]
    taken = rivals >= 0
    mine = taken[:, None] & (owner[:, None] == torch.arange(labels.shape[1], device=owner.device)[:, None])
    fit = fit.masked_fill(~mine, -torch.inf)
    strongest = fit.amax(dim=2, keepdim=True)
    reach = torch.where(mine, overlap, 0.0).amax(dim=2, keepdim=True)
    share = torch.where(mine, (fit - strongest.clamp(min=-1e30)).exp() * reach, 0.0)  # [B, M, P]
    weights = share.amax(dim=1)
    learned = classes.gather(1, owner)
    scores = torch.zeros_like(logits).scatter_(2, learned[..., None], weights[..., None])
    its_box = objects.gather(1, owner[..., None].expand(-1, -1, 4))
    return Aligned(scores, torch.where(taken[..., None], its_box, 0.0), weights)


def _inside(cells: Tensor, objects: Tensor) -> Tensor:
    """Whether each place's centre lies in each object: bool [B, M, P]."""
    x, y = (cells[:, 0] + cells[:, 2]) / 2, (cells[:, 1] + cells[:, 3]) / 2
    x0, y0, x1, y1 = (side[..., None] for side in objects.unbind(-1))
    finest = cells[0, 2:] - cells[0, :2]
    half_w, half_h = ((x1 - x0) / 2).clamp(min=finest[0] / 2), ((y1 - y0) / 2).clamp(min=finest[1] / 2)
    return ((x - (x0 + x1) / 2).abs() <= half_w) & ((y - (y0 + y1) / 2).abs() <= half_h)


def pyramid_loss(
    logits: Tensor, boxes: Tensor, targets: Aligned, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What a batch's answers cost: sums, the numbers to divide them by, and sums for the training figures.

    Args:
        logits: float32 [B, P, C]. boxes: float32 [B, P, 4], as answered.
        targets: of ``align``.
        weights: float32 [C], by which places that learn an object of each class count; None: 1.

    Returns:
        sums: float32 [2], with gradient: cross entropy of every class at every place, times the square of what it is
            wrong by (quality focal loss, Li et al. 2020); ``BOX_WEIGHT`` times the weighted sum of 1 - GIoU.
        shares: float32 [2], both the sum of the boxes' weights, a picture's being at least 1: so a picture without
            objects counts as one object does.
        counts: float32 [3]: the two sums, and the share.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets.scores, reduction="none")
    entropy = entropy * (logits.sigmoid() - targets.scores).square()
    counted = targets.weights
    if weights is not None:
        entropy = torch.where(targets.scores > 0, entropy * weights, entropy)
        counted = (targets.scores * weights).sum(dim=2)
    distance = (1 - generalised_overlap(boxes, targets.boxes)) * counted
    sums = torch.stack([entropy.sum(), BOX_WEIGHT * distance.sum()])
    share = counted.sum(dim=1).clamp(min=1).sum()
    return sums, torch.stack([share, share]), torch.stack([*sums.detach(), share])


def generalised_overlap(one: Tensor, other: Tensor) -> Tensor:
    """GIoU of boxes row by row (Rezatofighi et al. 2019): IoU less the empty share of the box around both.

    Args:
        one, other: float32 [..., 4], corner form; without area GIoU is -1 to 0.

    Returns:
        float32 [...], -1 to 1.
    """
    ax0, ay0, ax1, ay1 = one.unbind(-1)
    bx0, by0, bx1, by1 = other.unbind(-1)
    wide = (torch.minimum(ax1, bx1) - torch.maximum(ax0, bx0)).clamp(min=0)
    high = (torch.minimum(ay1, by1) - torch.maximum(ay0, by0)).clamp(min=0)
    shared = wide * high
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
    around = (torch.maximum(ax1, bx1) - torch.minimum(ax0, bx0)) * (torch.maximum(ay1, by1) - torch.minimum(ay0, by0))
    tiny = torch.finfo(one.dtype).tiny
    return shared / union.clamp(min=tiny) - (around - union) / around.clamp(min=tiny)
