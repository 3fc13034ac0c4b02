"""Losses per example."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy in nats of the logits [B, classes] against the labels [B]."""

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """One loss per example, [B]."""
        return functional.cross_entropy(network(x), y, reduction="none")
