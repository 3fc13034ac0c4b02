"""The victim, trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.checks import given, one_of, within
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan, Source
from guardclash.plan.removal import LastLayer
from guardclash.plan.sources import Answers
from guardclash.suspect import Suspect, disjoint, on


@dataclass(frozen=True)
class FineTuning(Suspect):
    """The victim's weights, trained on: all of them or the last layer, which may be forgotten first.

    Lukas et al. (2021) call these FTAL (all), FTLL (`layers = "last"`), RTLL (with `forget`) and RTAL (`forget` alone).
    """

    kind: ClassVar[str] = "fine-tuning"

    images: str = "task"
    """"task": images of the same distribution that the owner does not have; "members": the owner's training images."""
    epochs: int | None = None
    """None: half of the recipe's, rounded up."""
    learning_rate: float = 0.1
    """The largest, as a share of the recipe's."""
    layers: str = "all"
    """"all", or "last": only the last linear layer is trained."""
    forget: bool = False
    """Draw the weights of the last linear layer anew first."""
    labels: str = "true"
    """"true", or "victim": the classes that the victim's model tells, for a thief without labels."""

    def __post_init__(self) -> None:
        one_of("fine-tuning", ("task", "members"), images=self.images)
        within("fine-tuning", ">= 1", **given(epochs=self.epochs))
        within("fine-tuning", "> 0, <= 1", learning_rate=self.learning_rate)
        one_of("fine-tuning", ("all", "last"), layers=self.layers)
        one_of("fine-tuning", ("true", "victim"), labels=self.labels)

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The victim's network with a smaller learning rate and fewer epochs."""
        own = unprotected.task.source
        images: Source = own if self.images == "members" else disjoint(own)
        if self.labels == "victim":
            images = Answers(images, victim, "labels", unprotected.several_labels)
        optimizer: Any = unprotected.optimizer
        changed = LastLayer(self.forget, self.layers == "last")
        thief = on(unprotected, images, "thief")
        return replace(
            thief,
            rewrites=thief.rewrites if changed == LastLayer() else (*thief.rewrites, changed),
            model=victim.origin.model,
            initial=victim.origin,
            epochs=self.epochs or (unprotected.epochs + 1) // 2,
            optimizer=replace(optimizer, learning_rate=self.learning_rate * optimizer.learning_rate),
        )
