"""Update rules and learning-rate schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from guardclash.checks import within


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum and weight decay."""

    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        within("", "> 0, finite", learning_rate=self.learning_rate)
        within("", ">= 0, finite", weight_decay=self.weight_decay)
        within("", ">= 0, < 1", momentum=self.momentum)

    def start(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Fresh momentum buffers for the parameters."""
        lr, momentum, decay = self.learning_rate, self.momentum, self.weight_decay
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=decay, foreach=True)

    def adjust(self, state: torch.optim.Optimizer, factor: float, momentum: float | None) -> None:
        """Sets learning rate and momentum; a momentum of 0 stays 0 under any schedule."""
        for group in state.param_groups:
            group["lr"] = factor * self.learning_rate
            if momentum is not None and self.momentum > 0:
                group["momentum"] = momentum


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015); a schedule's momentum sets its first coefficient."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        within("", "> 0, finite", learning_rate=self.learning_rate)
        within("", ">= 0, finite", weight_decay=self.weight_decay)
        within("", ">= 0, < 1", beta1=self.beta1)

    def start(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Fresh moment estimates for the parameters."""
        lr, betas, decay = self.learning_rate, (self.beta1, self.beta2), self.weight_decay
        return torch.optim.Adam(parameters, lr=lr, betas=betas, weight_decay=decay, foreach=True)

    def adjust(self, state: torch.optim.Optimizer, factor: float, momentum: float | None) -> None:
        """Sets learning rate and first coefficient."""
        for group in state.param_groups:
            group["lr"] = factor * self.learning_rate
            if momentum is not None:
                group["betas"] = (momentum, self.beta2)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose weight decay does not go through the moments (Loshchilov and Hutter 2019)."""

    weight_decay: float = 0.01

    def start(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Fresh moment estimates for the parameters."""
        lr, betas, decay = self.learning_rate, (self.beta1, self.beta2), self.weight_decay
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=decay, foreach=True)


@dataclass(frozen=True)
class Constant:
    """The optimizer's own learning rate and momentum throughout."""

    def at(self, step: int, total: int) -> tuple[float, float | None]:
        """(1, None)."""
        return 1.0, None


@dataclass(frozen=True)
class OneCycle:
    """One-cycle schedule with cosine ramps (Smith and Topin 2017; the numbers of torch's OneCycleLR).

    The paper's Table 1 gives starting and maximum rate: `start` is their ratio.
    """

    start: float = 0.2
    """First learning rate over the largest."""
    end: float = 1e-4
    """Last learning rate over the first."""
    rise: float = 0.3
    """Share of the steps up to the largest rate."""
    momentum: tuple[float, float] | None = (0.85, 0.95)
    """Momentum at the largest and at the smallest rate; None leaves the optimizer's own."""

    def __post_init__(self) -> None:
        within("", ">= 0, <= 1", rise=self.rise)

    def at(self, step: int, total: int) -> tuple[float, float | None]:
        """Factor on the largest learning rate and momentum at a step in 0..total-1."""
        # torch's OneCycleLR has its peak one step before this share of the steps, and so has this.
        last, peak = max(total - 1, 1), max(self.rise * total - 1, 0.0)
        # What comes after the last step of the task counts all of its steps as done.
        step = min(step, last)
        if step <= peak:
            share = step / peak if peak else 1.0
            factor, low = _cosine(self.start, 1.0, share), 1.0 - _cosine(0.0, 1.0, share)
        else:
            share = (step - peak) / (last - peak)
            factor, low = _cosine(1.0, self.start * self.end, share), _cosine(0.0, 1.0, share)
        if self.momentum is None:
            return factor, None
        at_peak, at_ends = self.momentum
        return factor, at_peak + (at_ends - at_peak) * low


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))
