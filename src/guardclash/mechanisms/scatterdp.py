"""Private training on features that are not learnt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.checks import given, one_of, within
from guardclash.data.space import Images, Space
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.plan.plan import Plan, Stream
from guardclash.plan.scatternet import ScatterNet


@dataclass(frozen=True)
class ScatterDP(DPSGD):
    """ScatterDP (Tramer and Boneh 2021): DP-SGD on scattering features, which cost no privacy: nothing is learnt there.

    Its network stands in the place of the recipe's, so that it clashes with what replaces the network as well, and its
    gradient is DP-SGD's. Published noise multipliers for an epsilon of 3 are worth 2.59 by today's conversion; here the
    noise is found for the budget.
    """

    name: ClassVar[str] = "scatterdp"
    title: ClassVar[str] = "ScatterDP"
    paper: ClassVar[str] = "Tramer and Boneh 2021"
    version: ClassVar[int] = 1
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)
    does: ClassVar[str] = "filters images"

    clip: float = 0.1
    learning_rate: float | None = 2.0
    """Largest learning rate on covered streams; None: the recipe's. It goes with the batch size."""
    head: str = "linear"
    """What is trained on the features: "linear" or "cnn"."""
    groups: int = 27
    """Of features that are normalised together: a divisor of 81 times the channels of an image."""
    batch_size: int | None = 1024
    """Expected size of the task's batches; None: the recipe's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, ("linear", "cnn"), head=self.head)
        within(self.name, ">= 1, whole", groups=self.groups, **given(batch_size=self.batch_size))

    def architecture(self, plan: Plan) -> Plan:
        """Replaces the network."""
        old: Any = plan.model
        model = ScatterNet(old.shape, old.classes, old.mean, old.std, self.head, self.groups)
        return self._averaged(replace(plan, model=model))

    def gradient(self, stream: Stream, plan: Plan) -> Stream:
        """As DP-SGD, with larger batches of the task."""
        sized = replace(plan, streams=tuple(self._sized(one, plan) for one in plan.streams))
        return super().gradient(self._sized(stream, plan), sized)

    def _sized(self, stream: Stream, plan: Plan) -> Stream:
        if self.batch_size is None or stream.name != plan.task.name:
            return stream
        sampler: Any = stream.sampler
        return replace(stream, sampler=replace(sampler, batch_size=min(self.batch_size, stream.source.size)))
