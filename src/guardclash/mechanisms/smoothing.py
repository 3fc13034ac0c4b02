"""Randomised smoothing: training with noise, and answers by votes under noise."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.data.space import Images, Rows, Space, movable
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.certified import Certified
from guardclash.mechanism import Mechanism
from guardclash.numerics.keyed import plain_bytes
from guardclash.numerics.smoothing import certified_radius, noisy, votes
from guardclash.plan.examples import Data, Moment
from guardclash.plan.plan import Context, Plan, Predict, Stream
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class Noise:
    """A batch map: inputs with Gaussian noise, which may leave [0, 1]."""

    sigma: float
    free: int | None = None
    """How many of the first columns get any; None: all."""

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """The same examples, noisy."""
        return replace(batch, x=noisy(batch.x, self.sigma, self.free, rng))


@dataclass(frozen=True)
class Votes:
    """Answers by votes of a network under noise that hangs on a secret and on the query, not on the call."""

    predict: Predict
    count: int
    sigma: float
    free: int | None
    secret: bytes
    pixels: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, classes]: logarithms of the shares of votes, by Laplace's rule."""
        if not len(x):
            return self.predict(x)
        return torch.stack(
            [self._answer(one[None], query) for one, query in zip(x, plain_bytes(x, self.pixels), strict=True)]
        )

    def _answer(self, x: Tensor, query: bytes) -> Tensor:
        seed = int.from_bytes(hmac.digest(self.secret, query, "sha256")[:7], "big")
        rng = torch.Generator().manual_seed(seed)
        told = votes(self.predict, x, self.count, self.sigma, self.free, rng).double()
        return ((told + 1 / len(told)) / (self.count + 1)).log().float()


@dataclass(frozen=True)
class Smoothing(Mechanism):
    """Randomised smoothing (Cohen et al. 2019): trained with Gaussian noise, the model answers by votes under noise.

    How far in l2 an input may be moved without another answer follows from the votes and is certain, where robustness
    against an attack says only that this attack failed. The same query has the same noise, so that asking again tells
    nothing more. Noise comes after whatever else changes a batch. Every query costs as many as there are votes.
    """

    name: ClassVar[str] = "smoothing"
    title: ClassVar[str] = "randomised smoothing"
    concern: ClassVar[str] = "model evasion"
    paper: ClassVar[str] = "Cohen et al. 2019; Lecuyer et al. 2019"
    order: ClassVar[int] = 2  # noise on top of what others made of an input
    one_class: ClassVar[bool] = True
    spaces: ClassVar[tuple[type[Space], ...]] = (Images, Rows)
    does: ClassVar[str] = Certified.does
    metrics: ClassVar[tuple[Metric, ...]] = Certified.metrics

    sigma: float = 0.5
    """Standard deviation of the noise, in pixels of [0, 1] or standard deviations of columns."""
    radius: float = 0.5
    """At which accuracy is certified, in l2."""
    draws: int = 1000
    """Votes that a certificate rests on."""
    alpha: float = 0.001
    """Chance that a certificate is wrong, for each input."""
    test_examples: int = 500
    """Test inputs that are certified, the first ones."""
    votes: int = 100
    """By which the deployed model answers; 0: it answers without noise."""

    def __post_init__(self) -> None:
        self.certified()
        within(self.name, ">= 0, whole", votes=self.votes)

    def certified(self) -> Certified:
        """What shows that it works."""
        return Certified(self.sigma, self.radius, self.draws, self.alpha, self.test_examples)

    def misfit(self, plan: Plan) -> str:
        """As for the certificates."""
        return self.certified().misfit(plan)

    def measures(self) -> tuple[Measure, ...]:
        """Certified accuracy."""
        return (self.certified(),)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """As its measure."""
        return self.certified().measure(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """As its measure."""
        return self.certified().warnings(metrics)

    def batch(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the noise after all other maps of the stream."""
        free = movable(plan.purpose.space) if plan.purpose else None
        return replace(stream, maps=(*stream.maps, Noise(self.sigma, free)))

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """Votes under noise."""
        if not self.votes:
            return predict
        secret = bytes(torch.randint(256, (32,), generator=context.rng(self.name, "noise")).tolist())
        space = trained.plan.judged_by.space
        return Votes(predict, self.votes, self.sigma, movable(space), secret, isinstance(space, Images))

    def facts(self, plan: Plan) -> dict[str, str]:
        """The noise, the votes, and the largest radius that votes can certify."""
        most = certified_radius(self.draws, self.draws, self.sigma, self.alpha)
        reach = "nothing" if most is None else f"l2 radii up to {most:.3g}"
        return {
            "noise": f"σ = {self.sigma:g}, in training and in answers",
            "answers": f"{self.votes} votes for each query" if self.votes else "without noise",
            "certifiable": f"{reach} by {self.draws} votes, each wrong with a chance of {self.alpha:g}",
        }
