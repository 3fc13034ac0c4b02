"""Per-example parameter gradients of single layers, from a layer's input and the gradient of its output.

A rule takes a layer, its input and the gradient of the losses with respect to its output, both with the examples
along the first axis, and yields each parameter of the layer with its per-example gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from guardclash.errors import UserError
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

        value, pull, *_ = vjp(output, parameters)
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
