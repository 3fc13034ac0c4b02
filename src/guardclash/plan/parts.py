"""The protocols of a stream's parts: how each is called, and what it gives. They know nothing of plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from guardclash.plan.examples import Data, Moment

Losses = Callable[[], Tensor]


class Sampler(Protocol):
    """How a pass over a stream is cut into batches."""

    @property
    def batch_size(self) -> int:
        """Examples per batch, on average."""

    def steps(self, size: int) -> int:
        """Batches in one pass over `size` examples."""

    def batches(self, size: int, rng: torch.Generator) -> list[Tensor]:
        """One pass: index tensors, int64."""


class BatchMap(Protocol):
    """A change to each batch before its loss is taken: augmentation, adversarial examples, other labels."""

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """The batch's successor, of as many examples; `rng` and `now` are given by name."""


class Objective(Protocol):
    """A loss."""

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B], weights (`Data.about`) left out; `now` is given by name."""


class Gradient(Protocol):
    """How the losses of a batch become the gradient that the optimizer sees."""

    def __call__(self, network: nn.Module, losses: Losses, rng: torch.Generator) -> dict[str, Tensor]:
        """Gradients by parameter name; `losses()` runs the forward pass and returns one loss per example."""


class Optimizer(Protocol):
    """Update rule and its hyperparameters."""

    @property
    def learning_rate(self) -> float:
        """The largest learning rate of the schedule."""

    def start(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Fresh state (momentum buffers) for the parameters."""

    def adjust(self, state: torch.optim.Optimizer, factor: float, momentum: float | None) -> None:
        """Sets learning rate = factor * learning_rate, and the momentum unless it is None."""


class Schedule(Protocol):
    """Learning rate and momentum over the steps of the first stream."""

    def at(self, step: int, total: int) -> tuple[float, float | None]:
        """Factor on the learning rate and the momentum (None: the optimizer's own) at a step in 0..total-1."""
