"""Weights of examples that even out groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash.checks import one_of
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.fairness import Fairness
from guardclash.mechanism import Mechanism
from guardclash.plan.grouped import Groups, Weighted, by_label
from guardclash.plan.identity import nested
from guardclash.plan.plan import Context, Plan
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class Reweighting(Mechanism):
    """Reweighting: an example of a rare group counts more in the loss, so that no group is left behind.

    Weights belong to the examples that are left when all marking and filtering is done. They multiply the loss before
    anything else sees it: under DP-SGD a clipped gradient has the same length whatever its weight, which undoes most of
    them. How many examples a group has is then read outside of any epsilon.
    """

    name: ClassVar[str] = "reweight"
    concern: ClassVar[str] = "fairness"
    paper: ClassVar[str] = "Kamiran and Calders 2012"
    one_class: ClassVar[bool] = True
    order: ClassVar[int] = 9  # after whoever marks or removes examples
    metrics: ClassVar[tuple[Metric, ...]] = Fairness.metrics

    scheme: str = "balance"
    """"balance": every group counts alike; "reweighing": label and group become independent, as published."""
    group: str | None = None
    """The attribute that tells groups, such as "sex" of Adult; None: the recipe's groups, else the classes."""
    by_label: bool | None = None
    """As of the measure `group_fairness`."""

    def __post_init__(self) -> None:
        one_of(self.name, ("balance", "reweighing"), scheme=self.scheme)

    def measures(self) -> tuple[Measure, ...]:
        """Fairness between the same groups."""
        return (Fairness(self.group, self.by_label),)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """As its measure."""
        return Fairness(self.group, self.by_label).measure(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """As its measure."""
        return Fairness(self.group, self.by_label).warnings(metrics)

    def data(self, plan: Plan) -> Plan:
        """Gives the task's examples their weights."""
        if self.on is not None and plan.task.name not in self.on:
            return plan
        groups = Groups(self.group, by_label(self.group, self.by_label, plan.model.classes))
        task = replace(plan.task, source=Weighted(plan.task.source, groups, self.scheme))
        return replace(plan, streams=(task, *plan.streams[1:]))

    def facts(self, plan: Plan) -> dict[str, str]:
        """By what examples are weighed."""
        weighted = next(nested(plan, Weighted), None)
        if weighted is None:
            return {}
        of = weighted.groups.attribute or "the recipe's groups, else the classes"
        split = ", by label" if weighted.groups.by_label else ""
        return {"weights": f"{weighted.scheme} of {of}{split}; the sizes of groups are read outside of any ε"}
