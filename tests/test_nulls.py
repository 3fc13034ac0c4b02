"""Whoever proves ownership accuses no innocent model: a property of every mechanism that is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guardclash.compose import compose
from guardclash.mechanism import Mechanism
from guardclash.plan.deployed import Deployed
from guardclash.registry import find_mechanisms
from guardclash.studies.trials import serving
from guardclash.suspects.independent import Independent
from guardclash.tasks.recipe import recipe

OWNERS = sorted(
    name
    for name, cls in find_mechanisms().items()
    if cls.verify is not Mechanism.verify and any(metric.claimed_at for metric in cls.metrics)
)
QUICK = {
    "wm": {"triggers": 30, "batch_size": 15},
    "uchida": {"bits": 32},
    "entangled": {"triggers": 30, "references": 2},
    "dawn": {"rate": 0.1},
    "di": {"images": 20, "walks": 5, "steps": 15, "scale": 1.0},
    "duci": {"population": 100},
    "raddata": {"ratio": 0.2, "iterations": 20},
    "prada": {"sessions": 2, "length": 200, "seeds": 20, "rounds": 2},
    "pow": {"queries": 128},
}
INNOCENT = 10


@pytest.fixture(scope="module")
def base():
    return recipe("digits", "smoke", examples=400, epochs=4).plan()


@pytest.fixture(scope="module")
def innocent(base, context):
    """Models of another party, of other seeds and other images."""
    plan = Independent().plan(Deployed(base), base)
    return [context(0).trained(replace(plan, party=f"independent {number}")) for number in range(INNOCENT)]


def test_all_that_prove_ownership_are_here():
    assert {"wm", "dawn", "uchida", "entangled", "raddata", "di", "duci"} <= set(OWNERS)


@pytest.mark.parametrize("name", OWNERS)
def test_no_innocent_model_is_claimed(name, base, innocent, context):
    options = {key: value for key, value in QUICK.get(name, {}).items() if hasattr(find_mechanisms()[name], key)}
    own = find_mechanisms()[name](**options).bind(base)
    victim = Deployed(compose(base, [own]), serving((own,))).load(context(0))
    claimed = []
    for number, suspect in enumerate(innocent):
        values = own.verify(suspect, victim, context(0))
        for metric in own.metrics:
            if metric.claimed_at and metric.name in values and metric.claims(values[metric.name]):
                fired = [one for one in metric.controls if one in values and metric.claims(values[one])]
                claimed += [] if fired else [(number, metric.name, values[metric.name])]
    assert not claimed
