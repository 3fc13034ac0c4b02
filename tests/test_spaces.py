"""Every mechanism on every kind of task composes, trains and measures, or clashes with its reason before training."""

from __future__ import annotations

import itertools
import math

import pytest

from guardclash.compose import Clash, compose
from guardclash.data.pictures import PNG
from guardclash.mechanism import Mechanism
from guardclash.plan.identity import nested
from guardclash.plan.marked import Marks
from guardclash.plan.plan import Context, Plan
from guardclash.registry import find_mechanisms
from guardclash.tasks.recipe import recipe
from guardclash.training.stopwatch import estimate_seconds
from guardclash.training.train import train
from guardclash.training.trained import Trained
from inputs import SPACES, every_space, name_of  # noqa: F401

FEW = {
    "wm": {"triggers": 20},
    "advtr": {"steps": 2, "test_examples": 40},
    "trades": {"steps": 2, "test_examples": 40},
    "nfgsm": {"steps": 2, "test_examples": 40},
    "di": {"images": 20, "walks": 2, "steps": 5},
    "distance": {"images": 20},
    "raddata": {"iterations": 2, "held_out": 20},
    "dawn": {"rate": 0.3},
    "entangled": {"triggers": 20, "rounds": 1, "references": 1},
    "prada": {"length": 60, "sessions": 1, "seeds": 20, "rounds": 2},
    "smoothing": {"draws": 100, "test_examples": 10, "votes": 10},
}
"""Options under which a mechanism takes little time."""


def small(kind: str, examples: int = 96) -> Plan:
    return recipe(name_of(kind), "smoke", epochs=1, examples=examples, batch_size=32).plan()


def mechanism(name: str, **options: object) -> Mechanism:
    return find_mechanisms()[name](**{**FEW.get(name, {}), **options})


def measured_by(one: Mechanism, trained: Trained, context: Context) -> dict[str, float]:
    """Its own measurement; of one that leaves it to others, theirs."""
    asked = one.measures() if type(one).measure is Mechanism.measure and one.metrics else (one,)
    return {name: value for measure in asked for name, value in measure.measure(trained, context).items()}


CASES = [
    *itertools.product(SPACES, [(name, {}) for name in sorted(find_mechanisms())]),
    *itertools.product(["text", "unpadded"], [("advtr", {"embeddings": True}), ("trades", {"embeddings": True})]),
    *itertools.product(["row", "category"], [("di", {"embedding": "mingd"})]),
    *itertools.product(SPACES, [("wm", {"made": True})]),
]


def case(kind: str, named: tuple[str, dict[str, object]]) -> object:
    """What is dear is tried on one kind of images and one of rows, and on the others where there is time."""
    dear = named[0] in ("di", "raddata") and kind not in ("grey", "row")
    name = f"{kind}-{named[0]}{'+' * bool(named[1])}"
    return pytest.param(kind, named, id=name, marks=[pytest.mark.slow] * dear)


@pytest.mark.parametrize(("kind", "named"), list(itertools.starmap(case, CASES)))
def test_it_trains_and_measures_or_clashes_with_its_reason(kind, named, context):
    name, options = named
    plan, one = small(kind), mechanism(name, **options).bind(small(kind))
    try:
        composed = compose(plan, [one])
    except Clash as clash:
        assert not one.fits(plan)
        assert str(clash) == f"{name} {one.misfit(plan)}"
        assert ", and " in str(clash), "what it does, and why this task is not for it"
        return
    assert one.fits(plan)
    assert estimate_seconds(composed, context(0), steps=1) > 0
    trained = train(composed, context(0))
    metrics = {metric.name for metric in one.metrics}
    measured = measured_by(one, trained, context(0))
    compared = one.verify(trained, trained, context(0))
    # Descents have no noise, and go to no more classes than the unrelated model has.
    absent = {"di_scale", "di_unrelated"} if options.get("embedding") == "mingd" else set()
    optional = {metric.name for metric in one.metrics if metric.optional}  # such as of a network without norms
    assert metrics - absent - optional <= {*measured, *compared} <= metrics - absent
    assert all(math.isfinite(value) for value in (*measured.values(), *compared.values()))
    assert measured_by(one, trained, context(0)) == measured, "measuring twice gives the same"
    assert all(metric.checked(measured[metric.name]) is not None for metric in one.metrics if metric.name in measured)
    assert all(isinstance(part, str) and part for line in one.facts(composed).items() for part in line)
    one.scatter(trained, context(0))
    assert all(picture.png.startswith(PNG) for picture in one.evidence(composed, context(0)))


MOVES, MARKS = {"advtr", "trades", "nfgsm", "smoothing", "di"}, {"raddata", "entangled"}
ONE_CLASS = {"wm", "raddata", "di", "distance", "dawn", "entangled", "prada", "smoothing"}
CLASHES = {
    "row": MARKS,
    "number": MARKS,
    "category": MARKS | MOVES,
    "text": MARKS | MOVES | {"prada"},
    "unpadded": MARKS | MOVES | {"prada"},
    "several": ONE_CLASS,
    "several-images": ONE_CLASS,
}


@pytest.mark.parametrize("kind", SPACES)
def test_which_of_the_built_in_ones_are_not_for_a_task(kind):
    found = {name for name in FEW if not mechanism(name).fits(small(kind))}
    assert found == CLASHES.get(kind, set())


@pytest.mark.parametrize(("kind", "whole"), [("grey", True), ("two-channel", True), ("float", False)])
def test_marks_are_whole_pixels_where_images_are_bytes(kind, whole, context):
    plan = compose(small(kind), [mechanism("raddata")])
    (marks,) = set(nested(plan, Marks))
    assert marks.how.whole is whole
    x = context(0).data(marks).x * 255
    assert ((x - x.round()).abs().max() < 1e-3) == whole
    assert mechanism("raddata")._marks_for(plan) == marks, "the measure looks for the same ones"
