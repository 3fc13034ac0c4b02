"""How much of a network was taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from guardclash.judging.criteria import SHARE, Metric
from guardclash.measure import Measure
from guardclash.plan.channels import ChannelMask
from guardclash.plan.plan import Context
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class PrunedChannels(Measure):
    """The share of the channels under a mask that are taken out, such as by fine-pruning.

    A network without a mask has none to count, so nothing is measured there.
    """

    name: ClassVar[str] = "pruned_channels"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "pruned_channels",
            "channels pruned",
            None,
            False,
            title="of the last convolution",
            range=SHARE,
            optional=True,
        ),
    )

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The share, in [0, 1]; of several masks over all their channels."""
        masks = [module.kept for module in trained.network.modules() if isinstance(module, ChannelMask)]
        return {"pruned_channels": (torch.cat(masks) == 0).double().mean().item()} if masks else {}
