"""Per-example gradients of one parameter in the forms that layers give them: their norms and their weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Whole:
    """Gradients that are there.

    Fields:
        gradients: [examples, *parameter shape].
        squares: Their squared norms, [examples], where these are known.
    """

    gradients: Tensor
    squares: Tensor | None = None

    def whole(self) -> Tensor:
        """The gradients, [examples, *parameter shape]."""
        return self.gradients

    def squared_norms(self) -> Tensor:
        """The squared norm of each gradient, [examples]."""
        if self.squares is not None:
            return self.squares
        return torch.linalg.vector_norm(self._flat()[0], dim=1).square()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """The sum over the examples of weight, [examples], times gradient; shaped as the parameter."""
        flat, order = self._flat()
        shape = self.gradients.shape[1:]
        if order is None:
            return (weights @ flat).view(shape)
        total = (weights @ flat).view([shape[axis] for axis in order])
        return total.permute([order.index(axis) for axis in range(len(order))])

    def _flat(self) -> tuple[Tensor, list[int] | None]:
        """The gradients as [examples, numbers], with the axes of the parameter in the order that needs no copy."""
        if self.gradients.is_contiguous():
            return self.gradients.view(len(self.gradients), -1), None
        strides = self.gradients.stride()[1:]
        order = sorted(range(len(strides)), key=lambda axis: -strides[axis])
        return self.gradients.permute(0, *(axis + 1 for axis in order)).reshape(len(self.gradients), -1), order


@dataclass(frozen=True)
class Factors:
    """Gradients of a matrix that are never formed: that of example b is `left[b].T @ right[b]`.

    Fields:
        left: Gradients of the outputs, [examples, terms, rows of the matrix].
        right: The inputs that they belong to, [examples, terms, columns of the matrix].
    """

    left: Tensor
    right: Tensor

    def worthwhile(self) -> bool:
        """Whether factors and their two Gram matrices need less memory than the matrices that they stand for."""
        terms, rows, columns = self.left.shape[1], self.left.shape[2], self.right.shape[2]
        return terms * (rows + columns) + 2 * terms**2 < rows * columns

    def whole(self) -> Tensor:
        """The gradients, [examples, rows, columns]."""
        return self.left.mT @ self.right

    def squared_norms(self) -> Tensor:
        """The squared norm of each gradient, [examples].

        ||L'R||^2 = <LL', RR'>, the "ghost norm" of Goodfellow (2015) and Li et al. (2022).
        """
        if self.left.shape[1] == 1:
            norms = torch.linalg.vector_norm(self.left, dim=2) * torch.linalg.vector_norm(self.right, dim=2)
            return norms.square()[:, 0]
        return ((self.left @ self.left.mT) * (self.right @ self.right.mT)).sum((1, 2))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """The sum over the examples of weight, [examples], times gradient; shaped as the parameter."""
        return (self.left * weights[:, None, None]).flatten(0, 1).mT @ self.right.flatten(0, 1)


@dataclass(frozen=True)
class Known:
    """Gradients of which only the squared norms were kept, and ways to get what else is asked for.

    Fields:
        squares: The squared norm of each gradient, [examples].
        whole: Forms the gradients, [examples, *parameter shape].
        weighted_sum: Forms the sum over the examples of weight, [examples], times gradient.
    """

    squares: Tensor
    whole: Callable[[], Tensor]
    weighted_sum: Callable[[Tensor], Tensor]

    def squared_norms(self) -> Tensor:
        """The squared norm of each gradient, [examples]."""
        return self.squares


Gradient = Whole | Factors | Known


class PerExample:
    """Gathers the per-example gradients of one parameter; those of several uses of the parameter add up.

    Args:
        parameter: The parameter.
        examples: Number of examples.
    """

    def __init__(self, parameter: Tensor, examples: int):
        self._parameter, self._examples = parameter, examples
        self._gradient: Gradient | None = None

    def add(self, gradient: Gradient) -> None:
        """Adds what one use of the parameter contributes."""
        if self._gradient is None:
            self._gradient = gradient
            return
        if isinstance(gradient, Factors) and isinstance(self._gradient, Factors):
            left, right = (self._gradient.left, gradient.left), (self._gradient.right, gradient.right)
            joined = Factors(torch.cat(left, dim=1), torch.cat(right, dim=1))
            if joined.worthwhile():
                self._gradient = joined
                return
        self._gradient = Whole(self._gradient.whole() + gradient.whole())

    def squared_norms(self) -> Tensor:
        """The squared gradient norm of each example, [examples]."""
        if self._gradient is None:
            return self._parameter.new_zeros(self._examples)
        return self._gradient.squared_norms()

    def weighted_sum(self, weights: Tensor, store: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The sum over the examples of weight, [examples], times gradient; laid out in memory as the parameter.

        What `store` makes of the weighted gradients, [examples, *parameter shape], is added up, if it is given.
        """
        if self._gradient is None:
            return torch.zeros_like(self._parameter)
        weights = weights.to(self._parameter.dtype)
        if store is None:
            total = self._gradient.weighted_sum(weights)
        else:
            total = store(self._gradient.whole() * weights.view(-1, *(1,) * self._parameter.dim())).sum(0)
        same = total.stride() == self._parameter.stride()
        return total if same else torch.empty_like(self._parameter).copy_(total)
