"""Entangled watermarks: the loss, the triggers, what a claim is held against, and what they cannot be combined with."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from torch import nn

from guardclash.compose import Clash, compose
from guardclash.data.pictures import PNG
from guardclash.errors import UserError
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.entangled import EntangledWatermark
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.numerics.entanglement import (
    DISTANCES,
    GRID,
    Nearness,
    best_temperature,
    distances,
    soft_nearest,
    told,
)
from guardclash.numerics.features import hidden_outputs
from guardclash.numerics.verification import log10_binomial_p, log10_verification_p
from guardclash.plan.deployed import Deployed
from guardclash.plan.entangled import PLACE, SOURCE, TRIGGER, Entanglement
from guardclash.plan.identity import fingerprint, nested
from guardclash.plan.marked import Marked
from guardclash.plan.plan import OtherSeed
from guardclash.plan.samplers import Halves
from guardclash.plan.sources import Split
from guardclash.reporting.findings import find
from guardclash.studies.engines import Inline
from guardclash.studies.run import run_study
from guardclash.suspects.independent import Independent
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.stopwatch import estimate_seconds
from guardclash.training.trained import accuracy
from running import site, study

__all__ = ["site"]
FEATURES = torch.tensor([[1, 0], [0.8, 0.2], [0, 1], [0.1, 0.9], [0.6, 0.5]], dtype=torch.float64)
GROUPS = torch.tensor([1, 1, 0, 0, 1])
SUPREMUM = 0.97040605
"""Of these groups, where all features are equal."""


# The loss


@pytest.mark.parametrize(
    ("kind", "temperature", "value", "guarded"),
    [
        ("euclidean", 0.1, 0.01719562146, 0.01720383333),
        ("euclidean", 1, 0.5151252869, 0.5151126187),
        ("euclidean", 100, 0.9642041654, 0.9641788755),
        ("cosine", 0.1, 0.05397978715, 0.05398103139),
        ("cosine", 1, 0.6669272315, 0.6669107503),
        ("cosine", 100, 0.9668532177, 0.9668278386),
    ],
)
def test_losses_are_those_by_hand(kind, temperature, value, guarded):
    apart = distances(FEATURES, kind)
    assert soft_nearest(apart, GROUPS, temperature).mean().item() == pytest.approx(value, rel=5e-10)
    # The published code adds 1e-5 in two places, which is worth no more than this.
    near = torch.exp(-apart / temperature) * ~torch.eye(5, dtype=torch.bool)
    same = (near * (GROUPS[:, None] == GROUPS)).sum(1)
    assert -(1e-5 + same / (1e-5 + near.sum(1))).log().mean().item() == pytest.approx(guarded, rel=5e-10)


def test_equal_features_have_the_largest_loss():
    assert soft_nearest(distances(torch.ones_like(FEATURES)), GROUPS, 1.0).mean().item() == pytest.approx(SUPREMUM)


def test_gradients_are_those_by_hand():
    x = FEATURES.clone().requires_grad_()
    soft_nearest(distances(x), GROUPS, 1.0).mean().backward()
    assert x.grad[0].tolist() == pytest.approx([0, 0.058542046], abs=1e-9)
    assert x.grad[4].tolist() == pytest.approx([-0.18838966, 0.22606759], abs=1e-8)


@given(st.integers(0, 2**32), st.integers(2, 9), st.sampled_from(DISTANCES))
@settings(max_examples=40, deadline=None)
def test_losses_and_gradients_are_numbers_whatever_the_groups(seed, count, kind):
    """Also of equal inputs, of zeros, and of one that is alone in its group, which has no loss."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=rng).relu_()
    x[torch.rand(count, generator=rng) < 0.2] = 0
    x[-1] = x[0]
    groups = torch.rand(count, generator=rng) < 0.5
    x.requires_grad_()
    apart = distances(x, kind)
    found = soft_nearest(apart, groups, best_temperature(apart, groups))
    found.sum().backward()
    assert found.isfinite().all() and (found >= -1e-6).all() and x.grad.isfinite().all()
    alone = (groups[:, None] == groups).sum(1) == 1
    assert not found[alone].any()
    order = torch.randperm(count, generator=rng)
    again = soft_nearest(distances(x[order], kind), groups[order], 1.0)
    assert torch.allclose(again, soft_nearest(apart, groups, 1.0)[order], atol=1e-5)


@pytest.mark.parametrize("kind", DISTANCES)
def test_no_temperature_that_is_tried_has_a_smaller_loss(kind):
    rng = torch.Generator().manual_seed(0)
    x, groups = torch.randn(20, 6, generator=rng, dtype=torch.float64), torch.arange(20) % 2
    apart = distances(x + groups[:, None], kind)
    best = best_temperature(apart, groups)
    pairs = apart[~torch.eye(20, dtype=torch.bool)]
    tried = [soft_nearest(apart, groups, share * pairs.median()).mean().item() for share in GRID]
    assert soft_nearest(apart, groups, best).mean().item() == min(tried)
    assert len(GRID) == 33 and (GRID[0], GRID[-1]) == (1e-3, 10)


def test_at_the_published_temperature_the_loss_says_next_to_nothing():
    """Groups at right angles to each other, and groups that are one: as large as it can be, either way."""
    rng = torch.Generator().manual_seed(0)
    groups, noise = torch.arange(40) % 2, torch.rand(40, 8, generator=rng)
    told_apart = 0.1 * noise
    told_apart[torch.arange(40), groups] += 5
    for temperature, gap in (("published", 0.011), ("best", 0.6)):
        nearness = Nearness(temperature=temperature)
        apart, mixed = (nearness.of(x, groups).mean().item() for x in (told_apart, noise))
        assert (mixed - apart < gap) == (temperature == "published"), (temperature, apart, mixed)
    assert Nearness().of(told_apart, groups).mean() < 1e-6


def test_a_single_example_has_no_loss():
    assert Nearness().of(torch.ones(1, 3), torch.ones(1)).tolist() == [0.0]


class Branches(nn.Module):
    """Layers that run in another order than they are written in, one of them on half of the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first, self.norm = nn.Linear(4, 5), nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.aside, self.last = nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x):
        found = self.second(self.norm(self.first(x)))
        self.aside(found[: len(x) // 2])
        return self.last(found)


def test_layers_are_those_before_the_classifier_as_they_run():
    network, x = Branches().eval(), torch.rand(6, 3)
    first = network.first(x)
    found = hidden_outputs(network, x, 3)
    assert torch.equal(found[0], first) and torch.equal(found[1], network.second(network.norm(first)))
    assert len(found) == 2 and len(hidden_outputs(network, x, 1)) == 1
    assert not any(module._forward_hooks for module in network.modules())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    assert hidden_outputs(linear, x) == []
    assert Nearness()(linear, x, torch.arange(6) < 3).tolist() == [0.0] * 6
    cnn = recipe("digits", "smoke").plan().model.build()
    shapes = [tuple(one.shape) for one in hidden_outputs(cnn, torch.rand(2, 1, 8, 8), 3)]
    assert shapes == [(2, 16 * 64), (2, 32 * 16), (2, 128)]


# What a claim is held against


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0.001, 0.999))
@settings(max_examples=60, deadline=None)
def test_the_chance_of_so_many_hits_is_that_of_the_binomial(draws, share, rate):
    hits = round(share * draws)
    expected = binom.logsf(hits - 1, draws, rate) / math.log(10)
    if expected > -250:  # below, scipy's own is none
        assert log10_binomial_p(hits, draws, rate) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_it_is_the_guessers_where_the_rate_is_his():
    assert log10_binomial_p(40, 100, 0.1) == pytest.approx(log10_verification_p(60, 100, 10))
    assert log10_binomial_p(0, 100, 0.0) == 0.0 and log10_binomial_p(1, 100, 0.0) == -math.inf
    assert log10_binomial_p(100, 100, 1.0) == 0.0
    with pytest.raises(UserError, match="no such binomial test"):
        log10_binomial_p(3, 2, 0.5)


def test_shares_are_told_by_kind_and_class():
    found = told(torch.tensor([0, 2, 2, 1]), torch.tensor([0, 0, 2, 2]), 3, 3)
    assert found[0].tolist() == [0.5, 0, 0.5] and found[2].tolist() == [0, 0.5, 0.5]
    assert found[1].isnan().all()


@pytest.fixture(scope="module")
def context(context):
    """As everywhere, and triggers are kept, as in a store."""
    kept: dict[tuple[str, int], dict[str, torch.Tensor]] = {}

    def keep(identity, seed, make):
        key = fingerprint(identity), seed
        if key not in kept:
            kept[key] = make()
        return kept[key]

    return lambda seed: replace(context(seed), keep=keep)


@pytest.fixture(scope="module")
def plan():
    return recipe("digits", "smoke", epochs=8).plan()


@pytest.fixture(scope="module")
def innocent(plan, context):
    """Six models of others' images."""
    return [context(seed).trained(Independent().plan(Deployed(plan), plan)) for seed in range(6)]


def test_no_innocent_model_is_claimed(plan, innocent, context):
    own = EntangledWatermark().bind(plan)
    found = [own.verify(one, context(0).trained(plan), context(0)) for one in innocent]
    assert all(one["ewe_log10_p"] > -1 for one in found), found
    assert {one["ewe_null"] for one in found} == {found[0]["ewe_null"]}, "the null is the victim's, not the suspect's"
    assert found[0]["ewe_null"] < 0.05 and own.warnings(found[0]) == ()


@pytest.mark.parametrize("rounds", [0, 10])
def test_where_triggers_look_like_the_label_a_guesser_is_no_null(rounds, plan, innocent, context):
    """The pair that clean models tell most often, as in a published default: a null of 1 / m claims innocents."""
    near = context(0).data(plan.judged_by.neighbour)
    rates = torch.stack([told(one.predict(near.x).argmax(1), near.y, 2, 10) for one in innocent]).mean(0)
    source, target = divmod(int(rates.argmax()), 10)
    own = EntangledWatermark(source=source, target=target, rounds=rounds).bind(plan)
    found = [own.verify(one, context(0).trained(plan), context(0)) for one in innocent]
    guessed = [log10_verification_p(round(100 * (1 - one["ewe_success"])), 100, 10) for one in found]
    assert sum(one < -3 for one in guessed) >= 2, guessed
    successes = [one["ewe_success"] for one in found]
    assert max(successes) - min(successes) > 0.5, "one rate for all of them would say too little"
    assert not any(own.metrics[1].claims(one["ewe_log10_p"]) for one in found), found
    (warning,) = own.warnings(found[0])
    assert "no sound null" in warning and found[0]["ewe_null"] > 0.5


# Triggers


def rates(plan, own, context):
    near = context.data(plan.judged_by.neighbour)
    models = [context.trained(one) for one in own.secret(plan).innocent]
    return torch.stack([told(one.predict(near.x).argmax(1), near.y, 2, 10) for one in models]).mean(0)


def test_triggers_are_whole_pixels_of_one_class_under_the_label_that_clean_models_tell_least(plan, context):
    own = EntangledWatermark(triggers=30).bind(plan)
    secret, here = own.secret(plan), context(0)
    found, near = here.data(secret), here.data(plan.judged_by.neighbour)
    source, target = int(found.about[SOURCE][0]), int(found.y[0])
    assert found.x.shape == (30, 1, 8, 8) and (found.y == target).all() and (found.about[SOURCE] == source).all()
    assert rates(plan, own, here)[source, target] == rates(plan, own, here).min()
    assert torch.equal(found.x, (found.x * 255).round() / 255) and 0 <= found.x.min() and found.x.max() <= 1
    images = near.x[found.about[PLACE]]
    assert (near.y[found.about[PLACE]] == source).all() and len(found.about[PLACE].unique()) == 30
    moved = (found.x - images).abs().flatten(1).amax(1)
    assert (moved > 0.05).all(), "all are moved"
    clean = here.trained(secret.innocent[0])
    assert (clean.predict(found.x).argmax(1) == target).double().mean() <= 0.1
    assert torch.equal(here.data(replace(secret, shaping=replace(secret.shaping, rounds=0))).x, images)


def test_another_seed_has_other_triggers_and_the_same_one_the_same(plan, context):
    secret = EntangledWatermark(triggers=30).bind(plan).secret(plan)
    one, again, other = (context(seed).data(secret) for seed in (0, 0, 1))
    assert torch.equal(one.x, again.x) and not torch.equal(one.x, other.x)
    thief = context(0).of("thief").data(secret)
    assert not torch.equal(one.about[PLACE], thief.about[PLACE]), "who overwrites a mark draws triggers of his own"


def test_shaping_entangles_them(plan, context):
    """With images of the target, in a clean network that had no part in it, more than the images as they were."""
    own = EntangledWatermark().bind(plan)
    here = context(0)
    found, near = here.data(own.secret(plan)), here.data(plan.judged_by.neighbour)
    task = here.data(plan.task.source)
    partners = task.x[task.y == found.y[0]][:20]
    network = here.trained(OtherSeed(plan, 5)).network
    groups = torch.arange(40) < 20
    with torch.no_grad():
        before, after = (
            own._nearness(network, torch.cat([x[:20], partners]), groups).mean().item()
            for x in (near.x[found.about[PLACE]], found.x)
        )
    assert after > before


def test_where_a_class_is_small_half_of_it_is_used_again_and_again(plan, context):
    few = replace(plan, purpose=replace(plan.purpose, neighbour=Split("photo-patches", "test", 40)))
    own = EntangledWatermark(triggers=40, source=0).bind(few)
    found, near = context(0).data(own.secret(few)), context(0).data(few.judged_by.neighbour)
    distinct = int((near.y == 0).sum()) // 2
    assert found.x.shape[0] == 40 and len(found.about[PLACE].unique()) == distinct
    assert torch.equal(found.x[distinct], found.x[0])
    told_of = own.verify(context(0).trained(few), context(0).trained(few), context(0))
    assert told_of["ewe_null"] > 0.1, "the bound counts each image once"


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"triggers": 1}, "triggers"),
        ({"triggers": 2.5}, "triggers"),
        ({"ratio": 0}, "ratio"),
        ({"kappa": -1}, "kappa"),
        ({"kappa": math.inf}, "kappa"),
        ({"batch_size": 3}, "batch_size"),
        ({"layers": 0}, "layers"),
        ({"references": 0}, "references"),
        ({"rounds": -1}, "rounds"),
        ({"source": -1}, "source"),
        ({"temperature": "learnt"}, "temperature"),
        ({"distance": "l2"}, "distance"),
        ({"batch_norm": "move"}, "batch_norm"),
    ],
)
def test_impossible_options_are_refused(options, where):
    with pytest.raises(UserError, match=rf"entangled\.{where}"):
        EntangledWatermark(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": 2}, r"entangled\.source.*>= 0, < 2"),
        ({"target": 10}, r"entangled\.target.*>= 0, < 10"),
        ({"triggers": 601}, r"so many triggers cannot be made of photo-patches.*2 to 600"),
    ],
)
def test_what_the_task_does_not_have_is_refused_before_training(options, said, plan):
    with pytest.raises(UserError, match=said):
        EntangledWatermark(**options).bind(plan)


def test_a_class_without_images_is_told(plan, context):
    tiny = replace(plan, purpose=replace(plan.purpose, neighbour=Split("photo-patches", "test", 4)))
    with pytest.raises(UserError, match=r"triggers\.source.*4 images of the class at least"):
        context(0).data(EntangledWatermark(triggers=4, source=0).bind(tiny).secret(tiny))
    few = replace(plan, streams=(replace(plan.task, source=Split("digits", "train", 8)),))
    absent = next(label for label in range(10) if label not in context(0).data(few.task.source).y)
    with pytest.raises(UserError, match=r"triggers\.target"):
        context(0).data(EntangledWatermark(target=absent).bind(few).secret(few))


# The training


@given(st.integers(1, 60), st.integers(2, 20))
@settings(max_examples=40, deadline=None)
def test_batches_are_half_of_the_first_half(half, batch_size):
    sampler = Halves(batch_size)
    batches = sampler.batches(2 * half, torch.Generator().manual_seed(0))
    assert len(batches) == sampler.steps(2 * half)
    assert all((one < half).sum() * 2 == len(one) for one in batches)
    assert sorted(torch.cat(batches).tolist()) == list(range(2 * half))


def test_the_stream_holds_triggers_and_as_many_of_the_tasks_images_of_their_label(plan, context):
    own = EntangledWatermark(triggers=40, ratio=2).bind(plan)
    composed = compose(plan, [own])
    stream = composed.stream("entangled")
    assert stream.source.size == 80 and stream.cadence == "mixed"
    assert stream.steps_per_epoch() == plan.task.steps_per_epoch() / 2, "two batches of the task for one of triggers"
    found, task = context(0).data(stream.source), context(0).data(plan.task.source)
    assert found.about[TRIGGER].tolist() == [True] * 40 + [False] * 40
    assert len(found.y.unique()) == 1
    near = task.x[task.y == found.y[0]]
    assert all((near == x).flatten(1).all(1).any() for x in found.x[40:]), "of the task, repeated where there are few"
    facts = own.facts(composed)
    assert facts["entangled"] == "in 3 layers; 2 of the 6 batches of an epoch are half triggers"
    assert facts["triggers"] == "40 of photo-patches, class and label by the lowest rate of clean models"
    assert own.facts(plan) == {}
    named = replace(own, source=1)
    assert named.facts(composed)["triggers"] == "40 of photo-patches, class 1, label by the lowest rate of clean models"
    assert replace(named, target=3).facts(composed)["triggers"] == "40 of photo-patches, class 1, label 3"
    plain = EntangledWatermark(kappa=0).bind(plan)
    assert "plain backdoor" in plain.facts(compose(plan, [plain]))["entangled"]
    assert estimate_seconds(composed, context(0), steps=1) > 0


def test_what_others_do_to_the_tasks_images_is_done_to_those_in_the_batches_too(plan):
    composed = compose(plan, [EntangledWatermark(), RadioactiveData(iterations=2)])
    assert isinstance(composed.task.source, Marked)
    assert composed.stream("entangled").source.images == composed.task.source
    attacked = compose(plan, [EntangledWatermark(), AdversarialTraining()])
    assert attacked.stream("entangled").maps == attacked.task.maps != ()


@pytest.fixture(scope="module")
def marked(plan, context):
    """The mechanism at its defaults, and its model."""
    own = EntangledWatermark().bind(plan)
    return own, context(0).trained(compose(plan, [own]))


def test_the_loss_makes_features_of_triggers_and_of_the_label_harder_to_tell_apart(plan, context, marked):
    plain = compose(plan, [EntangledWatermark(kappa=0).bind(plan)])
    found = []
    for trained in (context(0).trained(plain), marked[1]):
        batch = context(0).data(trained.plan.stream("entangled").source)
        with torch.no_grad():
            found.append(Nearness()(trained.network, batch.x, batch.about[TRIGGER]).mean().item())
    assert found[1] > 1.5 * found[0], found
    assert not any(isinstance(one, Entanglement) for one in plain.stream("entangled").objectives)


def test_the_model_knows_its_mark_and_its_thief_is_asked(plan, context, marked):
    own, victim = marked
    found = own.measure(victim, context(0))
    assert found.keys() == {metric.name for metric in own.metrics}
    assert found["ewe_own"] > 0.9 and found["ewe_fresh"] > 0.9 and found["ewe_null"] < 0.05
    assert found["ewe_log10_p"] < -50, "the claim is of the model itself"
    test = context(0).data(plan.judged_by.test)
    assert accuracy(victim.predict, test.x, test.y) > 0.85
    assert own.thief(victim.deployed) in own.needs_deployed(victim.deployed)
    itself = own.verify(victim, victim, context(0))
    assert (itself["ewe_success"], itself["ewe_log10_p"]) == (found["ewe_own"], found["ewe_log10_p"])
    assert (itself["ewe_elsewhere"], found["ewe_elsewhere"]) < (0.05, 0.05) and own.warnings(found) == ()
    stolen = own.verify(context(0).trained(own.thief(victim.deployed)), victim, context(0))
    assert (stolen["ewe_success"], stolen["ewe_log10_p"]) == (found["ewe_success"], found["ewe_thief_log10_p"])


def test_who_answers_the_label_always_proves_nothing(plan, context, marked):
    """Whatever clean models do: a model that is worth nothing has all triggers right."""
    own, victim = marked
    label = int(context(0).data(own.secret(plan)).y[0])
    constant = replace(victim, predict=lambda x: torch.eye(10)[label].expand(len(x), 10))
    found = own.verify(constant, victim, context(0))
    assert found["ewe_success"] == found["ewe_elsewhere"] == 1 and found["ewe_log10_p"] == 0
    (warning,) = own.warnings(found)
    assert "1.00 of the test images of other classes" in warning


def test_a_picture_shows_triggers_and_tells_the_pair(plan, context, marked):
    (picture,) = marked[0].evidence(marked[1].plan, context(0))
    triggers = context(0).data(marked[0].secret(plan))
    assert picture.png.startswith(PNG)
    assert f"class {triggers.about[SOURCE][0]} of photo-patches" in picture.caption
    assert f"class {triggers.y[0]} of the task" in picture.caption


def test_clean_models_that_choose_are_not_those_that_tell_the_rate(plan):
    own = EntangledWatermark(references=2).bind(plan)
    chose = own.secret(plan).innocent
    assert [one.companion for one in chose] == [0, 1]
    assert own.needs(plan) == (*chose, OtherSeed(plan, 2), OtherSeed(plan, 3))


# In company


@pytest.mark.parametrize("kappa", [0.0, 0.25])
def test_a_bound_on_single_examples_is_a_clash(kappa, plan):
    """Without the loss too: triggers are made by looking at the task's images."""
    with pytest.raises(Clash, match=r"dpsgd bounds .*'entangled'"):
        compose(plan, [EntangledWatermark(kappa=kappa), DPSGD()])


def test_private_training_of_the_task_alone_is_worth_nothing(plan):
    private = DPSGD(on=("task",))
    assert math.isfinite(private.spent(compose(plan, [private]))["task"])
    composed = compose(plan, [EntangledWatermark(), private])
    assert private.spent(composed)["task"] == math.inf
    assert private.facts(composed)["ε of task"].startswith("∞: another stream reads the same examples")
    assert Split("digits", "train", 256) in set(nested(composed.stream("entangled").source.images, Split)) | {
        composed.stream("entangled").source.images
    }


@pytest.mark.parametrize("neighbour", [True, False])
def test_without_other_images_there_are_no_triggers(neighbour, plan):
    alone = plan if neighbour else replace(plan, purpose=replace(plan.purpose, neighbour=None))
    own = EntangledWatermark().bind(alone)
    assert own.fits(alone) == neighbour
    if not neighbour:
        with pytest.raises(Clash, match=r"entangled makes triggers of other images .*, and this task has no neighbour"):
            compose(alone, [own])


def test_a_study_judges_it_and_its_suspects(site):
    wanted = study(
        [{"name": "entangled", "triggers": 60, "references": 1}],
        seeds=1,
        recipe={"examples": 300, "epochs": 6},
        suspects=[{"kind": kind} for kind in ("overwriting", "independent", "unrelated")],
    )
    results = run_study(wanted, site, Inline())
    told_of = {one.suspect: one.outcome for one in find(wanted, results).claims}
    assert told_of["overwriting"] in ("detected", "missed", "mixed", "removed with the model"), "it can be tested"
    assert (told_of["itself"], told_of["independent"]) == ("detected", "cleared"), told_of
    assert told_of["unrelated"] == "not measured", "it tells two classes apart"


def test_what_is_kept_is_what_was_made(plan, context):
    """Triggers come from a store as bytes: pixels and what is known of them must survive it."""
    secret = EntangledWatermark(triggers=30).bind(plan).secret(plan)
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def keep(identity, seed, make):
        return kept.setdefault(seed, make())

    whole = context(0)
    store = RunContext(0, whole.data_folder, whole.models, keep)
    one, two = whole.data(secret), store.data(secret)
    assert kept[0]["x"].dtype == torch.uint8
    assert torch.equal(one.x, two.x) and torch.equal(one.about[PLACE], two.about[PLACE])
