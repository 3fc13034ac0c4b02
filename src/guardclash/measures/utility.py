"""Utility: how good a model is at its task, which every combination is judged by beside its protections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from guardclash.judging.criteria import ACCURACY, SHARE, MaxDrop, Metric
from guardclash.measure import Utility
from guardclash.plan.plan import Context
from guardclash.training.trained import Trained, accuracy


@dataclass(frozen=True)
class TestAccuracy(Utility):
    """Accuracy: the share of test examples whose most likely class is their label (equation 1)."""

    __test__: ClassVar[bool] = False  # not a test, whatever pytest thinks of the name
    name: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY,)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The accuracy, in [0, 1]."""
        x, y = context.data(self.test)
        return {ACCURACY.name: accuracy(trained.predict, x, y)}


@dataclass(frozen=True)
class BalancedAccuracy(Utility):
    """Balanced accuracy: the mean over classes of the share of their test examples that are told right."""

    name: ClassVar[str] = "balanced_accuracy"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("balanced_accuracy", "φ_BACC", MaxDrop(0.10), title="balanced accuracy", range=SHARE, gain=False),
    )

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mean recall of the classes that the test examples have, in [0, 1]."""
        from sklearn.metrics import recall_score

        labels, told, _ = _answers(self.test, trained, context)
        there = np.unique(labels)
        return {"balanced_accuracy": float(recall_score(labels, told, labels=there, average="macro"))}


@dataclass(frozen=True)
class MacroF1(Utility):
    """Macro F1: the mean over classes of the harmonic mean of precision and recall."""

    name: ClassVar[str] = "macro_f1"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("macro_f1", "φ_F1", MaxDrop(0.10), title="macro-averaged F1", range=SHARE, gain=False),
    )

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mean F1, in [0, 1]; a class that is never told, or never there, counts as 0."""
        from sklearn.metrics import f1_score

        labels, told, classes = _answers(self.test, trained, context)
        every = list(range(classes.shape[1]))
        return {"macro_f1": float(f1_score(labels, told, labels=every, average="macro", zero_division=0.0))}


@dataclass(frozen=True)
class AUROC(Utility):
    """AUROC: the area under the ROC curve; of more than two classes, the mean of each against the rest."""

    name: ClassVar[str] = "auroc"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("auroc", "φ_AUROC", MaxDrop(0.10), title="area under the ROC curve", range=SHARE, gain=False),
    )

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The area, in [0, 1]; 0.5 is chance. Classes without a test example, or with all of them, are left out."""
        from sklearn.metrics import roc_auc_score

        labels, _, shares = _answers(self.test, trained, context)
        counted = range(1, 2) if shares.shape[1] == 2 else range(shares.shape[1])
        there = [one for one in counted if 0 < np.count_nonzero(labels == one) < len(labels)]
        areas = [roc_auc_score(labels == one, shares[:, one]) for one in there]
        return {"auroc": float(np.mean(areas))} if areas else {}


def _answers(
    test: Any, trained: Trained, context: Context
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Labels [N], the most likely classes [N] and the probabilities of all [N, classes]."""
    x, y = context.data(test)
    logits = trained.predict(x).double()
    return y.numpy(), logits.argmax(1).numpy(), functional.softmax(logits, 1).numpy()
