"""The task: what models are for. All that a new task must import; see docs/extend.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from guardclash.data.catalog import find_dataset
from guardclash.data.dataset import Dataset
from guardclash.data.space import Images, same_form
from guardclash.errors import UserError
from guardclash.plan.made import made_patches, made_up
from guardclash.plan.plan import Plan, Source
from guardclash.plan.purpose import Purpose
from guardclash.plan.sources import OTHERS, Split


class Training(Protocol):
    """How the unprotected model is trained at a scale (`guardclash.tasks.recipe.Recipe`)."""

    @property
    def scale(self) -> str:
        """Which of the scales."""

    def plan(self, protected: bool = False) -> Plan:
        """The plan of the unprotected training."""


@dataclass(frozen=True)
class Task:
    """What models are for: data, what is good, and how the unprotected model is trained.

    A study names it by its data set: `[[recipes]] dataset = "mnist"`.

    Args:
        data: The data set, with a split "test" on which models are judged.
        recipes: How the unprotected model is trained, at each scale.
        utility: The measure by which every combination is judged: its name, such as "accuracy".
        neighbour: The data set of inputs of the same form that are no examples of the task. Triggers are drawn from its
            test split, and whoever steals with other images takes them from its first one. None: they are made up, and
            reports say so: patches of the two photographs of scikit-learn, rows outside the usual ranges, random texts.
        mark_radius: How far, in 1/255, what marks images may move a pixel; None: as published.

    Raises:
        UserError: There is no split to judge on.
    """

    data: Dataset
    recipes: tuple[Training, ...] = ()
    utility: str = "accuracy"
    neighbour: str | None = None
    mark_radius: int | None = None

    def __post_init__(self) -> None:
        if "test" not in self.data.splits:
            allowed = "a split called test"
            raise UserError("models need data to be judged on", where=self.name, got=self.data.splits, allowed=allowed)

    @property
    def name(self) -> str:
        """As studies call it: its data set's name."""
        return self.data.name

    def purpose(self) -> Purpose:
        """What a model for this task is for, as its plan says it.

        Raises:
            UserError: If the neighbour is not known, or its inputs have another form.
        """
        near, more = self._neighbours()
        test, several = Split(self.name, "test"), self.data.several_labels
        return Purpose(self.name, self.data.space, test, near, more, self.mark_radius, several)

    def _neighbours(self) -> tuple[Source | None, Source | None]:
        """Inputs of the same form: of the neighbour; else those that came with the data, or made ones."""
        if self.neighbour is None:
            made = self._made()
            # What came with the data has no labels, which whoever trains with other inputs needs.
            return (Split(self.name, OTHERS), made[1]) if OTHERS in self.data.splits else made
        space, other = self.data.space, find_dataset(self.neighbour)
        if not same_form(other.space, space):
            got = f"{other.name}: {other.space}"
            raise UserError("the neighbour's inputs have another form", where=self.name, got=got, allowed=str(space))
        return Split(other.name, "test"), Split(other.name, other.splits[0])  # its training images, if it has some

    def _made(self) -> tuple[Source, Source]:
        """Inputs that are no examples of the task, made where nobody brings any; and as many again."""
        space, test = self.data.space, Split(self.name, "test")
        if isinstance(space, Images):
            return made_patches(space)
        return made_up(space, test), made_up(space, test, start=True)
