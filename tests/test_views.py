"""Augmentation multiplicity: several views of an example, clipped as one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.numerics.clipping import clipped_sum
from guardclash.plan.examples import Data, Moment
from guardclash.plan.gradients import ClippedNoisy, Views
from guardclash.plan.maps import FlipAndShift
from guardclash.tasks.recipe import recipe
from guardclash.training.released import Chance, released_gradient
from guardclash.training.train import build_network


class Line(nn.Module):
    """Its gradient is its input."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(2, 1, bias=False)

    def forward(self, x):
        return self.weight(x)[:, 0]


def test_gradients_are_averaged_and_then_clipped():
    network = Line()
    one, other = torch.tensor([[3.0, 4.0]]), torch.tensor([[-3.0, 4.0]])
    total = clipped_sum(network, lambda: torch.stack([network(one), network(other)]).mean(0), 1.0).total
    assert total["weight.weight"].flatten().tolist() == pytest.approx([0, 1])
    apart = [clipped_sum(network, lambda x=x: network(x), 1.0).total["weight.weight"] for x in (one, other)]
    assert (sum(apart) / 2).flatten().tolist() == pytest.approx([0, 0.8]), "clipped before, it is another gradient"


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def private():
    return compose(recipe("digits", "smoke").plan(), [DPSGD(views=3, shift=1, clip=0.5)])


def test_a_step_is_the_noisy_sum_of_each_examples_clipped_mean_over_views(private, context):
    stream = private.task
    quiet = replace(stream, gradient=replace(stream.gradient, noise_multiplier=0.0, expected_batch_size=1.0))
    plan = replace(private, streams=(quiet,))
    network = build_network(plan, context(0))
    batch = context(0).data(stream.source).take(slice(4))
    found = released_gradient(plan, network, quiet, batch, Chance(rng(1), rng(2))).gradient
    views = stream.gradient.views.of(network, batch, rng(1), Moment())
    assert len(views) == 3 and all(view.x.shape == batch.x.shape for view in views)
    assert not torch.equal(views[0].x, views[1].x)
    expected = {name: torch.zeros_like(value) for name, value in found.items()}
    losses_of = nn.CrossEntropyLoss()
    for place in range(len(batch.x)):
        mean = sum(losses_of(network(view.x[place : place + 1]), view.y[place : place + 1]) for view in views) / 3
        own = torch.autograd.grad(mean, list(network.parameters()))
        norm = torch.stack([part.norm() for part in own]).norm()
        for (name, _), part in zip(network.named_parameters(), own, strict=True):
            expected[name] += part * min(1.0, 0.5 / norm.item())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_epsilon_and_noise_are_those_of_one_view(private):
    plain = compose(recipe("digits", "smoke").plan(), [DPSGD(clip=0.5)])
    assert private.task.gradient == replace(plain.task.gradient, views=Views(FlipAndShift(1, False), 3))
    assert DPSGD().spent(private) == DPSGD().spent(plain)


def test_an_empty_batch_has_views_too(private, context):
    network = build_network(private, context(0))
    nothing = context(0).data(private.task.source).take(slice(0))
    found = released_gradient(private, network, private.task, nothing, Chance(rng(1), rng(2))).gradient
    assert all(value.isfinite().all() for value in found.values())


def test_one_view_is_the_image_as_it_is():
    assert compose(recipe("digits", "smoke").plan(), [DPSGD(views=1, shift=5)]).task.gradient.views is None


@pytest.mark.parametrize("options", [{"views": 0}, {"views": 1.5}, {"shift": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"dpsgd\."):
        DPSGD(**options)


def test_rows_have_no_views():
    with pytest.raises(Clash, match="views"):
        compose(recipe("adult", "smoke").plan(), [DPSGD(views=4)])


def test_shifts_without_flips_move_images_by_whole_pixels():
    x = torch.zeros(64, 1, 5, 5)
    x[:, :, 2, 2] = 1
    moved = FlipAndShift(1, flips=False)(nn.Identity(), Data(x, torch.zeros(64)), rng=rng(), now=Moment()).x
    assert moved.sum((1, 2, 3)).tolist() == pytest.approx([1.0] * 64, abs=1e-4)
    places = {tuple(divmod(int(one.flatten().argmax()), 5)) for one in moved}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    one_sided = torch.zeros(64, 1, 5, 5)
    one_sided[..., :2] = 1
    kept = FlipAndShift(0, flips=False)(nn.Identity(), Data(one_sided, torch.zeros(64)), rng=rng(), now=Moment()).x
    torch.testing.assert_close(kept, one_sided, atol=1e-5, rtol=0)


@dataclass(frozen=True)
class Darker:
    """Images of another brightness with every call."""

    def __call__(self, network, batch, rng, now):
        return replace(batch, x=batch.x * torch.rand((), generator=rng))


@dataclass(frozen=True)
class Nothing:
    """Black images."""

    def __call__(self, network, batch, rng, now):
        return replace(batch, x=torch.zeros_like(batch.x))


def test_views_are_of_what_the_maps_give_and_keep_weights(context):
    base = compose(recipe("digits", "smoke").plan(), [DPSGD()])
    stream = replace(base.task, gradient=ClippedNoisy(1e9, 0.0, 1.0, views=Views(Darker(), 2)))
    network = build_network(base, context(0))
    batch = context(0).data(stream.source).take(slice(3))

    def released(own, batch):
        plan = replace(base, streams=(own,))
        return released_gradient(plan, network, own, batch, Chance(rng(1), rng(2))).gradient

    weighted = replace(batch, about={**batch.about, "weight": torch.tensor([0.0, 0.0, 2.0])})
    alone = released(stream, batch.take(slice(2, 3)))
    for name, value in released(stream, weighted).items():
        torch.testing.assert_close(value, 2 * alone[name], rtol=1e-4, atol=1e-5)
    mapped, black = released(replace(stream, maps=(Nothing(),)), batch), replace(batch, x=torch.zeros_like(batch.x))
    for name, value in released(stream, black).items():
        torch.testing.assert_close(mapped[name], value, rtol=1e-3, atol=1e-5)
