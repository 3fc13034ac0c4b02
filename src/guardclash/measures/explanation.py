"""Explanations: what saliency maps of a model are worth, and whether they are those of the unprotected model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from guardclash.checks import one_of, within
from guardclash.data.space import Images, Rows, Space, movable, unmoved
from guardclash.judging.criteria import MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.numerics.map_quality import (
    area,
    incompleteness,
    max_sensitivity,
    nearby,
    ordered,
    rank_correlation,
    strength,
    taken_away,
)
from guardclash.numerics.saliency import METHODS, Saliency, last_convolution
from guardclash.numerics.similarity import ssim
from guardclash.plan.condition import viewing
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.plan.structure import skeleton
from guardclash.training.trained import Trained

RADIUS, DRAWS = 0.02, 4
"""Of max-sensitivity: how far an entry moves, and how often."""
MOVED = 50
"""Test examples that it is measured on, the first ones: it costs as much as four more maps of each."""
MINORITY = 100
"""Test examples that are explained as the minority sees them, the first ones."""
DROP = 0.05
"""Of the score, at most: seeds of MNIST and FashionMNIST lie within about 0.01 of each other."""
INCOMPLETE = 0.05
"""A larger share of the rise of the logits that integrated gradients miss asks for more steps."""
SENSITIVITY = Metric("exp_sensitivity", "max-sensitivity", None, False, title="largest relative change of a map nearby")
"""Only of inputs that can be moved a little: not of rows of nothing but categories."""
SIMILAR_IMAGES = Metric("exp_ssim", "SSIM", None, title="of |maps| with the unprotected model's")
"""Of images only."""
COMPLETENESS = Metric(
    "exp_completeness", "completeness error", None, False, decimals=3, title="share of the logits' rise that is missed"
)
"""Of integrated gradients only: other maps sum up to nothing."""
MINORITY_SCORE = Metric(
    "exp_minority", "φ_EXP minority", None, title="φ_EXP of the minority's test images", gain=False, optional=True
)
"""Only where the recipe has a condition that can show every example as a minority's."""


class Score(NamedTuple):
    """Areas under the curves of some examples, means."""

    insertion: float
    deletion: float

    @property
    def difference(self) -> float:
        """Insertion minus deletion."""
        return self.insertion - self.deletion


@dataclass(frozen=True)
class Maps:
    """The maps of a training that a measurement compares with: what is kept of them."""

    training: Plan | OtherSeed
    test: Any
    examples: int
    how: Saliency


@dataclass(frozen=True)
class Explanation(Measure):
    """What saliency maps of the bare network are worth: insertion minus deletion (Petsiuk et al. 2018).

    Maps are of the label's logit, for labels and not for predictions, wrong or not. Places are taken from an input in
    28 parts, the most important ones first; the area under the label's probability is the deletion, that of putting
    them into an empty input the insertion. phi_EXP is insertion minus deletion, and 0 in expectation for places in
    random order. Beside it: max-sensitivity (Yeh et al. 2019) of the first 50 examples, and how alike the maps are to
    those of the unprotected model under the same seed, which means nothing without how alike those of two unprotected
    seeds are, the ceiling.
    """

    name: ClassVar[str] = "explanation"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images, Rows)
    does: ClassVar[str] = "explains pixels and columns"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "exp_score", "φ_EXP", MaxDrop(DROP), title="insertion minus deletion of saliency maps", gain=False,
            range=(-1.0, 1.0),
        ),
        Metric("exp_insertion", "insertion", None, title="area under the label's probability, inserting"),
        Metric("exp_deletion", "deletion", None, False, title="area under the label's probability, deleting"),
        Metric("exp_random", "φ_EXP random", None, title="insertion minus deletion in random order"),
        SENSITIVITY,
        Metric("exp_similarity", "similarity", None, title="rank correlation with the unprotected model's maps"),
        Metric("exp_ceiling", "ceiling", None, title="the same of two unprotected models"),
        SIMILAR_IMAGES,
        COMPLETENESS,
    )  # fmt: skip

    method: str = "ig"
    """"ig": integrated gradients from black, or from the mean of all columns; "gradient": the plain gradient; or
    "gradcam": Grad-CAM on the last convolution."""
    steps: int = 32
    """Of integrated gradients."""
    test_examples: int = 200
    """Test examples that are explained, the first ones."""
    unprotected: Any = None
    """The training that maps are compared with; None: the measured model's own. From Python only."""
    test: Any = None
    """The examples that are explained; None: those that the model is judged on. From Python only."""
    groups: Any = None
    """The condition whose minority is explained as well, with a method `views`. From Python only."""

    def __post_init__(self) -> None:
        one_of(self.name, METHODS, method=self.method)
        within(self.name, ">= 1", steps=self.steps, test_examples=self.test_examples)
        more = (MINORITY_SCORE,) if self.groups is not None else ()
        void = tuple(self._void())
        declared = (one for one in (*type(self).metrics, *more) if one not in void)
        object.__setattr__(self, "metrics", tuple(declared))  # frozen; only what there is to measure is declared

    def _void(self) -> Iterator[Metric]:
        """Metrics that have no meaning for the method, or for the inputs of the task."""
        if self.method != "ig":
            yield COMPLETENESS
        space = self.unprotected.purpose.space if self.unprotected and self.unprotected.purpose else None
        if space is not None and not isinstance(space, Images):
            yield SIMILAR_IMAGES
        if space is not None and unmoved(space):
            yield SENSITIVITY

    def bind(self, unprotected: Plan) -> Explanation:
        """With the unprotected training, its test examples, and the condition that makes groups.

        Raises:
            UserError: If a network without a convolution is to be explained by Grad-CAM.
        """
        plan = self.unprotected or unprotected
        if self.method == "gradcam":
            last_convolution(skeleton(plan.model, plan.all_rewrites))
        test = plan.judged_by.test if self.test is None else self.test
        return replace(self, unprotected=plan, test=test, groups=self.groups or viewing(test))

    @property
    def how(self) -> Saliency:
        """The way to explain."""
        return Saliency(self.method, self.steps if self.method == "ig" else 32)

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """The unprotected model, and an independent one."""
        return self.unprotected or plan, OtherSeed(self.unprotected or plan, 0)

    def examples(self, plan: Plan, context: Context) -> Data:
        """What is explained of a model, with class indices."""
        data = context.data(plan.judged_by.test if self.test is None else self.test).take(slice(self.test_examples))
        return replace(data, y=class_indices(data.y))

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """All metrics of any model; nothing if it tells other classes, or other inputs, or no finite numbers."""
        reference, _ = self.needs(trained.plan)
        if isinstance(reference, OtherSeed) or trained.plan.question != reference.question:
            return {}
        data = self.examples(reference, context)
        kept = self._maps(reference, reference, context)
        same = trained.weights == context.trained(reference).weights
        maps = kept if same else self.how(trained.network, data.x, data.y)
        if not maps.isfinite().all():
            return {}
        found = dict(self._compared(maps, kept, data, reference, context))
        found |= self._curves(trained.network, maps, data, context)
        if SENSITIVITY in self.metrics:
            found[SENSITIVITY.name] = self._sensitivity(trained, maps, data, context)
        if COMPLETENESS in self.metrics:
            found[COMPLETENESS.name] = incompleteness(trained.network, data.x, data.y, maps)
        if MINORITY_SCORE in self.metrics:
            found[MINORITY_SCORE.name] = self._minority(trained.network, data, context)
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _maps(self, training: Plan | OtherSeed, reference: Plan, context: Context) -> Tensor:
        """The maps of a model that others are compared with, made once for all of them."""

        def make() -> dict[str, Tensor]:
            data = self.examples(reference, context)
            return {"maps": self.how(context.trained(training).network, data.x, data.y).contiguous()}

        test = reference.judged_by.test if self.test is None else self.test
        return context.kept(Maps(training, test, self.test_examples, self.how), make)["maps"]

    def _compared(
        self, maps: Tensor, kept: Tensor, data: Data, reference: Plan, context: Context
    ) -> Iterator[tuple[str, float]]:
        counted = (data.x != 0).any(1) if data.x.dim() == 4 else data.x != 0
        other = self._maps(OtherSeed(reference, 0), reference, context)
        yield "exp_similarity", rank_correlation(maps, kept, counted).nanmean().item()
        yield "exp_ceiling", rank_correlation(kept, other, counted).nanmean().item()
        if SIMILAR_IMAGES in self.metrics:
            yield SIMILAR_IMAGES.name, ssim(strength(maps).unsqueeze(1), strength(kept).unsqueeze(1)).mean().item()

    def _curves(self, network: nn.Module, maps: Tensor, data: Data, context: Context) -> dict[str, float]:
        score = self._score(network, maps, data, context.rng(self.name, "ties"))
        # Of a map that says the same everywhere all places are ties.
        null = self._score(network, torch.zeros_like(maps), data, context.rng(self.name, "random"))
        return {
            "exp_score": score.difference,
            "exp_insertion": score.insertion,
            "exp_deletion": score.deletion,
            "exp_random": null.difference,
        }

    def _score(self, network: nn.Module, maps: Tensor, data: Data, rng: torch.Generator) -> Score:
        shares, deleted, inserted = taken_away(network, data.x, data.y, ordered(maps, rng))
        return Score(area(shares, inserted).mean().item(), area(shares, deleted).mean().item())

    def _sensitivity(self, trained: Trained, maps: Tensor, data: Data, context: Context) -> float:
        few, rng = data.take(slice(MOVED)), context.rng(self.name, "sensitivity")
        free = movable(trained.plan.judged_by.space)
        moved = [nearby(few.x, RADIUS, rng, free) for _ in range(DRAWS)]
        others = [self.how(trained.network, x, few.y) for x in moved]
        return max_sensitivity(maps[:MOVED], others).nanmean().item()

    def _minority(self, network: nn.Module, data: Data, context: Context) -> float:
        views = self.groups.views(data.take(slice(MINORITY)))
        seen = views.take(views.about["group"] == 1)
        maps = self.how(network, seen.x, seen.y)
        return self._score(network, maps, seen, context.rng(self.name, "minority")).difference

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That nothing was explained, or not well, and why."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if not metrics:
            yield "nothing is explained: the model tells other classes or inputs apart, or answers no finite numbers"
            return
        missed = metrics.get(COMPLETENESS.name, 0.0)
        if missed > INCOMPLETE:
            yield f"integrated gradients miss {missed:.0%} of the logits' rise: take more steps than {self.steps}"
        worth = metrics["exp_score"] - metrics["exp_random"] if {"exp_score", "exp_random"} <= metrics.keys() else DROP
        if worth < DROP:
            yield f"maps are worth {worth:.2f} more than a random order, so a drop of {DROP} could hardly be seen"
        absent = [one.symbol for one in self.metrics if one.name not in metrics]
        if absent:
            yield f"no {', '.join(absent)}: maps say the same everywhere, or a model answers no finite numbers"
