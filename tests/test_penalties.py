"""Penalties: losses of the weights alone, added past the bound on what one example does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.examples import Data, Moment
from guardclash.plan.gradients import ClippedNoisy, Mean
from guardclash.plan.identity import describe, fingerprint
from guardclash.plan.optimizers import SGD
from guardclash.plan.penalties import Penalty, started, with_penalties
from guardclash.plan.plan import Plan, Stream
from guardclash.training.released import Chance, released_gradient
from guardclash.training.train import Run, train


@dataclass(frozen=True)
class Small:
    """Half of the squared norm of all weights, times a factor."""

    factor: float

    def __call__(self, network: nn.Module) -> Tensor:
        return self.factor * sum(one.square().sum() for one in network.parameters()) / 2


@dataclass(frozen=True, eq=False)
class Towards:
    """How far the last bias is from a secret, as a scalar product."""

    secret: Tensor

    def __call__(self, network: nn.Module) -> Tensor:
        return self.secret @ [*network.parameters()][-1]


@dataclass(frozen=True)
class Secretly:
    """A penalty that draws a secret."""

    classes: int = 10

    def start(self, rng: Callable[..., torch.Generator]) -> Penalty:
        return Towards(torch.randn(self.classes, generator=rng("secretly")))


@dataclass(frozen=True)
class Pulling(Mechanism):
    """A mechanism that adds one."""

    name: ClassVar[str] = "pulling"
    concern: ClassVar[str] = "control"

    penalty: Any = Small(0.1)

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        return replace(stream, penalties=(*stream.penalties, self.penalty))


def penalised(plan: Plan, *penalties: Any) -> Plan:
    return replace(plan, streams=(replace(plan.task, penalties=penalties), *plan.streams[1:]))


def released(run: Run, plan: Plan, penalties: tuple[Penalty, ...], count: int = 20) -> dict[str, Tensor]:
    chance = Chance(*(torch.Generator().manual_seed(place) for place in range(3)))
    batch = run.examples["task"].take(slice(0, count))
    return released_gradient(plan, run.network, plan.task, batch, chance, Moment(), {}, penalties).gradient


def weights(trained: Any) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in trained.network.named_parameters()}


# What is added


@settings(deadline=None, max_examples=30)
@given(st.floats(-3, 3), st.integers(0, 100), st.sampled_from(["mean", "clipped"]), st.integers(0, 5))
def test_the_gradient_of_a_penalty_is_added_whatever_the_batch_and_the_slot(factor, seed, slot, count):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(count, 3)

    def losses() -> Tensor:
        return network(x).square().sum(1)

    gradient = Mean() if slot == "mean" else ClippedNoisy(0.5, 1.0, 4)
    bare, again = (gradient(network, losses, torch.Generator().manual_seed(1)) for _ in range(2))
    both = with_penalties(again, network, (Small(factor), Small(1.0)))
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(both[name], bare[name] + (factor + 1) * parameter.detach())


def test_a_quadratic_penalty_is_weight_decay(toy, context):
    rule = SGD(0.05, weight_decay=0.0)
    plan = replace(toy, optimizer=rule)
    decayed = train(replace(plan, optimizer=replace(rule, weight_decay=0.01)), context(0))
    pulled = train(penalised(plan, Small(0.01)), context(0))
    for name, value in weights(decayed).items():
        torch.testing.assert_close(weights(pulled)[name], value)


def test_what_is_not_trained_is_not_moved():
    network = nn.Linear(2, 2).requires_grad_(False)
    given = {"other": torch.ones(3)}
    assert with_penalties(given, network, (Small(1.0),)) is given
    network.bias.requires_grad_(True)
    found = with_penalties(given, network, (Small(1.0),))
    assert found.keys() == {"other", "bias"} and torch.equal(found["bias"], network.bias)
    assert with_penalties(given, network, ()) is given


def test_the_loss_of_a_training_is_that_of_its_examples(toy, context):
    losses: list[dict[str, float]] = []
    for plan in (toy, penalised(replace(toy, optimizer=SGD(1e-9)), Small(1e6))):
        plan = replace(plan, optimizer=SGD(1e-9))
        train(plan, context(0), log=lambda entry: losses.append(entry.losses))
    assert losses[0]["task"] == pytest.approx(losses[1]["task"], abs=0.05)


# Secrets


def test_a_secret_is_drawn_once_for_a_training_by_its_party_and_seed(toy, context):
    plan = penalised(toy, Secretly())

    def secret(plan: Plan, seed: int) -> Tensor:
        (penalty,) = Run(plan, context(seed), torch.device("cpu"))._penalties["task"]
        return penalty.secret

    own = secret(plan, 0)
    assert torch.equal(own, torch.randn(10, generator=context(0).rng("secretly")))
    assert torch.equal(own, secret(replace(plan, epochs=3), 0))
    assert torch.equal(own, secret(replace(plan, initial=plan), 0)), "a later stage goes on with it"
    assert not torch.equal(own, secret(plan, 1))
    assert not torch.equal(own, secret(replace(plan, party="thief"), 0))
    assert started((Small(1.0),), context(0).rng) == (Small(1.0),)


# Under DP-SGD


def test_the_clipped_gradient_knows_nothing_of_penalties(toy, context):
    plan = compose(toy, [DPSGD(clip=0.1), Pulling(Small(50.0))])
    run = Run(plan, context(0), torch.device("cpu"))
    before = {name: one.detach().clone() for name, one in run.network.named_parameters()}
    bare, both = released(run, plan, ()), released(run, plan, run._penalties["task"])
    for name, own in before.items():
        torch.testing.assert_close(both[name] - bare[name], 50 * own, atol=1e-4, rtol=1e-4)
    quiet = replace(plan, streams=(replace(plan.task, gradient=replace(plan.task.gradient, noise_multiplier=0.0)),))
    alone = released(run, quiet, ())
    norm = torch.cat([one.flatten() for one in alone.values()]).norm()
    assert norm * quiet.task.gradient.expected_batch_size <= 20 * 0.1 * (1 + 1e-5), "20 examples, each of at most 0.1"


def test_epsilon_is_that_without_penalties(toy, context):
    private, pulled = (compose(toy, [DPSGD(), *own]) for own in ((), (Pulling(), Pulling(Secretly()))))
    spent = DPSGD().spent(pulled)
    assert spent == DPSGD().spent(private) and 2.9 < spent["task"] <= 3.0
    assert pulled.task.gradient == private.task.gradient
    assert all(value.isfinite().all() for value in weights(train(pulled, context(0))).values())


# Composition


def test_penalties_stack_on_the_streams_that_are_named(base):
    combination = [Watermark(triggers=20), Pulling(Small(0.1), on=("trigger",)), Pulling(Small(0.2))]
    plan = compose(base, combination)
    assert plan == compose(base, combination[::-1])
    assert plan.task.penalties == (Small(0.2),)
    assert set(plan.stream("trigger").penalties) == {Small(0.1), Small(0.2)}


def test_a_plan_without_penalties_keeps_its_key_and_one_with_them_has_another(base):
    assert "penalties" not in repr(describe(base))
    assert fingerprint(penalised(base)) == fingerprint(base) != fingerprint(penalised(base, Small(0.1)))
    assert fingerprint(penalised(base, Small(0.1))) != fingerprint(penalised(base, Small(0.2)))


def test_replacing_those_of_another_is_a_clash(base):
    @dataclass(frozen=True)
    class Greedy(Mechanism):
        name: ClassVar[str] = "greedy"
        concern: ClassVar[str] = "control"

        def objective(self, stream: Stream, plan: Plan) -> Stream:
            return replace(stream, penalties=(Small(9.0),))

    @dataclass(frozen=True)
    class Jealous(Greedy):
        name: ClassVar[str] = "jealous"

        def objective(self, stream: Stream, plan: Plan) -> Stream:
            return replace(stream, penalties=(Small(8.0),))

    with pytest.raises(Clash, match="greedy and jealous both set 'penalties'"):
        compose(base, [Greedy(), Jealous()])


@dataclass(frozen=True)
class OfExamples:
    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        return batch.x.sum()


@dataclass(frozen=True)
class Vector:
    def __call__(self, network: nn.Module) -> Tensor:
        return torch.ones(2)


def test_other_forms_are_refused(toy, context):
    for other in (OfExamples(), "small"):
        with pytest.raises(UserError, match=r"task\.penalties.*__call__\(self, network\)"):
            penalised(toy, other)
    with pytest.raises(UserError, match=r"one number.*task\.penalties.*\[2\]"):
        train(penalised(toy, Vector()), context(0))
