"""Per-example gradients of convolutions, in the way that is fastest for their shape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import grad as weight_gradients

from guardclash.numerics.clipping_gradients import Gradient, Known, Whole

FEW_POSITIONS = 64
"""Up to here a second weight gradient costs less than to store the gradients of all examples and to read them."""
FEW_PAIRS = 512
"""Up to so many pairs of an input and an output channel, copying windows costs too much for what is done with them."""
BUFFER = {"cpu": 2**20}
"""Bytes for the windows of a chunk of examples: on a CPU they should stay in the second-level cache."""


def convolution(
    layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor, outgrad: Tensor
) -> Iterator[tuple[Tensor, Gradient]]:
    """Weight and bias of a convolution in one to three dimensions, with zero padding.

    Three ways for the weight: With few positions and a large weight, gradients are formed for their norms only, and
    their sum by one more, ordinary weight gradient. With few channels on a CPU, they come from one grouped convolution.
    Else they are products of output gradients and input windows.
    """
    before, after = _padding(layer)
    area, numbers = math.prod(outgrad.shape[2:]), inputs[0].numel() + outgrad[0].numel()
    pairs = layer.in_channels * layer.out_channels // layer.groups**2
    plain = inputs.device.type == "cpu" and inputs.is_contiguous() and outgrad.is_contiguous()
    if before == after and area <= FEW_POSITIONS and numbers < layer.weight.numel():
        yield layer.weight, _norms_first(layer, inputs, outgrad)
    elif before == after and plain and pairs <= FEW_PAIRS and layer.in_channels >= 8 * layer.groups:
        yield layer.weight, Whole(_as_groups(layer, inputs, outgrad))
    else:
        yield layer.weight, Whole(*_from_windows(layer, inputs, outgrad, keep=True))
    if layer.bias is not None:
        yield layer.bias, Whole(outgrad.flatten(2).sum(2))


def _norms_first(layer: Any, inputs: Tensor, outgrad: Tensor) -> Known:
    """Weight gradients of which only the norms are kept."""

    def weighted_sum(weights: Tensor) -> Tensor:
        scaled = outgrad * weights.view(-1, *[1] * (outgrad.dim() - 1))
        return _weight_gradient(layer, inputs, scaled, layer.weight.shape, layer.groups)

    _, squares = _from_windows(layer, inputs, outgrad, keep=False)
    return Known(squares, lambda: _from_windows(layer, inputs, outgrad, keep=True)[0], weighted_sum)


def _as_groups(layer: Any, inputs: Tensor, outgrad: Tensor) -> Tensor:
    """Weight gradients as those of one grouped convolution in which the channels of each example are a group."""
    found = []
    for entries, outs in zip(inputs.split(64), outgrad.split(64), strict=True):
        joined, outs = (part.reshape(1, -1, *part.shape[2:]) for part in (entries, outs))
        shape = (outs.shape[1], *layer.weight.shape[1:])
        weights = _weight_gradient(layer, joined, outs, shape, len(entries) * layer.groups)
        found.append(weights.view(-1, *layer.weight.shape))
    return torch.cat(found)


def _weight_gradient(layer: Any, inputs: Tensor, outgrad: Tensor, shape: tuple[int, ...], groups: int) -> Tensor:
    form = (weight_gradients.conv1d_weight, weight_gradients.conv2d_weight, weight_gradients.conv3d_weight)[
        inputs.dim() - 3
    ]
    before, _ = _padding(layer)
    return form(inputs, shape, outgrad, layer.stride, tuple(before), layer.dilation, groups)


def _from_windows(layer: Any, inputs: Tensor, outgrad: Tensor, *, keep: bool) -> tuple[Tensor, Tensor]:
    """Weight gradients by one batched product of output gradients and input windows per chunk of examples.

    Returns:
        The gradients, [examples, *weight shape], or without `keep` just some of them, and the squared norms of all,
        [examples].
    """
    windows = _Windows(layer, inputs, outgrad.shape[2:])
    outs = outgrad.reshape(-1, layer.out_channels // layer.groups, windows.area)
    rows = windows.step * layer.groups  # of a chunk, in the batched product
    shape = (len(outs) if keep else rows, outs.shape[1], windows.size)
    gradients = inputs.new_empty(shape) if windows.inner else inputs.new_empty(shape[0], shape[2], shape[1]).mT
    squares = inputs.new_empty(len(outs))
    formed = gradients.split(rows) if keep else repeat(gradients)
    for entries, left, products, norms in zip(  # noqa: B905
        inputs.split(windows.step), outs.split(rows), formed, squares.split(rows)
    ):
        right = windows.of(entries)
        products = products if len(products) == len(left) else products[: len(left)]
        if windows.inner:
            torch.bmm(left, right, out=products)
        else:  # the transposed product, as it is the one that is contiguous
            torch.bmm(right.mT, left.mT, out=products.mT)
        torch.linalg.vector_norm(products, dim=(1, 2), out=norms)
    gradients = gradients.reshape(-1, layer.out_channels, *windows.shape).movedim(-1, 2)
    return gradients, squares.square_().view(len(inputs), layer.groups).sum(1)


class _Windows:
    """Lays the input windows of a few examples at a time side by side, in one buffer for all of them.

    Args:
        layer: The convolution.
        inputs: Its input, [examples, channels, *spatial].
        positions: How many windows there are along each spatial axis.

    Attributes:
        shape: Shape of a window, (*kernel, channels of a group).
        size: Numbers in a window.
        area: Number of windows.
        step: Number of examples at a time.
        inner: Whether the numbers of a window lie next to each other, else one number of all windows. Whatever lies
            next to each other in the input too is copied faster, so this depends on which run is longer.
    """

    def __init__(self, layer: Any, inputs: Tensor, positions: torch.Size):
        width, axes = inputs.shape[1] // layer.groups, len(positions)
        self.shape = (*layer.kernel_size, width)
        self.size, self.area = math.prod(self.shape), math.prod(positions)
        budget = BUFFER.get(inputs.device.type, 2**28)
        wanted = budget // (layer.groups * self.area * self.size * inputs.element_size())
        self.step = min(len(inputs), max(1, wanted))
        self.inner = math.prod(self.shape[-2:]) >= positions[-1]
        padded, self._interior = self._padded(layer, inputs)
        example, channel, *steps = padded.stride()
        strides = [step * stride for step, stride in zip(steps, layer.stride, strict=True)]
        dilations = [step * dilation for step, dilation in zip(steps, layer.dilation, strict=True)]
        self._source = padded.as_strided(
            (self.step, layer.groups, *positions, *self.shape),
            (example, width * channel, *strides, *dilations, channel),
        )
        if not self.inner:
            self._source = self._source.movedim(tuple(range(2, 2 + axes)), tuple(range(-axes, 0)))
        self._buffer = inputs.new_empty(self._source.shape)

    def _padded(self, layer: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros for a few padded inputs, and the part of them where the inputs go."""
        before, after = _padding(layer)
        lengths = [sum(sizes) for sizes in zip(before, inputs.shape[2:], after, strict=True)]
        if self.inner:
            padded = inputs.new_zeros(self.step, *lengths, inputs.shape[1]).movedim(-1, 1)
        else:
            padded = inputs.new_zeros(self.step, inputs.shape[1], *lengths)
        interior = padded
        for axis, (start, length) in enumerate(zip(before, inputs.shape[2:], strict=True), start=2):
            interior = interior.narrow(axis, start, length)
        return padded, interior

    def of(self, entries: Tensor) -> Tensor:
        """The windows of at most `step` examples, [examples * groups, area, size], until it is called again."""
        interior, source, buffer = self._interior, self._source, self._buffer
        if len(entries) < self.step:
            interior, source, buffer = (tensor[: len(entries)] for tensor in (interior, source, buffer))
        interior.copy_(entries)
        buffer.copy_(source)
        return buffer.view(-1, self.area, self.size) if self.inner else buffer.view(-1, self.size, self.area).mT


def _padding(layer: Any) -> tuple[list[int], list[int]]:
    """Zeros before and after the input along each spatial axis."""
    if layer.padding == "valid":
        none = [0] * len(layer.kernel_size)
        return none, none
    if layer.padding == "same":
        totals = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [total // 2 for total in totals], [total - total // 2 for total in totals]
    return list(layer.padding), list(layer.padding)
