"""Who the private examples of a training are, where they are not those that its task is trained on.

A source may hold other examples than those that its owner has to protect: a student of PATE sees public inputs, and
what it learns comes from its teachers' examples. Such a source says which these are, by an attribute `private`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from guardclash.plan.condition import Conditioned
from guardclash.plan.plan import Plan, Source
from guardclash.plan.sources import Split
from guardclash.plan.trainings import made_of


def members_of(plan: Plan) -> Source:
    """The private examples of a model's owner: those of the first training of its party.

    They are what the task is trained on, whatever mechanisms made of them, unless a source says otherwise.
    """
    return private_of(plan.origin.task.source)


def private_of(source: Source) -> Source:
    """The private examples that a source owes what it holds to; usually itself."""
    found = (getattr(part, "private", None) for part in made_of(source))
    return next((private for private in found if private is not None), source)


def own_images(source: Any) -> Any:
    """A source's examples as they are before mechanisms: a data set's, under the recipe's conditions."""
    while not isinstance(source, Conditioned | Split) and hasattr(source, "images"):
        source = source.images
    return source


def same_people(one: Source, other: Any) -> bool:
    """Whether two sources may hold the same examples: overlapping parts of a split, or equal sources of other kinds.

    Args:
        one: A source.
        other: Another one, or whatever else is made of sources.
    """
    theirs = list(splits_in(other))
    if not theirs:
        return bool(one == other)
    return any(
        (mine.dataset, mine.split) == (split.dataset, split.split) and mine.start < split.end and split.start < mine.end
        for mine in splits_in(one)
        for split in theirs
    )


def splits_in(source: Any) -> Iterator[Split]:
    """The parts of data sets that a source reads itself, not through another training."""
    return (part for part in made_of(source) if isinstance(part, Split))


def told_openly(serving: Iterable[Any]) -> bool:
    """Whether one of the mechanisms that act at inference tells of private examples otherwise than by the weights."""
    return any(getattr(one, "reads_members", False) for one in serving)
