"""Which batch comes when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from guardclash.plan.examples import Moment
from guardclash.plan.plan import Plan, Stream


class Turn(NamedTuple):
    """One step of the training."""

    stream: Stream
    indices: Tensor
    """Which examples of the stream, int64 [B]."""
    lead: int
    """Steps of the first stream finished before this turn, in the whole training."""
    now: Moment
    """When it is, for the parts of the stream."""


def epoch(plan: Plan, number: int, rng: Callable[..., torch.Generator]) -> Iterator[Turn]:
    """The turns of one epoch, in order.

    The first stream leads. A stream with cadence "mixed" has its batches spread evenly among the lead's, one with
    "after_epoch" comes when they are through, in the order of the plan.

    Args:
        plan: The training.
        number: The epoch, from 0.
        rng: Generators by purpose (`Context.rng`); each stream and epoch has its own.
    """
    drawn = {stream.name: _batches(stream, number, rng) for stream in plan.streams}
    lead = plan.task
    first = number * lead.steps_per_epoch()
    total = len(drawn[lead.name])
    mixed = [stream for stream in plan.streams[1:] if stream.cadence == "mixed"]
    # Every epoch has as many batches of a stream, so earlier ones need not be counted.
    done = {stream.name: number * len(drawn[stream.name]) for stream in plan.streams}

    steps = plan.steps()

    def turns(stream: Stream, batches: list[Tensor], finished: int) -> Iterator[Turn]:
        # A stream that comes after the last step of the lead is still within the training, below 1.
        share = min(finished, steps - 1) / steps
        for indices in batches:
            yield Turn(stream, indices, finished, Moment(number, done[stream.name], share))
            done[stream.name] += 1

    for step, indices in enumerate(drawn[lead.name]):
        yield from turns(lead, [indices], first + step)
        for stream in mixed:
            yield from turns(stream, _share(drawn[stream.name], step, total), first + step + 1)
    for stream in plan.streams[1:]:
        if stream.cadence == "after_epoch":
            yield from turns(stream, drawn[stream.name], first + total)


def _batches(stream: Stream, number: int, rng: Callable[..., torch.Generator]) -> list[Tensor]:
    generator = rng("order", stream.name, number)
    passes = (stream.sampler.batches(stream.source.size, generator) for _ in range(stream.passes))
    return [batch for one_pass in passes for batch in one_pass]


def _share(batches: list[Tensor], step: int, total: int) -> list[Tensor]:
    """The batches that fall between lead step `step` and the next: all are dealt out over `total` steps."""
    return batches[step * len(batches) // total : (step + 1) * len(batches) // total]
