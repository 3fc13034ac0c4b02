"""Suspects: how somebody comes by a model that resembles the owner's, stolen or not, as plans.

A suspect is a training like any other. Stolen ones hold the victim's plan, or train on its data; innocent ones share at
most the distribution. Each belongs to a party of its own, so that it does not start from the owner's random numbers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

from guardclash.data.catalog import find_dataset
from guardclash.errors import UserError
from guardclash.plan.condition import in_same_world, origin
from guardclash.plan.plan import Plan, Source
from guardclash.plan.sources import Answer, Answers, Split


@dataclass(frozen=True)
class Suspect:
    """A way to come by a model. Its fields are its options."""

    kind: ClassVar[str]
    """How studies name it."""

    @property
    def stolen(self) -> bool:
        """Whether the model owes anything to the owner's model or data."""
        return True

    def plan(self, victim: Plan, unprotected: Plan, serving: tuple[Any, ...] = ()) -> Plan:
        """The training of the suspect.

        Args:
            victim: The owner's training, with its mechanisms.
            unprotected: The training of the study's recipe, as the suspect's party would do it on its own.
            serving: The mechanisms through which the victim answers: who queries it meets them.

        Raises:
            UserError: If there are no images left for it.
        """
        raise NotImplementedError


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
        _check_choice("extraction.queries", self.queries, ("task", "out-of-distribution", "members"))
        _check_choice("extraction.answers", self.answers, get_args(Answer))

    def plan(self, victim: Plan, unprotected: Plan, serving: tuple[Any, ...] = ()) -> Plan:
        """A fresh network of the recipe's architecture, trained on the answers."""
        own = unprotected.task.source
        images: Source = own
        if self.queries == "task":
            images = disjoint(own)
        elif self.queries == "out-of-distribution":
            images = other_images(unprotected)
        return _on(unprotected, Answers(images, victim, self.answers, serving), "thief")


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
        _check_choice("fine-tuning.images", self.images, ("task", "members"))
        if self.epochs is not None and self.epochs < 1:
            raise UserError("fine-tuning takes epochs", where="fine-tuning.epochs", got=self.epochs, allowed=">= 1")
        if not 0 < self.learning_rate <= 1:
            where, allowed = "fine-tuning.learning_rate", "above 0, at most 1"
            raise UserError("a share of the recipe's rate", where=where, got=self.learning_rate, allowed=allowed)

    def plan(self, victim: Plan, unprotected: Plan, serving: tuple[Any, ...] = ()) -> Plan:
        """The victim's network with a smaller learning rate and fewer epochs."""
        own = unprotected.task.source
        optimizer: Any = unprotected.optimizer
        return replace(
            _on(unprotected, own if self.images == "members" else disjoint(own), "thief"),
            model=victim.model,
            initial=victim,
            epochs=self.epochs or (unprotected.epochs + 1) // 2,
            optimizer=replace(optimizer, learning_rate=self.learning_rate * optimizer.learning_rate),
        )


@dataclass(frozen=True)
class Retraining(Suspect):
    """A model trained from scratch on the owner's data, which was stolen instead of the model."""

    kind: ClassVar[str] = "retraining"

    more: bool = False
    """Whether the thief adds as many images of the same distribution (A + B of the talk)."""

    def plan(self, victim: Plan, unprotected: Plan, serving: tuple[Any, ...] = ()) -> Plan:
        """The recipe's training on the victim's task data, marks included if it has them."""
        if self.more:
            own = _split(origin(unprotected.task.source))
            more = replace(own, limit=own.size + disjoint(own).size)
            return _on(unprotected, in_same_world(more, unprotected.task.source), "thief")
        return _on(unprotected, victim.task.source, "thief")


@dataclass(frozen=True)
class Independent(Suspect):
    """An innocent party's model, trained on data of the same distribution without a common image (Appendix B)."""

    kind: ClassVar[str] = "independent"

    images: str = "train"
    """"train": as many training images that the owner does not have (chunk B); "test": the test split, as the published
    code of dataset inference has it, although the owner uses test images as well."""

    def __post_init__(self) -> None:
        _check_choice("independent.images", self.images, ("train", "test"))

    @property
    def stolen(self) -> bool:
        """It is not."""
        return False

    def plan(self, victim: Plan, unprotected: Plan, serving: tuple[Any, ...] = ()) -> Plan:
        """The recipe's training on other images."""
        own = unprotected.task.source
        return _on(unprotected, unprotected.judged_by.test if self.images == "test" else disjoint(own), "independent")


@dataclass(frozen=True)
class Unrelated(Suspect):
    """An innocent party's model for another data set, whose images have the same shape."""

    kind: ClassVar[str] = "unrelated"

    @property
    def stolen(self) -> bool:
        """It is not."""
        return False

    def plan(self, victim: Plan, unprotected: Plan, serving: tuple[Any, ...] = ()) -> Plan:
        """The recipe's training on the other data set."""
        images = other_images(unprotected)
        data = find_dataset(images.dataset) if isinstance(images, Split) else images
        model: Any = unprotected.model
        fields = {field.name for field in dataclasses.fields(model)} & {"classes", "mean", "std"}
        own = replace(model, **{name: getattr(data, name) for name in fields if hasattr(data, name)})
        return replace(_on(unprotected, images, "independent"), model=own)


SUSPECTS: dict[str, type[Suspect]] = {
    cls.kind: cls for cls in (Extraction, FineTuning, Retraining, Independent, Unrelated)
}


def disjoint(source: Source) -> Source:
    """As many further training images as there are, fewer if the data set has no more: of the same world, unattacked.

    Raises:
        UserError: If fewer than half as many are left.
    """
    own, left = _split(origin(source)), images_left(source)
    if left < own.size / 2:
        whole = find_dataset(own.dataset).size(own.split)
        raise UserError(
            f"too few {own.split} images of {own.dataset} are left for another party",
            where="examples",
            got=own.size,
            allowed=f"at most {2 * whole // 3}",
            mend="Let the recipe use fewer, such as half of them.",
        )
    return in_same_world(replace(own, start=own.end, limit=min(own.size, left)), source)


def images_left(source: Source) -> int:
    """How many images of its data set come after a source's own."""
    own = _split(origin(source))
    return find_dataset(own.dataset).size(own.split) - own.end


def other_images(unprotected: Plan) -> Any:
    """At most as many inputs of the task's neighbour.

    Raises:
        UserError: If it has none.
    """
    purpose = unprotected.judged_by
    if purpose.neighbour_train is None:
        raise UserError("the task has no neighbour, which other inputs come from", where="neighbour", got=purpose.task)
    return purpose.neighbour_train.first(unprotected.task.source.size)


def _on(unprotected: Plan, images: Source, party: str) -> Plan:
    return replace(unprotected, streams=(replace(unprotected.task, source=images),), party=party)


def _split(source: Source) -> Split:
    if not isinstance(source, Split):
        raise UserError("a suspect's images follow the owner's in a data set", got=type(source).__name__)
    return source


def _check_choice(where: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise UserError("unknown choice", where=where, got=got, allowed=", ".join(allowed))
