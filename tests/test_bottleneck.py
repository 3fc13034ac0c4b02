"""The variational bottleneck: its code, its price, and that both are right per example."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanisms.bottleneck import Bottleneck, BottleneckForClassifier, Rate, Variational, rate
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.trades import Trades
from guardclash.numerics.clipping import clipped_sum
from guardclash.numerics.features import classifier, features_of, linear_readout
from guardclash.plan.examples import Data, Moment
from guardclash.plan.objectives import CrossEntropy
from guardclash.training.released import Chance, released_gradient
from guardclash.training.train import build_network, train


@pytest.fixture
def batch(context) -> Data:
    return context(0).examples("digits", "train").take(slice(6))


def made(toy, context, *others) -> tuple:
    plan = compose(toy, [Bottleneck(), *others])
    return plan, build_network(plan, context(0))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-5, 3)), min_size=1, max_size=6))
def test_the_rate_is_the_divergence_from_noise(codes):
    mean, log_variance = torch.tensor(codes, dtype=torch.float64).T[:, None]
    wanted = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(rate(mean, log_variance), wanted)


def test_the_last_layer_becomes_two_and_features_are_read_behind_the_code(toy, context, batch):
    _, network = made(toy, context)
    plain = build_network(toy, context(0))
    own, theirs = network.state_dict(), plain.state_dict()
    shared = [name for name in theirs if name in own]
    assert len(shared) == len(theirs) - 2
    assert all(torch.equal(theirs[name], own[name]) for name in shared), "from the same draws"
    last = classifier(network)
    assert (last.in_features, last.out_features) == (32, 10)
    assert features_of(network.eval(), batch.x).shape == (6, 32)
    read = linear_readout(network, 10, [batch.x])
    logits = network(batch.x).detach().double().numpy()
    assert torch.allclose(torch.tensor(read.features[0] @ read.weight.T + read.bias), torch.tensor(logits), atol=1e-5)


def test_the_code_is_drawn_in_training_and_its_mean_in_evaluation():
    torch.manual_seed(0)
    layer, x = Variational(5, 3, 2), torch.randn(1, 5).expand(20_000, 5)
    assert not torch.equal(layer(x[:1]), layer(x[:1]))
    mean, log_variance = layer.encode(x[:1]).chunk(2, 1)
    codes: list[torch.Tensor] = []
    layer.decode.register_forward_pre_hook(lambda _, inputs: codes.append(inputs[0].detach()))
    layer(x)
    assert torch.allclose(codes[0].mean(0), mean[0], atol=0.05)
    assert torch.allclose(codes[0].var(0), log_variance[0].exp(), rtol=0.05)
    layer.eval()
    assert torch.equal(layer(x[:1]), layer.decode(mean))


def test_a_network_that_is_one_layer_is_replaced():
    found = BottleneckForClassifier(2)(nn.Linear(4, 3, bias=False).eval())
    assert isinstance(found, Variational) and not found.training and found.decode.bias is None
    assert found(torch.rand(1, 4)).shape == (1, 3)


# Its price


def test_what_is_paid_is_that_of_the_examples_whatever_ran_before(toy, context, batch):
    """The trap of a layer that remembers: an attack inside another loss runs the network on other images."""
    plan, network = made(toy, context, Trades(steps=2))
    assert [type(one).__name__ for one in plan.task.objectives] == ["CrossEntropy", "Rate", "RobustnessGap"]
    layer = next(module for module in network.modules() if isinstance(module, Variational))
    network.eval()
    codes: list[torch.Tensor] = []
    handle = layer.encode.register_forward_hook(lambda _, inputs, output: codes.append(output))
    network(batch.x)
    handle.remove()
    wanted = 0.01 * rate(*codes[0].chunk(2, 1))
    network(torch.zeros_like(batch.x))
    assert torch.allclose(Rate(0.01)(network, batch, now=Moment()), wanted)
    assert not layer.encode._forward_hooks
    assert Rate(0.01)(build_network(toy, context(0)), batch, now=Moment()).tolist() == [0.0] * 6


def test_running_statistics_move_once_in_a_step(toy, context, batch):
    """As without it: the second pass leaves them alone."""
    plan, network = made(toy, context)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    plain = build_network(toy, context(0))
    chance = Chance(torch.Generator(), torch.Generator())
    released_gradient(plan, network, plan.task, batch, chance)
    released_gradient(toy, plain, toy.task, batch, chance)
    own, theirs = dict(network.named_buffers()), dict(plain.named_buffers())
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


@pytest.mark.parametrize("price_first", [False, True])
def test_clipped_gradients_are_those_of_single_examples(toy, context, batch, price_first):
    """With two passes a step, through the layers that are new; noise so small that single examples see the same.

    Whichever pass is the first, in which the clipping also tries the network on other batches.
    """
    plan, network = made(toy, context, DPSGD())
    layer = next(module for module in network.modules() if isinstance(module, Variational))
    with torch.no_grad():
        layer.encode.bias[32:] = -60.0
        layer.encode.weight[32:] = 0.0
    network.train()

    def losses(one: Data) -> torch.Tensor:
        parts = plan.task.objectives[::-1] if price_first else plan.task.objectives
        return sum(part(network, one, now=Moment()) for part in parts)

    assert [type(part) for part in plan.task.objectives] == [CrossEntropy, Rate]
    for _ in range(2):  # what is presumed is checked in the first step only
        found = clipped_sum(network, lambda: losses(batch), 0.5)
    named = dict(network.named_parameters())
    total = {name: torch.zeros_like(value) for name, value in named.items()}
    norms = []
    for place in range(len(batch.x)):
        parts = torch.autograd.grad(losses(batch.take(slice(place, place + 1))).sum(), list(named.values()))
        norms.append(torch.stack([part.square().sum() for part in parts]).sum().sqrt())
        for name, part in zip(named, parts, strict=True):
            total[name] += part * (0.5 / norms[-1]).clamp(max=1)
    assert torch.allclose(found.norms, torch.stack(norms), rtol=1e-4)
    assert all(torch.allclose(found.total[name], total[name], atol=1e-4) for name in total)


def test_a_higher_price_leaves_less_in_the_code(context, base):
    rates = {}
    for beta in (0.0, 1.0):
        plan = compose(replace(base, epochs=4), [Bottleneck(beta=beta)])
        trained = context(0).trained(plan)
        rates[beta] = Rate(1.0)(trained.network, context(0).data(base.judged_by.test), now=Moment()).mean().item()
    assert rates[1.0] < 0.5 * rates[0.0]


def test_equal_seeds_give_equal_bits_and_others_do_not(toy, context):
    plan = compose(toy, [Bottleneck()])
    one, again, other = (train(plan, context(seed)).network.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


# Where it fits


@dataclass(frozen=True)
class NoReadout:
    """Its classes come out of a convolution."""

    shape: tuple[int, ...] = (1, 8, 8)
    classes: int = 10
    std: tuple[float, ...] = (1.0,)

    def build(self) -> nn.Module:
        inner = nn.Linear(64, 12), nn.Unflatten(1, (12, 1)), nn.Conv1d(12, 10, 1)
        return nn.Sequential(nn.Flatten(), *inner, nn.Flatten())


def test_a_network_without_a_last_layer_is_a_clash(toy):
    with pytest.raises(Clash, match="bottleneck stands in front of the last linear layer"):
        compose(replace(toy, model=NoReadout()), [Bottleneck()])


def test_options():
    with pytest.raises(UserError, match=r"bottleneck\.units"):
        Bottleneck(units=0)
    with pytest.raises(UserError, match=r"bottleneck\.beta"):
        Bottleneck(beta=-1.0)
