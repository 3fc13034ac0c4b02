"""Negative label smoothing: labels, loss and schedule by hand, and what stacks with it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.negls import NegativeLabelSmoothing
from guardclash.numerics.attacks import PGD
from guardclash.plan.adversarial import Adversarial, cross_entropies
from guardclash.plan.examples import Data, Moment
from guardclash.plan.maps import SmoothedLabels, smoothed
from guardclash.plan.objectives import CrossEntropy
from guardclash.training.released import Chance, released_gradient
from guardclash.training.train import build_network, train

LOGITS = torch.tensor([[2.0, 1.0, 0.1]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("alpha", "loss"), [(-0.5, -0.066303), (-0.1, 0.320363), (-0.05, 0.368697), (0.0, 0.417030), (0.1, 0.513697)]
)
def test_the_loss_of_a_smoothed_label(alpha, loss):
    y = smoothed(torch.tensor([0]), alpha, 3).double()
    assert functional.cross_entropy(LOGITS, y).item() == pytest.approx(loss, abs=1e-6)


def test_labels_and_gradient_of_the_default():
    y = smoothed(torch.tensor([0]), -0.05, 3)
    assert y[0].tolist() == pytest.approx([1.033333, -0.016667, -0.016667], abs=1e-6)
    logits = LOGITS.clone().requires_grad_()
    functional.cross_entropy(logits, y.double()).backward()
    assert logits.grad[0].tolist() == pytest.approx([-0.374332, 0.259100, 0.115233], abs=1e-6)


@given(
    st.lists(st.floats(-0.5, 0.9), min_size=2, max_size=3),
    st.lists(st.lists(st.floats(-1, 2), min_size=4, max_size=4), min_size=1, max_size=5),
)
def test_it_is_linear_keeps_sums_and_knows_no_order(alphas, labels):
    y = torch.tensor(labels, dtype=torch.float64)
    orders = list(itertools.permutations(alphas))
    found = []
    for order in orders:
        point = y
        for alpha in order:
            point = smoothed(point, alpha, 4)
        found.append(point)
    assert all(torch.allclose(one, found[0], atol=1e-9) for one in found)
    assert torch.allclose(found[0].sum(1), y.sum(1), atol=1e-9)
    assert torch.allclose(smoothed(2 * y, alphas[0], 4), 2 * smoothed(y, alphas[0], 4), atol=1e-9)


def test_vectors_and_indices_are_alike():
    y = torch.tensor([2, 0, 1])
    assert torch.equal(smoothed(y, -0.05, 3), smoothed(torch.eye(3)[y], -0.05, 3))


def test_the_ramp_is_the_published_one():
    """0 until epoch 50 of 100, then a fiftieth more in each, the whole from epoch 75 on."""
    labels = SmoothedLabels(-0.05, 10, 0.5)
    for epoch in range(100):
        wanted = 0.0 if epoch < 50 else -0.05 * (epoch - 50) / 50 if epoch < 75 else -0.05
        assert labels.at(epoch / 100) == pytest.approx(wanted)
    at_once = replace(labels, ramp=False)
    assert [at_once.at(share) for share in (0.0, 0.49, 0.5, 0.99)] == [0.0, 0.0, -0.05, -0.05]
    assert replace(at_once, from_share=0.0).at(0.0) == -0.05


def test_before_it_begins_the_training_is_the_unprotected_one(toy, context):
    late = compose(toy, [NegativeLabelSmoothing(from_share=0.75)])
    soon = compose(toy, [NegativeLabelSmoothing(from_share=0.0, ramp=False)])
    plain, same, other = (train(plan, context(0)).network.state_dict() for plan in (toy, late, soon))
    assert all(torch.equal(plain[name], same[name]) for name in plain)
    assert any(not torch.equal(plain[name], other[name]) for name in plain)


def test_weights_and_what_else_is_known_stay():
    batch = Data(torch.rand(2, 1, 8, 8), torch.tensor([1, 2]), {"weight": torch.tensor([2.0, 1.0])})
    found = SmoothedLabels(-0.05, 10)(nn.Identity(), batch, torch.Generator(), Moment(share=0.9))
    assert found.about is batch.about and torch.equal(found.x, batch.x)
    y = smoothed(torch.tensor([0]), 0.0, 3).double()
    assert functional.cross_entropy(LOGITS, 2 * y).item() == pytest.approx(0.834060, abs=1e-6)


# With others


def test_the_attack_of_adversarial_training_is_on_its_loss(toy, context):
    """Labels with entries below 0 are vectors like any other; a sure network still has a gradient."""
    plan = compose(toy, [AdversarialTraining(steps=2), NegativeLabelSmoothing(from_share=0.0, ramp=False)])
    assert [type(one) for one in plan.task.maps] == [SmoothedLabels, Adversarial], "whatever the order"
    network = build_network(plan, context(0)).eval()
    x, labels = context(0).examples("digits", "train").take(slice(6))
    y, point = smoothed(labels, -0.05, 10), x.clone().requires_grad_()
    (found,) = torch.autograd.grad(cross_entropies(network, point, y).sum(), point)
    logs = network(point).log_softmax(1)
    wanted = 1.05 * logs[torch.arange(6), labels] - 0.05 * logs.mean(1)
    assert torch.allclose(found, torch.autograd.grad(-wanted.sum(), point)[0], atol=1e-6)
    moved = Adversarial(PGD(0.2, 0.1, 4))(network, Data(x, y), torch.Generator().manual_seed(0), Moment())
    assert torch.equal(moved.y, y)
    assert (cross_entropies(network, moved.x, y) > cross_entropies(network, x, y)).all()


def test_under_dpsgd_each_examples_gradient_is_that_of_its_own_label(toy, context):
    plan = compose(toy, [NegativeLabelSmoothing(from_share=0.0, ramp=False), DPSGD()])
    quiet = replace(plan.task, gradient=replace(plan.task.gradient, noise_multiplier=0.0))
    plan = replace(plan, streams=(quiet,))
    network = build_network(plan, context(0))
    batch = context(0).examples("digits", "train").take(slice(5))
    chance = Chance(torch.Generator(), torch.Generator())
    found = released_gradient(plan, network, quiet, batch, chance).gradient
    total = {name: torch.zeros_like(value) for name, value in found.items()}
    for place in range(5):
        one = replace(batch.take(slice(place, place + 1)), y=smoothed(batch.y[place : place + 1], -0.05, 10))
        loss = CrossEntropy()(network, one, Moment()).sum()
        parameters = [dict(network.named_parameters())[name] for name in total]
        parts = dict(zip(total, torch.autograd.grad(loss, parameters), strict=True))
        norm = torch.stack([part.square().sum() for part in parts.values()]).sum().sqrt()
        for name, part in parts.items():
            total[name] += part * (1 / norm).clamp(max=1)
    size = quiet.gradient.expected_batch_size
    assert all(torch.allclose(found[name], total[name] / size, atol=1e-5) for name in found)


def test_options_and_tasks():
    with pytest.raises(UserError, match=r"negls\.alpha"):
        NegativeLabelSmoothing(alpha=1.0)
    with pytest.raises(UserError, match=r"negls\.from_share"):
        NegativeLabelSmoothing(from_share=1.0)
    with pytest.raises(UserError, match="attack"):
        NegativeLabelSmoothing(attack="loud")


def test_examples_of_several_labels_are_a_clash(toy):
    several = replace(toy, purpose=replace(toy.purpose, several_labels=True))
    with pytest.raises(Clash, match="several labels"):
        compose(several, [NegativeLabelSmoothing()])


def test_facts_say_what_labels_become(base):
    assert NegativeLabelSmoothing().facts(base) == {
        "labels": "1.045 for the class, -0.005 for each other, from 50% of the training on, by degrees"
    }


def test_the_published_reading_is_judged_where_it_is_asked_for(base):
    first, second = NegativeLabelSmoothing(attack="cross_entropy").bind(base).measures()
    assert [one.name for one in first.metrics if one.criterion] == ["inv_published"]
    assert first.unprotected == base and second.name == "gradient-inversion"
    assert len(NegativeLabelSmoothing(gradient_images=0).measures()) == 1
