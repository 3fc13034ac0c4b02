"""A surrogate that learns what the victim answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, get_args

from guardclash.checks import given, one_of, within
from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.objectives import CrossEntropy, Distilled
from guardclash.plan.plan import Plan, Source
from guardclash.plan.sources import Answer, Answers, Drawn
from guardclash.suspect import Suspect, disjoint, on, other_images


@dataclass(frozen=True)
class Extraction(Suspect):
    """Model extraction: a surrogate is trained on the victim's answers.

    With the owner's own images as queries and probabilities as answers it is distillation.
    """

    kind: ClassVar[str] = "extraction"

    queries: str = "task"
    """"task": images of the same distribution that the owner does not have; "out-of-distribution": of the other data
    set; "members": the owner's training images."""
    answers: Answer = "labels"
    """"labels": the most likely class; "probabilities": those of all classes."""
    budget: int | None = None
    """How many queries it may ask, drawn for every seed; None: all that there are."""
    temperature: float = 1.0
    """Of distillation: logits of both models are divided by it (Hinton et al. 2015). Of probabilities only."""

    def __post_init__(self) -> None:
        one_of("extraction", ("task", "out-of-distribution", "members"), queries=self.queries)
        one_of("extraction", get_args(Answer), answers=self.answers)
        within("extraction", ">= 1, whole", **given(budget=self.budget))
        within("extraction", "> 0, finite", temperature=self.temperature)
        if self.temperature != 1 and self.answers == "labels":
            what, mend = "labels have no temperature", 'Use answers = "probabilities".'
            raise UserError(what, where="extraction.temperature", got=self.temperature, mend=mend)

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """A fresh network of the recipe's architecture, trained on the answers."""
        own = unprotected.task.source
        images: Source = own
        if self.queries == "task":
            images = disjoint(own)
        elif self.queries == "out-of-distribution":
            images = other_images(unprotected)
        if self.budget is not None and self.budget < images.size:
            images = Drawn(images, self.budget, "extraction")
        thief = on(unprotected, Answers(images, victim, self.answers, unprotected.several_labels), "thief")
        return thief if self.temperature == 1 else self._distilled(thief)

    def _distilled(self, thief: Plan) -> Plan:
        if thief.several_labels:
            what = "several labels are told one by one, and have no temperature"
            raise UserError(what, where="extraction.temperature", got=self.temperature, allowed="1")
        first, *others = thief.task.objectives
        if first != CrossEntropy():
            what = "distillation takes the place of cross entropy, and this task is trained by something else"
            raise UserError(what, where="extraction.temperature", got=type(first).__name__, allowed="CrossEntropy")
        objectives = (Distilled(self.temperature), *others)
        return replace(thief, streams=(replace(thief.task, objectives=objectives),))
