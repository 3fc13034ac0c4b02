"""Membership inference: whether a model tells which examples it was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guardclash.checks import within
from guardclash.conditions.random_half import RandomHalf
from guardclash.errors import UserError
from guardclash.judging.criteria import SHARE, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.numerics.membership import (
    Floats,
    Mask,
    auc,
    caught,
    clopper_pearson,
    lira_offline,
    margins_of,
    rmia,
    rmia_online,
    rmia_population,
)
from guardclash.plan.condition import Conditioned
from guardclash.plan.examples import class_indices
from guardclash.plan.members import members_of
from guardclash.plan.plan import Context, OtherSeed, Plan, Predict
from guardclash.plan.trainings import made_of
from guardclash.training.trained import Trained, predictor

FEWEST = 5
"""Non-members above a threshold, of which a rate at a low false positive rate makes sense: 5,000 of them at 0.1 %."""
RATES = {"mi_tpr_1": 0.01, "mi_tpr_01": 0.001}
"""False positive rates by metric."""
NO_HALVES = (
    "nobody knows what the model would be without an example, for the recipe is not under the condition random-half: "
    "only the attack without shadow models was made, so φ_MI is not measured"
)
NOTHING = "its answers are no numbers, or tell other classes than the examples have, so nobody attacked it"


def _tpr_metrics(name: str, of: str) -> tuple[Metric, ...]:
    title = f"members found at {of} false positives"
    edges = (("_low", "lower"), ("_high", "upper"))
    bounds = (
        Metric(name + end, f"TPR {of} {edge}", None, False, 4, f"{title}, {edge} bound", range=SHARE, optional=True)
        for end, edge in edges
    )
    return Metric(name, f"TPR {of}", None, False, 4, title, range=SHARE, optional=True), *bounds


def _auc_metric(name: str, symbol: str, title: str, optional: bool = False) -> Metric:
    return Metric(name, symbol, None, False, 3, title, range=SHARE, optional=optional)


@dataclass(frozen=True)
class Membership(Measure):
    """Membership inference by shadow models (RMIA, Zarifzadeh et al. 2024): AUC of telling members from others.

    For recipes under the condition random-half: other replicates of the same combination are the shadow models, so
    that nothing more is trained. Every example of the pool is known to half of them. Judged is the worse of the
    deployed model and of its bare network, which an attacker with the weights has; all else that is reported is of the
    same one. 0.5 is a model that tells nothing.
    """

    name: ClassVar[str] = "membership"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mi_auc", "φ_MI", MaxDrop(0.03), False, 3, "AUC of membership inference, at worst", range=SHARE),
        _auc_metric("mi_deployed_auc", "φ_MI deployed", "AUC on the answers as deployed"),
        _auc_metric("mi_bare_auc", "φ_MI bare", "AUC on the answers of the bare network"),
        _auc_metric("mi_lira_auc", "AUC LiRA", "AUC of LiRA offline"),
        _auc_metric("mi_global_auc", "AUC global", "AUC without shadow models"),
        *_tpr_metrics("mi_tpr_1", "1 %"),
        *_tpr_metrics("mi_tpr_01", "0.1 %"),
        _auc_metric("mi_minority_auc", "φ_MI minority", "AUC within the smallest group", optional=True),
        _auc_metric("mi_null_auc", "φ_MI null", "AUC for a half that nobody was trained on"),
        Metric("mi_others", "non-members", None, decimals=0, title="examples that were not trained on"),
    )

    shadows: int = 2
    """Shadow models, an even number: companions come in pairs of complementary halves. The AUC grows with it."""
    population: int = 5000
    """Test examples that ratios are compared with, the first ones; fewer where there are fewer."""
    gamma: float = 1.0
    """By which factor a ratio must exceed theirs."""

    def __post_init__(self) -> None:
        within(self.name, ">= 2, whole", shadows=self.shadows)
        within(self.name, ">= 1, whole", population=self.population)
        within(self.name, "> 0, finite", gamma=self.gamma)
        if self.shadows % 2:
            mend = "Complementary halves come in pairs, so that as many shadow models know an example as do not."
            where = f"{self.name}.shadows"
            raise UserError("an odd number of shadow models", where=where, got=self.shadows, mend=mend)

    def needs(self, plan: Plan) -> tuple[OtherSeed, ...]:
        """Other replicates of the same training, if they are each other's shadow models."""
        if _halved(plan) is None:
            return ()
        return tuple(OtherSeed(plan, place) for place in range(self.shadows))

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """How well members are told from others; without halves only what needs no shadow models."""
        half = _halved(trained.plan)
        if half is None:
            return self._without_shadows(trained, context)
        pool = self._pool(half, trained, context)
        bare = self._view(pool, predictor(trained.network), [predictor(one.network) for one in pool.shadows])
        served = bare
        if trained.serving:
            served = self._view(pool, trained.predict, [self._served(trained, one, context) for one in pool.shadows])
        if bare is None or served is None:
            return {}
        found = {"mi_deployed_auc": pool.auc(served.scores), "mi_bare_auc": pool.auc(bare.scores)}
        worse = served if found["mi_deployed_auc"] > found["mi_bare_auc"] else bare
        return {"mi_auc": max(found.values()), **found, **_reported(pool, worse, context)}

    def _served(self, trained: Trained, shadow: Trained, context: Context) -> Predict:
        """A shadow's answers, through the same mechanisms with the secrets of its own replicate."""
        answers: Predict = trained.deployed.answering(shadow, context.under(shadow.seed)).predict
        return answers

    def _pool(self, half: Conditioned, trained: Trained, context: Context) -> _Pool:
        pool = context.data(half.images)
        (x, y), group = pool, pool.about.get("group")
        seeds = [other.seed(context.seed) for other in self.needs(trained.plan)]
        known = np.zeros((1 + self.shadows, len(x)), bool)
        for row, seed in enumerate((context.seed, *seeds)):
            known[row, context.under(seed).data(half).about["index"].numpy()] = True
        # Of an odd pool each pair leaves one example out.
        kept = known[1:].sum(0) == self.shadows // 2
        test = context.data(trained.plan.judged_by.test).take(slice(self.population))
        return _Pool(
            x[torch.from_numpy(kept)],
            class_indices(y)[torch.from_numpy(kept)],
            test.x,
            class_indices(test.y),
            known[:, kept],
            None if group is None else _rarest(group.numpy())[kept],
            [context.trained(other) for other in self.needs(trained.plan)],
        )

    def _view(self, pool: _Pool, target: Predict, shadows: list[Predict]) -> _View | None:
        """The scores by what a model and its shadows answer; None where they answer nothing of use."""
        x, z = (margins_of((target, *shadows), *asked) for asked in ((pool.x, pool.y), (pool.test_x, pool.test_y)))
        if x is None or z is None:
            return None
        ratios = rmia_online(x[0], x[1:], pool.known[1:])
        scores = rmia(ratios, rmia_population(z[0], z[1:]), self.gamma)
        return _View(scores, lira_offline(x[0], x[1:], pool.known[1:]), x[0])

    def _without_shadows(self, trained: Trained, context: Context) -> dict[str, float]:
        """The AUC of margins, of members against as many test examples."""
        sources = members_of(trained.plan), trained.plan.judged_by.test
        data = [context.data(source) for source in sources]
        count = min(len(one.x) for one in data)
        found = []
        for one, of in zip(data, ("members", "others"), strict=True):
            chosen = one.take(torch.randperm(len(one.x), generator=context.rng(self.name, of))[:count])
            found.append(margins_of((trained.predict,), chosen.x, class_indices(chosen.y)))
        members, others = found
        return {} if members is None or others is None else {"mi_global_auc": auc(members[0], others[0])}

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """What was not measured and why; a null that is none."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if not metrics:
            yield NOTHING
        elif "mi_auc" not in metrics:
            yield NO_HALVES
        null, size = metrics.get("mi_null_auc", 0.5), metrics.get("mi_others", 1)
        if abs(null - 0.5) > 3 / math.sqrt(6 * size):
            yield f"the attack finds members of a half that nobody was trained on (AUC {null:.3f}): do not trust it"


class _Pool(NamedTuple):
    """The examples that are asked about, and the models that know half of them."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    known: Mask
    """[1 + S, N]: which example the target, and then each shadow model, was trained on."""
    minority: Mask | None
    """Whether an example is of the smallest group of the pool, [N]; None: there are no groups."""
    shadows: list[Trained]

    def auc(self, scores: Floats, among: Mask | None = None) -> float:
        """Of the target's members, [N] scores; among some of the examples."""
        chosen = np.ones(len(scores), bool) if among is None else among
        return auc(scores[self.known[0] & chosen], scores[~self.known[0] & chosen])


class _View(NamedTuple):
    """Scores [N] by what a model answers, in one way of asking it."""

    scores: Floats
    """RMIA's."""
    lira: Floats
    phi: Floats
    """Margins: the score without shadow models."""


def _reported(pool: _Pool, view: _View, context: Context) -> dict[str, float]:
    members = pool.known[0]
    ties = torch.rand(len(members), generator=context.rng("membership", "ties"), dtype=torch.float64).numpy()
    drawn = torch.randperm(len(members), generator=context.rng("membership", "null")).numpy()
    nobodys = drawn < len(members) // 2
    found = {
        "mi_lira_auc": pool.auc(view.lira),
        "mi_global_auc": pool.auc(view.phi),
        "mi_null_auc": auc(view.scores[nobodys], view.scores[~nobodys]),
        "mi_others": float((~members).sum()),
    }
    for name, rate in RATES.items():
        if rate * (~members).sum() >= FEWEST:
            both = np.concatenate([ties[members], ties[~members]])
            hits, of = caught(view.scores[members], view.scores[~members], rate, both), int(members.sum())
            low, high = clopper_pearson(hits, of)
            found |= {name: hits / of, f"{name}_low": low, f"{name}_high": high}
    minority = pool.minority
    if minority is not None and (members & minority).any() and (~members & minority).any():
        found["mi_minority_auc"] = pool.auc(view.scores, minority)
    return found


def _rarest(group: NDArray[Any]) -> Mask:
    """Who is of the group that has the fewest examples; nobody where there is one group."""
    names, counts = np.unique(group, return_counts=True)
    return (group == names[counts.argmin()]) & (len(names) > 1)


def _halved(plan: Plan) -> Conditioned | None:
    """The half of a pool within the task's examples, whatever mechanisms make of it; None: there is none."""
    # Not of the trainings that a source holds, such as that of a marking network.
    for source in made_of(members_of(plan)):
        if isinstance(source, Conditioned) and isinstance(source.condition, RandomHalf):
            return source
    return None
