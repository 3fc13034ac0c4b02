"""The t tests against the method's oracles and against two independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_ind

from guardclash.errors import UserError
from guardclash.judging.stats import (
    Sample,
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


@pytest.mark.parametrize("values", [(1.0, math.nan), (math.inf,), (0.0, -math.inf)])
def test_samples_hold_finite_numbers_only(values):
    with pytest.raises(UserError, match="finite"):
        Sample(values)


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
    moved = welch(left.scaled(factor).shifted(shift), right.scaled(factor).shifted(shift))
    assume(abs(shift) < 1e5 * factor * min(left.std, right.std))
    assert moved.p == pytest.approx(welch(left, right).p, abs=1e-6)
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
