"""From replicates to the judgement of one metric: which tests are made of a criterion, and what a claim needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from guardclash.checks import within
from guardclash.judging.advice import advised
from guardclash.judging.criteria import Absolute, Criterion, MaxDrop, Metric, Relative
from guardclash.judging.gain import Gain, gain_of
from guardclash.judging.judgement import MINIMUM, NOTHING, Judgement, direction, known, last_admissible
from guardclash.judging.rules import PValues
from guardclash.judging.stats import (
    TOLERANCE,
    Estimate,
    Sample,
    contrast,
    estimate_difference,
    estimate_mean,
    t_test,
)


@dataclass(frozen=True)
class Bare:
    """A mechanism's metric on models without it."""

    unprotected: Sample | None = None
    """On models without any mechanism; None: unknown, or it has no meaning there."""
    absent: Sample | None = None
    """On the combination without this mechanism; a net metric needs it."""


UNKNOWN = Bare()


@dataclass(frozen=True)
class Look:
    """Which replicates of a study are judged, and how often it looks."""

    asked: tuple[int, int] = (1, 1)
    """How many are planned, alone and together."""
    level: float | None = None
    """Of the whole study, where the level of this look is a share of it; None: it is no share."""
    last: bool = True
    """Whether these are all that there may be."""


ALL = Look()


def judge(
    metric: Metric,
    criterion: Criterion | None,
    alone: Sample | None,
    together: Sample,
    alpha: float = 0.05,
    *,
    bare: Bare = UNKNOWN,
    against: str = "",
    look: Look = ALL,
) -> Judgement:
    """Holds a metric of a combination against what it is alone, or against a fixed bound.

    A drop or growth is tested by Welch's t test of together against its limit: the alone sample moved by the
    threshold, or multiplied by the factor, so that the spread of the limit counts. Where the unprotected model's value
    is known, the gain over it counts as well (`Gain`). A floor or ceiling is tested by Student's t test of together;
    breaking it is a conflict only if together is also shown to be worse than alone. Without any spread the means
    decide.

    Args:
        metric: What was measured.
        criterion: What is demanded, the metric's own or a study's; None: reported, not judged.
        alone: Replicates of the mechanism on its own.
        together: Replicates of the combination.
        alpha: Level of every test, in (0, 0.5).
        bare: The metric on models without the mechanism.
        against: Whose replicates `alone` are.
        look: How many replicates were planned; fewer leave the judgement undecided.

    Raises:
        UserError: alpha is out of range, or the criterion does not suit the metric.

    Example:
        >>> wm = Metric("wm_accuracy", "φ_WM", MaxDrop(0.30))
        >>> judge(wm, wm.criterion, Sample.of(0.97, 0.01, 5), Sample.of(0.36, 0.06, 10)).outcomes
        {'paper': 'conflict', 'strict': 'conflict'}
    """
    within("", "> 0, < 0.5", alpha=alpha)
    metric, alone = replace(metric, criterion=criterion), alone or NOTHING
    missing = _missing(metric, alone, together, bare, against, look.asked) if criterion else ()
    # What the others together score without the mechanism is taken off, seed by seed where seeds are known.
    if metric.net and criterion:
        alone, together = alone.minus(bare.unprotected or NOTHING), together.minus(bare.absent or NOTHING)
    enough = criterion is not None or alone.n >= max(MINIMUM, look.asked[0])  # a mere claim waits as well
    raw = PValues(difference=known(t_test(estimate_difference(together, alone, metric.paired)).p))
    of = bare.unprotected, bare.absent
    judged = Judgement(
        *(metric, alone, together, alpha, raw, raw),
        gain=gain_of(metric, alone, together, *((None, None) if metric.net else of)) if enough else None,
        against=against,
        missing=missing,
        level=look.level,
        last=look.last,
    )
    if criterion is None or not (alone.n and together.n):
        return judged
    # No seed adds evidence to either: a computed value is the same each time, and inf has no spread.
    if metric.computed or math.inf in (*alone.values, *together.values):
        return _by_value(judged, criterion, bare.absent or NOTHING)
    if isinstance(criterion, Relative):
        judged = _against_alone(judged, criterion)
    else:
        judged = _against_bound(judged, criterion)
    return replace(judged, replicates_needed=advised(judged))


def _missing(
    metric: Metric, alone: Sample, together: Sample, bare: Bare, against: str, asked: tuple[int, int]
) -> tuple[str, ...]:
    """The arms that lack replicates, and how many are there."""
    arms = {"together": (together, asked[1]), f"{against} alone".strip(): (alone, asked[0])}
    if bare.unprotected is not None and (metric.gain or metric.net):
        arms["unprotected"] = (bare.unprotected, asked[0])
    if metric.net and bare.absent is not None:
        arms[f"without {against}".strip()] = (bare.absent, min(asked))
    missing = [f"{arm}: {sample.n} of {n}" for arm, (sample, n) in arms.items() if sample.n < n]
    if metric.net and bare.absent is None:
        whom = against or "the mechanism"
        missing.append(f"the same combination without {whom}, which the study does not have: add it")
    return tuple(missing)


def _by_value(judged: Judgement, criterion: Criterion, absent: Sample) -> Judgement:
    """Of what is computed, or without any bound (inf): the value decides, for no seed adds evidence.

    Without a bound already alone, the mechanism gains nothing, unless only its company with the others has one.
    """
    alone, together, better = judged.alone.mean, judged.together.mean, direction(judged.metric)
    here, limit = math.isfinite(alone), last_admissible(criterion, alone, better)
    beyond = here and better * (limit - together) > TOLERANCE * max(abs(alone), abs(limit))
    same = math.isclose(alone, together, rel_tol=TOLERANCE)
    p = PValues(float(same), float(beyond), float(beyond), 1.0 - beyond)
    nothing = Estimate(math.nan, math.nan, math.nan)
    company = float(not math.isfinite(together))
    added = company if absent.mean == math.inf else None
    gain = judged.gain if here else Gain(nothing, 1.0, company, NOTHING, True, added=added)
    threshold = limit if isinstance(criterion, Absolute) else abs(limit - alone) if here else None
    return replace(judged, raw=p, claims=p, beyond=beyond, threshold=threshold, gain=gain)


def _against_alone(judged: Judgement, criterion: Relative) -> Judgement:
    alone, together, better = judged.alone, judged.together, direction(judged.metric)
    # Two edges of what may be: equivalence must lie within both.
    to_worst, to_best = (_to_edge(criterion, judged, side) for side in (-better, better))
    threshold = criterion.threshold if isinstance(criterion, MaxDrop) else (criterion.factor - 1) * abs(alone.mean)
    beyond = -better * to_worst.value > TOLERANCE * max(abs(alone.mean), abs(together.mean), threshold)
    raw = _one_sided(judged.raw, to_worst, beyond, better)
    if raw.noninferior is not None:
        test = t_test(to_best)
        # Two one-sided tests: the larger p-value decides.
        raw = replace(raw, equivalence=max(raw.noninferior, test.p_less if better > 0 else test.p_greater))
    judged = replace(judged, raw=raw, claims=raw, beyond=beyond, threshold=threshold)
    if judged.gain is None or judged.gain.retained is None:
        return judged
    return _with_gain(judged, judged.gain, threshold)


def _with_gain(judged: Judgement, gain: Gain, threshold: float) -> Judgement:
    """Staying within a drop takes keeping the gain, and losing an effect is a conflict whatever the drop may be.

    Either loss is one, so that the smaller p-value is doubled (Bonferroni), but where the gain is shown to be so large
    that whoever loses that share of it also exceeds the drop.
    """
    raw, kept = judged.raw, max(gain.retained or 0.0, gain.together if gain.together is not None else 1.0)
    covered = gain.exceeds(threshold / (1 - judged.metric.retain)) < judged.alpha
    lost = [p for p in (raw.inferior, gain.lost_effect) if p is not None]
    claims = PValues(
        raw.difference,
        None if raw.equivalence is None else max(raw.equivalence, kept),
        None if raw.noninferior is None else max(raw.noninferior, kept),
        raw.inferior if covered or not lost else min(1.0, 2 * min(lost)),
    )
    return replace(judged, claims=claims, beyond=bool(judged.beyond) or gain.is_lost)


def _against_bound(judged: Judgement, criterion: Absolute) -> Judgement:
    together, bound, better = judged.together, criterion.threshold, direction(judged.metric)
    excess = better * (bound - together.mean)
    beyond = excess > TOLERANCE * max(abs(together.mean), abs(bound))
    raw = _one_sided(judged.raw, estimate_mean(together), beyond, better, bound)
    change = t_test(judged.change)
    worse = known(change.p_less if better > 0 else change.p_greater)
    # Both must be shown, so the larger p-value: a mechanism that misses its bound alone blames no combination.
    inferior = None if raw.inferior is None or worse is None else max(raw.inferior, worse)
    return replace(judged, raw=raw, claims=replace(raw, inferior=inferior), beyond=beyond, threshold=bound)


def _one_sided(raw: PValues, to_limit: Estimate, beyond: bool, better: int, limit: float = 0.0) -> PValues:
    """The one-sided tests of a signed distance to the limit, shared by both kinds of criteria."""
    test = t_test(to_limit, limit)
    good, bad = (test.p_greater, test.p_less) if better > 0 else (test.p_less, test.p_greater)
    if to_limit.error == 0:
        good, bad = float(beyond), float(not beyond)  # the limit itself is still admissible
    return replace(raw, noninferior=known(good), inferior=known(bad))


def _to_edge(criterion: Relative, judged: Judgement, side: float) -> Estimate:
    """Together minus what alone becomes when it moves by all that is admissible, up (+1) or down (-1)."""
    alone, together, paired = judged.alone, judged.together, judged.metric.paired
    if isinstance(criterion, MaxDrop):
        change = estimate_difference(together, alone, paired)
        return replace(change, value=change.value - side * criterion.threshold)
    factor = 1 + math.copysign(criterion.factor - 1, side * alone.mean)
    return contrast(((1.0, together), (-factor, alone)), paired)
