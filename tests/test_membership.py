"""The measure of membership inference: planted leaks, innocent models, shadows, and worlds without halves."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from guardclash.compose import compose
from guardclash.conditions.backdoor import Backdoor
from guardclash.conditions.random_half import RandomHalf
from guardclash.conditions.rotated_minority import RotatedMinority
from guardclash.errors import UserError
from guardclash.measures import membership
from guardclash.measures.membership import Membership
from guardclash.mechanism import Mechanism
from guardclash.mechanisms.hamp import HAMP
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.plan.condition import Condition
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import OtherSeed
from guardclash.plan.sources import Split
from guardclash.studies.engines import Inline
from guardclash.suspects.independent import Independent
from guardclash.tasks.recipe import recipe
from guardclash.training.train import build_network
from guardclash.training.trained import Trained, predictor
from inputs import every_space, name_of  # noqa: F401  (a fixture)
from running import Watcher, ran, report, study, values


@dataclass(frozen=True)
class RandomLabels(Condition):
    """Labels that nothing tells but memory, the same for all replicates."""

    name = "random-labels"

    def train(self, data, context):
        return replace(data, y=torch.randint(10, data.y.shape, generator=context.under(0).rng("labels")))


def halved(size=120, epochs=2, conditions=(), **options):
    return recipe("digits", "smoke", examples=size, epochs=epochs, conditions=(*conditions, RandomHalf()), **options)


@pytest.fixture(scope="module")
def remembering():
    """A training to remember: 60 images each, under labels that follow from nothing."""
    return halved(epochs=40, conditions=(RandomLabels(),)).plan()


def untrained(plan, context):
    network = build_network(plan, context).eval()
    return Trained(plan, context.seed, network, predictor(network))


def asked(plan, context, seed=0, measure=None):
    return (measure or Membership()).measure(context(seed).trained(plan), context(seed))


# --- leaks ------------------------------------------------------------------------------------------------------------


def test_a_model_that_remembers_is_found_and_innocent_ones_are_not(remembering, context):
    """With 60 members and as many others, an AUC without signal is within 0.5 ± 0.16 but for one in 300."""
    found = asked(remembering, context)
    assert min(found["mi_auc"], found["mi_lira_auc"], found["mi_global_auc"]) > 0.9
    assert abs(found["mi_null_auc"] - 0.5) < 0.16 and Membership().warnings(found) == ()
    innocent = context(0).trained(Independent().plan(Deployed(remembering), remembering))
    for other in (replace(innocent, plan=remembering), untrained(remembering, context(0))):
        assert abs(Membership().measure(other, context(0))["mi_auc"] - 0.5) < 0.16


@pytest.mark.parametrize("shadows", [2, 4])
def test_it_is_what_is_said_by_hand(context, shadows):
    """Written out with sets, probabilities and every pair, on images with groups, a backdoor and an odd pool."""
    plan = halved(121, 3, (RotatedMinority(0.3),)).plan()
    source, seed = plan.task.source, 5
    data = [context(one).data(source).about["index"].tolist() for one in (seed, *range(shadows))]
    pool, test = context(seed).data(source.images), context(seed).data(plan.judged_by.test)
    models = [context(one).trained(plan) for one in (seed, *range(shadows))]

    def answers(of):
        return [model.predict(of.x).double().softmax(1)[torch.arange(len(of.x)), of.y].numpy() for model in models]

    p, q = answers(pool), answers(test)
    ratio_z = [q[0][z] / np.mean([one[z] for one in q[1:]]) for z in range(len(test.x))]
    scores, out_scores, known, group = [], [], [], []
    for place in range(121):
        inside = [k for k in range(1, 1 + shadows) if place in data[k]]
        outside = [k for k in range(1, 1 + shadows) if place not in data[k]]
        if len(inside) != len(outside):
            continue  # of the odd pool each pair leaves one out
        ratio = p[0][place] / np.mean([p[k][place] for k in inside + outside])
        scores.append(np.mean([ratio > one for one in ratio_z]))
        phi = [np.log(one[place] / (1 - one[place])) for one in p]
        out_scores.append(phi[0] - np.mean([phi[k] for k in outside]))
        known.append(place in data[0])
        group.append(int(pool.about["group"][place]))
    known, group, scores = np.array(known), np.array(group) == 1, np.array(scores)
    found = asked(plan, context, seed, Membership(shadows=shadows))
    assert found["mi_auc"] == pytest.approx(roc_auc_score(known, scores), abs=1e-9)
    assert found["mi_auc"] == found["mi_deployed_auc"] == found["mi_bare_auc"]
    assert found["mi_lira_auc"] == pytest.approx(roc_auc_score(known, out_scores), abs=1e-9)
    assert found["mi_minority_auc"] == pytest.approx(roc_auc_score(known[group], scores[group]), abs=1e-9)
    assert found["mi_others"] == sum(~known)
    assert set(found) == {metric.name for metric in Membership.metrics if "tpr" not in metric.name}


def test_no_model_of_its_own_pair_is_asked(remembering):
    for seed in range(6):
        seeds = [other.seed(seed) for other in Membership(shadows=4).needs(remembering)]
        assert len(set(seeds)) == 4 and not {seed, seed ^ 1} & set(seeds)
        assert {one ^ 1 for one in seeds} == set(seeds), "whole pairs"


@pytest.fixture(scope="module")
def confident():
    """A training by which members are surer, and mostly not more often right."""
    return halved(200, 10).plan()


def test_rates_are_told_where_enough_others_are_above_the_threshold(confident, context, monkeypatch):
    assert not {name for name in asked(confident, context) if "tpr" in name}
    monkeypatch.setattr(membership, "FEWEST", 1)
    found = asked(confident, context)
    assert 0 < found["mi_tpr_1_low"] < found["mi_tpr_1"] < found["mi_tpr_1_high"] < 1
    assert "mi_tpr_01" not in found
    assert asked(confident, context) == found, "equal scores are ranked by a seed"


def test_the_weights_are_asked_as_well_as_the_answers(confident, remembering, context):
    """What makes its values up leaks by its network as much as without, and is judged by that."""
    served = Deployed(confident, (HAMP(),)).answering(context(0).trained(confident), context(0))
    found, plain = Membership().measure(served, context(0)), asked(confident, context)
    assert found["mi_deployed_auc"] < found["mi_bare_auc"] - 0.1
    assert found["mi_bare_auc"] == found["mi_auc"] == plain["mi_auc"]
    assert found["mi_lira_auc"] == plain["mi_lira_auc"], "all is told of the worse one"
    served = Deployed(remembering, (HAMP(),)).answering(context(0).trained(remembering), context(0))
    assert Membership().measure(served, context(0))["mi_deployed_auc"] > 0.9, "a ranking hides no label that is known"


@dataclass(frozen=True)
class Contrary(Mechanism):
    """Answers the opposite, by a factor that is a secret of the replicate."""

    name = "contrary"
    concern = "none"

    def serve(self, predict, trained, context):
        asked_by.append(context.seed)
        return lambda x: -predict(x) * (1 + torch.rand(1, generator=context.rng("contrary")))


asked_by: list[int] = []


def test_shadows_answer_as_deployed_with_secrets_of_their_own(remembering, context):
    asked_by.clear()
    served = Deployed(remembering, (Contrary(),)).answering(context(0).trained(remembering), context(0))
    Membership().measure(served, context(0))
    assert asked_by == [0, 2, 3]


# --- other worlds -----------------------------------------------------------------------------------------------------


def test_without_halves_only_what_needs_no_shadows_is_measured(context):
    plan = recipe("digits", "smoke", examples=80, epochs=30, conditions=(RandomLabels(),)).plan()
    assert Membership().needs(plan) == ()
    found = asked(plan, context)
    assert found.keys() == {"mi_global_auc"} and found["mi_global_auc"] > 0.9
    (said,) = Membership().warnings(found)
    assert "random-half" in said and "not measured" in said
    assert found == asked(plan, context)


@pytest.mark.parametrize("placement", ["task", "stream"])
def test_marks_are_looked_through(context, placement):
    """Members are those of the half, and asked about as they were before they were marked."""
    base = halved(120, 1, (RotatedMinority(0.1),)).plan()
    marking = RadioactiveData(ratio=0.2, iterations=1, placement=placement, network_epochs=1).bind(base)
    plan = compose(base, [marking])
    assert plan.task.source != base.task.source
    assert membership._halved(plan) == membership._halved(base) == base.task.source
    pool = context(0).data(base.task.source.images)
    seen = []
    looking = replace(context(0).trained(plan), predict=lambda x: seen.append(x) or torch.zeros(len(x), 10))
    found = Membership().measure(replace(looking, serving=(HAMP(answers=False),)), context(0))
    assert found["mi_others"] == 60
    assert torch.equal(seen[0], pool.x)


def test_poison_above_the_half_is_looked_through(context):
    plan = recipe("digits", "smoke", examples=80, epochs=1, conditions=(RandomHalf(), Backdoor())).plan()
    assert membership._halved(plan) == plan.task.source.images
    assert asked(plan, context)["mi_others"] == 40


@dataclass(frozen=True)
class Nothing:
    """A rewrite that leaves the network alone."""

    def __call__(self, network):
        return network


def test_what_has_gone_on_is_asked_about_what_it_began_with(remembering, context):
    """Also where the training that goes on has other examples, or none."""
    other = replace(remembering.task, source=Split("digits", "test", 64))
    later = replace(remembering, initial=remembering, epochs=0, rewrites=(Nothing(),), streams=(other,))
    assert Membership().needs(later) == (OtherSeed(later, 0), OtherSeed(later, 1))
    assert asked(later, context)["mi_auc"] == asked(remembering, context)["mi_auc"]


@dataclass(frozen=True)
class Groups(Condition):
    """Groups of which number 1 is not the smallest; or a single one."""

    name = "groups"
    alone: bool = False

    def train(self, data, context):
        place = torch.arange(len(data.x))
        group = torch.zeros_like(place) if self.alone else (place % 8 > 0).long() + (place % 8 > 5).long()
        return replace(data, about={**data.about, "group": group})


def test_the_minority_is_the_smallest_group(context):
    """Whatever it is called: of people, group 1 may be the majority."""
    plan = halved(120, 3, (Groups(),)).plan()
    pool = membership.Membership()._pool(plan.task.source, context(0).trained(plan), context(0))
    assert pool.minority.tolist() == [place % 8 == 0 for place in range(120)]
    assert 0 <= asked(plan, context)["mi_minority_auc"] <= 1
    assert "mi_minority_auc" not in asked(halved(120, 1, (Groups(alone=True),)).plan(), context)


@pytest.mark.parametrize("kind", ["row", "text", "float"])
def test_every_kind_of_input_is_asked_about(kind, context):
    plan = recipe(name_of(kind), "smoke", examples=80, epochs=1, conditions=(RandomHalf(),)).plan()
    assert asked(plan, context)["mi_others"] == 40


def test_tasks_of_several_labels_are_left_alone():
    plan = recipe(name_of("several"), "smoke", examples=80).plan()
    assert "one class" in Membership().misfit(plan) and "one class" in HAMP().misfit(plan)


def test_what_says_nothing_of_the_labels_is_left_out(remembering, context):
    """No numbers, or other classes: nobody can be told from anybody, and that is said."""
    trained = context(0).trained(remembering)
    for answers in (lambda x: torch.full((len(x), 10), float("nan")), lambda x: torch.zeros(len(x), 3)):
        broken = replace(trained, predict=answers, serving=(HAMP(),))
        assert Membership().measure(broken, context(0)) == {}
    assert Membership().warnings({}) == (membership.NOTHING,)


def test_a_null_that_is_none_is_warned_of():
    fine = {"mi_auc": 0.6, "mi_null_auc": 0.51, "mi_others": 5000.0}
    assert Membership().warnings(fine) == ()
    (said,) = Membership().warnings({**fine, "mi_null_auc": 0.52})
    assert "nobody was trained on (AUC 0.520)" in said


@pytest.mark.parametrize(("options", "said"), [({"shadows": 3}, "odd number"), ({"shadows": 0}, "shadows")])
def test_impossible_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        Membership(**options)
    for wrong in ({"population": 0}, {"gamma": 0.0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            Membership(**wrong)


# --- studies ----------------------------------------------------------------------------------------------------------

POOL = {"examples": 120, "epochs": 1, "norm": "group", "conditions": ["random-half"]}


@pytest.mark.parametrize(
    ("combination", "trainings"),
    [(["relaxloss"], 8), pytest.param(["relaxloss", "hamp"], 16, marks=pytest.mark.slow)],
)
def test_four_replicates_need_no_other_training_and_phi_mi_is_judged(site, trained, combination, trainings):
    wanted = study(combination, seeds=4, recipe={**POOL, "examples": 80}, measures=["membership"])
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    assert len(trained.since()) == trainings
    assert all(0 < one["mi_auc"] < 1 for names in ([], combination) for one in values(content, names).values())
    asked = [done.job for done in watcher.jobs]
    keys = [probe.key for job in asked for probe in job.probes]
    assert len(keys) == len(set(keys)), "what is listed twice is measured once"
    text = report(wanted, content)
    assert re.search(r"φ_MI +\d", text) and "rise 0.03" in text


GUARDED = """
@dataclass(frozen=True)
class Guarded(Mechanism):
    '''Answers through a second model of its own replicate.'''
    name: ClassVar[str] = "guarded"
    concern: ClassVar[str] = "none"
    def needs(self, plan):
        return (self.guard(plan),)
    def guard(self, plan):
        return replace(plan, epochs=plan.epochs + 1)
    def serve(self, predict, trained, context):
        guard = context.trained(self.guard(trained.plan))
        return lambda x: predict(x) + guard.predict(x)
"""


def test_what_answers_for_shadows_is_trained_first(site, load, trained):
    """One replicate asks two shadows, each through the second model of its own seed."""
    plugin = str(load(GUARDED))
    wanted = study(["guarded"], seeds=1, recipe=POOL, measures=["membership"], plugins=[plugin])
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    assert sorted(seed for _, seed in trained.since()) == [0, 0, 2, 2, 3, 3]
    found = values(content, ["guarded"])[0]
    assert found["mi_deployed_auc"] != found["mi_bare_auc"]
