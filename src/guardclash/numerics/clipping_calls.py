"""The calls of a network's modules, as they are recorded; and what is wrong where rows are not those of examples."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from guardclash.errors import UserError
from guardclash.numerics.clipping_checks import Misread
from guardclash.numerics.clipping_layers import Rule
from guardclash.numerics.clipping_layout import Rows


@dataclass(eq=False)
class Call:
    """One call of a module.

    Fields:
        unit: The module's name.
        number: How many calls of it came before in this call of the network.
        title: The module's name and type, for messages.
        module: The module.
        rule: The rule for its parameter gradients, if there is one.
        arguments: Positional and named arguments.
        tensors: The tensors among them.
        versions: How often each of those had been changed in place when the call began.
        sources: Where those that depend on something differentiable are in autograd's graph.
        outputs: By their position in the output, where its tensors are in autograd's graph.
        shapes: By position, the shapes of those.
        rows: Whose rows the tensors hold; None: it is taken to be one for each example.
        bare: Whether the output has no axis of examples, as it is the same for all of them.
        buffers: The module's buffers as they were, where the call changes them.
        weighed: By position, the norms of the gradient's rows where losses had uneven weights.
    """

    unit: str
    number: int
    title: str
    module: nn.Module
    rule: Rule | None
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    tensors: list[Tensor]
    versions: list[int]
    sources: list[GradientEdge]
    outputs: dict[int, GradientEdge] = field(default_factory=dict)
    shapes: dict[int, torch.Size] = field(default_factory=dict)
    rows: Rows | None = None
    bare: bool = False
    buffers: dict[str, Tensor] = field(default_factory=dict)
    weighed: dict[int, Tensor] = field(default_factory=dict)

    def along(self, position: int) -> int:
        """The axis of an output along which the examples lie."""
        if not isinstance(self.module, nn.RNNBase):
            return 0
        return int(position > 0 or not self.module.batch_first)

    def rows_of(self, position: int, outgrad: Tensor) -> Tensor:
        """The gradient of an output, with the examples along the first axis."""
        along = self.along(position)
        return outgrad.movedim(along, 0) if outgrad.dim() > along else outgrad.reshape(1, -1)

    def kind(self, position: int, examples: int) -> Hashable:
        """What calls have in common whose rows belong to the examples in the same way."""
        shape, along = self.shapes[position], self.along(position)
        rows = shape[along] if len(shape) > along else 0
        same = tuple(tensor.dim() > 0 and len(tensor) == rows for tensor in self.tensors)
        return self.unit, self.number, position, rows / examples, self.rows, same


@dataclass(eq=False)
class Copies:
    """A parameter of a group norm, once for each row that the norm runs on.

    Fields:
        unit: Name of the norm.
        parameter: The parameter.
        rows: How many copies there are.
        leaf: All of them, [rows * numbers], which autograd takes for the parameter.
        weighed: The norms of their gradients where losses had uneven weights.
    """

    unit: str
    parameter: nn.Parameter
    rows: int
    leaf: Tensor
    weighed: Tensor | None = None

    def kind(self, examples: int) -> Hashable:
        """As of a call."""
        return self.unit, self.rows / examples

    def apart(self, gradient: Tensor) -> Tensor:
        """The gradient of the copies, [rows, *parameter shape]."""
        return gradient.view(self.rows, *self.parameter.shape)


def misplaced(unit: str, title: str, examples: int, *tensors: Tensor) -> Misread:
    """What to raise where tensors do not have one row for each example."""
    error = UserError(
        f"{title} did not run on one entry per example along the first axis",
        where="losses",
        got=[tuple(tensor.shape) for tensor in tensors],
        allowed=f"{examples} entries, one per loss",
        mend="Call the network once for each version of the batch; reshape other axes only.",
    )
    return Misread(unit, error)


def mixed(unit: str, title: str) -> Misread:
    """What to raise where the loss of an example depends on what is another one's."""
    error = UserError(
        f"{title} gives the losses of some examples what belongs to other ones",
        where="losses",
        mend="Keep the examples along the first axis and in their order, and let none depend on another one.",
    )
    return Misread(unit, error)


def elsewhere(unit: str, title: str) -> Misread:
    """What to raise where the rows of an example are not together."""
    error = UserError(
        f"{title} does not run on the rows of one example after another",
        where="losses",
        mend="Keep the examples along the first axis, and all rows of an example together.",
    )
    return Misread(unit, error)


def stray(unit: str, name: str) -> Misread:
    """What to raise where a parameter is used, and no call of its module is seen."""
    error = UserError(
        f"the parameter {name!r} is used outside of the call of the module that holds it, so that the gradients of "
        "single examples cannot be told apart",
        where="losses",
        mend="Use it only in the forward method of the module that holds it, and call that module.",
    )
    return Misread(unit, error)


def unshared(unit: str, error: object) -> Misread:
    """What to raise where the network fails on copies, for each example, of what a unit gives to all; and the error."""
    what = f"{unit!r} gives something to all examples that cannot be given to each of them: {error}"
    return Misread(unit, UserError(what, where="losses"))
