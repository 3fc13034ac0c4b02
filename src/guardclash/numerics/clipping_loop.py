"""Per-example parameter gradients by a loop over the examples: slow, for what cannot be vectorised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

from guardclash.errors import UserError
from guardclash.numerics.clipping_gradients import Gradient, Whole


def by_loop(
    layer: nn.Module, gradients: Callable[..., dict[str, Tensor]], entries: tuple[Tensor, ...]
) -> dict[str, Tensor] | None:
    """The gradients of each example, one after another.

    Args:
        layer: The layer that runs again.
        gradients: Of one example: parameter gradients by name, from its entry of each tensor.
        entries: [examples, ...] each.

    Returns:
        [examples, *parameter shape] by name; None where it cannot be done, or where the layer draws random numbers or
        changes buffers, so that what runs again is not what ran.
    """
    buffers, state = [buffer.clone() for buffer in layer.buffers()], _chance(entries)
    try:
        found = [gradients(*one) for one in zip(*entries, strict=True)]
    except Exception:  # the caller tells why it could not be vectorised, which is the nearer cause
        return None
    if not all(map(torch.equal, state, _chance(entries))) or not all(map(torch.equal, buffers, layer.buffers())):
        for buffer, before in zip(layer.buffers(), buffers, strict=True):
            buffer.copy_(before)
        torch.random.set_rng_state(state[0])
        return None
    names = found[0] if found else {}
    return {name: torch.stack([one[name] for one in found]) for name in names}


def _chance(entries: tuple[Tensor, ...]) -> list[Tensor]:
    """The states of the generators that a layer may draw from: the processor's, and that of its GPU."""
    devices = dict.fromkeys(entry.device for entry in entries if entry.device.type == "cuda")
    return [torch.random.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]


def recurrent(
    title: str,
    layer: nn.RNNBase,
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    position: int,
    outgrad: Tensor,
    examples: int,
) -> Iterator[tuple[Tensor, Gradient]]:
    """Gradients of an LSTM, GRU or RNN, whose examples lie along the first or the second axis.

    Args:
        title: The layer's name, for messages.
        layer: The layer.
        arguments: Positional and named arguments of its call: a padded input [.., .., features], and states.
        position: Which of the tensors in its output `outgrad` belongs to: 0, the output; else a last state.
        outgrad: The gradient of that output.
        examples: How many there are.

    Raises:
        UserError: If the input is packed or has no axis of examples, or dropout between its layers is on.
    """
    args, kwargs = arguments
    given = [*args, *kwargs.values()]
    x = given[0]
    if isinstance(x, PackedSequence) or not isinstance(x, Tensor) or x.dim() != 3:
        mend = "Give it a padded tensor of three axes."
        raise UserError(f"{title} does not run on a padded batch of sequences", where="losses", mend=mend)
    if layer.training and layer.dropout and layer.num_layers > 1:
        raise UserError(f"{title} has dropout between its layers", where="losses", mend="Set its dropout to 0.")
    along = 0 if layer.batch_first else 1
    across = along if position == 0 else 1
    if x.shape[along] != examples or outgrad.shape[across] != examples:
        got, allowed = tuple(x.shape), f"{examples} along axis {along}"
        raise UserError(f"{title} did not run on one sequence per example", where="losses", got=got, allowed=allowed)
    states = [leaf.detach() for leaf in tree_leaves(given[1:]) if isinstance(leaf, Tensor)]
    parameters = {name: one for name, one in layer.named_parameters() if one.requires_grad}
    found: list[tuple[Tensor, ...]] = []
    for number in range(examples):
        own = [state.narrow(1, number, 1).contiguous() for state in states]
        state = (tuple(own) if len(own) > 1 else own[0],) if own else ()
        with torch.enable_grad():
            output = tree_leaves(layer(x.detach().narrow(along, number, 1), *state))[position]
            gradient = outgrad.narrow(across, number, 1).to(output.dtype)
            found.append(torch.autograd.grad(output, list(parameters.values()), gradient, materialize_grads=True))
    for parameter, gradients in zip(parameters.values(), zip(*found, strict=True), strict=True):
        yield parameter, Whole(torch.stack(gradients))
