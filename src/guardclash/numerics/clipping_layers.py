"""Per-example parameter gradients of single layers, from a layer's input and the gradient of its output.

A rule takes a layer, its input and the gradient of the losses with respect to its output, both with the examples
along the first axis, and yields each parameter of the layer with its per-example gradients.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from guardclash.errors import UserError
from guardclash.numerics.clipping_gradients import Factors, Gradient, Known, Whole

Gradients = Iterator[tuple[Tensor, Gradient]]
Rule = Callable[[Any, Tensor, Tensor], Gradients]


def linear(layer: nn.Linear, inputs: Tensor, outgrad: Tensor) -> Gradients:
    """Weight and bias of a linear layer on inputs [examples, ..., features]."""
    left = outgrad.reshape(len(inputs), -1, layer.out_features)
    factors = Factors(left, inputs.reshape(len(inputs), -1, layer.in_features))
    yield layer.weight, factors if factors.worthwhile() else Whole(factors.whole())
    if layer.bias is not None:
        yield layer.bias, Whole(left.sum(1))


def layer_norm(layer: nn.LayerNorm, inputs: Tensor, outgrad: Tensor) -> Gradients:
    """Scale and shift of a layer norm."""
    normal = functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    shape = (len(inputs), -1, *layer.normalized_shape)
    yield layer.weight, Whole(normal.mul_(outgrad).reshape(shape).sum(1))
    if layer.bias is not None:
        yield layer.bias, Whole(outgrad.reshape(shape).sum(1))


def group_norm(layer: nn.GroupNorm, inputs: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Runs a group norm with a scale and shift of its own for each example, as if all were one example.

    Autograd's backward pass then finds the gradients of single examples on its way, at no extra cost. It runs on
    contiguous memory, where it is several times faster on a CPU than on the channels-last format.

    Args:
        layer: The layer, of which the scale and shift are not used.
        inputs: [examples, channels, ...].
        scale: [examples * channels].
        shift: [examples * channels].

    Returns:
        The output, in the memory format of the inputs.
    """
    joined = inputs.contiguous().view(1, -1, *inputs.shape[2:])
    output = torch.group_norm(joined, len(inputs) * layer.num_groups, scale, shift, layer.eps).view(inputs.shape)
    return output.contiguous(memory_format=torch.channels_last) if _is_channels_last(inputs) else output


def _is_channels_last(images: Tensor) -> bool:
    last = images.dim() == 4 and images.is_contiguous(memory_format=torch.channels_last)
    return last and not images.is_contiguous()


def convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor, outgrad: Tensor) -> Gradients:
    """Weight and bias of a convolution in one to three dimensions, with zero padding.

    There are three ways for the weight, of which the fastest is taken. Where inputs and outputs are small and the
    weight is large, the gradients are formed for their norms only, and their sum is formed by a common weight
    gradient. Few channels on a CPU take one grouped convolution. All others take products with input windows.
    """
    before, after = _padding(layer)
    area, entries = math.prod(outgrad.shape[2:]), inputs[0].numel() + outgrad[0].numel()
    pairs = layer.in_channels * layer.out_channels // layer.groups**2
    on_cpu = inputs.device.type == "cpu" and inputs.is_contiguous() and outgrad.is_contiguous()
    if before == after and area <= 64 and entries < layer.weight.numel():
        yield layer.weight, _norms_first(layer, inputs, outgrad)
    elif before == after and on_cpu and pairs <= 512 and layer.in_channels >= 8 * layer.groups:
        yield layer.weight, Whole(_as_groups(layer, inputs, outgrad))
    else:
        yield layer.weight, Whole(*_from_windows(layer, inputs, outgrad))
    if layer.bias is not None:
        yield layer.bias, Whole(outgrad.flatten(2).sum(2))


def _norms_first(layer: Any, inputs: Tensor, outgrad: Tensor) -> Known:
    """Weight gradients of which only the norms are kept."""

    def weighted_sum(weights: Tensor) -> Tensor:
        scaled = outgrad * weights.view(-1, *[1] * (outgrad.dim() - 1))
        return _weight_gradient(layer, inputs, scaled, layer.weight.shape, layer.groups)

    _, squares = _from_windows(layer, inputs, outgrad, keep=False)
    return Known(squares, lambda: _from_windows(layer, inputs, outgrad)[0], weighted_sum)


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
    form = (torch.nn.grad.conv1d_weight, torch.nn.grad.conv2d_weight, torch.nn.grad.conv3d_weight)[inputs.dim() - 3]
    before, _ = _padding(layer)
    return form(inputs, shape, outgrad, layer.stride, tuple(before), layer.dilation, groups)


def _from_windows(layer: Any, inputs: Tensor, outgrad: Tensor, keep: bool = True) -> tuple[Tensor, Tensor]:
    """Weight gradients by one batched product of output gradients and input windows per chunk of examples.

    The windows of a chunk are copied into one buffer, used again for the next chunk. In it either the values of a
    window or the positions of the windows lie next to each other, whichever makes longer runs to copy.

    Returns:
        The gradients, [examples, *weight shape], or without `keep` just those of some of the examples, and the
        squared norms of all of them, [examples].
    """
    examples, groups, positions, axes = len(inputs), layer.groups, outgrad.shape[2:], outgrad.dim() - 2
    window = (*layer.kernel_size, inputs.shape[1] // groups)
    size, area, outputs = math.prod(window), math.prod(positions), layer.out_channels // groups
    budget = 2**20 if inputs.device.type == "cpu" else 2**28  # bytes; on a CPU the buffer should stay in the cache
    step = min(examples, max(1, budget // (groups * area * size * inputs.element_size())))
    window_inner = math.prod(window[-2:]) >= positions[-1]
    interior, windows = _padded_windows(layer, inputs, positions, step, channels_last=window_inner)
    if not window_inner:
        windows = windows.movedim(tuple(range(2, 2 + axes)), tuple(range(-axes, 0)))
    buffer = inputs.new_empty(windows.shape)
    right = buffer.view(-1, area, size) if window_inner else buffer.view(-1, size, area)
    left = outgrad.reshape(-1, outputs, area)
    rows = step * groups  # of a chunk, in the batched product
    gradients = inputs.new_empty(len(left) if keep else rows, *((outputs, size) if window_inner else (size, outputs)))
    squares = inputs.new_empty(len(left))
    formed = gradients.split(rows) if keep else repeat(gradients)
    for entries, outs, products, norms in zip(inputs.split(step), left.split(rows), formed, squares.split(rows)):
        if len(entries) < step:  # the last chunk
            interior, windows, buffer = (tensor[: len(entries)] for tensor in (interior, windows, buffer))
            right, products = right[: len(outs)], products[: len(outs)]
        interior.copy_(entries)
        buffer.copy_(windows)
        torch.bmm(*((outs, right) if window_inner else (right, outs.mT)), out=products)
        torch.linalg.vector_norm(products, dim=(1, 2), out=norms)
    gradients = (gradients if window_inner else gradients.mT).unflatten(0, (-1, groups))
    gradients = gradients.reshape(-1, layer.out_channels, *window).movedim(-1, 2)
    return gradients, squares.square_().view(examples, groups).sum(1)


def _padded_windows(
    layer: Any, inputs: Tensor, positions: torch.Size, count: int, channels_last: bool
) -> tuple[Tensor, Tensor]:
    """Zeros for the padded inputs of `count` examples, seen in two ways.

    Returns:
        The interior, where the inputs belong, [count, channels, *spatial], and all windows,
        [count, groups, *positions, *kernel, channels of a group].
    """
    channels, spatial = inputs.shape[1], inputs.shape[2:]
    before, after = _padding(layer)
    lengths = [sum(sizes) for sizes in zip(before, spatial, after, strict=True)]
    if channels_last:
        padded = inputs.new_zeros(count, *lengths, channels).movedim(-1, 1)
    else:
        padded = inputs.new_zeros(count, channels, *lengths)
    interior = padded
    for axis, (start, length) in enumerate(zip(before, spatial, strict=True), start=2):
        interior = interior.narrow(axis, start, length)
    example, channel, *steps = padded.stride()
    width = channels // layer.groups
    strides = [step * stride for step, stride in zip(steps, layer.stride, strict=True)]
    dilations = [step * dilation for step, dilation in zip(steps, layer.dilation, strict=True)]
    windows = padded.as_strided(
        (count, layer.groups, *positions, *layer.kernel_size, width),
        (example, width * channel, *strides, *dilations, channel),
    )
    return interior, windows


def _padding(layer: Any) -> tuple[list[int], list[int]]:
    """Zeros before and after the input along each spatial axis."""
    if layer.padding == "valid":
        none = [0] * len(layer.kernel_size)
        return none, none
    if layer.padding == "same":
        totals = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [total // 2 for total in totals], [total - total // 2 for total in totals]
    return list(layer.padding), list(layer.padding)


# A subclass may compute something else, so types must match exactly.
RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.LayerNorm: layer_norm,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
}


def rule_of(layer: nn.Module) -> Rule | None:
    """The rule of a layer, None where only `by_vmap` will do."""
    zeros = getattr(layer, "padding_mode", "zeros") == "zeros"
    return RULES.get(type(layer)) if is_plain(layer) and zeros else None


def is_plain(layer: nn.Module) -> bool:
    """Whether all parameters of a layer are its weight and bias, not others that these are computed from."""
    return {name for name, _ in layer.named_parameters()} <= {"weight", "bias"}


def by_vmap(
    title: str, layer: nn.Module, arguments: tuple[Any, dict[str, Any]], position: int, outgrad: Tensor
) -> Gradients:
    """Gradients of any layer that treats examples independently: it runs again on single examples, vectorised.

    Args:
        title: The layer's name, for messages.
        layer: The layer, in the state that it ran in.
        arguments: Positional and named arguments of its call. Tensors whose first axis is as long as that of
            `outgrad` hold one entry per example; all others belong to all examples.
        position: Which of the tensors in the output `outgrad` belongs to.
        outgrad: [examples, ...], the gradient of that output.

    Raises:
        UserError: If `torch.func` cannot do it.
    """
    parameters = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    leaves, structure = tree_flatten(arguments)
    leaves = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    split = [isinstance(leaf, Tensor) and leaf.shape[:1] == outgrad.shape[:1] for leaf in leaves]

    def gradients(gradient: Tensor, *entries: Tensor) -> dict[str, Tensor]:
        rest = iter(entries)
        args, kwargs = tree_unflatten(
            [next(rest)[None] if s else x for s, x in zip(split, leaves, strict=True)], structure
        )

        def output(values: dict[str, Tensor]) -> Tensor:
            results = tree_leaves(functional_call(layer, values, args, kwargs))
            return [leaf for leaf in results if isinstance(leaf, Tensor)][position][0]

        value, pull = vjp(output, parameters)
        return pull(gradient.to(value.dtype))[0]

    try:
        with warnings.catch_warnings():  # that vmap is slow for an operation is nothing the user can change
            warnings.filterwarnings("ignore", "There is a performance drop")
            found = vmap(gradients)(outgrad, *(leaf for leaf, own in zip(leaves, split, strict=True) if own))
    except Exception as error:
        what = f"torch.func could not form the gradients of single examples of {title}: {error}"
        mend = "Its forward method must treat examples independently, draw no random numbers and change no buffers."
        raise UserError(what, mend=mend) from error
    for name, parameter in parameters.items():
        yield parameter, Whole(found[name])
