"""The measure: what can be asked of any model. All that a new one must import; see docs/extend.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from guardclash.data.space import Space, called
from guardclash.judging.criteria import Metric
from guardclash.numerics.scatter import Scatter
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class Measure:
    """Something to measure as a frozen value: its fields are its options, its docstring is its card.

    A mechanism lists those that show that it works (`Mechanism.measures`), a study may list more for all its models.
    """

    name: ClassVar[str]
    """How studies name it: short, lower case, unique."""
    metrics: ClassVar[tuple[Metric, ...]] = ()
    """What `measure` returns, each with the criterion that it is judged by."""
    spaces: ClassVar[tuple[type[Space], ...]] = ()
    """The kinds of inputs that it is for, such as `(Images,)`; none: all."""
    does: ClassVar[str] = ""
    """Why it is for these alone, in words that go on from its name, such as "marks images"; "": it just needs them."""
    one_class: ClassVar[bool] = False
    """Whether it needs one class for each example, so that it is not for tasks of several labels."""
    version: ClassVar[int] = 1
    """Raise it when `measure` changes meaning: old measurements are then left aside."""

    def bind(self, unprotected: Plan) -> Self:
        """This measure for one task: with what it derives from the study's unprotected training.

        What it reads later it must hold after this: which data a measurement read is part of its key.
        """
        return self

    def fits(self, plan: Plan) -> bool:
        """Whether it is for such a task as a plan's; a plan that does not say takes everything."""
        return not self.misfit(plan)

    def misfit(self, plan: Plan) -> str:
        """Why it is not for such a task as a plan's, in words that go on from its name; "": it is."""
        if plan.purpose is None:
            return ""
        if self.spaces and not isinstance(plan.purpose.space, self.spaces):
            does = self.does or f"needs {' or '.join(one.__name__.lower() for one in self.spaces)}"
            return f"{does}, and the inputs of this task are {called(plan.purpose.space)}"
        if self.one_class and plan.purpose.several_labels:
            return "needs one class for each example, and those of this task may have several labels"
        return ""

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """Other trainings that `measure` reads through `context.trained`; they are trained once and shared."""
        return ()

    def needs_deployed(self, model: Deployed) -> tuple[Plan | OtherSeed, ...]:
        """The same of a model as it answers: for a measure that sends a thief who asks it."""
        return self.needs(model.origin)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The declared metrics on any model, protected or not; a metric that has no meaning there is left out."""
        return {}

    def scatter(self, trained: Trained, context: Context) -> Scatter | None:
        """Points of a plane that show what was measured, for a figure only; None where there is nothing to see.

        They are kept beside the metrics, never judged. A model of another architecture, or one that diverged, must not
        raise: the metrics would be lost with it.
        """
        return None

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """What a reader must be warned of, seeing these measured values; shown beside them."""
        return ()


@dataclass(frozen=True)
class Utility(Measure):
    """How good a model is at its task: a measure by which a task may be judged. Abstract: it measures nothing."""

    test: Any = None
    """The examples on which it is measured; None: the task's test split. From Python only."""
    several_labels: Any = False
    """Whether they may have several labels, as the task that it is bound to says. From Python only."""

    def bind(self, unprotected: Plan) -> Self:
        """With the task's test split, and the form of its labels."""
        test = unprotected.judged_by.test if self.test is None else self.test
        return replace(self, test=test, several_labels=unprotected.several_labels)
