"""In which numbers a training is kept: the protocol that an arithmetic satisfies."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Arithmetic(Protocol):
    """How numbers are kept in a training: what does not fit is rounded as it says.

    The trainer keeps so what a step releases, and after each step weights and the optimizer's state; the initial
    weights too. What layers give is the affair of rewrites, which ask `guardclash.numerics.inexact` for the chance
    of the step.
    """

    @property
    def each(self) -> Arithmetic | None:
        """How each example's clipped gradient is kept before they are added up, if it is; None: only their sum is."""

    def store(self, tensor: Tensor, rng: torch.Generator) -> Tensor:
        """A tensor as it is kept, laid out as it was; `rng` is for chance, on the CPU."""

    def added(self, numbers: int) -> float:
        """By how much keeping a vector of so many numbers may lengthen it, in the l2 norm."""
