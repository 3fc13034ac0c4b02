"""What a filter of training data has removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from guardclash.judging.criteria import SHARE, Metric
from guardclash.measure import Measure
from guardclash.plan.filtered import filter_of
from guardclash.plan.plan import Context
from guardclash.training.trained import Trained

NOTHING = "no training example is known to be poisoned, so there is no recall and no precision of the filter"


@dataclass(frozen=True)
class Filtering(Measure):
    """What a filter took from the task's training data, told by what is known about each example (`Data.about`).

    Poison is what a threat of the recipe has put there (`poisoned`), and nothing else: marks of a data owner (`marked`)
    and rare images (`group` 1) that are removed stand apart, for to remove them is no success of a defence. A filter
    that removes at random has the share removed as its recall, and the share of poison as its precision. A model whose
    data went through no filter has no values.
    """

    name: ClassVar[str] = "filtering"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "poison_recall",
            "poison recall",
            None,
            title="share of the poison that the filter removed",
            range=SHARE,
            optional=True,
        ),
        Metric(
            "poison_precision",
            "poison precision",
            None,
            title="share of poison in what it removed",
            range=SHARE,
            optional=True,
        ),
        Metric(
            "removed_share",
            "removed",
            None,
            False,
            title="share of the training examples",
            range=SHARE,
            optional=True,
        ),
        Metric(
            "marks_removed",
            "marks removed",
            None,
            False,
            title="share of the marked examples",
            range=SHARE,
            optional=True,
        ),
        Metric(
            "minority_removed",
            "minority removed",
            None,
            False,
            title="share of the examples of group 1",
            range=SHARE,
            optional=True,
        ),
    )

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The shares, each in [0, 1]; one is left out where there is nothing to count."""
        found = filter_of(trained.plan)
        if found is None:
            return {}
        about, removed = context.data(found.images).about, found.removed(context)
        values: dict[str, Tensor | None] = {
            "poison_recall": _among(removed, about.get("poisoned")),
            "poison_precision": _among(about["poisoned"], removed) if _any(about.get("poisoned")) else None,
            "removed_share": removed,
            "marks_removed": _among(removed, about.get("marked")),
            "minority_removed": _among(removed, about["group"] == 1) if "group" in about else None,
        }
        return {
            name: chosen.double().mean().item() for name, chosen in values.items() if chosen is not None and len(chosen)
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That nobody knows of poison; that a filter has found next to none of it."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if "removed_share" not in metrics:
            return
        recall = metrics.get("poison_recall")
        if recall is None:
            yield NOTHING
        elif recall <= metrics["removed_share"]:
            yield (
                f"the filter removed {recall:.0%} of the poison and {metrics['removed_share']:.0%} of all examples: no "
                "more than by chance"
            )


def _any(chosen: Tensor | None) -> bool:
    return chosen is not None and bool(chosen.any())


def _among(chosen: Tensor, others: Tensor | None) -> Tensor | None:
    """Which of some examples are chosen."""
    return None if others is None else chosen[others.bool()]
