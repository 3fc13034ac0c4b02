"""Removal without training: channels in another order, filters moved, inputs changed; and labels smoothed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.uchida import Uchida
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.layout import channels_last
from guardclash.numerics.weight_marks import weight_of
from guardclash.plan.channels import masked
from guardclash.plan.deployed import Deployed
from guardclash.plan.examples import Moment
from guardclash.plan.hidden_channels import Hidden, hidden_channels, reorder
from guardclash.plan.maps import SmoothedLabels
from guardclash.plan.models import CNN, ResNet
from guardclash.plan.networks import MLP
from guardclash.plan.plan import Plan
from guardclash.records.plain import results_from
from guardclash.reporting.claims import claims
from guardclash.reporting.findings import find
from guardclash.reporting.forms import FORMS
from guardclash.studies.engines import Inline
from guardclash.suspects.fine_tuning import FineTuning
from guardclash.suspects.permutation import Permutation, Reordered
from guardclash.suspects.preprocessing import Prepared, Preprocessed, Preprocessing
from guardclash.suspects.shifting import ShiftedFilters, Shifting
from guardclash.tasks.recipe import recipe
from guardclash.training.train import build_network, train
from guardclash.training.trained import Trained
from running import ran, site, study

__all__ = ["site"]


@pytest.fixture(scope="module")
def quick() -> Plan:
    return recipe("digits", "smoke", epochs=4, norm="group").plan()


@pytest.fixture(scope="module")
def mark(quick) -> Uchida:
    return Uchida(strength=0.1).bind(quick)


@pytest.fixture(scope="module")
def owners(context, quick, mark) -> Trained:
    return context(0).trained(compose(quick, [mark]))


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose norms have statistics and factors of their own, as after a training."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=rng))
    return network.eval()


# Which channels are hidden


class Residual(nn.Module):
    """A convolution inside of a branch, beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.two(functional.relu(self.one(x))))


class Twice(nn.Module):
    """A linear layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(self.again(self.first(x))))


class Peeking(nn.Module):
    """Code that looks at single channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(y) + y[:, :1]


class Deciding(Twice):
    """Code whose way hangs on numbers."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(y if y.sum() > 0 else -y)


class Branching(nn.Module):
    """Two layers that read the same channels, and functions instead of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.left, self.right = nn.Conv2d(6, 4, 3), nn.Linear(6 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(functional.gelu(self.first(x)), 2)
        return self.left(y).amax((2, 3)) + self.right(torch.flatten(torch.tanh(y), 1))


class Shared(nn.Sequential):
    """One activation that stands in two places."""

    def __init__(self) -> None:
        act = nn.ReLU()
        super().__init__(nn.Linear(4, 6), act, nn.Linear(6, 5), act, nn.Linear(5, 3))


IMAGE, ROW = (1, 8, 8), (4,)
NETWORKS: dict[str, tuple[Any, tuple[int, ...], list[str]]] = {
    "cnn, batch norm": (lambda: CNN(IMAGE, 5, (0.5,), (0.5,), (6, 8), 12, 3).build(), IMAGE, ["1", "6", "12"]),
    "cnn, group norm": (
        lambda: CNN(IMAGE, 5, (0.5,), (0.5,), (6, 8), 12, 3, 0.0, "group").build(),
        IMAGE,
        ["1", "5", "10"],
    ),
    "groups of two": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 3)
        ),
        IMAGE,
        ["0", "3"],
    ),
    "two sizes of groups": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.GroupNorm(4, 8),
            nn.GroupNorm(2, 8),
            nn.Conv2d(8, 4, 3),
            nn.Flatten(),
            nn.Linear(64, 3),
        ),
        IMAGE,
        ["3"],
    ),
    "in groups": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 3)),
        IMAGE,
        [],
    ),
    "mlp": (lambda: MLP(ROW, 3, (6, 5)).build(), ROW, ["0", "3"]),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3)), ROW, ["0"]),
    "softmax inside": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 3)), ROW, []),
    "pooled rows": (lambda: nn.Sequential(nn.Linear(4, 6), nn.MaxPool1d(1), nn.Linear(6, 3)), ROW, []),
    "resnet": (lambda: ResNet((1, 8, 8), 5, (0.5,), (0.5,), 1, 4).build(), IMAGE, ["4.conv1", "5.conv1", "6.conv1"]),
    "residual": (
        lambda: nn.Sequential(nn.Conv2d(1, 6, 3), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
        IMAGE,
        ["1.one"],
    ),
    "masked": (
        lambda: masked(nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)))[0],
        IMAGE,
        ["0.0"],
    ),
    "branching": (Branching, IMAGE, ["first"]),
    "shared activation": (Shared, ROW, ["0", "2"]),
    "twice": (Twice, ROW, []),
    "peeking": (Peeking, ROW, []),
    "deciding": (Deciding, ROW, []),
    "spectral norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 3)),
        ROW,
        [],
    ),
    "one linear layer": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), IMAGE, []),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_are_hidden_where_only_layers_behind_them_see_them(name):
    make, shape, makers = NETWORKS[name]
    torch.manual_seed(0)
    network = lively(make())
    assert [one.maker for one in hidden_channels(network)] == makers
    with torch.device("meta"):
        assert [one.maker for one in hidden_channels(make())] == makers, "without numbers as well"
    for where in (network, channels_last(deepcopy(network))):
        after = Reordered(shape)(deepcopy(where))
        x = torch.rand(7, *shape)
        torch.testing.assert_close(after(x), network(x), atol=1e-5, rtol=1e-4)
        moved = {name for name, one in after.named_parameters() if not torch.equal(one, where.get_parameter(name))}
        assert bool(moved) == bool(makers)


def test_what_is_found_is_told():
    network = CNN(IMAGE, 5, (0.5,), (0.5,), (6, 64), 12, 3, 0.0, "group").build()
    first, second, third = hidden_channels(network)
    assert first == Hidden("1", 6, ("4",), (("5", 1),), 1)
    assert second == Hidden("5", 64, ("8",), (("10", 4),), 2), "32 groups of 2, 4 places of each channel"
    assert third.between == ("11",) and third.readers == (("13", 1),)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(1, 9), st.sampled_from([1, 2, 3]), st.integers(0, 1000), st.booleans())
def test_any_order_that_keeps_neighbours_leaves_the_function(width, places, together, seed, flat):
    torch.manual_seed(seed)
    channels = width * together
    norm = nn.GroupNorm(width, channels)
    behind = [nn.Flatten(), nn.Linear(channels * places, 3)] if flat else [nn.Conv1d(channels, 3, 1)]
    network = lively(nn.Sequential(nn.Conv1d(1, channels, 1), norm, nn.ReLU(), *behind), seed)
    (hidden,) = hidden_channels(network)
    assert hidden.together == together
    order = hidden.order()
    assert sorted(order.tolist()) == list(range(channels))
    groups = order.reshape(-1, together) // together
    assert (groups == groups[:, :1]).all(), "whole groups change places"
    x = torch.rand(3, 1, places)
    before = network(x)
    reorder(network, hidden, order)
    torch.testing.assert_close(network(x), before, atol=1e-4, rtol=1e-4)


class Listening(nn.Linear):
    """Not a plain linear layer, although its structure says so: a hook looks at the order."""


def test_a_function_that_changes_is_refused():
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    network[1].register_forward_hook(lambda _, __, output: output * torch.arange(6))
    with pytest.raises(UserError, match=r"depends on the order of channels.*permutation"):
        Reordered((4,))(network)
    assert hidden_channels(nn.Sequential(Listening(4, 6), nn.Linear(6, 3))) == ()


# Permutation as a suspect


def test_a_reordered_model_answers_as_the_owners_and_its_bits_are_found_in_order_only(owners, mark, context, quick):
    plan = Permutation().plan(owners.deployed, quick)
    assert (plan.initial, plan.epochs, plan.party) == (owners.plan, 0, "thief")
    thief = context(0).trained(plan)
    x = context(0).data(quick.judged_by.test).x
    assert torch.allclose(thief.predict(x), owners.predict(x), atol=1e-4)
    found = mark.verify(thief, owners, context(0))
    assert 0.2 < found["uchida_as_it_lies"] < 0.8 and found["uchida_aligned"] == 1 and found["uchida_log10_p"] <= -6
    again, other = train(plan, context(0)), train(plan, context(1))
    first = "1.weight"
    assert torch.equal(again.network.get_parameter(first), thief.network.get_parameter(first))
    assert not torch.equal(
        other.network.get_parameter(first).sort(0).indices, thief.network.get_parameter(first).sort(0).indices
    )


def test_a_network_without_hidden_channels_is_refused(quick):
    flat = replace(quick, model=MLP((64,), 10, ()))
    with pytest.raises(UserError, match=r"no channels of the network.*permutation"):
        Permutation().plan(Deployed(flat), quick)


# Shifting


def test_shifting_turns_round_what_the_mean_filter_says():
    torch.manual_seed(0)
    made = CNN(IMAGE, 5, (0.5,), (0.5,), (6, 8), 12, 3).build()
    after = ShiftedFilters(1.5)(deepcopy(made))
    for one, other in zip(made.modules(), after.modules(), strict=True):
        if isinstance(one, nn.Conv2d):
            torch.testing.assert_close(weight_of(other).mean(0), -0.5 * weight_of(one).mean(0))
            torch.testing.assert_close(weight_of(other).var(0), weight_of(one).var(0))
        elif isinstance(one, nn.Linear):
            assert torch.equal(one.weight, other.weight), "filters are those of convolutions"
    rows = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    moved = ShiftedFilters(1.0)(deepcopy(rows))
    assert moved[0].weight.mean(0).abs().max() < 1e-6 and torch.equal(moved[2].weight, rows[2].weight)
    noisy = ShiftedFilters(0.0, 0.1)(deepcopy(rows))
    assert 0.02 < (noisy[0].weight - rows[0].weight).std() / rows[0].weight.std() < 0.2


def test_a_shifted_model_has_its_bits_turned_round_until_it_is_trained_on(owners, mark, context, quick):
    bare = context(0).trained(Shifting(epochs=0).plan(owners.deployed, quick))
    turned = mark.verify(bare, owners, context(0))
    assert turned["uchida_as_it_lies"] == 0 and turned["uchida_log10_p"] > -6
    assert mark.warnings(turned) == ("64 of 64 bits are wrong, more than chance makes: the message was turned round",)
    plan = Shifting(epochs=2, learning_rate=1.0).plan(owners.deployed, quick)
    assert plan.rewrites[-1] == ShiftedFilters(1.5) and plan.epochs == 2
    assert plan == replace(
        FineTuning(epochs=2, learning_rate=1.0).plan(owners.deployed, quick), rewrites=(ShiftedFilters(1.5),)
    )
    assert mark.verify(context(0).trained(plan), owners, context(0))["uchida_log10_p"] > -6
    with pytest.raises(UserError, match=r"shifting\.epochs"):
        Shifting(epochs=-1)
    with pytest.raises(UserError, match=r"shifting\.strength"):
        Shifting(strength=-1.0)
    with pytest.raises(UserError, match=r"fine-tuning\.epochs"):
        FineTuning(epochs=0)


# Labels


def test_a_thief_may_smooth_the_labels(base, context):
    plan = FineTuning(smoothing=0.3, epochs=1).plan(Deployed(base), base)
    assert plan.task.maps == (*base.task.maps, SmoothedLabels(0.3, 10, ramp=False))
    assert replace(plan, streams=(replace(plan.task, maps=base.task.maps),)) == FineTuning(epochs=1).plan(
        Deployed(base), base
    )
    batch = context(0).data(plan.task.source).take(slice(0, 5))
    y = plan.task.maps[-1](None, batch, rng=torch.Generator(), now=Moment()).y
    assert torch.allclose(y.sum(1), torch.ones(5)) and torch.allclose(y.max(1).values, torch.full((5,), 0.73))
    train(plan, context(0))
    for wrong in (-0.1, 1.0):
        with pytest.raises(UserError, match=r"fine-tuning\.smoothing"):
            FineTuning(smoothing=wrong)


# Inputs


@pytest.mark.parametrize("how", ["noise", "blur", "quantisation", "flip"])
def test_a_thief_may_change_what_the_model_sees(how, context, base):
    plan = Preprocessing(how).plan(Deployed(base), base)
    thief, own = context(0).trained(plan), context(0).trained(base)
    x = context(0).data(base.judged_by.test).x[:40]
    seen = thief.network[0](x)
    assert seen.shape == x.shape and 0 <= seen.min() and seen.max() <= 1 and not torch.equal(seen, x)
    torch.testing.assert_close(thief.predict(x), own.predict(seen))
    alone = torch.cat([thief.network[0](one) for one in x.split(1)])
    assert torch.equal(alone, seen), "in whatever batch"
    assert thief.predict(x[:0]).shape == (0, 10)
    rebuilt = build_network(plan, context(0)).eval()
    torch.testing.assert_close(rebuilt(x), thief.predict(x))


def test_changes_are_what_they_are_called():
    x = torch.rand(3, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Prepared("flip", 0)(x), x.flip(3))
    few = Prepared("quantisation", 5)(x)
    assert set(few.unique().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0} and (few - x).abs().max() <= 0.125 + 1e-6
    blurred = Prepared("blur", 3)(x)
    torch.testing.assert_close(blurred[:, :, 1:-1, 1:-1], functional.avg_pool2d(x, 3, 1))
    torch.testing.assert_close(Prepared("blur", 3)(torch.full((1, 1, 4, 4), 0.3)), torch.full((1, 1, 4, 4), 0.3))
    noise = Prepared("noise", 0.01)
    grey = torch.full((2, 1, 30, 30), 0.5)
    assert torch.equal(noise(grey), noise(grey)) and torch.equal(noise(grey)[0], noise(grey)[1]), "by secret and image"
    assert 0.008 < (noise(grey) - 0.5).std() < 0.012
    torch.manual_seed(1)
    assert not torch.equal(Prepared("noise", 0.01)(grey), noise(grey)), "another secret"


def test_marks_in_weights_are_read_behind_changed_inputs(owners, mark, context, quick):
    thief = context(0).trained(Preprocessing("flip").plan(owners.deployed, quick))
    for reader in (mark, replace(mark, layer="5")):
        assert reader.verify(thief, owners, context(0))["uchida_as_it_lies"] == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Preprocessing("jpeg"), r"preprocessing\.how"),
        (lambda: Preprocessing(size=4), r"preprocessing\.size"),
        (lambda: Preprocessing(levels=1), r"preprocessing\.levels"),
        (lambda: Preprocessing(noise=0.0), r"preprocessing\.noise"),
    ],
)
def test_impossible_changes_are_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()
    assert hash(Preprocessed("flip", 0.0)) == hash(Preprocessed("flip", 0.0))


# Studies


def test_a_removal_that_costs_the_model_is_none(site):
    suspects: list[Any] = [
        {"kind": "permutation"},
        {"kind": "preprocessing", "how": "flip"},
        {"kind": "shifting", "epochs": 0, "strength": 1.0, "noise": 30.0},
    ]
    wanted = study(
        ["uchida", {"name": "wm", "triggers": 20, "batch_size": 10, "passes": 4, "cadence": "mixed"}],
        seeds=2,
        recipe={"epochs": 8, "norm": "group"},
        suspects=suspects,
    )
    content = ran(wanted, site, Inline())
    assert not [trial for cell in content["cells"] for trial in cell["trials"] if trial.get("error")]
    results = results_from(content)
    found = {(claim.mechanism, claim.suspect): claim.outcome for claim in claims(wanted, results)}
    assert found["uchida", "permutation"] == found["wm", "permutation"] == "detected"
    assert found["uchida", "preprocessing"] == "detected"
    assert {found[owner, "shifting"] for owner in ("uchida", "wm")} == {"removed with the model"}
    told = find(wanted, results, "strict")
    for form in FORMS.values():
        assert form(told)
    assert b"removed with the model" in FORMS["html"](told)


def test_suspects_of_this_file_take_marked_victims(base):
    victim = Deployed(compose(base, [Watermark(triggers=20)]))
    for suspect in (Permutation(), Shifting(), Shifting(epochs=0), Preprocessing()):
        assert suspect.stolen and suspect.plan(victim, base).initial == victim.origin
