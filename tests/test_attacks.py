"""Projected gradient descent against oracles, and the network that an attack borrows."""

from __future__ import annotations

import copy
import importlib.metadata
import math
import platform

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import nn

from guardclash.errors import UserError
from guardclash.numerics import attacks
from guardclash.numerics.attacks import PGD, attacked, ensemble, ensemble_version, has_bfloat16, use_bfloat16
from guardclash.plan.adversarial import cross_entropies

MNIST = {"radius": 0.25, "step": 0.01}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(x: torch.Tensor) -> tuple[torch.Tensor, object]:
    """A loss whose gradient has the same signs everywhere, and these signs."""
    weights = torch.randn(x.shape[1:], generator=rng(1), dtype=x.dtype)
    return weights.sign(), lambda images: (images * weights).flatten(1).sum(1)


def curved(classes: int = 4, channels: int = 2) -> nn.Sequential:
    """A small network with curvature, in float64 so that rounding decides no sign."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(channels, 6, 3, padding=1)
    return nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), nn.Linear(6 * 16, classes)).double()


def losses_of(network: nn.Module, y: torch.Tensor):
    return lambda images: nn.functional.cross_entropy(network(images), y, reduction="none")


# --- a linear loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("radius", "steps"), [(0.25, 25), (0.25, 50), (10 / 255, 4), (10 / 255, 8)], ids=["mnist", "twice", "cifar", "8"]
)
def test_from_the_image_itself_a_linear_loss_takes_the_shortest_way_to_the_edge(radius, steps):
    x = torch.rand(3, 1, 5, 5, generator=rng(), dtype=torch.float64)
    signs, losses = linear(x)
    attack = PGD(radius, 0.01, steps, random_start=False, clamp=False)
    moved = attack(losses, x, rng()) - x
    assert torch.allclose(moved, radius * signs.expand_as(x), rtol=0, atol=1e-12)


def test_from_a_random_start_25_published_steps_cover_three_quarters_of_the_ball():
    x = torch.rand(40, 1, 28, 28, generator=rng(), dtype=torch.float64)
    signs, losses = linear(x)
    attack = PGD(**MNIST, steps=25, clamp=False)
    start = attack.start(x, rng(2)) - x
    moved = attack(losses, x, rng(2)) - x
    assert torch.allclose(moved * signs, (start * signs + 0.25).clamp(max=0.25), rtol=0, atol=1e-12)
    assert (moved * signs).mean().item() == pytest.approx(0.75 * 0.25, abs=0.001)


@pytest.mark.parametrize(("radius", "steps"), [(0.25, 50), (10 / 255, 8)])
def test_from_a_random_start_enough_steps_cover_all_of_it(radius, steps):
    x = torch.rand(5, 3, 8, 8, generator=rng(), dtype=torch.float64)
    signs, losses = linear(x)
    moved = PGD(radius, 0.01, steps, clamp=False)(losses, x, rng()) - x
    assert torch.allclose(moved, radius * signs.expand_as(x), rtol=0, atol=1e-12)


def test_in_the_l2_norm_a_linear_loss_is_followed_along_its_gradient():
    x = torch.rand(4, 2, 3, 3, generator=rng(), dtype=torch.float64)
    weights = torch.randn(2, 3, 3, generator=rng(1), dtype=torch.float64)
    for random_start in (False, True):
        attack = PGD(0.5, 0.1, 200, "l2", random_start, clamp=False)
        moved = attack(lambda images: (images * weights).flatten(1).sum(1), x, rng()) - x
        assert torch.allclose(moved, (0.5 * weights / weights.norm()).expand_as(x), rtol=0, atol=1e-6)


# --- the ball ---------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw) -> tuple[PGD, torch.Tensor, torch.dtype]:
    channels = draw(st.sampled_from([1, 3]))
    scale = draw(st.lists(st.floats(0.1, 2), min_size=channels, max_size=channels))
    attack = PGD(
        radius=draw(st.floats(1e-3, 3)),
        step=draw(st.floats(1e-3, 3)),
        steps=draw(st.integers(1, 4)),
        norm=draw(st.sampled_from(["linf", "l2"])),
        random_start=draw(st.booleans()),
        clamp=draw(st.booleans()),
        scale=tuple(scale) if draw(st.booleans()) else (1.0,),
    )
    seed = draw(st.integers(0, 2**31))
    x = torch.rand(3, channels, 4, 4, generator=rng(seed))
    ends = torch.rand(x.shape, generator=rng(seed + 1))
    x[ends < 0.2], x[ends > 0.8] = 0.0, 1.0  # many pixels of a real image are at the ends
    return attack, x.contiguous(memory_format=torch.channels_last), seed


@given(cases())
@settings(deadline=None, max_examples=60)
def test_no_image_leaves_its_ball_or_the_range_of_pixels(case):
    attack, x, seed = case
    network = curved(channels=x.shape[1]).float()
    y = torch.arange(3)
    before = x.clone()
    for images in (attack(losses_of(network, y), x, rng(seed)), attack.start(x, rng(seed))):
        delta = (images - x) / torch.tensor(attack.scale).view(1, -1, 1, 1)
        size = delta.abs().amax((1, 2, 3)) if attack.norm == "linf" else delta.flatten(1).norm(dim=1)
        assert (size <= attack.radius * (1 + 1e-5) + 2e-6).all()
        assert images.isfinite().all()
        if attack.clamp:
            assert 0 <= images.min() and images.max() <= 1
    assert torch.equal(x, before), "the images of a data set in memory stay as they are"


def test_clamping_happens_inside_every_step():
    """An attack that is clamped only at the end walks outside, where gradients mean nothing."""
    x = torch.rand(2, 1, 4, 4, generator=rng())
    seen = []
    PGD(0.5, 0.2, 5)(lambda images: seen.append(images) or images.flatten(1).sum(1), x, rng())
    assert len(seen) == 5
    assert all(0 <= images.min() and images.max() <= 1 for images in seen)


def test_without_a_radius_images_stay_as_they_are():
    x = torch.rand(2, 1, 4, 4)
    never = PGD(0.0, 0.1)
    assert never(lambda images: 1 / 0, x, rng()) is x
    assert torch.equal(never.start(x, rng()), x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_empty_batch_is_attacked_without_a_word(norm):
    x = torch.rand(0, 1, 4, 4)
    assert PGD(0.3, 0.1, norm=norm)(lambda images: images.flatten(1).sum(1), x, rng()).shape == x.shape


def test_a_loss_without_slope_leaves_the_start():
    x = torch.rand(2, 1, 4, 4)
    for norm in ("linf", "l2"):
        attack = PGD(0.3, 0.1, norm=norm, random_start=False)
        assert torch.equal(attack(lambda images: (images * 0).flatten(1).sum(1), x, rng()), x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_are_attacked_one_by_one(norm):
    x, y = torch.rand(4, 2, 4, 4, generator=rng(), dtype=torch.float64), torch.arange(4)
    network = curved()
    attack = PGD(0.3, 0.05, 8, norm, random_start=False)
    together = attack(losses_of(network, y), x, rng())
    alone = [attack(losses_of(network, y[i : i + 1]), x[i : i + 1], rng()) for i in range(4)]
    assert torch.allclose(together, torch.cat(alone), rtol=0, atol=1e-12)


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_normalised_space_and_pixels_are_the_same_attack_under_scaling(norm):
    mean = torch.tensor([0.3, 0.5], dtype=torch.float64).view(1, 2, 1, 1)
    std = torch.tensor([0.25, 0.4], dtype=torch.float64).view(1, 2, 1, 1)
    network, y = curved(), torch.arange(4)
    x = torch.rand(4, 2, 4, 4, generator=rng(), dtype=torch.float64)
    sizes = {"radius": 0.5, "step": 0.04, "steps": 10, "norm": norm, "clamp": False}
    inside = PGD(**sizes)(losses_of(network, y), (x - mean) / std, rng(3))
    losses = losses_of(lambda images: network((images - mean) / std), y)
    outside = PGD(**sizes, scale=(0.25, 0.4))(losses, x, rng(3))
    assert not torch.allclose(outside, x, atol=0.03)
    assert torch.allclose(inside * std + mean, outside, rtol=0, atol=1e-10)


def test_one_scale_for_all_channels_is_that_scale_for_each():
    x, y = torch.rand(4, 2, 4, 4, generator=rng(), dtype=torch.float64), torch.arange(4)
    one, each = (PGD(0.5, 0.1, 5, scale=scale)(losses_of(curved(), y), x, rng()) for scale in ((0.3,), (0.3, 0.3)))
    assert torch.equal(one, each)


# --- the start --------------------------------------------------------------------------------------------------------


def test_the_start_is_uniform_in_the_l2_ball():
    x = torch.full((4000, 1, 2, 2), 0.5, dtype=torch.float64)
    start = (PGD(0.4, 0.1, norm="l2").start(x, rng()) - x).flatten(1)
    inside = (start.norm(dim=1) / 0.4) ** 4  # the share of the ball's volume within this length
    assert kstest(inside.numpy(), "uniform").pvalue > 0.01
    assert start.mean(0).abs().max() < 4 * 0.4 / math.sqrt(4000 * 6)
    for pair in ((0, 1), (1, 3)):
        angle = torch.atan2(start[:, pair[0]], start[:, pair[1]]) / (2 * math.pi) + 0.5
        assert kstest(angle.numpy(), "uniform").pvalue > 0.01


def test_the_start_is_uniform_in_the_linf_ball():
    x = torch.full((500, 2, 2, 2), 0.5, dtype=torch.float64)
    start = PGD(0.4, 0.1).start(x, rng()) - x
    assert kstest((start / 0.8 + 0.5).flatten().numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_seed_decides_the_start_whatever_the_layout_in_memory(norm):
    x = torch.rand(3, 3, 4, 4)
    attack = PGD(0.4, 0.1, norm=norm)
    one, same, other = attack.start(x, rng(1)), attack.start(x, rng(1)), attack.start(x, rng(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(one, attack.start(x.contiguous(memory_format=torch.channels_last), rng(1)))


def test_without_a_random_start_chance_plays_no_part():
    x = torch.rand(3, 1, 4, 4)
    generator = rng()
    before = generator.get_state()
    _, losses = linear(x)
    PGD(0.4, 0.1, random_start=False)(losses, x, generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"radius": -0.1, "step": 0.1}, "radius"),
        ({"radius": math.nan, "step": 0.1}, "radius"),
        ({"radius": math.inf, "step": 0.1}, "radius"),
        ({"radius": 0.1, "step": 0.0}, "step"),
        ({"radius": 0.1, "step": -1.0}, "step"),
        ({"radius": 0.1, "step": 0.1, "steps": 0}, "steps"),
        ({"radius": 0.1, "step": 0.1, "norm": "l1"}, "linf, l2"),
    ],
)
def test_impossible_attacks_are_refused(options, named):
    with pytest.raises(UserError, match=named):
        PGD(**options)


def test_reach_is_the_way_of_all_steps_over_the_diameter():
    assert PGD(**MNIST, steps=25).reach == pytest.approx(0.5)
    assert PGD(**MNIST, steps=50).reach == pytest.approx(1.0)
    assert PGD(0.0, 0.1).reach == math.inf


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
    return nn.Sequential(convolution, norm, nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 3)).train()


def state(network: nn.Module) -> list[object]:
    """All that an attack could leave behind."""
    parameters = list(network.parameters())
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    return [
        [module.training for module in network.modules()],
        [parameter.requires_grad for parameter in parameters],
        [parameter.grad is None for parameter in parameters],
        [parameter.detach().clone().tolist() for parameter in parameters],
        {name: value.tolist() for name, value in buffers.items() if "tracked" not in name},
        [(len(module._forward_pre_hooks), len(module._forward_hooks)) for module in network.modules()],
        [getattr(module, "momentum", None) for module in network.modules()],
        torch.is_autocast_enabled("cpu"),
    ]


def attack_once(network: nn.Module, **options) -> torch.Tensor:
    x, y = torch.rand(8, 1, 8, 8, generator=rng()), torch.arange(8) % 3
    with attacked(network, **options):
        return PGD(0.3, 0.1, 3)(lambda images: cross_entropies(network, images, y), x, rng())


OPTIONS = [
    {"training": training, "precision": precision} for training in (False, True) for precision in ("float32", "auto")
]


@pytest.mark.parametrize("options", OPTIONS)
def test_an_attack_leaves_the_network_as_it_was(network, options):
    network[1].eval()  # modes need not be the same everywhere
    network[0].weight.requires_grad_(False)  # nor what is trained
    before = state(network)
    attack_once(network, **options)
    assert state(network) == before


@pytest.mark.parametrize("options", OPTIONS)
def test_an_attack_that_fails_leaves_the_network_as_it_was(network, options):
    network.append(nn.GroupNorm(1, 3))
    network[3].eval()
    before = state(network)
    with pytest.raises(ZeroDivisionError), attacked(network, **options):
        assert not any(parameter.requires_grad for parameter in network.parameters())
        raise ZeroDivisionError
    assert state(network) == before


def test_no_gradient_of_a_parameter_is_formed_or_touched(network):
    network[5].weight.grad = torch.ones_like(network[5].weight)
    attack_once(network)
    attack_once(network, training=True, update_statistics=True)
    assert torch.equal(network[5].weight.grad, torch.ones_like(network[5].weight))
    assert all(parameter.grad is None for name, parameter in network.named_parameters() if name != "5.weight")


def test_in_evaluation_mode_an_attack_sees_running_statistics_and_no_dropout(network):
    x = torch.rand(8, 1, 8, 8)
    network[1].running_mean.fill_(0.7)
    with attacked(network):
        seen = network(x)
    assert torch.equal(seen, network.eval()(x))


def test_in_training_mode_an_attack_sees_the_statistics_of_its_batch(network):
    network[3].p = 0.0
    x = torch.rand(8, 1, 8, 8)
    with attacked(network, training=True):
        seen = network(x)
    assert torch.equal(seen, network(x))
    assert not torch.allclose(seen, network.eval()(x), atol=1e-3)


def test_the_attacks_batches_move_running_statistics_only_when_told(network):
    before = copy.deepcopy(network[1].state_dict())
    attack_once(network, training=True)
    attack_once(network, training=False, update_statistics=True)
    for name in ("running_mean", "running_var"):
        assert torch.equal(network[1].state_dict()[name], before[name])
    x = torch.rand(8, 1, 8, 8)
    with attacked(network, training=True, update_statistics=True):
        for _ in range(25):
            network(x)
    network(x)
    # 25 inner passes and the training's own at momentum 0.1: 93.5 % of the statistics are this batch's.
    own = network[0](x).mean((0, 2, 3)) * (1 - 0.9**26)
    assert torch.allclose(network[1].running_mean, own, atol=1e-5)


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "native", "narrow"),
    [
        ("float32", True, False),
        ("bfloat16", True, True),
        ("auto", True, True),
        ("bfloat16", False, False),
        ("auto", False, False),
    ],
)
def test_the_precision_is_what_was_asked_for_where_the_processor_has_it(
    network, monkeypatch, precision, native, narrow
):
    monkeypatch.setattr(attacks, "has_bfloat16", lambda device: native)
    assert use_bfloat16(precision) == narrow
    with attacked(network, precision=precision):
        assert network(torch.rand(8, 1, 8, 8)).dtype == (torch.bfloat16 if narrow else torch.float32)
    assert network(torch.rand(8, 1, 8, 8)).dtype == torch.float32


def test_unknown_precisions_are_refused(network):
    with pytest.raises(UserError, match="auto, float32, bfloat16"), attacked(network, precision="float16"):
        pass


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="about x86")
def test_a_processor_that_only_emulates_bfloat16_has_none(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert not has_bfloat16()


def test_a_build_without_onednn_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_bfloat16()


@pytest.mark.parametrize("training", [False, True])
def test_bfloat16_moves_nearly_all_pixels_as_float32_does(training, monkeypatch):
    """On any processor: the arithmetic is the same whether it is native or emulated."""
    monkeypatch.setattr(attacks, "has_bfloat16", lambda device: True)
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3)]
    network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    wide, narrow = (attack_once(network, training=training, precision=name) for name in ("float32", "bfloat16"))
    assert narrow.dtype == torch.float32
    assert ((wide - narrow).abs() < 0.05).double().mean() > 0.9


# --- the ensemble -----------------------------------------------------------------------------------------------------


def test_without_the_library_the_ensemble_says_how_to_get_it(network, monkeypatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(attacks, "version", missing)
    for call in (ensemble_version, lambda: ensemble(network, PGD(0.3, 0.1), 3, rng())):
        with pytest.raises(UserError, match=r"pip install 'guardclash\[attacks\]'"):
            call()


@pytest.mark.parametrize(
    "ball",
    [PGD(0.2, 0.1), PGD(0.8, 0.1, norm="l2"), PGD(0.5, 0.1, scale=(0.4,), clamp=False), PGD(0.5, 0.1, scale=(0.4,))],
    ids=["linf", "l2", "published", "both"],
)
def test_the_ensemble_stays_in_the_ball_and_leaves_no_trace(ball, network, monkeypatch):
    pytest.importorskip("art", reason="pip install 'guardclash[attacks]'")
    monkeypatch.setattr(attacks, "ENSEMBLE_STEPS", 5)
    monkeypatch.setattr(attacks, "ENSEMBLE_QUERIES", 5)
    x, network = torch.rand(30, 1, 8, 8, generator=rng()), network.eval()
    y = network(x).argmax(1)
    before, drawn = state(network), np.random.get_state()[1].copy()
    with attacked(network):
        parts = ensemble(network, ball, 3, rng())
        found = [part(x, y) for part in parts]
        again = [part(x, y) for part in ensemble(network, ball, 3, rng())]
    assert len(parts) == (2 if ball.norm == "l2" else 3)
    assert state(network) == before
    assert (np.random.get_state()[1] == drawn).all()
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True)), "the generator decides"
    for images in found:
        delta = (images - x) / ball.scale[0]
        size = delta.abs().amax((1, 2, 3)) if ball.norm == "linf" else delta.flatten(1).norm(dim=1)
        assert (size <= ball.radius + 1e-5).all()
        assert not ball.clamp or (images.min() >= 0 and images.max() <= 1)
        assert images.dtype == torch.float32
        assert (network(images).argmax(1) != y).any()
