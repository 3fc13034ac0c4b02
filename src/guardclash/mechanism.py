"""The mechanism: all that a new protection must import. See docs/extend.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Self

from guardclash.data.pictures import Picture
from guardclash.measure import Measure
from guardclash.plan.plan import Context, Plan, Predict, Stream
from guardclash.training.trained import Trained

Curve = tuple[tuple[float, float], ...]
"""Points (x, y), in the order of x."""
OTHER_CLASSES = "the model tells another number of classes apart than the owner's, so it is not tested"
"""What a mechanism warns of that leaves such a suspect out."""


@dataclass(frozen=True)
class Mechanism(Measure):
    """A protection as a frozen value: its fields are its hyperparameters, its docstring is its card.

    A concrete mechanism overrides some of the methods below, most of them named after the stages of a training; each
    returns an edited copy and none has effects. It is also the measure that shows that it works, unless `measures` says
    otherwise. What it adds to a plan (sources, maps, gradients) are frozen
    dataclasses as well.
    """

    concern: ClassVar[str]
    """What it protects against, in the paper's words (Table 9)."""
    title: ClassVar[str] = ""
    """What people call it, as a singular within a sentence: "the backdoor watermark". "": its name."""
    paper: ClassVar[str] = ""
    """The publication that introduced it."""
    order: ClassVar[int] = 0
    """Where several mechanisms add to one place, those of smaller numbers come first, equal ones by name."""
    on: tuple[str, ...] | None = field(default=None, kw_only=True)
    """The streams it touches in the stages batch, objective and gradient; None: all. The paper's relaxed variants
    (section 7) are a smaller `on`."""

    @property
    def reads_members(self) -> bool:
        """Whether what it does at inference tells of private examples otherwise than by the weights, without noise.

        Epsilon of a model that is deployed with it is infinite.
        """
        return False

    def measures(self) -> tuple[Measure, ...]:
        """What shows that it works, once it is bound; by default its own `measure`.

        Equal measures are one measurement, whichever mechanisms list them.
        """
        return (self,)

    def beside(self, others: Callable[[], Plan]) -> Self:
        """This mechanism in company; `others` composes the training under all of its combination but itself.

        For one that reads a model of the combination, such as a filter of training data. Before all stages.
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
        """Adds or replaces losses; adds penalties, losses of the weights alone."""
        return stream

    def gradient(self, stream: Stream, plan: Plan) -> Stream:
        """Sets sampler, gradient and optimizer."""
        return stream

    def after(self, plan: Plan) -> Plan:
        """Goes on once all is trained: gives a plan whose `initial` is this one, such as of pruning its weights."""
        return plan

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """Wraps the deployed model's answers: logits [B, classes] for images [B, C, H, W]."""
        return predict

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

    def facts(self, plan: Plan) -> dict[str, str]:
        """What follows from the plan alone and belongs beside the numbers, such as the privacy spent per stream."""
        return {}

    def evidence(self, plan: Plan, context: Context) -> tuple[Picture, ...]:
        """Pictures of what it put into the training under the context's seed, such as trigger images."""
        return ()
