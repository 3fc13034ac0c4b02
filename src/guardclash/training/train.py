"""The only training loop. It knows streams and their parts, and no mechanism."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.errors import UserError
from guardclash.numerics.batchnorm import reestimate
from guardclash.numerics.layout import channels_last
from guardclash.plan.averaging import Average
from guardclash.plan.examples import Data, Moment
from guardclash.plan.parts import Optimizer
from guardclash.plan.penalties import started
from guardclash.plan.plan import Context, Plan, Stream
from guardclash.training.released import Chance, Memories, released_gradient
from guardclash.training.timeline import epoch
from guardclash.training.trained import Trained, predictor


class Diverged(Exception):
    """A training whose loss left the numbers; recorded as a failed trial."""


class EpochLog(NamedTuple):
    """What is known after an epoch."""

    epoch: int
    """From 1."""
    losses: dict[str, float]
    """Mean loss of each stream's examples in this epoch, as they were trained on."""


@dataclass(frozen=True)
class Execution:
    """How a plan is trained, never what: not part of any key, written into the record."""

    device: str = "cpu"
    """"cpu", "cuda" or "cuda:N"."""
    threads: int = 1
    """Threads of one training; two trainings of one thread beat one of two (docs/design/execution.md)."""

    def __post_init__(self) -> None:
        try:
            known = torch.device(self.device).type in ("cpu", "cuda")
        except RuntimeError:
            known = False
        if not known:
            raise UserError("unknown device", where="device", got=self.device, allowed="cpu, cuda, cuda:N")
        if self.device != "cpu" and not torch.cuda.is_available():
            raise UserError("this machine has no CUDA device that torch can use", where="device", got=self.device)
        within("", ">= 1", threads=self.threads)


def chance(plan: Plan, context: Context) -> Callable[..., torch.Generator]:
    """Generators by purpose for a training: the context's, or those of the plan's party and stage.

    A training that goes on from one of the same party must not repeat its batches and its noise: the noise that hides
    an example twice in the same way hides it once.
    """
    place = (*(("party", plan.party) if plan.party else ()), *(("stage", plan.stage) if plan.stage else ()))
    return partial(context.rng, *place) if place else context.rng


def build_network(plan: Plan, context: Context) -> nn.Module:
    """The plan's network with the initial weights of the context's seed, rewrites applied.

    Where the plan goes on from another training, that one's weights, which the context must hold.
    """
    # Layers draw initial weights from torch's global generator and can be given no other.
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(chance(plan, context)("weights").get_state())
        # A copy: rewrites and training change a network in place, and others may read this one.
        network = deepcopy(context.trained(plan.initial).network) if plan.initial else plan.model.build()
        for rewrite in plan.rewrites:
            looks: tuple[Any, ...] = (context,) if getattr(rewrite, "needs_context", False) else ()  # at data
            network = rewrite(network, *looks)
    return network


def train(
    plan: Plan,
    context: Context,
    execution: Execution | None = None,
    log: Callable[[EpochLog], None] = lambda entry: None,
) -> Trained:
    """Trains a plan under the context's seed.

    Args:
        plan: What to train.
        context: Seed, data and finished trainings that the plan's sources read.
        execution: Where and with how many threads.
        log: Called after each epoch.

    Returns:
        The trained network after the last epoch (never one chosen on test data), in evaluation mode.

    Raises:
        Diverged: If the loss of a stream is no longer finite.
    """
    execution = execution or Execution()
    torch.set_num_threads(execution.threads)
    run = Run(plan, context, torch.device(execution.device))
    # Dropout draws from the global generator too, which is the caller's again afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(chance(plan, context)("dropout").get_state())
        if run.device.type == "cuda":
            # A GPU has a generator of its own; its seed follows from the one just set.
            torch.cuda.manual_seed(int(torch.randint(2**62, ())))
        for number in range(plan.epochs):
            losses = run.epoch(number)
            log(EpochLog(number + 1, losses))
            broken = [name for name, loss in losses.items() if not math.isfinite(loss)]
            if broken:
                raise Diverged(f"the loss of stream {broken[0]!r} is {losses[broken[0]]} after epoch {number + 1}")
        run.finish()
    # A loss is taken before its step, so none speaks of the last update.
    if not all(value.isfinite().all() for value in run.network.state_dict().values()):
        raise Diverged("the weights are not finite after the last step")
    return Trained(plan, context.seed, run.network, predictor(run.network))


class Run:
    """A training under way: the network, its optimizers' states and the streams' tensors."""

    def __init__(self, plan: Plan, context: Context, device: torch.device):
        self.plan, self.context, self.device = plan, context, device
        self.rng = chance(plan, context)
        self.network: nn.Module = build_network(plan, context)
        channels_last(self.network, device)
        self.examples = {stream.name: self._load(stream) for stream in plan.streams}
        # By optimizer and not by stream: equal ones share their momentum. None: the plan's own.
        self._states: dict[Optimizer | None, torch.optim.Optimizer] = {}
        self._chance = {
            stream.name: Chance(*(self.rng(what, stream.name) for what in ("maps", "gradient", "arithmetic")))
            for stream in plan.streams
        }
        # Secrets of the party's own, which a stage after the training shares: a mark that is gone on with stays one.
        secrets = context.of(plan.party).rng
        self._penalties = {stream.name: started(stream.penalties, secrets) for stream in plan.streams}
        self._memories: Memories = {}
        self._rounding = self.rng("arithmetic")
        self._store(self.network.parameters())
        self._average = Average(plan.averaging, self.network) if plan.averaging else None

    def _load(self, stream: Stream) -> Data:
        return self.context.data(stream.source).each(lambda tensor: tensor.to(self.device))

    def epoch(self, number: int) -> dict[str, float]:
        """One epoch over all streams; returns each stream's mean loss."""
        # Sums stay on the device: reading them at every step would make the processor wait for it.
        sums = {stream.name: torch.zeros((), device=self.device) for stream in self.plan.streams}
        counts = dict.fromkeys(sums, 0)
        for stream, indices, lead, now in epoch(self.plan, number, self.rng):
            batch = self.examples[stream.name].take(indices.to(self.device))
            sums[stream.name] += self.step(stream, batch, lead, now)
            counts[stream.name] += len(indices)
        return {name: sums[name].item() / max(1, counts[name]) for name in sums}

    def step(self, stream: Stream, batch: Data, lead: int, now: Moment | None = None) -> Tensor:
        """One step on a batch: its gradient and the update. Returns the sum of the losses."""
        chance = self._chance[stream.name]
        penalties = self._penalties[stream.name]
        released = released_gradient(self.plan, self.network, stream, batch, chance, now, self._memories, penalties)
        self._update(stream, released.gradient, lead)
        return released.loss

    def _update(self, stream: Stream, gradients: dict[str, Tensor], lead: int) -> None:
        rule = stream.optimizer or self.plan.optimizer
        if stream.optimizer not in self._states:
            self._states[stream.optimizer] = rule.start(list(self.network.parameters()))
        state = self._states[stream.optimizer]
        # By steps of the task, so that further streams do not hurry through the schedule.
        rule.adjust(state, *self.plan.schedule.at(lead, self.plan.steps()))
        for name, parameter in self.network.named_parameters():
            # None where there is no gradient, and optimizers leave such a parameter alone.
            parameter.grad = gradients.get(name)
        state.step()
        self._store(self.network.parameters())
        self._store(value for kept in state.state.values() for value in kept.values())
        if self._average:
            self._average.follow()

    @torch.no_grad()
    def _store(self, kept: Iterable[object]) -> None:
        """Keeps tensors as the plan's arithmetic does."""
        if self.plan.arithmetic is None:
            return
        for tensor in kept:
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                tensor.copy_(self.plan.arithmetic.store(tensor, self._rounding))

    def finish(self) -> None:
        """Settles on the average if there is one, re-estimates batch norm, and sets the network to evaluation mode."""
        if self._average:
            self._average.settle()
            self._store(self.network.parameters())
        # Running statistics are those of the last weights, not of an average.
        if self._average or any(stream.batch_norm == "recalibrate" for stream in self.plan.streams):
            # Without the maps: the statistics are for what the deployed model will see.
            clean = self.examples[self.plan.task.name].x
            reestimate(self.network, clean.chunk(math.ceil(len(clean) / 500)))
        self.network.eval()
        for parameter in self.network.parameters():
            parameter.grad = None
