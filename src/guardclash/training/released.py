"""What one step hands to the optimizer: the trainer's own step, as a function."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.numerics.batchnorm import frozen_statistics
from guardclash.numerics.inexact import inexactly
from guardclash.numerics.layout import fast
from guardclash.plan.examples import Data, Moment
from guardclash.plan.gradients import kept_in
from guardclash.plan.penalties import Penalty, with_penalties
from guardclash.plan.plan import Plan, Stream

Memories = dict[tuple[str, str, int], dict[str, Tensor]]
"""What the parts of a training remember, by stream, slot and place in the slot."""


class Chance(NamedTuple):
    """What a step of a stream draws from: generators of their own, so that a map's draws never shift the noise."""

    maps: torch.Generator
    gradient: torch.Generator
    arithmetic: torch.Generator | None = None
    """For the plan's arithmetic, where it draws; None: the gradient's."""


class Released(NamedTuple):
    """What leaves a step: what an optimizer, or somebody who sees updates, gets to know of the batch."""

    gradient: dict[str, Tensor]
    """By parameter name."""
    loss: Tensor
    """The sum of the (weighted) losses, a scalar; for the log, not released."""


def released_gradient(
    plan: Plan,
    network: nn.Module,
    stream: Stream,
    batch: Data,
    chance: Chance,
    now: Moment | None = None,
    memories: Memories | None = None,
    penalties: Sequence[Penalty] = (),
) -> Released:
    """The gradient that a step on a batch hands to the optimizer.

    Maps, losses, weights, gradient slot, penalties, arithmetic: in this order.

    A training's step is this and the update. The weights are left alone; the network is put into training mode, and its
    running statistics move as the step moves them, so give a copy of a network that is to stay as it is.

    Args:
        plan: The training that the step is one of.
        network: Its network, on the device of the batch.
        stream: One of its streams.
        batch: Examples of that stream.
        chance: What maps and gradient draw from.
        now: When it is; None: at the start.
        memories: What the parts remember, filled by them; None: nothing.
        penalties: Those of the stream, with their secrets; none: what is released to one who knows them.

    Raises:
        UserError: If the stream is not one of the plan, or a part does not keep to its form: a map that gives no batch
            back, losses that do not match the weights, memory under a gradient that bounds what one example does.
    """
    if stream not in plan.streams:
        allowed = ", ".join(own.name for own in plan.streams)
        raise UserError("not a stream of the plan", where="stream", got=stream.name, allowed=allowed)
    moments = _Moments(stream.name, now or Moment(), {} if memories is None else memories)
    seen = torch.zeros((), device=batch.x.device)
    network.train()
    batch = replace(batch, x=fast(batch.x))
    rounding = chance.arithmetic or chance.gradient
    inexact = inexactly(rounding) if plan.arithmetic else nullcontext()
    with frozen_statistics(network, stream.batch_norm == "freeze"), inexact:
        for place, change in enumerate(stream.maps):
            batch = change(network, batch, rng=chance.maps, now=moments.of("maps", place))
            if not isinstance(batch, Data):
                got, mend = type(batch).__name__, "Return replace(batch, x=...)."
                raise UserError(
                    "a map gives a batch back", where=f"{stream.name}.maps", got=got, allowed="Data", mend=mend
                )

        shown = getattr(stream.gradient, "views", None)
        views = shown.of(network, batch, chance.maps, moments.now) if shown else (batch,)

        def loss(view: Data) -> Tensor:
            parts = enumerate(stream.objectives)
            each = [part(network, view, now=moments.of("objectives", place)) for place, part in parts]
            return _weighted(torch.stack(each).sum(0), view, stream.name)

        # A function, because clipping must have its hooks in place before the forward pass.
        def losses() -> Tensor:
            nonlocal seen
            # One pass for each view: clipping takes a row of a pass for an example.
            values = loss(views[0]) if len(views) == 1 else torch.stack([loss(view) for view in views]).mean(0)
            seen = values.detach().sum()
            return values

        gradient = kept_in(stream.gradient, plan.arithmetic)(network, losses, chance.gradient)
    gradient = with_penalties(gradient, network, penalties, f"{stream.name}.penalties")
    if plan.arithmetic:
        gradient = {name: plan.arithmetic.store(value, rounding) for name, value in gradient.items()}
    # What is remembered of an example would enter later steps, past the bound on what it does.
    if getattr(stream.gradient, "per_example", False):
        moments.refuse_memory()
    return Released(gradient, seen)


class _Moments(NamedTuple):
    """The same moment for every part of a stream, each with a memory of its own."""

    stream: str
    now: Moment
    memories: Memories

    def of(self, slot: str, place: int) -> Moment:
        return replace(self.now, memory=self.memories.setdefault((self.stream, slot, place), {}))

    def refuse_memory(self) -> None:
        for (stream, slot, place), memory in self.memories.items():
            if stream == self.stream and memory:
                raise UserError(
                    "a part remembers examples under a gradient that bounds what one example does",
                    where=f"{stream}.{slot}[{place}]",
                    got=f"memory of {', '.join(memory)}",
                    mend="Let its class say mixes_examples = True; composing the two is then a clash.",
                )


def _weighted(losses: Tensor, batch: Data, stream: str) -> Tensor:
    """Losses times the examples' weights, where there are some; before the gradient, so that clipping sees them."""
    weight = batch.about.get("weight")
    if weight is None:
        return losses
    if losses.shape != weight.shape:
        where, got = f"{stream}.objectives", f"losses {list(losses.shape)}"
        raise UserError("weights need one loss per example", where=where, got=got, allowed=f"{list(weight.shape)}")
    return losses * weight
