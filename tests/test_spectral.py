"""Spectral signatures: scores, what a filter removes, and who acts before it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.compose import compose
from guardclash.conditions.backdoor import Backdoor
from guardclash.conditions.rotated_minority import RotatedMinority
from guardclash.errors import UserError
from guardclash.judging.criteria import MaxDrop
from guardclash.measures.backdoor import BackdoorSuccess
from guardclash.measures.filtering import Filtering
from guardclash.mechanisms.dpsgd import DPSGD, DPSGDControl
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.mechanisms.spectral import Spectral
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.spectral import most_outlying, outlier_scores, outlying_cluster, outlying_clusters
from guardclash.plan.examples import Data
from guardclash.plan.filtered import Clustered, Filtered, Outlying, filter_of
from guardclash.plan.identity import fingerprint, nested
from guardclash.plan.marked import Marked
from guardclash.records.plain import results_from
from guardclash.studies.dry_run import check_study
from guardclash.studies.engines import Inline
from guardclash.studies.side_effects import side_effects
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import train
from running import ran, report, study, values

MARKS = RadioactiveData(iterations=2, ratio=0.1, held_out=20)
WM = Watermark(triggers=20, batch_size=10)

# Scores

FEATURES = torch.tensor([(5, 0), (5.2, 0.1), (4.9, -0.1), (5.1, 0.05), (4, 1)], dtype=torch.float64)
OTHERS = torch.tensor([(1, 0), (1.2, 0.1), (0.9, -0.1), (1.1, 0.05), (3, 2)], dtype=torch.float64)


@pytest.mark.parametrize(
    ("features", "centred", "scores"),
    [
        (FEATURES, True, [0.067587, 0.115095, 0.064629, 0.089769, 1.329566]),
        (FEATURES, False, [13.516074, 14.105300, 13.473810, 13.809116, 5.122881]),
        (OTHERS, True, [0.361048, 0.151519, 0.550995, 0.245088, 4.961673]),
    ],
)
def test_scores_are_those_worked_out_elsewhere(features, centred, scores):
    assert outlier_scores(features, centred).tolist() == pytest.approx(scores, abs=2e-6)


def test_without_centring_an_outlier_may_come_last():
    """The trap of a published implementation; with it, the first score to be removed is that of a clean example."""
    assert outlier_scores(FEATURES).argmax() == 4 == outlier_scores(FEATURES, centred=False).argmin()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 8))
def test_scores_do_not_change_under_rotation_and_translation(seed, n, d):
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(n, d)) * (1 + np.arange(d))[::-1]  # so that one direction stands out
    turned = x @ np.linalg.qr(chance.normal(size=(d, d)))[0] + chance.normal(size=d) * 10
    spread = np.linalg.svd(x - x.mean(0), compute_uv=False)
    if len(spread) > 1 and spread[0] < 1.01 * spread[1]:
        return  # the direction is nobody's
    scores, again = (outlier_scores(torch.tensor(one)) for one in (x, turned))
    assert torch.allclose(scores, again, rtol=1e-6, atol=1e-8)
    # Independently: the largest eigenvector of the covariance.
    covariance = np.atleast_2d(np.cov(x.T, bias=True))
    direction = np.linalg.eigh(covariance)[1][:, -1]
    assert np.allclose(scores, ((x - x.mean(0)) @ direction) ** 2, atol=1e-7)
    assert scores.mean().item() == pytest.approx(np.linalg.eigvalsh(covariance)[-1], rel=1e-6, abs=1e-9)


def test_a_class_of_none_or_of_one_kind_has_no_outlier():
    assert outlier_scores(torch.zeros(0, 3)).shape == (0,)
    assert outlier_scores(torch.ones(4, 3)).tolist() == [0.0] * 4


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_as_many_of_every_class_are_the_furthest_out(seed, count):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(3).repeat(6), torch.randint(3, (20,), generator=rng)])
    features = torch.randn(len(labels), 4, generator=rng)
    chosen = most_outlying(features, labels, 3, count)
    for label in range(3):
        own = labels == label
        scores = outlier_scores(features[own])
        assert chosen[own].sum() == count
        assert scores[chosen[own]].min() >= scores[~chosen[own]].max()


def test_a_class_is_not_emptied():
    with pytest.raises(UserError, match=r"without examples.*2 of class 1.*more than 2"):
        most_outlying(torch.randn(8, 2), torch.tensor([0] * 6 + [1] * 2), 2, 2)


# Clusters


def clouds(sizes: tuple[int, ...], distance: float) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.cat([torch.randn(size, 20, generator=rng) + place * distance for place, size in enumerate(sizes)])


def test_a_small_cluster_that_lies_apart_is_found():
    found = outlying_cluster(clouds((180, 20), 3.0), 10, 0.35, 0.1)
    assert found.tolist() == [False] * 180 + [True] * 20


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (clouds((110, 90), 3.0), "45 % of a class are no poison"),
        (clouds((200,), 0.0), "one cloud cut in two does not lie apart"),
        (torch.ones(50, 20), "all alike"),
        (torch.randn(2, 20), "too few"),
        (torch.zeros(0, 20), "none"),
    ],
)
def test_else_nothing_is_taken_for_poison(features, why):
    assert not outlying_cluster(features, 10, 0.35, 0.1).any(), why


def test_clusters_are_looked_for_in_each_class():
    features, labels = torch.cat([clouds((180, 20), 3.0), clouds((200,), 0.0)]), torch.arange(2).repeat_interleave(200)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    found = outlying_clusters(features[order], labels[order], 2, 10, 0.35, 0.1)
    assert sorted(order[found].tolist()) == list(range(180, 200))


# The source


@pytest.fixture(scope="module")
def clean():
    return recipe("digits", "smoke", examples=400).plan()


@pytest.mark.parametrize("expected", [0.01, 0.03])
def test_of_clean_data_exactly_so_many_of_every_class_are_removed(clean, context, expected):
    source = compose(clean, [Spectral(expected=expected)]).task.source
    each = round(1.5 * expected * 400)
    before, after = context(0).data(clean.task.source), context(0).data(source)
    assert len(after.x) == source.size == 400 - 10 * each
    lost = torch.bincount(before.y, minlength=10) - torch.bincount(after.y, minlength=10)
    assert lost.tolist() == [each] * 10


def test_it_is_the_furthest_out_of_the_first_model_in_evaluation_mode(clean, context):
    """By the penultimate layer: here the input of the last of two linear layers, after its ReLU."""
    source = compose(clean, [Spectral()]).task.source
    network, (x, y) = context(0).trained(clean).network, context(0).data(clean.task.source)
    assert not network.training
    with torch.no_grad():
        features = network[:-1](x)
    assert torch.equal(source.removed(context(0)), most_outlying(features, y, 10, 6))
    assert torch.equal(context(0).data(source).x, x[~source.removed(context(0))])


def test_where_nobody_knows_how_many_are_removed_others_of_the_class_stand_in(context):
    base = recipe("digits", "smoke", examples=400, epochs=2, conditions=(Backdoor(0.05),)).plan()
    source = compose(base, [Spectral(method="clustering", silhouette=-1.0, smaller=0.5)]).task.source
    before, after, gone = context(0).data(base.task.source), context(0).data(source), source.removed(context(0))
    assert source.size == 400 == len(after.x) and gone.any()
    assert torch.equal(after.y, before.y)
    assert torch.equal(after.x[~gone], before.x[~gone])
    suspected = {row.numpy().tobytes() for row in before.x[gone]} - {row.numpy().tobytes() for row in before.x[~gone]}
    assert not suspected & {row.numpy().tobytes() for row in after.x}
    assert torch.equal(after.x, context(0).data(source).x), "the seed decides"


def test_only_the_list_of_what_is_removed_is_kept(clean, context):
    kept: dict[str, dict[str, torch.Tensor]] = {}

    def keep(identity: Any, seed: int, make: Any) -> dict[str, torch.Tensor]:
        key = f"{fingerprint(identity)}-{seed}"
        if key not in kept:
            kept[key] = make()
        return kept[key]

    source, asked = compose(clean, [Spectral()]).task.source, replace(context(0), keep=keep)
    assert torch.equal(asked.data(source).x, asked.data(source).x)
    (held,) = kept.values()
    assert held.keys() == {"removed"} and held["removed"].dtype == torch.bool and held["removed"].sum() == 60


def test_more_than_there_is_cannot_be_removed(clean):
    with pytest.raises(UserError, match="some of them, and not all"):
        compose(clean, [Spectral(expected=0.5)])
    with pytest.raises(UserError, match=r"too few examples.*spectral.expected"):
        compose(recipe("digits", "smoke", examples=20).plan(), [Spectral()])


@pytest.mark.parametrize(
    "options",
    [
        {"method": "magic"},
        {"model": "none"},
        {"expected": 0.0},
        {"expected": 1.0},
        {"multiplier": 0.0},
        {"multiplier": math.inf},
        {"components": 0},
        {"components": 1.5},
        {"smaller": 0.0},
        {"smaller": 0.6},
        {"silhouette": 1.0},
        {"network": "unprotected"},
    ],
)
def test_impossible_options_are_refused(options):
    (name,) = options
    with pytest.raises(UserError, match=rf"spectral.{name}"):
        Spectral(**options)


# In company


def test_all_cells_share_the_unprotected_first_model(clean):
    for others in ([], [WM], [DPSGDControl()], [DPSGD()]):
        for order in ([*others, Spectral()], [Spectral().bind(clean), *others]):
            plan = compose(clean, order)
            assert fingerprint(filter_of(plan).model) == fingerprint(clean)


def test_a_filter_comes_after_marks_whatever_the_order(clean):
    bound = [MARKS.bind(clean), Spectral().bind(clean)]
    plan = compose(clean, bound)
    assert plan == compose(clean, bound[::-1])
    source = plan.task.source
    assert isinstance(source, Filtered) and isinstance(source.images, Marked)
    assert source.images.images == clean.task.source
    # The first model has seen the marks as well: it is the training of {raddata}, where epochs are equal.
    assert source.model == compose(clean, [MARKS.bind(clean)])


def test_triggers_are_never_filtered(clean):
    plan, marked = compose(clean, [Spectral(), WM]), compose(clean, [WM])
    assert plan.stream("trigger") == marked.stream("trigger")
    assert isinstance(plan.task.source, Filtered)
    assert not list(nested(plan.stream("trigger").source, Filtered))


@pytest.mark.parametrize("others", [[], [WM], [WM, DPSGDControl()], [MARKS]])
def test_the_filter_may_read_the_combination_without_it(clean, others):
    own = Spectral(model="combination").bind(clean)
    bound = [other.bind(clean) for other in others]
    plan = compose(clean, [*bound, own])
    assert filter_of(plan).model == compose(clean, bound)
    assert plan == compose(clean, [own, *bound][::-1])
    assert plan.streams[1:] == compose(clean, bound).streams[1:]


def test_what_another_party_filters_is_by_a_model_of_its_own(clean):
    theirs = compose(replace(clean, party="thief"), [Spectral().bind(clean)])
    assert filter_of(theirs).model.party == "thief"


@pytest.mark.parametrize("model", ["unprotected", "combination"])
def test_under_dp_sgd_all_is_spent(clean, context, model):
    """No clash. With "combination" the first model is private, and what is told by it without noise is not."""
    private = DPSGD()
    plan = compose(clean, [Spectral(model=model), private])
    assert private.spent(plan) == {"task": math.inf}
    assert private.facts(plan)["ε of task"].startswith("∞: which of the examples are used")
    trained = type("Model", (), {"plan": plan, "serving": ()})()
    assert private.measure(trained, context(0)) == {"epsilon": math.inf}
    assert private.spent(compose(clean, [private]))["task"] == pytest.approx(3.0, rel=0.01)


# What is measured


@dataclass(frozen=True)
class Given:
    """Examples of which everything is known."""

    names: tuple[str, ...]

    @property
    def size(self) -> int:
        return 8

    def load(self, context: Any) -> Data:
        known = {
            "poisoned": torch.tensor([1, 1, 0, 0, 0, 0, 0, 0]).bool(),
            "marked": torch.tensor([0, 0, 0, 1, 1, 1, 0, 0]).bool(),
            "group": torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]),
        }
        x = torch.zeros(8, 1, 8, 8)
        return Data(x, torch.arange(8) % 2, {name: known[name] for name in self.names})


@dataclass(frozen=True)
class Told:
    """Takes the second, the fourth and the last ones for poison."""

    def removed(self, classes: int) -> int:
        return 4

    def __call__(self, features: Any, labels: Any, classes: int) -> torch.Tensor:
        return torch.tensor([0, 1, 0, 1, 0, 0, 1, 1]).bool()


def filtered(clean: Any, *names: str) -> Any:
    source = Filtered(Given(names), clean, Told())
    return type("Model", (), {"plan": replace(clean, streams=(replace(clean.task, source=source),))})()


def test_what_is_removed_is_counted_by_kinds(clean, context):
    found = Filtering().measure(filtered(clean, "poisoned", "marked", "group"), context(0))
    assert found == {
        "poison_recall": 1 / 2,
        "poison_precision": 1 / 4,
        "removed_share": 1 / 2,
        "marks_removed": pytest.approx(1 / 3),
        "minority_removed": pytest.approx(2 / 3),
    }
    assert "no more than by chance" in str(Filtering().warnings(found))
    assert Filtering().warnings({**found, "poison_recall": 0.9}) == ()


def test_where_there_is_nothing_to_count_nothing_is_said(clean, context):
    found = Filtering().measure(filtered(clean, "group"), context(0))
    assert found.keys() == {"removed_share", "minority_removed"}
    assert "no recall" in str(Filtering().warnings(found))
    unfiltered = type("Model", (), {"plan": clean})()
    assert Filtering().measure(unfiltered, context(0)) == {}
    assert Filtering().warnings({}) == ()


def test_it_is_counted_in_a_training_that_was_gone_on_from(clean, context):
    model = filtered(clean, "poisoned")
    later = replace(clean, initial=model.plan)
    assert Filtering().measure(type("Model", (), {"plan": later})(), context(0))["poison_recall"] == 1 / 2


def test_marks_are_known_in_the_data(clean, context):
    plan = compose(clean, [MARKS.bind(clean)])
    found, before = context(0).data(plan.task.source), context(0).data(clean.task.source)
    assert found.about["marked"].sum() == 40
    changed = (found.x != before.x).flatten(1).any(1)
    assert not (changed & ~found.about["marked"]).any() and changed.sum() > 20


def test_a_defence_must_lower_the_success_of_the_backdoor():
    (metric,) = Spectral().metrics
    assert metric.gain and not metric.higher_is_better and metric.criterion == MaxDrop(0.10)
    assert [type(one) for one in Spectral().measures()] == [BackdoorSuccess, Filtering]


def test_defences_and_studies_share_the_measurement_of_the_recipes_backdoor():
    base = recipe("digits", "smoke", conditions=(Backdoor(0.05, target=3),)).plan()
    bound = Spectral().bind(base)
    assert bound.measures()[0] == BackdoorSuccess().bind(base) == BackdoorSuccess(Backdoor(0.05, target=3))
    assert bound.bind(base) == bound


def test_facts_say_what_is_removed_and_by_whom(clean):
    assert Spectral().facts(compose(clean, [Spectral()])) == {
        "removed": "6 examples of each class, 60 of 400",
        "filter's model": "the unprotected training",
    }
    own = Spectral(method="clustering", model="combination")
    found = own.facts(compose(clean, [own]))
    assert "smaller cluster" in found["removed"] and "combination" in found["filter's model"]
    assert Spectral().facts(clean) == {}
    assert (Outlying(3).removed(10), Clustered(10, 0.35, 0.1).removed(10)) == (30, None)


# Studies

WORLD = {
    "examples": 400,
    "epochs": 3,
    "conditions": ["rotated-minority", {"name": "backdoor", "rate": 0.05}],
}


def test_a_study_filters_and_tells_the_difference(site):
    marks = {"name": "raddata", "iterations": 2, "held_out": 20}
    wanted = study([marks, "spectral"], seeds=1, recipe=WORLD, measures=["backdoor_success"])
    assert check_study(wanted, site).mistakes == ()
    content = ran(wanted, site, Inline())
    found = values(content, ["raddata", "spectral"])[0]
    assert found["removed_share"] == pytest.approx(60 / 400)
    assert found.keys() >= {"poison_recall", "poison_precision", "marks_removed", "minority_removed"}
    assert "marks_removed" not in values(content, ["spectral"])[0]
    text = " ".join(report(wanted, content).split())
    assert "6 examples of each class, 60 of 400" in text
    # Listed by the study, the measure is held against the limit alone: no gain is asked of it.
    effects = side_effects(wanted, results_from(content))
    assert {effect.cell.combination[0].name for effect in effects} == {"raddata", "spectral"}
    assert all(effect.judgement.gain is None for effect in effects)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spectral", "clustering"])
def test_poison_is_removed_and_the_backdoor_stays_shut(method, context):
    base = recipe("digits", "smoke", examples=1000, epochs=12, conditions=(RotatedMinority(), Backdoor(0.02))).plan()
    own = Spectral(method=method, expected=0.02).bind(base)
    trained, without = (train(plan, context(0)) for plan in (compose(base, [own]), base))
    assert Filtering().measure(trained, context(0))["poison_recall"] > 0.9
    opened = [own.measure(one, context(0))["backdoor_success"] for one in (without, trained)]
    assert opened[0] > 0.8 and opened[1] < 0.1


@pytest.mark.slow
@pytest.mark.skipif("GUARDCLASH_DATA" not in os.environ, reason="needs MNIST")
def test_without_poison_nothing_opens():
    context = RunContext(0, Path(os.environ["GUARDCLASH_DATA"]))
    plan = recipe("mnist", "smoke", examples=2000, test_examples=2000, epochs=3).plan()
    assert BackdoorSuccess().bind(plan).measure(train(plan, context), context)["backdoor_success"] < 0.02
