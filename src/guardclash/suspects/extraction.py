"""A surrogate that learns what the victim answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from guardclash.checks import one_of
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan, Source
from guardclash.plan.sources import Answer, Answers
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

    def __post_init__(self) -> None:
        one_of("extraction", ("task", "out-of-distribution", "members"), queries=self.queries)
        one_of("extraction", get_args(Answer), answers=self.answers)

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """A fresh network of the recipe's architecture, trained on the answers."""
        own = unprotected.task.source
        images: Source = own
        if self.queries == "task":
            images = disjoint(own)
        elif self.queries == "out-of-distribution":
            images = other_images(unprotected)
        return on(unprotected, Answers(images, victim, self.answers, unprotected.several_labels), "thief")
