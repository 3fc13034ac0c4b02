"""The victim, trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.checks import given, one_of, within
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan
from guardclash.suspect import Suspect, disjoint, on


@dataclass(frozen=True)
class FineTuning(Suspect):
    """The victim's weights, trained on with correct labels."""

    kind: ClassVar[str] = "fine-tuning"

    images: str = "task"
    """"task": images of the same distribution that the owner does not have; "members": the owner's training images."""
    epochs: int | None = None
    """None: half of the recipe's, rounded up."""
    learning_rate: float = 0.1
    """The largest, as a share of the recipe's."""

    def __post_init__(self) -> None:
        one_of("fine-tuning", ("task", "members"), images=self.images)
        within("fine-tuning", ">= 1", **given(epochs=self.epochs))
        within("fine-tuning", "> 0, <= 1", learning_rate=self.learning_rate)

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The victim's network with a smaller learning rate and fewer epochs."""
        own = unprotected.task.source
        optimizer: Any = unprotected.optimizer
        return replace(
            on(unprotected, own if self.images == "members" else disjoint(own), "thief"),
            model=victim.origin.model,
            initial=victim.origin,
            epochs=self.epochs or (unprotected.epochs + 1) // 2,
            optimizer=replace(optimizer, learning_rate=self.learning_rate * optimizer.learning_rate),
        )
