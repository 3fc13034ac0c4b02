"""Autograd's graph from the losses back to where parameters come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from guardclash.errors import UserError
from guardclash.numerics.clipping_calls import Call, Copies

Ends = dict[GradientEdge, Copies | None]
"""Where a backward pass ends, with what stands for a parameter there."""
NOTHING: tuple[Ends, set[tuple[Call, int]]] = ({}, set())
"""What is found where there is nothing to go back from."""


def ends_of(
    losses: Tensor, calls: Mapping[Node, Call], copies: Mapping[int, Copies], check: Callable[[Tensor], None]
) -> tuple[Ends, set[tuple[Call, int]]]:
    """Where the backward pass may end, because nothing before it depends on a trainable parameter.

    From the output of a recorded call it goes on at the inputs of the call, so a trainable parameter is met only where
    it is used outside of the recorded calls.

    Args:
        losses: [B].
        calls: The recorded calls, by where their outputs are in the graph.
        copies: Copies of parameters, by `id` of what autograd takes for them.
        check: Gets each leaf of the graph that is met, and refuses it where it is a parameter.

    Returns:
        The ends; and the calls on the way, with the positions of their outputs there.
    """
    ends: Ends = {}
    seen: set[Node] = set()
    edges: set[tuple[Node | None, int]] = set()
    met: dict[Call, None] = {}
    ahead: list[tuple[Node | None, int]] = [_place(get_gradient_edge(losses))]
    while ahead:
        node, _ = edge = ahead.pop()
        edges.add(edge)
        if node is None or node in seen:
            continue
        seen.add(node)
        call, kind = calls.get(node), node.name().rsplit("::", 1)[-1]
        if call is not None:
            met[call] = None
            ahead.extend(map(_place, call.sources))
            ends.update(dict.fromkeys(() if call.sources else call.outputs.values()))
            continue
        if kind == "AccumulateGrad":
            leaf: Tensor = node.variable  # type: ignore[attr-defined]
            check(leaf)
            ends[get_gradient_edge(leaf)] = copies.get(id(leaf))
        elif kind == "CheckpointFunctionBackward":
            mend = "Call torch.utils.checkpoint.checkpoint with use_reentrant=False."
            raise UserError("reentrant checkpoints hide the layers that they run", where="losses", mend=mend)
        ahead.extend(node.next_functions)
    return ends, {(call, nr) for call in met for nr, edge in call.outputs.items() if _place(edge) in edges}


def _place(edge: GradientEdge) -> tuple[Node, int]:
    return edge.node, edge.output_nr
