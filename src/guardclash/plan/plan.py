"""What one training is, as a value: a plan of streams, and what their sources and networks are.

Every part is a frozen dataclass with a `__call__`, never a closure: that makes a plan printable, hashable, picklable
and the key under which its result is kept. The tensors are not in the plan; a source says how to get them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from guardclash.checks import given, one_of, within
from guardclash.errors import UserError
from guardclash.plan.arithmetic import Arithmetic
from guardclash.plan.averaging import Averaging
from guardclash.plan.examples import Data, refuse_other_forms
from guardclash.plan.gradients import Mean
from guardclash.plan.objectives import CrossEntropy
from guardclash.plan.parts import BatchMap, Gradient, Objective, Optimizer, Sampler, Schedule
from guardclash.plan.penalties import Penalty, SecretPenalty, refuse_no_penalties
from guardclash.plan.purpose import Purpose

Cadence = Literal["after_epoch", "mixed"]
BatchNormPolicy = Literal["update", "freeze", "recalibrate"]
Predict = Callable[[Tensor], Tensor]


class Context(Protocol):
    """The only door from a part of a plan or a mechanism to the outside: chance, data and trained models."""

    @property
    def seed(self) -> int:
        """The replicate's seed."""

    def under(self, seed: int) -> Context:
        """The context of another replicate: its chance, and so its secrets, its data and its trained models."""

    def of(self, party: str) -> Context:
        """The context of the same replicate in which a party draws chance of its own; "": the owner."""

    def rng(self, *purpose: object) -> torch.Generator:
        """A generator of its own for each purpose, from the seed and the purpose's name."""

    def examples(self, dataset: str, split: str, content: str = "") -> Data:
        """All examples of a split of a data set, of which the content is known."""

    def data(self, source: Source) -> Data:
        """What a source holds under this seed."""

    def kept(self, identity: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that were made and kept under this seed for a frozen value that says what they are; else made now."""

    def trained(self, plan: Plan | OtherSeed) -> Any:
        """The finished training (`guardclash.training.trained.Trained`) of a plan; for `OtherSeed` of another seed."""


class Source(Protocol):
    """Where a stream's examples come from.

    A source that is dear to make sets the class variable `kept = True`: what it holds is then kept in the store, for
    every training and measurement of the seed, and as evidence; whole pixel values (k / 255) are kept as bytes. One of
    examples that another source holds hands on what is known about them (`Data.about`).

    What makes or chooses an example by looking at others (a source), or a loss by looking at others of the batch or at
    what is remembered of earlier ones (a map or objective, `Moment.memory`), sets the class variable `mixes_examples =
    True`: no bound on what one example does to the gradient holds for it, so composing it with DP-SGD is a clash. A
    source that only chooses, before the training and without noise, may set `spends_privacy = True`: ε is infinite.
    """

    @property
    def size(self) -> int:
        """Number of examples, known without loading them."""

    def load(self, context: Context) -> Data:
        """The examples under the context's seed."""


class Rewrite(Protocol):
    """A replacement of parts of the network, visible in the plan. With `needs_context = True` it is given one too."""

    def __call__(self, network: nn.Module) -> nn.Module:
        """The rewritten network."""


class Model(Hashable, Protocol):
    """An architecture that can be built."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: (C, H, W) of images."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def std(self) -> tuple[float, ...]:
        """What the first layer divides each channel by: pixels per unit of the normalised space."""

    def build(self) -> nn.Module:
        """A fresh network, initialised from torch's global generator; it takes inputs in [0, 1]."""


@dataclass(frozen=True)
class Stream:
    """One source of batches and how it moves the model. The first stream of a plan is its task."""

    name: str
    """Unique in its plan; mechanisms choose streams by it (`on`)."""
    source: Source
    sampler: Sampler
    maps: tuple[BatchMap, ...] = ()
    """Applied to each batch in this order."""
    objectives: tuple[Objective, ...] = (CrossEntropy(),)
    """Their per-example losses are added up, and the sum multiplied by the example's weight if it has one."""
    penalties: tuple[Penalty | SecretPenalty, ...] = ()
    """Losses of the weights alone. Their gradient is added to what `gradient` gives, whatever the batch."""
    gradient: Gradient = Mean()  # noqa: RUF009  (frozen, so one instance can serve all)
    optimizer: Optimizer | None = None
    """None: the plan's own. Streams of equal ones share a state (momentum); an explicit one never shares the plan's."""
    cadence: Cadence = "after_epoch"
    """When its batches come: after the task's in each epoch, or spread evenly among them."""
    passes: int = 1
    """Passes over the source per epoch."""
    batch_norm: BatchNormPolicy = "update"
    """What its batches do to running statistics: update them, leave them, or have them re-estimated on the task's data
    after the training."""

    def __post_init__(self) -> None:
        one_of(self.name, get_args(Cadence), cadence=self.cadence)
        one_of(self.name, get_args(BatchNormPolicy), batch_norm=self.batch_norm)
        within(self.name, ">= 1", passes=self.passes)
        refuse_other_forms(self.maps, f"{self.name}.maps", "rng, now", "Data")
        refuse_other_forms(self.objectives, f"{self.name}.objectives", "now", "losses [B]")
        refuse_no_penalties(self.penalties, f"{self.name}.penalties")

    def steps_per_epoch(self) -> int:
        """Batches of this stream in one epoch."""
        return self.passes * self.sampler.steps(self.source.size)


@dataclass(frozen=True)
class Plan:
    """What one training is. `fingerprint(plan)` and a seed are the key of its result."""

    model: Model
    streams: tuple[Stream, ...]
    epochs: int
    optimizer: Optimizer
    schedule: Schedule
    rewrites: tuple[Rewrite, ...] = ()
    initial: Plan | None = None
    """The training that this one goes on from, as fine-tuning does; None: from random weights. Its model is this
    plan's, its rewrites come before this plan's."""
    party: str = ""
    """Whose it is; "": the owner's. Under one seed each party draws initial weights and batches of its own, so that a
    thief or an innocent competitor does not start from the owner's random numbers."""
    arithmetic: Arithmetic | None = None
    """In which numbers gradients, weights and the optimizers' states are kept; None: as torch keeps them."""
    averaging: Averaging | None = None
    """The average of the weights that the training ends with; None: it ends with the last ones."""
    purpose: Purpose | None = field(default=None, metadata={"described": False})
    """What the model is for: no part of the training, so of no key of it."""

    def __post_init__(self) -> None:
        if not self.streams:
            raise UserError("a plan needs at least one stream", where="plan.streams")
        if self.initial is not None and self.initial.model != self.model:
            raise UserError("a training goes on with the network that it starts from", where="plan.model")
        least = 0 if self.initial or self.rewrites else 1  # rewrites alone may change weights, or bring others
        within("", f">= {least}", epochs=self.epochs)

    @property
    def task(self) -> Stream:
        """The first stream: the data that the model is for."""
        return self.streams[0]

    @property
    def judged_by(self) -> Purpose:
        """What the model is for.

        Raises:
            UserError: If the plan does not say: it was made by hand.
        """
        if self.purpose is None:
            mend = "Begin with the plan of a recipe, or give it a Purpose."
            raise UserError("nothing says what this model is for, so it cannot be measured", where="plan", mend=mend)
        return self.purpose

    @property
    def question(self) -> tuple[tuple[int, ...], int]:
        """What its model is asked, and among how many classes it answers: models of one question can be compared."""
        return self.model.shape, self.model.classes

    @property
    def several_labels(self) -> bool:
        """Whether the task's examples may have several labels; where nothing says so, each has one class."""
        return self.purpose is not None and self.purpose.several_labels

    @property
    def _before(self) -> Plan | None:
        return self.initial if self.initial and self.initial.party == self.party else None

    @property
    def stage(self) -> int:
        """How many trainings of the same party it goes on from, one after another: each draws chance of its own."""
        return self._before.stage + 1 if self._before else 0

    @property
    def origin(self) -> Plan:
        """The first of them, else itself: who asks for a party's examples asks it, for later ones may have others."""
        return self._before.origin if self._before else self

    @property
    def all_rewrites(self) -> tuple[Rewrite, ...]:
        """Its rewrites after those of the training that it goes on from."""
        return (*(self.initial.all_rewrites if self.initial else ()), *self.rewrites)

    def stream(self, name: str) -> Stream | None:
        """The stream of that name, if there is one."""
        return next((stream for stream in self.streams if stream.name == name), None)

    def add(self, stream: Stream) -> Plan:
        """This plan with one more stream."""
        return replace(self, streams=(*self.streams, stream))

    def steps(self) -> int:
        """Steps of the first stream in the whole training: what the schedule counts."""
        return self.epochs * self.task.steps_per_epoch()


@dataclass(frozen=True)
class OtherSeed:
    """The training of a plan under a seed that is not the replicate's own: an independent model of the same kind.

    It is one of the first seeds, so a study that trains the plan for itself need not train it again.
    """

    plan: Plan
    companion: int | None = None
    """Which one. None: the next of the first five, the paper's number of replicates alone. From 0 on: the k-th seed
    outside of the replicate's pair (0, 1), (2, 3), ..., whose two trainings may see complementary halves of the data;
    so 2, 3, 4, ... for the first pair, and 0, 1, ... for all others."""

    def __post_init__(self) -> None:
        within("", ">= 0", **given(companion=self.companion))

    def seed(self, seed: int) -> int:
        """The other seed, for a replicate's."""
        if self.companion is None:
            return (seed + 1) % 5
        return self.companion + 2 * (self.companion >= seed - seed % 2)
