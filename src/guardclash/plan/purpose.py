"""What a model is for, whatever it is trained by: what goes in, and what it is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guardclash.data.space import Space


@dataclass(frozen=True)
class Purpose:
    """What a plan's model is for. Mechanisms and measures ask it, and never a data set's name."""

    task: str
    """Its name."""
    space: Space
    """What an input is."""
    test: Any
    """The examples on which it is judged: a `guardclash.plan.plan.Source`, all of the task's test split."""
    neighbour: Any = None
    """A source of inputs of the same form that are no examples of the task, such as triggers are drawn from; it says
    its `title` and its number of `classes`. None: there is none."""
    neighbour_train: Any = None
    """More of them, for who trains or steals with other inputs; it has `first(count)` as well."""
    mark_radius: int | None = None
    """How far, in 1/255, a pixel may be moved by what marks images here; None: nobody looked, as published then."""
    several_labels: bool = False
    """Whether an example may have several labels, or none: vectors of 0 and 1, float32 [N, classes], each class told by
    the sign of its logit. Otherwise it has one class."""
