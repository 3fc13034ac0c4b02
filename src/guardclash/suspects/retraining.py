"""A model of stolen data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash.plan.condition import in_same_world, origin
from guardclash.plan.deployed import Deployed
from guardclash.plan.members import members_of
from guardclash.plan.plan import Plan
from guardclash.suspect import Suspect, disjoint, on, split_of


@dataclass(frozen=True)
class Retraining(Suspect):
    """A model trained from scratch on the owner's data, which was stolen instead of the model."""

    kind: ClassVar[str] = "retraining"

    more: bool = False
    """Whether the thief adds as many images of the same distribution (A + B of the talk)."""

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The recipe's training on the victim's task data, marks included if it has them."""
        if self.more:
            own = split_of(origin(unprotected.task.source))
            more = replace(own, limit=own.size + disjoint(own).size)
            return on(unprotected, in_same_world(more, unprotected.task.source), "thief")
        return on(unprotected, members_of(victim.origin), "thief")
