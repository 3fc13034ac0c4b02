"""MAD: answers that send a thief's gradient another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import one_of, within
from guardclash.mechanisms.slowing import Slowing
from guardclash.numerics.poisoned_answers import last_layer, misleading
from guardclash.plan.plan import Context, Plan, Predict
from guardclash.training.train import build_network
from guardclash.training.trained import Trained, predictor

NORMS = {"l1": 1, "l2": 2}
AT_ONCE = 500
"""Answers that are changed at a time: each is compared with up to 512 others."""


# Without ==, which networks answer by identity.
@dataclass(frozen=True, eq=False)
class MisleadingAnswers:
    """Answers moved towards what misleads most a thief whose model is like a surrogate."""

    predict: Predict
    surrogate: nn.Module
    budget: float
    norm: int
    keep: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, classes]: logarithms of probabilities."""
        answers = functional.softmax(self.predict(x).double(), 1)
        guesses = functional.softmax(predictor(self.surrogate)(x).double(), 1)
        parts = zip(answers.split(AT_ONCE), guesses.split(AT_ONCE), strict=True)
        told = [misleading(last_layer(guess), answer, self.budget, self.norm, self.keep) for answer, guess in parts]
        return torch.cat(told).clamp(min=torch.finfo(torch.float32).tiny).log().float()


@dataclass(frozen=True)
class MAD(Slowing):
    """MAD (Orekondy et al. 2020): of all answers within a budget the one whose gradient points away most.

    The thief's model is stood in for by an untrained network of the same architecture, as published, and its gradient
    is that of the last layer, where features cancel: one more forward pass for a query. `keep = true` lets the most
    likely class stay, so that the owner's accuracy does as well, and so does that of a thief who takes classes.
    """

    name: ClassVar[str] = "mad"
    title: ClassVar[str] = "MAD"
    paper: ClassVar[str] = "Orekondy et al. 2020"
    order: ClassVar[int] = 3  # before a mark is made among the answers

    budget: float = 1.0
    """How far probabilities may be moved, in `norm`; of L1 at most 2."""
    norm: str = "l1"
    """"l1" or "l2"."""
    keep: bool = True
    """Let the most likely class stay."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, finite", budget=self.budget)
        one_of(self.name, NORMS, norm=self.norm)

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        """Misleading probabilities."""
        surrogate = build_network(self.base(trained.plan), context.of(self.name)).eval()
        surrogate.to(next(trained.network.parameters()).device)
        return MisleadingAnswers(predict, surrogate, self.budget, NORMS[self.norm], self.keep)

    def facts(self, plan: Plan) -> dict[str, Any]:
        """How far answers are moved, and what stays."""
        stays = "the most likely class stays" if self.keep else "any class may come first"
        return {"answers": f"moved by up to {self.budget:g} in {self.norm}; {stays}"}
