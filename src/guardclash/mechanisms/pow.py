"""Calibrated proof of work: clients pay for answers by what these tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from guardclash.checks import given, within
from guardclash.judging.criteria import Ceiling, Floor, Metric
from guardclash.measure import Measure
from guardclash.mechanism import Curve
from guardclash.mechanisms.stealing import AgainstThieves
from guardclash.numerics.vote_privacy import Floats
from guardclash.numerics.work import Expected, base_of, neighbour_votes, prices, slowdown
from guardclash.plan.examples import class_indices
from guardclash.plan.members import members_of
from guardclash.plan.plan import Context, Plan, Predict, Source
from guardclash.plan.sources import Drawn, asked_of
from guardclash.training.trained import Trained, predictor

BATCH = 64
"""Queries for which work is asked together."""
HONEST = 2.0
"""How much slower an honest client may become: "at most 2 times" of the publication."""
SESSIONS = 10
"""Honest sessions by which the price of a batch is calibrated."""
DELTA = 1e-5
METRICS = (
    Metric("pow_thief", "φ_POW", Floor(10), decimals=1, title="slowdown of a thief with other inputs"),
    Metric("pow_honest", "honest", Ceiling(HONEST), False, 1, "slowdown of an honest client", gain=False),
    Metric("pow_thief_price", "price", None, decimals=1, title="of the thief's session, as ε"),
    Metric("pow_honest_price", "honest price", None, decimals=1, title="of the honest client's session, as ε"),
)


@dataclass(frozen=True)
class Slowdown(Measure):
    """How much slower an honest client and a thief with other inputs become."""

    name: ClassVar[str] = "pow"
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    mechanism: ProofOfWork

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mechanism's metrics."""
        return self.mechanism.slowed(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """The mechanism's own."""
        return self.mechanism.warnings(metrics)


@dataclass(frozen=True)
class ProofOfWork(AgainstThieves):
    """Calibrated proof of work (Dziedzic et al. 2022): queries that tell more cost the client more computing.

    A query's price is what a noisy vote of its nearest training examples would cost in privacy. A client whose
    batches cost more than those of honest ones must work growth^excess seconds for each; no answer changes, and the
    work is simulated, not done. By the growth, 99 % of honest batches of test inputs take at most twice as long.
    phi_POW is how many times as long a thief's session takes who asks other inputs; one with inputs of the task pays
    what honest clients pay, by construction. Prices are told from private examples without noise, so that no epsilon
    covers them: beside DP-SGD it is a conflict.
    """

    name: ClassVar[str] = "pow"
    title: ClassVar[str] = "the proof of work"
    concern: ClassVar[str] = "model extraction"
    paper: ClassVar[str] = "Dziedzic et al. 2022"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    neighbours: int | None = None
    """Training examples that vote on a query; None: 3 % of them, 10 at least and 300 at most."""
    sigma: float | None = None
    """Noise of the vote; None: as published, 28 for 300 neighbours and proportionally for others."""
    growth: float | None = None
    """Of the work for a batch with every unit of price too much; None: calibrated; published is 1.0075, for other
    prices."""
    queries: int = 1024
    """Of a session, at most as many as there are."""
    absolute: bool = False
    """As published, clients who are cheaper than expected work as well."""

    def __post_init__(self) -> None:
        within(self.name, ">= 2, whole", **given(neighbours=self.neighbours))
        within(self.name, "> 0, finite", **given(sigma=self.sigma))
        within(self.name, "> 1, finite", **given(growth=self.growth))
        within(self.name, f">= {2 * BATCH}, whole", queries=self.queries)

    @property
    def reads_members(self) -> bool:
        """Prices are told by the labels of private examples."""
        return True

    def misfit(self, plan: Plan) -> str:
        """As for every measure; also that there are no other inputs, or too few test inputs for a session."""
        if plan.purpose is not None and plan.purpose.neighbour_train is None:
            return "is measured by a thief with other inputs, and the task has no neighbour"
        if plan.purpose is not None and plan.purpose.test.size < 2 * BATCH:
            return f"is calibrated by sessions of {2 * BATCH} test inputs, and there are {plan.purpose.test.size}"
        return super().misfit(plan)

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """The answers as they are: they only come later."""
        return predict

    def measures(self) -> tuple[Measure, ...]:
        """Who is slowed down."""
        return (Slowdown(self),)

    def slowed(self, trained: Trained, context: Context) -> dict[str, float]:
        """How much slower honest clients and a thief become."""
        till = _Till(self, trained, context)
        foreign = trained.plan.judged_by.neighbour_train
        sessions = {"honest": self.others(trained.plan), "thief": foreign}
        found: dict[str, float] = {}
        for name, source in sessions.items():
            session = till.prices(context.data(self._session(source, f"{self.name}/{name}")).x)
            found |= {f"pow_{name}": till.slowdown(session), f"pow_{name}_price": float(session[-1])}
        return found

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """How much slower the making of a suspect would have been; nothing of one who asked nothing."""
        session = self._asked(suspect.plan, victim, context)
        if session is None:
            return {}
        return {"pow_thief": _Till(self, victim, context).slowdown(session), "pow_thief_price": float(session[-1])}

    def curves(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, Curve]:
        """The price over the number of queries that a suspect's maker has asked."""
        session = self._asked(suspect.plan, victim, context)
        points = [] if session is None else enumerate(session.tolist(), 1)
        return {"price": tuple((float(BATCH * place), price) for place, price in points)} if session is not None else {}

    def _asked(self, suspect: Plan, victim: Trained, context: Context) -> Floats | None:
        asked = asked_of(victim.deployed, suspect)
        queries = None if asked is None else context.data(asked).x[: self.queries]
        if queries is None or len(queries) < BATCH:
            return None
        return _Till(self, victim, context).prices(queries)

    def _session(self, source: Source, purpose: str) -> Drawn:
        return Drawn(source, min(self.queries, source.size), purpose)

    def facts(self, plan: Plan) -> dict[str, str]:
        """Whom the prices tell of."""
        return {"prices": "told by the labels of the nearest private examples, without noise: no ε covers them"}

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That a thief pays no more than others."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        thief, honest = metrics.get("pow_thief", 1.0), metrics.get("pow_honest", 1.0)
        if "pow_honest" in metrics and thief <= honest:
            yield f"a thief with other inputs is slowed down {thief:.1f} times, an honest client {honest:.1f} times"


class _Till:
    """Where clients pay.

    Args:
        how: The mechanism.
        trained: The model, whose own answers tell what is near.
        context: Of the seed.
    """

    def __init__(self, how: ProofOfWork, trained: Trained, context: Context):
        self._how, self._predict = how, predictor(trained.network)
        own = context.data(members_of(trained.plan))
        self._own, self._labels = self._features(own.x), class_indices(own.y)
        self._classes = trained.plan.model.classes
        usual = min(300, max(10, round(0.03 * len(own.x))))
        self._count = min(how.neighbours or usual, len(own.x))
        self._sigma = how.sigma or 28 * self._count / 300
        test = trained.plan.judged_by.test
        drawn = (how._session(test, f"{how.name}/calibration/{number}") for number in range(SESSIONS))
        honest = [self.prices(context.data(one).x) for one in drawn]
        self._expected = Expected.of(honest)
        beyond = [self._expected.beyond(one, how.absolute) for one in honest]
        self._base = how.growth or base_of(beyond, HONEST)

    def _features(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self._predict(x).float(), 1)

    def prices(self, x: Tensor) -> Floats:
        """Of a session of queries, after each batch."""
        votes = neighbour_votes(self._own, self._labels, self._features(x), self._count, self._classes)
        return prices(votes, self._sigma, DELTA, BATCH)

    def slowdown(self, session: Floats) -> float:
        """Of a session with such prices."""
        return slowdown(self._expected.beyond(session, self._how.absolute), self._base)
