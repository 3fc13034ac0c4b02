"""A model from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.foreign import SAVED, Foreign, weights_file
from guardclash.plan.plan import Model, Plan, Rewrite
from guardclash.suspect import Suspect, on


@dataclass(frozen=True)
class ForeignModel(Suspect):
    """A foreign model: the weights in a file that somebody has, for the recipe's network or the victim's.

    Nothing is trained. Each seed of the study is another owner, with secrets of its own: a file that one of them lost
    is claimed by that one alone.
    """

    kind: ClassVar[str] = "foreign"

    file: Path = Path("suspect.safetensors")
    """Relative to the study file."""
    sha256: str = ""
    """What the file must hold; "": whatever it holds now, which then belongs to every key."""
    stolen: bool | None = None
    """Whether it is stolen, where that is known; None: that is the question."""

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """An untrained network with these weights.

        Raises:
            UserError: The file cannot be read, is another one than it should be, or fits neither network.
        """
        found = weights_file(self.file)
        if self.sha256 and self.sha256.lower() != found.sha256:
            got = f"SHA-256 {found.sha256}"
            raise UserError("the file is another one", where=self.file, got=got, allowed=self.sha256)
        reasons = []
        for known in (unprotected, victim.origin):
            rewrites = tuple(_rewrites(known))
            reasons.append(found.misfit(_network(known.model, rewrites)))
            if not reasons[-1]:
                put = Foreign(found.sha256, self.file)
                outside = on(unprotected, unprotected.task.source, "outside")
                return replace(outside, model=known.model, initial=None, epochs=0, rewrites=(*rewrites, put))
        raise UserError(
            f"the weights fit neither the recipe's network nor the victim's: {reasons[0]}", where=self.file, mend=SAVED
        )


def _network(model: Model, rewrites: tuple[Rewrite, ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # its weights are of no account, nor may they use up chance
        network = model.build()
        for rewrite in rewrites:
            network = rewrite(network)
    return network


def _rewrites(plan: Plan) -> Iterator[Rewrite]:
    """All that changes the network of a plan, those of the training that it goes on from first."""
    if plan.initial:
        yield from _rewrites(plan.initial)
    yield from plan.rewrites
