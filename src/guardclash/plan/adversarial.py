"""Adversarial batches: the map that adversarial training puts before the loss."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.numerics.attacks import PGD, attacked
from guardclash.plan.examples import Data, Moment


@dataclass(frozen=True)
class Adversarial:
    """Replaces every image by an adversarial one (the paper's section 2.3: replaced, not added)."""

    attack: PGD
    training: bool = False
    """Attack the network in training mode, as the published code does, instead of evaluation mode."""
    update_statistics: bool = False
    """Let the attack's forward passes move batch norm's running statistics; only in training mode."""
    precision: str = "auto"
    """Of the attack's own arithmetic; the step that follows is float32."""

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """Adversarial images under the labels of the clean ones."""
        with attacked(network, self.training, self.update_statistics, self.precision):
            moved = self.attack(lambda point: cross_entropies(network, point, batch.y), batch.x, rng)
        return replace(batch, x=moved)


def cross_entropies(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy per image, [B], in float32 whatever the network computes in."""
    return functional.cross_entropy(network(x).float(), y, reduction="none")
