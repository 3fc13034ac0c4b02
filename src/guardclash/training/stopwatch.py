"""How long a training will take, from a few of its own steps on random images. Nothing trained is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from guardclash.data.space import Tokens
from guardclash.plan.examples import Data
from guardclash.plan.plan import Context, OtherSeed, Plan, Source, Stream
from guardclash.plan.trainings import made_of
from guardclash.training.train import Run


@runtime_checkable
class Pretending(Protocol):
    """A source that says something about its examples which losses cannot do without."""

    def pretended(self, data: Data) -> Data:
        """Noise in place of its examples, with as much said about it."""


@dataclass(frozen=True)
class _RandomInputs:
    """A context whose sources hold noise, so that timing needs neither data nor nested trainings."""

    inner: Context
    plan: Plan

    @property
    def seed(self) -> int:
        return self.inner.seed

    def of(self, party: str) -> _RandomInputs:
        return self

    def under(self, seed: int) -> _RandomInputs:
        return replace(self, inner=self.inner.under(seed))

    def rng(self, *purpose: object) -> torch.Generator:
        return self.inner.rng(*purpose)

    def examples(self, dataset: str, split: str, content: str = "") -> Data:
        return self._noise(1)

    def data(self, source: Source) -> Data:
        stream = next(stream for stream in self.plan.streams if stream.source is source)
        # No batch holds more than all there are; one that is asked for larger would take time that no training takes.
        noise = self._noise(min(stream.sampler.batch_size, source.size))
        # What losses ask of examples, such as their group, noise has as well. The innermost source knows nothing yet.
        for part in reversed([*made_of(source)]):
            noise = part.pretended(noise) if isinstance(part, Pretending) else noise
        return noise

    def kept(self, identity: object, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        return make()

    def trained(self, plan: Plan | OtherSeed) -> object:
        raise LookupError("timing reads no trained models")

    def _noise(self, count: int) -> Data:
        space = self.plan.purpose.space if self.plan.purpose else None
        shape = count, *self.plan.model.shape
        x = torch.randint(space.vocabulary, shape) if isinstance(space, Tokens) else torch.rand(shape)
        classes = self.plan.model.classes
        several = self.plan.several_labels
        return Data(x, torch.randint(2, (count, classes)).float() if several else torch.randint(classes, (count,)))


def estimate_seconds(plan: Plan, context: Context, device: str = "cpu", steps: int = 3) -> float:
    """Expected seconds of a training with one thread: the fastest of a few steps of each stream, times their number.

    Loading, measuring and storing are left out.
    """
    if not plan.epochs:
        return 0.0
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        return _estimate(plan, context, device, steps)


def _estimate(plan: Plan, context: Context, device: str, steps: int) -> float:
    plan = replace(plan, initial=None, rewrites=plan.all_rewrites)  # any weights take the same time
    run = Run(plan, _RandomInputs(context, plan), torch.device(device))
    return sum(_step_seconds(run, stream, steps) * stream.steps_per_epoch() for stream in plan.streams) * plan.epochs


def _step_seconds(run: Run, stream: Stream, steps: int) -> float:
    batch = run.examples[stream.name]
    # One thread's processor time is not stretched by what else runs on the machine; a GPU's work is not in it.
    clock = time.process_time if run.device.type == "cpu" else time.perf_counter
    times = []
    for _ in range(steps):
        start = clock()
        run.step(stream, batch, lead=0)
        times.append(clock() - start)
    # The fastest: the first step also pays for what is set up only once.
    return min(times)
