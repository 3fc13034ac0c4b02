"""Dataset inference: what it keeps to, what it finds in a model that remembers, and what it does not find elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms import fingerprint as fingerprints
from guardclash.mechanisms.di import DatasetInference
from guardclash.plan.plan import Plan
from guardclash.studies.jobs import Site
from guardclash.studies.store import Store
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.trained import Trained, predictor

SMALL = {"images": 25, "walks": 3, "precision": "float32"}
CONTROLS = ("di_framed", "di_unrelated", "di_non_members")


class Memory(nn.Module):
    """Knows the label of every image near one that it remembers, and of others only with the least noise."""

    def __init__(self, known: Tensor, labels: Tensor, remembered: int):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))  # for a device to be on
        self.known, self.labels = known.flatten(1), labels
        self.reach = torch.where(torch.arange(len(known)) < remembered, 1.2, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        distance, nearest = torch.cdist(x.flatten(1), self.known).min(1)
        right = distance < self.reach[nearest]
        return (
            nn.functional.one_hot(torch.where(right, self.labels[nearest], -1) + 1, 11).float()[:, 1:]
            - 0.5 * ~right[:, None]
        )


@pytest.fixture
def plan() -> Plan:
    return recipe("digits", "smoke", examples=200).plan()


def remembering(plan: Plan, context: RunContext, remembered: int) -> Trained:
    """A model that remembers the first images of its plan, if they are digits, and knows the other digits barely."""
    train, test = (context.examples("digits", split) for split in ("train", "test"))
    own = plan.task.source
    order = torch.arange(len(train.y)).roll(-own.start)
    count = remembered if own.dataset == "digits" else 0
    network = Memory(torch.cat([train.x[order], test.x]), torch.cat([train.y[order], test.y]), count).eval()
    return Trained(plan, context.seed, network, predictor(network))


def context_of(seed: int, remembered: int, keep: Callable[..., dict[str, Tensor]] | None = None) -> RunContext:
    """All models that are asked for remember so many of their own images."""
    bare = RunContext(seed, Path("nowhere"))
    options = {"keep": keep} if keep else {}
    return RunContext(seed, Path("nowhere"), lambda plan, _: remembering(plan, bare, remembered), **options)


def test_it_changes_no_training(base):
    assert compose(base, [DatasetInference()]) == base


def test_it_finds_what_a_model_remembers_and_accuses_nobody_else(plan):
    for seed in (0, 1):
        context = context_of(seed, remembered=200)
        values = DatasetInference(**SMALL, scale=30).measure(remembering(plan, context, 200), context)
        assert values["di_log10_p"] < -10
        assert all(values[name] > -3 for name in CONTROLS), values
        assert DatasetInference().warnings(values) == () or values["di_censored"] > 0.2


def test_it_finds_nothing_in_a_model_that_remembers_nothing(plan):
    context = context_of(0, remembered=0)
    values = DatasetInference(**SMALL, scale=30).measure(remembering(plan, context, 0), context)
    assert all(values[name] > -3 for name in ("di_log10_p", *CONTROLS)), values


def test_a_suspect_is_tested_for_the_victims_images(plan):
    context = context_of(0, remembered=200)
    victim = remembering(plan, context, 200)
    di = DatasetInference(**SMALL, scale=30)
    assert di.verify(victim, victim, context) == di.measure(victim, context)
    stranger = remembering(plan, context, 0)
    stranger = Trained(recipe("digits", "smoke", examples=200, epochs=3).plan(), 0, stranger.network, stranger.predict)
    found = di.verify(stranger, victim, context)
    assert found["di_log10_p"] > -3
    controls = di.measure(victim, context)
    assert {name: found[name] for name in CONTROLS} == {name: controls[name] for name in CONTROLS}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"layout": "published"}, {"statistic": "harmonic"}])
def test_another_reading_of_the_same_walks_walks_no_further(options, base, context, tmp_path, monkeypatch):
    walked = []
    walk = fingerprints.BlindWalk.__call__
    monkeypatch.setattr(fingerprints.BlindWalk, "__call__", lambda *args: walked.append(1) or walk(*args))
    site = Site(Store(tmp_path), tmp_path)
    kept = RunContext(0, tmp_path, context(0).models, site.keep)
    trained = kept.trained(base)
    published = DatasetInference(**SMALL, layout="published").measure(trained, kept)
    assert walked
    walked.clear()
    assert DatasetInference(**SMALL, layout="published").measure(trained, kept) == published
    other = DatasetInference(**{**SMALL, "layout": "published", **options}).measure(trained, kept)
    assert not walked
    assert other["di_censored"] == published["di_censored"]
    assert len(list((tmp_path / "data").iterdir())) == 1 + 6 + 4 + 4, "the scale, the victim's, two innocent models'"


def test_the_noise_is_the_least_that_censors_few_walks(base, context):
    trained = context(0).trained(base)
    found = DatasetInference(**SMALL).measure(trained, context(0))
    assert found["di_scale"] in (1, 2, 4, 8, 16, 32)
    assert found["di_censored"] < 0.4, "other images than those it was chosen on"
    fixed = DatasetInference(**SMALL, scale=0.01).measure(trained, context(0))
    assert fixed["di_scale"] == pytest.approx(0.01) and fixed["di_censored"] > 0.4
    assert any("ended without a change" in warning for warning in DatasetInference().warnings(fixed))


def test_descents_need_as_many_classes(base, context):
    found = DatasetInference(images=10, embedding="mingd", steps=20).measure(context(0).trained(base), context(0))
    assert "di_unrelated" not in found, "patches have two classes"
    assert "di_scale" not in found
    assert found["di_log10_p"] <= 0


def test_a_claim_that_a_control_makes_as_well_is_doubted():
    values = {"di_log10_p": -30.0, "di_framed": -22.0, "di_unrelated": -1.0, "di_censored": 0.1}
    (doubt,) = DatasetInference().warnings(values)
    assert "not credible" in doubt and "framed -22.0" in doubt and "unrelated" not in doubt
    assert DatasetInference().warnings({**values, "di_framed": -2.9}) == ()
    assert DatasetInference().warnings({**values, "di_log10_p": -2.9}) == ()


def test_it_is_bound_to_innocent_models_of_the_task(base):
    bound = DatasetInference().bind(base)
    framed, unrelated = bound.needs(base)
    assert framed.task.source.start == base.task.source.end
    assert (framed.party, unrelated.party, unrelated.task.source.dataset) == (
        "independent",
        "independent",
        "photo-patches",
    )
    assert DatasetInference().needs(compose(base, [])) == (framed, unrelated)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"embedding": "white-box"}, "di.embedding"),
        ({"layout": "official"}, "di.layout"),
        ({"statistic": "t"}, "di.statistic"),
        ({"precision": "half"}, "di.precision"),
        ({"images": 9}, "di.images"),
        ({"walks": 0}, "walks"),
        ({"steps": 0}, "steps"),
        ({"scale": -1.0}, "di.scale"),
        ({"scale": 0.0}, "di.scale"),
        ({"embedding": "mingd", "scale": 4.0}, "di.scale"),
    ],
)
def test_impossible_fingerprints_are_refused(options, named):
    with pytest.raises(UserError, match=named):
        DatasetInference(**options)


def test_a_fingerprint_needs_images(context):
    tiny = recipe("digits", "smoke", examples=15).plan()
    with pytest.raises(UserError, match="too few images for a fingerprint"):
        DatasetInference().measure(context(0).trained(tiny), context(0))


def test_an_innocent_model_needs_images_of_its_own(context):
    """All images are the owner's: the other controls run, and the reader is warned."""
    whole = recipe("digits", "reduced", epochs=1).plan()
    bound = DatasetInference(**SMALL, scale=8).bind(whole)
    assert bound.framed is None and bound.needs(whole) == (bound.unrelated,)
    found = bound.measure(context(0).trained(whole), context(0))
    assert "di_framed" not in found and {"di_unrelated", "di_non_members"} <= found.keys()
    assert any("false accusations" in warning for warning in bound.warnings(found))


def test_a_foreign_network_with_the_victims_plan_is_not_taken_for_it(plan):
    """What is kept of a model is kept under its weights; its plan may be given to any network."""
    kept: dict[object, dict[str, Tensor]] = {}

    def keep(identity, seed, make):
        return kept.setdefault((identity, seed), kept.get((identity, seed)) or make())

    context = context_of(0, 200, keep)
    di = DatasetInference(**SMALL, scale=1.0)
    victim, foreign = (remembering(plan, context, count) for count in (200, 0))
    assert (victim.plan, victim.serving) == (foreign.plan, foreign.serving)
    own, other = (di.verify(model, victim, context)["di_log10_p"] for model in (victim, foreign))
    assert own != other
    assert other == di.verify(foreign, victim, context_of(0, 200))["di_log10_p"]
