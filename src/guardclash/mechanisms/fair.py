"""What mechanisms against unfairness share: whose groups, and by what they are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.fairness import Fairness
from guardclash.mechanism import Mechanism
from guardclash.plan.grouped import Groups, by_label
from guardclash.plan.plan import Context, Plan
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class Fair(Mechanism):
    """A mechanism for groups of the task's examples, judged by fairness between the same groups."""

    concern: ClassVar[str] = "fairness"
    one_class: ClassVar[bool] = True
    order: ClassVar[int] = 9  # groups are those of the examples that are left when others have marked and removed
    metrics: ClassVar[tuple[Metric, ...]] = Fairness.metrics

    group: str | None = None
    """The attribute that tells groups, such as "sex" of Adult; None: the recipe's groups, else the classes."""
    by_label: bool | None = None
    """As of the measure `group_fairness`."""

    def groups(self, plan: Plan) -> Groups:
        """How the examples of a plan are put into groups."""
        return Groups(self.group, by_label(self.group, self.by_label, plan.model.classes))

    def touches(self, plan: Plan) -> bool:
        """Whether the task's examples are among those that it acts on."""
        return self.on is None or plan.task.name in self.on

    @property
    def fairness(self) -> Fairness:
        """Between the same groups."""
        return Fairness(self.group, self.by_label)

    def measures(self) -> tuple[Measure, ...]:
        """Fairness between the same groups."""
        return (self.fairness,)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """As its measure."""
        return self.fairness.measure(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """As its measure."""
        return self.fairness.warnings(metrics)
