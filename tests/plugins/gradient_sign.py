"""A mechanism in one file outside the package: a study names it by `plugins = ["gradient_sign.py"]`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from guardclash.judging.criteria import MaxGrowth, Metric
from guardclash.mechanism import Mechanism
from guardclash.plan.parts import Gradient, Losses
from guardclash.plan.plan import Context, Plan, Stream
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class Signs:
    """The signs of another gradient, scaled."""

    inner: Gradient
    scale: float

    def __call__(self, network: nn.Module, losses: Losses, rng: torch.Generator) -> dict[str, Tensor]:
        return {name: value.sign() * self.scale for name, value in self.inner(network, losses, rng).items()}


@dataclass(frozen=True)
class GradientSign(Mechanism):
    """Sign gradient: an observer of the gradients learns one bit of each number."""

    name: ClassVar[str] = "gradient-sign"
    concern: ClassVar[str] = "gradient leakage"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("gradient_bits", "bits", MaxGrowth(1.5), higher_is_better=False),)

    scale: float = 0.01

    def gradient(self, stream: Stream, plan: Plan) -> Stream:
        return replace(stream, gradient=Signs(stream.gradient, self.scale))

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        return {"gradient_bits": 1.0 if isinstance(trained.plan.task.gradient, Signs) else 32.0}
