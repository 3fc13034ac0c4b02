"""The condition: the world in which a whole study is trained. All that a new one must import; see docs/extend.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from guardclash.data.space import Space
from guardclash.errors import UserError
from guardclash.plan.examples import Data
from guardclash.plan.plan import Context, Plan, Source


@dataclass(frozen=True)
class Condition:
    """An edit of the task's examples that holds in every cell of a recipe, the unprotected model included.

    It is no protection but what is there before anybody protects anything: who is in the training set, which groups
    there are, what a poisoner has planted. It is part of the plan, and so of every key, and of the recipe's label.
    """

    name: ClassVar[str]
    """How studies name it: short, lower case, unique."""
    threat: ClassVar[bool] = False
    """Whether it is what somebody does to the owner. Innocent parties are spared it; all else is the same for them."""
    spaces: ClassVar[tuple[type[Space], ...]] = ()
    """The kinds of inputs that it is for; none: all."""
    one_class: ClassVar[bool] = False
    """Whether it needs one class for each example, so that it is not for tasks of several labels."""
    mixes_examples: ClassVar[bool] = False
    """Whether it makes or chooses an example by looking at others (see `guardclash.plan.plan.Source`)."""
    version: ClassVar[int] = 1
    """Raise it when what it does changes meaning: old trainings are then left aside."""

    def bind(self, unprotected: Plan) -> Self:
        """This condition for one task, with what it derives from the training that it is to hold for.

        Raises:
            UserError: If it cannot hold there.
        """
        return self

    def size(self, size: int) -> int:
        """How many of so many training examples are left, known without loading them."""
        return size

    def train(self, data: Data, context: Context) -> Data:
        """The training examples as they are under it; what it does to which of them goes into `about`."""
        return data

    def test(self, data: Data, context: Context) -> Data:
        """The examples that models are judged on, likewise. They must stay as many."""
        return data


@dataclass(frozen=True)
class Conditioned:
    """Training examples of another source under a condition."""

    images: Source
    condition: Condition

    @property
    def size(self) -> int:
        """What the condition leaves."""
        return self.condition.size(self.images.size)

    @property
    def mixes_examples(self) -> bool:
        """As the condition says."""
        return self.condition.mixes_examples

    def load(self, context: Context) -> Data:
        """The examples under it."""
        return self.condition.train(context.data(self.images), context)


@dataclass(frozen=True)
class ConditionedTest:
    """Examples that models are judged on, under a condition."""

    images: Source
    condition: Condition

    @property
    def size(self) -> int:
        """As many as without it."""
        return self.images.size

    def load(self, context: Context) -> Data:
        """The examples under it."""
        return self.condition.test(context.data(self.images), context)


def under(plan: Plan, conditions: tuple[Condition, ...]) -> Plan:
    """An unprotected training, and what its model is judged on, under conditions, the first one nearest to the data.

    Raises:
        UserError: If one of them cannot hold there.
    """
    for condition in conditions:
        bound = _fitting(condition, plan).bind(plan)
        task = replace(plan.task, source=Conditioned(plan.task.source, bound))
        purpose = replace(plan.judged_by, test=tested(plan.judged_by.test, bound))
        plan = replace(plan, streams=(task, *plan.streams[1:]), purpose=purpose)
    return plan


def _fitting(condition: Condition, plan: Plan) -> Condition:
    space = plan.judged_by.space
    if condition.spaces and not isinstance(space, condition.spaces):
        allowed = " or ".join(one.__name__ for one in condition.spaces)
        raise UserError("a condition for other inputs", where=condition.name, got=space, allowed=allowed)
    if condition.one_class and plan.judged_by.several_labels:
        what, allowed = "a condition for examples of one class", "a task without several labels"
        raise UserError(what, where=condition.name, got=plan.judged_by.task, allowed=allowed)
    return condition


def tested(test: Source, condition: Condition) -> Source:
    """Examples to judge on under a condition; the same source where it leaves them alone."""
    # The same source has the same key: what was measured on it is found again.
    return test if type(condition).test is Condition.test else ConditionedTest(test, condition)


def bound_in(source: Any) -> tuple[Condition, ...]:
    """The conditions under which a source's examples are, the first one nearest to the data."""
    return (*bound_in(source.images), source.condition) if isinstance(source, Conditioned) else ()


def origin(source: Any) -> Any:
    """What a source holds before any condition."""
    return origin(source.images) if isinstance(source, Conditioned) else source


def viewing(test: Any) -> Any:
    """The condition that can show judged examples as every group's, by a method `views`; None: there is none."""
    while isinstance(test, ConditionedTest):
        if callable(getattr(test.condition, "views", None)):
            return test.condition
        test = test.images
    return None


def in_same_world(images: Source, source: Any) -> Source:
    """Other images under the conditions of a source, but for threats: those of somebody whom nobody attacks."""
    if not isinstance(source, Conditioned):
        return images
    inner = in_same_world(images, source.images)
    return inner if source.condition.threat else replace(source, images=inner)
