"""Rounding of the last digits decides no verdict: values on a bound are on it, however they were worked out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.judging.criteria import Ceiling, Criterion, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.judge import Bare, judge
from guardclash.judging.stats import Sample

SEEDS = (0, 1, 2, 3)
bounds = st.one_of(st.just(0.0), st.integers(-400, 400).map(lambda number: number / 100))
detours = st.lists(st.integers(1, 900), min_size=4, max_size=4)
"""What is added, as hundredths, and taken off again: (x + c) - c is not x."""


def around(value: float, detour: list[int]) -> Sample:
    return Sample(tuple((value + number / 100) - number / 100 for number in detour), seeds=SEEDS)


def exactly(value: float) -> Sample:
    return Sample((value,) * 4, seeds=SEEDS)


def said(criterion: Criterion, alone: Sample, together: Sample, net: bool = False, absent: Sample | None = None):
    """All that is said of it, but for the numbers themselves."""
    metric = Metric(
        "m", "m", criterion, net=net, paired=net, higher_is_better=not isinstance(criterion, Ceiling | MaxGrowth)
    )
    bare = Bare(absent, absent) if absent is not None else Bare()
    found = judge(metric, criterion, alone, together, bare=bare)
    return found.outcomes, found.point, found.failing, found.raw.noninferior, found.raw.inferior, found.beyond


@given(bounds, detours)
@settings(deadline=None, max_examples=80)
def test_a_value_on_a_fixed_bound_is_on_it(bound, detour):
    for criterion in (Floor(bound), Ceiling(bound)):
        exact = said(criterion, exactly(bound), exactly(bound))
        rounded = around(bound, detour) if bound else exactly(0.0)  # nothing says of what numbers a mere 0 was made
        assert said(criterion, rounded, rounded) == exact
        assert exact[1] == "compatible", "the bound itself is admissible"
        assert exact[2] == 0, "no seed breaks it"


@given(bounds, st.integers(-900, 900), st.integers(1, 99))
@settings(deadline=None, max_examples=80)
def test_what_a_mechanism_adds_is_on_a_bound_although_both_of_its_terms_are_rounded(bound, absent, thirds):
    """0.1 + 0.2 - 0.3 is 5.6e-17, which is neither above nor below a bound of 0."""
    without = Sample(tuple(absent / 100 + number * thirds / 300 for number in SEEDS), seeds=SEEDS)
    with_it = Sample(tuple(bound + (number * thirds / 300 + 0.7) + absent / 100 - 0.7 for number in SEEDS), seeds=SEEDS)
    exact = said(Floor(bound), exactly(bound), exactly(bound), net=True, absent=exactly(0.0))
    assert said(Floor(bound), with_it, with_it, net=True, absent=without) == exact


@given(st.integers(1, 300), st.integers(1, 99), detours)
@settings(deadline=None, max_examples=80)
def test_a_drop_of_all_that_is_admissible_is_admissible(alone, drop, detour):
    for criterion, left in ((MaxDrop(drop / 100), alone / 100 - drop / 100), (MaxGrowth(1.5), alone / 100 * 1.5)):
        exact = said(criterion, exactly(alone / 100), exactly(left))
        found = said(criterion, around(alone / 100, detour), around(left, detour) if left else exactly(0.0))
        assert found[1] == exact[1] == "compatible"
        assert found[3:5] == exact[3:5]


def test_differences_that_are_rounding_are_none():
    assert Sample((0.1 + 0.2, 1.0), seeds=(0, 1)).minus(Sample((0.3, 0.5), seeds=(0, 1))).values == (0.0, 0.5)
    assert Sample((1e-12,), seeds=(0,)).minus(Sample((0.0,), seeds=(0,))).values == (1e-12,), "small is not rounded"
