"""Calibrated proof of work: prices of queries, and who is slowed down."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanisms.dawn import DAWN
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.pow import ProofOfWork
from guardclash.numerics.vote_privacy import ORDERS, divergences, log_other, renyi_epsilon
from guardclash.numerics.work import SLOWEST, Expected, base_of, neighbour_votes, prices, slowdown
from guardclash.plan.deployed import Deployed
from guardclash.plan.sources import Answers
from guardclash.studies.engines import Inline
from guardclash.studies.run import run_study
from guardclash.studies.verdicts import verdicts
from guardclash.suspects.extraction import Extraction
from guardclash.tasks.recipe import recipe
from running import site, study

__all__ = ["site"]


# The numbers


@pytest.mark.parametrize(
    ("excess", "seconds"),
    [
        (0, 1),
        (100, 2.1110838),
        (281.2507566, 8.1785087),
        (15.7659174, 1.1250226),
        (58.6450819, 1.5499101),
        (1000, 1758.1455),
    ],
)
def test_work_grows_with_the_excess_as_published(excess, seconds):
    assert slowdown(np.array([float(excess)]), 1.0075) == pytest.approx(seconds, rel=1e-6)


def test_work_has_an_end():
    assert slowdown(np.array([1e6]), 1.0075) == SLOWEST


def test_the_nearest_examples_vote():
    own, labels = torch.tensor([[0.0], [1.0], [2.0], [10.0]]), torch.tensor([0, 0, 1, 2])
    votes = neighbour_votes(own, labels, torch.tensor([[0.4], [9.0]]), 3, 3)
    assert votes.tolist() == [[2, 1, 0], [0, 1, 1]] or votes.tolist() == [[2, 1, 0], [1, 1, 1]]


@given(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=4, max_size=12))
@settings(max_examples=20, deadline=None)
def test_a_price_is_what_the_votes_so_far_cost(rows):
    votes = np.array(rows, float)
    found = prices(votes, 3.0, 1e-5, 2)
    assert len(found) == len(rows) // 2
    assert (np.diff(found) >= -1e-12).all(), "what is told is not taken back"
    whole = divergences(log_other(votes[:4], 3.0), 3.0).sum(0)
    assert found[1] == pytest.approx(renyi_epsilon(whole, 1e-5, ORDERS))


def test_sure_votes_are_cheaper_than_doubtful_ones():
    sure, doubtful = np.tile([30.0, 0, 0], (100, 1)), np.tile([10.0, 10, 10], (100, 1))
    assert prices(sure, 3.0, 1e-5, 100)[0] < prices(doubtful, 3.0, 1e-5, 100)[0] / 2


def test_what_is_expected_is_a_line_and_the_excess_is_one_sided():
    expected = Expected.of([np.array([1.0, 2, 3]), np.array([3.0, 4, 5])])
    assert (expected.start, expected.slope) == (pytest.approx(1), pytest.approx(1))
    session = np.array([5.0, 3.0, 1.0])
    assert expected.beyond(session, False).tolist() == pytest.approx([3, 0, 0])
    assert expected.beyond(session, True).tolist() == pytest.approx([3, 0, 3])


def test_honest_clients_take_at_most_twice_as_long():
    beyond = [np.linspace(0, 4, 101)]
    base = base_of(beyond, 2.0)
    assert base ** np.quantile(beyond[0], 0.99) == pytest.approx(2)
    assert slowdown(beyond[0], base) < 2
    assert np.isfinite(base_of([np.zeros(5)], 2.0))


# The mechanism


@pytest.fixture(scope="module")
def base():
    return recipe("digits", "smoke", examples=600, epochs=10).plan()


def test_other_inputs_cost_more_than_those_of_the_task(base, context):
    own = ProofOfWork(queries=256).bind(base)
    (measure,) = own.measures()
    found = measure.measure(context(0).trained(base), context(0))
    assert found["pow_thief"] > found["pow_honest"] and found["pow_thief_price"] > found["pow_honest_price"]
    assert 1 <= found["pow_honest"] < 2.5
    assert own.warnings(found) == ()


def test_no_answer_changes_and_nothing_is_trained_otherwise(base, context):
    own = ProofOfWork().bind(base)
    assert compose(base, [own]) == base
    trained = context(0).trained(base)
    x = context(0).data(base.judged_by.test).x
    assert torch.equal(own.serve(trained.predict, trained, context(0))(x), trained.predict(x))


def test_suspects_pay_for_what_they_asked(base, context):
    own, here = ProofOfWork(queries=256).bind(base), context(0)
    served = Deployed(base, (own,)).load(here)
    found = {}
    for queries in ("task", "out-of-distribution"):
        thief = Extraction(queries=queries).plan(served.deployed, base)
        assert isinstance(thief.task.source, Answers)
        found[queries] = own.verify(replace(served, plan=thief), served, here)
    assert found["out-of-distribution"]["pow_thief"] > found["task"]["pow_thief"]
    curve = own.curves(replace(served, plan=thief), served, here)["price"]
    assert [point[0] for point in curve] == [64, 128, 192, 256]
    assert own.verify(served, served, here) == {} and own.curves(served, served, here) == {}


# Who reads private examples when it answers


@pytest.mark.parametrize(
    ("mechanism", "spent"), [(ProofOfWork(), math.inf), (DAWN(), 3), (DAWN(mapping="latent"), math.inf)]
)
def test_a_private_model_that_tells_of_its_examples_at_inference_has_no_epsilon(base, context, mechanism, spent):
    plan = compose(base, [DPSGD()])
    trained = replace(context(0).trained(base), plan=plan, serving=(mechanism,))
    assert DPSGD().measure(trained, context(0))["epsilon"] == pytest.approx(spent, abs=0.01)


def test_beside_dp_sgd_it_is_a_conflict(site):
    wanted = study([{"name": "pow", "queries": 128}, "dpsgd"], seeds=3, recipe={"examples": 600, "epochs": 2})
    (verdict,) = verdicts(wanted, run_study(wanted, site, Inline()))
    assert verdict.outcome("strict") == "conflict" and "epsilon" in verdict.broken("strict")


# Bad input


@pytest.mark.parametrize("options", [{"neighbours": 1}, {"sigma": 0}, {"growth": 1.0}, {"queries": 64}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"pow\."):
        ProofOfWork(**options)


def test_a_task_without_other_inputs_is_not_for_it(base):
    alone = replace(base, purpose=replace(base.judged_by, neighbour_train=None))
    with pytest.raises(Clash, match="no neighbour"):
        compose(alone, [ProofOfWork()])
