"""Which model answers: a trained one, through the mechanisms that act at inference."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Protocol

from guardclash.plan.plan import Context, OtherSeed, Plan, Predict


class Server(Hashable, Protocol):
    """What a deployed model's answers pass through: a mechanism that acts at inference."""

    def serve(self, predict: Predict, trained: Any, context: Any) -> Predict:
        """Wraps the answers."""

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """Other trainings that it reads."""


def served(trained: Any, serving: tuple[Any, ...], context: Context) -> Any:
    """A trained model (`guardclash.training.trained.Trained`) as deployed.

    Its answers pass through the mechanisms of `serving`, the first one nearest to the network.
    """
    predict: Predict = trained.predict
    for mechanism in serving:
        predict = mechanism.serve(predict, trained, context)
    return replace(trained, predict=predict, serving=serving)
