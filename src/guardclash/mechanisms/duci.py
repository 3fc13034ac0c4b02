"""DUCI: which share of the owner's examples a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from guardclash.checks import within
from guardclash.judging.criteria import SHARE, Floor, Metric
from guardclash.mechanism import OTHER_CLASSES, Mechanism
from guardclash.numerics.membership import margins_of
from guardclash.numerics.usage import LEAST_GAP, Asked, Margins, Reference, Used, used
from guardclash.plan.deployed import Deployed
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.members import members_of
from guardclash.plan.plan import Context, OtherSeed, Plan, Predict
from guardclash.suspects.independent import Independent
from guardclash.suspects.retraining import Retraining
from guardclash.training.trained import Trained, predictor

HALF = 0.5
"""What a claim must exceed, and what the models of known share were given."""


def _bound_metric(name: str, symbol: str, title: str) -> Metric:
    return Metric(name, symbol, None, title=title, range=SHARE)


@dataclass(frozen=True)
class DUCI(Mechanism):
    """Dataset usage by calibrated membership inference: how many of the owner's examples a model was trained on.

    It changes no training. Each of the owner's examples is guessed to be a member or not by RMIA (offline, against
    innocent models), and the guesses are corrected by how often they are right and wrong on models of the owner's that
    were trained on a random half of the examples and filled up with others. phi_DUCI is the lower bound (95 %) of the
    share; the owner claims a model from 0.5 on.

    Three controls: an independent model, of which nothing must be claimed; images that nobody trained on, of which this
    very model must not seem to have used half (it does where it answers otherwise than the reference models, which are
    unprotected); and a model of half of the examples, whose interval must hold 0.5. All reference models belong to
    other replicates and are shared by all combinations.
    """

    name: ClassVar[str] = "duci"
    title: ClassVar[str] = "DUCI"
    does: ClassVar[str] = "guesses who was a member by the confidence in a class"
    one_class: ClassVar[bool] = True
    concern: ClassVar[str] = "model fingerprinting"
    paper: ClassVar[str] = "Tong et al. 2025"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "duci_low",
            "φ_DUCI",
            Floor(HALF),
            title="share of the owner's examples that were trained on, lower bound",
            range=SHARE,
            controls=("duci_framed", "duci_non_members"),
        ),
        replace(_bound_metric("duci_share", "share", "the estimate"), optional=True),
        _bound_metric("duci_high", "share, at most", "upper bound"),
        _bound_metric("duci_framed", "framed", "the lower bound of an independent model"),
        _bound_metric("duci_non_members", "non-members", "of images nobody trained on, asked of this model"),
        _bound_metric("duci_half_low", "half, at least", "lower bound of a model of half of the examples"),
        _bound_metric("duci_half_high", "half, at most", "upper bound of a model of half of the examples"),
        Metric("duci_gap", "gap", None, title="guesses: right minus wrong ones, on models of half of the examples"),
    )

    references: int = 2
    """Models of half of the examples that rates are taken from, and innocent ones that examples are compared by."""
    images: int = 5000
    """Examples of the owner that are asked about, at most."""
    population: int = 1000
    """Test examples that no model has seen, by which ratios are ranked; at most half of them."""
    framed: Any = None
    """The plan of the independent models; None: the study's unprotected training on other images. From Python only."""
    half: Any = None
    """The plan of the models of half of the examples; None: the study's unprotected training. From Python only."""

    def __post_init__(self) -> None:
        within(self.name, ">= 1, whole", references=self.references)
        within(self.name, ">= 20, whole", images=self.images, population=self.population)

    def bind(self, unprotected: Plan) -> DUCI:
        """With the reference models of this task.

        Raises:
            UserError: If there are too few other training images for them.
        """
        if not self.fits(unprotected):
            return self
        own = Deployed(unprotected)
        framed = self.framed or Independent().plan(own, unprotected)
        half = self.half or Retraining(share=HALF).plan(own, unprotected)
        return replace(self, framed=framed, half=half)

    def _bound(self, plan: Plan) -> DUCI:
        # From Python it may be measured without having been bound.
        first = plan.origin
        return self if self.half else self.bind(replace(first, streams=(first.task,), party=""))

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """Reference models: of other replicates, and of this one the controls."""
        bound = self._bound(plan)
        places = range(self.references)
        others = (OtherSeed(one, place) for one in (bound.framed, bound.half) for place in places)
        return (bound.framed, bound.half, *others)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """How much of the owner's examples the model itself seems to be of, with the controls."""
        return self.verify(trained, trained, context)

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """How much of the victim's examples the suspect seems to be of, with the controls."""
        own = context.data(members_of(victim.plan)).take(slice(self.images))
        owner = _Owner(self._bound(victim.plan), victim.plan, context)
        found = owner.used(suspect.predict, own, "suspect")
        spare = owner.used(suspect.predict, owner.spare, "non-members")
        if found is None or spare is None:
            return {}
        framed, half = (context.trained(one) for one in (owner.duci.framed, owner.duci.half))
        accused = owner.used(predictor(framed.network), own, "framed")
        known = owner.used(predictor(half.network), owner.of_half(context), "half")
        if accused is None or known is None:
            return {}
        return {
            "duci_low": found.low,
            **({} if found.share is None else {"duci_share": found.share}),
            "duci_high": found.high,
            "duci_framed": accused.low,
            "duci_non_members": spare.low,
            "duci_half_low": known.low,
            "duci_half_high": known.high,
            "duci_gap": found.gap,
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That nothing can be inferred, that a control fires or that the calibration is off."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if not metrics:
            yield OTHER_CLASSES
            return
        main = self.metrics[0]
        if metrics["duci_gap"] < LEAST_GAP:
            gap = metrics["duci_gap"]
            yield f"members are guessed only {gap:.3f} more often than others, so nothing can be inferred"
        elif not metrics["duci_half_low"] <= HALF <= metrics["duci_half_high"]:
            low, high = metrics["duci_half_low"], metrics["duci_half_high"]
            yield f"a model of half of the examples seems to be of {low:.2f} to {high:.2f}: the share is not calibrated"
        accused = [one for one in self.metrics if one.name in main.controls and main.claims(metrics[one.name])]
        if main.claims(metrics["duci_low"]) and accused:
            named = ", ".join(f"{one.symbol} {metrics[one.name]:.2f}" for one in accused)
            yield f"{main.symbol} {metrics['duci_low']:.2f} is not credible, for the controls fire too: {named}"


class _Owner:
    """What the owner has to guess with under one seed.

    Args:
        duci: Bound.
        plan: The victim's.
        context: Of the seed.
    """

    def __init__(self, duci: DUCI, plan: Plan, context: Context):
        self.duci, self._context = duci, context
        test = context.data(plan.judged_by.test)
        first = min(duci.population, len(test.x) // 2)
        # Two halves of the test images, since the population must not be asked about.
        self._population = test.take(slice(first))
        self.spare = test.take(slice(first, first + duci.images))
        places = range(duci.references)
        self._innocent = [predictor(context.trained(OtherSeed(duci.framed, place)).network) for place in places]
        self._references = self._known(places)

    def used(self, predict: Predict, data: Data, purpose: str) -> Used | None:
        """How much of some examples a model was trained on; None where it answers nothing of use."""
        asked = self._asked(predict, data)
        known = [one for one in self._references if one is not None]
        if asked is None or len(known) < len(self._references):
            return None
        seed = int(torch.randint(2**62, (1,), generator=self._context.rng(self.duci.name, purpose)))
        return used(asked, known, np.random.default_rng(seed))

    def of_half(self, context: Context) -> Data:
        """What the models of half of the examples were given half of, under a seed."""
        return context.data(self.duci.half.task.source.images).take(slice(self.duci.images))

    def _known(self, places: range) -> list[Reference | None]:
        found = []
        for place in places:
            other = OtherSeed(self.duci.half, place)
            there = self._context.under(other.seed(self._context.seed))
            asked = self._asked(predictor(self._context.trained(other).network), self.of_half(there))
            known = self.duci.half.task.source.chosen(there)[: self.duci.images]
            found.append(None if asked is None else Reference(asked, known.numpy()))
        return found

    def _asked(self, predict: Predict, data: Data) -> Asked | None:
        found = [
            self._margins(predict, self._innocent, one.x, class_indices(one.y)) for one in (data, self._population)
        ]
        (x, out_x), (z, out_z) = found
        if x is None or z is None or out_x is None or out_z is None:
            return None
        return Asked(Margins(x[0], z[0]), Margins(out_x, out_z))

    def _margins(self, predict: Predict, innocent: list[Predict], x: Tensor, y: Tensor) -> tuple[Any, Any]:
        return margins_of((predict,), x, y), margins_of(innocent, x, y)
