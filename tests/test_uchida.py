"""A watermark in the weights: how it is learnt and read, what it withstands, and what privacy makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.fineprune import FinePruning
from guardclash.mechanisms.scatterdp import ScatterDP
from guardclash.mechanisms.uchida import UNALIGNED, UNREADABLE, Reading, Uchida
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.verification import log10_verification_p
from guardclash.numerics.weight_marks import (
    bits_right,
    drawn,
    mark_loss,
    matched_channels,
    mean_filter,
    usual_place,
    weight_layers,
)
from guardclash.plan.deployed import Deployed
from guardclash.plan.networks import MLP
from guardclash.plan.plan import Plan
from guardclash.plan.weight_mark import PURPOSE, WeightMark
from guardclash.records.plain import results_from
from guardclash.reporting.claims import claims
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.suspects.extraction import Extraction
from guardclash.suspects.fine_tuning import FineTuning
from guardclash.suspects.independent import Independent
from guardclash.suspects.pruning import Pruning
from guardclash.suspects.quantisation import Quantisation
from guardclash.suspects.unrelated import Unrelated
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train
from guardclash.training.trained import Trained
from running import ran, site, study

__all__ = ["site"]
STRONG = {"name": "uchida", "strength": 0.1}
MEAN = torch.tensor([0.1, -0.2, 0.05, 0.3], dtype=torch.float64)
ROWS = torch.tensor([[1, -1, 0.5, 2], [0.5, 0.5, -1, -1], [-2, 1, 0, 1]], dtype=torch.float64)
MESSAGE = torch.tensor([1, 0, 1])


@pytest.fixture(scope="module")
def quick() -> Plan:
    return recipe("digits", "smoke", epochs=4, norm="group").plan()


@pytest.fixture(scope="module")
def mark(quick) -> Uchida:
    return Uchida(strength=0.1).bind(quick)


@pytest.fixture(scope="module")
def owners(context, quick, mark) -> Trained:
    return context(0).trained(compose(quick, [mark]))


# By hand


def test_loss_gradient_and_bits_are_as_by_hand():
    mean = MEAN.clone().requires_grad_()
    assert (ROWS @ MEAN).tolist() == pytest.approx([0.925, -0.4, -0.1])
    loss = mark_loss(mean, ROWS, MESSAGE)
    assert loss.item() == pytest.approx(1.591403517, abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, mean)
    assert gradient.tolist() == pytest.approx([0.96667434, -0.04038281, -0.54328244, -1.49417194], abs=1e-8)
    assert bits_right(MEAN, ROWS, MESSAGE) == 2, "read are 1, 0, 0"
    assert bits_right(torch.zeros(4), ROWS, torch.tensor([1, 1, 0])) == 2, "at 0 a bit is 1"


@pytest.mark.parametrize(
    ("bits", "right", "log10"),
    [
        (16, 16, -4.816480),
        (16, 14, -2.679759),
        (64, 64, -19.265920),
        (64, 48, -4.412678),
        (100, 75, -6.550037),
        (128, 96, -8.192405),
        (256, 256, -77.063679),
        (256, 160, -4.419914),
        (256, 144, -1.581105),
    ],
)
def test_the_chance_of_as_many_bits_is_that_of_coins(bits, right, log10):
    assert log10_verification_p(bits - right, bits, 2) == pytest.approx(log10, abs=1e-6)
    assert Reading(right, None, bits).log10_p == pytest.approx(log10, abs=1e-6)
    doubled = Reading(0, right, bits)
    assert doubled.log10_p == pytest.approx(log10 + 0.301030, abs=1e-6), "two looks"


@pytest.mark.parametrize(
    ("bits", "thousandth", "millionth"), [(64, 45, 51), (100, 66, 74), (128, 82, 92), (256, 154, 167), (16, 15, None)]
)
def test_so_many_bits_make_a_claim(bits, thousandth, millionth):
    def least(log10: float) -> int | None:
        reached = (right for right in range(bits + 1) if log10_verification_p(bits - right, bits, 2) <= log10)
        return next(reached, None)

    assert (least(-3), least(-6)) == (thousandth, millionth)


def test_the_mean_filter_is_the_mean_over_outputs():
    weight = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(mean_filter(weight), (weight[0] + weight[1]) / 2)
    assert not torch.equal(drawn(torch.Generator().manual_seed(0), 5, 4).rows, ROWS)


# Where it is


@pytest.mark.parametrize(
    ("layers", "place"),
    [
        ([nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(2, 3)], 1),
        ([nn.Linear(2, 2), nn.Conv1d(1, 2, 3), nn.Linear(2, 2), nn.Conv1d(2, 2, 3), nn.Linear(2, 3)], 3),
        ([nn.Conv2d(1, 2, 3), nn.Linear(2, 4), nn.Linear(4, 3)], 1),
        ([nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3)], 0),
        ([nn.Linear(4, 4), nn.Linear(4, 3)], 0),
        ([nn.Linear(4, 3)], None),
        ([nn.ReLU()], None),
    ],
)
def test_the_usual_layer_is_the_second_convolution_and_never_the_last_layer(layers, place):
    network = nn.Sequential(*layers)
    assert usual_place(network) == place
    assert len(weight_layers(network)) == sum(not isinstance(one, nn.ReLU) for one in layers)


def test_it_is_a_penalty_of_the_streams_that_are_named(base, mark):
    penalty = WeightMark("5", 400, 64, 0.1)
    joint = compose(base, [mark, Watermark(triggers=20)])
    assert [one.penalties for one in joint.streams] == [(penalty,)] * 2
    for name, count in (("task", (1, 0)), ("trigger", (0, 1))):
        plan = compose(base, [replace(mark, on=(name,)), Watermark(triggers=20)])
        assert tuple(len(one.penalties) for one in plan.streams) == count
    assert compose(base, [replace(mark, layer="5")]) == compose(base, [mark])
    assert compose(base, [replace(mark, layer="1", bits=20)]).task.penalties == (WeightMark("1", 25, 20, 0.1),)
    assert "400 weights" in mark.facts(base)["mark"]


def test_what_cannot_be_marked_is_told(base):
    with pytest.raises(UserError, match=r"no convolution or linear layer.*'6'; allowed: 1, 5, 10, 13"):
        compose(base, [Uchida(layer="6")])
    with pytest.raises(Clash, match=r"uchida marks 26 bits, and the mean filter of layer 1 has 25"):
        compose(base, [Uchida(layer="1", bits=26)])
    for wrong in ({"bits": 0}, {"strength": 0.0}):
        with pytest.raises(UserError, match=rf"uchida\.{next(iter(wrong))}"):
            Uchida(**wrong)
    flat = replace(base, model=MLP((64,), 10, ()), purpose=None)
    with pytest.raises(Clash, match="uchida marks a layer in front of the last one, and this network has none"):
        compose(flat, [Uchida()])
    assert Uchida().facts(flat) == {}


def test_a_network_that_another_has_replaced_is_looked_at_again(base):
    for order in ([Uchida(), ScatterDP()], [ScatterDP(), Uchida()]):
        with pytest.raises(Clash, match=r"uchida marks .*, and this network has none: it is that of scatterdp"):
            compose(base, order)


# What is read


def test_the_owner_reads_the_mark_and_nobody_else(owners, mark, context, quick):
    found = mark.measure(owners, context(0))
    assert found["uchida_bits"] == found["uchida_as_it_lies"] == found["uchida_aligned"] == 1
    assert found["uchida_log10_p"] == pytest.approx(-19.265920 + 0.301030, abs=1e-5)
    assert min(found["uchida_unmarked"], found["uchida_other_keys"]) > -6
    assert found["uchida_sd"] > 1.1, "marks widen the spread of the layer's weights"
    assert mark.warnings(found) == ()
    foreign = mark.verify(owners, owners, context(1))
    assert foreign["uchida_log10_p"] > -6, "the key of another seed"
    bare = mark.measure(context(0).trained(quick), context(0))
    assert bare["uchida_log10_p"] > -6 and bare["uchida_sd"] == pytest.approx(1, abs=0.2)


def test_a_thief_has_a_key_of_its_own(owners, mark, context, quick):
    thief = train(replace(owners.plan, party="thief"), context(0))
    assert mark.verify(thief, owners, context(0))["uchida_log10_p"] > -6
    assert mark.measure(thief, context(0).of("thief"))["uchida_bits"] == 1


def test_it_withstands_what_keeps_the_weights_and_says_nothing_of_others(owners, mark, context, quick):
    stolen = [Pruning(0.5), Pruning(0.9), Quantisation(3), FineTuning(epochs=2), FineTuning(forget=True, epochs=1)]
    victim = owners.deployed
    for suspect in stolen:
        found = mark.verify(context(0).trained(suspect.plan(victim, quick)), owners, context(0))
        assert found["uchida_as_it_lies"] > 0.95 and found["uchida_log10_p"] <= -6, suspect
    for suspect in (Extraction(), Extraction(answers="probabilities"), Independent(), Unrelated()):
        found = mark.verify(context(0).trained(suspect.plan(victim, quick)), owners, context(0))
        assert found["uchida_log10_p"] > -6 and 0.2 < found["uchida_bits"] < 0.8, suspect


def reordered(trained: Trained, order: Tensor) -> Trained:
    """The same function with the channels behind the first convolution in another order, by hand."""
    with torch.no_grad():
        network = type(trained.plan.model).build(trained.plan.model)
        network.load_state_dict(trained.network.state_dict())
        first, norm, second = network[1], network[4], network[5]
        for tensor in (first.weight, first.bias, norm.weight, norm.bias):
            tensor.copy_(tensor[order].clone())
        second.weight.copy_(second.weight[:, order].clone())
    return replace(trained, network=network.eval(), predict=network.eval())


@pytest.mark.parametrize("seed", range(3))
def test_channels_in_another_order_are_put_back(seed, owners, mark, context):
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    thief = reordered(owners, order)
    x = context(0).data(owners.plan.judged_by.test).x
    assert torch.allclose(thief.predict(x), owners.predict(x), atol=1e-4), "no answer changes"
    found = mark.verify(thief, owners, context(0))
    assert 0.2 < found["uchida_as_it_lies"] < 0.8 and found["uchida_aligned"] == found["uchida_bits"] == 1
    assert found["uchida_log10_p"] <= -6
    blind = replace(mark, align=False).verify(thief, owners, context(0))
    assert blind["uchida_log10_p"] > -6 and "uchida_aligned" not in blind
    assert replace(mark, align=False).warnings(blind) == () and mark.warnings(blind) == (UNALIGNED,)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(0, 1000), st.integers(0, 4), st.floats(0.1, 10))
def test_channels_are_matched_by_what_they_say_whatever_their_scale(channels, seed, dead, scale):
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(channels, generator=rng)
    mixed = torch.randn(6, channels, generator=rng, dtype=torch.float64)
    silent = torch.arange(channels) < min(dead, channels)
    images = torch.randn(300, 6, generator=rng)

    def ours(x: Tensor) -> Tensor:
        return torch.where(silent[:, None], 0.0, (x.double() @ mixed).T)

    def theirs(x: Tensor) -> Tensor:
        return scale * ours(x)[order] + 3

    found = matched_channels(ours, theirs, images)
    assert sorted(found.tolist()) == list(range(channels))
    told = ~silent
    assert torch.equal(order[found][told], torch.arange(channels)[told])
    assert torch.equal(matched_channels(ours, ours, images), torch.arange(channels)), "equal ones stay"
    assert matched_channels(ours, lambda x: theirs(x)[1:], images) is None


def test_another_layer_in_the_place_leaves_the_metric_out(owners, mark, context, quick):
    wider = train(replace(quick, model=replace(quick.model, widths=(12, 32)), epochs=1, party="thief"), context(0))
    assert mark.verify(wider, owners, context(0)) == {}
    assert mark.warnings({}) == (UNREADABLE,)
    rows = MLP((64,), 10, ())
    bare = replace(owners, network=rows.build().eval(), plan=replace(owners.plan, model=rows))
    assert mark.measure(bare, context(0)) == {} == mark.verify(bare, owners, context(0))


def test_the_mark_is_found_in_a_network_that_was_pruned_afterwards(mark, context, quick):
    pruned = compose(quick, [mark, FinePruning(images=100, epochs=1)])
    found = mark.measure(context(0).trained(pruned), context(0))
    assert found["uchida_bits"] > 0.95
    named = replace(mark, layer="5").measure(context(0).trained(pruned), context(0))
    assert named == found, "although the layer is now called 5.0"


# Under DP-SGD


@pytest.mark.parametrize("on", [None, ("task",)])
def test_privacy_costs_no_bit_and_the_mark_no_epsilon(on, quick, mark, context):
    private = DPSGD(on=on)
    both, alone = compose(quick, [mark, private]), compose(quick, [private])
    assert both.task.penalties and both.task.gradient == alone.task.gradient
    trained = context(0).trained(both)
    spent = private.measure(trained, context(0))["epsilon"]
    assert spent == private.measure(replace(trained, plan=alone), context(0))["epsilon"] < 3.01
    assert mark.measure(trained, context(0))["uchida_bits"] > 0.95


# Studies


def test_claims_on_suspects_end_to_end(site):
    suspects: list[Any] = [{"kind": kind} for kind in ("fine-tuning", "overwriting", "extraction", "independent")]
    wanted = study([STRONG], seeds=2, recipe={"epochs": 4, "norm": "group"}, suspects=suspects)
    content = ran(wanted, site, Inline())
    assert not [trial for cell in content["cells"] for trial in cell["trials"] if trial.get("error")]
    found = {claim.suspect: claim for claim in claims(wanted, results_from(content))}
    assert found["itself"].outcome == found["fine-tuning"].outcome == found["overwriting"].outcome == "detected"
    assert found["independent"].outcome == "cleared"
    assert not found["extraction"].finding.claimed, "missed by design"
    assert {control.metric.name for control in found["itself"].controls} == {"uchida_unmarked", "uchida_other_keys"}


def test_a_mark_in_the_weights_can_be_overwritten():
    wanted = study([STRONG], seeds=1, recipe={"examples": 200}, suspects=[{"kind": "overwriting"}])
    (entry,) = (entry for entry in compose_study(wanted) if entry.cell.suspect)
    assert entry.plan.party == "thief" and entry.plan.task.penalties == entry.plan.initial.task.penalties
    assert entry.plan.task.source == FineTuning().plan(Deployed(entry.plan.initial), entry.recipe.plan()).task.source


def test_keys_are_the_seeds_and_named_for_a_purpose(context):
    one, other = (drawn(context(seed).rng(*PURPOSE), 8, 5) for seed in (0, 1))
    again = WeightMark("5", 5, 8, 1.0).start(context(0).rng).key
    assert torch.equal(one.rows, again.rows) and torch.equal(one.message, again.message)
    assert not torch.equal(one.rows, other.rows)
    assert type(Uchida()).verify is not Mechanism.verify
