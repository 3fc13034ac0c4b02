"""What every mechanism must keep to, tried on all that the registry finds and on the files given by `--plugin`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from guardclash.compose import Clash, compose
from guardclash.judging.criteria import ACCURACY, Metric
from guardclash.mechanism import Mechanism
from guardclash.plan.identity import describe, fingerprint
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.registry import find_mechanisms
from guardclash.training.train import train
from guardclash.training.trained import Trained


def found(config: pytest.Config) -> list[type[Mechanism]]:
    plugins = tuple(path.resolve() for path in config.getoption("--plugin"))
    return [cls for _, cls in sorted(find_mechanisms(plugins).items())]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    classes = found(metafunc.config)
    if "cls" in metafunc.fixturenames:
        metafunc.parametrize("cls", classes, ids=[cls.name for cls in classes])
    if "pair" in metafunc.fixturenames:
        pairs = list(itertools.combinations(classes, 2))
        metafunc.parametrize("pair", pairs, ids=[f"{one.name}+{two.name}" for one, two in pairs])


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.network.state_dict()


def metrics_of(cls: type[Mechanism], trained: Trained, context: Context) -> dict[str, float]:
    """By `measure`; or by `verify` of a model as its own suspect, where a mechanism only compares two models.

    One that has no `measure` but declares metrics is measured by those that it lists.
    """
    own = cls()
    if cls.measure is not Mechanism.measure:
        return own.measure(trained, context)
    if own.measures() == (own,) or not cls.metrics:
        return own.verify(trained, trained, context)
    return {name: value for one in own.measures() for name, value in one.measure(trained, context).items()}


@pytest.fixture(scope="session")
def trained_toy(context, toy):
    """A mechanism's toy plan, trained under seed 0, once."""
    kept: dict[type[Mechanism] | None, Trained] = {}

    def of(cls: type[Mechanism] | None) -> Trained:
        if cls not in kept:
            kept[cls] = train(compose(toy, [cls()] if cls else []), context(0))
        return kept[cls]

    return of


# --- the class --------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is(cls):
    assert re.fullmatch(r"[a-z][a-z0-9-]*", cls.name)
    assert cls.concern.strip()
    assert isinstance(cls.paper, str)
    assert isinstance(cls.version, int) and cls.version >= 1
    written = cls.__dict__.get("__doc__") or ""
    assert len(written.split()) >= 3, "its docstring is its card"
    assert not written.startswith(f"{cls.__name__}("), "dataclass() made this docstring up"


def test_it_is_a_frozen_dataclass_of_its_own_that_needs_no_arguments(cls):
    assert "__dataclass_params__" in cls.__dict__, "without @dataclass(frozen=True) its fields are not fields"
    assert cls.__dataclass_params__.frozen
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
    assert cls().on is None, "by default it touches every stream"


def test_its_metrics_are_metrics_and_a_name_means_one_of_them(cls, request):
    assert isinstance(cls.metrics, tuple)
    assert all(isinstance(metric, Metric) for metric in cls.metrics)
    assert len({metric.name for metric in cls.metrics}) == len(cls.metrics)
    everywhere = {metric.name: metric for other in found(request.config) for metric in other.metrics}
    everywhere[ACCURACY.name] = ACCURACY
    assert all(everywhere[metric.name] == metric for metric in cls.metrics), "this name is another one elsewhere"


def test_it_describes_itself_in_json_and_survives_pickling(cls):
    mechanism = cls()
    described = describe(mechanism, full=True)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert {field.name for field in dataclasses.fields(cls)} <= described.keys()
    copy = pickle.loads(pickle.dumps(mechanism))  # our own bytes: workers are handed it this way
    assert (copy, fingerprint(copy)) == (mechanism, fingerprint(mechanism))


# --- composing --------------------------------------------------------------------------------------------------------


def test_it_composes_alone(cls, base):
    plan = compose(base, [cls()])
    assert compose(base, [cls()]) == plan, "composing has no effects and no chance"
    assert plan.task.name == base.task.name
    names = [stream.name for stream in plan.streams]
    assert len(set(names)) == len(names)


def test_its_plan_pickles_and_keeps_its_key(cls, base):
    plan = compose(base, [cls()])
    copy = pickle.loads(pickle.dumps(plan))  # our own bytes: workers are handed it this way
    assert copy == plan
    assert hash(copy) == hash(plan)
    assert fingerprint(copy) == fingerprint(plan)
    assert json.loads(json.dumps(describe(plan, full=True), allow_nan=False))["type"] == "Plan"


def test_touching_no_stream_is_the_identity(cls, base):
    assert compose(base, [cls(on=())]) == base
    assert fingerprint(compose(base, [cls(on=())])) == fingerprint(base)


def test_covering_the_task_alone_is_the_same_where_there_is_nothing_else(cls, base):
    joint = compose(base, [cls()])
    relaxed = compose(base, [cls(on=("task",))])
    assert joint.streams != base.streams[:1] or relaxed == joint
    assert relaxed.task == joint.task


def test_its_facts_are_lines_of_text(cls, base):
    for plan in (base, compose(base, [cls()])):
        facts = cls().facts(plan)
        assert all(isinstance(part, str) and part for line in facts.items() for part in line)


def test_bound_to_a_task_it_stays_a_value_and_binds_once(cls, base):
    bound = cls().bind(base)
    assert type(bound) is cls
    assert bound.bind(base) == bound
    assert compose(base, [bound]) == compose(base, [cls()])
    assert describe(bound, full=True) == describe(pickle.loads(pickle.dumps(bound)), full=True)


def test_what_it_needs_are_plans(cls, base):
    for plan in (base, compose(base, [cls()])):
        for other in cls().needs(plan):
            assert isinstance(other, Plan | OtherSeed)
            assert fingerprint(pickle.loads(pickle.dumps(other))) == fingerprint(other)


def test_with_another_it_composes_and_trains_or_clashes_readably(pair, toy, context):
    plans = []
    for order in (pair, pair[::-1]):
        try:
            plans.append(compose(toy, [cls() for cls in order]))
        except Clash as clash:
            assert all(cls.name in str(clash) for cls in pair), "a clash names both"
            plans.append(None)
    assert (plans[0] is None) == (plans[1] is None), "the order may not decide whether there is a clash"
    if plans[0]:
        assert {stream.name for stream in plans[0].streams} == {stream.name for stream in plans[1].streams}
        assert all(value.isfinite().all() for value in weights(train(plans[0], context(0))).values())


# --- training and measuring -------------------------------------------------------------------------------------------


def test_it_trains_and_the_seed_decides(cls, toy, context, trained_toy):
    first = weights(trained_toy(cls))
    assert all(value.isfinite().all() for value in first.values())
    plan = compose(toy, [cls()])
    again, other = weights(train(plan, context(0))), weights(train(plan, context(1)))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_it_measures_all_its_metrics_on_its_own_model_and_leaves_it_alone(cls, context, trained_toy):
    trained = trained_toy(cls)
    before = {name: value.clone() for name, value in weights(trained).items()}
    measured = metrics_of(cls, trained, context(0))
    assert measured.keys() <= {metric.name for metric in cls.metrics}
    assert measured.keys() >= {metric.name for metric in cls.metrics if not metric.optional}
    assert all(math.isfinite(value) for value in measured.values())
    assert metrics_of(cls, trained, context(0)) == measured, "measuring twice gives the same"
    assert all(torch.equal(value, weights(trained)[name]) for name, value in before.items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.network.parameters())
    assert not any(module.training for module in trained.network.modules())


def test_it_measures_what_has_a_meaning_on_an_unprotected_model(cls, context, trained_toy):
    measured = cls().measure(trained_toy(None), context(0))
    assert measured.keys() <= {metric.name for metric in cls.metrics}
    assert all(math.isfinite(value) for value in measured.values())


def test_it_serves_logits(cls, context, trained_toy):
    trained = trained_toy(cls)
    served = cls().serve(trained.predict, trained, context(0))
    x = context(0).examples("digits", "test").x[:7]
    assert served(x).shape == (7, 10)
    assert served(x).isfinite().all()


def test_a_plugin_takes_part():
    """In a process of its own: a plugin's file is loaded once per process and under one name."""
    here = Path(__file__)
    plugin = here.parent / "plugins" / "gradient_sign.py"
    chosen = "gradient-sign and (says_what_it_is or composes_alone or seed_decides)"
    command = [sys.executable, "-m", "pytest", "-q", str(here), "--plugin", str(plugin), "-k", chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here.parent.parent)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
