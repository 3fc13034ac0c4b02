"""DAWN: what the key chooses, what the answers become, and who repeats them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.dawn import DAWN, MarkedAnswers
from guardclash.numerics.keyed import is_chosen, keyed_hashes, other_class, plain_bytes
from guardclash.numerics.verification import log10_verification_p
from guardclash.plan.deployed import Deployed
from guardclash.reporting.findings import find
from guardclash.studies.engines import Inline
from guardclash.studies.run import run_study
from guardclash.studies.verdicts import verdicts
from guardclash.tasks.recipe import recipe
from running import site, study

KEY = bytes(range(32))
__all__ = ["site"]


# What the key chooses


@pytest.mark.parametrize(
    ("query", "start", "share", "label"),
    [
        (bytes(784), "236961bc5be8542bf103a5941ca7fc2b", 0.1383267484, 1),
        (bytes(i % 256 for i in range(784)), "3f698f8031a6d4463ff52e1f1d765acf", 0.2477044762, 5),
    ],
)
def test_hashes_and_labels_are_those_of_the_published_scheme(query, start, share, label):
    (digest,) = keyed_hashes(iter([query]), KEY)
    assert digest[:16].hex() == start
    assert is_chosen(digest, share + 1e-9) and not is_chosen(digest, share - 1e-9)
    assert other_class(digest, 7, 10) == label


def test_as_many_are_chosen_as_asked_and_wrong_classes_are_alike_often():
    digests = keyed_hashes((number.to_bytes(784, "big") for number in range(20_000)), KEY)
    chosen = [number for number, digest in enumerate(digests) if is_chosen(digest, 0.005)]
    assert len(chosen) == 87 and chosen[:5] == [76, 102, 201, 214, 427]
    counts = torch.bincount(torch.tensor([other_class(digest, 0, 10) for digest in digests]))
    assert counts.tolist() == [0, 2185, 2227, 2222, 2234, 2198, 2264, 2223, 2245, 2202]


@pytest.mark.parametrize(
    ("marks", "errors", "log10"),
    [(50, 25, -11.993541), (50, 40, -1.610162), (100, 70, -7.611701), (100, 80, -2.703651), (100, 85, -1.139225)],
)
def test_a_claim_is_as_sure_as_by_hand(marks, errors, log10):
    assert log10_verification_p(errors, marks, 10) == pytest.approx(log10, abs=1e-6)


def test_two_representations_of_an_image_are_one_query():
    x = torch.randint(256, (5, 1, 4, 4), generator=torch.Generator().manual_seed(0)).float() / 255
    assert list(plain_bytes(x, True)) == list(plain_bytes((x.double() + 1e-4).float(), True))
    assert list(plain_bytes(x, False)) != list(plain_bytes(x + 1e-4, False))
    assert list(plain_bytes(torch.zeros(1, 2), False)) == list(plain_bytes(-torch.zeros(1, 2), False))


# What the answers become


def marked(rate: float, classes: int = 4) -> tuple[MarkedAnswers, Any]:
    weight = torch.randn(6, classes, generator=torch.Generator().manual_seed(1))

    def predict(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight

    return MarkedAnswers(predict, lambda x: keyed_hashes(plain_bytes(x, False), KEY), rate), predict


@given(st.integers(0, 2**32), st.sampled_from([0.01, 0.3, 0.9]), st.integers(2, 6), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_answers_are_the_same_in_whatever_batch_and_wrong_exactly_where_marked(seed, rate, classes, count):
    x = torch.randn(count, 1, 2, 3, generator=torch.Generator().manual_seed(seed))
    answering, predict = marked(rate, classes)
    whole = answering(x)
    assert torch.equal(whole, torch.cat([answering(one) for one in x.split(1)]) if count else whole)
    assert torch.equal(answering(x.flip(0)).flip(0), whole)
    places, _ = answering.chosen(x)
    wrong = whole.argmax(1) != predict(x).argmax(1)
    assert wrong.nonzero().flatten().tolist() == places.tolist()
    assert torch.equal(whole.sort(1).values, predict(x).sort(1).values), "confidence betrays no mark"


def test_another_seed_has_another_key(context):
    plan = recipe("digits", "smoke").plan()
    trained = context(0).trained(plan)
    x = context(0).data(plan.judged_by.test).x
    one, again, other = (
        DAWN(rate=0.2).serve(trained.predict, trained, context(seed))(x).argmax(1) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("mapping", ["pixels", "latent"])
def test_a_share_of_the_answers_is_wrong(context, mapping):
    plan = recipe("digits", "smoke").plan()
    trained = context(0).trained(plan)
    x = context(0).data(plan.judged_by.test).x
    served = DAWN(rate=0.2, mapping=mapping).serve(trained.predict, trained, context(0))(x).argmax(1)
    share = (served != trained.predict(x).argmax(1)).double().mean().item()
    assert share == pytest.approx(0.2, abs=0.08)


def test_a_latent_key_does_not_mind_what_the_features_do_not_mind(context):
    plan = recipe("digits", "smoke").plan()
    trained = context(0).trained(plan)
    x = context(0).data(plan.judged_by.test).x
    moved = (x + 2e-3).clamp(0, 1)
    same = {}
    for mapping in ("pixels", "latent"):
        marking = DAWN(rate=0.5, mapping=mapping)._marking(trained.predict, trained, context(0))
        pairs = zip(marking.hashes(x), marking.hashes(moved), strict=True)
        same[mapping] = sum(one == other for one, other in pairs) / len(x)
    assert same["latent"] > same["pixels"] + 0.2


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": 1.0}, {"mapping": "pixel"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"dawn\."):
        DAWN(**options)


# Who repeats them


def test_a_thief_of_the_marked_model_repeats_marks_and_nobody_else_does(context):
    """Also that of {wm, dawn}; an independent model, and a thief of the same model without the mechanism, do not."""
    plan = recipe("digits", "smoke", examples=600, epochs=20).plan()
    own = DAWN(rate=0.1).bind(plan)
    (measure,) = own.measures()
    victim = context(0).trained(plan)
    served = Deployed(plan, (own,)).load(context(0))
    found = measure.measure(served, context(0))
    assert found["dawn_repeated"] > 0.4 and found["dawn_log10_p"] < -6, found
    assert 40 <= found["dawn_marks"] <= 80 and found["dawn_thief"] > 0.7
    bare = measure.measure(victim, context(0))
    assert bare["dawn_marks"] == found["dawn_marks"] and bare["dawn_repeated"] < 0.1 < bare["dawn_log10_p"] + 1
    assert measure.needs_deployed(served.deployed) != measure.needs_deployed(victim.deployed)
    independent = context(0).trained(replace(plan, party="independent"))
    assert own.verify(independent, served, context(0))["dawn_repeated"] < 0.1


def test_a_study_judges_it_and_suspects_are_tested_for_what_they_asked(site):
    wanted = study(
        [{"name": "dawn", "rate": 0.1}, {"name": "wm", "triggers": 20, "batch_size": 10}],
        seeds=2,
        recipe={"examples": 600, "epochs": 15},
        suspects=[{"kind": "extraction"}, {"kind": "independent"}],
    )
    results = run_study(wanted, site, Inline())
    (verdict,) = verdicts(wanted, results)
    assert {"φ_DAWN", "φ_WM", "φ_ACC"} <= {one.symbol for one in verdict.judgements}
    told = {one.suspect: one.outcome for one in find(wanted, results).claims if one.mechanism == "dawn"}
    assert told == {"its thief": "detected", "extraction": "detected", "independent": "cleared"}


def test_it_stands_beside_what_trains(context):
    plan = recipe("digits", "smoke").plan()
    alone = compose(plan, (DAWN(),))
    assert alone == plan, "nothing is done to the training"
