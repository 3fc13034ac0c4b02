"""Private trainings with canaries, and what the optimizer gets along their directions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from guardclash import data_folder
from guardclash.compose import compose
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.plan.examples import Data, Moment
from guardclash.plan.gradients import ClippedNoisy
from guardclash.plan.optimizers import SGD, OneCycle
from guardclash.plan.plan import Context, Plan, Stream
from guardclash.plan.samplers import Shuffled
from guardclash.plan.sources import Split
from guardclash.training.context import RunContext
from guardclash.training.train import Run

PIXELS, CLASSES = 64, 10
LOUD = 1000.0
"""Norm of a canary's gradient before clipping; that of the classifier's part is about 1."""
QUIET = 0.05
"""A noise multiplier under which a canary's part of a sum is seen at once."""
ORDINARY = Split("digits", limit=280)


@dataclass(frozen=True)
class People:
    """Ordinary digits, then canaries: column 64 + i of canary i is loud, and nothing else is."""

    canaries: int
    coins: int
    """Seed of the coins that say which canaries are there."""
    ordinary: Split = ORDINARY

    @property
    def size(self) -> int:
        """Examples, with those of weight 0."""
        return self.ordinary.size + self.canaries

    def there(self) -> Tensor:
        """Which canaries are there, bool [canaries]."""
        return torch.rand(self.canaries, generator=torch.Generator().manual_seed(self.coins)) < 0.5

    def load(self, context: Context) -> Data:
        """Rows [size, 64 + canaries] with weights."""
        known = context.data(self.ordinary)
        x = torch.block_diag(known.x.flatten(1), LOUD * torch.eye(self.canaries))
        y = torch.cat([known.y, torch.zeros(self.canaries, dtype=known.y.dtype)])
        return Data(x, y, {"weight": torch.cat([torch.ones(len(known.x)), self.there().float()])})


@dataclass(frozen=True)
class Model:
    """A small classifier of digits beside one weight for each canary."""

    shape: tuple[int, ...]
    classes: int = CLASSES
    std: tuple[float, ...] = (1.0,)

    def build(self) -> nn.Module:
        """A fresh network."""
        return Network(self.shape[0] - PIXELS)


class Network(nn.Module):
    """Logits of the pixels, and in a column of its own the sum of the canaries' weights."""

    def __init__(self, canaries: int):
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(PIXELS, 16), nn.ReLU(), nn.Linear(16, CLASSES))
        self.canaries = nn.Linear(canaries, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, 64 + canaries] to [B, classes + 1]."""
        return torch.cat([self.classifier(x[:, :PIXELS]), self.canaries(x[:, PIXELS:])], dim=1)


@dataclass(frozen=True)
class Loss:
    """Cross-entropy of the digits and the canaries' column: linear in their weights, so its gradient never changes."""

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B]."""
        outputs = network(batch.x)
        return functional.cross_entropy(outputs[:, :-1], batch.y, reduction="none") + outputs[:, -1]


def training(canaries: int, coins: int, mechanism: DPSGD, batches: int = 10, steps: int = 20) -> Plan:
    """A private training, composed as every other one is: so many batches per epoch, 1 takes everybody every time."""
    source = People(canaries, coins)
    task = Stream("task", source, Shuffled(source.size // batches), objectives=(Loss(),))
    plan = Plan(Model((PIXELS + canaries,)), (task,), steps // batches, SGD(0.05, 0.9), OneCycle())
    return compose(plan, [mechanism])


def quiet(plan: Plan) -> Plan:
    """The same training with hardly any noise."""
    task = replace(plan.task, gradient=replace(plan.task.gradient, noise_multiplier=QUIET))  # type: ignore[type-var]
    return replace(plan, streams=(task,))


def observed(plan: Plan, seed: int) -> np.ndarray:
    """What the optimizer gets along each canary's direction, [canaries, steps], such that a whole gradient is 1."""
    run, seen = Run(plan, RunContext(seed, data_folder()), torch.device("cpu")), []
    weight = run.network.canaries.weight
    hook = register_optimizer_step_pre_hook(lambda *_: seen.append(weight.grad[0].clone()))  # type: ignore[union-attr, index]
    try:
        for number in range(plan.epochs):
            run.epoch(number)
    finally:
        hook.remove()
    rule = plan.task.gradient
    assert isinstance(rule, ClippedNoisy)
    return (torch.stack(seen, dim=1).double() * rule.expected_batch_size / rule.clip).numpy()
