"""What each anchor should learn, and what its answer costs: MXNet's MultiBoxTarget and the two losses of SSD.

Reference, sections 6.4 and 6.5. An anchor learns an object (classes 1, 2, ...), the background (class 0) or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.models.boxcoding import VARIANCES, encode, overlap_matrix

LEAST_OVERLAP = 1e-6  # an object takes no anchor that it overlaps less
PART = 2**25  # anchors times objects that are compared at once on a device: 128 MiB a table


class Targets(NamedTuple):
    """What the anchors of a batch should say.

    Attributes:
        classes: int64 [B, A]: -1 ignored, 0 background, class + 1 otherwise.
        offsets: float32 [B, A, 4]: where the object lies as seen from the anchor; 0 where there is none.
        mask: bool [B, A]: anchors with an object.
    """

    classes: Tensor
    offsets: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Matching:
    """How anchors find their objects; the names in brackets are MultiBoxTarget's.

    Attributes:
        overlap: IoU above which an anchor takes an object (overlap_threshold); 0: only each object's best anchor does.
        negatives: background anchors for each one with an object (negative_mining_ratio); 0 or less: all others.
        background_below: IoU with every object below which an anchor may be one (negative_mining_thresh).
        negatives_per_empty_picture: background anchors in a picture without objects. 0 as in the original, where such
            a picture teaches nothing.
        variances: of the offsets.
    """

    overlap: float = 0.5
    negatives: float = 3.0
    background_below: float = 0.5
    negatives_per_empty_picture: int = 0
    variances: tuple[float, float, float, float] = VARIANCES


@torch.no_grad()
def match_anchors(
    anchors: Tensor,
    labels: Tensor,
    logits: Tensor,
    rule: Matching = Matching(),
    negatives_per_empty_picture: int | None = None,
) -> Targets:
    """Assign to each anchor of each picture the object, the background, or nothing.

    First the anchor and the object that overlap most are taken out as a pair, again and again, while both are free and
    overlap at all; ties go to the first anchor, then to the first object. Each other anchor takes the object that it
    overlaps most, if by more than ``rule.overlap``. Of the anchors far from every object those become background that
    the network is least sure of (lowest probability of background, ties to the first anchor), some for each anchor
    with an object; fewer if there are no more (MXNet's CPU kernel aborts there).

    Args:
        anchors: float32 [A, 4], corner form.
        labels: float32 [B, M, 5 or more], rows (class, xmin, ymin, xmax, ymax, ...) in the anchors' unit; the first row
            whose class is below 0 ends a picture's list. M may be 0. Objects marked difficult are as good as others.
        logits: float [B, A, C + 1], the network's answers before softmax, background first.
        rule: how to match.
        negatives_per_empty_picture: instead of ``rule``'s.

    Nothing waits for the device: on CUDA the work depends on the shapes alone.
    """
    empty = rule.negatives_per_empty_picture if negatives_per_empty_picture is None else negatives_per_empty_picture
    background = logits.float().softmax(dim=-1)[..., 0]
    labels = labels.float()
    real = (labels[:, :, 0] >= 0).long().cumprod(dim=1).bool()
    matched = [
        _match(anchors, labels[rows, :most], real[rows, :most], rule) for rows, most in _parts(real, len(anchors))
    ]
    which, best, mask = (torch.cat(each) for each in zip(*matched, strict=True))
    has_objects = real.any(dim=1, keepdim=True)
    negative = _negatives(background, best, mask, has_objects, rule, empty)
    width = max(1, labels.shape[1])
    objects = F.pad(labels[..., :5], (0, 0, 0, width - labels.shape[1])).gather(1, which[..., None].expand(-1, -1, 5))
    classes = torch.where(mask, objects[..., 0].long() + 1, torch.where(negative, 0, -1))
    offsets = torch.where(mask[..., None], encode(anchors, objects[..., 1:], rule.variances), 0.0)
    return Targets(classes, offsets, mask)


def _parts(real: Tensor, anchors: int) -> list[tuple[slice, int]]:
    """Pictures to be matched together, and how many rows of their labels to look at.

    On a CPU one at a time: its table stays in the cache, and padding costs nothing.
    """
    pictures, width = real.shape
    if real.device.type == "cpu":
        return [(slice(row, row + 1), count) for row, count in enumerate(real.sum(dim=1).tolist())]
    step = max(1, PART // max(1, width * anchors))
    return [(slice(row, row + step), width) for row in range(0, pictures, step)]


def _match(anchors: Tensor, labels: Tensor, real: Tensor, rule: Matching) -> tuple[Tensor, Tensor, Tensor]:
    """Which object each anchor would take (int64), their IoU (-1: no objects), and whether it does: each [B, A]."""
    pictures, objects = real.shape
    if not objects:
        none = torch.full((pictures, len(anchors)), -1.0, device=anchors.device)
        return torch.zeros_like(none, dtype=torch.int64), none, torch.zeros_like(none, dtype=torch.bool)
    table = overlap_matrix(labels[..., 1:5], anchors).masked_fill_(~real[..., None], -1.0)  # [B, M, A]
    best, which = table.max(dim=1)
    mask = best > rule.overlap if rule.overlap > 0 else torch.zeros_like(best, dtype=torch.bool)
    pairs = _pairs(table)
    paired = pairs >= 0
    return torch.where(paired, pairs, which), best, mask | paired


def _pairs(table: Tensor) -> Tensor:
    """Each object's own anchor, by taking the greatest of all overlaps again and again.

    Greedy choice needs no order among pairs that do not touch: an object and an anchor that are each other's best are
    chosen in any case. So each round takes all such pairs at once; M rounds are enough, a few are usual.

    Args:
        table: float32 [B, M, A], the overlaps; overwritten.

    Returns:
        int64 [B, A]: the object of each anchor that was taken, else -1.
    """
    pictures, objects, anchors = table.shape
    order = torch.arange(objects, device=table.device)
    pairs = torch.full((pictures, anchors + 1), -1, device=table.device)  # the last one is nobody's
    free = torch.ones((pictures, objects), dtype=torch.bool, device=table.device)
    for _ in range(objects):
        value, anchor = table.max(dim=2)  # [B, M]: what each object wants
        wants = free & (value > LEAST_OVERLAP)
        if table.device.type == "cpu" and not wants.any():
            break
        rivals = table.gather(2, anchor[:, None].expand(-1, objects, -1))  # [B, M, M]: who wants that anchor, how much
        first = rivals.masked_fill_(~free[..., None], -1.0).argmax(dim=1)
        takes = wants & (first == order)
        pairs.scatter_(1, torch.where(takes, anchor, anchors), order.expand(pictures, -1))
        free &= ~takes
        # the others point at a column that goes anyway; when nobody takes, nobody wants any more
        gone = torch.where(takes, anchor, anchor.gather(1, takes.long().argmax(dim=1, keepdim=True)))
        table.scatter_(2, gone[:, None].expand(-1, objects, -1), -1.0)
    return pairs[:, :anchors]


def _negatives(
    background: Tensor, best: Tensor, mask: Tensor, has_objects: Tensor, rule: Matching, empty: int
) -> Tensor:
    """The anchors that learn to be background: bool [B, A]."""
    anchors = mask.shape[1]
    if rule.negatives > 0:
        positives = mask.sum(dim=1, keepdim=True)
        number = torch.minimum((positives * rule.negatives).long(), anchors - positives)
        candidates = ~mask & (best < rule.background_below)
    else:
        number, candidates = torch.full_like(has_objects, anchors, dtype=torch.int64), ~mask
    number = torch.where(has_objects, number, empty).minimum(candidates.sum(dim=1, keepdim=True))
    hardest = torch.where(candidates, background, torch.inf).argsort(dim=1, stable=True)
    among = torch.arange(anchors, device=mask.device) < number
    return torch.zeros_like(mask).scatter_(1, hardest, among)


def ssd_loss(
    logits: Tensor, offsets: Tensor, targets: Targets, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What a batch's answers cost: sums, the numbers to divide them by, and sums for the training figures.

    Args:
        logits: float [B, A, C + 1], background first.
        offsets: float [B, A, 4].
        targets: of ``match_anchors``.
        weights: float32 [C], by which an anchor with an object of each class counts, in sums and shares; None: 1.

    Returns:
        sums: float32 [2], with gradient: softmax cross entropy over the anchors that learn something; smooth L1
            (0.5 x^2 below 1, x - 0.5 above) of the offsets' differences where there is an object.
        shares: float32 [2]: the number of these anchors; the number of smooth L1 terms above 0 (MXNet's MakeLoss
            counts so, reference 6.5). Either may be 0.
        counts: float32 [3], the original's two figures and their common divisor (reference 2.5): the sum of
            -ln(p + 1e-8), the sum of smooth L1, the number of anchors that learn something.
    """
    learns = targets.classes >= 0
    spread = logits.float().log_softmax(dim=-1)
    true = spread.gather(-1, targets.classes.clamp(min=0)[..., None])[..., 0]
    each = torch.where(learns, -true, 0.0)
    difference = torch.where(targets.mask[..., None], offsets.float() - targets.offsets, 0.0)
    distance = F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none")
    with torch.no_grad():
        number = learns.sum().float()
        figure = torch.where(learns, -(true.exp() + 1e-8).log(), 0.0).sum()
        counts = torch.stack([figure, distance.sum(), number])
        shares = torch.stack([number, (distance > 0).sum().float()])
    if weights is not None:
        weight = F.pad(weights, (1, 0), value=1.0)[targets.classes.clamp(min=0)]
        shares = torch.stack([(learns * weight).sum(), ((distance > 0) * weight[..., None]).sum()])
        each, distance = each * weight, distance * weight[..., None]
    sums = torch.stack([each.sum(), distance.sum()])
    return sums, shares, counts
