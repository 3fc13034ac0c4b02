"""Epsilon over all trainings that a plan holds: who reads whose examples, and what adds up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from guardclash.compose import compose
from guardclash.mechanisms.dpsgd import DPSGD, DPSGDControl
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.numerics.accounting import composed_epsilon
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import OtherSeed, Plan
from guardclash.plan.sources import Answers, Split
from guardclash.suspects.independent import Independent
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import Run, chance, train

PRIVATE = DPSGD(epsilon=3.0)


def unprotected() -> Plan:
    return recipe("digits", "smoke").plan()


def private() -> Plan:
    return compose(unprotected(), [PRIVATE])


def spent(plan: Plan) -> float:
    return PRIVATE.spent(plan)["task"]


def on(plan: Plan, start: int, limit: int) -> Plan:
    """The plan on other people of the same data set."""
    return replace(plan, streams=(replace(plan.task, source=Split("digits", "train", limit, start)),))


def test_marks_made_without_privacy_on_the_same_people_are_not_covered():
    plain = unprotected()
    for placement in ("task", "stream"):
        marks = RadioactiveData(iterations=2, placement=placement).bind(plain)
        plan = compose(plain, [marks, PRIVATE])
        assert spent(plan) == math.inf
        assert "another training that this one uses reads the same examples without DP-SGD" in str(PRIVATE.facts(plan))
        assert PRIVATE.measure(train_nothing(plan), None) == {"epsilon": math.inf}


def train_nothing(plan: Plan):
    class Stub:
        pass

    stub = Stub()
    stub.plan, stub.serving = plan, ()
    return stub


def test_marks_made_on_other_people_leave_epsilon_alone():
    elsewhere = on(unprotected(), 500, 200)
    marks = RadioactiveData(iterations=2, network=elsewhere).bind(unprotected())
    assert spent(compose(unprotected(), [marks, PRIVATE])) == pytest.approx(spent(private()))


def test_what_was_trained_before_without_privacy_spends_everything():
    assert spent(replace(private(), initial=unprotected(), rewrites=())) == math.inf
    assert spent(replace(private(), initial=on(unprotected(), 400, 300))) == pytest.approx(spent(private()))


def test_private_stages_of_one_training_add_up():
    before = private()
    after = replace(before, initial=before, rewrites=())
    gradient, sampler = before.task.gradient, before.task.sampler
    size = before.task.source.size
    steps = before.epochs * sampler.steps(size)
    one = (gradient.noise_multiplier, sampler.rate(size), steps)
    assert spent(after) == pytest.approx(composed_epsilon((one, one), PRIVATE.delta))
    assert spent(before) < spent(after) < math.inf


def test_stages_of_one_training_draw_noise_and_batches_of_their_own(tmp_path):
    """Noise that hides an example twice in the same way hides it once."""
    before = private()
    after = replace(before, initial=before, rewrites=())
    third = replace(before, initial=after, rewrites=())
    assert [plan.stage for plan in (before, after, third, replace(after, party="thief"))] == [0, 1, 2, 0]
    context = RunContext(0, tmp_path, models=lambda plan, seed: train(before, RunContext(0, tmp_path)))
    for purpose in (("gradient", "task"), ("order", "task", 0)):
        drawn = [torch.randn(8, generator=chance(plan, context)(*purpose)) for plan in (before, after, third)]
        assert not any(torch.equal(drawn[i], drawn[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    batches = [
        Run(plan, context, torch.device("cpu")).rng("order", "task", 0).initial_seed() for plan in (before, after)
    ]
    assert batches[0] != batches[1]


def test_a_model_that_answers_with_the_very_noise_of_this_training_covers_nothing():
    teacher = private()
    student = replace(teacher, streams=(replace(teacher.task, source=Answers(teacher.task.source, Deployed(teacher))),))
    assert spent(student) == math.inf
    assert "reads the same examples with the very noise of this one" in str(PRIVATE.facts(student))
    other_party = replace(student, party="student")
    assert spent(teacher) < spent(other_party) < math.inf


def test_a_private_marking_network_under_another_seed_adds_up():
    marks = RadioactiveData(iterations=2, network=private()).bind(unprotected())
    together = compose(unprotected(), [marks, PRIVATE])
    assert isinstance(marks.marks(unprotected().task.source).network, OtherSeed)
    assert spent(private()) < spent(together) < math.inf


@pytest.mark.parametrize(
    ("start", "limit", "same"), [(0, 256, True), (255, 10, True), (256, 10, False), (100, 10, True), (300, 50, False)]
)
def test_disjoint_parts_of_a_split_are_other_people(start, limit, same):
    base = replace(unprotected(), streams=(replace(unprotected().task, source=Split("digits", "train", 256)),))
    plan = replace(compose(base, [PRIVATE]), initial=on(unprotected(), start, limit), rewrites=())
    assert (spent(plan) == math.inf) == same


def test_suspects_of_other_people_do_not_count():
    plain = unprotected()
    innocent = Independent().plan(Deployed(plain), plain)
    assert spent(replace(private(), initial=innocent)) == pytest.approx(spent(private()))


def test_a_plain_stream_beside_private_ones_is_named():
    relaxed = compose(unprotected(), [DPSGD(on=("task",))])
    twice = relaxed.add(replace(unprotected().task, name="again"))
    assert spent(twice) == math.inf
    assert "another stream reads the same examples without DP-SGD" in str(PRIVATE.facts(twice))


def test_the_control_of_dpsgd_promises_nothing():
    assert PRIVATE.spent(compose(unprotected(), [DPSGDControl()])) == {}
