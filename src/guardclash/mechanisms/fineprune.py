"""Fine-pruning: a trained network without the channels that clean images do not need, trained on with clean images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.measure import Measure
from guardclash.measures.pruned import PrunedChannels
from guardclash.mechanisms.poisoning import PoisonDefence
from guardclash.plan.channels import ChannelMask, has_channels, masked
from guardclash.plan.condition import origin
from guardclash.plan.examples import class_indices
from guardclash.plan.members import members_of, own_images
from guardclash.plan.plan import Context, Plan, Source, Stream
from guardclash.plan.samplers import Shuffled
from guardclash.plan.sources import Split
from guardclash.suspect import images_left, last_images
from guardclash.training.trained import predictor

LEAST = 20
"""Clean images without which nobody can tell what a channel is needed for."""


@dataclass(frozen=True)
class FewerChannels:
    """Takes out the channels of the last convolution that clean images excite least, as long as accuracy allows."""

    needs_context: ClassVar[bool] = True

    images: Source
    """Clean ones, with labels."""
    may_fall: float
    """How far accuracy on them may fall."""

    def __call__(self, network: nn.Module, context: Context | None = None) -> nn.Module:
        """The network with a mask over these channels; without a context, where no images are, with an open one."""
        network, mask = masked(network)
        if context is not None:
            was = network.training
            self._prune(network.eval(), mask, context)
            network.train(was)
        return network

    @torch.no_grad()
    def _prune(self, network: nn.Module, mask: ChannelMask, context: Context) -> None:
        x, y = context.data(self.images)
        labels, sums = class_indices(y), torch.zeros_like(mask.kept, dtype=torch.float64)

        def add(_: nn.Module, __: Any, output: Tensor) -> None:
            # The positive part: what a ReLU behind it lets through.
            sums.add_(output.double().relu().flatten(2).mean(2).sum(0))

        def right() -> int:
            return int((predictor(network)(x).argmax(1) == labels).sum())

        hook = mask.register_forward_hook(add)
        least = right() - self.may_fall * len(x)
        hook.remove()
        for channel in sums.argsort(stable=True)[:-1]:
            mask.kept[channel] = 0
            if right() < least - 1e-9:
                mask.kept[channel] = 1  # the one that accuracy needs
                return


@dataclass(frozen=True)
class FinePruning(PoisonDefence):
    """Fine-pruning (Liu et al. 2018): channels that clean images do not excite may serve a backdoor, so they go.

    Once all is trained, channels of the last convolution are set to zero, least excited first, until accuracy on clean
    images would fall by more than `may_fall`; then the network is trained on with these images, its channels pruned.
    The clean images are the last of the data set's training images, which no owner and no competitor has, in the same
    world but for its threats. Fine-tuning is plain: cross entropy, without the other mechanisms.
    """

    name: ClassVar[str] = "fineprune"
    title: ClassVar[str] = "fine-pruning"
    paper: ClassVar[str] = "Liu et al. 2018"

    may_fall: float = 0.04
    """How far accuracy on the clean images may fall by pruning."""
    images: int = 1000
    """Clean images; fewer if the data set has no more."""
    epochs: int = 2
    """Of fine-tuning; 0: prune only."""
    learning_rate: float = 0.1
    """The largest of fine-tuning, as a share of the recipe's."""

    def __post_init__(self) -> None:
        within("fineprune", ">= 0, < 1", may_fall=self.may_fall)
        within("fineprune", f"whole, >= {LEAST}", images=self.images)
        within("fineprune", "whole, >= 0", epochs=self.epochs)
        within("fineprune", "> 0, <= 1", learning_rate=self.learning_rate)

    def misfit(self, plan: Plan) -> str:
        """As for every defence; also that there is nothing to prune, or nothing to prune by."""
        if reason := super().misfit(plan):
            return reason
        if not has_channels(plan):
            return "prunes channels of a convolution, and this network has none"
        own = own_images(members_of(plan))
        if not isinstance(origin(own), Split):
            return "needs clean images that follow the task's in a data set, and the task's are no part of one"
        if self._left(own) < LEAST:
            return f"needs clean images that the task does not use, and the data set has fewer than {LEAST} of them"
        return ""

    def _left(self, own: Source) -> int:
        return images_left(own) * own.size // origin(own).size

    def clean(self, plan: Plan) -> Source:
        """The clean images for a training."""
        return last_images(own_images(members_of(plan)), self.images)

    def after(self, plan: Plan) -> Plan:
        """Goes on with a pruned network, on clean images."""
        clean, rule = self.clean(plan), plan.optimizer
        tuning = Stream(plan.task.name, clean, Shuffled(min(plan.task.sampler.batch_size, clean.size)))
        slower: Any = replace(rule, learning_rate=self.learning_rate * rule.learning_rate)  # type: ignore[type-var]
        return replace(
            plan,
            streams=(tuning,),
            rewrites=(FewerChannels(clean, self.may_fall),),
            initial=plan,
            epochs=self.epochs,
            optimizer=slower,
        )

    def measures(self) -> tuple[Measure, ...]:
        """Success of the backdoor, and how much was pruned."""
        return (*super().measures(), PrunedChannels())

    def facts(self, plan: Plan) -> dict[str, str]:
        """How many clean images there are."""
        found = next((rewrite for rewrite in plan.rewrites if isinstance(rewrite, FewerChannels)), None)
        return {"clean images": f"{found.images.size}, which the owner does not train on"} if found else {}
