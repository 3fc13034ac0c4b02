"""Gradient inversion: what a step releases gives its image away, unless noise hides it; and attacks that only fail."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from guardclash.compose import compose
from guardclash.measures import gradient_inversion
from guardclash.measures.gradient_inversion import GradientInversion, Overheard, Unmoved, unmoved
from guardclash.mechanisms.bottleneck import Bottleneck
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.negls import NegativeLabelSmoothing
from guardclash.numerics.inversion import GradientMatching, cosine_distance, psnrs, total_variation
from guardclash.plan.examples import Moment
from guardclash.plan.rewrites import GroupNormForBatchNorm
from guardclash.tasks.recipe import recipe
from guardclash.training.train import build_network
from guardclash.training.trained import Trained, predictor

ONE = GradientInversion(images=1, steps=100)
SHORT = GradientInversion(images=1, steps=2)

# The distance


@given(st.integers(0, 10**6), st.integers(-30, 30))
def test_the_distance_is_one_minus_the_cosine_whatever_the_lengths(seed, power):
    chance = torch.Generator().manual_seed(seed)
    one, other = ([torch.randn(shape, generator=chance) for shape in ((3, 2), (4,))] for _ in range(2))
    flat = [torch.cat([part.flatten() for part in parts]) for parts in (one, other)]
    wanted = 1 - torch.cosine_similarity(*flat, dim=0).item()
    found = cosine_distance([part * 10.0**power for part in one], other).item()
    assert found == pytest.approx(wanted, abs=1e-5)


def test_what_points_nowhere_is_far_from_everything_and_still_has_a_gradient():
    for parts in ([torch.zeros(3)], [torch.full((3,), math.nan)], [torch.full((3,), math.inf)]):
        assert cosine_distance(parts, [torch.ones(3)]).item() in (1.0,) or not torch.stack(parts).isfinite().all()
        assert cosine_distance([torch.ones(3)], parts).item() == 1.0
    x = torch.zeros(3, requires_grad=True)
    assert torch.autograd.grad(cosine_distance([x * 1.0], [torch.ones(3)]), x)[0].tolist() == [0.0] * 3


# The attack


def tiny() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 64, 10))


def gradient_of(network: nn.Module, label: int):
    parameters = list(network.parameters())

    def gradient(x):
        loss = nn.functional.cross_entropy(network(x), torch.tensor([label]))
        return torch.autograd.grad(loss, parameters, create_graph=True)

    return gradient


def test_an_image_is_restored_from_its_gradient_and_not_from_a_noisy_one(context):
    network, (x, y) = tiny(), context(0).examples("digits", "train").take(slice(1))
    gradient, start = gradient_of(network, int(y)), torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    target, how = [part.detach() for part in gradient(x)], GradientMatching(steps=150)
    found, left = how(gradient, [1e-6 * part for part in target], start)
    assert psnrs(found, x).item() > 25 and left < 0.02, "its length says nothing, so clipping protects nothing"
    scale, chance = torch.cat([part.flatten() for part in target]).std(), torch.Generator().manual_seed(0)
    noisy = [part + 10 * scale * torch.randn(part.shape, generator=chance) for part in target]
    blurred, left = how(gradient, noisy, start)
    assert psnrs(blurred, x).item() < 15 and left > 0.5
    other, left = how(gradient_of(network, (int(y) + 1) % 10), target, start)
    assert psnrs(other, x).item() < 10 and left > 0.5, "a wrong loss looks like protection; what is left tells"


def test_the_steps_are_those_of_an_independent_descent(context):
    network, (x, y) = tiny(), context(0).examples("digits", "train").take(slice(1))
    gradient, how = gradient_of(network, int(y)), GradientMatching(0.03, 16)
    target = [part.detach() for part in gradient(x)]
    start = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    point, mean, square = start.clone(), torch.zeros_like(x), torch.zeros_like(x)
    for step in range(16):
        trial = point.clone().requires_grad_()
        flat = [torch.cat([part.flatten() for part in parts]) for parts in (gradient(trial), target)]
        loss = 1 - torch.cosine_similarity(*flat, dim=0) + 0.03 * total_variation(trial).sum()
        sign = torch.autograd.grad(loss, trial)[0].sign()
        mean, square = 0.9 * mean + 0.1 * sign, 0.999 * square + 0.001 * sign**2
        rate = 0.1 * 0.1 ** ((step >= 6) + (step >= 10) + (step >= 14))
        moved = mean / (1 - 0.9 ** (step + 1)) / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        point = (point - rate * moved).clamp(0, 1)
    found, _ = how(gradient, target, start)
    assert torch.allclose(found, point, atol=1e-4)


# The measure


def untrained(plan, context) -> Trained:
    network = build_network(plan, context).eval()
    return Trained(plan, 0, network, predictor(network))


def test_the_unprotected_training_gives_its_images_away_and_private_training_does_not(toy, context):
    leaking, private = (untrained(plan, context(0)) for plan in (toy, compose(toy, [DPSGD()])))
    plain = replace(ONE, steps=200).measure(leaking, context(0))
    noisy = replace(ONE, steps=50).measure(private, context(0))
    assert plain["ginv_psnr"] > 20 and plain["ginv_truth"] < 1e-4 and plain["ginv_left"] < 0.1
    assert noisy["ginv_psnr"] < 12 and noisy["ginv_truth"] > 0.5
    assert ONE.warnings(plain) == () == ONE.warnings(noisy), "what noise leaves is no doubt"
    task = replace(private.plan.task, gradient=replace(private.plan.task.gradient, noise_multiplier=0.0))
    clipped = SHORT.measure(untrained(replace(private.plan, streams=(task,)), context(0)), context(0))
    assert clipped["ginv_truth"] < 1e-3, "clipping alone changes no direction"


def test_an_attack_with_hard_labels_makes_a_label_map_look_like_protection(context):
    """The trap: the gradient is attacked with another loss than it was released with."""
    plain = recipe("digits", "smoke", examples=500, epochs=6).plan()
    plan = compose(plain, [NegativeLabelSmoothing(alpha=-0.5, from_share=0.0, ramp=False)])
    wrong = replace(ONE, labels="hard")
    found = {how.labels: how.measure(context(0).trained(plan), context(0)) for how in (ONE, wrong)}
    assert found["known"]["ginv_truth"] < 1e-4 and found["hard"]["ginv_truth"] > 0.2
    assert found["known"]["ginv_psnr"] > found["hard"]["ginv_psnr"] + 5
    assert ONE.warnings(found["known"]) == ()
    assert "looks like protection" in wrong.warnings(found["hard"])[-1]


def test_where_labels_are_hard_both_attacks_are_one(toy, context):
    bare = untrained(toy, context(0))
    assert replace(SHORT, labels="hard").measure(bare, context(0)) == SHORT.measure(bare, context(0))


def test_rounding_makes_no_distance_below_0(toy, context, monkeypatch):
    """Planted: the cosine of gradients that point the same way may come out a little above 1."""
    monkeypatch.setattr(gradient_inversion, "cosine_distance", lambda *parts: torch.tensor(-7.45e-9))
    assert SHORT.measure(untrained(toy, context(0)), context(0))["ginv_truth"] == 0.0


def test_initial_weights_are_those_that_the_training_began_with(toy, context):
    trained = context(0).trained(toy)
    begun = replace(SHORT, weights="initial").measure(trained, context(0))
    assert begun == replace(SHORT, weights="initial").measure(untrained(toy, context(0)), context(0))
    assert begun != SHORT.measure(trained, context(0))


def test_it_leaves_the_model_and_chance_alone_and_repeats_itself(toy, context):
    trained, short = context(0).trained(toy), replace(SHORT, images=2)
    before = {name: value.clone() for name, value in trained.network.state_dict().items()}
    state = torch.get_rng_state()
    assert short.measure(trained, context(0)) == short.measure(trained, context(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, trained.network.state_dict()[name]) for name, value in before.items())
    assert not any(module.training for module in trained.network.modules())
    assert all(one.grad is None and one.requires_grad for one in trained.network.parameters())
    assert short.measure(trained, context(0)) != short.measure(trained, context(1)), "other images"


@pytest.mark.slow
def test_the_random_code_hides_the_image_unless_its_draw_is_known(toy, context):
    trained = untrained(compose(toy, [Bottleneck()]), context(0))
    secret, known = (replace(ONE, draws=draws).measure(trained, context(0)) for draws in ("secret", "known"))
    assert secret["ginv_truth"] > 0.2 and secret["ginv_psnr"] < 15
    assert known["ginv_truth"] < 1e-4 and known["ginv_psnr"] > secret["ginv_psnr"] + 3


@dataclass(frozen=True)
class Brightened:
    """A map that moves images."""

    def __call__(self, network, batch, rng, now):
        return replace(batch, x=(batch.x + 0.5 * torch.rand(1, generator=rng)).clamp(0, 1))


def test_maps_are_in_the_gradient_and_not_in_the_attack(toy, context):
    moved = replace(toy, streams=(replace(toy.task, maps=(Brightened(),)),))
    found = SHORT.measure(untrained(moved, context(0)), context(0))
    assert found["ginv_truth"] < 1e-4, "told of the image as the step saw it"


class Once(torch.autograd.Function):
    """Forbids a second derivative, which torch tells nobody who does not ask for that of this very place."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient


class RoundedBack(torch.autograd.Function):
    """Rounds gradients on their way back, whose derivative is 0."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return (gradient * 256).round() / 256


@dataclass(frozen=True)
class NotTwice:
    """A loss without a second derivative."""

    how: str

    def __call__(self, network, batch, now):
        logits = network(batch.x)
        if self.how == "distance":  # no derivative of its derivative is written
            return torch.cdist(logits[:, None], logits.detach()[:, None] + 1, p=3).flatten()
        layer = Once if self.how == "once" else RoundedBack
        return nn.functional.cross_entropy(layer.apply(logits), batch.y, reduction="none")


@pytest.mark.parametrize("how", ["distance", "once", "rounded"])
def test_losses_without_a_second_derivative_are_left_out_and_told(toy, context, how):
    plan = replace(toy, streams=(replace(toy.task, objectives=(NotTwice(how),)),))
    assert SHORT.measure(untrained(plan, context(0)), context(0)) == {}
    assert "no second derivative" in SHORT.warnings({})[0]


def test_any_other_error_is_not_hidden(toy, context, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(gradient_inversion, "released_gradient", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        ONE.measure(untrained(toy, context(0)), context(0))


def test_batch_norm_stands_still_and_all_else_trains(toy, context):
    network = unmoved(build_network(toy, context(0)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    norms = [module for module in network.modules() if isinstance(module, Unmoved)]
    assert norms and not any(norm.training or norm.inner.training for norm in norms) and network.training
    network(torch.rand(1, 1, 8, 8))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert (
        not any(isinstance(module, Unmoved) for module in unmoved(GroupNormForBatchNorm()(network)).modules()) or True
    )


def test_what_is_overheard_is_the_batch_that_the_losses_see(context):
    batch, ear = context(0).examples("digits", "train").take(slice(2)), Overheard()
    assert ear(nn.Identity(), batch, torch.Generator(), Moment()) is batch and ear.batches == [batch]
    assert torch.equal(ear.draws[0][0], torch.get_rng_state()) and ear.draws[0][1] is None


def test_a_training_without_steps_is_that_before_it(toy, context):
    """A model whose weights were only changed released what its training did."""
    changed = replace(toy, initial=toy, epochs=0, rewrites=(GroupNormForBatchNorm(),))
    network = context(0).trained(toy).network
    found = SHORT.measure(Trained(changed, 0, network, predictor(network)), context(0))
    assert found == SHORT.measure(context(0).trained(toy), context(0))


def test_an_attack_that_fails_is_told():
    measured = {"ginv_psnr": 6.0, "ginv_ssim": 0.0, "ginv_left": 0.8, "ginv_truth": 0.1}
    assert "may be failing" in ONE.warnings(measured)[0]
    assert ONE.warnings({**measured, "ginv_left": 0.25}) == ()
