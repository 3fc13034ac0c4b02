"""Adversarial training by projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash.mechanisms.evasion import Evasion
from guardclash.plan.plan import Plan, Stream


@dataclass(frozen=True)
class AdversarialTraining(Evasion):
    """Adversarial training (Madry et al. 2018): every example is replaced by an adversarial one before each step.

    `units="published", mode="train", batch_norm="update"` is the training behind the paper's tables (section 2.3, Table
    3). `on=("task",)` leaves trigger sets clean: the relaxed variant of Table 6.
    """

    name: ClassVar[str] = "advtr"
    paper: ClassVar[str] = "Madry et al. 2018"

    def batch(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the attack after all other maps of the stream."""
        return replace(stream, maps=(*stream.maps, self.inner(plan)))
