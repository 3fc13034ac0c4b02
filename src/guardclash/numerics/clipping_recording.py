"""Follows the calls of a network's modules and gathers per-example parameter gradients on the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.utils._pytree import tree_leaves, tree_map

from guardclash.errors import UserError
from guardclash.numerics.clipping_gradients import PerExample, Whole
from guardclash.numerics.clipping_layers import SEVERAL, Gradients, Rule, by_vmap, group_norm, is_plain, rule_of
from guardclash.numerics.clipping_layout import Key, Rows, layout_of, units_of
from guardclash.numerics.clipping_loop import recurrent


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
        rows: Whose rows the tensors hold; None: it is taken to be one for each example.
        bare: Whether the output has no axis of examples, as it is the same for all of them.
    """

    title: str
    module: nn.Module
    rule: Rule | None
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    tensors: list[Tensor]
    versions: list[int]
    sources: list[GradientEdge]
    outputs: list[GradientEdge] = field(default_factory=list)
    rows: Rows | None = None
    bare: bool = False


class Recording:
    """The calls of a network's modules, and what becomes of them as gradients arrive.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module):
        self._network, self._units = network, dict(units_of(network))
        self._layout, self._numbers = dict[Key, Rows](), Counter[str]()
        self._trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._names = {id(p): name for name, p in self._trainable.items()}
        self._running: list[_Call | None] = []
        self._calls: dict[Node, _Call] = {}
        self._copies: dict[int, tuple[Tensor, nn.Parameter]] = {}
        self._gathered: dict[str, PerExample] = {}
        self._gathering = self._trying = False
        self._batch = self._examples = 0

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Records the calls of all units while it lasts, which must include the backward pass: checkpoints run again.

        A rule needs what the module's own `forward` sees. A module without a rule is called once more, with all
        hooks that others gave to it, so there the arguments before and the output after those hooks count.
        """
        with ExitStack() as stack:
            if self._network not in self._units:
                begin = self._network.register_forward_pre_hook(self._begin, prepend=True, with_kwargs=True)
                stack.callback(begin.remove)
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

    def _begin(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Learns, before the network runs, whose rows its layers will see."""
        if self._trying or self._running:
            return
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.dim()]
        self._batch = len(tensors[0]) if tensors else 0
        self._numbers.clear()
        if self._batch:
            self._trying = True  # its calls are not recorded
            self._layout = dict(layout_of(network, self._units, (args, kwargs)))
            self._trying = False

    def _before(
        self, title: str, rule: Rule | None, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self._running or self._trying:
            self._running.append(self._running[-1] if self._running else None)  # This call is a part of another one.
            return
        name = self._units[module]
        rows = self._layout.get((name, self._numbers[name]))
        self._numbers[name] += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        versions = [tensor._version for tensor in tensors]
        sources = [get_gradient_edge(tensor) for tensor in tensors if tensor.requires_grad]
        self._running.append(_Call(title, module, rule, (args, kwargs), tensors, versions, sources, rows=rows))

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        call = self._running.pop()
        if self._running or call is None:
            return output
        if call.rows and call.rows.shared and self._batch and torch.is_grad_enabled():
            output = self._for_each(call, output)
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

    def _for_each(self, call: _Call, output: Any) -> Any:
        """What all examples share, once for each of them, so that gradients arrive example by example."""
        call.bare = any(isinstance(leaf, Tensor) and leaf.shape[:1] != (1,) for leaf in tree_leaves(output))

        def repeated(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            whole = leaf[None] if call.bare else leaf
            return whole.expand(self._batch, *whole.shape[1:])

        return tree_map(repeated, output)

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
        if isinstance(call.module, nn.RNNBase):
            found = recurrent(call.title, call.module, call.arguments, position, outgrad, self._examples)
            return self._again(call, found)
        rows = call.rows if call.rows and call.rows.known else None
        if call.rows is not None and rows is None and self._examples > 1:
            _refuse_elsewhere(call.title)
        each = rows.most if rows else 1
        self._check_examples(call.title, outgrad, each=max(each, 1))
        if not (rows and rows.shared):
            self._check_examples(call.title, *(call.tensors[:1] if call.rule else call.tensors), each=each)
        if call.rule is None or (each > 1 and call.rule not in SEVERAL):
            split, apart = rows.each if rows else None, self._apart(outgrad)
            found = by_vmap(call.title, call.module, call.arguments, position, apart, split, call.bare)
            return self._again(call, found)
        weight: Tensor = call.module.weight  # type: ignore[assignment]
        inputs = call.tensors[0].detach().to(weight.dtype)
        if rows and rows.shared:
            inputs = (inputs[None] if call.bare else inputs).expand(len(outgrad), *inputs.shape[not call.bare :])
        call.arguments, call.tensors, call.versions = ((), {}), [], []  # The input may be freed after the rule.
        return call.rule(call.module, self._apart(inputs), self._apart(outgrad.to(inputs.dtype)))

    def _again(self, call: _Call, gradients: Gradients) -> Gradients:
        """Gradients for which the layer runs again, as a part of its call and not as another one."""
        self._running.append(call)
        try:
            return iter(list(gradients))
        finally:
            self._running.pop()

    def _apart(self, tensor: Tensor) -> Tensor:
        """Several rows for each example along an axis of their own, [examples, rows, ...]."""
        return tensor if len(tensor) == self._examples else tensor.reshape(self._examples, -1, *tensor.shape[1:])

    def _check_examples(self, title: str, *tensors: Tensor, each: int = 1) -> None:
        """Refuses tensors none of which has one entry per example, or so many."""
        if (each * self._examples,) not in [tensor.shape[:1] for tensor in tensors]:
            raise UserError(
                f"{title} did not run on one entry per example along the first axis",
                where="losses",
                got=[tuple(tensor.shape) for tensor in tensors],
                allowed=f"{self._examples} entries, one per loss",
                mend="Call the network once for each version of the batch; reshape other axes only.",
            )


def _refuse_elsewhere(title: str) -> None:
    raise UserError(
        f"{title} does not run on the rows of one example after another",
        where="losses",
        mend="Keep the examples along the first axis, and all rows of an example together.",
    )


def _refuse_stray(name: str) -> None:
    raise UserError(
        f"the parameter {name!r} is used outside of the call of the module that holds it, so that the gradients of "
        "single examples cannot be told apart",
        where="losses",
        mend="Use it only in the forward method of the module that holds it, and call that module.",
    )
