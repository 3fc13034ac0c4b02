"""Which model answers: a trained one, through the mechanisms that act at inference."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from guardclash.plan.plan import Context, OtherSeed, Plan, Predict


class Server(Hashable, Protocol):
    """What a deployed model's answers pass through: a mechanism that acts at inference."""

    def serve(self, predict: Predict, trained: Any, context: Any) -> Predict:
        """Wraps the answers."""

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """Other trainings that it reads."""


@dataclass(frozen=True)
class Deployed:
    """A model as its users meet it. Whoever asks, attacks or compares a model holds this, never a plan alone.

    A model from outside is a plan as well: its weights are put into a network that is not trained
    (`guardclash.plan.foreign`).
    """

    origin: Plan
    """The training that its weights come from, under a context's seed."""
    serving: tuple[Server, ...] = ()
    """The mechanisms that its answers pass through, the first one nearest to the network."""

    def __described__(self) -> Any:
        """As its plan where nothing acts at inference: such models were known by their plans alone."""
        return (self.origin, self.serving) if self.serving else self.origin

    def needed(self) -> tuple[Plan | OtherSeed, ...]:
        """What it reads: its training, and others that the mechanisms read to answer."""
        return (self.origin, *(need for mechanism in self.serving for need in mechanism.needs(self.origin)))

    def load(self, context: Context) -> Any:
        """The model (`guardclash.training.trained.Trained`), with its answers as they are served."""
        return self.answering(context.trained(self.origin), context)

    def answering(self, trained: Any, context: Context) -> Any:
        """The model, where its training is at hand."""
        predict: Predict = trained.predict
        for mechanism in self.serving:
            predict = mechanism.serve(predict, trained, context)
        return replace(trained, predict=predict, serving=self.serving)
