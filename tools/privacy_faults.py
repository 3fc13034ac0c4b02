"""Mistakes that are made of private training, planted one at a time: an audit that misses one proves nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from guardclash.plan import gradients
from guardclash.plan.gradients import ClippedNoisy
from guardclash.plan.samplers import Poisson

_call, _clipped_sum = ClippedNoisy.__call__, gradients.clipped_sum


def _noise_times(share: Any, self: ClippedNoisy, *arguments: Any) -> dict[str, Tensor]:
    return _call(replace(self, noise_multiplier=self.noise_multiplier * share(self)), *arguments)


def _same_noise(self: ClippedNoisy, network: nn.Module, losses: Any, rng: torch.Generator) -> dict[str, Tensor]:
    return _call(self, network, losses, torch.Generator().manual_seed(0))


def _of_drawn(self: ClippedNoisy, network: nn.Module, losses: Any, rng: torch.Generator) -> dict[str, Tensor]:
    drawn = max(1, len(losses()))
    return _call(replace(self, expected_batch_size=drawn), network, losses, rng)


def _unclipped(network: nn.Module, losses: Any, clip: float, *rest: Any) -> Any:
    return _clipped_sum(network, losses, math.inf, *rest)


def _of_batches(network: nn.Module, losses: Any, clip: float, *rest: Any) -> Any:
    found = _clipped_sum(network, losses, math.inf, *rest)
    length = torch.cat([value.flatten() for value in found.total.values()]).norm()
    return found._replace(total={name: value * min(1.0, clip / length) for name, value in found.total.items()})


def _twice_as_often(self: Poisson, size: int, rng: torch.Generator) -> list[Tensor]:
    draws = (torch.rand(size, generator=rng, dtype=torch.float64) for _ in range(self.steps(size)))
    return [(draw < 2 * self.rate(size)).nonzero().flatten() for draw in draws]


def _in_turn(self: Poisson, size: int, rng: torch.Generator) -> list[Tensor]:
    return list(torch.randperm(size, generator=rng).chunk(self.steps(size)))


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "half the noise": (ClippedNoisy, "__call__", lambda *given: _noise_times(lambda _: 0.5, *given)),
    "noise divided twice by the batch size": (
        ClippedNoisy,
        "__call__",
        lambda *given: _noise_times(lambda rule: 1 / rule.expected_batch_size, *given),
    ),
    "the same noise in every step": (ClippedNoisy, "__call__", _same_noise),
    "no clipping": (gradients, "clipped_sum", _unclipped),
    "the sum clipped, not each gradient": (gradients, "clipped_sum", _of_batches),
    "divided by the drawn batch size": (ClippedNoisy, "__call__", _of_drawn),
    "twice the sampling rate": (Poisson, "batches", _twice_as_often),
    "batches that share no example": (Poisson, "batches", _in_turn),
}
"""What stands in whose place."""
OF_SAMPLING = ("divided by the drawn batch size", "twice the sampling rate", "batches that share no example")
"""Those that are none where every batch is everybody."""


@contextmanager
def planted(fault: str) -> Iterator[None]:
    """With a mistake of `FAULTS` in every training."""
    owner, name, other = FAULTS[fault]
    with patch.object(owner, name, other):
        yield
