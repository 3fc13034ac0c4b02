"""Public examples with the noisy votes of teachers for labels: what a student of PATE is trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from guardclash.checks import one_of
from guardclash.errors import UserError
from guardclash.numerics.votes import Released, Voting
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.plan import Context, Plan, Source
from guardclash.plan.trainings import made_of


@dataclass(frozen=True)
class Shard:
    """One of several parts of a source's examples that have none in common: every so many-th one."""

    images: Source
    number: int
    """From 0 on."""
    of: int
    """How many parts there are."""

    @property
    def size(self) -> int:
        """Sizes differ by one at most."""
        return len(range(self.number, self.images.size, self.of))

    def load(self, context: Context) -> Data:
        """Its examples: by their places and not by what they are, so that another example changes one part alone."""
        return context.data(self.images).take(slice(self.number, None, self.of))


@dataclass(frozen=True)
class Teachers:
    """Trainings on parts of the same private examples, each of a party of its own: no two draw the same numbers."""

    template: Plan
    """The training of all of them, on all of these examples."""
    count: int

    @property
    def private(self) -> Source:
        """The examples of all of them."""
        return self.template.task.source

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """The trainings of the teachers, in order."""
        return tuple(self._plan(number) for number in range(self.count))

    def _plan(self, number: int) -> Plan:
        task, party = self.template.task, self.template.party
        shard = replace(task, source=Shard(self.private, number, self.count))
        own = f"{party}/teacher-{number}" if party else f"teacher-{number}"
        return replace(self.template, streams=(shard,), party=own)

    def needed(self) -> tuple[Plan, ...]:
        """What must be trained before they can be asked: each of them, and not the template."""
        return self.plans


@dataclass(frozen=True)
class Ballots:
    """What teachers say of inputs, whatever is made of it."""

    inputs: Source
    teachers: Teachers

    def counts(self, context: Context) -> Tensor:
        """Votes for every class, int64 [N, classes]; counted once for a seed and kept."""
        return context.kept(self, lambda: {"votes": self._counted(context)})["votes"]

    def _counted(self, context: Context) -> Tensor:
        x, classes = context.data(self.inputs).x, self.teachers.template.model.classes
        counts = torch.zeros(len(x), classes, dtype=torch.int64)
        for plan in self.teachers.plans:  # each says one class, the first of equally likely ones
            counts += functional.one_hot(context.trained(plan).predict(x).argmax(1), classes)
        return counts


@dataclass(frozen=True)
class VotedLabels:
    """Public inputs in order, as far as they were answered, with the answers in the place of their labels.

    Where fewer are answered than a budget pays for, they come again by turns: a plan must know how many examples it
    has, and what is made of released answers costs nothing.
    """

    inputs: Source
    """Of the same world, and none of the teachers' own."""
    teachers: Teachers
    how: Voting
    # Every answer hangs on all private examples, so no bound on what an example does to the student speaks of these.
    mixes_examples: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """As many as are answered at most."""
        return self.how.answers

    @property
    def private(self) -> Source:
        """The examples that the answers come from."""
        return self.teachers.private

    def counts(self, context: Context) -> Tensor:
        """Votes for every class, int64 [queries, classes]."""
        return Ballots(self.inputs, self.teachers).counts(context)[: self.how.queries]

    def released(self, context: Context) -> Released:
        """What became of the queries; the same whenever it is asked for under a seed.

        Raises:
            UserError: If no query was answered.
        """
        found = self.how(self.counts(context), context.rng("votes"))
        if not len(found.queries):
            what, mend = "no vote reached the threshold, so that there is nothing to learn from", "Lower the threshold."
            got = f"{found.asked} queries"
            raise UserError(what, where="threshold", got=got, mend=mend)
        return found

    def load(self, context: Context) -> Data:
        """The answered inputs; nothing is handed on of their true labels."""
        found = self.released(context)
        turns = torch.arange(self.size) % len(found.queries)
        return replace(context.data(self.inputs).take(found.queries[turns]), y=found.labels[turns])


@dataclass(frozen=True)
class Retold:
    """The same inputs with other labels: what a student would have learnt, had labels cost no privacy, or been right.

    For controls: what is trained on it is not private.
    """

    votes: VotedLabels
    labels: str
    """"true": their own; "plurality": the class with most votes, without noise."""

    def __post_init__(self) -> None:
        one_of("", ("true", "plurality"), labels=self.labels)

    @property
    def size(self) -> int:
        """As many."""
        return self.votes.size

    def load(self, context: Context) -> Data:
        """The answered inputs."""
        queries = self.votes.released(context).queries
        chosen = queries[torch.arange(self.size) % len(queries)]
        told = context.data(self.votes.inputs).take(chosen)
        return told if self.labels == "true" else replace(told, y=self.votes.counts(context)[chosen].argmax(1))


def votes_of(plan: Plan) -> VotedLabels | None:
    """The votes that a training learns from; else those of one that it goes on from."""
    found: Any = next((part for part in made_of(plan.task.source) if isinstance(part, VotedLabels)), None)
    return found or (votes_of(plan.initial) if plan.initial else None)


def true_labels(votes: VotedLabels, context: Context) -> Tensor:
    """The classes of the queries, int64 [queries]: for measuring alone."""
    return class_indices(context.data(votes.inputs).y)[: votes.how.queries]
