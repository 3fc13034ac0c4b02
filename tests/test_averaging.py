"""Averages of weights that a training ends with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.fixedpoint import FixedPointTraining
from guardclash.mechanisms.scatterdp import ScatterDP
from guardclash.plan.averaging import Average, Averaging
from guardclash.plan.identity import fingerprint
from guardclash.tasks.recipe import recipe
from guardclash.training.train import Run, train


def test_what_is_kept_grows_to_the_decay():
    rule = Averaging(0.9999)
    assert [rule.kept(step) for step in (0, 10, 100, 1000)] == pytest.approx([0.1, 0.55, 0.918182, 0.991089], abs=1e-6)
    assert Averaging(0.5).kept(1000) == 0.5


def test_an_average_by_hand():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = Average(Averaging(0.99), network)
    for value in (1.0, 3.0):
        nn.init.constant_(network.weight, value)
        average.follow()
    # 0.1 * 0 + 0.9 * 1 = 0.9, then 2/11 * 0.9 + 9/11 * 3.
    average.settle()
    assert network.weight.item() == pytest.approx(2 / 11 * 0.9 + 9 / 11 * 3)


@pytest.fixture(scope="module")
def plans():
    base = recipe("digits", "smoke", examples=100, epochs=2).plan()
    return [compose(base, [DPSGD(averaging=averaging)]) for averaging in (None, 0.9)]


def test_the_training_is_the_same_and_ends_elsewhere(plans, context):
    last, averaged = (Run(plan, context(0), torch.device("cpu")) for plan in plans)
    seen = []
    for run in (last, averaged):
        for number in range(2):
            run.epoch(number)
        seen.append([one.detach().clone() for one in run.network.parameters()])
    assert all(map(torch.equal, *seen)), "the average moves nothing"
    averaged.finish()
    assert not any(map(torch.equal, seen[0], averaged.network.parameters()))


def test_it_costs_no_privacy_and_no_key_of_before(plans):
    last, averaged = plans
    assert DPSGD().spent(averaged) == DPSGD().spent(last)
    assert replace(averaged, averaging=None) == last
    assert fingerprint(averaged) != fingerprint(last)


def test_running_statistics_are_those_of_the_average(context):
    base = recipe("digits", "smoke", examples=100, epochs=2).plan()
    found = train(replace(base, averaging=Averaging(0.9)), context(0)).network
    clean = context(0).data(base.task.source).x
    norm = next(one for one in found.modules() if isinstance(one, nn.BatchNorm2d))
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        found(clean)
    torch.testing.assert_close(norm.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_an_average_is_kept_in_the_plans_numbers(context):
    base = recipe("digits", "smoke", examples=60, epochs=1).plan()
    plan = replace(compose(base, [FixedPointTraining(bits=8)]), averaging=Averaging(0.9))
    network = train(plan, context(0)).network
    stored = [plan.arithmetic.store(one.detach(), torch.Generator().manual_seed(0)) for one in network.parameters()]
    assert all(map(torch.equal, stored, network.parameters()))


def test_only_one_mechanism_may_ask_for_it():
    base = recipe("digits", "smoke").plan()
    assert compose(base, [ScatterDP(averaging=0.5)]).averaging == Averaging(0.5)
    with pytest.raises(Clash):
        compose(base, [DPSGD(averaging=0.5), DPSGD(averaging=0.6)])


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_impossible_decays_are_refused(decay):
    with pytest.raises(UserError, match=r"dpsgd\.averaging"):
        DPSGD(averaging=decay)
    with pytest.raises(UserError, match="averaging"):
        Averaging(decay)
