"""How a network is asked, whatever it answers: each picture once, by the stored rule, in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveal.algorithms.memory import enough_memory
from foveal.data.loader import Batch, Decoder, batches
from foveal.data.order import Order
from foveal.data.views import Preprocessing, views
from foveal.records import Label

T = TypeVar("T")


def ask_each(
    pictures: Decoder,
    rule: Preprocessing,
    workers: int,
    rows: range | None,
    batch_size: int,
    collate: Callable[[list[Any]], Any],
    answer: Callable[[Tensor, Any], T],
) -> Iterator[tuple[Batch, T]]:
    """Each picture of ``rows`` (None: of the source) once: batches, and what ``answer`` gives for them.

    Args:
        collate: labels of a batch -> its targets.
        answer: (pixels uint8 [B, H, W, C], targets) -> the answers of a batch; B may be 0.
    """

    def prepare(image: NDArray[np.uint8], label: Label, row: int, number: int) -> tuple[NDArray[np.uint8], Label]:
        return views(rule, image)[0].pixels, label

    rows = range(len(pictures.source)) if rows is None else rows
    slices = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    for batch in batches(pictures, Order(len(pictures.source), 0, "none"), slices, lambda _: prepare, collate, workers):
        yield batch, answer(batch.pixels, batch.targets)


def run_network(network: nn.Module, pixels: Tensor, then: Callable[[Any], T]) -> T:
    """``then`` of the network's outputs for a batch, computed without gradients and in exact float32.

    Args:
        network: takes uint8 [B, H, W, channels]; put into evaluation mode here.
        pixels: uint8 [B, H, W, channels] at the network's size, B > 0.
    """
    network.eval()
    asking = f"asking about {len(pixels)} pictures of {pixels.shape[1]} x {pixels.shape[2]} pixels"
    remedy = "Close what else uses the memory, or ask on another device."
    with torch.inference_mode(), exact_float32(), enough_memory(asking, remedy):
        return then(network(pixels.to(next(network.parameters()).device)))


class exact_float32:  # noqa: N801 - reads as a statement, like torch.inference_mode
    """Computes float32 products in float32 on cards that would round them to TF32; restores what was set before."""

    def __enter__(self) -> None:
        self.before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before
