"""Training for the group that does worst."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.mechanisms.fair import Fair
from guardclash.plan.examples import Data, Moment
from guardclash.plan.grouped import MEMBER, SIZES, Numbered
from guardclash.plan.parts import Objective
from guardclash.plan.plan import Plan, Stream


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
class GroupDRO(Fair):
    """Group DRO: training minimises the loss of the group that does worst, by weights that follow the losses.

    Where every group's training loss falls to 0, as of large networks, the weights say little: strong weight decay or
    few epochs matter as much. What an example does depends on others, so that it clashes with DP-SGD.
    """

    name: ClassVar[str] = "groupdro"
    title: ClassVar[str] = "group DRO"
    paper: ClassVar[str] = "Sagawa et al. 2020"

    rate: float = 0.01
    """By how much a group's weight grows with its loss, η."""
    adjustment: float = 0.0
    """C in C / sqrt(n_g), which is added to the loss of a group of n_g examples: small ones generalise worse."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, finite", rate=self.rate)
        within(self.name, ">= 0, finite", adjustment=self.adjustment)

    def data(self, plan: Plan) -> Plan:
        """Lets the task's examples say to which group they belong."""
        # Only one that touches the task needs to know them.
        if not self.touches(plan):
            return plan
        task = replace(plan.task, source=Numbered(plan.task.source, self.groups(plan)))
        return replace(plan, streams=(task, *plan.streams[1:]))

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Replaces the task's first loss; what others add to it stays as it is."""
        if stream.name != plan.task.name:
            return stream
        first = WorstGroup(stream.objectives[0], self.rate, self.adjustment)
        return replace(stream, objectives=(first, *stream.objectives[1:]))
