"""MAD and the reverse sigmoid: answers by hand, what stays, and what a thief loses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.errors import UserError
from guardclash.mechanisms.mad import MAD
from guardclash.mechanisms.reverse_sigmoid import ReverseSigmoid
from guardclash.numerics.poisoned_answers import (
    deviation,
    keeping_top,
    last_layer,
    misleading,
    reverse_sigmoid,
    vertices,
    worst,
)
from guardclash.plan.deployed import Deployed
from guardclash.tasks.recipe import recipe

GRADIENTS = torch.tensor([[1, 0, 0, 0.5], [0, 1, 0, -0.5], [-0.5, 0.2, 1, 0]], dtype=torch.float64)[None]
ANSWER = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)


def answers(rng: torch.Generator, count: int, classes: int) -> torch.Tensor:
    return torch.randn(count, classes, generator=rng, dtype=torch.float64).mul(3).softmax(1)


# MAD


def test_deviations_of_vertices_are_those_by_hand():
    top = ANSWER.argmax(1)
    certain = deviation(GRADIENTS, vertices(top, 3, False), ANSWER)
    assert certain[0].tolist() == pytest.approx([0.11931148, 1.769464, 2.4323684], abs=1e-6)
    sets = deviation(GRADIENTS, vertices(top, 3, True), ANSWER)
    assert sets[0].tolist() == pytest.approx([0.11931148, 0.70133761, 0.33093045, 0.8602404], abs=1e-4)


@pytest.mark.parametrize(
    ("budget", "told", "score"),
    [
        (0.1, (0.661111, 0.188889, 0.15), 0.0080971),
        (0.5, (0.505556, 0.144444, 0.35), 0.33354529),
        (1.0, (0.311111, 0.088889, 0.6), 1.4071408),
    ],
)
def test_answers_go_as_far_as_the_budget(budget, told, score):
    found = misleading(GRADIENTS, ANSWER, budget, 1, keep=False)
    assert found[0].tolist() == pytest.approx(told, abs=1e-5)
    assert deviation(GRADIENTS, found[:, None], ANSWER).item() == pytest.approx(score, abs=1e-5)
    assert (found.argmax(1) == 2).item() == (budget == 1.0)


def test_features_of_the_last_layer_cancel():
    """Against autograd: the gradient of a linear layer for every class."""
    rng = torch.Generator().manual_seed(0)
    features, weight = torch.randn(6, 5, generator=rng).double(), torch.randn(4, 5, generator=rng).double()
    true, told = answers(rng, 6, 4), answers(rng, 6, 4)
    shortcut = deviation(last_layer((features @ weight.T).softmax(1)), told[:, None], true)[:, 0]
    for place in range(6):
        own = weight.clone().requires_grad_()
        logs = (features[place] @ own.T).log_softmax(0)
        by_class = torch.stack([torch.autograd.grad(-logs[k], own, retain_graph=True)[0].flatten() for k in range(4)])
        whole = deviation(by_class[None], told[place][None, None], true[place][None])
        assert shortcut[place].item() == pytest.approx(whole.item(), abs=1e-9)


@given(st.integers(0, 2**32), st.integers(2, 6), st.floats(0.01, 2.5), st.sampled_from([1, 2]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_answers_stay_probabilities_within_the_budget(seed, classes, budget, norm, keep):
    rng = torch.Generator().manual_seed(seed)
    true, guess = answers(rng, 5, classes), answers(rng, 5, classes)
    found = misleading(last_layer(guess), true, budget, norm, keep)
    assert torch.allclose(found.sum(1), torch.ones(5).double()) and (found >= -1e-12).all()
    assert ((found - true).norm(p=norm, dim=1) <= budget + 1e-6).all()
    if keep:
        assert torch.equal(found.argmax(1), true.argmax(1))
    assert (deviation(last_layer(guess), found[:, None], true) >= -1e-9).all()


@given(st.integers(0, 2**32), st.integers(11, 14))
@settings(max_examples=20, deadline=None)
def test_of_many_classes_sets_grow_and_keep_the_top_class(seed, classes):
    rng = torch.Generator().manual_seed(seed)
    true, guess = answers(rng, 4, classes), answers(rng, 4, classes)
    found = worst(last_layer(guess), true, keep=True)
    assert torch.equal(found.argmax(1), true.argmax(1))
    alone = torch.nn.functional.one_hot(true.argmax(1), classes).double()
    score = [deviation(last_layer(guess), one[:, None], true) for one in (found, alone)]
    assert (score[0] >= score[1] - 1e-6).all(), "no worse than the top class alone"


# The reverse sigmoid

ART_ANSWER = (
    *(0.12109935, 0.0498215, 0.0993958, 0.06410096, 0.11366928),
    *(0.04645343, 0.06419807, 0.30685693, 0.07616714, 0.05823757),
)
ART_TOLD = (
    *(0.10733664, 0.07743666, 0.09712707, 0.08230411, 0.10377649),
    *(0.0764482, 0.08234023, 0.20600921, 0.08703023, 0.08019119),
)
"""Of ART's own test, in single precision."""


@pytest.mark.parametrize(
    ("answer", "magnitude", "slope", "told"),
    [
        ((0.7, 0.2, 0.1), 1.0, 0.1, (0.63552381, 0.21963538, 0.14484081)),
        ((0.7, 0.2, 0.1), 0.7, 0.2, (0.61263418, 0.22681919, 0.16054663)),
        ((0.7, 0.2, 0.1), 0.5, 0.5, (0.56032435, 0.24506512, 0.19461053)),
        (ART_ANSWER, 1.0, 0.1, ART_TOLD),
    ],
)
def test_bent_answers_are_those_of_the_published_code(answer, magnitude, slope, told):
    found = reverse_sigmoid(torch.tensor([answer], dtype=torch.float64), magnitude, slope)
    assert found[0].tolist() == pytest.approx(told, abs=2e-7)


def test_the_least_likely_class_may_come_out_first_unless_it_is_put_back():
    answer = torch.tensor([(0.2, *(0.1,) * 7, 0.0999999999, 1e-10)], dtype=torch.float64)
    found = reverse_sigmoid(answer, 0.7, 0.2)
    assert found.argmax(1).item() == 9 and found[0, 9].item() == pytest.approx(0.17015192, abs=1e-7)
    kept = keeping_top(found, answer)
    assert kept.argmax(1).item() == 0 and torch.equal(kept.sort(1).values, found.sort(1).values)


# What a thief loses


@pytest.mark.parametrize("own", [MAD(budget=2.0, keep=False), MAD(), ReverseSigmoid(keep=False), ReverseSigmoid()])
def test_a_thief_is_measured_beside_one_of_the_open_model(own, context):
    plan = recipe("digits", "smoke", examples=500, epochs=6).plan()
    bound = own.bind(plan)
    (measure,) = bound.measures()
    served = Deployed(plan, (bound,)).load(context(0))
    found = measure.measure(served, context(0))
    assert found.keys() == {metric.name for metric in own.metrics}
    assert found["answer_distance"] > 0
    if own.keep:
        assert found["answer_flipped"] == 0 and found["stolen_labels"] == 0, "who takes classes loses nothing"
    if own == MAD(budget=2.0, keep=False):
        assert found["stolen_loss"] > 0.3 and found["answer_flipped"] > 0.3, found
        assert any("name another class" in one for one in measure.warnings(found))
    bare = measure.measure(context(0).trained(plan), context(0))
    assert bare["stolen_loss"] == bare["stolen_labels"] == bare["answer_distance"] == 0


def test_answers_are_the_same_in_whatever_batch(context):
    plan = recipe("digits", "smoke").plan()
    x = context(0).data(plan.judged_by.test).x[:20]
    for own in (MAD().bind(plan), ReverseSigmoid().bind(plan)):
        served = Deployed(plan, (own,)).load(context(0)).predict
        assert torch.allclose(served(x), torch.cat([served(one) for one in x.split(7)]), atol=1e-5)
        assert served(x[:0]).shape == (0, 10)


def test_worthless_probabilities_are_told():
    (measure,) = MAD().measures()
    (warning,) = measure.warnings({"stolen_loss": 0.4, "stolen_labels": 0.01})
    assert "probabilities became worthless, not the model" in warning


@pytest.mark.parametrize(
    ("cls", "options"), [(MAD, {"budget": 0.0}), (MAD, {"norm": "l0"}), (ReverseSigmoid, {"slope": 0.0})]
)
def test_impossible_options_are_refused(cls, options):
    with pytest.raises(UserError, match=f"{cls.name}\\."):
        cls(**options)
