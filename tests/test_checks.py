"""Checks of values: what a rule lets pass, what it refuses, and what the complaint says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash import checks
from guardclash.checks import one_of, within
from guardclash.errors import UserError

RULES = ("> 0, finite", "> 0", ">= 1", "> 0, < 1", ">= 0, < 1", ">= 0, finite", "> 0, <= 1", ">= 1, <= 255")
"""Those that fields have, as they are told to users."""
NUMBERS = st.one_of(
    st.floats(),
    st.integers(1 - 2**63, 2**63 - 1),
    st.floats(-2, 2),
    st.sampled_from([0.0, -0.0, 1, 255, 256, True, False]),
)


def passes(rule: str, value: object) -> bool:
    try:
        within("part", rule, field=value)
    except UserError:
        return False
    return True


@settings(max_examples=300)
@given(NUMBERS)
def test_a_rule_means_what_it_says(value):
    assert passes("> 0, finite", value) == (value > 0 and math.isfinite(value))
    assert passes("> 0", value) == (value > 0)
    assert passes(">= 1", value) == (value >= 1)
    assert passes("> 0, < 1", value) == (0 < value < 1)
    assert passes(">= 0, < 1", value) == (0 <= value < 1)
    assert passes("> 0, <= 1", value) == (0 < value <= 1)
    assert passes(">= 1, <= 255", value) == (1 <= value <= 255)
    assert passes("whole, >= 1", value) == (1 <= value < math.inf and value == int(value))
    assert passes("a number, finite", value) == (math.isfinite(value) and not isinstance(value, bool))


@pytest.mark.parametrize("rule", [*RULES, "whole", "finite", "a number, finite"])
def test_nan_is_never_usable(rule):
    assert not passes(rule, math.nan) and not passes(rule, np.float32("nan"))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [None, "1", "", (), [1.0], 1j, object()])
def test_what_is_no_number_is_a_users_mistake_too(rule, value):
    with pytest.raises(UserError, match=r"not a usable value \(in part\.field\)"):
        within("part", rule, field=value)


def test_numbers_of_any_kind_and_size():
    assert passes("> 0, finite", np.float32(0.5)) and passes(">= 1", np.int64(3)) and not passes("finite", 10**400)
    assert passes(">= 0, finite", -0.0) and not passes("> 0", -0.0)


def test_the_rule_is_what_is_said_to_be_allowed():
    with pytest.raises(UserError) as caught:
        within("dpsgd", "> 0, finite", clip=1.0, epsilon=-1)
    assert str(caught.value) == "not a usable value (in dpsgd.epsilon): got -1; allowed: > 0, finite"
    with pytest.raises(UserError, match=r"\(in threads\)"):
        within("", ">= 1", threads=0)


@pytest.mark.parametrize("rule", ["positive", "=> 1", "> one", ""])
def test_a_rule_that_says_nothing_is_no_rule(rule):
    with pytest.raises((KeyError, ValueError, TypeError)):
        within("part", rule, field=1)


@given(st.lists(st.text(min_size=1), min_size=1, unique=True), st.one_of(st.text(), st.none(), st.booleans()))
def test_a_choice_is_one_of_those_that_are_allowed(allowed, value):
    if value in allowed:
        one_of("part", allowed, field=value)
    else:
        with pytest.raises(UserError, match=r"unknown choice \(in part\.field\)"):
            one_of("part", allowed, field=value)


def test_choices_are_said():
    with pytest.raises(UserError) as caught:
        one_of("wm", iter(("random", "native")), labels="randm", more="random")
    assert str(caught.value) == "unknown choice (in wm.labels): got 'randm'; allowed: random, native"
    with pytest.raises(UserError, match=r"got \['random'\]"):
        one_of("wm", {"random": 1}, labels=["random"])


@given(st.dictionaries(st.text("abc", min_size=1), st.one_of(st.none(), st.integers(), st.floats(allow_nan=False))))
def test_none_stands_for_a_default_and_zero_does_not(values):
    found = checks.given(**values)
    assert set(found) == {name for name in values if values[name] is not None}
    assert all(found[name] == values[name] for name in found)
