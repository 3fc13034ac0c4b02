"""What mechanisms against model extraction share that make answers worth less: what a thief's model loses by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch.nn import functional

from guardclash.judging.criteria import SHARE, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.mechanisms.stealing import AgainstThieves
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.plan.sources import Answer
from guardclash.training.trained import Trained, accuracy

METRICS = (
    Metric(
        "stolen_loss",
        "φ_SLOW",
        MaxDrop(0.05),
        title="accuracy that a thief's model loses by the answers",
        range=(-1.0, 1.0),
    ),
    Metric(
        "stolen_labels",
        "φ_SLOW labels",
        None,
        title="the same of a thief who takes the classes only",
        range=(-1.0, 1.0),
    ),
    Metric("stolen_accuracy", "thief's φ_ACC", None, False, title="test accuracy of the thief's model", range=SHARE),
    Metric(
        "stolen_fidelity",
        "fidelity",
        None,
        False,
        title="test inputs that the thief's model tells as the deployed one",
        range=SHARE,
    ),
    Metric(
        "answer_distance", "L1", None, False, title="mean distance of the answers from the true ones", range=(0.0, 2.0)
    ),
    Metric("answer_flipped", "flipped", None, False, title="answers with another class", range=SHARE),
)


@dataclass(frozen=True)
class Stolen(Measure):
    """What a model is worth that is trained on the answers, beside one that is trained on the true answers."""

    name: ClassVar[str] = "stolen"
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    mechanism: Slowing

    def _thieves(self, model: Deployed) -> dict[str, Plan]:
        bare = replace(model, serving=tuple(one for one in model.serving if type(one) is not type(self.mechanism)))
        asked: dict[str, tuple[Deployed, Answer]] = {
            "defended": (model, "probabilities"),
            "open": (bare, "probabilities"),
            "defended labels": (model, "labels"),
            "open labels": (bare, "labels"),
        }
        return {name: self.mechanism.thief(*one) for name, one in asked.items()}

    def needs_deployed(self, model: Deployed) -> tuple[Plan | OtherSeed, ...]:
        """Four thieves: with and without the mechanism, by probabilities and by classes."""
        return tuple(self._thieves(model).values())

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """All metrics; of a model that answers without the mechanism nothing is lost."""
        test = context.data(trained.plan.judged_by.test)
        stolen = {name: context.trained(plan) for name, plan in self._thieves(trained.deployed).items()}
        worth = {name: accuracy(one.predict, test.x, test.y) for name, one in stolen.items()}
        served = trained.predict(test.x)
        bare = tuple(one for one in trained.serving if type(one) is not type(self.mechanism))
        true = Deployed(trained.plan, bare).load(context).predict(test.x)
        distances = (functional.softmax(served.double(), 1) - functional.softmax(true.double(), 1)).abs().sum(1)
        return {
            "stolen_loss": worth["open"] - worth["defended"],
            "stolen_labels": worth["open labels"] - worth["defended labels"],
            "stolen_accuracy": worth["defended"],
            "stolen_fidelity": (stolen["defended"].predict(test.x).argmax(1) == served.argmax(1))
            .double()
            .mean()
            .item(),
            "answer_distance": distances.mean().item(),
            "answer_flipped": (served.argmax(1) != true.argmax(1)).double().mean().item(),
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """What a thief does who takes classes; what the owner pays."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        loss, labels = metrics.get("stolen_loss", 0.0), metrics.get("stolen_labels", 0.0)
        if loss >= 0.05 > labels:
            lost = f"a thief who takes classes loses {max(0.0, labels):.2f}"
            yield f"{lost}: probabilities became worthless, not the model"
        if metrics.get("answer_flipped", 0.0) > 0.01:
            yield f"{metrics['answer_flipped']:.1%} of the answers name another class"


@dataclass(frozen=True)
class Slowing(AgainstThieves):
    """A mechanism that changes probabilities so that a thief learns less from them. Abstract: it changes none."""

    concern: ClassVar[str] = "model extraction"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    def measures(self) -> tuple[Measure, ...]:
        """What a thief's model is worth."""
        return (Stolen(self),)
