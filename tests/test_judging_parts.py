"""What judgements are made of: gains, single seeds, tests without normality, baselines, corrections."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint

from guardclash.errors import UserError
from guardclash.judging.bounded import difference_above, mean_above
from guardclash.judging.criteria import ACCURACY, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.gain import gain_of
from guardclash.judging.judge import Bare, Look, judge
from guardclash.judging.judgement import MINIMUM, Judgement
from guardclash.judging.rules import PValues
from guardclash.judging.spread import apart, at_least, unseen
from guardclash.judging.stats import Sample, estimate_difference, holm, t_test
from guardclash.judging.verdict import Verdict, corrected, judge_accuracy

WM = Metric("wm_accuracy", "φ_WM", MaxDrop(0.30), range=(0.0, 1.0))
LOSS = Metric("loss", "L", MaxDrop(0.30), higher_is_better=False, range=(0.0, 1.0))
RAD = Metric("rad", "φ_RAD", Floor(0.01))
EPSILON = Metric("epsilon", "ε", MaxGrowth(1.5), higher_is_better=False)
MARKED = Sample((0.2, 0.21, 0.22))
"""A trace that RAD's floor asks for."""

numbers = st.floats(-3, 3).map(lambda number: round(number, 6))
spread_out = st.lists(numbers, min_size=3, max_size=9).filter(lambda values: np.std(values) > 1e-2)
shares = st.lists(st.floats(0, 1).map(lambda v: round(v, 3)), min_size=MINIMUM, max_size=8)
sample = st.one_of(
    shares.map(tuple).map(Sample),
    st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.integers(MINIMUM, 20)).map(lambda s: Sample.of(*s)),
)


def judged(metric: Metric, alone: Sample | None, together: Sample, **options) -> Judgement:
    return judge(metric, metric.criterion, alone, together, **options)


def seeded(values: dict[int, float]) -> Sample:
    return Sample(tuple(values.values()), seeds=tuple(values))


# Single seeds


@given(spread_out, st.floats(1e-2, 1e2), st.floats(-5, 5), st.booleans(), st.randoms())
@settings(deadline=None, max_examples=100)
def test_a_value_apart_is_so_in_any_unit_and_order(values, factor, shift, mirrored, random):
    place = apart(Sample(tuple(values)))
    moved = [(-factor if mirrored else factor) * value + shift for value in values]
    assert apart(Sample(tuple(moved))) == place
    order = random.sample(range(len(values)), len(values))
    again = apart(Sample(tuple(values[old] for old in order)))
    assert (again is None) == (place is None)
    if place is not None and again is not None:
        assert values[order[again]] == values[place]
        rest = [value for at, value in enumerate(values) if at != place]
        assert not min(rest) <= values[place] <= max(rest)


@pytest.mark.parametrize("n", [3, 5, 8, 10, 20])
def test_normal_seeds_are_rarely_apart_and_collapsed_ones_nearly_always(n):
    draws = np.random.default_rng(n)
    found = [apart(Sample(tuple(values))) is not None for values in draws.normal(0.9, 0.01, (2000, n)).tolist()]
    assert 0.03 < np.mean(found) < 0.07
    collapsed = draws.normal(0.9, 0.01, (500, n))
    collapsed[:, 1] = 0.3
    places = [apart(Sample(tuple(values))) for values in collapsed.tolist()]
    assert set(places) <= {1, None} and places.count(1) > (250 if n == 3 else 499)


@pytest.mark.parametrize("values", [(), (0.5,), (0.1, 0.9), (0.5,) * 5, (0.1 + 0.2, 0.3, 0.3), (math.inf,) * 3])
def test_nothing_is_apart_from_nothing(values):
    assert apart(Sample(values)) is None


@given(st.integers(1, 60), st.data(), st.floats(0.001, 0.4))
@settings(deadline=None, max_examples=80)
def test_unseen_failures_are_bounded_as_scipy_and_statsmodels_bound_them(n, data, alpha):
    failures = data.draw(st.integers(0, n))
    upper = proportion_confint(failures, n, 2 * alpha, method="beta")[1]
    assert unseen(failures, n, alpha) == pytest.approx(upper, abs=1e-9)
    exact = scipy_stats.binomtest(failures, n, alternative="less").proportion_ci(1 - alpha, method="exact").high
    assert unseen(failures, n, alpha) == pytest.approx(exact, abs=1e-6)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0, 1))
@settings(deadline=None, max_examples=80)
def test_events_by_chance_are_binomial(times, more, chance):
    n = times + more
    assert at_least(times, n, chance) == pytest.approx(scipy_stats.binom.sf(times - 1, n, chance), abs=1e-9)


def test_failing_seeds_are_counted_whatever_the_mean_hides():
    collapse = Sample((0.95, 0.96, 0.97, 0.1, 0.96), seeds=(3, 4, 5, 6, 7))
    judgement = judged(WM, Sample((0.95, 0.96, 0.97)), collapse)
    assert judgement.failing == 1 and judgement.apart == (("together", 3, 0.1),)
    assert judgement.unseen == pytest.approx(scipy_stats.beta.ppf(0.95, 2, 4))
    assert judgement.unseen_success == pytest.approx(scipy_stats.beta.ppf(0.95, 5, 1))
    low = judged(LOSS, Sample((0.05, 0.04, 0.03)), Sample(tuple(1 - value for value in collapse.values)))
    assert (low.failing, low.unseen) == (1, judgement.unseen) and low.apart == (("together", 3, 0.9),)
    assert judged(RAD, MARKED, Sample((0.005, 0.01, 0.02))).failing == 1, "the bound itself is admissible"
    near = judged(WM, Sample((0.95, 0.96, 0.97)), Sample((0.95, 0.951, 0.949, 0.93, 0.95)))
    assert near.failing == 0 and near.apart == (), "apart, but by less than half of what may be lost"
    for untold in (replace(WM, computed=True), replace(WM, criterion=None)):
        assert judged(untold, Sample((0.95, 0.96, 0.97)), collapse).unseen is None


# Without normality


SPAN = (0.0, 1.0)


def collapse(draws: np.random.Generator, n: int) -> np.ndarray:
    return np.where(draws.random(n) < 0.2, 0.1, 0.97)


AWFUL = {
    "one in five collapses": (collapse, 0.796),
    "one in a hundred collapses": (lambda draws, n: np.where(draws.random(n) < 0.01, 0.0, 1.0), 0.99),
    "one in twenty succeeds": (lambda draws, n: np.where(draws.random(n) < 0.05, 1.0, 0.0), 0.05),
    "a coin": (lambda draws, n: (draws.random(n) < 0.5).astype(float), 0.5),
    "nearly a coin": (lambda draws, n: draws.beta(0.05, 0.05, n), 0.5),
    "skewed": (lambda draws, n: draws.beta(8, 0.4, n), 8 / 8.4),
    "constant": (lambda draws, n: np.full(n, 0.7), 0.7),
}


@pytest.mark.parametrize("name", AWFUL)
@pytest.mark.parametrize("n", [3, 10, 40])
def test_p_values_of_a_bounded_mean_are_valid_for_any_distribution(name, n):
    draw, mean = AWFUL[name]
    draws, runs = np.random.default_rng(n), 1500
    p = np.array([mean_above(Sample(tuple(draw(draws, n))), mean, SPAN) for _ in range(runs)])
    for alpha in (0.01, 0.05, 0.2, 0.5):
        assert np.mean(p <= alpha) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


PAIRS = [pair for pair in product(AWFUL, AWFUL) if pair[0] in ("one in five collapses", pair[1])]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_p_values_of_a_bounded_difference_are_valid_for_any_distributions(first, second):
    (a, mean_a), (b, mean_b) = AWFUL[first], AWFUL[second]
    draws, runs = np.random.default_rng(7), 300
    for n_a, n_b in ((3, 5), (20, 10)):
        p = np.array(
            [
                difference_above(Sample(tuple(a(draws, n_a))), Sample(tuple(b(draws, n_b))), mean_a - mean_b, SPAN)
                for _ in range(runs)
            ]
        )
        for alpha in (0.05, 0.2, 0.5):
            assert np.mean(p <= alpha) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


unit = st.floats(0, 1)
two_points = st.tuples(unit, unit, st.floats(0.01, 0.99))
"""Two values, and how probable the second is."""


@given(two_points, two_points, st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_p_values_of_two_point_distributions_are_valid_exactly(a, b, n_a, n_b):
    """Not by simulation: every sample of two such distributions is counted with its probability."""
    gap = (a[0] + (a[1] - a[0]) * a[2]) - (b[0] + (b[1] - b[0]) * b[2])
    found = []
    for k_a in range(n_a + 1):
        for k_b in range(n_b + 1):
            left = Sample((a[0],) * (n_a - k_a) + (a[1],) * k_a)
            right = Sample((b[0],) * (n_b - k_b) + (b[1],) * k_b)
            chance = scipy_stats.binom.pmf(k_a, n_a, a[2]) * scipy_stats.binom.pmf(k_b, n_b, b[2])
            found.append((difference_above(left, right, gap, SPAN), chance))
    for level, _ in found:
        assert sum(chance for p, chance in found if p <= level) <= level + 1e-9


few = st.lists(unit, min_size=1, max_size=12)


def wealth(values: list[float], mean: float) -> float:
    """What twenty bettors own on average who stake 1/40, 3/40 ... of their wealth on values above a mean."""
    stakes = [(2 * k + 1) / 40 for k in range(20)]
    return float(np.mean([math.prod(1 + stake * (value - mean) / mean for value in values) for stake in stakes]))


@given(few, few, st.floats(-0.4, 0.4), st.floats(0.01, 0.99))
@settings(deadline=None, max_examples=100)
def test_no_mean_of_the_other_arm_is_forgotten(a, b, gap, mean):
    """Whatever it is, on the grid or between, no smaller p-value is reported than the bet against it gives."""
    assume(mean + gap > 0.01)
    exact = min(1.0, 1 / (wealth(a, mean + gap) * wealth([1 - value for value in b], 1 - mean)))
    assert difference_above(Sample(tuple(a)), Sample(tuple(b)), gap, SPAN) >= exact * (1 - 1e-9)
    assert mean_above(Sample(tuple(a)), mean, SPAN) == pytest.approx(min(1.0, 1 / wealth(a, mean)))


@given(few, few, st.floats(-0.5, 0.5))
@settings(deadline=None, max_examples=60)
def test_bounded_tests_ignore_order_and_units(a, b, gap):
    p = difference_above(Sample(tuple(a)), Sample(tuple(b)), gap, SPAN)
    assert 0 <= p <= 1
    backwards = difference_above(Sample(tuple(a[::-1])), Sample(tuple(sorted(b))), gap, SPAN)
    assert backwards == pytest.approx(p, rel=1e-9)
    assert mean_above(Sample(tuple(sorted(a))), 0.4, SPAN) == pytest.approx(mean_above(Sample(tuple(a)), 0.4, SPAN))
    scaled = (Sample(tuple(4 * value - 2 for value in values)) for values in (a, b))
    assert difference_above(*scaled, 4 * gap, (-2.0, 2.0)) == pytest.approx(p, rel=1e-6)


@given(few, few, st.floats(-0.5, 1), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_the_larger_the_gap_the_larger_the_p_value(a, b, gap, more):
    near, far = (difference_above(Sample(tuple(a)), Sample(tuple(b)), g, SPAN) for g in (gap, gap + more))
    assert near <= far * (1 + 1e-9)
    low, high = (mean_above(Sample(tuple(a)), value, SPAN) for value in (gap, gap + more))
    assert low <= high * (1 + 1e-9)


@given(st.lists(unit, min_size=3, max_size=3), st.lists(unit, min_size=3, max_size=3), st.floats(0, 0.9))
@settings(deadline=None, max_examples=60)
def test_three_never_suffice_and_enough_do(a, b, gap):
    assert difference_above(Sample(tuple(a)), Sample(tuple(b)), gap, SPAN) > 0.05
    many = [difference_above(Sample((0.9,) * n), Sample((0.1,) * n), gap, SPAN) for n in (10, 40, 100)]
    assert many == sorted(many, reverse=True)
    assert gap > 0.5 or many[-1] < 1e-3
    assert gap < 0.81 or many[-1] == 1.0


def test_the_bounded_rule_is_not_fooled_by_rare_collapse():
    """One training in five loses 0.4: by t tests on few seeds compatible with a drop that is exceeded."""
    metric, draws, runs = replace(WM, criterion=MaxDrop(0.077)), np.random.default_rng(3), 400
    said = {"strict": 0, "bounded": 0}
    for _ in range(runs):
        alone = metric.sample(draws.normal(0.9, 0.003, 3))
        together = metric.sample(0.9 - 0.4 * (draws.random(5) < 0.2) + draws.normal(0, 0.003, 5))
        judgement = judged(metric, alone, together)
        for rule in said:
            said[rule] += judgement.outcome(rule) == "compatible"
    assert said["strict"] / runs > 0.25 and said["bounded"] / runs <= 0.05


@given(shares, shares, st.floats(0.01, 0.9), st.lists(shares, max_size=1))
@settings(deadline=None, max_examples=40)
def test_the_bounded_rule_tests_both_directions_alike(alone, together, drop, unprotected):
    high, low = (replace(metric, criterion=MaxDrop(drop)) for metric in (WM, LOSS))
    bare, mirrored = (Bare(Sample(tuple(values))) if unprotected else Bare() for values in ((), ()))
    if unprotected:
        bare, mirrored = Bare(Sample(tuple(unprotected[0]))), Bare(Sample(tuple(1 - v for v in unprotected[0])))
    up = judged(high, Sample(tuple(alone)), Sample(tuple(together)), bare=bare).uncorrected("bounded")
    down = judged(
        low, Sample(tuple(1 - v for v in alone)), Sample(tuple(1 - v for v in together)), bare=mirrored
    ).uncorrected("bounded")
    assert (up.noninferior, up.inferior) == pytest.approx((down.noninferior, down.inferior), rel=1e-6)
    within = difference_above(Sample(tuple(together)), Sample(tuple(alone)), -drop, SPAN)
    kept = difference_above(Sample(tuple(together)), bare.unprotected, 0.0, SPAN) if bare.unprotected else 0.0
    assert up.noninferior == pytest.approx(max(within, kept))
    assert up.inferior == pytest.approx(difference_above(Sample(tuple(alone)), Sample(tuple(together)), drop, SPAN))


@pytest.mark.parametrize("metric", [replace(WM, range=None), replace(WM, criterion=Floor(0.5)), RAD, EPSILON])
def test_the_bounded_rule_says_nothing_without_a_range_or_a_drop(metric):
    many = judged(metric, Sample((0.9,) * 50), Sample((0.9,) * 50))
    assert many.uncorrected("bounded") == PValues() and many.outcome("bounded") == "undecided"
    computed = judged(replace(EPSILON, computed=True), Sample((3.0,) * 3), Sample((5.0,) * 3))
    assert computed.outcome("bounded") == "conflict", "what is computed is as it is"


def test_many_replicates_do_not_overflow():
    good, bad = Sample((1.0,) * 200), Sample((0.0,) * 200)
    assert mean_above(good, 0.001, SPAN) < 1e-99 and difference_above(good, bad, 0.1, SPAN) < 1e-9
    assert mean_above(bad, 0.5, SPAN) == difference_above(bad, good, 0.0, SPAN) == 1.0
    assert difference_above(Sample((1.0,)), Sample((0.0,) * 4), -1.0, SPAN) < 1


# Gains


def by_hand(*terms: tuple[float, list[float]]) -> tuple[float, float, float]:
    """A weighted sum of means, its standard error, and its degrees of freedom by Welch and Satterthwaite."""
    parts = [weight**2 * np.var(values, ddof=1) / len(values) for weight, values in terms]
    df = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, (_, values) in zip(parts, terms, strict=True))
    return sum(weight * np.mean(values) for weight, values in terms), math.sqrt(sum(parts)), df


@given(spread_out, spread_out, spread_out, spread_out, st.floats(0, 0.95), st.booleans(), st.floats(0.05, 1))
@settings(deadline=None, max_examples=80)
def test_gains_are_welch_contrasts(alone, together, unprotected, absent, share, higher, drop):
    metric = Metric("m", "φ", MaxDrop(drop), higher, retain=share)
    gain = gain_of(metric, *(Sample(tuple(values)) for values in (alone, together, unprotected, absent)))
    assert gain is not None
    sign = 1 if higher else -1
    arms = (alone, unprotected, gain.alone), (together, unprotected, gain.together), (together, absent, gain.added)
    for values, without, p in arms:
        beyond = sign * np.array(values) - drop / 2
        theirs = scipy_stats.ttest_ind(beyond, sign * np.array(without), equal_var=False, alternative="greater")
        assert p == pytest.approx(theirs.pvalue, abs=1e-8)
    terms = ((sign, together), (-sign * share, alone), (-sign * (1 - share), unprotected))
    value, error, df = by_hand(*(term for term in terms if term[0]))
    assert gain.retained == pytest.approx(scipy_stats.t.sf(value / error, df), abs=1e-8)
    assert gain.lost == pytest.approx(scipy_stats.t.cdf(value / error, df), abs=1e-8)
    assert gain.is_lost == (value < 0) or abs(value) < 1e-6
    gained = sign * (np.mean(alone) - np.mean(unprotected))
    assert gain.estimate.value == pytest.approx(gained, abs=1e-9)
    assert gain.absent == (gained <= drop / 2) or abs(gained - drop / 2) < 1e-6


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=4, max_size=8), st.floats(0.1, 0.9))
@settings(deadline=None, max_examples=40)
def test_gains_of_paired_metrics_are_those_of_seeds(values, share):
    alone, together, unprotected = (np.array(arm) for arm in zip(*values, strict=True))
    left = together - share * alone - (1 - share) * unprotected
    assume(min(np.std(left), np.std(alone - unprotected)) > 1e-2)
    metric = Metric("m", "φ", MaxDrop(0.2), paired=True, retain=share, least_gain=0.05)
    gain = gain_of(metric, *(seeded(dict(enumerate(arm))) for arm in (alone, together, unprotected)))
    assert gain is not None
    more = scipy_stats.ttest_1samp(left, 0, alternative="greater").pvalue
    assert (gain.retained, gain.lost) == pytest.approx((more, 1 - more), abs=1e-8)
    theirs = scipy_stats.ttest_1samp(alone - unprotected, 0.05, alternative="greater")
    assert gain.alone == pytest.approx(theirs.pvalue, abs=1e-8)


@given(sample, sample, sample, st.floats(0.05, 0.9))
@settings(deadline=None, max_examples=100)
def test_what_a_claim_needs_of_the_gain(alone, together, unprotected, drop):
    metric = replace(WM, criterion=MaxDrop(drop))
    judgement = judged(metric, alone, together, bare=Bare(unprotected))
    raw, claims, gain = judgement.raw, judgement.claims, judgement.gain
    assert gain is not None and raw == judged(metric, alone, together).raw, "the tests of the criterion stay"
    kept = max(gain.retained, gain.together)
    assert claims.noninferior == max(raw.noninferior, kept) and claims.equivalence == max(raw.equivalence, kept)
    assert claims.difference == raw.difference
    difference = estimate_difference(alone, unprotected)
    large = t_test(difference, drop / (1 - metric.retain)).p_greater < 0.05
    assert claims.inferior == (raw.inferior if large else min(1.0, 2 * min(raw.inferior, max(gain.lost, gain.alone))))
    excess = alone.mean - together.mean > drop * (1 + 1e-6)
    assert not (excess or gain.is_lost) or judgement.point == "conflict"


def test_a_lost_effect_is_a_conflict_within_the_drop():
    """A watermark of 0.35 that falls to chance, 0.10, stays within a drop of 0.30, and is gone."""
    alone, bare = Sample((0.35, 0.36, 0.34, 0.35, 0.36)), Bare(Sample((0.1, 0.11, 0.09, 0.1, 0.1)))
    gone, kept = Sample((0.1, 0.1, 0.11, 0.09, 0.12)), Sample((0.33, 0.34, 0.35, 0.33, 0.34))
    assert judged(WM, alone, gone).outcome("strict") == "compatible", "who does not know the unprotected model"
    assert judged(WM, alone, gone, bare=bare).outcomes == {"paper": "conflict", "strict": "conflict"}
    assert judged(WM, alone, kept, bare=bare).outcome("strict") == "compatible"
    half = judged(WM, alone, Sample((0.22, 0.23, 0.225, 0.23, 0.22)), bare=bare)
    assert half.outcome("strict") == "undecided" and half.raw.noninferior < 0.01 < 0.05 < half.claims.noninferior
    waiting = judged(WM, alone, kept, bare=Bare(Sample()), look=Look((5, 5)))
    assert waiting.missing == ("unprotected: 0 of 5",) and waiting.outcome("strict") == "undecided"


def test_no_effect_alone_is_nothing_to_lose_and_nothing_to_praise():
    chance = Sample((0.1, 0.11, 0.09, 0.1))
    weak, bare = Sample((0.12, 0.13, 0.11, 0.12)), Bare(chance, chance.scaled(1.0))
    assert judged(WM, weak, weak.scaled(1.0), bare=bare).outcomes == {"paper": "ineffective", "strict": "ineffective"}
    assert judged(WM, weak, weak.scaled(0.1), bare=bare).outcome("strict") == "ineffective"
    strong = Sample((0.95, 0.96, 0.97, 0.96))
    assert judged(WM, weak, strong, bare=bare).outcome("strict") == "compatible", "an effect in company"
    noisy = Sample((0.2, 0.9, 0.1, 0.8))  # by its mean an effect, but not shown
    assert judged(WM, noisy, Sample((0.48, 0.5, 0.52, 0.5)), bare=bare).gain.missed(0.05) is False
    assert judged(replace(WM, gain=False), weak, weak.scaled(1.0), bare=bare).outcome("strict") == "compatible"


@pytest.mark.parametrize("spreads", [(0.03, 0.03, 0.03), (0.1, 0.02, 0.02), (0.02, 0.02, 0.1)])
@pytest.mark.parametrize(("gain", "drop"), [(0.6, 0.3), (0.65, 0.3), (0.4, 0.2)])
def test_wrong_conflicts_at_both_limits_are_as_rare_as_alpha(spreads, gain, drop):
    """A drop of exactly the limit, or exactly half of the gain, or both."""
    draws, runs, found = np.random.default_rng(11), 700, 0
    for _ in range(runs):
        arms = zip((0.1 + gain, 0.1 + gain - drop, 0.1), spreads, (5, 10, 5), strict=True)
        alone, together, unprotected = (Sample(tuple(draws.normal(mean, std, n))) for mean, std, n in arms)
        found += judged(WM, alone, together, bare=Bare(unprotected)).outcome("strict") == "conflict"
    assert found / runs < 0.05 + 0.025


def test_what_a_mechanism_adds_is_judged_net_of_the_same_combination_without_it():
    metric = replace(RAD, net=True, paired=True)
    without = {0: -0.5, 1: 0.3, 2: 0.8, 3: -0.2}
    arms = {"alone": 0.2, "together": 0.001}
    alone, together = (seeded({seed: v + added for seed, v in without.items()}) for added in arms.values())
    bare = Bare(seeded(without), seeded(without))
    lost = judged(metric, alone, together, bare=bare, against="raddata", look=Look((4, 4)))
    assert lost.alone.mean == pytest.approx(0.2) and lost.together.mean == pytest.approx(0.001)
    assert lost.outcomes == {"paper": "conflict", "strict": "conflict"} and lost.symbol == "φ_RAD net"
    assert judged(metric, alone, alone.scaled(1.0), bare=bare).outcome("strict") == "compatible"
    assert judged(metric, together, together.scaled(1.0), bare=bare).outcome("strict") == "ineffective"
    waiting = Bare(seeded(without), seeded({0: 0.1}))
    short = judged(metric, alone, together, bare=waiting, against="raddata", look=Look((4, 4)))
    assert short.missing == ("without raddata: 1 of 4",) and short.outcome("strict") == "undecided"
    never = judged(metric, alone, together, bare=Bare(seeded(without)), against="raddata", look=Look((4, 4)))
    assert "without raddata, which the study does not have" in never.missing[0]
    assert never.outcome("strict") == "undecided"


@given(sample, sample, st.one_of(st.none(), sample), st.sampled_from((WM, LOSS, RAD)))
@example(Sample.of(0.35, 0.04, 5), Sample.of(0.23, 0.06, 5), Sample.of(0.1, 0.01, 5), WM)  # is half of the gain left?
@example(Sample.of(0.012, 0.012, 5), Sample.of(0.001, 0.002, 5), None, RAD)  # is it a loss?
@settings(deadline=None, max_examples=100)
def test_advice_asks_for_more_replicates_than_there_are(alone, together, unprotected, metric):
    assume(min(alone.std, together.std) > 1e-6)
    n = min(alone.n, together.n)
    bare = Bare(unprotected and Sample.of(unprotected.mean, unprotected.std, n))
    judgement = judged(metric, *(Sample.of(one.mean, one.std, n) for one in (alone, together)), bare=bare)
    if judgement.outcome("strict") == "undecided":
        assert judgement.replicates_needed is None or judgement.replicates_needed > n


# Baselines


@pytest.mark.parametrize("precise", [(0.805, 0.001), (0.81, 0.002)])
def test_a_noisy_lowest_baseline_blames_nobody(precise):
    """Against the lowest mean alone, a drop of exactly the limit was a conflict in up to 43 % of the cases."""
    draws = np.random.default_rng(20230207)
    against_chosen = conflict = 0
    for _ in range(2000):
        baselines = {"noisy": draws.normal(0.8, 0.05, 5), "precise": draws.normal(*precise, 5)}
        samples = {name: Sample(tuple(values)) for name, values in baselines.items()}
        judgement = judge_accuracy(samples, Sample(tuple(draws.normal(0.7, 0.001, 10))))
        against_chosen += judgement.raw.inferior < 0.05
        conflict += judgement.outcome("strict") == "conflict"
    assert against_chosen / 2000 > 0.25 and conflict / 2000 < 0.05 + 0.015


measured = shares.map(tuple).map(Sample)


@given(st.dictionaries(st.sampled_from("abcd"), measured, min_size=2), measured)
@settings(deadline=None, max_examples=60)
def test_conflicts_hold_against_every_baseline_and_compatibility_pays_for_the_choice(baselines, together):
    each = [judge(ACCURACY, ACCURACY.criterion, one, together) for one in baselines.values()]
    judgement = judge_accuracy(baselines, together)
    assert judgement.raw == each[list(baselines).index(judgement.against)].raw
    assert judgement.claims.inferior == pytest.approx(max(one.raw.inferior for one in each))
    smallest = min(one.raw.noninferior for one in each)
    assert judgement.claims.noninferior == pytest.approx(min(1, len(each) * smallest))
    if judgement.outcome("strict") == "conflict":
        assert all(one.outcome("strict") == "conflict" for one in each)
    assert dict(judgement.baselines) == baselines and len(judgement.others) == len(baselines) - 1
    bounded, singly = judgement.uncorrected("bounded"), [one.uncorrected("bounded") for one in each]
    assert bounded.inferior == max(one.inferior for one in singly)
    assert bounded.noninferior == pytest.approx(min(1, len(each) * min(one.noninferior for one in singly)))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_accuracy_is_judged_at_the_level_that_is_asked_for(alpha):
    alone, together = Sample.of(0.9, 0.02, 5), Sample.of(0.75, 0.05, 5)
    judgement = judge_accuracy({"a": alone, "b": alone}, together, alpha=alpha)
    assert judgement.alpha == alpha and 0.01 < judgement.claims.inferior < 0.1
    assert judgement.outcome("strict") == ("conflict" if judgement.claims.inferior < alpha else "undecided")


# Correction


@given(
    st.lists(st.tuples(sample, sample, st.sampled_from((WM, RAD, None))), min_size=1, max_size=6),
    st.sampled_from((0.01, 0.05)),
    st.sampled_from(("verdict", "holm")),
)
@example(
    [
        (Sample.of(0.0, 0.0, 3), Sample.of(0.0, 0.0, 3), RAD),
        (Sample.of(0.0, 0.0, 5), Sample((0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.5)), RAD),
    ],
    0.01,
    "holm",
)
@settings(deadline=None, max_examples=80)
def test_holm_adjusts_each_question_over_its_family(cases, alpha, correction):
    judgements = [judge(m or WM, m and m.criterion, a, b, alpha) for a, b, m in cases]
    if correction == "holm":  # one family, spread over verdicts
        study = [Verdict("r", ("a", "b"), (judgement,)) for judgement in judgements]
    else:  # what else there is in the study changes nothing
        study = [Verdict("r", ("a", "b"), tuple(judgements)), Verdict("r", ("c", "d"), (judgements[0],))]
    after = corrected(study, correction)
    adjusted = [one for verdict in after for one in verdict.judgements]
    places = [i for i, (*_, m) in enumerate(cases) if m]
    for question in ("inferior", "noninferior"):
        own = [getattr(judgements[i].claims, question) for i in places]
        expected = holm(own) if question == "inferior" or correction == "holm" else own
        assert [getattr(adjusted[i].adjusted["strict"], question) for i in places] == pytest.approx(list(expected))
    for before, one in zip([*judgements, judgements[0]], adjusted, strict=False):
        assert (one.raw, one.claims, one.point) == (before.raw, before.claims, before.point)
        assert one.decisive("strict").difference == before.raw.difference
        missed = before.gain is not None and before.gain.missed(alpha)
        assert one.outcome("strict") in (before.outcome("strict"), "ineffective" if missed else "undecided")
        assert one.outcome("paper") == before.outcome("paper"), "a test that does not reject is its claim"
        assert one.decisive("paper") == before.claims
    if correction == "verdict":
        assert adjusted[-1].adjusted["strict"] == judgements[0].claims, "one metric pays nothing"


def test_correction_changes_outcomes_and_shows_both_p_values():
    close = judged(WM, Sample.of(0.97, 0.02, 5), Sample.of(0.55, 0.12, 5))
    assert 0.005 < close.raw.inferior < 0.05
    study = [Verdict("r", (str(i),), (close,)) for i in range(10)]
    assert [one.outcome("strict") for one in corrected(study)] == ["conflict"] * 10, "each verdict has one metric"
    after = corrected(study, "holm")[0]
    assert study[0].outcome("strict") == "conflict" and after.outcome("strict") == "undecided"
    assert after.outcome("paper") == study[0].outcome("paper") == "conflict"
    data = after.judgements[0].to_dict("strict")
    assert data["p_inferior"] == close.raw.inferior == close.claims.inferior
    assert data["adjusted"]["p_inferior"] == pytest.approx(min(1, 10 * close.raw.inferior))
    assert after.judgements[0].to_dict("paper")["adjusted"] is None
    assert corrected(study, "none") == tuple(study)


def test_each_rule_is_corrected_by_its_own_p_values_and_the_paper_s_never():
    ranged = replace(WM, range=(0.0, 1.0))
    alone, together = Sample((0.97, 0.96, 0.98) * 6), Sample((0.3, 0.35, 0.25) * 6)
    verdict = Verdict(
        "r", ("a",), (judged(ranged, alone, together), judged(RAD, MARKED, Sample((0.001, 0.002, 0.001))))
    )
    first, _ = corrected([verdict], "verdict", ("bounded", "paper"))[0].judgements
    assert set(first.adjusted) == {"bounded"}
    own = first.uncorrected("bounded").inferior
    assert first.claims.inferior < own < 0.025 and first.decisive("bounded").inferior == pytest.approx(2 * own)
    assert first.decisive("strict") == first.decisive("paper") == first.claims


def test_untested_judgements_keep_the_family_at_its_size():
    close = judged(WM, Sample.of(0.97, 0.02, 5), Sample.of(0.55, 0.12, 5))
    computed, kept = (
        judged(replace(EPSILON, computed=True), Sample((3.0,) * 3), Sample((epsilon,) * 3)) for epsilon in (5.0, 3.0)
    )
    waiting = judged(WM, Sample(), Sample(), look=Look((5, 10)))
    verdict = Verdict("r", ("a",), (close, waiting, judge(WM, None, None, Sample()), computed, kept))
    assert verdict.tested == 2
    for correction in ("verdict", "holm"):
        first, second, third, fourth, _ = corrected([verdict], correction)[0].judgements
        assert first.adjusted["strict"].inferior == pytest.approx(2 * close.raw.inferior)
        assert second.adjusted["strict"] == third.adjusted["strict"] == PValues()
        assert fourth.adjusted["strict"] == computed.claims, "no replicate adds to what is computed"
        assert fourth.outcome("strict") == "conflict"


def test_the_choice_of_a_baseline_is_corrected_before_the_study():
    judgement = judge_accuracy({"a": Sample.of(0.9, 0.01, 5), "b": Sample.of(0.92, 0.01, 5)}, Sample.of(0.82, 0.03, 5))
    assert judgement.decisive("strict").noninferior == pytest.approx(2 * judgement.raw.noninferior)
    assert judgement.to_dict()["adjusted"]["p_noninferior"] == judgement.claims.noninferior
    for correction in ("verdict", "holm"):
        (after,) = corrected([Verdict("r", ("a", "b"), (judgement,))], correction)[0].judgements
        assert after.decisive("strict") == judgement.claims


def test_unknown_corrections_meet_a_suggestion():
    with pytest.raises(UserError, match="Did you mean 'holm'"):
        corrected([], "hol")
