"""What defences against poisoned training data share: what they are measured by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from guardclash.data.space import Space
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.backdoor import BackdoorSuccess
from guardclash.mechanism import Mechanism
from guardclash.plan.plan import Context, Plan
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class PoisonDefence(Mechanism):
    """A defence against a backdoor in the training data, judged by phi_ASR. Abstract: it changes nothing."""

    concern: ClassVar[str] = "model poisoning"
    spaces: ClassVar[tuple[type[Space], ...]] = BackdoorSuccess.spaces
    does: ClassVar[str] = "is measured by a square on images"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = BackdoorSuccess.metrics

    backdoor: Any = None
    """Which backdoor it is measured by; None: the one among the recipe's conditions, else the usual one. From Python
    only."""

    def bind(self, unprotected: Plan) -> Self:
        """With the backdoor of the recipe."""
        return replace(self, backdoor=self._success().bind(unprotected).backdoor)

    def _success(self) -> BackdoorSuccess:
        return BackdoorSuccess(self.backdoor)

    def measures(self) -> tuple[Measure, ...]:
        """Success of the backdoor; all defences share it, with each other and with a study that lists it."""
        return (self._success(),)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """phi_ASR of any model, as `BackdoorSuccess` measures it."""
        return self._success().measure(trained, context)
