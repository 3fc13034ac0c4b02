"""Sources of images that carry marks: the marked ones, a data set with them in place, and what they leave of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from guardclash.numerics.attacks import attacked
from guardclash.numerics.features import classifier, penultimate
from guardclash.numerics.layout import at_a_time
from guardclash.numerics.radioactive import Marking, carriers, stratified
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.plan import Context, OtherSeed, Plan, Source


@dataclass(frozen=True)
class Marks:
    """The marked images, with the labels of the clean ones: `size` examples of another source, drawn anew per seed."""

    images: Source
    size: int
    how: Marking
    network: OtherSeed
    """Whose features carry the marks."""
    precision: str = "auto"
    # Marking takes long, so stores keep what it made (`Context.data`).
    kept: ClassVar[bool] = True

    def chosen(self, y: Tensor, context: Context) -> Tensor:
        """Indices of the examples that are marked, given all labels: each class in proportion."""
        return stratified(class_indices(y), self.size, context.rng("marked"))

    def clean(self, context: Context) -> Data:
        """The same examples without marks."""
        whole = context.data(self.images)
        return whole.take(self.chosen(whole.y, context))

    def load(self, context: Context) -> Data:
        """Marks the images; needs the marking network's training."""
        network = context.trained(self.network).network
        device = next(network.parameters()).device
        clean = self.clean(context)
        directions = carriers_of(self.network.plan, network, context)[class_indices(clean.y)]
        std = torch.tensor(self.network.plan.model.std)
        rng = context.rng("marking")
        with attacked(network, precision=self.precision):
            features = penultimate(network)
            size = at_a_time(clean.x, 500)
            marked = [
                self.how(features, batch.to(device), carrier.to(device), std, rng).cpu()
                for batch, carrier in zip(clean.x.split(size), directions.split(size), strict=True)
            ]
        return replace(clean, x=torch.cat(marked))


def carriers_of(plan: Plan, network: nn.Module, context: Context) -> Tensor:
    """The secret directions [classes, features] of the context's seed, for a marking network trained by a plan."""
    return carriers(plan.model.classes, classifier(network).in_features, context.rng("carriers"))


@dataclass(frozen=True)
class Marked:
    """Examples of which some are replaced by their marked versions."""

    images: Source
    marks: Marks

    @property
    def size(self) -> int:
        """As many as without marks."""
        return self.images.size

    def load(self, context: Context) -> Data:
        """All examples, in their order; `about["marked"]` says which of them bear marks."""
        whole = context.data(self.images)
        chosen = self.marks.chosen(whole.y, context)
        # In place: a context loads examples anew for each who asks.
        whole.x[chosen] = context.data(self.marks).x
        marked = torch.zeros(len(whole.x), dtype=torch.bool)
        marked[chosen] = True
        return replace(whole, about={**whole.about, "marked": marked})


@dataclass(frozen=True)
class Unmarked:
    """The examples that are not marked."""

    images: Source
    marks: Marks

    @property
    def size(self) -> int:
        """What the marked ones leave."""
        return self.images.size - self.marks.size

    def load(self, context: Context) -> Data:
        """The rest, in its order."""
        whole = context.data(self.images)
        rest = torch.ones(len(whole.x), dtype=torch.bool)
        rest[self.marks.chosen(whole.y, context)] = False
        return whole.take(rest)
