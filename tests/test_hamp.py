"""HAMP: labels, losses and answers by known values, and what they keep of a model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from torch.nn import functional

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.hamp import HAMP, EntropyBonus, SoftLabels, top_share
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.examples import Data, Moment
from guardclash.plan.objectives import CrossEntropy
from guardclash.training.train import train

RNG = torch.Generator()


# --- labels -----------------------------------------------------------------------------------------------------------


def soft(top, classes):
    return [top, *[(1 - top) / (classes - 1)] * (classes - 1)]


@pytest.mark.parametrize(
    ("classes", "gamma", "exact", "looped"),
    [
        (2, 0.5, 0.889972, 0.88),
        (2, 0.8, 0.756996, 0.75),
        (2, 0.95, 0.630872, 0.63),
        (10, 0.5, 0.737851, 0.73),
        (10, 0.8, 0.476605, 0.47),
        (10, 0.95, 0.269814, 0.26),
        (43, 0.5, 0.667074, 0.66),
        (43, 0.8, 0.371473, 0.37),
        (43, 0.95, 0.162953, 0.16),
        (100, 0.5, 0.640981, 0.64),
        (100, 0.8, 0.337371, 0.33),
        (100, 0.95, 0.133407, 0.13),
    ],
)
def test_labels_have_the_entropy_that_is_asked_for(classes, gamma, exact, looped):
    """The published loop goes down by 0.01 until the entropy is reached, so it ends up to that below."""
    assert top_share(classes, gamma) == pytest.approx(exact, abs=1e-6)
    steps = (step / 100 for step in range(100, 0, -1))
    assert next(top for top in steps if entropy(soft(top, classes)) >= gamma * math.log(classes)) == looped


@given(st.integers(2, 1000), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_the_root_is_exact(classes, gamma):
    top = top_share(classes, gamma)
    assert 1 / classes <= top <= 1
    assert entropy(soft(top, classes)) == pytest.approx(gamma * math.log(classes), abs=1e-9)


def test_labels_of_either_form_are_softened():
    change, x = SoftLabels(0.8, 3), torch.zeros(2, 1)
    for y in (torch.tensor([0, 2]), torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])):
        found = change(torch.nn.Identity(), Data(x, y), rng=RNG, now=Moment()).y
        assert torch.allclose(found, torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]))


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_softening_is_linear_and_keeps_sums(seed):
    one, other = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def softened(y):
        return SoftLabels(0.6, 5)(torch.nn.Identity(), Data(torch.zeros(4, 1), y), rng=RNG, now=Moment()).y

    assert torch.allclose(softened(one + 2 * other), softened(one) + 2 * softened(other))
    assert torch.allclose(softened(one).sum(1), one.sum(1))


# --- losses -----------------------------------------------------------------------------------------------------------


class Fixed(torch.nn.Module):
    """The same logits for everything."""

    def forward(self, x):
        return torch.tensor([[2.0, 1.0, 0.1]], dtype=torch.float64).expand(len(x), 3)


def test_losses_of_known_logits():
    batch = Data(torch.zeros(1, 1), torch.tensor([[0.8, 0.1, 0.1]], dtype=torch.float64))
    plain = CrossEntropy()(Fixed(), batch, Moment())
    bonus = EntropyBonus(0.01)(Fixed(), batch, Moment())
    assert plain == pytest.approx([0.707030], abs=1e-6)
    assert bonus == pytest.approx([-0.01 * 0.846738], abs=1e-8)
    assert plain + bonus == pytest.approx([0.698563], abs=1e-6)
    # The divergence that is published differs from the cross entropy by the entropy of the label, which trains nothing.
    divergence = functional.kl_div(Fixed()(batch.x).log_softmax(1), batch.y, reduction="sum")
    assert plain - divergence == pytest.approx([entropy([0.8, 0.1, 0.1])], abs=1e-6)


def test_the_bonus_of_a_certain_answer_is_a_number():
    sure = torch.nn.Linear(1, 2)
    torch.nn.init.constant_(sure.weight, 0)
    with torch.no_grad():
        sure.bias.copy_(torch.tensor([1e4, -1e4]))
    assert EntropyBonus(1.0)(sure, Data(torch.zeros(3, 1), torch.zeros(3).long()), Moment()).tolist() == [0, 0, 0]


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(base, context):
    trained = context(0).trained(base)
    x = context(0).data(base.judged_by.test).x
    return trained, x, HAMP().serve(trained.predict, trained, context(0))


def test_rankings_are_kept_and_values_are_those_of_random_inputs(served):
    trained, x, answers = served
    plain, found = trained.predict(x), answers(x)
    assert torch.equal(found.argsort(1), plain.argsort(1)) and found.isfinite().all()
    assert not torch.isclose(found, plain).any(1).all()
    stock = {tuple(row) for row in answers.values.tolist()}
    assert {tuple(row) for row in found.sort(1).values.tolist()} <= stock
    assert len({tuple(row) for row in found.sort(1).values.tolist()}) > len(x) / 2, "not the same for all"


def test_asking_again_in_any_batch_tells_nothing_more(served):
    _, x, answers = served
    whole = answers(x)
    assert torch.equal(answers(x), whole)
    assert torch.equal(answers(x[5:9]), whole[5:9])
    assert torch.equal(answers(x[[7, 3, 7]]), whole[[7, 3, 7]])
    assert torch.equal(answers(torch.where(x == 0, -0.0, x)), whole)
    assert answers(x[:0]).shape == (0, 10)


def test_what_is_handed_out_is_a_secret_of_the_replicate(served, context):
    trained, x, answers = served
    other = HAMP().serve(trained.predict, trained, context(1))
    assert answers.secret != other.secret and len(answers.secret) == 32
    same = replace(other, values=answers.values)
    assert (answers(x) != same(x)).any(1).double().mean() > 0.9, "the query alone does not tell which"
    moved = x.clone()
    moved[:, 0, 0, 0] += 1e-6
    assert (answers(x) != answers(moved)).any(1).double().mean() > 0.9


def test_without_made_up_answers_the_model_speaks_for_itself(served, context):
    trained, *_ = served
    assert HAMP(answers=False).serve(trained.predict, trained, context(0)) is trained.predict
    assert "answers" in HAMP().facts(trained.plan) and "answers" not in HAMP(answers=False).facts(trained.plan)


# --- composing --------------------------------------------------------------------------------------------------------


def test_it_goes_with_privacy_and_with_attacks_on_the_softened_labels(toy, context):
    plan = compose(toy, [DPSGD(), HAMP(), AdversarialTraining(steps=2)])
    assert [type(one).__name__ for one in plan.task.maps] == ["SoftLabels", "Adversarial"]
    assert train(plan, context(0)).network(torch.zeros(1, 1, 8, 8)).isfinite().all()


def test_triggers_are_softened_unless_it_is_for_the_task_alone(base):
    for on, maps in ((None, 1), (("task",), 0)):
        plan = compose(base, [HAMP(on=on), Watermark()])
        assert len(plan.stream("trigger").maps) == maps


def test_no_bonus_is_no_loss(base):
    assert compose(base, [HAMP(alpha=0.0)]).task.objectives == base.task.objectives


@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"gamma": 1.0}, {"alpha": -1.0}, {"alpha": math.inf}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=f"hamp.{next(iter(options))}"):
        HAMP(**options)
