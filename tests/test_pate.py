"""PATE: who is private, what the student sees, what is paid, and what it stands beside."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch

from guardclash.compose import Clash, compose
from guardclash.conditions.random_half import RandomHalf
from guardclash.errors import UserError
from guardclash.measures.membership import _halved
from guardclash.mechanisms.di import DatasetInference
from guardclash.mechanisms.distance import ModelDistance
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.fineprune import FinePruning
from guardclash.mechanisms.groupdro import GroupDRO
from guardclash.mechanisms.pate import PATE
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.mechanisms.reweight import Reweighting
from guardclash.mechanisms.spectral import Spectral
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.votes import Voting
from guardclash.plan.condition import under
from guardclash.plan.deployed import Deployed
from guardclash.plan.filtered import filter_of
from guardclash.plan.identity import fingerprint
from guardclash.plan.marked import Marked
from guardclash.plan.members import members_of, private_of, same_people
from guardclash.plan.plan import Plan
from guardclash.plan.sources import Split
from guardclash.plan.trainings import trainings
from guardclash.plan.voted import Ballots, Retold, Shard, Teachers, VotedLabels, votes_of
from guardclash.studies.engines import Inline
from guardclash.studies.run import run_study
from guardclash.studies.verdicts import verdicts
from guardclash.suspects.retraining import Retraining
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train
from running import report, site, study, trained

__all__ = ["site", "trained"]
MARKS = RadioactiveData(iterations=2)
SURE: dict[str, Any] = {"teachers": 5, "epsilon": 2000.0, "answers": 120, "sigma2": 0.4, "variant": "gnmax"}
"""As good as no noise."""


def plain(**options: Any) -> Plan:
    return recipe("digits", "smoke", **options).plan()


def composed(*combination: Any, on: Plan | None = None) -> Plan:
    base = on or plain()
    return compose(base, [one.bind(base) for one in combination])


# What the plan is


def test_the_student_sees_public_inputs_and_answers_only():
    base = plain()
    plan = compose(base, [PATE()])
    votes = plan.task.source
    assert isinstance(votes, VotedLabels) and [stream.name for stream in plan.streams] == ["task"]
    assert votes.private == base.task.source == Split("digits", "train", 256)
    whole = Split("digits", "train")
    assert votes.inputs == Split("digits", "train", votes.how.queries, whole.end - votes.how.queries), "the last ones"
    assert not same_people(votes.private, votes.inputs)
    assert plan.task.sampler.batch_size == 16 and plan.model == base.model


@pytest.mark.parametrize(("examples", "teachers"), [(64, 2), (256, 2), (720, 3), (1200, 5)])
def test_there_is_a_teacher_for_every_240_examples(examples, teachers):
    assert votes_of(composed(PATE(), on=plain(examples=examples))).teachers.count == teachers


def test_with_60_000_examples_it_is_as_published():
    found = PATE()._voting(250, 10, 10_000)
    assert (found.threshold, found.sigma1, found.sigma2) == (200, 150, 40)
    base = recipe("mnist", "paper", examples=59_000).plan()
    votes = votes_of(compose(base, [PATE()]))
    assert votes.teachers.count == 246 and votes.how.queries == 2 * votes.how.answers < 1000
    with pytest.raises(UserError, match=r"no train examples of mnist are left.*fewer than 60000"):
        compose(recipe("mnist", "paper").plan(), [PATE()])


def test_teachers_have_disjoint_examples_and_chance_of_their_own(context):
    teachers = votes_of(composed(PATE(teachers=3), on=plain(examples=100))).teachers
    whole = context(0).data(teachers.private)
    shards = [context(0).data(plan.task.source) for plan in teachers.plans]
    assert [len(one.x) for one in shards] == [plan.task.source.size for plan in teachers.plans] == [34, 33, 33]
    for number, one in enumerate(shards):
        assert torch.equal(one.x, whole.x[number::3]) and torch.equal(one.y, whole.y[number::3])
    assert [plan.party for plan in teachers.plans] == ["teacher-0", "teacher-1", "teacher-2"]
    first = [next(iter(train(plan, context(0)).network.parameters())) for plan in teachers.plans]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])
    thief = replace(teachers, template=replace(teachers.template, party="thief"))
    assert thief.plans[1].party == "thief/teacher-1"


def test_teachers_are_trained_once_for_all_combinations():
    alone, beside = composed(PATE()), composed(PATE(sigma2=9.0), Watermark(triggers=20, batch_size=10))
    assert votes_of(alone) != votes_of(beside) and votes_of(alone).teachers == votes_of(beside).teachers
    keys = [{fingerprint(plan) for plan, _ in trainings(one)} for one in (alone, beside)]
    assert keys[0] == keys[1] == {fingerprint(plan) for plan in votes_of(alone).teachers.plans}


def test_another_example_changes_one_vote(context):
    """By what every teacher reads: nothing but its own part."""
    teachers = votes_of(composed(PATE(teachers=4), on=plain(examples=100))).teachers

    class Other:
        def data(self, source):
            found = context(0).data(source)
            found.x[50] = 1 - found.x[50]
            return found

    same = [
        torch.equal(plan.task.source.load(Other()).x, context(0).data(plan.task.source).x) for plan in teachers.plans
    ]
    assert same == [True, True, False, True]


# Who is private


def test_members_are_the_private_examples_through_whatever_stands_around(base):
    assert members_of(base) is base.task.source
    assert members_of(composed(PATE())) == base.task.source
    for beside in (GroupDRO(), Reweighting()):
        plan = composed(PATE(), beside)
        assert not isinstance(plan.task.source, VotedLabels) and votes_of(plan) and members_of(plan) == base.task.source
    marked = composed(PATE(), MARKS)
    assert isinstance(members_of(marked), Marked) and private_of(Shard(base.task.source, 0, 2)).of == 2
    later = replace(base, initial=composed(PATE()))
    assert members_of(later) == base.task.source


def test_whoever_asks_for_members_means_the_teachers_examples(base):
    plan = composed(PATE())
    mine, _, _ = DatasetInference(images=20)._groups(plan)
    assert mine == DatasetInference(images=20)._groups(base)[0]
    assert dict(ModelDistance()._drawn(plan)) == dict(ModelDistance()._drawn(base))
    assert FinePruning().clean(plan) == FinePruning().clean(base)
    stolen = Retraining().plan(Deployed(plan), base)
    assert stolen.task.source == base.task.source
    filtered = composed(Spectral(), PATE())
    assert filter_of(filtered) == filter_of(composed(Spectral())) and filter_of(filtered) is not None


def test_a_half_of_a_pool_is_that_of_the_teachers(context):
    halved = under(plain(examples=300), (RandomHalf(),))
    plan = composed(PATE(teachers=2, answers=15, variant="gnmax"), on=halved)
    votes = votes_of(plan)
    assert members_of(plan) == halved.task.source and votes.private.size == 150
    assert votes.inputs.size == 15 and not same_people(votes.private, votes.inputs)
    assert len(context(0).data(plan.task.source).x) == 15
    assert _halved(plan) == halved.task.source


# What it stands beside


def test_marked_and_taught_in_either_order_is_one_training():
    base = plain()
    bound = [one.bind(base) for one in (PATE(), MARKS, Watermark(triggers=20, batch_size=10))]
    plans = {compose(base, order) for order in permutations(bound)}
    assert len(plans) == 1
    (plan,) = plans
    assert isinstance(plan.task.source, VotedLabels) and isinstance(plan.task.source.private, Marked)
    assert all(isinstance(one.task.source.images, Marked) for one in plan.task.source.teachers.plans)


def test_private_training_of_the_student_is_a_clash_that_says_why():
    with pytest.raises(
        Clash, match=r"dpsgd bounds .* where VotedLabels of pate makes an example's loss depend on others"
    ):
        composed(PATE(), DPSGD())
    beside = composed(PATE(), DPSGD(on=("trigger",)), Watermark(triggers=20, batch_size=10))
    assert PATE().spent(beside) == pytest.approx(PATE().spent(composed(PATE())))
    assert DPSGD(on=("trigger",)).spent(beside)["trigger"] < math.inf


def test_groups_are_those_of_what_the_student_is_told(context):
    plan = composed(PATE(teachers=2, answers=40, epsilon=50.0, variant="gnmax"), GroupDRO(), on=plain(examples=100))
    found = context(0).data(plan.task.source)
    assert torch.equal(found.about["group_of"], torch.unique(found.y, return_inverse=True)[1])


# What is paid


def test_epsilon_is_told_beforehand():
    plan, own = composed(PATE()), PATE()
    assert own.spent(plan) == votes_of(plan).how.epsilon(1e-5)
    assert 2.9 < own.spent(plan) <= 3 + 1e-9
    assert own.spent(composed(PATE(epsilon=1.0))) <= 1 + 1e-9
    assert own.spent(plain()) == math.inf, "nobody promised anything"
    assert "whatever the votes" in own.facts(plan)["ε of private examples"]
    assert own.facts(plain()) == {}


@pytest.mark.parametrize("placement", ["task", "stream"])
def test_marks_made_without_privacy_on_the_same_people_spend_everything(placement):
    plan = composed(PATE(), replace(MARKS, placement=placement))
    assert PATE().spent(plan) == math.inf
    assert PATE().facts(plan)["ε of private examples"].startswith("∞: ")
    elsewhere = replace(plain(), streams=(replace(plain().task, source=Split("digits", "train", 200, 500)),))
    others = composed(PATE(), replace(MARKS, network=elsewhere))
    assert PATE().spent(others) < 4


def test_a_filter_that_looks_at_all_examples_spends_everything():
    plan = composed(PATE(), Spectral())
    assert PATE().spent(plan) == math.inf
    assert "Filtered makes or chooses an example by looking at others" in PATE().facts(plan)["ε of private examples"]


def test_other_trainings_on_the_same_people_spend_everything():
    taught, base = composed(PATE()), plain()
    for before, after in ((base, taught), (taught, base), (composed(DPSGD()), taught), (taught, composed(DPSGD()))):
        plan = replace(after, initial=before, rewrites=(), model=before.model)
        assert PATE().spent(plan) == math.inf
        if before.task.gradient != base.task.gradient or after.task.gradient != base.task.gradient:
            assert DPSGD().measure(Model(plan), None) == {"epsilon": math.inf}
    twice = replace(taught, initial=composed(PATE(epsilon=1.0)))
    assert PATE().spent(twice) == math.inf
    assert PATE().spent(replace(taught, initial=taught)) == PATE().spent(taught), "the very same answers"


class Model:
    """A trained model as far as its plan."""

    def __init__(self, plan: Plan):
        self.plan, self.serving = plan, ()


# Trained


def test_with_hardly_any_noise_students_learn_what_teachers_say(context):
    base = plain(examples=1000, epochs=15)
    own = PATE(**SURE).bind(base)
    plan = compose(base, [own])
    measured = own.measure(context(0).trained(plan), context(0))
    assert set(measured) == {metric.name for metric in PATE.metrics}
    assert measured["epsilon"] == own.spent(plan) and measured["pate_answers"] == 120
    assert measured["pate_answered"] == 1.0 and measured["pate_labels"] > 0.85
    assert measured["pate_labels"] >= measured["pate_teacher"], "many are wiser than one"
    assert min(measured[one] for one in ("pate_true_labels", "pate_plurality")) > 0.7
    votes = votes_of(plan)
    told, truth = context(0).data(plan.task.source), context(0).data(votes.inputs)
    assert torch.equal(told.x, truth.x) and told.y.dtype == torch.int64 and told.about == {}
    assert (told.y == truth.y).double().mean().item() == pytest.approx(measured["pate_labels"])
    counts = Ballots(votes.inputs, votes.teachers).counts(context(0))
    assert counts.shape == (120, 10) and (counts.sum(1) == 5).all()
    assert torch.equal(context(0).data(Retold(votes, "plurality")).y, counts.argmax(1))
    assert torch.equal(context(0).data(Retold(votes, "true")).y, truth.y)
    again, other = (context(seed).data(plan.task.source).y for seed in (0, 1))
    assert torch.equal(told.y, again) and not torch.equal(told.y, other)


def test_noise_drowns_few_teachers_and_it_says_so(context):
    base = plain(examples=200)
    own = PATE(teachers=2, answers=60, variant="gnmax").bind(base)
    measured = own.measure(context(0).trained(compose(base, [own])), context(0))
    assert measured["pate_labels"] < 0.4 < 2.9 < measured["epsilon"] <= 3 + 1e-9
    said = " ".join(own.warnings(measured))
    assert "only 60 answers" in said and "of the released labels are right" in said
    assert own.measure(context(0).trained(base), context(0)) == {} and own.needs(base) == ()
    assert own.warnings({}) == ()


def test_answers_come_again_where_fewer_are_sure(context):
    base = plain(examples=200, epochs=15)
    plan = composed(PATE(teachers=4, answers=30, queries=40, threshold=3.9, sigma1=0.2, epsilon=900.0), on=base)
    votes = votes_of(plan)
    found, told = votes.released(context(0)), context(0).data(votes)
    given = len(found.queries)
    assert 0 < given < 30 and found.asked == 40 and len(told.x) == 30
    assert (votes.counts(context(0))[found.queries].max(1).values == 4).all()
    assert torch.equal(told.x[given], told.x[0]) and torch.equal(told.y[given], told.y[0])
    never = replace(votes, how=replace(votes.how, threshold=99.0))
    with pytest.raises(UserError, match="no vote reached the threshold"):
        never.load(context(0))


def test_a_study_judges_it_and_trains_teachers_once(site, trained):
    wanted = study(
        [{"name": "pate", "teachers": 3, "answers": 30}, {"name": "wm", "triggers": 20, "batch_size": 10}],
        seeds=2,
        recipe={"examples": 90, "epochs": 2},
    )
    results = run_study(wanted, site, Inline())
    (verdict,) = verdicts(wanted, results)
    assert not verdict.missing and {"ε", "φ_WM", "φ_ACC"} <= {one.symbol for one in verdict.judgements}
    # Per seed: three teachers, two controls, and none, wm, pate and both.
    assert len(trained.trials) == len(set(trained.trials)) == 2 * (3 + 2 + 4)
    assert "ε of private examples" in report(wanted, results)
    assert run_study(wanted, site, Inline()) and len(trained.trials) == 18, "nothing is done twice"


# Mistakes


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"variant": "lnmax"}, "variant"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"delta": 1.0}, "delta"),
        ({"teachers": 1}, "teachers"),
        ({"teachers": 2.5}, "teachers"),
        ({"answers": 0}, "answers"),
        ({"queries": 10, "answers": 11}, "queries"),
        ({"sigma1": 0.0}, "sigma1"),
        ({"sigma2": -1.0}, "sigma2"),
        ({"threshold": -1.0}, "threshold"),
        ({"batch_size": 1}, "batch_size"),
        ({"variant": "gnmax", "threshold": 5.0}, "threshold"),
        ({"variant": "gnmax", "sigma1": 5.0}, "sigma1"),
        ({"variant": "gnmax", "queries": 5}, "queries"),
    ],
)
def test_impossible_options_are_refused(options, where):
    with pytest.raises(UserError, match=rf"pate\.{where}"):
        PATE(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teachers": 129}, r"too few private examples \(in pate\.teachers\): got 129; allowed: 2 to 128"),
        ({"answers": 5000}, r"too few public examples \(in pate\.answers\): got 5000; allowed: at most 1041"),
        ({"queries": 5000}, r"too few public examples \(in pate\.queries\)"),
        ({"sigma2": 0.1}, r"does not pay for .* \(in pate\.epsilon\): got 3\.0"),
        ({"answers": 100, "sigma2": 2.0}, r"does not pay for .* \(in pate\.epsilon\)"),
        ({"public": Split("digits", "train", 50, 200)}, r"private examples too \(in pate\.public\)"),
    ],
)
def test_what_the_data_and_the_budget_do_not_give_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        composed(PATE(**options))


def test_public_inputs_may_be_others():
    apart = Split("digits", "train", 50, 300)
    votes = votes_of(composed(PATE(public=apart)))
    assert votes.inputs == apart and votes.how.queries <= 50
    assert isinstance(votes.how, Voting) and isinstance(votes.teachers, Teachers)
