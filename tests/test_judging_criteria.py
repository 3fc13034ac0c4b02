"""Metrics and criteria: what may be said, what is refused, and what survives JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardclash.errors import UserError
from guardclash.judging.criteria import (
    ACCURACY,
    LOG10_FLOOR,
    Ceiling,
    Floor,
    MaxDrop,
    MaxGrowth,
    Metric,
    criterion_dict,
    criterion_from,
    metric_from,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
criteria = st.one_of(
    st.floats(0, exclude_min=True, allow_infinity=False).map(MaxDrop),
    st.floats(1, exclude_min=True, allow_infinity=False).map(MaxGrowth),
    finite.map(Floor),
    finite.map(Ceiling),
)


@given(criteria)
def test_criteria_survive_json(criterion):
    assert criterion_from(json.loads(json.dumps(criterion_dict(criterion)))) == criterion


@given(criteria, st.booleans(), st.integers(0, 6))
def test_metrics_survive_json(criterion, judged, decimals):
    metric = Metric(
        "m", "φ_M", criterion if judged else None, isinstance(criterion, MaxDrop | Floor), decimals, "A title"
    )
    assert metric_from(json.loads(json.dumps(metric.to_dict()))) == metric
    assert hash(metric) == hash(metric_from(metric.to_dict()))


def test_accuracy_may_fall_by_ten_points():
    assert ACCURACY.name == "accuracy" and ACCURACY.symbol == "φ_ACC"
    assert ACCURACY.criterion == MaxDrop(0.10) and ACCURACY.higher_is_better


@pytest.mark.parametrize("number", [0, -0.1, math.nan, math.inf, True, "0.3", None])
def test_a_drop_is_a_positive_number(number):
    with pytest.raises(UserError, match="max_drop"):
        MaxDrop(number)


@pytest.mark.parametrize("kind", [MaxGrowth, Floor, Ceiling])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, False, "1"])
def test_thresholds_are_finite_numbers(kind, number):
    with pytest.raises(UserError, match=r"allowed: a number.*finite"):
        kind(number)


def test_growth_is_by_more_than_one():
    with pytest.raises(UserError, match=r"allowed: a number, > 1"):
        MaxGrowth(1.0)


@pytest.mark.parametrize("data", [None, 0.3, "max_drop", {}, {"max_drop": 0.3, "floor": 1}, ["max_drop", 0.3]])
def test_a_criterion_is_one_kind_with_one_number(data):
    with pytest.raises(UserError, match="one kind with one number"):
        criterion_from(data)


def test_unknown_criteria_meet_a_suggestion():
    with pytest.raises(UserError, match=r"criteria\.wm.*Did you mean 'max_drop'"):
        criterion_from({"maxdrop": 0.3}, where="criteria.wm")


@pytest.mark.parametrize(
    ("criterion", "higher_is_better", "log10"),
    [(Floor(0.1), False, False), (Ceiling(0.1), True, False), (MaxGrowth(2), True, False), (MaxGrowth(2), False, True)],
)
def test_criteria_must_suit_the_metric(criterion, higher_is_better, log10):
    with pytest.raises(UserError, match="phi"):
        Metric("phi", "φ", criterion, higher_is_better, log10=log10)


def test_thresholds_of_log10_p_values_are_logarithms():
    with pytest.raises(UserError, match="-3 for 1e-3"):
        Metric("di", "φ_DI", Ceiling(1e-3), higher_is_better=False, log10=True)
    assert Metric("di", "φ_DI", Ceiling(-3), higher_is_better=False, log10=True).criterion == Ceiling(-3)


def test_infinite_log10_p_values_count_as_the_floor():
    metric = Metric("di", "φ_DI", Ceiling(-3), higher_is_better=False, log10=True)
    assert metric.sample((-math.inf, -5000.0, -30.0)).values == (LOG10_FLOOR, LOG10_FLOOR, -30.0)
    assert math.log10(5e-324) > LOG10_FLOOR


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_by_name(value):
    with pytest.raises(UserError, match="accuracy"):
        ACCURACY.sample((0.9, value))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_log10_values_that_mean_nothing_are_refused_by_name(value):
    with pytest.raises(UserError, match="di_p"):
        Metric("di_p", "φ_DI", None, False, log10=True).sample((-3.0, value))


@pytest.mark.parametrize("data", [{}, {"name": "m", "symbol": "s"}, {**ACCURACY.to_dict(), "colour": "red"}])
def test_broken_records_of_metrics_are_named(data):
    with pytest.raises(UserError, match="not a metric"):
        metric_from(data)
