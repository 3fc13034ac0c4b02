"""Class inversion: whether a finished model shows what its classes look like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from guardclash.checks import one_of, within
from guardclash.conditions.random_half import RandomHalf
from guardclash.data.space import Images, Space
from guardclash.errors import UserError
from guardclash.judging.criteria import SHARE, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.numerics.attacks import attacked
from guardclash.numerics.inversion import (
    LOSSES,
    ClassInversion,
    Inversions,
    first_images,
    median_margin,
    told_by_neighbours,
)
from guardclash.numerics.similarity import ssim
from guardclash.plan.condition import in_same_world, origin
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.identity import nested
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.training.trained import Trained, predictor

ATTACKS = {"margin": ClassInversion("margin"), "cross_entropy": ClassInversion("cross_entropy", 10.0, 0.0)}
"""By loss. Of the published one the start is the same, but no term asks for dark images."""
JUDGED = {"margin": "inv_recognised", "cross_entropy": "inv_published"}
LIMIT = MaxDrop(0.15)
CLEAN = 1000
"""Test images, the first ones, by whose margins the model's own unit is found."""
STILL = 0.5
"""An attack that finds no gradient in this share of its steps is stalled."""
DOUBT = 0.1
"""More than this share of stalled attacks makes the published reading misleading."""


@dataclass(frozen=True)
class Mirrored:
    """What the replicate of the other half of a pool was trained on: images that this one never saw."""

    images: Any
    """The task's examples under the condition `random-half`, without threats."""

    @property
    def size(self) -> int:
        """As many as this replicate has."""
        return int(self.images.size)

    def load(self, context: Context) -> Data:
        """The other half of the context's seed."""
        return context.under(context.seed ^ 1).data(self.images)


@dataclass(frozen=True)
class Inversion(Measure):
    """Class inversion: the share of images found by asking a model what a class looks like that are of that class.

    White box, on the bare network, without a generator: a few dark random images of each class are moved until the
    network is sure of them. Whether one shows its class is told by the five real images that are most alike. φ_INV is
    that of an attack whose loss is the margin of the class in units of the model's own, so that a model that only
    counts in larger numbers hides nothing; the published loss, cross entropy, stands beside it (docs/concerns/
    inversion.md). Of an unprotected model it is what there is to protect; less is better.
    """

    name: ClassVar[str] = "inversion"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)
    does: ClassVar[str] = "looks for images of classes"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "inv_recognised", "φ_INV", LIMIT, False, title="class inversions that neighbours recognise", range=SHARE
        ),
        Metric("inv_published", "φ_INV-CE", None, False, title="the same by the published loss", range=SHARE),
        Metric("inv_evaluator", "evaluator", None, False, title="those that another model recognises", range=SHARE),
        Metric("inv_ssim", "SSIM", None, False, title="of inversions with the mean of their class", range=(-1.0, 1.0)),
        Metric("inv_margin", "margin", None, False, title="median margin of test images, in logits"),
        Metric("inv_stalled", "stalled", None, False, title="published attacks without a gradient", range=SHARE),
    )

    attack: str = "margin"
    """Which attack is judged: "margin", or "cross_entropy" as published. Both are measured."""
    starts: int = 3
    """Images of each class."""
    neighbours: int = 5
    """Real images that vote."""
    steps: int = 200
    """Of each attack."""
    unprotected: Any = None
    """The unprotected training, whose model under another seed is the evaluator; None: the measured one without what
    mechanisms added to its streams. From Python only."""

    def __post_init__(self) -> None:
        one_of(self.name, LOSSES, attack=self.attack)
        within(self.name, ">= 1", starts=self.starts, neighbours=self.neighbours, steps=self.steps)
        if self.unprotected is not None and not isinstance(self.unprotected, Plan):
            raise UserError("what is unprotected is a plan", where=f"{self.name}.unprotected", got=self.unprotected)
        if self.attack != "margin":  # frozen; only who asks for another reading declares it
            moved = {JUDGED["margin"]: None, JUDGED[self.attack]: LIMIT}
            declared = (replace(one, criterion=moved.get(one.name, one.criterion)) for one in self.metrics)
            object.__setattr__(self, "metrics", tuple(declared))

    def bind(self, unprotected: Plan) -> Inversion:
        """With the unprotected training."""
        return self if self.unprotected else replace(self, unprotected=unprotected)

    def _base(self, plan: Plan) -> Plan:
        return self.unprotected or replace(plan, streams=(plan.task,))

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """The evaluator: an unprotected model of another pair of seeds."""
        return (OtherSeed(self._base(plan), 0),)

    def references(self, plan: Plan) -> Any:
        """Images that the model of a plan was not trained on: the other half of the pool, else the test images."""
        source = self._base(plan).task.source
        halved = next(nested(source, RandomHalf), None)
        return Mirrored(in_same_world(origin(source), source)) if halved else plan.judged_by.test

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """Both attacks on any model; nothing on one that tells fewer than two classes apart."""
        clean = context.data(trained.plan.judged_by.test).x[:CLEAN]
        logits = predictor(trained.network)(clean)
        if logits.shape[1] < 2:
            return {}
        unit, references = median_margin(logits), context.data(self.references(trained.plan))
        classes = torch.arange(logits.shape[1]).repeat_interleave(self.starts)
        found = {loss: self._found(trained, context, classes, unit, loss) for loss in ATTACKS}
        shown = {
            JUDGED[loss]: told_by_neighbours(one.x, references.x, class_indices(references.y), self.neighbours)
            for loss, one in found.items()
        }
        x, stalled = found["margin"].x, found["cross_entropy"].still >= STILL
        (evaluator,) = (context.trained(need) for need in self.needs(trained.plan))
        measured = {
            **{name: _share(told == classes) for name, told in shown.items()},
            "inv_evaluator": _share((evaluator.predict(x).argmax(1) == classes) & x.isfinite().flatten(1).all(1)),
            "inv_ssim": ssim(x, _means(references, classes)).nan_to_num(0.0).mean().item(),
            "inv_margin": unit,
            "inv_stalled": _share(stalled),
        }
        return {name: value for name, value in measured.items() if math.isfinite(value)}

    def _found(self, trained: Trained, context: Context, classes: Tensor, unit: float, loss: str) -> Inversions:
        network = trained.network
        device = next(network.parameters()).device
        # Both attacks, and all models of a seed, begin with the same images.
        start = first_images((len(classes), *trained.plan.model.shape), context.rng("inversion"))
        with attacked(network):
            found = replace(ATTACKS[loss], steps=self.steps)(network, classes.to(device), start.to(device), unit)
        return Inversions(found.x.cpu(), found.still)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That there is nothing to invert, or that an attack failed for want of a gradient."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if "inv_recognised" not in metrics:
            yield "the model tells fewer than two classes apart, so there is no class to look for"
        stalled = metrics.get("inv_stalled", 0.0)
        if stalled > DOUBT:
            yield (
                f"the published attack found a gradient of exactly 0 in most of its steps ({stalled:.2f} of the "
                "attacks): a low φ_INV-CE tells of its arithmetic, not of protection"
            )


def _share(which: Tensor) -> float:
    return which.double().mean().item()


def _means(references: Data, classes: Tensor) -> Tensor:
    """The mean image of each class, [N, C, H, W]; NaN, which is like nothing, where there is none."""
    labels = class_indices(references.y)
    means = [references.x[labels == one].mean(0) for one in range(int(classes.max()) + 1)]
    return torch.stack(means)[classes]
