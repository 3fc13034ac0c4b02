"""A watermark in the weights of a layer, read by whoever has the weights and the key."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.judging.criteria import SHARE, Ceiling, MaxDrop, Metric
from guardclash.mechanism import Mechanism
from guardclash.numerics.verification import log10_verification_p
from guardclash.numerics.weight_marks import (
    Key,
    bits_right,
    drawn,
    inputs_by_channel,
    matched_channels,
    mean_filter,
    weight_layers,
    weight_of,
)
from guardclash.plan.plan import Context, OtherSeed, Plan, Stream
from guardclash.plan.weight_mark import PURPOSE, WeightMark, place_of
from guardclash.training.trained import Trained

ALIGNED_BY = 1000
"""Test inputs by which channels are matched."""
OTHER_KEYS = 100
UNREADABLE = "the model has no layer of the shape of the owner's, so the mark cannot be read"
UNALIGNED = "channels cannot be matched with the owner's, so the mark is read as the weights lie"
ALL_METRICS = (
    Metric("uchida_bits", "φ_UCHIDA", MaxDrop(0.10), title="bits of the mark that are read right", range=SHARE),
    Metric(
        "uchida_log10_p",
        "log₁₀ p_UCHIDA",
        None,
        False,
        1,
        title="chance of as many bits by guessing",
        log10=True,
        claim=Ceiling(-6),
        controls=("uchida_unmarked", "uchida_other_keys"),
    ),
    Metric("uchida_as_it_lies", "as it lies", None, title="bits read right without matching channels", range=SHARE),
    Metric(
        "uchida_aligned", "aligned", None, title="bits read right after matching channels", range=SHARE, optional=True
    ),
    Metric(
        "uchida_unmarked", "unmarked", None, False, 1, title="the same of an unmarked model", log10=True, optional=True
    ),
    Metric("uchida_other_keys", "other keys", None, False, 1, title="the least of 100 other keys", log10=True),
    Metric(
        "uchida_sd", "sd ratio", None, False, title="spread of the layer's weights to an unmarked one", optional=True
    ),
)


class Reading(NamedTuple):
    """How many bits of a key were read right."""

    as_it_lies: int
    aligned: int | None
    """After channels were matched; None: they were not."""
    bits: int

    @property
    def best(self) -> int:
        """Of both."""
        return max(self.as_it_lies, self.aligned or 0)

    @property
    def log10_p(self) -> float:
        """The chance of as many by guessing, times the number of looks."""
        looks = 1 if self.aligned is None else 2
        return min(0.0, log10_verification_p(self.bits - self.best, self.bits, 2) + math.log10(looks))


@dataclass(frozen=True)
class Uchida(Mechanism):
    """Uchida et al. (2017): a message in the mean filter of a layer, put there by a loss of the weights alone.

    The mean over the layer's outputs, times a secret matrix, has the signs of a random message. Whoever has the weights
    and the key reads it, so that it proves nothing of a model that can only be asked, nor of a surrogate, whose weights
    are its own: extraction is missed by design. phi_UCHIDA is the share of bits that are read right. Reordering the
    channels in front of the layer changes no answer and leaves the bits at chance, so with `align` channels are matched
    with the owner's by what they say of test inputs; the better of both readings counts, at twice its p-value.

    What the loss adds to a step hangs on weights and key alone, and is added after clipping and noise: DP-SGD loses
    nothing by it. A mark of the first layer, where the network has no other, has no channels in front of it.
    """

    name: ClassVar[str] = "uchida"
    title: ClassVar[str] = "the weight watermark"
    concern: ClassVar[str] = "model watermarking"
    paper: ClassVar[str] = "Uchida et al. 2017"
    metrics: ClassVar[tuple[Metric, ...]] = ALL_METRICS

    bits: int = 64
    """Of the message; at most as many as the mean filter has weights."""
    strength: float = 0.01
    """Of the loss, λ."""
    layer: str = ""
    """Name of a convolution or linear layer; "": the second convolution, of networks with fewer the second layer, else
    the first; never the last."""
    align: bool = True
    """Whether a suspect's channels are matched with the owner's."""
    unmarked: Any = None
    """The training of the unmarked model; None: the study's unprotected one. From Python only."""

    def __post_init__(self) -> None:
        within(self.name, ">= 1, whole", bits=self.bits)
        within(self.name, "> 0, finite", strength=self.strength)

    def bind(self, unprotected: Plan) -> Uchida:
        """With the training of the unmarked model."""
        return replace(self, unmarked=self.unmarked or unprotected)

    def misfit(self, plan: Plan) -> str:
        """As for every mechanism; also that no layer can be marked, or none with so many bits.

        Raises:
            UserError: If `layer` is none of the network's.
        """
        if reason := super().misfit(plan):
            return reason
        mark = self.mark(plan)
        if mark is None:
            return "marks a layer in front of the last one, and this network has none"
        few = self.bits > mark.weights
        return f"marks {self.bits} bits, and the mean filter of layer {mark.layer} has {mark.weights}" if few else ""

    def mark(self, plan: Plan) -> WeightMark | None:
        """The penalty for the network of a plan; None: it has no layer that could be marked."""
        return WeightMark.of(plan.model, plan.all_rewrites, self.layer, self.bits, self.strength)

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the embedding loss."""
        mark = self.mark(plan)
        return stream if mark is None else replace(stream, penalties=(*stream.penalties, mark))

    def facts(self, plan: Plan) -> dict[str, str]:
        """Where the mark is."""
        mark = self.mark(plan)
        if mark is None:
            return {}
        return {"mark": f"{mark.bits} bits in the mean filter of layer {mark.layer}, of {mark.weights} weights"}

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """An unmarked model."""
        return (OtherSeed(self._unmarked(plan)),)

    def _unmarked(self, plan: Plan) -> Plan:
        if self.unmarked is not None:
            return self.unmarked
        # From Python it may be measured without having been bound.
        first = plan.origin
        left = tuple(one for one in first.task.penalties if not isinstance(one, WeightMark))
        return replace(first, streams=(replace(first.task, penalties=left),), party="")

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The mark as it is read in any model, under this seed's key."""
        return self.verify(trained, trained, context)

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """The same of a suspect, under the victim's key; nothing where it has no such layer."""
        owners = _Owner.of(self, victim, context)
        found = owners.layer_in(suspect.network) if owners else None
        if owners is None or found is None:
            return {}
        reading, weight = owners.reading(suspect), weight_of(found).detach()
        values = {
            "uchida_bits": reading.best / reading.bits,
            "uchida_log10_p": reading.log10_p,
            "uchida_as_it_lies": reading.as_it_lies / reading.bits,
            "uchida_other_keys": owners.other_keys(weight, context.rng(self.name, "other keys")),
        }
        if reading.aligned is not None:
            values["uchida_aligned"] = reading.aligned / reading.bits
        unmarked = context.trained(OtherSeed(self._unmarked(victim.plan)))
        clean = owners.layer_in(unmarked.network)
        if clean is not None:
            values["uchida_unmarked"] = owners.reading(unmarked).log10_p
            values["uchida_sd"] = (weight.std() / weight_of(clean).detach().std()).item()
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That a suspect was not tested, or not with its channels in order; that somebody turned the message round."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if not metrics:
            yield UNREADABLE
            return
        if self.align and "uchida_aligned" not in metrics:
            yield UNALIGNED
        read = (metrics[name] for name in ("uchida_as_it_lies", "uchida_aligned") if name in metrics)
        wrong = round(self.bits * (1 - min(read, default=1.0)))
        if self.metrics[1].claims(log10_verification_p(self.bits - wrong, self.bits, 2)):
            yield f"{wrong} of {self.bits} bits are wrong, more than chance makes: the message was turned round"


@dataclass(frozen=True, eq=False)
class _Owner:
    """Who reads: a victim's layer, its key, and inputs to match channels by."""

    victim: Trained
    place: int
    key: Key
    images: Callable[[], Tensor] | None
    """None: channels are not matched."""

    @staticmethod
    def of(mechanism: Uchida, victim: Trained, context: Context) -> _Owner | None:
        """The owner of a model; None where it has no layer that could be marked."""
        place = place_of(victim.network, mechanism.layer)
        if place is None:
            return None
        weights = mean_filter(weight_of(list(weight_layers(victim.network).values())[place])).numel()
        key = drawn(context.rng(*PURPOSE), mechanism.bits, weights)

        def images() -> Tensor:
            return context.data(victim.plan.judged_by.test).x[:ALIGNED_BY]

        return _Owner(victim, place, key, images if mechanism.align else None)

    def layer_in(self, network: nn.Module) -> nn.Module | None:
        """The layer at the place of the marked one; None if it has another shape, or is none."""
        own, theirs = (list(weight_layers(one).values()) for one in (self.victim.network, network))
        found = theirs[self.place] if self.place < len(theirs) else None
        alike = found is not None and weight_of(found).shape == weight_of(own[self.place]).shape
        return found if alike else None

    def reading(self, suspect: Trained) -> Reading:
        """What is read in a model that has such a layer."""
        layer = self.layer_in(suspect.network)
        mean = mean_filter(weight_of(layer).detach().cpu()) if layer is not None else torch.zeros(())
        order = self._order(suspect, layer) if layer is not None else None
        aligned = None if order is None else bits_right(mean[order], *self.key)
        return Reading(bits_right(mean, *self.key), aligned, len(self.key.message))

    def _order(self, suspect: Trained, layer: nn.Module) -> Tensor | None:
        """Which channel in front of the suspect's layer is which of the victim's."""
        channels = weight_of(layer).shape[1]
        if self.images is None or suspect.plan.model.shape != self.victim.plan.model.shape:
            return None
        # A network has its own channels, and what the first layer sees are the inputs, the same for all.
        if suspect.network is self.victim.network or not self.place:
            return torch.arange(channels)
        own = self.layer_in(self.victim.network)
        if own is None:
            return None
        ours, theirs = inputs_by_channel(self.victim.network, own), inputs_by_channel(suspect.network, layer)
        order = matched_channels(ours, theirs, self.images())
        # Of a convolution in groups, a filter has fewer inputs than there are channels.
        return order if order is not None and len(order) == channels else None

    def other_keys(self, weight: Tensor, rng: torch.Generator) -> float:
        """The smallest log10 of the p-values of keys that nobody put in."""
        mean, bits = mean_filter(weight.cpu()), len(self.key.message)
        right = (bits_right(mean, *drawn(rng, bits, mean.numel())) for _ in range(OTHER_KEYS))
        return log10_verification_p(bits - max(right), bits, 2)
