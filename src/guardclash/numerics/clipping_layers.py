"""Per-example parameter gradients of single layers, from a layer's input and the gradient of its output.

A rule takes a layer, its input and the gradient of the loss with respect to its output, both with the examples along
the first axis, and yields the parameters of the layer with their per-example gradients. A gradient is either a
tensor [examples, *parameter shape] or, for a matrix, a pair of `Factors` whose product it is (book-keeping, Bu et
al. 2023, "Differentially private optimization on large model at small cost").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Factors(NamedTuple):
    """Per-example gradients of a matrix that are never formed: that of example b is `left[b].T @ right[b]`.

    Fields:
        left: Gradients of the outputs, [examples, terms, rows of the matrix].
        right: Inputs that they belong to, [examples, terms, columns of the matrix].
    """

    left: Tensor
    right: Tensor


Gradients = Iterator[tuple[nn.Parameter | None, "Tensor | Factors"]]


def linear(layer: nn.Linear, inputs: Tensor, outgrad: Tensor) -> Gradients:
    """Weight and bias of a linear layer on inputs [examples, ..., features]."""
    rows = outgrad.reshape(len(inputs), -1, layer.out_features)
    columns = inputs.reshape(len(inputs), -1, layer.in_features)
    terms, size = rows.shape[1], layer.weight.numel()
    # Factors need their own storage and two Gram matrices per example.
    factored = terms * (layer.in_features + layer.out_features) + 2 * terms**2 < size
    yield layer.weight, Factors(rows, columns) if factored else rows.mT @ columns
    yield layer.bias, rows.sum(1)


def layer_norm(layer: nn.LayerNorm, inputs: Tensor, outgrad: Tensor) -> Gradients:
    """Scale and shift of a layer norm."""
    normal = functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    shape = (len(inputs), -1, *layer.normalized_shape)
    yield layer.weight, (normal * outgrad).reshape(shape).sum(1)
    yield layer.bias, outgrad.reshape(shape).sum(1)


def group_norm(layer: nn.GroupNorm, inputs: Tensor, outgrad: Tensor) -> Gradients:
    """Scale and shift of a group norm."""
    normal = functional.group_norm(inputs, layer.num_groups, eps=layer.eps)
    shape = (*inputs.shape[:2], -1)
    yield layer.weight, torch.linalg.vecdot(normal.reshape(shape), outgrad.reshape(shape))
    yield layer.bias, outgrad.reshape(shape).sum(2)


def convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor, outgrad: Tensor) -> Gradients:
    """Weight and bias of a convolution."""
    yield layer.weight, _convolution_weight(layer, inputs, outgrad)
    yield layer.bias, outgrad.flatten(2).sum(2)


def _convolution_weight(layer: Any, inputs: Tensor, outgrad: Tensor) -> Tensor:
    """One batched matrix product of output gradients and input windows per chunk of examples.

    The windows of a chunk are copied into one buffer that is used again for each chunk; it is about the size of a
    CPU's second-level cache, which was the fastest of the sizes tried. Either the channels of a window or the
    positions of the windows lie next to each other in it, whichever makes the longer runs to copy.
    """
    groups, positions = layer.groups, outgrad.shape[2:]
    window = (*layer.kernel_size, inputs.shape[1] // groups)
    size, area, outputs = math.prod(window), math.prod(positions), layer.out_channels // groups
    budget = 2**21 if inputs.device.type == "cpu" else 2**28
    chunk = max(1, min(len(inputs), budget // (groups * area * size * inputs.element_size())))
    channels_inner = math.prod(window[-2:]) >= positions[-1]
    interior, windows = _padded_windows(layer, inputs, positions, chunk, channels_inner)
    if channels_inner:
        buffer = torch.empty_like(windows, memory_format=torch.contiguous_format)
        columns = buffer.view(chunk * groups, area, size)
    else:
        windows = windows.permute(0, 1, *range(2 + len(positions), windows.dim()), *range(2, 2 + len(positions)))
        buffer = torch.empty_like(windows, memory_format=torch.contiguous_format)
        columns = buffer.view(chunk * groups, size, area).mT
    gradient = inputs.new_empty(len(inputs) * groups, outputs, size)
    for start in range(0, len(inputs), chunk):
        part = slice(start, start + chunk)
        count = len(inputs[part])
        interior[:count].copy_(inputs[part])
        buffer[:count].copy_(windows[:count])
        rows = outgrad[part].reshape(count * groups, outputs, area)
        out = gradient[start * groups : (start + count) * groups]
        torch.bmm(rows, columns[: count * groups], out=out)
    return gradient.view(len(inputs), layer.out_channels, *window).movedim(-1, 2)


def _padded_windows(
    layer: Any, inputs: Tensor, positions: torch.Size, chunk: int, channels_inner: bool
) -> tuple[Tensor, Tensor]:
    """Room for padded inputs of `chunk` examples: its interior, and a view of all windows of it.

    Returns:
        The interior, [chunk, channels, *spatial], and the windows, [chunk, groups, *positions, *kernel, channels of
        a group], which share the same memory.
    """
    channels, spatial = inputs.shape[1], inputs.shape[2:]
    padding = _padding(layer)
    padded_spatial = [length + sum(pair) for length, pair in zip(spatial, padding, strict=True)]
    if channels_inner:
        padded = inputs.new_zeros(chunk, *padded_spatial, channels).movedim(-1, 1)
    else:
        padded = inputs.new_zeros(chunk, channels, *padded_spatial)
    inner = [slice(before, before + length) for (before, _), length in zip(padding, spatial, strict=True)]
    example, channel, *steps = padded.stride()
    each = channels // layer.groups
    windows = padded.as_strided(
        (chunk, layer.groups, *positions, *layer.kernel_size, each),
        (
            example,
            each * channel,
            *(step * stride for step, stride in zip(steps, layer.stride, strict=True)),
            *(step * dilation for step, dilation in zip(steps, layer.dilation, strict=True)),
            channel,
        ),
    )
    return padded[(slice(None), slice(None), *inner)], windows


def _padding(layer: Any) -> list[tuple[int, int]]:
    """Zeros before and after the input along each spatial axis."""
    if layer.padding == "valid":
        return [(0, 0) for _ in layer.kernel_size]
    if layer.padding == "same":
        totals = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(amount, amount) for amount in layer.padding]


def rule_of(layer: nn.Module) -> Callable[[Any, Tensor, Tensor], Gradients] | None:
    """The rule of a layer; None where only the general way of `torch.func` will do.

    Types are compared exactly: a subclass may compute something else.
    """
    if isinstance(getattr(layer, "padding_mode", "zeros"), str) and getattr(layer, "padding_mode", "zeros") != "zeros":
        return None
    return _RULES.get(type(layer))


_RULES: dict[type, Callable[[Any, Tensor, Tensor], Gradients]] = {
    nn.Linear: linear,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
}
