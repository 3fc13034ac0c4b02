"""Training for the group that does worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.fairness import Fairness
from guardclash.mechanism import Mechanism
from guardclash.plan.examples import Data, Moment
from guardclash.plan.grouped import MEMBER, SIZES, Groups, Numbered, by_label
from guardclash.plan.plan import Context, Objective, Plan, Stream
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class WorstGroup:
    """The loss sum(q_g l_g): l_g is the mean loss of a group's examples in the batch, and q grows where l_g is large.

    A group without examples in a batch counts with the adjustment alone.
    """

    mixes_examples: ClassVar[bool] = True
    """The weight of an example depends on others, of this batch and of earlier ones."""

    loss: Objective
    rate: float
    adjustment: float

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """Losses [B] whose mean is that of the batch."""
        losses = self.loss(network, batch, now=now)
        if not len(losses):
            return losses
        own, sizes = batch.about[MEMBER], batch.about[SIZES][0]
        counts = losses.new_zeros(len(sizes)).index_add_(0, own, torch.ones_like(losses))
        with torch.no_grad():
            means = losses.new_zeros(len(sizes)).index_add_(0, own, losses.detach()) / counts.clamp(min=1)
            # As logarithms: a weight that has become very small must be able to grow again.
            before = now.memory.get("logs", torch.zeros(len(sizes), dtype=torch.float64, device=losses.device))
            grown = before + self.rate * (means + self.adjustment / sizes.sqrt()).double()
            now.memory["logs"] = logs = grown.log_softmax(0)
        return losses * logs.exp().to(losses.dtype)[own] * len(losses) / counts[own]


@dataclass(frozen=True)
class GroupDRO(Mechanism):
    """Group DRO: training minimises the loss of the group that does worst, by weights that follow the losses.

    Where every group's training loss falls to 0, as of large networks, the weights say little: strong weight decay or
    few epochs matter as much. What an example does depends on others, so that it clashes with DP-SGD.
    """

    name: ClassVar[str] = "groupdro"
    concern: ClassVar[str] = "fairness"
    paper: ClassVar[str] = "Sagawa et al. 2020"
    one_class: ClassVar[bool] = True
    order: ClassVar[int] = 9  # groups are those of the examples that are left
    metrics: ClassVar[tuple[Metric, ...]] = Fairness.metrics

    rate: float = 0.01
    """By how much a group's weight grows with its loss, η."""
    adjustment: float = 0.0
    """C in C / sqrt(n_g), which is added to the loss of a group of n_g examples: small ones generalise worse."""
    group: str | None = None
    """The attribute that tells groups, such as "sex" of Adult; None: the recipe's groups, else the classes."""
    by_label: bool | None = None
    """As of the measure `group_fairness`."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, finite", rate=self.rate)
        within(self.name, ">= 0, finite", adjustment=self.adjustment)

    def measures(self) -> tuple[Measure, ...]:
        """Fairness between the same groups."""
        return (Fairness(self.group, self.by_label),)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """As its measure."""
        return Fairness(self.group, self.by_label).measure(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """As its measure."""
        return Fairness(self.group, self.by_label).warnings(metrics)

    def data(self, plan: Plan) -> Plan:
        """Lets the task's examples say to which group they belong."""
        # Only one that touches the task needs to know them.
        if self.on is not None and plan.task.name not in self.on:
            return plan
        groups = Groups(self.group, by_label(self.group, self.by_label, plan.model.classes))
        task = replace(plan.task, source=Numbered(plan.task.source, groups))
        return replace(plan, streams=(task, *plan.streams[1:]))

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Replaces the task's first loss; what others add to it stays as it is."""
        if stream.name != plan.task.name:
            return stream
        first = WorstGroup(stream.objectives[0], self.rate, self.adjustment)
        return replace(stream, objectives=(first, *stream.objectives[1:]))
