"""DUCI: which share of the owner's examples a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.errors import UserError
from guardclash.mechanisms.duci import DUCI
from guardclash.numerics.membership import rmia, rmia_offline
from guardclash.numerics.usage import Asked, Margins, Rates, Reference, share_of, used
from guardclash.plan.condition import Condition
from guardclash.plan.deployed import Deployed
from guardclash.plan.examples import Data
from guardclash.plan.partly import Partly
from guardclash.plan.sources import Split
from guardclash.reporting.findings import find
from guardclash.studies.engines import Inline
from guardclash.studies.run import run_study
from guardclash.suspects.independent import Independent
from guardclash.suspects.retraining import Retraining
from guardclash.tasks.recipe import recipe
from running import site, study

__all__ = ["site"]


def logit(p):
    values = np.asarray(p, float)
    return np.log(values / (1 - values))


# The numbers


@pytest.mark.parametrize(
    ("a", "ratios", "scores"),
    [
        (0.0, [1.125, 0.307692, 0.823529], [1, 0.25, 0.75]),
        (0.3, [1.216216, 0.366972, 0.869565], [1, 0.25, 0.5]),
        (1.0, [1.5, 0.666667, 1.0], [1, 0.25, 0.5]),
    ],
)
def test_scores_are_those_by_hand(a, ratios, scores):
    x = rmia_offline(logit([0.9, 0.2, 0.7]), logit([[0.6, 0.3, 0.7]]), a)
    z = rmia_offline(logit([0.8, 0.5, 0.1, 0.6]), logit([[0.7, 0.6, 0.2, 0.5]]), a)
    assert np.exp(x) == pytest.approx(ratios, abs=1e-6)
    assert rmia(x, z).tolist() == scores


@pytest.mark.parametrize(
    ("guessed", "right", "wrong", "share"),
    [(0.3, 0.3, 0.1, 1.0), (0.2, 0.3, 0.1, 0.5), (0.1, 0.3, 0.1, 0.0), (0.55, 0.6, 0.4, 0.75)],
)
def test_a_share_is_what_the_rates_make_of_the_guesses(guessed, right, wrong, share):
    assert share_of(guessed, Rates(right, wrong)) == pytest.approx(share)


def drawn(rng, known, strength, seen_z=1000):
    """A model's answers: those of innocent ones and some noise, higher where it has seen the example."""
    hardness, z = rng.normal(2, 1.5, len(known)), rng.normal(2, 1.5, seen_z)
    innocent = Margins(*(base + rng.normal(0, 0.3, (2, len(base))) for base in (hardness, z)))
    model = Margins(hardness + strength * known + rng.normal(0, 0.5, len(known)), z + rng.normal(0, 0.5, seen_z))
    return Asked(model, innocent)


def members(rng, size, share):
    return rng.permutation(size) < round(share * size)


@given(st.integers(0, 2**32), st.floats(0, 1), st.sampled_from([0.8, 1.5, 3.0]))
@settings(max_examples=15, deadline=None)
def test_the_interval_holds_the_share(seed, share, strength):
    rng = np.random.default_rng(seed)
    half = [members(rng, 1500, 0.5) for _ in range(2)]
    references = [Reference(drawn(rng, known, strength), known) for known in half]
    found = used(drawn(rng, members(rng, 1500, share), strength), references, rng)
    assert found.share is not None and 0 <= found.low <= found.high <= 1
    # Wider than it is by a fifth of the scale: 95 % of the intervals hold the share, and all of them come near.
    assert found.low - 0.2 <= share <= found.high + 0.2
    assert abs(found.share - share) < 0.35


def test_intervals_hold_the_share_as_often_as_they_say():
    hits = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        half = [members(rng, 1000, 0.5) for _ in range(2)]
        references = [Reference(drawn(rng, known, 1.5), known) for known in half]
        share = rng.uniform(0.1, 0.9)
        found = used(drawn(rng, members(rng, 1000, share), 1.5), references, rng)
        hits.append(found.low <= share <= found.high)
    assert np.mean(hits) >= 0.85


def test_where_members_look_like_others_nothing_is_inferred():
    rng = np.random.default_rng(0)
    known = members(rng, 5000, 0.5)
    found = used(drawn(rng, known, 0.0), [Reference(drawn(rng, known, 0.0), known)], rng)
    assert (found.share, found.low, found.high) == (None, 0.0, 1.0) and found.gap < 0.05


# What models of known share are trained on


def test_a_part_is_stolen_and_the_rest_is_others(context):
    base = recipe("digits", "smoke", examples=200).plan()
    source = Retraining(share=0.25).plan(Deployed(base), base).task.source
    assert source == Partly(base.task.source, Split("digits", "train", 200, start=200), 0.25)
    own, found = context(0).data(base.task.source), context(0).data(source)
    mask = source.chosen(context(0))
    assert found.x.shape == own.x.shape and mask.sum() == 50
    assert torch.equal(found.x[:50], own.x[mask]) and torch.equal(found.y[:50], own.y[mask])
    assert torch.equal(found.x[50:], context(0).data(source.others).x[:150])
    assert not torch.equal(mask, source.chosen(context(1))), "another seed has another part"
    assert Retraining(share=1.0).plan(Deployed(base), base) == Retraining().plan(Deployed(base), base)


def test_what_is_known_of_one_part_only_is_left_out_and_a_weight_is_1():
    @dataclass(frozen=True)
    class Known:
        about: tuple[str, ...]
        size: int = 4

        def load(self, context):
            return Data(torch.zeros(4, 2), torch.zeros(4), {name: torch.full((4,), 3.0) for name in self.about})

    class Here:
        seed = 0

        def rng(self, *purpose):
            return torch.Generator().manual_seed(0)

        def data(self, source):
            return source.load(self)

    found = Partly(Known(("weight", "group", "poisoned")), Known(("group",)), 0.5).load(Here())
    assert {name: values.tolist() for name, values in found.about.items()} == {
        "weight": [3, 3, 1, 1],
        "group": [3, 3, 3, 3],
    }


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 1.1}, {"share": 0.5, "more": True}])
def test_impossible_shares_are_refused(options):
    with pytest.raises(UserError, match=r"retraining\.share"):
        Retraining(**options)


@pytest.mark.parametrize("options", [{"references": 0}, {"images": 5}, {"population": 1.5}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"duci\."):
        DUCI(**options)


def test_too_few_images_for_innocent_models_are_told():
    with pytest.raises(UserError, match="too few train images of"):
        DUCI().bind(recipe("digits", "smoke", examples=1100).plan())


# Models


@dataclass(frozen=True)
class Memorised(Condition):
    """Random labels: what a model knows of them it has by heart."""

    name: ClassVar[str] = "memorised"

    def train(self, data, context):
        rng = torch.Generator().manual_seed(int(data.x.sum()))
        return replace(data, y=torch.randint(10, (len(data.y),), generator=rng))


@pytest.fixture(scope="module")
def memorising():
    return recipe("digits", "smoke", examples=300, epochs=40, conditions=(Memorised(),)).plan()


def test_shares_of_models_that_know_their_examples_by_heart(memorising, context):
    own, here = DUCI(population=200).bind(memorising), context(0)
    victim = here.trained(memorising)
    itself = own.measure(victim, here)
    assert itself["duci_low"] > 0.8 and itself["duci_gap"] > 0.5, itself
    assert itself["duci_framed"] < 0.1 and itself["duci_non_members"] < 0.3
    assert itself["duci_half_low"] <= 0.5 <= itself["duci_half_high"]
    assert own.warnings(itself) == ()
    shares = {}
    for share in (0.2, 0.8):
        thief = here.trained(Retraining(share=share).plan(Deployed(memorising), memorising))
        shares[share] = own.verify(thief, victim, here)["duci_share"]
    assert shares == {share: pytest.approx(share, abs=0.15) for share in shares}
    innocent = Independent().plan(Deployed(memorising), memorising)
    assert own.verify(here.trained(replace(innocent, party="another")), victim, here)["duci_low"] < 0.1


def test_reference_models_are_those_of_other_replicates_and_shared(memorising):
    own = DUCI().bind(memorising)
    needed = own.needs(memorising)
    assert len(needed) == 6 and own.bind(memorising) == own
    assert {one.plan for one in needed[2:]} == {own.framed, own.half}
    assert own.framed == Independent().plan(Deployed(memorising), memorising)


def test_a_model_of_other_classes_is_left_out(memorising, context):
    own, here = DUCI(population=200).bind(memorising), context(0)
    fewer = replace(here.trained(memorising), predict=lambda x: torch.zeros(len(x), 2))
    assert own.verify(fewer, here.trained(memorising), here) == {}
    assert own.warnings({})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"duci_low": 0.9, "duci_framed": 0.6}, ["not credible"]),
        ({"duci_low": 0.9, "duci_non_members": 0.6}, ["not credible"]),
        ({"duci_low": 0.9, "duci_half_low": 0.6}, ["not calibrated"]),
        ({"duci_low": 0.0, "duci_gap": 0.02}, ["nothing can be inferred"]),
        ({"duci_low": 0.9}, []),
    ],
)
def test_what_is_warned_of(values, told):
    usual = {"duci_framed": 0.0, "duci_non_members": 0.0, "duci_half_low": 0.4, "duci_half_high": 0.7, "duci_gap": 0.2}
    found = DUCI().warnings({**usual, **values})
    assert len(found) == len(told) and all(part in line for part, line in zip(told, found, strict=True))


def test_a_study_judges_it_and_tells_suspects_apart(site):
    suspects = [{"kind": "retraining"}, {"kind": "independent"}]
    wanted = study(
        [{"name": "duci", "population": 100}],
        recipe={"examples": 300, "epochs": 20},
        suspects=suspects,
    )
    results = run_study(wanted, site, Inline())
    told = {one.suspect: one for one in find(wanted, results).claims if one.mechanism == "duci"}
    assert set(told) == {"itself", "retraining", "independent"}
    assert told["independent"].outcome == "cleared"
