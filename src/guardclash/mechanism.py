"""The mechanism: all that a new protection must import. See docs/add-a-mechanism.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

from guardclash.data.pictures import Picture
from guardclash.judging.criteria import Metric
from guardclash.numerics.scatter import Scatter
from guardclash.plan.plan import Context, OtherSeed, Plan, Predict, Stream
from guardclash.training.trained import Trained

Curve = tuple[tuple[float, float], ...]
"""Points (x, y), in the order of x."""


@dataclass(frozen=True)
class Mechanism:
    """A protection as a frozen value: its fields are its hyperparameters, its docstring is its card.

    A concrete mechanism overrides some of the methods below, most of them named after the stages of a training; each
    returns an edited copy and none has effects. What it adds to a plan (sources, maps, gradients) are frozen
    dataclasses as well.
    """

    name: ClassVar[str]
    """How studies name it: short, lower case, unique."""
    concern: ClassVar[str]
    """What it protects against, in the paper's words (Table 9)."""
    paper: ClassVar[str] = ""
    """The publication that introduced it."""
    metrics: ClassVar[tuple[Metric, ...]] = ()
    """What `measure` returns, each with the criterion that it is judged by."""
    order: ClassVar[int] = 0
    """Where several mechanisms add to one place, those of smaller numbers come first, equal ones by name."""
    version: ClassVar[int] = 1
    """Raise it when `measure` or `serve` changes meaning: old measurements are then left aside."""

    on: tuple[str, ...] | None = field(default=None, kw_only=True)
    """The streams it touches in the stages batch, objective and gradient; None: all. The paper's relaxed variants
    (section 7) are a smaller `on`."""

    def bind(self, unprotected: Plan) -> Self:
        """This mechanism for one task.

        It fills in what it derives from the study's unprotected training, such as a network to mark images with or a
        radius that suits the data set.
        """
        return self

    def data(self, plan: Plan) -> Plan:
        """Adds streams, or replaces sources."""
        return plan

    def architecture(self, plan: Plan) -> Plan:
        """Replaces the model, or adds rewrites of it."""
        return plan

    def batch(self, stream: Stream, plan: Plan) -> Stream:
        """Adds maps: what happens to a batch before its loss."""
        return stream

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Adds or replaces losses."""
        return stream

    def gradient(self, stream: Stream, plan: Plan) -> Stream:
        """Sets sampler, gradient and optimizer."""
        return stream

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """Wraps the deployed model's answers: logits [B, classes] for images [B, C, H, W]."""
        return predict

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """Other trainings that `measure` reads through `context.trained`; they are trained once and shared."""
        return ()

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The declared metrics on any model, protected or not; a metric that has no meaning there is left out."""
        return {}

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """The declared metrics on a model that may be stolen: what supports the claim that it comes from the victim.

        Only mechanisms that prove ownership or compare two models override it; the former then measure a model as a
        suspect of itself. The context is the victim's: its seed's secrets are what the suspect is tested for.
        """
        return {}

    def curves(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, Curve]:
        """What `verify` found as curves by name, for figures, such as a metric over the number of queries.

        They are kept beside the metrics, never judged.
        """
        return {}

    def scatter(self, trained: Trained, context: Context) -> Scatter | None:
        """Clean images against its marks in the features of any model, protected or not, as points of a plane.

        For a figure only: it is kept beside the metrics, never judged. None where there is nothing to see. A model of
        another architecture, or one that diverged, must not raise: the metrics would be lost with it.
        """
        return None

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """What a reader must be warned of, seeing these measured values; shown beside them."""
        return ()

    def facts(self, plan: Plan) -> dict[str, str]:
        """What follows from the plan alone and belongs beside the numbers, such as the privacy spent per stream."""
        return {}

    def evidence(self, plan: Plan, context: Context) -> tuple[Picture, ...]:
        """Pictures of what it put into the training under the context's seed, such as trigger images."""
        return ()
