"""Weights of examples that even out groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash.checks import one_of
from guardclash.mechanisms.fair import Fair
from guardclash.plan.grouped import Weighted
from guardclash.plan.identity import nested
from guardclash.plan.plan import Plan


@dataclass(frozen=True)
class Reweighting(Fair):
    """Reweighting: an example of a rare group counts more in the loss, so that no group is left behind.

    Weights belong to the examples that are left when all marking and filtering is done. They multiply the loss before
    anything else sees it: under DP-SGD a clipped gradient has the same length whatever its weight, which undoes most of
    them. How many examples a group has is then read outside of any epsilon.
    """

    name: ClassVar[str] = "reweight"
    title: ClassVar[str] = "reweighting"
    paper: ClassVar[str] = "Kamiran and Calders 2012"

    scheme: str = "balance"
    """"balance": every group counts alike; "reweighing": label and group become independent, as published."""

    def __post_init__(self) -> None:
        one_of(self.name, ("balance", "reweighing"), scheme=self.scheme)

    def data(self, plan: Plan) -> Plan:
        """Gives the task's examples their weights."""
        if not self.touches(plan):
            return plan
        task = replace(plan.task, source=Weighted(plan.task.source, self.groups(plan), self.scheme))
        return replace(plan, streams=(task, *plan.streams[1:]))

    def facts(self, plan: Plan) -> dict[str, str]:
        """By what examples are weighed."""
        weighted = next(nested(plan, Weighted), None)
        if weighted is None:
            return {}
        of = weighted.groups.attribute or "the recipe's groups, else the classes"
        split = ", by label" if weighted.groups.by_label else ""
        return {"weights": f"{weighted.scheme} of {of}{split}; the sizes of groups are read outside of any ε"}
