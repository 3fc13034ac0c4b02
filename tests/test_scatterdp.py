"""Scattering features against those of kymatio, and private training on them."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.fineprune import FinePruning
from guardclash.mechanisms.scatterdp import ScatterDP
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.accounting import calibrated_noise, epsilon_bound
from guardclash.numerics.scattering import Scattering
from guardclash.plan.scatternet import Remembered, ScatterNet
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train
from guardclash.training.trained import accuracy


@pytest.fixture(scope="module")
def layer() -> Scattering:
    return Scattering((28, 28))


def test_features_are_those_of_kymatio(layer):
    """Its values for J = 2 and 28x28 pixels."""
    zeros, ones = layer(torch.zeros(1, 1, 28, 28)), layer(torch.ones(1, 1, 28, 28))
    assert zeros.shape == (1, 81, 7, 7) and zeros.abs().sum() == 0
    assert ones[0, 0].mean().item() == pytest.approx(1.000029, abs=1e-5) and ones[0, 1:].abs().max() < 4e-8
    ramp = layer((torch.arange(784) / 783).view(1, 1, 28, 28))[0]
    assert ramp.sum().item() == pytest.approx(29.883329, abs=1e-4)
    assert ramp[0, 3, 3].item() == pytest.approx(0.444457, abs=1e-5)
    assert ramp[1, 3, 3].item() == pytest.approx(0.00379573, abs=1e-7)
    assert ramp[17, 3, 3].item() == pytest.approx(7.06e-07, rel=0.01)
    assert ramp[80, 3, 3].item() == pytest.approx(3.21e-07, rel=0.01)


def test_features_of_channels_follow_one_another_and_move_with_an_image(layer):
    x = torch.rand(3, 2, 28, 28, generator=torch.Generator().manual_seed(0))
    both = layer(x)
    assert both.shape == (3, 162, 7, 7)
    assert torch.allclose(both[:, :81], layer(x[:, :1]), atol=1e-6)
    assert torch.allclose(both[:, 81:], layer(x[:, 1:]), atol=1e-6)
    assert torch.allclose(layer(2 * x[:1]), 2 * layer(x[:1]), atol=1e-5), "moduli grow with contrast"
    point = x[:1, :1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(point).sum(), point)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    assert not list(layer.parameters()) and not layer.state_dict()


def test_noise_is_that_of_the_published_settings_by_todays_conversion():
    for batch, noise in ((512, 1.7287), (1024, 2.2832), (2048, 4.0416)):
        steps = (40 if batch == 2048 else 20) * (10_000 // batch)  # which drop the last batch
        assert calibrated_noise(3.0, batch / 10_000, steps, 1e-5, "rdp") == pytest.approx(noise, abs=1e-4)
    spent = epsilon_bound(((3.04, 0.0682667, 560), (8.0, 1.0, 2)), 1e-5, "rdp").epsilon
    assert spent == pytest.approx(2.587792, abs=2e-3)


def test_what_is_kept_is_the_very_same_and_only_in_training():
    calls = []

    class Counted(nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return x * 2

    layer = Remembered(Counted()).train()
    x = torch.rand(6, 1, 2, 2)
    assert torch.equal(layer(x), x * 2) and torch.equal(layer(x.flip(0)), x.flip(0) * 2)
    assert torch.equal(layer(torch.cat([x[:2], x[:2], torch.ones(1, 1, 2, 2)]))[:2], x[:2] * 2)
    assert calls == [6, 1]
    assert layer(x.clone().requires_grad_()).requires_grad and calls == [6, 1, 6]
    assert not deepcopy(layer)._kept and layer._kept
    layer.eval()
    assert not layer._kept and torch.equal(layer(x), x * 2) and calls[-1] == 6
    assert layer.train()(x[:0]).shape == (0, 1, 2, 2)


@pytest.mark.parametrize("head", ["linear", "cnn"])
def test_it_learns_in_private(head, context):
    plan = recipe("digits", "smoke", examples=1200, epochs=10).plan()
    own = ScatterDP(epsilon=20.0, batch_size=128, learning_rate=4.0, head=head, groups=9)
    composed = compose(plan, [own])
    assert isinstance(composed.model, ScatterNet) and composed.task.gradient.clip == 0.1
    assert composed.task.sampler.batch_size == 128
    trained = train(composed, context(0))
    test = context(0).data(plan.judged_by.test)
    assert accuracy(trained.predict, test.x, test.y) > (0.7 if head == "linear" else 0.15)
    assert own.measure(trained, context(0))["epsilon"] == pytest.approx(20.0, rel=0.01)


def test_the_linear_head_is_as_large_as_published():
    network = ScatterNet((1, 28, 28), 10, (0.5,), (0.5,)).build()
    assert sum(one.numel() for one in network.parameters()) == 39_700


def test_what_it_stands_beside(context):
    plan = recipe("digits", "smoke").plan()
    both = compose(plan, [ScatterDP(groups=9), Watermark(triggers=20, batch_size=10)])
    assert [stream.gradient.clip for stream in both.streams] == [0.1, 0.1]
    assert both.stream("trigger").sampler.batch_size == 10
    with pytest.raises(Clash):
        compose(plan, [ScatterDP(), DPSGD()])


@pytest.mark.parametrize("options", [{"head": "tree"}, {"groups": 0}, {"batch_size": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"scatterdp\."):
        ScatterDP(**options)


def test_images_that_have_no_features_are_refused():
    with pytest.raises(UserError, match="no scattering features"):
        ScatterNet((1, 30, 30), 10, (0.5,), (0.5,))
    with pytest.raises(UserError, match="divisors of 81"):
        ScatterNet((1, 28, 28), 10, (0.5,), (0.5,), groups=10)


def test_what_prunes_channels_has_none_left_with_a_linear_head():
    plan = recipe("digits", "smoke").plan()
    with pytest.raises(Clash, match="prunes channels of a convolution, and this network has none"):
        compose(plan, [ScatterDP(groups=9), FinePruning(images=20)])
    assert compose(plan, [ScatterDP(groups=9, head="cnn"), FinePruning(images=20)]).initial is not None
