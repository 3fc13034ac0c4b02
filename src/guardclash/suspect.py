"""The suspect: how somebody comes by a model that resembles the owner's. All that a new one must import.

A suspect is a training like any other. Stolen ones hold the victim's plan, or train on its data; innocent ones share at
most the distribution. Each belongs to a party of its own, so that it does not start from the owner's random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.data.catalog import find_dataset
from guardclash.errors import UserError
from guardclash.plan.condition import in_same_world, origin
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan, Source
from guardclash.plan.sources import Split


@dataclass(frozen=True)
class Suspect:
    """A way to come by a model. Its fields are its options."""

    kind: ClassVar[str]
    """How studies name it: short, lower case, unique."""
    overwrites: ClassVar[bool] = False
    """Whether its party puts marks of its own into the model, of the kinds that the victim bears."""

    @property
    def stolen(self) -> bool | None:
        """Whether the model owes anything to the owner's model or data; None: nobody knows."""
        return True

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The training of the suspect.

        Args:
            victim: The owner's model, with its mechanisms: `victim.origin` is its training, and who queries it meets
                what acts at inference.
            unprotected: The training of the study's recipe, as the suspect's party would do it on its own.

        Raises:
            UserError: If there are no images left for it.
        """
        raise NotImplementedError


def disjoint(source: Source) -> Source:
    """As many further training images as there are, fewer if the data set has no more: of the same world, unattacked.

    Raises:
        UserError: If fewer than half as many are left.
    """
    own, left = split_of(origin(source)), images_left(source)
    # On far fewer images, a competitor's model would be worse, and not just another one.
    if left < own.size / 2:
        whole = find_dataset(own.dataset).size(own.split)
        raise UserError(
            f"too few {own.split} images of {own.dataset} are left for another party",
            where="examples",
            got=own.size,
            allowed=f"at most {2 * whole // 3}",
            mend="Let the recipe use fewer, such as half of them.",
        )
    return in_same_world(replace(own, start=own.end, limit=min(own.size, left)), source)


def images_left(source: Source) -> int:
    """How many images of its data set come after a source's own."""
    own = split_of(origin(source))
    return find_dataset(own.dataset).size(own.split) - own.end


def last_images(source: Source, count: int) -> Source:
    """So many further examples of the task, fewer if there are no more: the last ones of the data set.

    For what the owner has beside the private ones. Thieves and competitors have those that follow these (`disjoint`).

    Raises:
        UserError: If the source is no part of a data set, or nothing is left of that.
    """
    split, left = split_of(origin(source)), images_left(source)
    if not left:
        whole = find_dataset(split.dataset).size(split.split)
        what, mend = f"no {split.split} examples of {split.dataset} are left", "Let the recipe use fewer."
        raise UserError(what, where="examples", got=split.size, allowed=f"fewer than {whole}", mend=mend)
    # A condition may leave a part of them only, such as half of a pool.
    size = min(-(-count * split.size // source.size), left)
    return in_same_world(replace(split, start=split.end + left - size, limit=size), source)


def other_images(unprotected: Plan) -> Any:
    """At most as many inputs of the task's neighbour.

    Raises:
        UserError: If it has none.
    """
    purpose = unprotected.judged_by
    if purpose.neighbour_train is None:
        raise UserError("the task has no neighbour, which other inputs come from", where="neighbour", got=purpose.task)
    return purpose.neighbour_train.first(unprotected.task.source.size)


def on(unprotected: Plan, images: Source, party: str) -> Plan:
    """The recipe's training by another party, on other images."""
    return replace(unprotected, streams=(replace(unprotected.task, source=images),), party=party)


def split_of(source: Source) -> Split:
    """A source as a part of a data set.

    Raises:
        UserError: If it is none.
    """
    if not isinstance(source, Split):
        raise UserError("a suspect's images follow the owner's in a data set", got=type(source).__name__)
    return source


def changed(victim: Deployed, unprotected: Plan, rewrite: Any) -> Plan:
    """The victim's weights after a rewrite, without any training."""
    own = on(unprotected, unprotected.task.source, "thief")
    return replace(own, model=victim.origin.model, initial=victim.origin, epochs=0, rewrites=(rewrite,))
