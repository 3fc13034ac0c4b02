"""N-FGSM: the single step, what it may move, and what it is worth."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms import nfgsm
from guardclash.mechanisms.nfgsm import NFGSM, SingleStep
from guardclash.numerics.single_step import NoisyStep
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train

WEIGHT = torch.tensor([1.0, -2.0, 0.0, 3.0])


def losses(x: torch.Tensor) -> torch.Tensor:
    return (x.flatten(1) * WEIGHT).sum(1)


def test_it_is_noise_and_a_step_by_hand():
    x = torch.full((2, 1, 2, 2), 0.5)
    rng = torch.Generator().manual_seed(3)
    noise = 2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) - 1
    found = NoisyStep(0.1, noise=2.0)(losses, x, rng)
    assert torch.allclose(found, x + 0.2 * noise + 0.1 * WEIGHT.sign().view(1, 1, 2, 2))
    still = NoisyStep(0.1, noise=0.0, step=0.5)(losses, x, rng)
    assert torch.allclose(still, x + 0.05 * WEIGHT.sign().view(1, 1, 2, 2))


@given(st.integers(0, 2**32), st.floats(0, 3), st.floats(0.1, 2), st.booleans(), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_it_moves_nothing_further_than_it_says(seed, noise, step, clamp, count):
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 2, 2, generator=rng)
    found = NoisyStep(0.2, noise, step, clamp)(losses, x, rng)
    assert found.shape == x.shape and not found.requires_grad
    assert not count or (found - x).abs().max() <= 0.2 * (noise + step) + 1e-6
    assert not clamp or not count or (found.min() >= 0 and found.max() <= 1)


def test_categories_stay_and_channels_have_their_units():
    x = torch.zeros(3, 4)
    found = NoisyStep(1.0, clamp=False, free=2)(losses, x, torch.Generator().manual_seed(0))
    assert (found[:, :2] != 0).all() and (found[:, 2:] == 0).all()
    images = torch.full((1, 2, 1, 2), 0.5)
    moved = NoisyStep(0.1, noise=0.0, scale=(1.0, 2.0))(losses, images, torch.Generator()) - images
    assert torch.allclose(moved.flatten(), torch.tensor([0.1, -0.1, 0.0, 0.2]))


@pytest.fixture(scope="module")
def hardened(context):
    plan = recipe("digits", "smoke", examples=800, epochs=8).plan()
    own = NFGSM(radius=0.15, steps=10, test_examples=200, precision="float32").bind(plan)
    return context(0).trained(plan), train(compose(plan, [own]), context(0)), own


def test_a_model_trained_so_withstands_many_steps(hardened, context):
    plain, robust, own = hardened
    before, after = (own.measure(one, context(0)) for one in (plain, robust))
    assert after["adv_accuracy"] > before["adv_accuracy"] + 0.2, (before, after)
    assert after["fgsm_gap"] < 0.3 and own.warnings(after) == ()
    assert {metric.name for metric in own.metrics} == after.keys()


def test_overfitting_to_single_steps_is_told(hardened, context, monkeypatch):
    """Planted: a model that withstands every whole step of the radius, and no attack of smaller ones."""
    _, robust, own = hardened

    def withstands(self, attack, x, y):
        whole = attack.steps == 1 and attack.step == attack.radius == own.radius and not attack.random_start
        return torch.full(y.shape, whole)

    monkeypatch.setattr(nfgsm.Target, "withstands", withstands)
    measure = SingleStep(own.robustness())
    found = measure.measure(robust, context(0))
    assert found == {"fgsm_accuracy": 1.0, "fgsm_gap": 1.0}
    (warning,) = measure.warnings(found)
    assert "catastrophic overfitting" in warning and "1.00" in warning


@pytest.mark.parametrize("options", [{"noise": -1.0}, {"stride": 0.0}, {"norm": "l2"}, {"embeddings": True}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"nfgsm\."):
        NFGSM(**options)


def test_facts_say_what_is_trained_on_and_what_measures(context):
    plan = recipe("digits", "smoke").plan()
    facts = NFGSM(radius=0.1, steps=7).bind(plan).facts(plan)
    assert facts["trained on"] == "a step of 1 radii from noise of ±2 radii, not projected back"
    assert facts["measured by"].startswith("PGD-7")
