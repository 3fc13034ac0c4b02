"""Order: a combination may be trained at once or one mechanism after another, on the weights that were left."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.plan.identity import fingerprint
from guardclash.plan.plan import Plan
from guardclash.records.cells import Named, Sequel, without
from guardclash.records.plain import results_from
from guardclash.registry import find_mechanism
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.study_file import study_from
from guardclash.studies.verdicts import verdicts
from guardclash.training.train import build_network, train
from running import ran, report, values

WM = {"name": "wm", "triggers": 20, "batch_size": 10}
CONTROL = "dpsgd-control"


def ordered(**entry: Any) -> Any:
    return study_from(
        {
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [entry],
            "replicates": {"alone": 1, "together": 1},
        }
    )


def plans(wanted: Any) -> dict[str, Plan]:
    return {
        " ".join(wanted.label(named) for named in entry.cell.combination): entry.plan for entry in compose_study(wanted)
    }


# Studies


def test_a_pair_is_asked_for_at_once_and_in_both_orders():
    wanted = ordered(mechanisms=[WM, CONTROL], orders=True)
    found = plans(wanted)
    assert list(found) == ["", "wm", "dpsgd-control", "wm dpsgd-control", "wm → dpsgd-control", "dpsgd-control → wm"]
    joint, first, second = (found[name] for name in list(found)[3:])
    assert joint.initial is None
    assert first.initial == found["wm"] and second.initial == found["dpsgd-control"]
    assert [stream.name for stream in first.streams] == ["task"]
    assert [stream.name for stream in second.streams] == ["task", "trigger"]
    assert len({fingerprint(plan) for plan in found.values()}) == 6


def test_then_says_how_the_training_goes_on():
    then = [{"mechanisms": [CONTROL], "epochs": 1, "learning_rate": 0.5}, {"mechanisms": ["trades"], "epochs": 3}]
    found = plans(ordered(mechanisms=[WM], then=then))
    plan = found["wm → dpsgd-control(1 epochs) → trades(3 epochs)"]
    assert (plan.epochs, plan.initial.epochs, plan.initial.initial) == (3, 1, found["wm"])
    assert plan.initial.optimizer.learning_rate == 0.5 * found[""].optimizer.learning_rate
    assert plan.optimizer == found[""].optimizer
    assert plan.stage == 2


def test_what_acts_on_no_training_adds_none():
    found = plans(ordered(mechanisms=[WM], then=[{"mechanisms": ["di"]}]))
    assert found["wm → di"] == found["wm"]


def test_a_later_mechanism_is_measured_as_anywhere():
    wanted = ordered(mechanisms=[WM], then=[{"mechanisms": [CONTROL]}])
    cell = next(cell for cell in wanted.cells() if len(cell.combination) == 2)
    assert cell.combination[1].later == Sequel(1)
    assert [named.name for named in wanted.measured_in(cell)] == ["wm", CONTROL]
    assert all(named.later is None for named in (*wanted.measured_in(cell), *wanted.mechanisms()))


def test_the_control_of_a_sequence_is_the_rest_in_its_order():
    one, two, three = Named("a"), Named("b", (), Sequel(1, 5)), Named("c", (), Sequel(2))
    assert without((one, two, three), two) == (one, replace(three, later=Sequel(1)))
    assert without((one, two, three), one) == (two.plain, replace(three, later=Sequel(1)))
    assert without((one, two), two.plain) == (one,)
    assert without((one, two), Named("z")) == (one, two)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"mechanisms": [WM, CONTROL, "trades"], "orders": True}, "both orders are of a pair"),
        ({"mechanisms": [WM], "then": [{"mechanisms": [CONTROL]}], "orders": True}, "both orders are of a pair"),
        ({"mechanisms": [WM], "then": [{"mechanisms": ["wm"]}]}, "'wm' stands twice"),
        ({"mechanisms": [WM], "then": [{"mechanisms": []}]}, "empty"),
        ({"mechanisms": [WM], "then": [{"mechanisms": ["advtr"], "epochs": 0}]}, "epochs"),
        ({"mechanisms": [WM], "then": [{"mechanisms": ["advtr"], "learning_rate": 2.0}]}, "learning_rate"),
        ({"mechanisms": [WM], "then": [{"mechanism": ["advtr"]}]}, "unknown key 'mechanism'.*mechanisms"),
        ({"mechanisms": [WM, CONTROL], "orders": {"epoch": 3}}, "epoch"),
    ],
)
def test_impossible_orders_are_told(entry, said):
    with pytest.raises(UserError, match=said):
        ordered(**entry)


def test_an_order_is_judged_and_told_plainly(site):
    wanted = replace(ordered(mechanisms=[WM, CONTROL], orders={"epochs": 1}), alone=3, together=3)
    content = ran(wanted, site, Inline())
    text = report(wanted, content)
    assert "{wm, dpsgd-control}" in text
    assert "{wm → dpsgd-control(1 epochs)}" in text and "{dpsgd-control → wm(1 epochs)}" in text
    found = verdicts(wanted, results_from(content))
    assert [verdict.combination[1] for verdict in found] == [
        "dpsgd-control",
        "→ dpsgd-control(1 epochs)",
        "→ wm(1 epochs)",
    ]
    assert all(not verdict.missing for verdict in found)
    names = ["wm", "dpsgd-control"]
    alone, joint, later = (
        next(
            cell
            for cell in content["cells"]
            if [one["name"] for one in cell["combination"]] == some
            and bool([one for one in cell["combination"] if "$later" in one]) == sequence
        )
        for some, sequence in ((["wm"], False), (names, False), (names, True))
    )
    assert len({cell["plan"] for cell in (alone, joint, later)}) == 3
    assert values({"cells": [later]}, names).keys() == {0, 1, 2}


# Trainings


def test_a_later_training_begins_with_the_weights_that_were_left(context):
    found = plans(ordered(mechanisms=[WM], then=[{"mechanisms": ["trades"], "epochs": 1}]))
    plan = found["wm → trades(1 epochs)"]
    left = train(plan.initial, context(0)).network.state_dict()
    begun = build_network(plan, context(0)).state_dict()
    assert left.keys() == begun.keys() and all(torch.equal(left[name], begun[name]) for name in left)


@pytest.mark.parametrize(("first", "second"), [("dpsgd", "wm"), ("wm", "dpsgd")])
def test_privacy_is_spent_by_any_training_on_the_same_people_without_it(first, second, context):
    options = {"wm": WM, "dpsgd": {"name": "dpsgd"}}
    wanted = ordered(mechanisms=[options[first]], then=[{"mechanisms": [options[second]], "epochs": 1}])
    found = plans(wanted)
    private = find_mechanism("dpsgd")()
    sequence = found[f"{first} → {second}(1 epochs)"]

    def epsilon(plan: Plan) -> float:
        return private.measure(type("Model", (), {"plan": plan, "serving": ()})(), context(0))["epsilon"]

    assert epsilon(found["dpsgd"]) == pytest.approx(3.0, rel=0.02)
    assert epsilon(sequence) == math.inf


# The stage `after`


@dataclass(frozen=True)
class Zeroed:
    """Sets the smallest half of every weight to zero."""

    def __call__(self, network):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter[parameter.abs() < parameter.abs().median()] = 0
        return network


@dataclass(frozen=True)
class Pruned(Mechanism):
    """Goes on with half of the weights."""

    name: ClassVar[str] = "pruned"
    concern: ClassVar[str] = "none"
    epochs: int = 0

    def after(self, plan: Plan) -> Plan:
        return replace(plan, streams=(plan.task,), rewrites=(Zeroed(),), initial=plan, epochs=self.epochs)


@dataclass(frozen=True)
class Forgetful(Mechanism):
    """Begins with something else."""

    name: ClassVar[str] = "forgetful"
    concern: ClassVar[str] = "none"

    def after(self, plan: Plan) -> Plan:
        return replace(plan, epochs=plan.epochs + 1)


def test_a_mechanism_goes_on_once_all_is_trained(base, context):
    wm = find_mechanism("wm")()
    for combination in ([wm, Pruned()], [Pruned(), wm]):
        plan = compose(base, combination)
        assert plan.initial == compose(base, [wm])
    pruned, before = train(plan, context(0)), train(plan.initial, context(0))
    for one, other in zip(pruned.network.parameters(), before.network.parameters(), strict=True):
        assert (one == 0).double().mean() >= 0.4
        assert torch.equal(one[one != 0], other[one != 0])
    assert train(compose(base, [Pruned(1)]), context(0)).network.training is False


def test_what_goes_on_must_begin_with_what_was_trained(base):
    with pytest.raises(UserError, match=r"forgetful\.after"):
        compose(base, [Forgetful()])


def test_without_a_beginning_a_training_needs_an_epoch(base):
    with pytest.raises(UserError, match="epoch"):
        replace(base, epochs=0)
    assert replace(base, epochs=0, initial=base).steps() == 0
    assert issubclass(Clash, Exception)
