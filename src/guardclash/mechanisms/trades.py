"""TRADES: robustness traded for accuracy by a regulariser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import within
from guardclash.data.space import Tokens, unmoved
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
    several_labels: bool = False
    """Whether each class is a question of its own."""

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """The gap, beta * KL(p(x) || p(x + delta)) in nats for each example, [B]; the labels play no part."""
        x = batch.x
        with attacked(network, self.training, self.update_statistics, self.precision):
            with torch.no_grad():
                clean = self._logs(network(x).float())
            # The start is drawn from torch's global generator, which the training seeds as it does for dropout.
            start = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            neighbours = self.attack(lambda point: self._divergences(clean, network(point)), x, start)
        return self.beta * self._divergences(self._logs(network(x)), network(neighbours))

    def _logs(self, logits: Tensor) -> Tensor:
        """Log-probabilities: of the classes [B, classes]; of several labels, of yes and no to each, [B, 2, classes]."""
        if not self.several_labels:
            return logits.log_softmax(1)
        return torch.stack([functional.logsigmoid(logits), functional.logsigmoid(-logits)], 1)

    def _divergences(self, reference: Tensor, logits: Tensor) -> Tensor:
        """KL of answers from a reference, which is log-probabilities, [B]; of several labels the mean over them."""
        gaps = functional.kl_div(self._logs(logits.float()), reference, reduction="none", log_target=True).sum(1)
        return gaps.mean(1) if self.several_labels else gaps


@dataclass(frozen=True)
class Trades(Evasion):
    """TRADES (Zhang et al. 2019): beside its own loss, every example pays for how far its worst neighbour's answer is.

    Clean examples stay in the training, which costs less accuracy than replacing them; beta sets the trade.
    """

    name: ClassVar[str] = "trades"
    title: ClassVar[str] = "TRADES"
    paper: ClassVar[str] = "Zhang et al. 2019"

    beta: float = 6.0
    """Weight of the regulariser, 1 / lambda in the paper."""

    def __post_init__(self) -> None:
        Evasion.__post_init__(self)
        within("trades", "> 0, finite", beta=self.beta)
        if not self.random_start:
            what = "the divergence has no gradient at the image itself, so an attack that starts there stays there"
            raise UserError(what, where="trades.random_start", got=False, allowed="true")

    def misfit(self, plan: Plan) -> str:
        """As for the attack; and none is written of the vectors of tokens."""
        if plan.purpose is not None and isinstance(plan.purpose.space, Tokens):
            return f"moves inputs a little, and {unmoved(plan.purpose.space)}; of their vectors only advtr is written"
        return super().misfit(plan)

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the regulariser to the stream's losses."""
        gap = RobustnessGap(self.attack(plan), self.beta, *self.seen(), plan.several_labels)
        return replace(stream, objectives=(*stream.objectives, gap))
