"""Whose chance a source draws: each party has secrets of its own under one seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from guardclash.plan.examples import Data
from guardclash.plan.plan import Context, Plan, Source


@dataclass(frozen=True)
class Owned:
    """Examples as a party draws them: another one's trigger images are not the owner's, nor its marks."""

    images: Source
    party: str
    """Whose; "": the owner's, also inside of what somebody else draws."""

    @property
    def size(self) -> int:
        """As many."""
        return self.images.size

    def load(self, context: Context) -> Data:
        """The examples under the context's seed."""
        return context.of(self.party).data(self.images)


def owned(plan: Plan, before: Plan) -> Plan:
    """A plan in which what its party put in draws that party's chance, and what was there before is left as it was.

    Args:
        plan: The plan with the party's mechanisms.
        before: The same without them.
    """
    there = {stream.name: stream.source for stream in before.streams}
    streams = (
        stream if there.get(stream.name) == stream.source else replace(stream, source=Owned(stream.source, plan.party))
        for stream in plan.streams
    )
    return replace(plan, streams=tuple(streams))


def set_apart(plan: Plan) -> Plan:
    """A plan whose sources stay the owner's, whatever is built upon them."""
    return replace(plan, streams=tuple(replace(one, source=Owned(one.source, "")) for one in plan.streams))
