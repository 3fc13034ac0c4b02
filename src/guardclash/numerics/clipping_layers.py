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
from guardclash.numerics.clipping_loop import by_loop

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


def by_vmap(
    title: str,
    layer: nn.Module,
    arguments: tuple[Any, dict[str, Any]],
    position: int,
    outgrad: Tensor,
    rows: tuple[int, ...] | None = None,
    bare: bool = False,
) -> Gradients:
    """Gradients of any layer that treats examples independently: it runs again on single examples, vectorised.

    Args:
        title: The layer's name, for messages.
        layer: The layer, in the state that it ran in.
        arguments: Positional and named arguments of its call.
        position: Which of the tensors in the output `outgrad` belongs to.
        outgrad: [examples, ...], the gradient of that output; [examples, rows, ...] where an example has several rows.
        rows: For each tensor among the arguments, its rows for each example; 0: it belongs to all examples. None: one
            row where the first axis is as long as that of `outgrad`, else 0.
        bare: Whether the output has no axis of examples, so that `outgrad` holds it whole for each.

    Raises:
        UserError: If neither `torch.func` nor a loop over the examples can do it.
    """
    parameters = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    leaves, structure = tree_flatten(arguments)
    leaves = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    counts = iter(rows or ())
    each = [_rows_of(leaf, outgrad, counts if rows else None) for leaf in leaves]
    several = max(each, default=0) > 1
    entries = [_apart(leaf, count) for leaf, count in zip(leaves, each, strict=True) if count]

    def gradients(gradient: Tensor, *own: Tensor) -> dict[str, Tensor]:
        rest = iter(own)
        parts = [
            (next(rest) if count > 1 else next(rest)[None]) if count else leaf
            for leaf, count in zip(leaves, each, strict=True)
        ]
        args, kwargs = tree_unflatten(parts, structure)

        def output(values: dict[str, Tensor]) -> Tensor:
            results = tree_leaves(functional_call(layer, values, args, kwargs))
            whole: Tensor = [leaf for leaf in results if isinstance(leaf, Tensor)][position]
            return whole if several or bare else whole[0]

        value, pull, *_ = vjp(output, parameters)
        return pull(gradient.to(value.dtype))[0]

    try:
        with warnings.catch_warnings():  # that vmap is slow for an operation is nothing the user can change
            warnings.filterwarnings("ignore", "There is a performance drop")
            found = vmap(gradients)(outgrad, *entries)
    except Exception as error:
        looped = by_loop(layer, gradients, (outgrad, *entries))
        if looped is None:
            what = f"torch.func could not form the gradients of single examples of {title}: {error}"
            mend = "Its forward method must treat examples independently, draw no random numbers and change no buffers."
            raise UserError(what, mend=mend) from error
        found = looped
    for name, parameter in parameters.items():
        yield parameter, Whole(found[name])


def _rows_of(leaf: Any, outgrad: Tensor, counts: Iterator[int] | None) -> int:
    if not isinstance(leaf, Tensor):
        return 0
    return int(leaf.shape[:1] == outgrad.shape[:1]) if counts is None else next(counts)


def _apart(leaf: Tensor, count: int) -> Tensor:
    return leaf if count == 1 else leaf.reshape(-1, count, *leaf.shape[1:])
