"""Whether a model serves every group alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from guardclash.judging.criteria import SHARE, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.numerics.fairness import accuracies, cells, equalised_odds, parity
from guardclash.plan.examples import class_indices
from guardclash.plan.grouped import Groups, by_label, in_every_view
from guardclash.plan.plan import Context
from guardclash.training.trained import Trained

UNSHARED = (
    "no class has test examples of two groups, so equalised odds have no meaning; where no groups are known, each "
    "class is a group"
)


@dataclass(frozen=True)
class Fairness(Measure):
    """Fairness: the accuracy of the worst group, the gap between groups, equalised odds.

    Judged is the worst group's accuracy, since a difference of 0 is also reached by serving everybody badly. The groups
    are those of the recipe or a named attribute; where nothing is known the classes. Where a condition of the recipe
    can show every test example as any group's, all are shown so.
    """

    name: ClassVar[str] = "group_fairness"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("fair_worst", "φ_FAIR", MaxDrop(0.05), title="accuracy of the worst group", range=SHARE),
        Metric("fair_best", "best group", None, title="accuracy of the best group, labels together", range=SHARE),
        Metric(
            "fair_gap",
            "gap",
            None,
            False,
            title="accuracy of the best group minus that of the worst, labels together",
            range=SHARE,
        ),
        Metric(
            "fair_equalised_odds",
            "EO",
            None,
            False,
            title="equalised-odds difference: the largest one between groups, given the label",
            range=SHARE,
            optional=True,
        ),
        Metric(
            "fair_parity",
            "parity",
            None,
            False,
            title="demographic-parity difference, of two classes",
            range=SHARE,
            optional=True,
        ),
        Metric("fair_worst_class", "worst class", None, title="accuracy of the worst class in a group", range=SHARE),
    )

    group: str | None = None
    """The attribute that tells groups, such as "sex" of Adult; None: the recipe's groups, else the classes."""
    by_label: bool | None = None
    """Whether examples of one group with different labels are groups of their own; None: where a named attribute meets
    two classes, since a model may else serve a group well by always telling its more frequent label."""

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The metrics, each in [0, 1]; those that compare groups are left out where the classes are the groups.

        Raises:
            UserError: The attribute is not known of the test examples.
        """
        plan = trained.plan
        test = plan.judged_by.test
        data = in_every_view(test, context.data(test))
        told, y = trained.predict(data.x).argmax(1).numpy(), class_indices(data.y).numpy()
        groups = Groups(self.group, by_label(self.group, self.by_label, plan.model.classes))
        named = groups.named(data)
        right, whose = told == y, cells(y) if named is None else named
        by_group = accuracies(right, whose)
        measured = {
            "fair_worst": float(accuracies(right, groups.of(data)).min()),
            "fair_best": float(by_group.max()),
            "fair_gap": float(by_group.max() - by_group.min()),
            "fair_worst_class": float(accuracies(right, cells(y, whose)).min()),
        }
        odds = equalised_odds(y, told, named) if named is not None else None
        if odds is not None:
            measured["fair_equalised_odds"] = odds
        if named is not None and named.max() > 0 and plan.model.classes == 2:
            measured["fair_parity"] = parity(told, named)
        return measured

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That there is nothing to compare between groups of one label."""
        return () if "fair_equalised_odds" in metrics or not metrics else (UNSHARED,)
