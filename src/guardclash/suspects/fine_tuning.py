"""The victim, trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan
from guardclash.suspect import Suspect, check_choice, disjoint, on


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
        check_choice("fine-tuning.images", self.images, ("task", "members"))
        if self.epochs is not None and self.epochs < 1:
            raise UserError("fine-tuning takes epochs", where="fine-tuning.epochs", got=self.epochs, allowed=">= 1")
        if not 0 < self.learning_rate <= 1:
            where, allowed = "fine-tuning.learning_rate", "above 0, at most 1"
            raise UserError("a share of the recipe's rate", where=where, got=self.learning_rate, allowed=allowed)

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
