"""What is measured of a trained model: its accuracy, a mechanism's metrics, the claim of an owner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

from guardclash.judging.criteria import ACCURACY, Metric
from guardclash.mechanism import Curve, Mechanism
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.plan.serving import served
from guardclash.plan.sources import Split
from guardclash.training.trained import Trained, accuracy


class Measure(Protocol):
    """What a probe asks of a trained model: a mechanism, or the accuracy that every model has."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What it measures."""

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """Other trainings that it reads."""

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """Metrics by name."""

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """What these values warn of."""


@dataclass(frozen=True)
class TestAccuracy:
    """phi_ACC on the test set (equation 1)."""

    __test__: ClassVar[bool] = False  # not a test, whatever pytest thinks of the name
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY,)

    test: Split

    def needs(self, plan: Plan) -> tuple[Plan, ...]:
        """Nothing."""
        return ()

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The accuracy, in [0, 1]."""
        x, y = context.data(self.test)
        return {ACCURACY.name: accuracy(trained.predict, x, y)}

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True)
class Verification:
    """What a mechanism's owner finds out about a suspect."""

    mechanism: Mechanism
    victim: Plan
    serving: tuple[Mechanism, ...] = ()
    """The mechanisms through which the victim answers."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The mechanism's own."""
        return self.mechanism.metrics

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """The victim, and what the mechanism needs to measure it."""
        return (self.victim, *self.mechanism.needs(self.victim))

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mechanism's metrics on the suspect."""
        return self.mechanism.verify(trained, self._victim(context), context)

    def curves(self, trained: Trained, context: Context) -> dict[str, Curve]:
        """The mechanism's curves of the suspect; only comparisons with a victim have any."""
        return self.mechanism.curves(trained, self._victim(context), context)

    def _victim(self, context: Context) -> Trained:
        return cast(Trained, served(context.trained(self.victim), self.serving, context))

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """The mechanism's own."""
        return self.mechanism.warnings(metrics)
