"""Certified robustness: how many test inputs no small change can turn, with what certainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from guardclash.checks import within
from guardclash.data.space import Images, Rows, Space, movable, unmoved
from guardclash.judging.criteria import SHARE, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.numerics.smoothing import certified_radius, lower_bound, pixeldp_radius, upper_bound, votes
from guardclash.plan.examples import class_indices
from guardclash.plan.plan import Context, Plan
from guardclash.telling import counted
from guardclash.training.trained import Trained, predictor

FIRST = 100
"""Votes by which the class is chosen, before others tell how certain it is."""
CONFIDENCE = 0.05
"""Of PixelDP's bounds together, shared by all classes."""


class Certificate(NamedTuple):
    """What is certain of one test input."""

    right: bool
    radius: float | None
    """In which the class stays, in l2; None: nothing is certain."""
    pixeldp: float
    """The same by PixelDP's theorem, from the same votes."""


@dataclass(frozen=True)
class Certified(Measure):
    """Certified accuracy (Cohen et al. 2019): the share of test inputs that are told right however they are moved.

    The network is asked under Gaussian noise and the class with most votes is the answer; how far in l2 an input may be
    moved follows from the share of votes. Certain is each single certificate but for a chance of alpha: of 1,000 about
    one is wrong at 0.001. A radius in l2 says little of a ball in l-infinity: in 784 dimensions 1 is 0.036. It is the
    bare network that votes, trained with noise or not; of ordinary networks little is certain.
    """

    name: ClassVar[str] = "certified"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images, Rows)
    does: ClassVar[str] = "moves inputs a little"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cert_accuracy", "φ_CERT", MaxDrop(0.10), title="certified accuracy at the radius", range=SHARE),
        Metric(
            "cert_smoothed", "smoothed φ_ACC", None, title="accuracy of the votes where they are certain", range=SHARE
        ),
        Metric("cert_radius", "radius", None, title="mean certified radius in l2, 0 where nothing is certain"),
        Metric("cert_pixeldp", "PixelDP radius", None, title="the same by PixelDP's theorem"),
        Metric(
            "cert_abstained", "abstained", None, False, title="test inputs of which nothing is certain", range=SHARE
        ),
    )

    sigma: float = 0.5
    """Standard deviation of the noise, in pixels of [0, 1] or standard deviations of columns."""
    radius: float = 0.5
    """In l2, in the same units."""
    draws: int = 1000
    """Votes for each input, after the 100 by which the class is chosen."""
    alpha: float = 0.001
    """Chance that a certificate is wrong, for each input."""
    test_examples: int = 500
    """Test inputs, the first ones."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, finite", sigma=self.sigma, radius=self.radius)
        within(self.name, ">= 1", draws=self.draws, test_examples=self.test_examples)
        within(self.name, "> 0, < 1", alpha=self.alpha)

    def misfit(self, plan: Plan) -> str:
        """As for every measure; also that no input can be moved a little."""
        stuck = unmoved(plan.purpose.space) if plan.purpose else ""
        return super().misfit(plan) or (f"moves inputs a little, and {stuck}" if stuck else "")

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """All metrics of any model."""
        x, labels = context.data(trained.plan.judged_by.test).take(slice(self.test_examples))
        y, rng = class_indices(labels), context.rng(self.name)
        asked = counted(tuple(zip(x, y, strict=True)))
        found = [self._certificate(trained, one[None], int(label), rng) for one, label in asked]
        radii = torch.tensor([one.radius or 0.0 if one.right else 0.0 for one in found], dtype=torch.float64)
        certain = torch.tensor([one.right and one.radius is not None for one in found])
        return {
            "cert_accuracy": (certain & (radii >= self.radius)).double().mean().item(),
            "cert_smoothed": certain.double().mean().item(),
            "cert_radius": radii.mean().item(),
            "cert_pixeldp": sum(one.pixeldp for one in found if one.right) / len(found),
            "cert_abstained": sum(one.radius is None for one in found) / len(found),
        }

    def _certificate(self, trained: Trained, x: Tensor, label: int, rng: torch.Generator) -> Certificate:
        predict, free = predictor(trained.network), movable(trained.plan.judged_by.space)
        told = int(votes(predict, x, FIRST, self.sigma, free, rng).argmax())
        counts = votes(predict, x, self.draws, self.sigma, free, rng)
        hits = int(counts[told])
        second = max((int(count) for place, count in enumerate(counts) if place != told), default=0)
        share = CONFIDENCE / len(counts)
        bounds = lower_bound(hits, self.draws, share), upper_bound(second, self.draws, share)
        radius = certified_radius(hits, self.draws, self.sigma, self.alpha)
        return Certificate(told == label, radius, pixeldp_radius(*bounds, self.sigma))

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That the radius lies beyond what so many votes can make certain."""
        most = certified_radius(self.draws, self.draws, self.sigma, self.alpha) or 0.0
        if most >= self.radius:
            return ()
        return (f"{self.draws} votes certify at most a radius of {most:.3g}, so none reaches {self.radius:g}",)
