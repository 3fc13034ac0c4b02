"""What fixed-point arithmetic does to a model, and what the training would cost its parties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from guardclash.judging.criteria import SHARE, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.numerics.approximations import inverse_root_error
from guardclash.numerics.fixedpoint import largest_product
from guardclash.numerics.layout import channels_last
from guardclash.plan.arithmetic import Arithmetic
from guardclash.plan.communication import training_cost
from guardclash.plan.fixedpoint import LAYERS, ApproximatedSoftmax, FixedPoint, floated, in_fixed_point, variances
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.training.timeline import epoch
from guardclash.training.train import Run
from guardclash.training.trained import Trained

STEPS = 50
"""Of the last epoch, which are run once more to see which updates are lost; the first half only brings momentum."""
LOOKED_AT = 500
"""Test inputs whose values in the network are looked at."""
WRONG_ROOT = 0.01
"""From which share on an inverse root is wrong."""


@dataclass(frozen=True)
class Oblivious(Measure):
    """Agreement of a model trained in fixed point with its float twin: the same training, same seed, in floats.

    A model that was not trained so has nothing to be compared with, and none of these metrics.
    """

    name: ClassVar[str] = "oblivious"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "obl_agreement",
            "φ_OBL",
            MaxDrop(0.03),
            title="equal answers of the float twin",
            range=SHARE,
            decimals=3,
            gain=False,  # a float model agrees with its twin, which it is
        ),
        Metric(
            "obl_float_seeds",
            "φ_OBL seeds",
            None,
            title="equal answers of two float twins of different seeds, for comparison",
            range=SHARE,
            decimals=3,
        ),
        Metric(
            "obl_lost_updates",
            "lost updates",
            None,
            higher_is_better=False,
            title="updates of weights in the last epoch that rounding undoes",
            range=SHARE,
            optional=True,
        ),
        Metric(
            "obl_overflow",
            "overflow",
            None,
            higher_is_better=False,
            title="values whose products would not fit the ring",
            range=SHARE,
            decimals=6,
        ),
        Metric(
            "obl_wrong_roots",
            "wrong roots",
            None,
            higher_is_better=False,
            title="variances in norm layers of which CrypTen's inverse root is off by more than 1 %",
            range=SHARE,
            optional=True,
        ),
        Metric(
            "obl_gigabytes",
            "GB",
            None,
            higher_is_better=False,
            decimals=0,
            title="sent between two parties in the training, by the cost model",
            gain=False,
            computed=True,
        ),
    )

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """The float twin, and its training under another seed."""
        twin = floated(plan)
        return (twin, OtherSeed(twin, 0)) if in_fixed_point(plan) else ()

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """All metrics of a model trained in fixed point; nothing of any other."""
        plan = trained.plan
        if not in_fixed_point(plan):
            return {}
        x, _ = context.data(plan.judged_by.test)
        twin, *others = (context.trained(need) for need in self.needs(plan))
        floats = _answers(trained.deployed.answering(twin, context), x)
        other = _answers(trained.deployed.answering(others[0], context), x)
        cost = sum(training_cost(run, softmax_of(run)).bytes for run in _stages(plan))
        values = Counter[str]()
        wrong = _look(trained.network, x[:LOOKED_AT], limit_of(plan), values)
        lost = _last_steps(trained, context, values)
        return {
            "obl_agreement": (_answers(trained, x) == floats).double().mean().item(),
            "obl_float_seeds": (other == floats).double().mean().item(),
            "obl_overflow": values["beyond"] / max(1, values["all"]),
            "obl_gigabytes": cost / 1e9,
            **wrong,
            **lost,
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That a real training would have gone wrong; nothing of a model that was not trained in fixed point."""
        found = []
        if metrics.get("obl_overflow", 0) > 0:
            found.append(
                "values outgrow the ring: the real system would compute garbage where this simulation does not"
            )
        if metrics.get("obl_wrong_roots", 0) > 0:
            share = metrics["obl_wrong_roots"]
            found.append(f"CrypTen's inverse root is wrong for {share:.0%} of the variances in norm layers")
        return tuple(found)


def _stages(plan: Plan) -> Iterator[Plan]:
    """The trainings in fixed point, one after another, that a plan ends."""
    if plan.initial is not None:
        yield from _stages(plan.initial)
    if isinstance(plan.arithmetic, FixedPoint):
        yield plan


def softmax_of(plan: Plan) -> str:
    """Which softmax a training's rewrites take."""
    return next((one.softmax for one in plan.all_rewrites if isinstance(one, ApproximatedSoftmax)), "exact")


def limit_of(plan: Plan) -> float:
    """From which magnitude on products outgrow the ring, by the most bits that a training of the plan has."""
    return largest_product(max(run.arithmetic.bits for run in _stages(plan) if isinstance(run.arithmetic, FixedPoint)))


def _answers(trained: Trained, x: Tensor) -> Tensor:
    """Classes, [N]; of several labels which ones, [N, classes]."""
    logits = trained.predict(x)
    return logits > 0 if trained.plan.several_labels else logits.argmax(1)


@torch.no_grad()
def _look(network: nn.Module, x: Tensor, limit: float, values: Counter[str]) -> dict[str, float]:
    """Counts what layers give and those of it beyond a limit; and tells how many inverse roots would be wrong."""
    wrong: list[Tensor] = []

    def seen(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        _count(values, output, limit)
        found = variances(module, inputs[0])
        if found is not None:
            wrong.append((inverse_root_error(found) > WRONG_ROOT).flatten().cpu())

    handles = [one.register_forward_hook(seen) for one in network.modules() if isinstance(one, LAYERS)]
    try:
        network(x.to(next(network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return {"obl_wrong_roots": torch.cat(wrong).double().mean().item()} if wrong else {}


def _count(values: Counter[str], tensor: Any, limit: float) -> None:
    if isinstance(tensor, Tensor):
        values["all"] += tensor.numel()
        values["beyond"] += int((tensor.abs() >= limit).sum())


@dataclass(frozen=True, eq=False)
class _Watched:
    """An arithmetic that notes what becomes of the weights and of other values that it keeps."""

    inner: Arithmetic
    limit: float
    values: Counter[str]
    before: dict[int, Tensor]
    """By identity of its tensor, each weight as it was."""

    @property
    def each(self) -> Arithmetic | None:
        return self.inner.each

    def added(self, numbers: int) -> float:
        return self.inner.added(numbers)

    def store(self, tensor: Tensor, rng: torch.Generator) -> Tensor:
        kept = self.inner.store(tensor, rng)
        _count(self.values, tensor, self.limit)
        old = self.before.get(id(tensor))
        if old is not None:
            moved = tensor != old
            self.values["moved"] += int(moved.sum())
            self.values["lost"] += int((moved & (kept == old)).sum())
            self.before[id(tensor)] = kept
        return kept


def _last_steps(trained: Trained, context: Context, values: Counter[str]) -> dict[str, float]:
    """Runs the end of the last epoch once more, on a copy of the finished network: which updates does rounding undo?

    Batches, learning rates and momentum's growth are those of the training; its momentum is not kept, so it is
    gathered anew in the first half of the steps, of which nothing is counted.
    """
    plan = trained.plan
    if plan.arithmetic is None or not plan.epochs:
        return {}
    # As in the training: a network from the store may lie in memory in another way, and sums differ by that.
    network = channels_last(deepcopy(trained.network))
    before = {id(one): one.detach().clone() for one in network.parameters()}
    watched = _Watched(plan.arithmetic, limit_of(plan), values, before)
    whole = replace(plan, initial=None, rewrites=plan.all_rewrites, arithmetic=watched)
    run = Run(whole, context, next(network.parameters()).device)
    run.network = network
    with _own_chance(context):
        turns = list(epoch(whole, plan.epochs - 1, run.rng))[-STEPS:]
        for number, turn in enumerate(turns):
            if number == len(turns) // 2:
                values["moved"] = values["lost"] = 0
            batch = run.examples[turn.stream.name].take(turn.indices.to(run.device))
            run.step(turn.stream, batch, turn.lead, turn.now)
    return {"obl_lost_updates": values["lost"] / values["moved"]} if values["moved"] else {}


@contextmanager
def _own_chance(context: Context) -> Iterator[None]:
    """Torch's global generator set for the steps, for what can draw from nothing else, and then as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(context.rng("last steps").get_state())
        yield
