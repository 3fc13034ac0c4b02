"""Vectors of any size are brought to their directions; those of ordinary size exactly as ever."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from guardclash.measures.robustness import Robustness
from guardclash.numerics.attacks import PGD
from guardclash.numerics.clipping import clipped_sum
from guardclash.numerics.lengths import directions, lengths, tamed
from guardclash.numerics.walks import MinGD
from guardclash.plan.adversarial import SATURATED, cross_entropies
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train
from guardclash.training.trained import Trained, predictor


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(vectors: torch.Tensor) -> torch.Tensor:
    return vectors.flatten(1).norm(dim=1).view(-1, *(1,) * (vectors.dim() - 1))


exponents = st.lists(st.integers(-44, 37), min_size=1, max_size=5)


@given(exponents, st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_lengths_and_directions_are_those_of_float64_whatever_the_size(powers, seed):
    exact = torch.randn(len(powers), 2, 3, 3, generator=rng(seed), dtype=torch.float64)
    vectors = (exact * 10.0 ** torch.tensor(powers, dtype=torch.float64).view(-1, 1, 1, 1)).float()
    precise = vectors.double()
    assert torch.allclose(lengths(vectors).double(), plain(precise), rtol=1e-4, atol=1e-44)
    known = (precise.abs() > 1e-37).flatten(1).any(1)  # below, float32 has few digits left, but still these directions
    assert torch.allclose(directions(vectors)[known].double(), (precise / plain(precise))[known], rtol=0, atol=1e-5)
    there = precise.flatten(1).any(1)
    assert torch.allclose(plain(directions(vectors))[there], torch.ones(()), rtol=0, atol=1e-5)


@given(st.integers(0, 99), st.integers(-11, 15))
@settings(deadline=None, max_examples=40)
def test_ordinary_vectors_are_treated_as_ever_to_the_last_bit(seed, power):
    vectors = torch.randn(4, 1, 6, 6, generator=rng(seed)) * 10.0**power
    assert torch.equal(lengths(vectors), plain(vectors))
    assert tamed(vectors) is vectors
    assert torch.equal(directions(vectors), vectors / plain(vectors).clamp(min=1e-12))
    beside = torch.cat([vectors, vectors[:1] * 1e-35])  # a tiny one in the batch changes no other
    assert torch.equal(directions(beside)[:4], directions(vectors))
    assert torch.equal(lengths(beside)[:4], lengths(vectors))


def test_nothing_stays_nothing_what_is_infinite_counts_as_the_largest_and_nan_is_not_hidden():
    odd = torch.tensor([[0.0, 0.0], [math.inf, 0.0], [-math.inf, math.inf], [math.nan, 1.0]])
    found = directions(odd)
    assert found[0].tolist() == [0, 0]
    assert found[1].tolist() == [1, 0]
    assert found[2].tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)])
    assert found[3].isnan().all()
    assert lengths(torch.zeros(0, 3)).shape == (0, 1)


# --- attacks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [-42, -30, -13, 0, 25, 37])
def test_a_linear_loss_is_followed_however_steep_or_flat_it_is(power):
    x = torch.rand(3, 1, 4, 4, generator=rng())
    weights = torch.randn(1, 4, 4, generator=rng(1)).clamp(-1, 1)
    weights[0, 0] = 1.0

    def moved(factor: float) -> torch.Tensor:
        ball = PGD(0.5, 0.1, 10, "l2", random_start=False, clamp=False)
        return ball(lambda images: (images * (weights * factor)).flatten(1).sum(1), x, rng()) - x

    assert torch.allclose(moved(10.0**power), moved(1.0), rtol=0, atol=1e-2 if power < -40 else 1e-5)
    assert torch.allclose(plain(moved(10.0**power)), torch.tensor(0.5), rtol=1e-4)


@pytest.mark.parametrize("radius", [1e-25, 1e-15, 1e15, 1e25])
def test_balls_of_any_radius_are_kept_to(radius):
    x = torch.zeros(50, 3)
    start = PGD(radius, radius / 10, 3, "l2", clamp=False).start(x, rng())
    assert (lengths(start) <= radius * (1 + 1e-5)).all()
    assert lengths(start).max() > radius / 2
    far = PGD(radius, radius / 3, 10, "l2", random_start=False, clamp=False)(lambda point: point.sum(1), x, rng())
    assert torch.allclose(lengths(far), torch.tensor(radius), rtol=1e-4, atol=0)


@pytest.mark.parametrize("power", [-8, 0, 30])  # a gradient below 1e-12 is rounding
def test_a_descent_goes_as_far_whatever_the_scale_of_the_logits(power):
    torch.manual_seed(0)
    weight, x = torch.randn(3, 6), torch.rand(4, 6, generator=rng())
    found = MinGD(steps=60)(lambda point: (point @ weight.T) * 10.0**power, x, 3)
    usual = MinGD(steps=60)(lambda point: point @ weight.T, x, 3)
    assert torch.equal(found.lengths, usual.lengths)
    assert torch.allclose(found.distances, usual.distances, atol=1e-5)


@pytest.mark.parametrize("clip", [1e-30, 1e-20, 1e-15, 1.0])
@pytest.mark.parametrize("power", [-30, -24, -21, -18, 0, 15, 30])
def test_no_example_moves_the_clipped_sum_further_than_the_clip_however_small_or_large_its_gradient(power, clip):
    torch.manual_seed(0)
    network, x = nn.Linear(50, 3), torch.rand(1, 50, generator=rng())
    found = clipped_sum(network, lambda: network(x).sum(1) * 10.0**power, clip)
    whole = torch.cat([one.double().flatten() for one in found.total.values()]).norm().item()
    assert whole <= clip * (1 + 1e-5)


# --- sure networks ----------------------------------------------------------------------------------------------------


def gradient(logits: torch.Tensor, y: torch.Tensor, several: bool = False) -> torch.Tensor:
    point = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(cross_entropies(nn.Identity(), point, y, several).sum(), point)
    return found


@given(st.floats(0, 400), st.integers(0, 2), st.integers(0, 50))
@settings(deadline=None, max_examples=60)
def test_the_gradient_never_vanishes_and_points_where_float64_sees_it_point(margin, label, seed):
    logits = torch.randn(1, 3, generator=rng(seed))
    logits[0, label] += margin
    y = torch.tensor([label])
    found = gradient(logits, y)
    shares = logits.double().clone()
    shares[0, label] = -math.inf
    exact = shares.softmax(1)  # of what lies behind; what is in front loses as much as these gain
    exact[0, label] = -1
    assert found.any()
    others = torch.arange(3) != label  # where exp(-margin) is lost beside 1, so is the label's own part
    told = found[0, others].double() / found[0, others].sum()
    assert torch.allclose(told, exact[0, others], atol=1e-3)
    if margin > SATURATED + 10:
        assert torch.allclose(found.double(), exact, atol=1e-4)


def test_up_to_there_it_is_that_of_the_cross_entropy_to_the_last_bit_and_the_value_always():
    logits, y = torch.randn(64, 10, generator=rng()) * 4, torch.arange(64) % 10
    logits[0] = torch.tensor([200.0, *range(9)])
    point = logits.clone().requires_grad_()
    losses = nn.functional.cross_entropy(point, y, reduction="none")
    (usual,) = torch.autograd.grad(losses.sum(), point)
    assert torch.equal(gradient(logits, y)[1:], usual[1:])
    assert torch.equal(cross_entropies(nn.Identity(), logits, y), losses.detach())
    assert gradient(logits, y)[0].abs().sum() == pytest.approx(2)


def test_so_it_is_of_vectors_and_of_several_labels():
    sure = torch.tensor([[300.0, -300.0], [300.0, 290.0]])
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert torch.allclose(gradient(sure, one)[0], torch.tensor([-1.0, 1.0]))
    even = torch.tensor([[0.5, 0.5]])
    assert not gradient(torch.zeros(1, 2), even).any(), "where an answer is what was asked for, there is no slope"
    several = gradient(sure, torch.tensor([[1.0, 0.0], [1.0, 1.0]]), several=True)
    assert torch.allclose(several[0], torch.tensor([-0.5, 0.5]))
    assert several[1].tolist() == pytest.approx([-4.54e-5, -1], abs=1e-4)
    assert not gradient(torch.tensor([[500.0]]), torch.tensor([0])).any(), "one class cannot be told wrong"


@pytest.fixture(scope="module")
def model(context) -> Trained:
    return train(recipe("digits", "smoke", norm="group").plan(), context(0))


@pytest.mark.parametrize(("norm", "radius"), [("l2", 0.5), ("linf", 0.08)])
def test_robustness_does_not_depend_on_the_scale_of_the_logits(norm, radius, model, context):
    attack = Robustness(norm=norm, radius=radius, steps=8, test_examples=60)
    found = []
    for factor in (1, 10, 1000):
        network = copy.deepcopy(model.network)
        network[-1].weight.data.mul_(factor)  # every decision stays as it is
        network[-1].bias.data.mul_(factor)
        found.append(attack.measure(replace(model, network=network, predict=predictor(network)), context(0)))
    withstood = [one["adv_accuracy"] for one in found]
    assert max(withstood) - min(withstood) <= 0.07, withstood
    assert all(one["adv_doubt"] <= 0.05 for one in found), found
