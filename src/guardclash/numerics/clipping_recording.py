"""Follows the calls of a network's modules and gathers per-example parameter gradients on the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.utils._pytree import tree_leaves, tree_map

from guardclash.errors import UserError
from guardclash.numerics.clipping_again import Again, by_vmap
from guardclash.numerics.clipping_calls import Call, Copies, elsewhere, misplaced, mixed, stray, unshared
from guardclash.numerics.clipping_checks import (
    Misread,
    Verified,
    belong,
    row_norms,
    spectral_buffers,
    tells,
    uneven_weights,
)
from guardclash.numerics.clipping_gradients import PerExample, Whole
from guardclash.numerics.clipping_graph import NOTHING, ends_of
from guardclash.numerics.clipping_layers import SEVERAL, Gradients, Rule, group_norm, is_plain, rule_of
from guardclash.numerics.clipping_layout import Key, Rows, layout_of, units_of
from guardclash.numerics.clipping_loop import recurrent


class Recording:
    """The calls of a network's modules, and what becomes of them as gradients arrive.

    Args:
        network: The network.
        known: What is known of it; what is found out is added.

    Attributes:
        given: The calls whose output all examples share, and each was given a copy.
        weighed: Whether the last backward pass was checked by one with uneven weights.
        unchecked: Whether it should have been.
    """

    def __init__(self, network: nn.Module, known: Verified):
        self._network, self._known, self._units = network, known, dict(units_of(network, known.whole))
        self._layout, self._numbers = dict[Key, Rows](), Counter[str]()
        self._trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._names = {id(p): name for name, p in self._trainable.items()}
        self._running, self._calls = list[Call | None](), dict[Node, Call]()
        self._copies, self._gathered = dict[int, Copies](), dict[str, PerExample]()
        self.given: list[Call] = []
        self._phase = ""  # "weighing": losses have uneven weights, to see whose rows are whose; "gathering"
        self._weights, self.weighed, self.unchecked = torch.ones(0), False, False
        self._trying, self._batch, self._examples = False, 0, 0

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
                    module.forward = partial(self._group_norm, name, module, module.forward)  # type: ignore[method-assign]
                    continue
                rule = None if name in self._known.whole else rule_of(module)
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

    def run(self, losses: Callable[[], Tensor]) -> Tensor:
        """Runs what gives the losses.

        Raises:
            Misread: If it fails because what all examples share was given to each of them.
        """
        try:
            return losses()
        except Exception as error:
            if self.given:
                raise unshared(self.given[0].unit, error) from error
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
        number, self._numbers[name] = self._numbers[name], self._numbers[name] + 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        versions = [tensor._version for tensor in tensors]
        sources = [get_gradient_edge(tensor) for tensor in tensors if tensor.requires_grad]
        buffers = {} if rule else spectral_buffers(module)
        call = Call(name, number, title, module, rule, (args, kwargs), tensors, versions, sources)
        call.rows, call.buffers = rows, buffers
        self._running.append(call)

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        call = self._running.pop()
        if self._running or call is None:
            return output
        if call.rows and call.rows.shared and self._batch > 1 and torch.is_grad_enabled():
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
                call.outputs[position], call.shapes[position] = edge, tensor.shape
                self._calls[edge.node] = call
        return output

    def _for_each(self, call: Call, output: Any) -> Any:
        """What all examples share, once for each of them, so that gradients arrive example by example."""
        self.given.append(call)
        call.bare = any(isinstance(leaf, Tensor) and leaf.shape[:1] != (1,) for leaf in tree_leaves(output))

        def repeated(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            whole = leaf[None] if call.bare else leaf
            return whole.expand(self._batch, *whole.shape[1:])

        return tree_map(repeated, output)

    def _group_norm(
        self, name: str, layer: nn.GroupNorm, forward: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        inputs: Tensor = (*args, *kwargs.values())[0]
        if self._running or not torch.is_grad_enabled() or not inputs.numel():
            return forward(inputs)
        copies = []
        for parameter in (layer.weight, layer.bias):
            copy = parameter.detach().expand(len(inputs), -1).flatten().requires_grad_(parameter.requires_grad)
            self._copies[id(copy)] = Copies(name, parameter, len(inputs), copy)
            copies.append(copy)
        return group_norm(layer, inputs, *copies)

    def gather(self, losses: Tensor, check: bool = True) -> dict[str, PerExample]:
        """Goes back from the losses, [B], through the recorded calls; by `check` says whether to check what is new.

        Returns:
            Parameter name -> its per-example gradients.
        """
        self._examples = len(losses)
        self._gathered = {name: PerExample(parameter, len(losses)) for name, parameter in self._trainable.items()}
        try:
            wanted = bool(len(losses)) and losses.requires_grad
            ends, reached = ends_of(losses, self._calls, self._copies, self._stray) if wanted else NOTHING
            kinds = {copies.kind(self._examples) for copies in ends.values() if copies is not None}
            kinds |= {call.kind(position, self._examples) for call, position in reached}
            # A single example cannot be mixed up with others.
            new = bool(ends) and len(losses) > 1 and not self._known.sure_of(kinds)
            self.unchecked = new and not check
            if new and check:
                self._phase, self._weights, self.weighed = "weighing", uneven_weights(losses), True
                found = torch.autograd.grad(losses, list(ends), self._weights, allow_unused=True, retain_graph=True)
                for copies, gradient in zip(ends.values(), found, strict=True):
                    if copies is not None and gradient is not None:
                        copies.weighed = row_norms(copies.apart(gradient))
            self._phase = "gathering"
            found = torch.autograd.grad(losses.sum(), list(ends), allow_unused=True) if ends else ()
            for copies, gradient in zip(ends.values(), found, strict=True):
                if copies is not None and gradient is not None:
                    self._add_copies(copies, copies.apart(gradient))
        finally:
            self._forget()
        return self._gathered

    def _add_copies(self, copies: Copies, gradients: Tensor) -> None:
        title = f"the layer of {(name := self._names[id(copies.parameter)])!r}"
        if len(gradients) != self._examples:
            raise misplaced(copies.unit, title, self._examples, gradients)
        self._compare(copies.unit, title, copies.kind(self._examples), gradients, copies.weighed)
        self._gathered[name].add(Whole(gradients))

    def _compare(self, unit: str, title: str, kind: Hashable, gradient: Tensor, weighed: Tensor | None) -> None:
        """Checks the rows of a gradient by what they were where losses had uneven weights, if they had."""
        if weighed is None:
            return
        norms = row_norms(gradient)
        if not belong(weighed, norms, self._weights):
            raise mixed(unit, title)
        if tells(norms, self._examples):
            self._known.note(kind, self._examples)

    def _forget(self) -> None:
        """Breaks the circle of calls, graph and hooks, which would hold the memory until a garbage collection."""
        self._phase = ""
        for call in self._calls.values():
            call.sources, call.outputs = [], {}
        self._calls.clear()
        self._copies.clear()

    def _stray(self, leaf: Tensor) -> None:
        """Refuses a parameter that is used where no call of its module is seen."""
        name = self._names.get(id(leaf))
        if name is not None:
            holders = (unit for unit in self._units.values() if not unit or f"{name}.".startswith(f"{unit}."))
            raise stray(max(holders, key=len, default=""), name)

    def _arrived(self, call: Call, position: int, outgrad: Tensor) -> None:
        """Forms the parameter gradients of a call when the gradient of one of its outputs is known."""
        if not self._phase:
            return  # The losses themselves run a backward pass, as an attack does.
        if [tensor._version for tensor in call.tensors] != call.versions:
            what = f"the input of {call.title} was changed in place before its gradients were formed"
            raise UserError(what, mend="Use an operation that returns a new tensor.")
        rows = call.rows_of(position, outgrad)
        if len(rows) % self._examples:
            raise misplaced(call.unit, call.title, self._examples, outgrad)
        if self._phase == "weighing":
            call.weighed[position] = row_norms(rows)
            return
        kind, check = call.kind(position, self._examples), position in call.weighed
        try:
            for parameter, gradient in self._gradients(call, position, outgrad, check):
                if parameter.requires_grad:
                    self._gathered[self._names[id(parameter)]].add(gradient)
        except UserError as error:
            raise Misread(call.unit, error) from error
        self._compare(call.unit, call.title, kind, rows, call.weighed.get(position))

    def _gradients(self, call: Call, position: int, outgrad: Tensor, check: bool) -> Gradients:
        if isinstance(call.module, nn.RNNBase):
            found = recurrent(call.title, call.module, call.arguments, position, outgrad, self._examples)
            return self._again(call, found)
        rows = call.rows if call.rows and call.rows.known else None
        if call.rows is not None and rows is None and self._examples > 1:
            raise elsewhere(call.unit, call.title)
        if rows and rows.shared and self._examples == 1:  # no copies were made: all of it is the one example's
            outgrad, call.bare = outgrad[None], True
        each = rows.most if rows else 1
        self._check_examples(call, outgrad, each=max(each, 1))
        if not (rows and rows.shared):
            self._check_examples(call, *(call.tensors[:1] if call.rule else call.tensors), each=each)
        if call.rule is None or (each > 1 and call.rule not in SEVERAL):
            split = rows.each if rows else None
            again = Again(call.title, call.module, call.arguments, position, split, call.bare, call.buffers)
            found = by_vmap(again, self._apart(outgrad), check=check)
            return self._again(call, found)
        weight: Tensor = call.module.weight  # type: ignore[assignment]
        inputs = call.tensors[0].detach().to(weight.dtype)
        if rows and rows.shared:
            inputs = (inputs[None] if call.bare else inputs).expand(len(outgrad), *inputs.shape[not call.bare :])
        call.arguments, call.tensors, call.versions = ((), {}), [], []  # The input may be freed after the rule.
        return call.rule(call.module, self._apart(inputs), self._apart(outgrad.to(inputs.dtype)))

    def _again(self, call: Call, gradients: Gradients) -> Gradients:
        """Gradients for which the layer runs again, as a part of its call and not as another one."""
        self._running.append(call)
        found = list(gradients)  # after an error nothing of this recording is used any more
        self._running.pop()
        return iter(found)

    def _apart(self, tensor: Tensor) -> Tensor:
        """Several rows for each example along an axis of their own, [examples, rows, ...]."""
        return tensor if len(tensor) == self._examples else tensor.reshape(self._examples, -1, *tensor.shape[1:])

    def _check_examples(self, call: Call, *tensors: Tensor, each: int = 1) -> None:
        """Refuses tensors none of which has one entry per example, or so many."""
        if (each * self._examples,) not in [tensor.shape[:1] for tensor in tensors]:
            raise misplaced(call.unit, call.title, self._examples, *tensors)
