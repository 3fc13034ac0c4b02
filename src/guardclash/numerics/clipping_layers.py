"""Per-example parameter gradients of single layers, from a layer's input and the gradient of its output.

A rule takes a layer, its input and the gradient of the losses with respect to its output, both with the examples
along the first axis, and yields each parameter of the layer with its per-example gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.numerics.clipping_convolution import convolution
from guardclash.numerics.clipping_gradients import Factors, Gradient, Whole

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
    """Whether a layer does what its type says, with no other parameters than its weight and bias."""
    return not layer._modules and layer._parameters.keys() <= {"weight", "bias"} and "forward" not in vars(layer)


SEVERAL = (linear, layer_norm)
"""Rules that also take several rows for each example, [examples, rows, ...]."""
