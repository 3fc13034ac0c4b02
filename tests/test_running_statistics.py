"""Networks that keep something of their batches in buffers, in layers of torch and in those of a user's own."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.attacks import attacked
from guardclash.numerics.batchnorm import frozen_statistics
from guardclash.numerics.clipping_checks import buffers_of, moved
from guardclash.plan.gradients import ClippedNoisy
from guardclash.plan.structure import moved_statistics
from guardclash.training.train import Run


class Average(nn.Module):
    """Subtracts a running mean, which it moves in training mode: in place, or by another tensor; and counts calls."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.in_place = in_place
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.calls += 1
            if self.in_place:
                self.mean.lerp_(x.detach().mean(), 0.5)
            else:
                self.mean = 0.5 * self.mean + 0.5 * x.detach().mean()
        return x - self.mean


KEEPERS = {
    "in place": lambda: Average(True),
    "another tensor": lambda: Average(False),
    "instance norm": lambda: nn.InstanceNorm2d(1, track_running_stats=True),
}


@dataclass(frozen=True)
class Own:
    """A network with one of these layers, or with a norm over single values."""

    layer: str
    shape: tuple[int, int, int] = (1, 8, 8)
    classes: int = 10
    std: tuple[float, ...] = (1.0,)

    def build(self):
        return network(self.layer)


def network(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    if name in NORMS:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), NORMS[name](), nn.Flatten(), nn.Linear(6, 10))
    return nn.Sequential(KEEPERS[name](), nn.Flatten(), nn.Linear(64, 10))


NORMS = {
    "group": lambda: nn.GroupNorm(6, 6),
    "layer": lambda: nn.Sequential(nn.Unflatten(1, (6, 1)), nn.LayerNorm(1)),
    "instance": lambda: nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.InstanceNorm2d(6)),
}


def buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.clone() for name, one in module.named_buffers()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", KEEPERS)
def test_what_is_kept_of_examples_is_refused_under_a_bound_on_each(name):
    """At any noise: the buffer goes into the stored weights as it is."""
    keeper, x, y = network(name).train(), torch.rand(5, 1, 8, 8), torch.arange(5)
    private = ClippedNoisy(1.0, 1e6, 5)

    def losses():
        return nn.functional.cross_entropy(keeper(x), y, reduction="none")

    with pytest.raises(UserError, match=r"keeps (something|statistics) of the examples"):
        private(keeper, losses, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", KEEPERS)
def test_a_private_training_of_such_a_network_is_refused(name, base, context):
    plan = compose(replace(base, model=Own(name)), [DPSGD()])
    with pytest.raises(UserError, match="of the examples"):
        Run(plan, context(0), torch.device("cpu")).epoch(0)


@pytest.mark.parametrize("name", KEEPERS)
def test_frozen_statistics_are_left_alone_whoever_keeps_them(name):
    frozen, free, x = network(name).train(), network(name).train(), torch.rand(4, 1, 8, 8)
    before = buffers(frozen)
    with frozen_statistics(frozen):
        frozen(x)
        frozen(x)
    assert same(buffers(frozen), before)
    for _ in range(2):
        assert torch.equal(frozen(x), free(x))
    assert same(buffers(frozen), buffers(free))
    assert not same(buffers(frozen), before)


@pytest.mark.parametrize("name", KEEPERS)
@pytest.mark.parametrize("update", [True, False])
def test_attacks_in_training_mode_move_statistics_only_where_told(name, update):
    keeper, x = network(name).train(), torch.rand(4, 1, 8, 8)
    before = buffers(keeper)
    with attacked(keeper, training=True, update_statistics=update):
        keeper(x)
    assert same(buffers(keeper), before) != update


@pytest.mark.parametrize("name", KEEPERS)
def test_policies_for_statistics_stand_where_there_are_some(name, base):
    """Only without any is every policy the same training."""
    plan = replace(base, model=Own(name))
    assert compose(plan, [Watermark(batch_norm="freeze")]).stream("trigger").batch_norm == "freeze"
    without = replace(base, model=replace(base.model, norm="group"))
    assert compose(without, [Watermark(batch_norm="freeze")]).stream("trigger").batch_norm == "update"
    with pytest.raises(UserError, match="cannot be estimated anew"):
        compose(plan, [Watermark(batch_norm="recalibrate")])


def test_another_tensor_is_never_taken_for_the_one_before():
    """While a look at buffers is kept, so are they: a new tensor may otherwise get the place in memory of the old."""
    keeper = network("another tensor").train()
    before = buffers_of(keeper)
    old = weakref.ref(keeper[0].mean)
    keeper(torch.rand(3, 1, 8, 8))
    assert old() is not None and moved(before, buffers_of(keeper)) == ["0.mean"]
    after = buffers_of(keeper)
    assert moved(after, buffers_of(keeper)) == []


def test_statistics_are_found_without_weights():
    assert moved_statistics(Own("in place"), ()) == ("0.mean", "0.calls")
    assert set(moved_statistics(Own("another tensor"), ())) == {"0.mean", "0.calls"}
    assert "0.running_mean" in moved_statistics(Own("instance norm"), ())


def test_ordinary_networks_keep_none_but_batch_norms(base):
    for norm in ("batch", "group", "none"):
        assert moved_statistics(replace(base.model, norm=norm), ()) == ()


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("combination", [(), (DPSGD(),)], ids=["plain", "private"])
def test_a_norm_over_single_values_is_refused(name, combination, base):
    """Its output is the same for every input, so what is measured of the network is chance."""
    with pytest.raises(UserError, match=f"{name} norm over single values makes the network constant"):
        compose(replace(base, model=Own(name)), combination)
