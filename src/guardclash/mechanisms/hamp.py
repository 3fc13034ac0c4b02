"""HAMP: soft labels, a bonus for unsure answers, and answers whose values are made up."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import within
from guardclash.measure import Measure
from guardclash.measures.membership import Membership
from guardclash.mechanism import Mechanism
from guardclash.plan.examples import Data, Moment
from guardclash.plan.made import noise
from guardclash.plan.plan import Context, Plan, Predict, Stream
from guardclash.training.trained import Trained

STOCK = 1000
"""Random inputs whose answers are handed out."""


@dataclass(frozen=True)
class SoftLabels:
    """A batch map: the class gets `top`, all others share the rest; linear in labels that are vectors already."""

    top: float
    classes: int

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """The same examples with labels [B, classes]."""
        y = batch.y if batch.y.dim() > 1 else functional.one_hot(batch.y, self.classes).float()
        others = (y.sum(1, keepdim=True) - y) / max(1, self.classes - 1)
        return replace(batch, y=self.top * y + (1 - self.top) * others)


@dataclass(frozen=True)
class EntropyBonus:
    """A loss that is lower the less sure the model is: -alpha times the entropy of its answer in nats, [B]."""

    alpha: float

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example; labels play no part."""
        logs = network(batch.x).log_softmax(1)
        return self.alpha * (logs.exp() * logs).sum(1)


def top_share(classes: int, gamma: float) -> float:
    """The largest share of the class in a soft label whose entropy is gamma ln(classes), from 1 / classes to 1.

    Example:
        >>> round(top_share(10, 0.8), 6)
        0.476605
    """
    low, high = 1 / classes, 1.0
    for _ in range(100):  # halved until floats end; the entropy falls from 1 / classes on
        middle = (low + high) / 2
        if _entropy(middle, classes) >= gamma * math.log(classes):
            low = middle
        else:
            high = middle
    return low


def _entropy(top: float, classes: int) -> float:
    rest = (1 - top) / max(1, classes - 1)
    return -sum(count * share * math.log(share) for count, share in ((1, top), (classes - 1, rest)) if share > 0)


# Without ==, which tensors answer entry by entry.
@dataclass(frozen=True, eq=False)
class RankedAnswers:
    """Answers of which only the ranking of the classes is the model's: the values are those of a random input.

    Which one hangs on a secret and on the query, so that asking again, in whatever batch, tells nothing more.
    """

    predict: Predict
    values: Tensor
    """Answers to random inputs, [stock, classes], each in ascending order."""
    secret: bytes

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        ranked = self.predict(x).argsort(dim=1, stable=True)
        return torch.empty_like(ranked, dtype=self.values.dtype).scatter_(1, ranked, self.values[self._places(x)])

    def _places(self, x: Tensor) -> Tensor:
        plain = (x.detach().cpu() + 0).contiguous()  # -0.0 + 0 is 0.0, which looks the same to a network
        queries = (query.numpy().tobytes() for query in plain)
        digests = (hashlib.blake2b(query, digest_size=8, key=self.secret).digest() for query in queries)
        places = [int.from_bytes(digest, "big") % len(self.values) for digest in digests]
        return torch.tensor(places, dtype=torch.int64)


@dataclass(frozen=True)
class HAMP(Mechanism):
    """HAMP (Chen and Pattabiraman 2024): labels of high entropy, a bonus for unsure answers, and made-up values.

    All three act on each example by itself. When the model answers, it keeps the ranking of the classes and hands out
    the values of a random input. That hides members from who sees answers only, and blinds whatever else reads
    probabilities, such as proofs of ownership. The network is as it was: who has the weights is not held up, and by
    that the mechanism is judged.
    """

    name: ClassVar[str] = "hamp"
    title: ClassVar[str] = "HAMP"
    concern: ClassVar[str] = "membership inference"
    paper: ClassVar[str] = "Chen and Pattabiraman 2024"
    one_class: ClassVar[bool] = True

    gamma: float = 0.8
    """Entropy of the labels, as a share of that of even ones."""
    alpha: float = 0.01
    """Weight of the entropy of the answers, beside a cross entropy in nats."""
    answers: bool = True
    """Hand out the values of random inputs."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, < 1", gamma=self.gamma)
        within(self.name, ">= 0, finite", alpha=self.alpha)

    def measures(self) -> tuple[Measure, ...]:
        """Membership inference."""
        return (Membership(),)

    def batch(self, stream: Stream, plan: Plan) -> Stream:
        """Softens the stream's labels."""
        classes = plan.model.classes
        return replace(stream, maps=(*stream.maps, SoftLabels(top_share(classes, self.gamma), classes)))

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the bonus to the stream's losses."""
        return replace(stream, objectives=(*stream.objectives, EntropyBonus(self.alpha))) if self.alpha else stream

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """Rankings of the model with values of random inputs."""
        if not self.answers:
            return predict
        rng = context.rng(self.name, "answers")
        secret = bytes(torch.randint(256, (32,), generator=rng).tolist())
        values = predict(noise(trained.plan.judged_by.space, STOCK, rng)).sort(1).values
        return RankedAnswers(predict, values, secret)

    def facts(self, plan: Plan) -> dict[str, str]:
        """What the labels become, and what the answers are worth."""
        classes = plan.model.classes
        top = top_share(classes, self.gamma)
        labels = f"{top:.4g} for the class, {(1 - top) / max(1, classes - 1):.4g} for each other"
        return {"labels": labels, **({"answers": "rankings; their values are made up"} if self.answers else {})}
