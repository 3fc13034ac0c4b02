"""Utility: how good a model is at its task, which every combination is judged by beside its protections.

Of a task of several labels, each class is a question of its own, answered yes where its logit is above 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from guardclash.judging.criteria import ACCURACY, SHARE, MaxDrop, Metric
from guardclash.measure import Utility
from guardclash.plan.plan import Context
from guardclash.training.trained import Trained, accuracy, told_right


@dataclass(frozen=True)
class TestAccuracy(Utility):
    """Accuracy: the share of test examples whose most likely class is their label (equation 1).

    Of several labels, the share of all labels that are told right.
    """

    __test__: ClassVar[bool] = False  # not a test, whatever pytest thinks of the name
    name: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY,)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The accuracy, in [0, 1]."""
        x, y = context.data(self.test)
        if self.several_labels:
            return {ACCURACY.name: told_right(trained.predict(x), y).double().mean().item()}
        return {ACCURACY.name: accuracy(trained.predict, x, y)}


@dataclass(frozen=True)
class BalancedAccuracy(Utility):
    """Balanced accuracy: the mean over classes of the share of their test examples that are told right.

    Of several labels, the mean over labels of that of having it and not having it.
    """

    name: ClassVar[str] = "balanced_accuracy"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("balanced_accuracy", "φ_BACC", MaxDrop(0.10), title="balanced accuracy", range=SHARE, gain=False),
    )

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mean recall of the classes that the test examples have, in [0, 1]."""
        from sklearn.metrics import recall_score

        def recall(labels: NDArray[Any], told: NDArray[Any]) -> float:
            return float(recall_score(labels, told, labels=np.unique(labels), average="macro"))

        labels, told, _ = _answers(self, trained, context)
        if self.several_labels:
            return {"balanced_accuracy": float(np.mean([recall(*one) for one in zip(labels.T, told.T, strict=True)]))}
        return {"balanced_accuracy": recall(labels, told)}


@dataclass(frozen=True)
class MacroF1(Utility):
    """Macro F1: the mean over classes, or labels, of the harmonic mean of precision and recall."""

    name: ClassVar[str] = "macro_f1"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("macro_f1", "φ_F1", MaxDrop(0.10), title="macro-averaged F1", range=SHARE, gain=False),
    )

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mean F1, in [0, 1]; a class that is never told, or never there, counts as 0."""
        from sklearn.metrics import f1_score

        labels, told, classes = _answers(self, trained, context)
        if self.several_labels:
            scores = [f1_score(*one, zero_division=0.0) for one in zip(labels.T, told.T, strict=True)]
            return {"macro_f1": float(np.mean(scores))}
        every = list(range(classes.shape[1]))
        return {"macro_f1": float(f1_score(labels, told, labels=every, average="macro", zero_division=0.0))}


@dataclass(frozen=True)
class AUROC(Utility):
    """AUROC: the area under the ROC curve; of more than two classes, the mean of each against the rest.

    Of several labels, the mean of each.
    """

    name: ClassVar[str] = "auroc"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("auroc", "φ_AUROC", MaxDrop(0.10), title="area under the ROC curve", range=SHARE, gain=False),
    )

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The area, in [0, 1]; 0.5 is chance. Classes without a test example, or with all of them, are left out."""
        from sklearn.metrics import roc_auc_score

        labels, _, shares = _answers(self, trained, context)
        counted = range(1, 2) if shares.shape[1] == 2 and not self.several_labels else range(shares.shape[1])
        bears = {one: labels[:, one] == 1 if self.several_labels else labels == one for one in counted}
        there = {one: which for one, which in bears.items() if 0 < np.count_nonzero(which) < len(labels)}
        areas = [roc_auc_score(which, shares[:, one]) for one, which in there.items()]
        return {"auroc": float(np.mean(areas))} if areas else {}


def _answers(
    utility: Utility, trained: Trained, context: Context
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Labels [N], the most likely classes [N] and the probabilities of all [N, classes].

    A suspect may know fewer classes than the task has; the others have the probability 0.
    Of several labels: vectors of 0 and 1 [N, classes], those that are told, and the probability of each.
    """
    x, y = context.data(utility.test)
    logits = trained.predict(x).double()
    if utility.several_labels:
        return y.long().numpy(), (logits > 0).long().numpy(), logits.sigmoid().numpy()
    shares, unknown = functional.softmax(logits, 1), int(y.max()) + 1 - logits.shape[1]
    return y.numpy(), logits.argmax(1).numpy(), functional.pad(shares, (0, max(0, unknown))).numpy()
