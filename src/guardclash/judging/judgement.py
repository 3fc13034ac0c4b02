"""One metric of one combination: alone against together, under both rules."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.criteria import Absolute, Criterion, MaxDrop, Metric, Relative
from guardclash.judging.rules import PValues, Rule, check_rule, paper, paper_absolute, qualified, strict
from guardclash.judging.stats import (
    TOLERANCE,
    Estimate,
    Sample,
    estimate_difference,
    estimate_mean,
    interval,
    one_sample,
    replicates_needed,
    t_test,
    welch,
)

NOTHING = Sample()
"""No replicate yet."""


@dataclass(frozen=True)
class Judgement:
    """What the replicates say about one metric; outcomes follow from the p-values, so they are not kept."""

    metric: Metric
    """With the criterion that was applied, which a study may have set."""
    alone: Sample
    together: Sample
    alpha: float
    """Level of every test."""
    raw: PValues
    adjusted: PValues | None = None
    """After a correction over a whole study."""
    threshold: float | None = None
    """The largest admissible drop, or the fixed bound, in the units of the metric."""
    beyond: bool | None = None
    """Whether the means alone, without any test, break the criterion."""
    replicates_needed: int | None = None
    """Replicates per arm that would probably decide where the strict rule cannot (`stats.replicates_needed`);
    without regard to a correction over the study."""
    against: str = ""
    """Whose own value `alone` is."""
    others: tuple[tuple[str, float], ...] = ()
    """Name and mean of the baselines that were not chosen."""
    missing: tuple[str, ...] = ()
    """What must still be measured; until then both rules say "undecided", because peeking inflates errors."""
    alone_inferior: float | None = None
    """p-value, one-sided: small when alone already misses a fixed bound; None while its replicates are too few. No
    correction over a study touches it: it can only take a conflict back."""
    fired: tuple[str, ...] = ()
    """Names of the metric's controls that made its claim in any replicate, together or alone."""

    @property
    def difference(self) -> float | None:
        """Mean together minus mean alone, in the units of the metric."""
        return _known(self.together.mean - self.alone.mean)

    @property
    def drop(self) -> float | None:
        """The difference as a loss: positive when together is worse (Δφ of section 3, with its sign)."""
        return None if self.difference is None else _direction(self.metric) * -self.difference

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the difference, at confidence 1 - 2 alpha: uncorrected tests against a drop can be read off."""
        ends = interval(estimate_difference(self.together, self.alone), self.alpha)
        return None if math.isnan(ends[0]) else ends

    @property
    def together_interval(self) -> tuple[float, float] | None:
        """Of the mean together, at confidence 1 - 2 alpha: tests against a fixed bound can be read off."""
        ends = interval(estimate_mean(self.together), self.alpha)
        return None if math.isnan(ends[0]) else ends

    @property
    def point(self) -> str | None:
        """What the means say without a test: "compatible" or "conflict"; None when nothing can be said."""
        return None if self.beyond is None else "conflict" if self.beyond else "compatible"

    @property
    def chosen(self) -> PValues:
        """The raw p-values, corrected for the choice of `alone` among k baselines (Bonferroni).

        The worst of several noisy baselines lies below the truth, which makes "within the criterion" too easy
        and "beyond it" harder to show; so only the former pays, by the factor k.
        """
        p = self.raw.noninferior
        return self.raw if p is None else replace(self.raw, noninferior=min(1.0, p * self._baselines))

    @property
    def _baselines(self) -> int:
        return 1 + len(self.others) if isinstance(self.metric.criterion, Relative) else 1

    @property
    def decisive(self) -> PValues:
        """The p-values that the rules look at."""
        return self.adjusted or self.chosen

    @property
    def outcomes(self) -> dict[Rule, str]:
        """By rule; "reported" for a metric without a criterion."""
        return {"paper": self.outcome("paper"), "strict": self.outcome("strict")}

    def outcome(self, rule: Rule) -> str:
        """What one rule says; see the functions of `rules`."""
        if self.metric.criterion is None:
            return "reported"
        if self.missing or self.beyond is None:
            return "undecided"
        misses = bool(self.beyond) and self.alone_inferior is not None and self.alone_inferior < self.alpha
        return qualified(self._word(check_rule(rule), self.beyond), bool(self.fired), misses)

    def _word(self, rule: Rule, beyond: bool) -> str:
        """What the tests of the combination say, whatever its controls do."""
        if rule == "strict":
            return strict(self.decisive, self.alpha)
        if isinstance(self.metric.criterion, Absolute):
            return paper_absolute(self.decisive, beyond, self.alpha)
        return paper(self.decisive, self.drop or 0.0, beyond, self.alpha)

    def to_dict(self, rule: Rule = "paper") -> dict[str, Any]:
        """Strictly valid JSON: what cannot be known is null, never NaN."""
        return {
            "metric": self.metric.name,
            "symbol": self.metric.symbol,
            "definition": self.metric.to_dict(),
            "outcome": self.outcome(rule),
            "outcomes": self.outcomes,
            "point": self.point,
            "alone": _sample_dict(self.alone),
            "together": _sample_dict(self.together),
            "difference": self.difference,
            "drop": self.drop,
            "interval": self.interval and list(self.interval),
            "together_interval": self.together_interval and list(self.together_interval),
            "threshold": self.threshold,
            "alpha": self.alpha,
            **_p_dict(self.raw),
            "p_alone_inferior": self.alone_inferior,
            "adjusted": _p_dict(self.decisive) if self.decisive != self.raw else None,
            "replicates_needed": self.replicates_needed,
            "against": self.against,
            "others": dict(self.others),
            "missing": list(self.missing),
            "fired": list(self.fired),
        }


def judge(
    metric: Metric,
    criterion: Criterion | None,
    alone: Sample | None,
    together: Sample,
    alpha: float = 0.05,
    *,
    against: str = "",
    others: tuple[tuple[str, float], ...] = (),
    asked: tuple[int, int] = (1, 1),
) -> Judgement:
    """Holds a metric of a combination against what it is alone, or against a fixed bound.

    A drop or growth is tested by Welch's t test of together against its limit: the alone sample moved by the
    threshold, or multiplied by the factor, so that the spread of the limit counts. A floor or ceiling is
    tested by Student's t test of together; the same test of alone says whether there was anything to lose.
    Without any spread the means decide.

    Args:
        metric: What was measured.
        criterion: What is demanded, the metric's own or a study's; None: reported, not judged.
        alone: Replicates of the mechanism on its own.
        together: Replicates of the combination.
        alpha: Level of every test, in (0, 0.5).
        against: Whose replicates `alone` are.
        others: Name and mean of further baselines, of which `alone` was chosen as the worst.
        asked: How many replicates were planned, (alone, together); fewer leave the judgement undecided.
            A fixed bound does not wait for alone, which then says nothing.

    Raises:
        UserError: alpha is out of range, or the criterion does not suit the metric.

    Example:
        >>> wm = Metric("wm_accuracy", "φ_WM", MaxDrop(0.30))
        >>> judge(wm, wm.criterion, Sample.of(0.97, 0.01, 5), Sample.of(0.36, 0.06, 10)).outcomes
        {'paper': 'conflict', 'strict': 'conflict'}
    """
    if not 0 < alpha < 0.5:
        raise UserError("not a level of significance", where="alpha", got=alpha, allowed="0 < alpha < 0.5")
    metric, alone = replace(metric, criterion=criterion), alone or NOTHING
    arms = {"together": (together, asked[1])} if criterion else {}
    if isinstance(criterion, Relative):
        arms[f"{against} alone".strip()] = (alone, asked[0])
    missing = tuple(f"{arm}: {sample.n} of {n}" for arm, (sample, n) in arms.items() if sample.n < n)
    raw = PValues(difference=_known(welch(together, alone).p))
    judged = Judgement(metric, alone, together, alpha, raw, against=against, others=others, missing=missing)
    if isinstance(criterion, Absolute) and alone.n >= asked[0]:
        judged = replace(judged, alone_inferior=_alone_inferior(judged, criterion))
    if criterion is None or not all(sample.n for sample, _ in arms.values()):
        return judged
    if isinstance(criterion, Relative):
        return _against_alone(judged, criterion)
    return _against_bound(judged, criterion)


def _against_alone(judged: Judgement, criterion: Relative) -> Judgement:
    alone, together, better = judged.alone, judged.together, _direction(judged.metric)
    threshold = _threshold(criterion, alone)
    worst, best = _edge(criterion, alone, -better), _edge(criterion, alone, better)
    excess = better * (alone.mean - together.mean) - threshold
    beyond = excess > TOLERANCE * max(abs(alone.mean), abs(together.mean), threshold)
    judged = _against_limit(judged, estimate_difference(together, worst), beyond, (together.std, worst.std))
    if (within := judged.raw.noninferior) is not None:
        to_best = welch(together, best)
        equivalence = max(within, to_best.p_less if better > 0 else to_best.p_greater)
        judged = replace(judged, raw=replace(judged.raw, equivalence=equivalence))
    return replace(judged, threshold=threshold)


def _against_bound(judged: Judgement, criterion: Absolute) -> Judgement:
    together, bound = judged.together, criterion.threshold
    excess = _direction(judged.metric) * (bound - together.mean)
    beyond = excess > TOLERANCE * max(abs(together.mean), abs(bound))
    judged = _against_limit(judged, estimate_mean(together.shifted(-bound)), beyond, (together.std,))
    return replace(judged, threshold=bound)


def _alone_inferior(judged: Judgement, criterion: Absolute) -> float | None:
    """Times the number of baselines of which alone is the worst (Bonferroni), as the choice makes a miss likelier."""
    test = one_sample(judged.alone, criterion.threshold)
    p = _known(test.p_less if judged.metric.higher_is_better else test.p_greater)
    return None if p is None else min(1.0, p * (1 + len(judged.others)))


def _against_limit(judged: Judgement, to_limit: Estimate, beyond: bool, stds: tuple[float, ...]) -> Judgement:
    """The one-sided tests of a signed distance to the limit, shared by both kinds of criteria."""
    test = t_test(to_limit)
    good, bad = (test.p_greater, test.p_less) if judged.metric.higher_is_better else (test.p_less, test.p_greater)
    if to_limit.error == 0:
        good, bad = float(beyond), float(not beyond)  # the limit itself is still admissible
    raw = replace(judged.raw, noninferior=_known(good), inferior=_known(bad))
    judged = replace(judged, raw=raw, beyond=beyond)
    if strict(judged.chosen, judged.alpha) != "undecided":
        return judged
    level = judged.alpha if beyond else judged.alpha / judged._baselines
    return replace(judged, replicates_needed=replicates_needed(to_limit.value, stds, level))


def _threshold(criterion: Relative, alone: Sample) -> float:
    return criterion.threshold if isinstance(criterion, MaxDrop) else (criterion.factor - 1) * abs(alone.mean)


def _edge(criterion: Relative, alone: Sample, sign: float) -> Sample:
    """The alone sample moved by the threshold, up (+1) or down (-1); for a growth in proportion."""
    if isinstance(criterion, MaxDrop):
        return alone.shifted(sign * criterion.threshold)
    return alone.scaled(1 + math.copysign(criterion.factor - 1, sign * alone.mean))


def _direction(metric: Metric) -> int:
    return 1 if metric.higher_is_better else -1


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _sample_dict(sample: Sample) -> dict[str, Any]:
    return {
        "mean": _known(sample.mean),
        "std": _known(sample.std),
        "n": sample.n,
        "values": list(sample.values),
    }


def _p_dict(p: PValues) -> dict[str, float | None]:
    return {f"p_{name}": value for name, value in vars(p).items()}
