"""DAWN: a watermark made when the model answers, for whoever steals it by its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from guardclash.checks import one_of, within
from guardclash.data.space import Images
from guardclash.judging.criteria import SHARE, Ceiling, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.mechanisms.stealing import AgainstThieves
from guardclash.numerics.features import features_of, reads_out
from guardclash.numerics.keyed import bits, is_chosen, keyed_hashes, other_class, plain_bytes
from guardclash.numerics.verification import log10_verification_p
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Context, OtherSeed, Plan, Predict
from guardclash.plan.sources import asked_of
from guardclash.training.trained import Trained, accuracy

METRICS = (
    Metric("dawn_repeated", "φ_DAWN", MaxDrop(0.30), title="marks that a thief's model repeats", range=SHARE),
    Metric(
        "dawn_log10_p",
        "log₁₀ V",
        None,
        False,
        1,
        title="verification p-value",
        log10=True,
        claim=Ceiling(-3),
        model="its thief",
    ),
    Metric("dawn_marks", "marks", None, decimals=0, title="marked answers that the thief got"),
    Metric("dawn_thief", "thief's φ_ACC", None, title="accuracy of the thief's model", range=SHARE, optional=True),
)


# Without ==, which tensors answer entry by entry.
@dataclass(frozen=True, eq=False)
class MarkedAnswers:
    """Answers of which a keyed few name a wrong class: the same query has the same answer, in whatever batch.

    The two classes change places in the answer, so that its sorted values, and what they say of confidence, stay.
    """

    predict: Predict
    hashes: Any
    """From inputs [B, ...] to the keyed hash of each."""
    rate: float

    def chosen(self, x: Tensor) -> tuple[Tensor, list[bytes]]:
        """Which queries are marked, int64 [marks], and their hashes."""
        found = [(place, digest) for place, digest in enumerate(self.hashes(x)) if is_chosen(digest, self.rate)]
        return torch.tensor([place for place, _ in found], dtype=torch.int64), [digest for _, digest in found]

    def marked(self, logits: Tensor, digests: list[bytes]) -> Tensor:
        """The classes that answers [marks, classes] are changed to, [marks]."""
        tops = logits.argmax(1).tolist()
        told = [other_class(one, top, logits.shape[1]) for one, top in zip(digests, tops, strict=True)]
        return torch.tensor(told, dtype=torch.int64)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        logits = self.predict(x).clone()
        places, digests = self.chosen(x)
        tops, wrong = logits[places].argmax(1), self.marked(logits[places], digests)
        logits[places, tops], logits[places, wrong] = logits[places, wrong], logits[places, tops]
        return logits


@dataclass(frozen=True)
class Repeated(Measure):
    """Whether a model that is trained on the answers of this one repeats the marks that were among them."""

    name: ClassVar[str] = "dawn"
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    mechanism: DAWN

    def needs_deployed(self, model: Deployed) -> tuple[Plan | OtherSeed, ...]:
        """A thief of the model as it answers."""
        return (self.mechanism.thief(model),)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mechanism's metrics on the thief's model, and how good that is."""
        if not self.mechanism.applies(trained.plan):
            return {}
        surrogate = context.trained(self.mechanism.thief(trained.deployed))
        test = context.data(trained.plan.judged_by.test)
        return {
            **self.mechanism.verify(surrogate, trained, context),
            "dawn_thief": accuracy(surrogate.predict, test.x, test.y),
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """The mechanism's own."""
        return self.mechanism.warnings(metrics)


@dataclass(frozen=True)
class DAWN(AgainstThieves):
    """DAWN (Szyller et al. 2021): a few queries, chosen by a secret key, are answered with a wrong class.

    Nothing is done to the training. Who trains a model on the answers trains it on the marks as well, and the owner,
    who knows the key, finds them by asking the suspect what its client once asked. phi_DAWN is the share of marks that
    the model of a thief repeats who asks as many images as the owner has and does not have, and takes the classes; V
    (equation 3) is the chance to do so by guessing. A model that has never seen the answers repeats fewer marks than a
    guesser, for marks are wrong. It does not protect against who has the weights.
    """

    name: ClassVar[str] = "dawn"
    title: ClassVar[str] = "DAWN"
    concern: ClassVar[str] = "model watermarking"
    paper: ClassVar[str] = "Szyller et al. 2021"
    one_class: ClassVar[bool] = True
    order: ClassVar[int] = 9  # the answer that leaves the house is the marked one
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    rate: float = 0.005
    """Share of queries that are marked: what accuracy costs."""
    mapping: str = "pixels"
    """What the key is applied to: "pixels", the query itself, in whole pixel values; or "latent": which of the model's
    features lie above their median over training examples, so that queries that differ little may be one."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, < 1", rate=self.rate)
        one_of(self.name, ("pixels", "latent"), mapping=self.mapping)

    @property
    def reads_members(self) -> bool:
        """The borders of the latent key are medians over private examples."""
        return self.mapping == "latent"

    def measures(self) -> tuple[Measure, ...]:
        """Whether a thief's model repeats the marks."""
        return (Repeated(self),)

    def applies(self, plan: Plan) -> bool:
        """Whether a plan's model answers the questions of the task that it is bound to."""
        return plan.question == self.base(plan).question

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """Wrong classes for the chosen queries."""
        return self._marking(predict, trained, context)

    def _marking(self, predict: Predict, trained: Trained, context: Context) -> MarkedAnswers:
        rng = context.rng(self.name, "key")
        key = bytes(torch.randint(256, (32,), generator=rng).tolist())
        pixels = isinstance(trained.plan.judged_by.space, Images)
        if self.mapping == "latent" and reads_out(trained.network, trained.plan.model.classes):
            seen = context.data(trained.plan.origin.task.source).x
            borders = features_of(trained.network, seen).median(0).values
            return MarkedAnswers(
                predict, lambda x: keyed_hashes(bits(features_of(trained.network, x), borders), key), self.rate
            )
        return MarkedAnswers(predict, lambda x: keyed_hashes(plain_bytes(x, pixels), key), self.rate)

    def marks(self, suspect: Plan, victim: Trained, context: Context) -> tuple[Tensor, Tensor]:
        """What the suspect's maker asked, as far as it is marked, and how it was answered: [marks, ...], int64 [marks].

        Of one who is not known to have asked anything: what the thief of this mechanism asks.
        """
        asked = asked_of(victim.deployed, suspect)
        queries = context.data(asked or self.others(victim.plan)).x
        marking = self._marking(victim.predict, victim, context)
        places, digests = marking.chosen(queries)
        x = queries[places]
        answers = victim.predict(x)
        # Who answers without the mechanism gives no wrong class: its thief is asked for those that it would have got.
        through = any(type(one) is type(self) for one in victim.serving)
        return x, answers.argmax(1) if through else marking.marked(answers, digests)

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """phi_DAWN and V of a suspect, for what it was answered."""
        if not self.applies(suspect.plan):
            return {}
        x, wrong = self.marks(suspect.plan, victim, context)
        if not len(x):
            return {"dawn_marks": 0.0}
        errors = int((suspect.predict(x).argmax(1) != wrong).sum())
        return {
            "dawn_repeated": 1 - errors / len(x),
            "dawn_log10_p": log10_verification_p(errors, len(x), victim.plan.model.classes),
            "dawn_marks": float(len(x)),
        }

    def facts(self, plan: Plan) -> dict[str, str]:
        """How many answers are wrong, and by what they are chosen."""
        by = "the query" if self.mapping == "pixels" else "the bits of its features"
        return {"marks": f"{self.rate:.3g} of all answers name a wrong class, chosen by a key and {by}"}

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That there are too few marks for a claim."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if 0 <= metrics.get("dawn_marks", 10) < 10:
            yield f"only {metrics['dawn_marks']:.0f} answers were marked: raise the rate, or let the thief ask more"
