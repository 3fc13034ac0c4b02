"""Losses per example."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from guardclash.plan.examples import Data, Moment


@dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy in nats of the logits [B, classes] against the labels: -log p of the class, or -sum(y log p)."""

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B]."""
        return functional.cross_entropy(network(batch.x), batch.y, reduction="none")


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Of examples with several labels: the mean over the classes of the cross entropy in nats of each one's logit."""

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B]; labels are vectors [B, classes] of 0 and 1, or of probabilities."""
        logits = network(batch.x)
        return functional.binary_cross_entropy_with_logits(logits, batch.y, reduction="none").mean(1)
