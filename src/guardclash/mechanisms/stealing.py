"""What mechanisms against thieves of answers share: the training of the thief that they are measured by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from guardclash.mechanism import Mechanism
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan, Source
from guardclash.plan.sources import Answer, Answers
from guardclash.suspect import disjoint, on


@dataclass(frozen=True)
class AgainstThieves(Mechanism):
    """A mechanism measured by a thief who asks as many examples as the owner has, and others than these. Abstract."""

    unprotected: Any = None
    """The thief's training; None: the study's unprotected one. From Python only."""

    def bind(self, unprotected: Plan) -> Self:
        """With the thief's training.

        Raises:
            UserError: If too few examples are left that the owner does not have.
        """
        disjoint(unprotected.task.source)
        return replace(self, unprotected=self.unprotected or unprotected)

    def base(self, plan: Plan) -> Plan:
        """The thief's training, whatever its examples."""
        return self.unprotected or replace(plan, streams=(plan.task,))

    def others(self, plan: Plan) -> Source:
        """Examples of the task that the owner does not have."""
        return disjoint(self.base(plan).task.source)

    def thief(self, model: Deployed, answers: Answer = "labels") -> Plan:
        """The training of one who asks a model these."""
        return on(self.base(model.origin), Answers(self.others(model.origin), model, answers), "thief")
