"""A penalty that writes a message into the mean filter of a layer (Uchida et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.numerics.weight_marks import Key, drawn, mark_loss, mean_filter, usual_place, weight_layers, weight_of
from guardclash.plan.penalties import Chances
from guardclash.plan.plan import Model, Rewrite
from guardclash.plan.structure import skeleton

PURPOSE = "weight mark", "key"
"""Of the chance that keys are drawn from."""


@dataclass(frozen=True, eq=False)
class KeyedMark:
    """The embedding loss under a key."""

    layer: str
    strength: float
    key: Key

    def __call__(self, network: nn.Module) -> Tensor:
        """A scalar."""
        mean = mean_filter(weight_of(network.get_submodule(self.layer)))
        rows, message = (one.to(mean.device, mean.dtype) for one in self.key)
        return self.strength * mark_loss(mean, rows, message)


@dataclass(frozen=True)
class WeightMark:
    """A penalty: the mean filter of a layer says a message, under a key of the seed and the training's party."""

    layer: str
    weights: int
    """Of the mean filter."""
    bits: int
    strength: float

    @staticmethod
    def of(model: Model, rewrites: tuple[Rewrite, ...], layer: str, bits: int, strength: float) -> WeightMark | None:
        """The mark for a rewritten network.

        Args:
            model: The network.
            rewrites: Of it.
            layer: See `place_of`.
            bits: Of the message.
            strength: Of the loss.

        Returns:
            None where the network has no layer that could be marked.

        Raises:
            UserError: See `place_of`.
        """
        found = _found(model, rewrites, layer)
        return found and WeightMark(*found, bits, strength)

    def start(self, rng: Chances) -> KeyedMark:
        """With the key."""
        return KeyedMark(self.layer, self.strength, drawn(rng(*PURPOSE), self.bits, self.weights))


@lru_cache
def _found(model: Model, rewrites: tuple[Rewrite, ...], layer: str) -> tuple[str, int] | None:
    """Name and size of the mean filter."""
    network = skeleton(model, rewrites)
    place = place_of(network, layer)
    if place is None:
        return None
    name, module = list(weight_layers(network).items())[place]
    return name, mean_filter(weight_of(module)).numel()


def place_of(network: nn.Module, layer: str) -> int | None:
    """Which of a network's weight layers is marked, from 0; None: it has none that can be.

    Args:
        network: Any network.
        layer: The name of a convolution or linear layer, or of what a rewrite has put around it; "": the usual place.

    Raises:
        UserError: If the network has no such layer.
    """
    if not layer:
        return usual_place(network)
    names = list(weight_layers(network))
    found = next((place for place, name in enumerate(names) if f"{name}.".startswith(f"{layer}.")), None)
    if found is None:
        what = "no convolution or linear layer of the network"
        raise UserError(what, where="layer", got=layer, allowed=", ".join(names))
    return found
