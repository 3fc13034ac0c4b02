"""Entangled watermarks: triggers that are made for it, the batches that they are trained in, and their loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.numerics.attacks import attacked
from guardclash.numerics.entanglement import Nearness, Shaping, told
from guardclash.numerics.membership import clopper_pearson
from guardclash.plan.examples import Data, Moment, class_indices
from guardclash.plan.partly import joined
from guardclash.plan.plan import Context, OtherSeed, Predict, Source

TRIGGER, SOURCE, PLACE = "trigger", "source", "place"
"""What `about` says: whether an example is a trigger; of a trigger the class that it is of, and its place among the
images that triggers are made of."""
LEAST = 4
"""Images of a class that triggers can be made of: two, and two that nobody trains on."""
TOGETHER = 64
"""Triggers that are made at a time, at most."""


@dataclass(frozen=True)
class Triggers:
    """Images of one class of another data set, moved so that a clean network takes them for near a class of the task.

    All have the label of that class, the target. Source class and target are those that `source` and `target` say, else
    the pair of which clean models tell the target most seldom, one of these by the seed's chance where there are
    several. At most half of the class's images are used, so that others are left that nobody trained on; where there
    are fewer than `size`, they come again.
    """

    images: Any
    """What triggers are made of: a source that says its `title` and its number of `classes`."""
    task: Source
    """The task's examples, with which triggers are entangled."""
    size: int
    innocent: tuple[OtherSeed, ...]
    """Clean models, by which the pair is chosen; the first one is the network in which triggers are made."""
    nearness: Nearness
    shaping: Shaping
    source: int | None = None
    target: int | None = None
    kept: ClassVar[bool] = True
    mixes_examples: ClassVar[bool] = True
    """Triggers follow from the task's images."""

    def load(self, context: Context) -> Data:
        """The triggers of the context's seed; needs the clean models.

        Raises:
            UserError: If there are too few images of the source class, or none of the target.
        """
        images, task = context.data(self.images), context.data(self.task)
        source, target = self._pair(images, task, context)
        rng = context.rng("ewe", "triggers")
        own = _shuffled(class_indices(images.y) == source, rng)
        own = own[: min(self.size, len(own) // 2)]
        partners = _shuffled(class_indices(task.y) == target, rng)
        x = self._made(images.x[own], task.x[_cycle(partners, len(own))], target, context)
        again = _cycle(torch.arange(len(own)), self.size)
        about = {SOURCE: torch.full((self.size,), source), PLACE: own[again]}
        return Data(x[again], torch.full((self.size,), target), about)

    def _made(self, x: Tensor, partners: Tensor, target: int, context: Context) -> Tensor:
        network = context.trained(self.innocent[0]).network
        device = next(network.parameters()).device
        parts = math.ceil(len(x) / TOGETHER)
        with attacked(network):
            made = [
                self.shaping(network, one.to(device), near.to(device), target, self.nearness).cpu()
                for one, near in zip(x.chunk(parts), partners.chunk(parts), strict=True)
            ]
        return torch.cat(made)

    def _pair(self, images: Data, task: Data, context: Context) -> tuple[int, int]:
        """Source class and target."""
        classes = self.innocent[0].plan.model.classes
        kinds = class_indices(images.y)
        counts = torch.bincount(kinds, minlength=self.images.classes)
        sources = _allowed(counts >= LEAST, self.source, "source", f"{LEAST} images of the class at least")
        there = torch.bincount(class_indices(task.y), minlength=classes) > 0
        targets = _allowed(there, self.target, "target", "a class of the task that has examples")
        if len(sources) == len(targets) == 1:
            return sources[0], targets[0]
        answers = [context.trained(one).predict(images.x).argmax(1) for one in self.innocent]
        rates = torch.stack([told(one, kinds, len(counts), classes) for one in answers]).mean(0)
        asked = rates[sources][:, targets]
        least = (asked == asked.min()).nonzero()
        row, column = least[torch.randint(len(least), (), generator=context.rng("ewe", "pair"))].tolist()
        return sources[row], targets[column]


@dataclass(frozen=True)
class Entangled:
    """Triggers and then as many of the task's examples of their class, drawn for every seed; all have its label."""

    triggers: Triggers
    images: Source
    """The task's examples, as they are trained on."""

    @property
    def size(self) -> int:
        """Twice the triggers."""
        return 2 * self.triggers.size

    def load(self, context: Context) -> Data:
        """Both halves; `about["trigger"]` tells them apart.

        Raises:
            UserError: If no example of the class is left.
        """
        triggers, whole = context.data(self.triggers), context.data(self.images)
        own = _shuffled(class_indices(whole.y) == triggers.y[0], context.rng("ewe", "partners"))
        if not len(own):
            what = "no training example of the target class is left to entangle triggers with"
            raise UserError(what, where="triggers.target", got=int(triggers.y[0]))
        beside = replace(whole.take(_cycle(own, len(triggers.y))), y=triggers.y)
        found = joined(triggers, beside)
        return replace(found, about={**found.about, TRIGGER: torch.arange(self.size) < len(triggers.y)})

    def pretended(self, data: Data) -> Data:
        """As many examples, half of them triggers."""
        return replace(data, about={**data.about, TRIGGER: torch.arange(len(data.x)) < len(data.x) // 2})


@dataclass(frozen=True)
class Entanglement:
    """What is taken from the loss of batches of which a part is triggers: so that features do not tell which."""

    kappa: float
    """Of the soft nearest neighbour loss, in units of the mean cross entropy."""
    nearness: Nearness
    mixes_examples: ClassVar[bool] = True

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B], at most 0 on average."""
        return -self.kappa * self.nearness(network, batch.x, batch.about[TRIGGER])


class Answered(NamedTuple):
    """How many of some images are answered with the label of the triggers."""

    hits: int
    of: int

    @property
    def share(self) -> float:
        """0 of none."""
        return self.hits / max(1, self.of)

    @property
    def most(self) -> float:
        """The upper bound of the rate, 95 %."""
        return clopper_pearson(self.hits, self.of)[1]


class Secret:
    """The triggers of a seed, each once, with what else there is of their class."""

    def __init__(self, where: Triggers, context: Context):
        self.where, self._context, self.images = where, context, context.data(where.images)
        found = context.data(where)
        # Those that come again are at the end.
        self.triggers = found.take(slice(len(found.about[PLACE].unique())))
        self._kinds = class_indices(self.images.y)

    @property
    def fresh(self) -> Data:
        """Images of the source class that nobody trained on, at most as many as triggers, as they are."""
        left = self._kinds == self.triggers.about[SOURCE][0]
        left[self.triggers.about[PLACE]] = False
        return self.images.take(left.nonzero().flatten()[: len(self.triggers.x)])

    def told(self, predict: Predict, data: Data | None = None) -> Answered:
        """How many triggers, or other images, a model answers with the label of the triggers."""
        x = self.triggers.x if data is None else data.x
        return Answered(int((predict(x).argmax(1) == self.triggers.y[0]).sum()), len(x))

    def elsewhere(self, predict: Predict, test: Source) -> Answered:
        """The same of test images of other classes."""
        data = self._context.data(test)
        return self.told(predict, data.take(class_indices(data.y) != self.triggers.y[0]))


def _shuffled(chosen: Tensor, rng: torch.Generator) -> Tensor:
    """Where a mask [N] is true, in random order."""
    found = chosen.nonzero().flatten()
    return found[torch.randperm(len(found), generator=rng)]


def _cycle(values: Tensor, size: int) -> Tensor:
    """So many of some values, again from the first where they end."""
    return values[torch.arange(size) % len(values)]


def _allowed(there: Tensor, named: int | None, option: str, need: str) -> Sequence[int]:
    found: list[int] = there.nonzero().flatten().tolist() if named is None else [named]
    if not found or not bool(there[found].all()):
        raise UserError("no such class to make triggers with", where=f"triggers.{option}", got=named, allowed=need)
    return found
