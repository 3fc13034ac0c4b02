"""Per-example gradients of one parameter, whole or as factors: their norms and their weighted sum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """Per-example gradients of a matrix that are never formed: that of example b is `left[b].T @ right[b]`.

    Fields:
        left: Gradients of the outputs, [examples, terms, rows of the matrix].
        right: The inputs that they belong to, [examples, terms, columns of the matrix].
    """

    left: Tensor
    right: Tensor

    @classmethod
    def worthwhile(cls, terms: int, rows: int, columns: int) -> bool:
        """Whether factors and their two Gram matrices need less memory than the matrix that they stand for."""
        return terms * (rows + columns) + 2 * terms**2 < rows * columns


class PerExample:
    """Gathers the per-example gradients of one parameter; those of several uses of the parameter add up.

    Args:
        parameter: The parameter.
        examples: Number of examples.
    """

    def __init__(self, parameter: Tensor, examples: int):
        self._parameter, self._examples = parameter, examples
        self._whole: Tensor | None = None
        self._factors: list[Factors] = []

    def add(self, gradient: Tensor | Factors) -> None:
        """Adds what one use of the parameter contributes, [examples, *parameter shape] or factors of it."""
        if isinstance(gradient, Factors):
            self._factors.append(gradient)
        else:
            self._whole = gradient if self._whole is None else self._whole + gradient

    def squared_norms(self) -> Tensor:
        """The squared gradient norm of each example, [examples].

        Of factors: ||L'R||^2 = <LL', RR'>, by the "ghost norm" of Goodfellow (2015) and Li et al. (2022).
        """
        self._settle()
        if self._whole is not None:
            whole, _ = _in_memory_order(self._whole)
            return torch.linalg.vector_norm(whole.reshape(len(whole), -1), dim=1).square()
        if not self._factors:
            return self._parameter.new_zeros(self._examples)
        left, right = self._factors[0]
        if left.shape[1] == 1:
            return (torch.linalg.vector_norm(left, dim=2) * torch.linalg.vector_norm(right, dim=2)).square()[:, 0]
        return ((left @ left.mT) * (right @ right.mT)).sum((1, 2))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """The sum over the examples of weight times gradient.

        Args:
            weights: [examples].

        Returns:
            The sum, shaped and laid out in memory as the parameter.
        """
        self._settle()
        weights, total = weights.to(self._parameter.dtype), torch.empty_like(self._parameter)
        if self._whole is not None:
            whole, order = _in_memory_order(self._whole)
            total.permute(order).copy_((weights @ whole.reshape(len(whole), -1)).view(whole.shape[1:]))
        elif self._factors:
            left, right = self._factors[0]
            torch.mm((left * weights[:, None, None]).flatten(0, 1).mT, right.flatten(0, 1), out=total)
        else:
            total.zero_()
        return total

    def _settle(self) -> None:
        """Reduces what was gathered to one whole gradient, or to one pair of factors, or to nothing."""
        if len(self._factors) > 1:
            joined = Factors(*(torch.cat(parts, dim=1) for parts in zip(*self._factors, strict=True)))
            self._factors = [joined]
        if self._factors:
            left, right = self._factors[0]
            terms, rows, columns = left.shape[1], left.shape[2], right.shape[2]
            if self._whole is not None or not Factors.worthwhile(terms, rows, columns):
                self._factors = []
                self.add(left.mT @ right)


def _in_memory_order(gradients: Tensor) -> tuple[Tensor, list[int]]:
    """The gradients with the axes after the first by falling stride, so that they flatten without a copy.

    Returns:
        The permuted gradients, and the order that permutes a parameter of theirs in the same way.
    """
    order = sorted(range(1, gradients.dim()), key=lambda axis: -gradients.stride(axis))
    return gradients.permute(0, *order), [axis - 1 for axis in order]
