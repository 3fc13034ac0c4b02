"""Where a stream's examples come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from guardclash.checks import given, one_of, within
from guardclash.data.catalog import find_dataset
from guardclash.data.dataset import label_of
from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.examples import Data
from guardclash.plan.identity import nested
from guardclash.plan.plan import Context, Source

OTHERS = "ood"
"""The split of inputs that are no examples of the task, and have no labels."""
Answer = Literal["labels", "probabilities"]


@dataclass(frozen=True)
class Split:
    """`limit` examples of a split of a data set (None: all that follow), from `start` on, in the data set's order."""

    dataset: str
    split: str = "train"
    limit: int | None = None
    start: int = 0
    content: str = ""
    """Which examples these are, where they are not those that the data set is known for
    (`guardclash.data.contents`)."""

    def __post_init__(self) -> None:
        where, whole = f"{self.dataset}.{self.split}", find_dataset(self.dataset).size(self.split)
        within(where, f">= 0, < {whole}", start=self.start)
        within(where, f">= 1, <= {whole - self.start}", **given(limit=self.limit))

    @property
    def size(self) -> int:
        """Number of examples."""
        return self.limit or find_dataset(self.dataset).size(self.split) - self.start

    @property
    def title(self) -> str:
        """Of what its examples are, for people."""
        return f"{label_of(self.dataset)}, {self.split}" if self.split == OTHERS else label_of(self.dataset)

    @property
    def classes(self) -> int:
        """How many its labels tell apart."""
        return 1 if self.split == OTHERS else find_dataset(self.dataset).classes

    @property
    def end(self) -> int:
        """Where in the data set its examples end; others may start there."""
        return self.start + self.size

    def first(self, count: int) -> Split:
        """At most so many of them."""
        return replace(self, limit=min(count, self.size))

    def load(self, context: Context) -> Data:
        """The examples; the same for every seed."""
        whole = context.examples(self.dataset, self.split, self.content)
        return whole.take(slice(self.start, self.end)).each(Tensor.clone)  # copies, so that the rest can be freed


@dataclass(frozen=True)
class Drawn:
    """Some examples of another source, drawn anew for every seed, without replacement."""

    images: Source
    size: int
    purpose: str
    """Draws for different purposes are independent of each other."""
    start: int = 0
    """How many others of the same draw come before these."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.start < 0 or self.start + self.size > self.images.size:
            got, allowed = f"{self.start} + {self.size}", f"1 to {self.images.size} in all"
            raise UserError("so many examples cannot be drawn", where=self.purpose, got=got, allowed=allowed)

    def load(self, context: Context) -> Data:
        """The examples of the context's seed, in random order."""
        whole = context.data(self.images)
        order = torch.randperm(len(whole.x), generator=context.rng("drawn", self.purpose))
        return whole.take(order[self.start : self.start + self.size])


@dataclass(frozen=True)
class Answers:
    """Images of another source with the answers of a trained model in the place of their labels."""

    images: Source
    model: Deployed
    """Who is asked, under the context's seed."""
    answer: Answer = "labels"
    """"labels": the most likely class; "probabilities": those of all classes."""
    several_labels: bool = False
    """Whether the model tells several labels: answers are then vectors, of 0 and 1 or of each label's probability."""

    def __post_init__(self) -> None:
        one_of("", get_args(Answer), answers=self.answer)

    @property
    def size(self) -> int:
        """Number of queries."""
        return self.images.size

    def load(self, context: Context) -> Data:
        """Asks the model, which must be trained. All queries are one call: one client's session, in order."""
        asked = context.data(self.images)
        logits = self.model.load(context).predict(asked.x)
        if self.several_labels:
            return replace(asked, y=(logits > 0).float() if self.answer == "labels" else logits.float().sigmoid())
        answers = logits.argmax(1) if self.answer == "labels" else functional.softmax(logits.float(), 1)
        return replace(asked, y=answers)


def asked_of(model: Deployed, maker: Any) -> Source | None:
    """What the maker of a plan asked of a model, all in order; None: nothing that is known.

    Who asks in rounds asks the former queries again, so the most is all.
    """
    sessions = [one.images for one in nested(maker, Answers) if one.model == model]
    return max(sessions, key=lambda images: images.size, default=None)
