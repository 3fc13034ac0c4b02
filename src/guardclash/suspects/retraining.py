"""A model of stolen data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash.checks import within
from guardclash.errors import UserError
from guardclash.plan.condition import in_same_world, origin
from guardclash.plan.deployed import Deployed
from guardclash.plan.members import members_of
from guardclash.plan.partly import Partly
from guardclash.plan.plan import Plan
from guardclash.suspect import Suspect, disjoint, on, split_of


@dataclass(frozen=True)
class Retraining(Suspect):
    """A model trained from scratch on the owner's data, which was stolen instead of the model."""

    kind: ClassVar[str] = "retraining"

    more: bool = False
    """Whether the thief adds as many images of the same distribution (A + B of the talk)."""
    share: float = 1.0
    """Of the owner's images that the thief has; the rest are others of the same distribution."""

    def __post_init__(self) -> None:
        within(self.kind, "> 0, <= 1", share=self.share)
        if self.more and self.share != 1:
            mend = "Say one of the two: `more` adds to all of the owner's images, `share` takes some of them."
            raise UserError(
                "a part of the images, and more than all", where=f"{self.kind}.share", got=self.share, mend=mend
            )

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The recipe's training on the victim's task data, marks included if it has them."""
        if self.more:
            own = split_of(origin(unprotected.task.source))
            more = replace(own, limit=own.size + disjoint(own).size)
            return on(unprotected, in_same_world(more, unprotected.task.source), "thief")
        stolen = members_of(victim.origin)
        if self.share < 1:
            stolen = Partly(stolen, disjoint(unprotected.task.source), self.share)
        return on(unprotected, stolen, "thief")
