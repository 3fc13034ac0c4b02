"""What an owner finds out about a suspect, as a measure of the suspect's model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from guardclash.judging.criteria import Metric
from guardclash.mechanism import Curve, Mechanism
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class Verification:
    """What a mechanism's owner finds out about a suspect."""

    mechanism: Mechanism
    victim: Deployed

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The mechanism's own."""
        return self.mechanism.metrics

    def needs_deployed(self, model: Deployed) -> tuple[Plan | OtherSeed, ...]:
        """The victim, and what the mechanism needs to measure it."""
        return (*self.victim.needed(), *self.mechanism.needs(self.victim.origin))

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mechanism's metrics on the suspect."""
        return self.mechanism.verify(trained, self._victim(context), context)

    def curves(self, trained: Trained, context: Context) -> dict[str, Curve]:
        """The mechanism's curves of the suspect; only comparisons with a victim have any."""
        return self.mechanism.curves(trained, self._victim(context), context)

    def _victim(self, context: Context) -> Trained:
        return cast(Trained, self.victim.load(context))

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """The mechanism's own."""
        return self.mechanism.warnings(metrics)
