"""Per-example parameter gradients of any layer that treats examples independently: it runs again on single examples."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from guardclash.errors import UserError
from guardclash.numerics.clipping_checks import close
from guardclash.numerics.clipping_gradients import Whole
from guardclash.numerics.clipping_layers import Gradients
from guardclash.numerics.clipping_loop import by_loop
from guardclash.numerics.inexact import exactly


@dataclass(frozen=True)
class Again:
    """A call that runs again, and whose rows its tensors hold.

    Fields:
        title: The layer's name, for messages.
        layer: The layer, in the state that it ran in.
        arguments: Positional and named arguments of its call.
        position: Which of the tensors in its output counts.
        rows: For each tensor among the arguments, its rows for each example; 0: it belongs to all examples. None: one
            row where the first axis is as long as that of the output's gradient, else 0.
        bare: Whether the output has no axis of examples, as it is the same for all of them.
        buffers: By name, the layer's buffers as they were, where the call changes them.
    """

    title: str
    layer: nn.Module
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    position: int
    rows: tuple[int, ...] | None
    bare: bool
    buffers: Mapping[str, Tensor]

    def output(self, parameters: Mapping[str, Tensor], call: Any) -> Tensor:
        """The tensor that counts in what the layer gives on other arguments, with other parameters."""
        given = {**parameters, **{name: buffer.clone() for name, buffer in self.buffers.items()}}
        with exactly():  # what rounds draws chance, which vectorised layers cannot
            results = tree_leaves(functional_call(self.layer, given, *call))
        return [leaf for leaf in results if isinstance(leaf, Tensor)][self.position]


def by_vmap(again: Again, outgrad: Tensor, *, check: bool = False) -> Gradients:
    """Gradients of all examples at once, vectorised by `torch.func`; where that cannot be, one after the other.

    Args:
        again: The call.
        outgrad: [examples, ...], the gradient of that output; [examples, rows, ...] where an example has several rows;
            the output's whole shape for each example where it is bare.
        check: Whether to look if the layer gives the same on single examples as on the batch.

    Raises:
        UserError: If neither `torch.func` nor a loop over the examples can do it, or single examples give something
            else.
    """
    parameters: dict[str, Tensor] = {name: p for name, p in again.layer.named_parameters() if p.requires_grad}
    leaves, structure = tree_flatten(again.arguments)
    leaves = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    counts = iter(again.rows or ())
    each = [_rows_of(leaf, outgrad, counts if again.rows else None) for leaf in leaves]
    several = max(each, default=0) > 1
    entries = [_apart(leaf, count) for leaf, count in zip(leaves, each, strict=True) if count]

    def alone(values: Mapping[str, Tensor], own: Sequence[Tensor]) -> Tensor:
        rest = iter(own)
        parts = [
            (next(rest) if count > 1 else next(rest)[None]) if count else leaf
            for leaf, count in zip(leaves, each, strict=True)
        ]
        return again.output(values, tree_unflatten(parts, structure))

    def gradients(gradient: Tensor, *own: Tensor) -> dict[str, Tensor]:
        def output(values: dict[str, Tensor]) -> Tensor:
            whole = alone(values, own)
            return whole if several or again.bare else whole[0]

        value, pull, *_ = vjp(output, parameters)
        return pull(gradient.to(value.dtype))[0]

    if check and entries:
        with torch.no_grad():
            whole = again.output(parameters, tree_unflatten(leaves, structure))
            singles = [alone(parameters, own) for own in zip(*entries, strict=True)]
        if not close(singles, whole):
            what = f"{again.title} gives something else on a single example than in a batch"
            mend = "Its forward method must treat examples independently, draw no random numbers and change no buffers."
            raise UserError(what, where="losses", mend=mend)
    found = _all(again, gradients, (outgrad, *entries))
    for name, parameter in parameters.items():
        yield parameter, Whole(found[name])


def _all(again: Again, gradients: Any, entries: tuple[Tensor, ...]) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # that vmap is slow for an operation is nothing the user can change
            warnings.filterwarnings("ignore", "There is a performance drop")
            return vmap(gradients)(*entries)
    except Exception as error:
        found = by_loop(again.layer, gradients, entries)
        if found is None:
            what = f"torch.func could not form the gradients of single examples of {again.title}: {error}"
            mend = "Its forward method must treat examples independently, draw no random numbers and change no buffers."
            raise UserError(what, mend=mend) from error
        return found


def _rows_of(leaf: Any, outgrad: Tensor, counts: Iterator[int] | None) -> int:
    if not isinstance(leaf, Tensor):
        return 0
    return int(leaf.shape[:1] == outgrad.shape[:1]) if counts is None else next(counts)


def _apart(leaf: Tensor, count: int) -> Tensor:
    return leaf if count == 1 else leaf.reshape(-1, count, *leaf.shape[1:])
