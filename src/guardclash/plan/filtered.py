"""A source without the examples that a filter takes for poison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from guardclash.errors import UserError
from guardclash.numerics.features import features_of
from guardclash.numerics.spectral import most_outlying, outlying_clusters
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.members import private_of
from guardclash.plan.plan import Context, Plan, Source
from guardclash.plan.trainings import made_of


class Suspicion(Protocol):
    """Which examples are taken for poison, by what a network sees of them."""

    def removed(self, classes: int) -> int | None:
        """How many of them, where that is known before they are seen."""

    def __call__(self, features: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Whether each is, bool [N], by features [N, features] and class indices [N]."""


@dataclass(frozen=True)
class Outlying:
    """So many of each class, those that lie furthest out."""

    each: int

    def removed(self, classes: int) -> int:
        """As many of every class."""
        return self.each * classes

    def __call__(self, features: Tensor, labels: Tensor, classes: int) -> Tensor:
        """By the highest spectral scores."""
        return most_outlying(features, labels, classes, self.each)


@dataclass(frozen=True)
class Clustered:
    """The smaller of two clusters of each class, where it is small enough and lies apart."""

    components: int
    most: float
    apart: float

    def removed(self, classes: int) -> None:
        """Nobody knows beforehand."""

    def __call__(self, features: Tensor, labels: Tensor, classes: int) -> Tensor:
        """By 2-means on principal components."""
        return outlying_clusters(features, labels, classes, self.components, self.most, self.apart)


@dataclass(frozen=True)
class Filtered:
    """Examples of another source without those that are taken for poison by the features of a trained network.

    Where it is not known beforehand how many these are, others of their class are there twice in their place: a plan
    must know how many examples it has.
    """

    images: Source
    model: Plan
    """The training whose network is looked into, under the context's seed."""
    suspicion: Suspicion
    # Ranks and clusters are told by all examples, without noise, in a step that no accountant of the training sees.
    spends_privacy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        gone = self.suspicion.removed(self.model.model.classes)
        if gone is not None and not 0 < gone < self.images.size:
            got, allowed = f"{gone} of {self.images.size} examples", "some of them, and not all"
            mend = "Expect less poison."
            raise UserError("a filter removes some examples", where="filter", got=got, allowed=allowed, mend=mend)

    @property
    def size(self) -> int:
        """What is left; as many as before where that is not known."""
        return self.images.size - (self.suspicion.removed(self.model.model.classes) or 0)

    def removed(self, context: Context) -> Tensor:
        """Which examples of the other source are taken for poison, bool [N]; found once for a seed and kept."""
        return context.kept(self, lambda: {"removed": self._suspected(context)})["removed"]

    def _suspected(self, context: Context) -> Tensor:
        whole, network = context.data(self.images), context.trained(self.model).network
        features = features_of(network, whole.x).flatten(1)
        return self.suspicion(features, class_indices(whole.y), self.model.model.classes)

    def load(self, context: Context) -> Data:
        """What is left, in its order."""
        whole, gone = context.data(self.images), self.removed(context)
        if self.suspicion.removed(self.model.model.classes) is not None:
            return whole.take(~gone)
        labels, rng = class_indices(whole.y), context.rng("filtered")
        index = torch.arange(len(labels))
        for label in labels[gone].unique():
            places, left = ((labels == label) & one for one in (gone, ~gone))
            others = left.nonzero().flatten()
            index[places] = others[torch.randint(len(others), (int(places.sum()),), generator=rng)]
        return whole.take(index)


def filter_of(plan: Plan) -> Filtered | None:
    """The filter that the examples of a training's task went through; else of one that it goes on from."""
    private = private_of(plan.task.source)
    found: Any = next((part for part in made_of(private) if isinstance(part, Filtered)), None)
    return found or (filter_of(plan.initial) if plan.initial else None)
