"""Quicker weight gradients of convolutions on processors without AVX-512.

In channels-last memory oneDNN computes a 3x3 convolution's answers and its gradient by pictures with its best kernels
there too, but for the gradient by weights it has none with AVX2 and takes three to six times as long as it could
(torch 2.13). Here that gradient is a sum of matrix products, one for each place of the kernel, over pieces of the
pictures that stay in the cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEWEST_CHANNELS = 16  # that come in; below, products are too narrow to pay
LEAST = 1 << 16  # numbers of a picture that comes in; below, the many small products cost more than they save
PIECE = 1 << 18  # numbers of a piece of pictures and gradients; 1 MiB
Pair = tuple[int, int]


def quick_convolutions(network: nn.Module) -> None:
    """Put a ``Convolution`` with the same parameters in the place of each convolution that gains by it."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d and _gains(child):
                setattr(parent, name, _quick(child))


def needs_quick_convolutions() -> bool:
    """Whether the processor is one that oneDNN has no kernel for."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _gains(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == 1
        and layer.kernel_size != (1, 1)
        and layer.in_channels >= FEWEST_CHANNELS
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _quick(layer: nn.Conv2d) -> Convolution:
    quick = Convolution(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
        device="meta",
    )
    quick.weight, quick.bias = layer.weight, layer.bias
    return quick.train(layer.training)


class Convolution(nn.Conv2d):
    """A convolution whose weight gradient is computed by ``weight_gradient`` where that is possible and pays: in
    float32, in channels-last memory, on a CPU, from maps that are not small."""

    def forward(self, x: Tensor) -> Tensor:
        learns = torch.is_grad_enabled() and self.weight.requires_grad and x.device.type == "cpu"
        large = learns and len(x) > 0 and x[0].numel() >= LEAST  # asked for last: a batch being exported has no length
        if large and x.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            shape = _pair(self.stride), _pair(self.padding), _pair(self.dilation)
            answers: Tensor = _Convolve.apply(x, self.weight, self.bias, *shape)  # type: ignore[no-untyped-call]
            return answers
        return super().forward(x)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = stride, padding, dilation
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.shape
        by_x, by_weight, by_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        back = None
        if by_x:
            args = (None, stride, padding, dilation, False, (0, 0), 1, (True, False, False))
            back = torch.ops.aten.convolution_backward(gradient, x, weight, *args)[0]
        mine = weight_gradient(x, gradient, _pair(weight.shape[2:]), *ctx.shape) if by_weight else None
        return back, mine, gradient.sum((0, 2, 3)) if by_bias else None, None, None, None


def weight_gradient(x: Tensor, gradient: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """The gradient of a convolution by its weights.

    Args:
        x: float32 [B, C, H, W], what came in; quick in channels-last memory.
        gradient: float32 [B, F, h, w], by what came out; likewise.
        kernel, stride, padding, dilation: (y, x) of the convolution.

    Returns:
        float32 [F, C, kernel], in channels-last memory.
    """
    pictures, wanted = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    found = x.new_zeros((*kernel, wanted.shape[3], pictures.shape[3]))
    if stride == dilation == (1, 1):
        _add_pieces(found, pictures, wanted, padding)
    else:
        _add_places(found, pictures, wanted, stride, padding, dilation)
    return found.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


def _add_pieces(found: Tensor, pictures: Tensor, wanted: Tensor, padding: Pair) -> None:
    """Piece by piece of some rows: in a padded piece, seen as one long list of places, a place of the kernel is a
    distance, so that all products are of parts of two lists, and nothing is copied but the piece itself."""
    kernel_y, kernel_x = found.shape[:2]
    (pad_y, pad_x), (batch, height, width, channels) = padding, pictures.shape
    rows, columns, filters = wanted.shape[1:]
    pitch = width + 2 * pad_x
    most = max(1, min(rows, PIECE // (pitch * (channels + filters))))
    # The columns beside the pictures stay 0; those beside the gradients too, which leaves out the turns of the list.
    x, g = pictures.new_zeros((most + kernel_y - 1, pitch, channels)), wanted.new_zeros((most, pitch, filters))
    for number in range(batch):
        for row in range(0, rows, most):
            count = min(most, rows - row)
            start, stop = row - pad_y, row - pad_y + count + kernel_y - 1
            top = min(max(0, start), stop)  # the picture's rows in the piece: none where it lies in the padding
            bottom = max(top, min(height, stop))
            x[: top - start].zero_()
            x[bottom - start : stop - start].zero_()
            x[top - start : bottom - start, pad_x : pad_x + width] = pictures[number, top:bottom]
            g[:count, :columns] = wanted[number, row : row + count]
            length = (count - 1) * pitch + columns
            left, right = g.view(-1, filters)[:length].t(), x.view(-1, channels)
            for i in range(kernel_y):
                for j in range(kernel_x):
                    distance = i * pitch + j
                    found[i, j].addmm_(left, right[distance : distance + length])


def _add_places(found: Tensor, pictures: Tensor, wanted: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> None:
    """Place by place of the kernel, with a copy of what it saw."""
    rows, columns, filters = wanted.shape[1:]
    padded = F.pad(pictures, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    left = wanted.reshape(-1, filters).t()
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            y, x = i * dilation[0], j * dilation[1]
            seen = padded[:, y : y + (rows - 1) * stride[0] + 1 : stride[0]]
            seen = seen[:, :, x : x + (columns - 1) * stride[1] + 1 : stride[1]]
            torch.mm(left, seen.reshape(-1, seen.shape[3]), out=found[i, j])


def _pair(values: Any) -> Pair:
    first, second = values
    return int(first), int(second)
