"""The door through which plans and mechanisms reach chance, data and trained models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guardclash.data import contents
from guardclash.data.catalog import find_dataset
from guardclash.data.loading import load
from guardclash.errors import SiteError, UserError
from guardclash.plan.examples import Data
from guardclash.plan.owned import Owned
from guardclash.plan.plan import OtherSeed, Plan, Source
from guardclash.training.trained import Trained


def _no_models(plan: Plan, seed: int) -> Trained:
    raise LookupError("this context holds no trained models")


def _not_kept(identity: Any, seed: int, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    return make()


@dataclass(frozen=True)
class RunContext:
    """The context of one replicate (see `guardclash.plan.plan.Context`)."""

    seed: int
    data_folder: Path
    models: Callable[[Plan, int], Trained] = _no_models
    """Finds a finished training by plan and seed."""
    keep: Callable[[Any, int, Callable[[], dict[str, Tensor]]], dict[str, Tensor]] = _not_kept
    """Finds what was kept for a value and a seed, or makes and keeps it."""
    party: str = ""
    """Who draws chance; "": the owner."""
    strict: bool = False
    """Whether data must be those that the plan was made for, as where results are kept under its key."""

    def of(self, party: str) -> RunContext:
        """The context of the same replicate in which a party draws chance of its own; "": the owner."""
        return replace(self, party=party)

    def under(self, seed: int) -> RunContext:
        """The context of another replicate, with the same data folder and store."""
        return replace(self, seed=seed)

    def rng(self, *purpose: object) -> torch.Generator:
        """A generator seeded by the SHA-256 of the seed and the purpose.

        So seed 3 of {wm} and seed 3 of {wm, dpsgd} share initial weights, data order and triggers: a paired comparison.
        """
        whose = ("party", self.party) if self.party else ()
        text = "/".join(str(part) for part in (self.seed, *whose, *purpose))
        # Seven bytes of it: a seed must fit a signed 64-bit integer.
        digest = hashlib.sha256(text.encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def examples(self, dataset: str, split: str, content: str = "") -> Data:
        """All examples of a split of a data set; images as float32 in [0, 1].

        Raises:
            SiteError: If they cannot be read, or are others than `content` says and the context is `strict`.
        """
        try:
            return self._examples(dataset, split, content)
        except UserError as error:
            raise SiteError(str(error)) from error  # of data: every training that reads them meets it

    def _examples(self, dataset: str, split: str, content: str) -> Data:
        known = find_dataset(dataset)
        if self.strict and (found := contents.content(known, split, self.data_folder)) != content:
            raise UserError(
                f"{dataset}: the data are not those that this training was planned with",
                where=f"{self.data_folder}, {split} split",
                got=found or "the official data",
                allowed=content or "the official data",
                mend="Leave the data alone while a study runs; on every machine they must be the same. A mechanism "
                "holds what it reads in its fields, or asks the plan what it is judged by, and makes no Split itself.",
            )
        read = load(known, split, self.data_folder)
        x, y = (torch.tensor(values) for values in read)
        about = {name: torch.tensor(values) for name, values in read.about.items()}
        return Data(x.float().div_(255) if x.dtype == torch.uint8 else x, y, about)

    def data(self, source: Source) -> Data:
        """What a source holds under this seed."""
        # Most sources are cheap to load; kept is what was dear to make.
        if not getattr(source, "kept", False):
            return source.load(self)
        return _examples(self.kept(source, lambda: _bytes(source.load(self))))

    def kept(self, identity: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors kept under this seed for a frozen value that says what they are; made and kept if there are none."""
        return self.keep(Owned(identity, self.party) if self.party else identity, self.seed, make)

    def trained(self, plan: Plan | OtherSeed) -> Trained:
        """The finished training of a plan under this seed, or under another."""
        if isinstance(plan, OtherSeed):
            return self.models(plan.plan, plan.seed(self.seed))
        return self.models(plan, self.seed)


ABOUT = "about."
"""Before the names of what is known about kept examples."""


def _bytes(data: Data) -> dict[str, Tensor]:
    about = {ABOUT + name: tensor.contiguous() for name, tensor in data.about.items()}
    return {"x": _smallest(data.x).contiguous(), "y": data.y, **about}


def _smallest(x: Tensor) -> Tensor:
    """Whole pixel values as bytes; whatever else as it is."""
    if not x.is_floating_point():
        return x
    pixels = (x * 255).round()
    whole = bool(((x * 255 - pixels).abs() < 1e-3).all() and (pixels >= 0).all() and (pixels <= 255).all())
    return pixels.byte() if whole else x


def _examples(kept: dict[str, Tensor]) -> Data:
    about = {name.removeprefix(ABOUT): tensor for name, tensor in kept.items() if name.startswith(ABOUT)}
    x = kept["x"]
    return Data(x.float().div_(255) if x.dtype == torch.uint8 else x, kept["y"], about)
