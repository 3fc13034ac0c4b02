"""From the losses of a batch to the gradient that the optimizer sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.numerics.clipping import clipped_sum
from guardclash.numerics.inexact import step_chance
from guardclash.plan.arithmetic import Arithmetic
from guardclash.plan.examples import Data, Moment


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a training moves, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def kept_in(gradient: Any, arithmetic: Arithmetic | None) -> Any:
    """A gradient slot in an arithmetic, which may keep each example's gradient before they are added up."""
    each = arithmetic.each if arithmetic else None
    return gradient if each is None or not getattr(gradient, "per_example", False) else replace(gradient, each=each)


@dataclass(frozen=True)
class Mean:
    """The ordinary gradient of the mean loss; zero for an empty batch."""

    def __call__(self, network: nn.Module, losses: Callable[[], Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Gradients by parameter name; parameters that the loss does not touch get zeros."""
        named = trainable(network)
        values = losses()
        # Poisson sampling may draw an empty batch.
        total = values.sum() / max(1, values.numel())
        found = torch.autograd.grad(total, list(named.values()), materialize_grads=True, allow_unused=True)
        return dict(zip(named, found, strict=True))


@dataclass(frozen=True)
class Views:
    """Augmentation multiplicity (De et al. 2022): several augmented views of every example, whose losses are averaged.

    They are views of one example, so that what it does to the gradient is bounded as before.
    """

    change: Any
    """The augmentation, a map (`guardclash.plan.plan.BatchMap`)."""
    count: int

    def __post_init__(self) -> None:
        within("", ">= 1, whole", views=self.count)

    def of(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> tuple[Data, ...]:
        """The views of a batch, each as long as it."""
        return tuple(self.change(network, batch, rng=rng, now=now) for _ in range(self.count))


@dataclass(frozen=True)
class ClippedNoisy:
    """The DP-SGD gradient (Abadi et al. 2016, algorithm 1): clip each example's, add up, add noise, divide.

    The sum is divided by the *expected* batch size: the size drawn by Poisson sampling is itself private.
    """

    per_example: ClassVar[bool] = True
    """It needs losses that hang on one example each: what mixes examples clashes with it."""

    clip: float
    """Bound C on the l2 norm of one example's gradient."""
    noise_multiplier: float
    """Standard deviation of the noise on the sum, in units of C."""
    expected_batch_size: float
    each: Arithmetic | None = None
    """How each example's clipped gradient is kept before they are added up: rounding may lengthen it, which the noise
    then hides less. None: as it is."""
    views: Views | None = None
    """Of each example: what is clipped is the gradient of its mean loss over them. None: the example as it is."""

    def __post_init__(self) -> None:
        within("", "> 0", clip=self.clip, expected_batch_size=self.expected_batch_size)
        within("", ">= 0", noise_multiplier=self.noise_multiplier)

    def __call__(self, network: nn.Module, losses: Callable[[], Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Noisy gradients by parameter name."""
        # Drawn apart from the noise, which is the same however numbers are kept.
        store = None if self.each is None else partial(self.each.store, rng=step_chance() or rng)
        total = clipped_sum(network, losses, self.clip, store).total
        scale = self.noise_multiplier * self.clip
        noisy = {}
        for name, value in total.items():
            # Drawn on the CPU, so that it is the same on every device.
            noise = torch.randn(value.shape, generator=rng, dtype=value.dtype).to(value.device)
            noisy[name] = value.add(noise, alpha=scale).div_(self.expected_batch_size)
        return noisy

    def noise_over(self, numbers: int) -> float:
        """The noise in units of what one example may do to the sum, of so many numbers: what accounting counts."""
        if self.each is None:
            return self.noise_multiplier
        return self.noise_multiplier * self.clip / (self.clip + self.each.added(numbers))
