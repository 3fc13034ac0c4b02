"""TRADES: robustness traded for accuracy by a regulariser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import within
from guardclash.errors import UserError
from guardclash.mechanisms.evasion import Evasion
from guardclash.numerics.attacks import PGD, attacked
from guardclash.plan.examples import Data, Moment
from guardclash.plan.plan import Plan, Stream


@dataclass(frozen=True)
class RobustnessGap:
    """beta times the divergence of the answers on the worst neighbours of the images from those on the images."""

    attack: PGD
    beta: float
    training: bool = False
    update_statistics: bool = False
    precision: str = "auto"

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """The gap, beta * KL(p(x) || p(x + delta)) in nats for each example, [B]; the labels play no part."""
        x = batch.x
        with attacked(network, self.training, self.update_statistics, self.precision):
            with torch.no_grad():
                clean = network(x).float().log_softmax(1)
            # The start is drawn from torch's global generator, which the training seeds as it does for dropout.
            start = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            neighbours = self.attack(lambda point: _divergences(clean, network(point)), x, start)
        return self.beta * _divergences(network(x).log_softmax(1), network(neighbours))


def _divergences(reference: Tensor, logits: Tensor) -> Tensor:
    """KL(reference || softmax(logits)) for each row; the reference as log-probabilities."""
    other = logits.float().log_softmax(1)
    return functional.kl_div(other, reference, reduction="none", log_target=True).sum(1)


@dataclass(frozen=True)
class Trades(Evasion):
    """TRADES (Zhang et al. 2019): beside its own loss, every example pays for how far its worst neighbour's answer is.

    Clean examples stay in the training, which costs less accuracy than replacing them; beta sets the trade.
    """

    name: ClassVar[str] = "trades"
    paper: ClassVar[str] = "Zhang et al. 2019"

    beta: float = 6.0
    """Weight of the regulariser, 1 / lambda in the paper."""

    def __post_init__(self) -> None:
        Evasion.__post_init__(self)
        within("trades", "> 0, finite", beta=self.beta)
        if not self.random_start:
            what = "the divergence has no gradient at the image itself, so an attack that starts there stays there"
            raise UserError(what, where="trades.random_start", got=False, allowed="true")

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the regulariser to the stream's losses."""
        gap = RobustnessGap(
            self.attack(plan), self.beta, self.mode == "train", self.batch_norm == "update", self.precision
        )
        return replace(stream, objectives=(*stream.objectives, gap))
