"""Adversarial training by projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash.mechanisms.evasion import Evasion
from guardclash.plan.adversarial import Adversarial, AdversarialEmbeddings, Shifted
from guardclash.plan.parts import BatchMap
from guardclash.plan.plan import Plan, Stream


@dataclass(frozen=True)
class AdversarialTraining(Evasion):
    """Adversarial training (Madry et al. 2018): every example is replaced by an adversarial one before each step.

    Of rows the numbers move, and categories stay. Tokens cannot be moved; `embeddings = true` shifts their vectors.
    `units="published", mode="train", batch_norm="update"` is the training behind the paper's tables (section 2.3, Table
    3). `on=("task",)` leaves trigger sets clean: the relaxed variant of Table 6.
    """

    name: ClassVar[str] = "advtr"
    title: ClassVar[str] = "adversarial training"
    paper: ClassVar[str] = "Madry et al. 2018"

    def batch(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the attack after all other maps of the stream."""
        return replace(stream, maps=(*stream.maps, self.inner(plan)))

    def inner(self, plan: Plan) -> BatchMap:
        """The attack as the training applies it."""
        if self.embeddings:
            padding = getattr(plan.judged_by.space, "padding", None)
            return AdversarialEmbeddings(self.attack(plan), padding, *self.seen(), plan.several_labels)
        return Adversarial(self.attack(plan), *self.seen(), plan.several_labels)

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Where vectors of tokens are attacked, takes all losses of them as they are shifted."""
        if not self.embeddings:
            return stream
        return replace(stream, objectives=tuple(Shifted(loss) for loss in stream.objectives))
