"""The victim, trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.checks import given, one_of, within
from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.maps import SmoothedLabels
from guardclash.plan.plan import Plan, Rewrite, Source
from guardclash.plan.removal import LastLayer
from guardclash.plan.sources import Answers
from guardclash.suspect import Suspect, disjoint, on


@dataclass(frozen=True)
class FineTuning(Suspect):
    """The victim's weights, trained on: all of them or the last layer, which may be forgotten first.

    Lukas et al. (2021) call these FTAL (all), FTLL (`layers = "last"`), RTLL (with `forget`) and RTAL (`forget` alone).
    """

    kind: ClassVar[str] = "fine-tuning"
    least_epochs: ClassVar[int] = 1

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
    smoothing: float = 0.0
    """Share of the even distribution in the labels: a model that is less sure may forget what it was made to remember.
    Lukas et al. (2022) take 0.3."""

    def __post_init__(self) -> None:
        one_of(self.kind, ("task", "members"), images=self.images)
        within(self.kind, f">= {self.least_epochs}", **given(epochs=self.epochs))
        within(self.kind, "> 0, <= 1", learning_rate=self.learning_rate)
        one_of(self.kind, ("all", "last"), layers=self.layers)
        one_of(self.kind, ("true", "victim"), labels=self.labels)
        within(self.kind, ">= 0, < 1", smoothing=self.smoothing)

    def rewrites(self) -> tuple[Rewrite, ...]:
        """What is done to the victim's network before it is trained on."""
        changed = LastLayer(self.forget, self.layers == "last")
        return () if changed == LastLayer() else (changed,)

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The victim's network with a smaller learning rate and fewer epochs."""
        own = unprotected.task.source
        images: Source = own if self.images == "members" else disjoint(own)
        if self.labels == "victim":
            images = Answers(images, victim, "labels", unprotected.several_labels)
        optimizer: Any = unprotected.optimizer
        thief = self._smoothed(on(unprotected, images, "thief"))
        return replace(
            thief,
            rewrites=(*thief.rewrites, *self.rewrites()),
            model=victim.origin.model,
            initial=victim.origin,
            epochs=self.epochs or (unprotected.epochs + 1) // 2,
            optimizer=replace(optimizer, learning_rate=self.learning_rate * optimizer.learning_rate),
        )

    def _smoothed(self, thief: Plan) -> Plan:
        if not self.smoothing:
            return thief
        if thief.several_labels:
            what = "labels that are told one by one are not smoothed over classes"
            raise UserError(what, where=f"{self.kind}.smoothing", got=self.smoothing, allowed="0")
        even = SmoothedLabels(self.smoothing, thief.model.classes, ramp=False)
        return replace(thief, streams=(replace(thief.task, maps=(*thief.task.maps, even)),))
