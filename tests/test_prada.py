"""PRADA, and the thief who makes its queries up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, shapiro

from guardclash.errors import UserError
from guardclash.mechanisms.prada import PRADA, Watched, first_alarm, least
from guardclash.numerics.queries import Session, session_of
from guardclash.plan.deployed import Deployed
from guardclash.plan.jacobian import JacobianRound
from guardclash.plan.trainings import trainings
from guardclash.reporting.findings import find
from guardclash.studies.engines import Inline
from guardclash.studies.run import run_study
from guardclash.suspects.jacobian import Jacobian
from guardclash.tasks.recipe import recipe
from running import site, study

__all__ = ["site"]
SMALL = {"length": 250, "sessions": 1, "seeds": 40, "rounds": 3, "step": 0.1}


# What is seen of a session


def test_growing_sets_are_those_by_hand():
    x = torch.tensor([0, 1, 2.5, 2.6, 5, 5.2, 9, 9.5, 20, 21]).view(-1, 1)
    zero = torch.zeros(10, dtype=torch.int64)
    assert session_of(x, zero).distances[1:] == pytest.approx([1, 1.5, 0.1, 2.5, 0.2, 4, 0.5, 10.5, 1], abs=1e-6)
    assert session_of(x, zero, leading_zero=False).distances[8] == pytest.approx(11.0)


def slow(x: np.ndarray, told: np.ndarray) -> list[float]:
    sets, joined, border, found = {}, {}, {}, []
    for query, label in zip(x, told, strict=True):
        if label not in sets:
            sets[label], joined[label], border[label] = [query], [0.0], 0.0
            found.append(float("nan"))
            continue
        distance = min(float(np.sqrt(((query - other) ** 2).sum())) for other in sets[label])
        found.append(distance)
        if distance > border[label]:
            sets[label].append(query)
            joined[label].append(distance)
            border[label] = max(border[label], float(np.mean(joined[label]) - np.std(joined[label])))
    return found


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_distances_are_those_of_the_definition(seed, count, classes):
    rng = np.random.default_rng(seed)
    x, told = rng.normal(size=(count, 3)), rng.integers(classes, size=count)
    found = session_of(torch.from_numpy(x), torch.from_numpy(told)).distances
    np.testing.assert_allclose(found, slow(x, told), rtol=1e-9)


def session(values: np.ndarray) -> Session:
    return Session(np.asarray(values, dtype=float), np.zeros(len(values), dtype=np.int64))


def test_normality_is_that_of_the_published_statistic():
    u = (np.arange(1, 201) - 0.5) / 200
    normal = norm.ppf(u)
    for values, w in ((normal, 0.999768), (u, 0.954612), (-np.log(1 - u), 0.823753)):
        kept = values[np.abs(values - values.mean()) <= 3 * values.std()]
        assert shapiro(values).statistic == pytest.approx(w, abs=1e-5)
        assert session(values).normality(200) == pytest.approx(shapiro(kept).statistic, abs=1e-12)
    assert np.isnan(session(normal).normality(100)), "too few to say anything"
    assert np.isnan(session(np.ones(300)).normality(300)), "all alike"
    assert next(session(normal).curve(70))[0] == 140


def test_the_alarm_is_the_first_one_and_is_looked_for_now_and_then():
    u = (np.arange(1, 201) - 0.5) / 200
    mixed = np.concatenate(
        [np.random.default_rng(0).permutation(norm.ppf(u)) + 8, np.full(100, 1.0) + 0.001 * np.arange(100)]
    )
    one = session(mixed)
    alarm = first_alarm(one, 0.9, 10)
    assert alarm is not None and 200 < alarm <= 300 and alarm % 10 == 0
    assert least(one, 10) < 0.9
    assert first_alarm(one, 0.0, 10) is None and least(session(mixed[:50]), 10) == 1.0


# The thief


@pytest.fixture(scope="module")
def plan():
    return recipe("digits", "smoke", examples=500, epochs=4).plan()


def test_each_round_holds_the_one_before_and_moves_it(plan, context):
    victim = Deployed(plan)
    found = Jacobian(seeds=20, rounds=3, step=0.1, turns=2, epochs=2).plan(victim, plan)
    queries = found.task.source.images
    assert found.task.source.size == 160 and found.epochs == 2 and found.party == "thief"
    chain = []
    while isinstance(queries, JacobianRound):
        chain.append((queries.size, queries.step))
        queries = queries.substitute.task.source.images
    assert chain == [(160, -0.1), (80, 0.1), (40, 0.1)] and queries.size == 20
    assert len({id(one) for one, _ in trainings(found)}) >= 4, "three substitutes and the victim"
    data = context(0).data(found.task.source.images)
    former, moved = data.x[:80], data.x[80:]
    change = (moved - former).abs()
    assert (change <= 0.1 + 1e-6).all() and change.max() > 0.09
    assert data.x.min() >= 0 and data.x.max() <= 1
    assert torch.equal(context(0).data(found.task.source.images.substitute.task.source.images).x, former)


@pytest.mark.parametrize("options", [{"seeds": 1}, {"rounds": 0}, {"step": 0.0}, {"answers": "logits"}])
def test_impossible_options_of_the_thief_are_refused(options):
    with pytest.raises(UserError, match="jacobian"):
        Jacobian(**options)


# Who is noticed


def test_made_up_queries_are_noticed_and_honest_ones_are_not(plan, context):
    own = PRADA(**SMALL).bind(plan)
    (measure,) = own.measures()
    trained = context(0).trained(plan)
    found = measure.measure(trained, context(0))
    assert found["prada_detected"] == 1.0 and found["prada_w"] < found["prada_delta"], found
    assert found["prada_false"] == 0.0 and 100 < found["prada_first"] <= 320
    assert found.keys() <= {metric.name for metric in own.metrics}
    blind = replace(own, delta=0.01)
    assert blind.watch(trained, context(0))["prada_detected"] == 0.0


def test_a_server_that_keeps_state_sees_a_session_as_one_call(plan, context):
    """The contract of `predict`: who splits a client's queries over calls would never be noticed."""
    trained = context(0).trained(plan)
    own = replace(PRADA(**SMALL, response=True).bind(plan), delta=0.97)
    x = context(0).data(own.queries(trained.deployed)).x
    watched = own.serve(trained.predict, trained, context(0))
    assert isinstance(watched, Watched)
    whole, plain = watched(x), trained.predict(x)
    alarm = first_alarm(own.session(x, trained.predict), 0.97, 10)
    assert alarm is not None
    assert torch.equal(whole[:alarm], plain[:alarm])
    assert (whole[alarm:].argmax(1) == plain[alarm:].topk(2, 1).indices[:, 1]).all()
    assert torch.equal(watched(x), whole), "and it forgets between sessions"
    split = torch.cat([watched(part) for part in x.split(50)])
    assert torch.equal(split, plain), "a client who comes back as another is not seen"
    served = Deployed(plan, (own,)).load(context(0))
    answers = context(0).data(
        replace(
            Jacobian(seeds=40, rounds=1, epochs=1).plan(served.deployed, plan).task.source,
            images=own.queries(trained.deployed),
        )
    )
    assert torch.equal(answers.y, whole.argmax(1)), "a thief is one client"


def test_a_study_tells_which_suspects_would_have_been_noticed(site):
    wanted = study(
        [{"name": "prada", **SMALL}],
        seeds=1,
        recipe={"examples": 500, "epochs": 4},
        suspects=[
            {"kind": "jacobian", "seeds": 40, "rounds": 4, "epochs": 4},
            {"kind": "extraction"},
            {"kind": "independent"},
        ],
    )
    results = run_study(wanted, site, Inline())
    found = find(wanted, results)
    assert found.unfinished is None
    told = {}
    for cell in wanted.suspect_cells():
        (named,) = cell.combination
        seen = {one.name: one for one in results.metrics(cell, named)}
        told[cell.suspect.kind.name] = found.sample(cell, named, seen["prada_detected"]).values if seen else ()
    assert told["jacobian"] == (1.0,)
    assert told["extraction"] in ((0.0,), (1.0,)), "natural queries, of which digits have too few to be sure"
    assert not told["independent"], "who asked nothing is neither noticed nor missed"


@pytest.mark.parametrize("options", [{"delta": 1.0}, {"every": 0}, {"length": 1}, {"step": -1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"prada\."):
        PRADA(**options)
