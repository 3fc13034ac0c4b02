"""The reverse sigmoid: probabilities that a thief cannot tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from guardclash.checks import within
from guardclash.mechanisms.slowing import Slowing
from guardclash.numerics.poisoned_answers import keeping_top, reverse_sigmoid
from guardclash.plan.plan import Context, Plan, Predict
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class BentAnswers:
    """Answers less a sigmoid of their logits."""

    predict: Predict
    magnitude: float
    slope: float
    keep: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, classes]: logarithms of probabilities."""
        answers = functional.softmax(self.predict(x).double(), 1)
        told = reverse_sigmoid(answers, self.magnitude, self.slope)
        told = keeping_top(told, answers) if self.keep else told
        return told.clamp(min=torch.finfo(torch.float32).tiny).log().float()


@dataclass(frozen=True)
class ReverseSigmoid(Slowing):
    """Reverse sigmoid (Lee et al. 2018): probabilities are bent so that different ones become alike.

    The mapping is not monotone: small probabilities change their order, and although the publication says otherwise the
    most likely class may change, down to the least likely one coming first. `keep = true` puts it back.
    """

    name: ClassVar[str] = "reverse-sigmoid"
    title: ClassVar[str] = "the reverse sigmoid"
    paper: ClassVar[str] = "Lee et al. 2018"
    order: ClassVar[int] = 3  # before a mark is made among the answers

    magnitude: float = 0.7
    """Beta."""
    slope: float = 0.2
    """Gamma; 1 only flattens."""
    keep: bool = True
    """Put the most likely class back."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, finite", magnitude=self.magnitude, slope=self.slope)

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """Bent probabilities."""
        return BentAnswers(predict, self.magnitude, self.slope, self.keep)

    def facts(self, plan: Plan) -> dict[str, Any]:
        """The mapping, and what stays."""
        stays = "put back" if self.keep else "as it comes out"
        return {"answers": f"bent, β = {self.magnitude:g}, γ = {self.slope:g}; the most likely class is {stays}"}
