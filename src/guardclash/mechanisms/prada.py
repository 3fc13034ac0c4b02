"""PRADA: whether the queries of a client look as if they were made up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from guardclash.checks import given, within
from guardclash.data.space import Images, Rows, Space
from guardclash.judging.criteria import SHARE, Ceiling, Floor, Metric
from guardclash.measure import Measure
from guardclash.mechanism import Curve
from guardclash.mechanisms.stealing import AgainstThieves
from guardclash.numerics.queries import Session, session_of
from guardclash.plan.deployed import Deployed
from guardclash.plan.jacobian import JacobianRound, substitutes, turned
from guardclash.plan.plan import Context, OtherSeed, Plan, Predict, Source
from guardclash.plan.sources import Drawn, asked_of
from guardclash.suspect import on
from guardclash.training.trained import Trained

CALIBRATION = 50
"""Sessions of test inputs that delta is taken from. They overlap, since fewer would leave the quantile to chance."""
METRICS = (
    Metric(
        "prada_detected", "φ_PRADA", Floor(0.95), title="sessions of a thief in which there is an alarm", range=SHARE
    ),
    Metric(
        "prada_false",
        "false alarms",
        Ceiling(0.05),
        False,
        title="honest sessions with an alarm",
        range=SHARE,
        gain=False,
    ),
    Metric(
        "prada_foreign",
        "other inputs",
        None,
        False,
        title="whether an honest client of other inputs is accused",
        range=SHARE,
        optional=True,
    ),
    Metric("prada_first", "first alarm", None, False, 0, title="queries of the thief before it", optional=True),
    Metric("prada_w", "W", None, False, title="least normality of the thief's distances", range=SHARE),
    Metric("prada_delta", "δ", None, title="normality below which there is an alarm", range=SHARE),
)


@dataclass(frozen=True)
class Watched:
    """Answers that are others after an alarm. One call is one client's session, in order."""

    predict: Predict
    delta: float
    every: int
    leading_zero: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, classes]; after the alarm the two most likely classes change places."""
        logits = self.predict(x).clone()
        if len(x):
            first = first_alarm(session_of(x, logits.argmax(1), self.leading_zero), self.delta, self.every)
            if first is not None:
                top = logits[first:].topk(2, 1)
                logits[first:] = logits[first:].scatter(1, top.indices, top.values.flip(1))
        return logits


def first_alarm(session: Session, delta: float, every: int) -> int | None:
    """After how many queries of a session the alarm is first raised; None: never."""
    return next((upto for upto, normality in session.curve(every) if normality < delta), None)


def least(session: Session, every: int) -> float:
    """The least normality that a session ever shows; 1 of one that is too short to say anything."""
    return min((normality for _, normality in session.curve(every)), default=1.0)


@dataclass(frozen=True)
class Detection(Measure):
    """Alarms at the sessions of a thief of this very model, and of honest clients."""

    name: ClassVar[str] = "prada"
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    mechanism: PRADA

    def needs_deployed(self, model: Deployed) -> tuple[Plan | OtherSeed, ...]:
        """The thief's substitutes but for the last one, which asks no more."""
        return (self.mechanism.queries(model).substitute,)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mechanism's metrics."""
        return self.mechanism.watch(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """The mechanism's own."""
        return self.mechanism.warnings(metrics)


@dataclass(frozen=True)
class PRADA(AgainstThieves):
    """PRADA (Juuti et al. 2019): an alarm where the distances between a client's queries are not about normal.

    Distances of each query from those before, of its class as the model tells it, are about normal for natural inputs
    and are not where queries are made of one another. The alarm is raised where Shapiro-Wilk's W falls below delta, by
    default the lowest that sessions of test inputs show. phi_PRADA is whether the session of a thief is noticed who
    grows 100 images to 3,200 queries; false alarms are counted in honest sessions of other images. It detects
    synthetic queries, not theft: who asks natural images of the task is never noticed, and an honest client with
    other images may be accused.
    """

    name: ClassVar[str] = "prada"
    title: ClassVar[str] = "PRADA"
    concern: ClassVar[str] = "model extraction"
    paper: ClassVar[str] = "Juuti et al. 2019"
    one_class: ClassVar[bool] = True
    spaces: ClassVar[tuple[type[Space], ...]] = (Images, Rows)
    does: ClassVar[str] = "measures distances between inputs"
    order: ClassVar[int] = 8  # it watches what the model tells, before a mark changes that
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    delta: float | None = None
    """W below which there is an alarm; None: the 1 % quantile over sessions of test inputs, 0.9 in the published demo.
    """
    every: int = 10
    """After how many queries each it is looked for."""
    sessions: int = 10
    """Honest sessions in which false alarms are counted."""
    length: int = 1000
    """Queries of each."""
    leading_zero: bool = True
    """As published, the first member of a set counts as one that joined at distance 0."""
    seeds: int = 100
    """Images that the thief begins with."""
    rounds: int = 5
    """How often it doubles them."""
    step: float = 0.1
    """How far it moves an entry."""
    response: bool = False
    """Answer with the second class after an alarm, until the session ends."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, < 1", **given(delta=self.delta))
        within(self.name, ">= 1, whole", every=self.every, sessions=self.sessions, rounds=self.rounds)
        within(self.name, ">= 2, whole", length=self.length, seeds=self.seeds)
        within(self.name, "> 0, finite", step=self.step)

    def measures(self) -> tuple[Measure, ...]:
        """Alarms, right and false."""
        return (Detection(self),)

    def queries(self, model: Deployed) -> JacobianRound:
        """All that the thief of a model asks, in order."""
        others = self.others(model.origin)
        images = Drawn(others, min(self.seeds, others.size), "prada/thief")
        thief = on(self.base(model.origin), images, "thief")
        # The last substitute asks nothing more: its queries are those of one round less, moved once more.
        return JacobianRound(
            substitutes(images, model, thief, self.rounds - 1, self.step), turned(self.step, self.rounds - 1)
        )

    def session(self, x: Tensor, predict: Predict) -> Session:
        """What is seen of a client who asks these, [N, ...]."""
        return session_of(x, predict(x).argmax(1), self.leading_zero)

    def honest(self, source: Source, predict: Predict, context: Context, purpose: str) -> list[Session]:
        """Sessions of different inputs of a source, drawn for every seed; fewer where it holds fewer."""
        length = min(self.length, source.size)
        count = max(1, min(self.sessions, source.size // length))
        x = context.data(Drawn(source, count * length, f"prada/{purpose}")).x
        return [self.session(part, predict) for part in x.split(length)]

    def threshold(self, plan: Plan, predict: Predict, context: Context) -> float:
        """Delta: as given, or by sessions of test inputs."""
        if self.delta is not None:
            return self.delta
        length = min(self.length, plan.judged_by.test.size)
        sources = (Drawn(plan.judged_by.test, length, f"prada/calibration/{number}") for number in range(CALIBRATION))
        calm = [least(self.session(context.data(one).x, predict), self.every) for one in sources]
        return float(np.quantile(calm, 0.01))

    def watch(self, trained: Trained, context: Context) -> dict[str, float]:
        """All metrics of a model, protected or not."""
        predict, plan = trained.predict, trained.plan
        delta = self.threshold(plan, predict, context)
        honest = self.honest(self.others(plan), predict, context, "honest")
        found = {
            **self._alarms(context.data(self.queries(trained.deployed)).x, predict, delta),
            "prada_false": sum(least(one, self.every) < delta for one in honest) / len(honest),
            "prada_delta": delta,
        }
        foreign = plan.judged_by.neighbour_train
        if foreign is not None:
            (one, *_) = self.honest(foreign.first(self.length), predict, context, "others")
            found["prada_foreign"] = float(least(one, self.every) < delta)
        return found

    def _alarms(self, x: Tensor, predict: Predict, delta: float) -> dict[str, float]:
        session = self.session(x, predict)
        first = first_alarm(session, delta, self.every)
        found = {"prada_detected": float(first is not None), "prada_w": least(session, self.every)}
        return found if first is None else {**found, "prada_first": float(first)}

    def _asked(self, suspect: Plan, victim: Trained, context: Context) -> Tensor | None:
        """What a suspect's maker asked of the victim, in order; None: nothing that is known."""
        asked = asked_of(victim.deployed, suspect)
        return None if asked is None else context.data(asked).x

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """Whether the victim's owner would have noticed the making of a suspect; nothing of one who asked nothing."""
        x = self._asked(suspect.plan, victim, context)
        if x is None:
            return {}
        delta = self.threshold(victim.plan, victim.predict, context)
        return {**self._alarms(x, victim.predict, delta), "prada_delta": delta}

    def curves(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, Curve]:
        """W over the number of queries that a suspect's maker has asked."""
        x = self._asked(suspect.plan, victim, context)
        if x is None:
            return {}
        points = self.session(x, victim.predict).curve(self.every)
        return {"prada_w": tuple((float(upto), normality) for upto, normality in points)}

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """The answers, watched if there is a response."""
        if not self.response:
            return predict
        delta = self.threshold(trained.plan, predict, context)
        return Watched(predict, delta, self.every, self.leading_zero)

    def facts(self, plan: Plan) -> dict[str, str]:
        """By what there is an alarm, and what follows."""
        by = f"δ = {self.delta:g}" if self.delta is not None else "δ by sessions of test inputs"
        return {
            "alarm": f"{by}, looked for every {self.every} queries",
            "then": "the second class" if self.response else "nothing",
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That honest clients are accused."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if metrics.get("prada_false", 0.0) > 0.05:
            yield f"{metrics['prada_false']:.0%} of honest sessions raise an alarm"
        if metrics.get("prada_foreign") == 1.0:
            yield "an honest client with other inputs is taken for a thief"
        if math.isclose(metrics.get("prada_w", 0.0), 1.0):
            yield "the thief's session is too short to say anything"
