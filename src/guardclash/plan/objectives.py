"""Losses per example."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
class Distilled:
    """Knowledge distillation (Hinton et al. 2015): cross entropy of two answers whose logits are divided by T.

    Labels are the teacher's probabilities, whose logarithms are its logits but for a constant. Times T², so that
    gradients keep their size.
    """

    temperature: float

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B]; labels are vectors [B, classes] of probabilities."""
        # A probability of 0 has no logit; the smallest number that is one keeps it at the end.
        teacher = batch.y.clamp(min=torch.finfo(batch.y.dtype).tiny).log().div(self.temperature).softmax(1)
        student = network(batch.x) / self.temperature
        return self.temperature**2 * functional.cross_entropy(student, teacher, reduction="none")


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Of examples with several labels: the mean over the classes of the cross entropy in nats of each one's logit."""

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B]; labels are vectors [B, classes] of 0 and 1, or of probabilities."""
        logits = network(batch.x)
        return functional.binary_cross_entropy_with_logits(logits, batch.y, reduction="none").mean(1)
