"""Adversarial batches: the maps that adversarial training puts before the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.numerics.attacks import PGD, attacked
from guardclash.numerics.single_step import NoisyStep
from guardclash.numerics.tokens import shifted, worst_shift
from guardclash.plan.examples import Data, Moment
from guardclash.plan.parts import Objective

SHIFT = "embedding_shift"
"""What `Data.about` calls the shift of the vectors of an example's tokens, [length, width]."""
SATURATED = 44.0
"""In nats: float32 holds no squares of probabilities below exp(-44), and soon none of these themselves."""


@dataclass(frozen=True)
class Adversarial:
    """Replaces every input by an adversarial one (the paper's section 2.3: replaced, not added)."""

    attack: PGD | NoisyStep
    training: bool = False
    """Attack the network in training mode, as the published code does, instead of evaluation mode."""
    update_statistics: bool = False
    """Let the attack's forward passes move batch norm's running statistics; only in training mode."""
    precision: str = "auto"
    """Of the attack's own arithmetic; the step that follows is float32."""
    several_labels: bool = False
    """Whether examples may have several labels."""

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """Adversarial inputs under the labels of the clean ones."""
        with attacked(network, self.training, self.update_statistics, self.precision):
            moved = self.attack(
                lambda point: cross_entropies(network, point, batch.y, self.several_labels), batch.x, rng
            )
        return replace(batch, x=moved)


@dataclass(frozen=True)
class AdversarialEmbeddings:
    """Finds for every text the worst shift of its tokens' vectors, and notes it beside the example (`SHIFT`)."""

    attack: PGD
    padding: int | None = None
    """The token of empty places, which stay as they are."""
    training: bool = False
    update_statistics: bool = False
    precision: str = "auto"
    several_labels: bool = False

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """The same texts with their shifts, which `Shifted` applies."""
        if not len(batch.x):  # Poisson sampling may draw none
            return batch
        with attacked(network, self.training, self.update_statistics, self.precision):
            found = worst_shift(
                self.attack,
                network,
                lambda: cross_entropies(network, batch.x, batch.y, self.several_labels),
                batch.x,
                rng,
                self.padding,
            )
        return replace(batch, about={**batch.about, SHIFT: found})


@dataclass(frozen=True)
class Shifted:
    """Another loss, of texts whose tokens' vectors are shifted as `AdversarialEmbeddings` found."""

    inner: Objective

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B]."""
        if SHIFT not in batch.about:
            return self.inner(network, batch, now=now)
        with shifted(network, batch.x, batch.about[SHIFT]):
            return self.inner(network, batch, now=now)


def cross_entropies(network: nn.Module, x: Tensor, y: Tensor, several_labels: bool = False) -> Tensor:
    """Cross entropy per example, [B], in float32 whatever the network computes in.

    Its gradient does not vanish, however sure the network is. That of an example with a margin beyond `SATURATED` is
    that of its margin: the same direction, as the cross entropy is a function of the margin alone.

    Args:
        network: The network.
        x: Inputs [B, ...].
        y: Their labels.
        several_labels: Whether these are vectors of 0 and 1, each class a question of its own.

    Returns:
        That of the class; of several labels the mean over the classes.
    """
    logits = network(x).float()
    if several_labels:
        losses = functional.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(1)
        return _steep(losses, ((1 - 2 * y) * logits).logsumexp(1))
    losses = functional.cross_entropy(logits, y, reduction="none")
    if logits.shape[1] < 2 or not len(logits):
        return losses
    label = y.view(-1, 1) if y.dim() == 1 else y.argmax(1, keepdim=True)
    behind = logits.scatter(1, label, -math.inf).logsumexp(1) - logits.gather(1, label).squeeze(1)
    # A label that is no single class has a gradient of its own, which vanishes where it should.
    return _steep(losses, behind if y.dim() == 1 else behind.where(y.amax(1) == 1, 0))


def _steep(losses: Tensor, behind: Tensor) -> Tensor:
    """The losses, [B], those of examples that nearly cannot be told wrong with the gradients of their margins.

    Args:
        losses: ln(1 + exp(behind)), or what is nearly that where `behind` is far below 0.
        behind: How far all other answers are behind the right one, [B].
    """
    saturated = behind < -SATURATED
    if not saturated.any():
        return losses
    return torch.where(saturated, losses.detach() + (behind - behind.detach()), losses)
