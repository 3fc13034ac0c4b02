"""Follows the calls of a network's modules and gathers per-example parameter gradients on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_leaves, tree_map

from guardclash.errors import UserError
from guardclash.numerics.clipping_gradients import PerExample, Whole
from guardclash.numerics.clipping_layers import Gradients, Rule, by_vmap, group_norm, is_plain, rule_of


@dataclass(eq=False)
class _Call:
    """One call of a module.

    Fields:
        title: The module's name and type, for messages.
        module: The module.
        rule: The rule for its parameter gradients, if there is one.
        arguments: Positional and named arguments.
        tensors: The tensors among them.
        versions: How often each of those had been changed in place when the call began.
        sources: Where those that depend on something differentiable are in autograd's graph.
        outputs: Where the tensors of the output are in autograd's graph.
    """

    title: str
    module: nn.Module
    rule: Rule | None
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    tensors: list[Tensor]
    versions: list[int]
    sources: list[GradientEdge]
    outputs: list[GradientEdge] = field(default_factory=list)


class Recording:
    """The calls of a network's modules, and what becomes of them as gradients arrive.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module):
        self._units = dict(_units(network))
        self._trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._names = {id(p): name for name, p in self._trainable.items()}
        self._running: list[_Call] = []
        self._calls: dict[Node, _Call] = {}
        self._copies: dict[int, tuple[Tensor, nn.Parameter]] = {}
        self._gathered: dict[str, PerExample] = {}
        self._gathering = False
        self._examples = 0

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Records the calls of all units while it lasts, which must include the backward pass: checkpoints run again.

        A rule needs what the module's own `forward` sees. A module without a rule is called once more, with all
        hooks that others gave to it, so there the arguments before and the output after those hooks count.
        """
        with ExitStack() as stack:
            for module, name in self._units.items():
                if type(module) is nn.GroupNorm and is_plain(module):
                    stack.callback(delattr, module, "forward")
                    module.forward = partial(self._group_norm, module, module.forward)  # type: ignore[method-assign]
                    continue
                rule = rule_of(module)
                before = partial(self._before, f"{name or 'the network'!r} ({type(module).__name__})", rule)
                handle = module.register_forward_pre_hook(before, prepend=rule is None, with_kwargs=True)
                stack.callback(handle.remove)
                handle = module.register_forward_hook(self._after, prepend=rule is not None, always_call=True)
                stack.callback(handle.remove)
            try:
                yield
            except BaseException:
                self._forget()
                raise

    def _before(
        self, title: str, rule: Rule | None, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self._running:
            self._running.append(self._running[-1])  # This call is a part of another one.
            return
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        versions = [tensor._version for tensor in tensors]
        sources = [get_gradient_edge(tensor) for tensor in tensors if tensor.requires_grad]
        self._running.append(_Call(title, module, rule, (args, kwargs), tensors, versions, sources))

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        call = self._running.pop()
        if self._running:
            return output
        if any(isinstance(leaf, Tensor) and leaf._is_view() for leaf in tree_leaves(output)):
            # A change in place takes a view to another place in the graph, so it becomes a tensor of its own.
            output = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output)
        passed = {(edge.node, edge.output_nr) for edge in call.sources}
        for position, tensor in enumerate(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)):
            edge = get_gradient_edge(tensor) if tensor.requires_grad else None
            if edge is not None and (edge.node, edge.output_nr) not in passed:
                # Registered here, not later: a hook belongs to the value that the tensor has now, whatever is
                # done to the tensor in place afterwards.
                tensor.register_hook(partial(self._arrived, call, position))
                call.outputs.append(edge)
                self._calls[edge.node] = call
        return output

    def _group_norm(self, layer: nn.GroupNorm, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        inputs: Tensor = (*args, *kwargs.values())[0]
        if self._running or not torch.is_grad_enabled() or not inputs.numel():
            return forward(inputs)
        copies = []
        for parameter in (layer.weight, layer.bias):
            copy = parameter.detach().expand(len(inputs), -1).flatten().requires_grad_(parameter.requires_grad)
            self._copies[id(copy)] = copy, parameter
            copies.append(copy)
        return group_norm(layer, inputs, *copies)

    def gather(self, losses: Tensor) -> dict[str, PerExample]:
        """Goes back from the losses, [B], through the recorded calls.

        Returns:
            Parameter name -> its per-example gradients.
        """
        self._gathering, self._examples = True, len(losses)
        self._gathered = {name: PerExample(parameter, len(losses)) for name, parameter in self._trainable.items()}
        try:
            ends = self._ends(losses) if len(losses) and losses.requires_grad else {}
            found = torch.autograd.grad(losses.sum(), list(ends), allow_unused=True) if ends else ()
            for parameter, gradient in zip(ends.values(), found, strict=True):
                if parameter is not None and gradient is not None:
                    name, each = self._names[id(parameter)], gradient.view(-1, *parameter.shape)
                    self._check_examples(f"the layer of {name!r}", each)
                    self._gathered[name].add(Whole(each))
        finally:
            self._forget()
        return self._gathered

    def _forget(self) -> None:
        """Breaks the circle of calls, graph and hooks, which would hold the memory until a garbage collection."""
        for call in self._calls.values():
            call.sources, call.outputs = [], []
        self._calls.clear()
        self._copies.clear()

    def _ends(self, losses: Tensor) -> dict[GradientEdge, nn.Parameter | None]:
        """Where the backward pass may end, because nothing before it depends on a trainable parameter.

        Walks autograd's graph from the losses. From the output of a recorded call it goes on at the inputs of the
        call, so a trainable parameter is met only where it is used outside of the recorded calls.

        Returns:
            The ends, with the parameter for those that are per-example copies of one.
        """
        ends: dict[GradientEdge, nn.Parameter | None] = {}
        seen: set[Node] = set()
        ahead: list[Node | None] = [get_gradient_edge(losses).node]
        while ahead:
            node = ahead.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            call, kind = self._calls.get(node), node.name().rsplit("::", 1)[-1]
            if call is not None:
                ahead.extend(edge.node for edge in call.sources)
                ends.update(dict.fromkeys(() if call.sources else call.outputs))
                continue
            if kind == "AccumulateGrad":
                leaf: Tensor = node.variable  # type: ignore[attr-defined]
                if id(leaf) in self._names:
                    _refuse_stray(self._names[id(leaf)])
                ends[get_gradient_edge(leaf)] = self._copies.get(id(leaf), (leaf, None))[1]
            elif kind == "CheckpointFunctionBackward":
                mend = "Call torch.utils.checkpoint.checkpoint with use_reentrant=False."
                raise UserError("reentrant checkpoints hide the layers that they run", where="losses", mend=mend)
            ahead.extend(parent for parent, _ in node.next_functions)
        return ends

    def _arrived(self, call: _Call, position: int, outgrad: Tensor) -> None:
        """Forms the parameter gradients of a call when the gradient of one of its outputs is known."""
        if not self._gathering:
            return  # The losses themselves run a backward pass, as an attack does.
        if [tensor._version for tensor in call.tensors] != call.versions:
            what = f"the input of {call.title} was changed in place before its gradients were formed"
            raise UserError(what, mend="Use an operation that returns a new tensor.")
        for parameter, gradient in self._gradients(call, position, outgrad):
            if parameter.requires_grad:
                self._gathered[self._names[id(parameter)]].add(gradient)

    def _gradients(self, call: _Call, position: int, outgrad: Tensor) -> Gradients:
        self._check_examples(call.title, outgrad)
        self._check_examples(call.title, *(call.tensors[:1] if call.rule else call.tensors))
        if call.rule is None:
            self._running.append(call)
            found = list(by_vmap(call.title, call.module, call.arguments, position, outgrad))
            self._running.pop()
            return iter(found)
        weight: Tensor = call.module.weight  # type: ignore[assignment]
        inputs = call.tensors[0].detach().to(weight.dtype)
        call.arguments, call.tensors, call.versions = ((), {}), [], []  # The input may be freed after the rule.
        return call.rule(call.module, inputs, outgrad.to(inputs.dtype))

    def _check_examples(self, title: str, *tensors: Tensor) -> None:
        """Refuses tensors none of which has one entry per example."""
        if (self._examples,) not in [tensor.shape[:1] for tensor in tensors]:
            raise UserError(
                f"{title} did not run on one entry per example along the first axis",
                where="losses",
                got=[tuple(tensor.shape) for tensor in tensors],
                allowed=f"{self._examples} entries, one per loss",
                mend="Call the network once for each version of the batch; reshape other axes only.",
            )


def _refuse_stray(name: str) -> None:
    raise UserError(
        f"the parameter {name!r} is used outside of the call of the module that holds it, so that the gradients of "
        "single examples cannot be told apart",
        where="losses",
        mend="Use it only in the forward method of the module that holds it, and call that module.",
    )


def _units(module: nn.Module, name: str = "") -> Iterator[tuple[nn.Module, str]]:
    """The outermost modules that hold trainable parameters of their own, with their names.

    Parameters in a parameter list or behind a parametrization count as the module's own.
    """
    lists = [child for child in module.children() if isinstance(child, nn.ParameterList | nn.ParameterDict)]
    own = [p for holder in (module, *lists) for p in holder.parameters(recurse=False)]
    wrapped = list(module.parameters()) if is_parametrized(module) else []
    if any(p.requires_grad for p in own + wrapped):
        yield module, name
    else:
        for key, child in module.named_children():
            yield from _units(child, f"{name}.{key}" if name else key)
