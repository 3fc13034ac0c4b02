"""A surrogate that grows its own queries from few images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, get_args

from guardclash.checks import one_of, within
from guardclash.data.space import unmoved
from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.jacobian import substitutes
from guardclash.plan.plan import Plan
from guardclash.plan.sources import Answer, Drawn
from guardclash.suspect import Suspect, disjoint, on


@dataclass(frozen=True)
class Jacobian(Suspect):
    """Jacobian-based augmentation (Papernot et al. 2017): few images, doubled round by round by synthetic queries.

    In every round a substitute is trained from scratch on all answers so far, and every query is moved along the sign
    of the gradient of the substitute's loss: 100 images and 5 rounds make 3,200 queries.
    """

    kind: ClassVar[str] = "jacobian"

    seeds: int = 100
    """Images of the task, which the owner does not have, that it begins with."""
    rounds: int = 5
    step: float = 0.1
    """How far an entry is moved, in pixels of [0, 1] or standard deviations of columns."""
    turns: int = 5
    """After so many rounds the sign changes, and again."""
    epochs: int = 10
    """Of every substitute."""
    answers: Answer = "labels"
    """As of extraction."""

    def __post_init__(self) -> None:
        within(self.kind, ">= 2, whole", seeds=self.seeds)
        within(self.kind, ">= 1, whole", rounds=self.rounds, turns=self.turns, epochs=self.epochs)
        within(self.kind, "> 0, finite", step=self.step)
        one_of(self.kind, get_args(Answer), answers=self.answers)

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The training of the last substitute, which holds those before it.

        Raises:
            UserError: If inputs cannot be moved a little, or too few are left.
        """
        stuck = unmoved(unprotected.judged_by.space)
        if stuck:
            raise UserError(f"made-up queries are moved a little, and {stuck}", where=self.kind)
        others = disjoint(unprotected.task.source)
        images = Drawn(others, min(self.seeds, others.size), self.kind)
        thief = replace(on(unprotected, images, "thief"), epochs=self.epochs)
        return substitutes(images, victim, thief, self.rounds, self.step, self.turns, self.answers)
