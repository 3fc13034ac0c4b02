"""RelaxLoss: a training that does not let the loss of members fall below that of others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import one_of, within
from guardclash.errors import UserError
from guardclash.measure import Measure
from guardclash.measures.membership import Membership
from guardclash.mechanism import Mechanism
from guardclash.plan.examples import Data, Moment, class_indices
from guardclash.plan.objectives import CrossEntropy
from guardclash.plan.plan import Plan, Stream

FLATTENINGS = ("image", "plain")


@dataclass(frozen=True)
class RelaxedCrossEntropy:
    """Cross entropy that is kept at a level: ascent below it in even epochs, flattened answers in odd ones.

    With the mean L of the batch: in even epochs |L - alpha|; in odd ones L where it is above alpha, else the cross
    entropy against the model's own confidence (`flattened`). The losses are those of examples, whose mean this is.
    """

    alpha: float
    upper: float
    flattening: str
    per_example: bool

    @property
    def mixes_examples(self) -> bool:
        """Whether the mean of the batch decides what is done to an example."""
        return not self.per_example

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B]; below 0 where it is ascent."""
        logits = network(batch.x)
        losses = functional.cross_entropy(logits, batch.y, reduction="none")
        level = losses.detach() if self.per_example else losses.detach().mean()
        above = level > self.alpha
        if now.epoch % 2 == 0:
            return torch.where(above, losses - self.alpha, self.alpha - losses)
        flat = flattened(logits, batch.y, self.upper)
        if self.flattening == "image":
            wrong = logits.argmax(1) != class_indices(batch.y)
            flat = wrong * flat - losses
        return torch.where(above, losses, flat)


def flattened(logits: Tensor, y: Tensor, upper: float) -> Tensor:
    """Cross entropy in nats against labels that share out evenly what the model leaves of the class, [B].

    Args:
        logits: [B, classes].
        y: Labels; of vectors the largest entry is the class.
        upper: The most that the class keeps of the model's own probability.
    """
    logs, classes = logits.log_softmax(1), logits.shape[1]
    own = logs.gather(1, class_indices(y)[:, None]).squeeze(1)
    # Not detached, as published: the labels move with the answers.
    confidence = own.exp().clamp(max=upper)
    return -confidence * own - (1 - confidence) / max(1, classes - 1) * (logs.sum(1) - own)


@dataclass(frozen=True)
class RelaxLoss(Mechanism):
    """RelaxLoss (Chen et al. 2022): training aims at a loss above 0, so that members are not told by a small one.

    It takes the place of the cross entropy. What is done to a batch hangs on its mean loss, so no bound on what one
    example does to the model holds under it: with dpsgd it is a clash. Made for alpha a little below the unprotected
    model's loss on test examples: about 0.3 on FashionMNIST and 0.05 on MNIST.
    """

    name: ClassVar[str] = "relaxloss"
    title: ClassVar[str] = "RelaxLoss"
    concern: ClassVar[str] = "membership inference"
    paper: ClassVar[str] = "Chen et al. 2022"
    one_class: ClassVar[bool] = True

    alpha: float = 0.3
    """The loss that is aimed at, in nats."""
    upper: float = 1.0
    """The most that flattened labels keep of the model's confidence; 0.3 is published for one of the data sets."""
    flattening: str = "image"
    """Which of two published versions: "image": images that are told right get pure ascent; "plain": flattened labels
    for all."""
    per_example: bool = False
    """Decide by each example's own loss. It then mixes no examples, and protects nothing: for the record."""

    def __post_init__(self) -> None:
        within(self.name, ">= 0, finite", alpha=self.alpha)
        within(self.name, "> 0, <= 1", upper=self.upper)
        one_of(self.name, FLATTENINGS, flattening=self.flattening)

    def measures(self) -> tuple[Measure, ...]:
        """Membership inference."""
        return (Membership(),)

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Replaces the stream's first cross entropy.

        Raises:
            UserError: If the stream never had one.
        """
        relaxed = RelaxedCrossEntropy(self.alpha, self.upper, self.flattening, self.per_example)
        original = plan.stream(stream.name) or stream
        if _first(original) is None:
            got = ", ".join(type(one).__name__ for one in original.objectives)
            raise UserError("there is no cross entropy to relax", where=f"stream {stream.name!r}", got=got)
        # Where another mechanism took its place in this stage, taking it once more is a clash.
        place = _first(stream) or 0
        objectives = stream.objectives
        return replace(stream, objectives=(*objectives[:place], relaxed, *objectives[place + 1 :]))

    def facts(self, plan: Plan) -> dict[str, str]:
        """What is aimed at."""
        by = "each example" if self.per_example else "each batch"
        return {"loss aimed at": f"{self.alpha:g} nats, of {by}"}


def _first(stream: Stream) -> int | None:
    """The place of a stream's first cross entropy."""
    return next((place for place, one in enumerate(stream.objectives) if type(one) is CrossEntropy), None)
