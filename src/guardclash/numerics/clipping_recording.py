"""Follows the calls of a network's modules and gathers per-example gradients of its parameters on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_leaves

from guardclash.errors import UserError
from guardclash.numerics.clipping_gradients import PerExample
from guardclash.numerics.clipping_layers import Gradients, by_vmap, rule_of


@dataclass(eq=False)
class _Call:
    """One call of a module.

    Fields:
        title: The module for messages.
        module: The module.
        arguments: Positional and named arguments.
        versions: How often each tensor of the arguments had been changed in place when the call began.
        sources: Where those tensors are in autograd's graph, for those that are in it.
        outputs: Where the tensors of the output are in autograd's graph.
    """

    title: str
    module: nn.Module
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    versions: list[int]
    sources: list[GradientEdge]
    outputs: list[GradientEdge] = field(default_factory=list)


class Recording:
    """The calls of a network's modules, and what becomes of them as gradients arrive.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module):
        self._units = {module: name for name, module in _units(network)}
        self._trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._names = {id(p): name for name, p in self._trainable.items()}
        self._calls: dict[Node, _Call] = {}
        self._running: list[_Call] = []
        self._gathered: dict[str, PerExample] = {}
        self._examples = 0

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Records the calls of all units while it lasts.

        A rule needs what the module's own `forward` sees. A module without a rule is called once more, with all
        hooks that others gave to it, so there the arguments before and the output after those hooks count.
        """
        with ExitStack() as stack:
            for module, name in self._units.items():
                ruled = rule_of(module) is not None
                before = partial(self._before, f"{name or 'the network'!r} ({type(module).__name__})")
                handle = module.register_forward_pre_hook(before, prepend=not ruled, with_kwargs=True)
                stack.callback(handle.remove)
                stack.callback(module.register_forward_hook(self._after, prepend=ruled).remove)
            yield

    def _before(self, title: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = _tensors((args, kwargs))
        sources = [get_gradient_edge(tensor) for tensor in tensors if tensor.requires_grad]
        self._running.append(_Call(title, module, (args, kwargs), [t._version for t in tensors], sources))

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = self._running.pop()
        if self._running:
            return  # This call is a part of another one.
        passed = {(edge.node, edge.output_nr) for edge in call.sources}
        for position, tensor in enumerate(_tensors(output)):
            edge = get_gradient_edge(tensor) if tensor.requires_grad else None
            if edge is not None and (edge.node, edge.output_nr) not in passed:
                # Registered here, not later: a hook belongs to the value that the tensor has now, whatever is
                # done to the tensor in place afterwards.
                tensor.register_hook(partial(self._arrived, call, position))
                call.outputs.append(edge)
                self._calls[edge.node] = call

    def gather(self, losses: Tensor) -> dict[str, PerExample]:
        """Goes back from the losses, [B], through the recorded calls.

        Returns:
            Parameter name -> its per-example gradients.
        """
        self._examples = len(losses)
        self._gathered = {name: PerExample(parameter, len(losses)) for name, parameter in self._trainable.items()}
        if len(losses) and losses.requires_grad:
            ends = self._ends(get_gradient_edge(losses).node)
            if ends:
                torch.autograd.grad(losses.sum(), ends, allow_unused=True)
        self._forget()
        return self._gathered

    def _forget(self) -> None:
        """Breaks the circle of calls, graph and hooks, which would keep the memory until the garbage collection."""
        for call in self._calls.values():
            call.sources, call.outputs = [], []
        self._calls.clear()

    def _ends(self, start: Node) -> list[GradientEdge]:
        """Where the backward pass may end, because nothing before it depends on a trainable parameter.

        Walks autograd's graph from the losses. From the output of a recorded call it goes on at the inputs of the
        call, so a trainable parameter is met only where it is used outside of the recorded calls.
        """
        ends: list[GradientEdge] = []
        seen: set[Node] = set()
        ahead: list[Node | None] = [start]
        while ahead:
            node = ahead.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            call = self._calls.get(node)
            if call is not None:
                ahead.extend(edge.node for edge in call.sources)
                ends.extend(() if call.sources else call.outputs)
                continue
            kind = node.name().rsplit("::", 1)[-1]
            if kind == "AccumulateGrad":
                _refuse_stray(self._names.get(id(node.variable)))  # type: ignore[attr-defined]
                ends.append(get_gradient_edge(node.variable))  # type: ignore[attr-defined]
            elif kind == "CheckpointFunctionBackward":
                mend = "Call torch.utils.checkpoint.checkpoint with use_reentrant=False."
                raise UserError("reentrant checkpoints hide the layers that they run", where="losses", mend=mend)
            ahead.extend(parent for parent, _ in node.next_functions)
        return ends

    def _arrived(self, call: _Call, position: int, outgrad: Tensor) -> None:
        """Forms the parameter gradients of a call when the gradient of one of its outputs is known."""
        if [tensor._version for tensor in _tensors(call.arguments)] != call.versions:
            what = f"the input of {call.title} was changed in place before the gradients were formed"
            raise UserError(what, mend="Use an operation that returns a new tensor.")
        for parameter, gradient in self._gradients(call, position, outgrad):
            if parameter is not None and parameter.requires_grad:
                self._gathered[self._names[id(parameter)]].add(gradient)

    def _gradients(self, call: _Call, position: int, outgrad: Tensor) -> Gradients:
        entries = [len(tensor) if tensor.dim() else 0 for tensor in (outgrad, *_tensors(call.arguments))]
        rule = rule_of(call.module)
        if self._examples not in entries[1 : 2 if rule else None] or entries[0] != self._examples:
            raise UserError(
                f"{call.title} did not run on one entry per example along the first axis of its input and output",
                where="losses",
                got=entries[1] if entries[0] == self._examples else entries[0],
                allowed=f"{self._examples}, the number of losses",
                mend="Call the network once for each version of the batch, and flatten later axes only.",
            )
        if rule:
            inputs = _tensors(call.arguments)[0].detach().to(call.module.weight.dtype)
            call.arguments, call.versions = ((), {}), []  # The input is not needed any more.
            return rule(call.module, inputs, outgrad.to(inputs.dtype))
        try:
            return iter(list(by_vmap(call.module, call.arguments, position, outgrad)))
        except Exception as error:
            mend = "Its forward method must treat examples independently, draw no random numbers and change no buffers."
            what = f"the gradients of single examples of {call.title} could not be formed by torch.func: {error}"
            raise UserError(what, mend=mend) from error


def _refuse_stray(name: str | None) -> None:
    if name is not None:
        raise UserError(
            f"the parameter {name!r} is used outside of the call of the module that holds it, so the gradients of "
            "single examples cannot be told apart",
            where="losses",
            mend="Use it in the forward method of the module that holds it, and call that module.",
        )


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _units(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules that hold trainable parameters of their own, by name.

    Parameters in a parameter list or behind a parametrization count as the module's own.
    """
    lists = [child for child in module.children() if isinstance(child, nn.ParameterList | nn.ParameterDict)]
    own = [p for holder in (module, *lists) for p in holder.parameters(recurse=False)]
    wrapped = is_parametrized(module) and any(p.requires_grad for p in module.parameters())
    if wrapped or any(p.requires_grad for p in own):
        yield name, module
    else:
        for key, child in module.named_children():
            yield from _units(child, f"{name}.{key}" if name else key)
