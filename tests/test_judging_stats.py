"""The t tests against the method's oracles and against two independent implementations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_ind

from guardclash.errors import UserError
from guardclash.judging.criteria import MaxDrop, Metric
from guardclash.judging.judge import judge
from guardclash.judging.stats import (
    Sample,
    contrast,
    estimate_difference,
    estimate_mean,
    holm,
    interval,
    one_sample,
    replicates_needed,
    t_test,
    tost,
    welch,
)

numbers = st.floats(-3, 3, allow_nan=False).map(lambda number: round(number, 6))
samples = st.lists(numbers, min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-3)
weights = st.floats(-2, 2).filter(lambda weight: abs(weight) > 1e-3)
levels = st.sampled_from((0.01, 0.05, 0.1))


@pytest.mark.parametrize(
    ("a", "b", "bound", "t", "df", "p", "p_tost"),
    [
        ((0.90, 0.01, 5), (0.87, 0.02, 10), 0.10, 3.87298, 12.9600, 0.00193244, 2.94326e-07),
        ((0.97, 0.01, 5), (0.36, 0.06, 10), 0.30, 31.29234, 9.9586, 2.81674e-11, 1),
        ((0.50, 0.05, 10), (0.45, 0.05, 10), 0.10, 2.23607, 18.0000, 0.0382496, 0.0191248),
        ((0.69, 0.004, 5), (0.51, 0.11, 10), 0.10, 5.16781, 9.0475, 0.000579089, 0.97645),
        ((0.99, 0.02, 5), (0.30, 0.05, 10), 0.30, 37.98325, 12.7451, 1.69763e-14, 1),
        ((0.97, 0.02, 5), (0.67, 0.04, 10), 0.30, 19.36492, 12.9600, 5.99775e-11, 0.5),
    ],
)
def test_welch_and_tost_from_printed_summaries(a, b, bound, t, df, p, p_tost):
    test = welch(Sample.of(*a), Sample.of(*b))
    assert test.t == pytest.approx(t, rel=1e-5)
    assert test.df == pytest.approx(df, rel=1e-5)
    assert test.p == pytest.approx(p, rel=1e-5)
    assert tost(Sample.of(*a), Sample.of(*b), -bound, bound).p == pytest.approx(p_tost, rel=1e-5)


def test_the_easy_side_of_tost_is_kept():
    both = tost(Sample.of(0.97, 0.01, 5), Sample.of(0.36, 0.06, 10), -0.3, 0.3)
    assert both.p_low == pytest.approx(2.69034e-13, rel=1e-5)
    assert both.p == both.p_high


@pytest.mark.parametrize(
    ("mean", "std", "t", "p_greater"),
    [
        (0.091, 0.01, 25.6144, 5.07e-10),
        (0.11, 0.01, 31.6228, 7.76e-11),
        (0.19, 0.01, 56.921, 4.01e-13),
        (0.001, 0.001, -28.4605, 1),
        (0.0, 0.001, -31.6228, 1),
        (0.003, 0.002, -11.068, 1),
    ],
)
def test_one_sample_against_the_radioactive_threshold(mean, std, t, p_greater):
    test = one_sample(Sample.of(mean, std, 10), 0.01)
    assert test.t == pytest.approx(t, rel=1e-5)
    assert test.df == pytest.approx(9)
    assert test.p_greater == pytest.approx(p_greater, rel=2e-3)
    if mean == 0.003:
        assert test.p_less == pytest.approx(7.64e-7, rel=2e-3)


@given(a=samples, b=samples)
@settings(deadline=None, max_examples=60)
def test_welch_agrees_with_scipy_from_values_and_from_summaries(a, b):
    left, right = Sample(tuple(a)), Sample(tuple(b))
    ours = welch(left, right)
    theirs = scipy_stats.ttest_ind(a, b, equal_var=False)
    printed = scipy_stats.ttest_ind_from_stats(
        left.mean, left.std, left.n, right.mean, right.std, right.n, equal_var=False
    )
    less = scipy_stats.ttest_ind(a, b, equal_var=False, alternative="less")
    assert (ours.t, ours.df, ours.p) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue), abs=1e-9)
    assert (ours.t, ours.p) == pytest.approx((printed.statistic, printed.pvalue), abs=1e-9)
    assert ours.p_less == pytest.approx(less.pvalue, abs=1e-9)
    assert welch(Sample.of(left.mean, left.std, left.n), right) == ours


@given(a=samples, b=samples, bound=st.floats(0.01, 2))
@settings(deadline=None, max_examples=60)
def test_tost_agrees_with_statsmodels(a, b, bound):
    ours = tost(Sample(tuple(a)), Sample(tuple(b)), -bound, bound)
    p, low, high = ttost_ind(np.array(a), np.array(b), -bound, bound, usevar="unequal")
    assert (ours.p, ours.p_low, ours.p_high) == pytest.approx((p, low[1], high[1]), abs=1e-9)


@given(a=samples, b=samples, alpha=levels)
@settings(deadline=None, max_examples=60)
def test_intervals_agree_with_statsmodels_and_with_one_sided_tests(a, b, alpha):
    left, right = Sample(tuple(a)), Sample(tuple(b))
    low, high = interval(estimate_difference(left, right), alpha)
    theirs = CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(2 * alpha, usevar="unequal")
    assert (low, high) == pytest.approx(theirs, abs=1e-8)
    assert interval(estimate_mean(left), alpha) == pytest.approx(DescrStatsW(a).tconfint_mean(2 * alpha), abs=1e-8)
    for value in (low - 1e-6, low + 1e-6):
        shown_above = t_test(estimate_difference(left, right), value).p_greater < alpha
        assert shown_above == (value < low)
    bound = max(abs(low), abs(high))
    assert tost(left, right, -bound - 1e-6, bound + 1e-6).p < alpha


@given(a=samples, value=numbers)
@settings(deadline=None, max_examples=40)
def test_one_sample_agrees_with_scipy(a, value):
    ours = one_sample(Sample(tuple(a)), value)
    theirs = scipy_stats.ttest_1samp(a, value)
    assert (ours.t, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), abs=1e-9)
    assert ours.p_less + ours.p_greater == pytest.approx(1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(deadline=None, max_examples=12)
@pytest.mark.slow
def test_holm_agrees_with_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


def test_holm_of_nothing():
    assert holm(()) == ()


@given(st.lists(numbers, max_size=8))
@settings(deadline=None, max_examples=60)
def test_samples_summarise_their_values(values):
    sample = Sample(values)
    assert sample.n == len(values) and sample.values == tuple(values)
    assert hash(sample) == hash(Sample(tuple(values))) and sample == Sample(tuple(values))
    assert math.isnan(sample.mean) if not values else sample.mean == pytest.approx(np.mean(values))
    assert math.isnan(sample.std) if len(values) < 2 else sample.std == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("values", [(1.0, math.nan), (math.nan, math.inf), (-math.inf,), (0.0, -math.inf)])
def test_samples_hold_numbers_or_inf_only(values):
    with pytest.raises(UserError, match="numbers only, or inf"):
        Sample(values)


@given(st.lists(numbers, max_size=6), st.integers(0, 6))
def test_a_quantity_without_bound_has_no_spread_and_is_never_tested(values, place):
    values.insert(place, math.inf)
    endless, finite = Sample(tuple(values)), Sample.of(0.5, 0.1, 10)
    assert (endless.mean, endless.n) == (math.inf, len(values)) and math.isnan(endless.std)
    for test in (welch(endless, finite), welch(finite, endless), welch(endless, endless.scaled(1))):
        assert all(math.isnan(number) for number in (test.p, test.p_less, test.p_greater))
    assert math.isnan(one_sample(endless, 0.5).p) and math.isnan(tost(endless, finite, -1, 1).p)
    assert all(math.isnan(end) for end in interval(estimate_mean(endless)))


@pytest.mark.parametrize("summary", [(math.nan, 1, 5), (0, -1, 5), (0, math.inf, 5), (0, math.nan, 2), (0, 1, 0)])
def test_impossible_summaries_are_refused(summary):
    with pytest.raises(UserError, match="no such sample"):
        Sample.of(*summary)


def test_one_replicate_tests_nothing():
    one, many = Sample((0.9,)), Sample.of(0.5, 0.1, 10)
    assert one == Sample((0.9,)) and Sample.of(0.9, 0.1, 1) == Sample.of(0.9, math.nan, 1)
    for test in (welch(one, many), welch(many, one), welch(many, Sample()), one_sample(one, 0.5)):
        assert all(math.isnan(number) for number in (test.t, test.df, test.p, test.p_less, test.p_greater))
    assert math.isnan(tost(one, many, -1, 1).p)
    assert all(math.isnan(end) for end in interval(estimate_mean(one)))
    assert replicates_needed(0.1, (math.nan, 0.1)) is None


def test_without_spread_the_point_decides():
    low, high = Sample((0.67,) * 3), Sample((0.97,) * 5)
    assert (welch(low, high).p, welch(low, high).p_less, welch(low, high).p_greater) == (0, 0, 1)
    assert (welch(low, low).p, welch(low, low).p_less, welch(low, low).p_greater) == (1, 1, 1)
    assert interval(estimate_difference(high, low)) == (0.97 - 0.67,) * 2
    assert tost(high, low, -0.31, 0.31).p == 0
    assert tost(high, low, -0.30, 0.30).p == 1  # on the bound, although 0.97 - 0.67 < 0.30 in binary
    assert one_sample(Sample((0.1, 0.1, 0.1)), 0.1).p == 1
    assert one_sample(Sample((0.0, 0.0)), 0.0).p == 1


def test_rounding_is_no_spread():
    noisy = Sample((0.1 + 0.2, 0.3, 0.3))
    assert noisy.std > 0
    assert welch(noisy, Sample((0.3, 0.3))).p == 1
    assert welch(Sample((0.1 + 0.2,) * 3), Sample((0.3, 0.3))).p == 1


def test_spread_on_one_side_only():
    still, moving = Sample((0.5,) * 4), Sample((0.4, 0.5, 0.75))
    ours, theirs = welch(moving, still), one_sample(moving, 0.5)
    assert (ours.t, ours.df, ours.p) == pytest.approx((theirs.t, theirs.df, theirs.p))


@given(a=samples, b=samples, factor=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
@settings(deadline=None, max_examples=40)
def test_p_values_ignore_units(a, b, factor, shift):
    left, right = Sample(tuple(a)), Sample(tuple(b))
    moved = welch(*(Sample(tuple(factor * value + shift for value in values)) for values in (a, b)))
    assume(abs(shift) < 1e5 * factor * min(left.std, right.std))
    assert moved.p == pytest.approx(welch(left, right).p, abs=1e-6)
    assert welch(left.scaled(factor), right.scaled(factor)).p == pytest.approx(welch(left, right).p, abs=1e-6)
    assert left.scaled(-1).mean == -left.mean and left.scaled(-1).std == left.std


@given(distance=st.floats(0.01, 2), std=st.floats(0.05, 1), alpha=levels)
@settings(deadline=None, max_examples=40)
def test_replicates_needed_agrees_with_statsmodels(distance, std, alpha):
    needed = replicates_needed(-distance, (std,), alpha)

    def power(n: int) -> float:
        return TTestPower().power(distance / std, n, alpha, alternative="larger")

    if needed is None:
        assert power(1000) < 0.8 + 1e-6
    else:
        assert power(needed) > 0.8 - 1e-6
        assert needed == 2 or power(needed - 1) < 0.8 + 1e-6


def test_replicates_needed_at_its_ends():
    assert replicates_needed(0.0, (0.1, 0.1)) is None
    assert replicates_needed(1e-9, (0.1, 0.1)) is None
    assert replicates_needed(0.1, (0.0, 0.0)) == 2
    assert replicates_needed(1e9, (0.1, 0.1)) == 2


def test_replicates_needed_decide_about_four_times_in_five():
    distance, stds = 0.05, (0.04, 0.08)
    needed = replicates_needed(distance, stds)
    assert needed is not None
    draws = np.random.default_rng(1)
    a = draws.normal(0.0, stds[0], (4000, needed))
    b = draws.normal(distance, stds[1], (4000, needed))
    decided = scipy_stats.ttest_ind(a, b, axis=1, equal_var=False, alternative="less").pvalue < 0.05
    assert decided.mean() == pytest.approx(0.8, abs=0.03)


# Contrasts


def seeded(values: dict[int, float]) -> Sample:
    return Sample(tuple(values.values()), seeds=tuple(values))


def by_hand(*terms: tuple[float, list[float]]) -> tuple[float, float, float]:
    """A weighted sum of means, its standard error, and its degrees of freedom by Welch and Satterthwaite."""
    parts = [weight**2 * np.var(values, ddof=1) / len(values) for weight, values in terms]
    df = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, (_, values) in zip(parts, terms, strict=True))
    return sum(weight * np.mean(values) for weight, values in terms), math.sqrt(sum(parts)), df


@given(st.lists(st.tuples(weights, samples), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_contrasts_are_welch_satterthwaite_for_any_number_of_arms(terms):
    ours = contrast(tuple((weight, Sample(tuple(values))) for weight, values in terms))
    assert (ours.value, ours.error, ours.df) == pytest.approx(by_hand(*terms), rel=1e-6, abs=1e-12)
    summaries = contrast(tuple((w, Sample.of(np.mean(v), np.std(v, ddof=1), len(v))) for w, v in terms))
    assert (summaries.value, summaries.error, summaries.df) == pytest.approx((ours.value, ours.error, ours.df))


@given(samples, samples, weights, weights, numbers)
@settings(deadline=None, max_examples=60)
def test_contrasts_of_two_arms_agree_with_scipy(a, b, of_a, of_b, value):
    ours = t_test(contrast(((of_a, Sample(tuple(a))), (of_b, Sample(tuple(b))))), value)
    theirs = scipy_stats.ttest_ind(of_a * np.array(a) - value, -of_b * np.array(b), equal_var=False)
    less = scipy_stats.ttest_ind(of_a * np.array(a) - value, -of_b * np.array(b), equal_var=False, alternative="less")
    assert (ours.t, ours.df, ours.p) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue), abs=1e-8)
    assert ours.p_less == pytest.approx(less.pvalue, abs=1e-9)


@given(st.dictionaries(st.integers(0, 12), st.tuples(numbers, numbers), min_size=3), st.randoms(), weights)
@settings(deadline=None, max_examples=60)
def test_paired_contrasts_agree_with_scipy_on_the_seeds_that_all_have(values, random, weight):
    a, b = ([pair[side] for pair in values.values()] for side in (0, 1))
    assume(np.std(np.array(a) + weight * np.array(b)) > 1e-2)
    order = random.sample(list(values), len(values))
    left = seeded({100: 7.0} | {seed: values[seed][0] for seed in values})
    right = seeded({seed: values[seed][1] for seed in order} | {-1: -7.0})
    ours = t_test(contrast(((1.0, left), (weight, right)), paired=True))
    theirs = scipy_stats.ttest_rel(a, -weight * np.array(b))
    assert (ours.t, ours.df, ours.p) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue), abs=1e-8)
    difference = estimate_difference(left, right, paired=True)
    assert difference.value == pytest.approx(np.mean(a) - np.mean(b), abs=1e-9)
    assert left.minus(right).mean == pytest.approx(difference.value, abs=1e-12)
    assert set(left.minus(right).seeds) == set(values)


@given(samples, samples, weights, weights)
@settings(deadline=None, max_examples=40)
def test_an_arm_that_occurs_twice_is_one_set_of_replicates(a, b, first, second):
    left, right = Sample(tuple(a)), Sample(tuple(b))
    assume(abs(first + second) > 1e-3)
    twice = contrast(((first, left), (1.0, right), (second, left)))
    once = contrast(((first + second, left), (1.0, right)))
    assert (twice.value, twice.error, twice.df) == pytest.approx((once.value, once.error, once.df))
    gone = contrast(((first, left), (1.0, right), (-first, left)))
    assert (gone.value, gone.error) == pytest.approx((right.mean, right.std / math.sqrt(right.n)))


@given(samples)
@settings(deadline=None, max_examples=40)
def test_two_arms_with_equal_values_stay_two(values):
    left, right = Sample(tuple(values)), Sample(tuple(values))
    assert left == right and left is not right
    change = estimate_difference(left, right)
    assert change.value == 0 and change.error == pytest.approx(math.sqrt(2 / left.n) * left.std)
    assert change.df == pytest.approx(2 * (left.n - 1)) and welch(left, right).p == pytest.approx(1)


def test_without_common_seeds_nothing_is_paired():
    named, other = Sample((1.0, 2.0, 3.0), seeds=(0, 1, 2)), Sample((1.0, 2.0, 4.0), seeds=(3, 4, 5))
    for right in (other, Sample((1.0, 2.0, 4.0)), Sample.of(1.0, 0.1, 3), Sample((1.0, 2.0), seeds=(2, 3))):
        assert math.isnan(t_test(contrast(((1.0, named), (-1.0, right)), paired=True)).p)
        assert named.minus(right).n == (right.n == 2)
    assert named.without(1) == Sample((1.0, 3.0), seeds=(0, 2)) and named.scaled(2.0).seeds == (0, 1, 2)
    with pytest.raises(UserError, match="one seed for each value"):
        Sample((1.0, 2.0), seeds=(0,))


def test_secrets_that_seeds_share_are_compared_seed_by_seed():
    """Pairing is what the metric declares: the spread of the secret cancels, and a small loss is seen."""
    secret = np.random.default_rng(0).normal(0, 1, 6)
    alone, together = seeded(dict(enumerate(secret))), seeded(dict(enumerate(secret - 0.5 + 0.01 * np.arange(6) ** 2)))
    metric = Metric("m", "φ", MaxDrop(0.1), paired=True)
    expected = scipy_stats.ttest_1samp(np.array(together.values) - np.array(alone.values), -0.1, alternative="less")
    paired, independent = (
        judge(replace(metric, paired=how), metric.criterion, alone, together) for how in (True, False)
    )
    assert paired.raw.inferior == pytest.approx(expected.pvalue) and paired.outcome("strict") == "conflict"
    assert independent.raw.inferior == pytest.approx(welch(together, Sample(tuple(secret - 0.1))).p_less)
    assert independent.outcome("strict") == "undecided"


def test_replicates_needed_of_a_paired_metric_are_those_of_the_differences():
    differences = np.array([-0.4, 0.1, -0.3, 0.2, 0.0])
    alone = seeded(dict(enumerate(np.arange(5.0))))
    metric = Metric("m", "φ", MaxDrop(0.3), paired=True)
    needed = replicates_needed(differences.mean() + 0.3, (differences.std(ddof=1),))
    shared = dict(enumerate(np.arange(5.0) + differences))
    assert judge(metric, metric.criterion, alone, seeded(shared)).replicates_needed == needed
    more = seeded(shared | {seed: seed - 0.05 for seed in range(5, 10)})
    assert judge(metric, metric.criterion, alone, more).replicates_needed == needed, (
        "seeds that alone lacks tell nothing"
    )


# Values of a metric


@given(st.floats(allow_nan=True), st.booleans())
def test_values_outside_of_their_range_are_refused_by_name(value, higher):
    metric = Metric("share", "φ", None, higher, range=(0.0, 1.0))
    if 0 <= value <= 1:
        assert metric.sample((0.5, value)).values == (0.5, value)
    elif not -1e-8 < value < 1 + 1e-8:
        with pytest.raises(UserError, match="share"):
            metric.checked(value)


def test_only_what_should_be_low_may_be_without_bound():
    budget, share = Metric("ε", "ε", None, False), Metric("share", "φ", None, range=(0.0, 1.0))
    assert budget.checked(math.inf) == math.inf and budget.sample((3.0, math.inf), (0, 1)).seeds == (0, 1)
    refused = ((budget, -math.inf), (budget, math.nan), (share, math.inf), (replace(share, range=None), math.inf))
    for metric, value in (*refused, (replace(budget, log10=True), math.inf), (share, 95.0)):
        with pytest.raises(UserError, match=metric.name):
            metric.checked(value)
    assert share.checked(1 + 1e-12) == 1 + 1e-12, "rounding"


@pytest.mark.parametrize(
    "fields",
    [
        *({"range": ends} for ends in ((1.0, 1.0), (1.0, 0.0), (math.nan, 1.0), (0.0, math.inf))),
        *({"retain": share} for share in (1.0, -0.1, math.nan)),
        *({"least_gain": least} for least in (-0.1, math.nan)),
    ],
)
def test_ranges_shares_and_gains_that_make_no_sense_are_refused(fields):
    with pytest.raises(UserError, match="in m"):
        Metric("m", "φ", MaxDrop(0.1), **fields)
