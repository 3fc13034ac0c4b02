"""Averages of the weights over a training, which stand for the last ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from guardclash.checks import within


@dataclass(frozen=True)
class Averaging:
    """An exponential moving average of all parameters over the steps of a training.

    At step t, from 0, the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that it soon forgets the
    beginning (De et al. 2022). It is made of the weights alone.
    """

    decay: float
    """In (0, 1): what it keeps at last; 0.99 looks back some hundred steps."""

    def __post_init__(self) -> None:
        within("averaging", "> 0, < 1", decay=self.decay)

    def kept(self, step: int) -> float:
        """The share that is kept at a step, from 0.

        Example:
            >>> [round(Averaging(0.99).kept(step), 6) for step in (0, 10, 100, 1000)]
            [0.1, 0.55, 0.918182, 0.99]
        """
        return min(self.decay, (1 + step) / (10 + step))


class Average:
    """An average under way.

    Args:
        rule: How it is taken.
        network: The network, at the weights that it begins with.
    """

    def __init__(self, rule: Averaging, network: nn.Module):
        self._rule, self._network, self._step = rule, network, 0
        self._values: dict[str, Tensor] = {name: one.detach().clone() for name, one in network.named_parameters()}

    @torch.no_grad()
    def follow(self) -> None:
        """Takes in the weights as they are after a step."""
        share = 1 - self._rule.kept(self._step)
        for name, parameter in self._network.named_parameters():
            self._values[name].lerp_(parameter, share)
        self._step += 1

    @torch.no_grad()
    def settle(self) -> None:
        """Puts the average in the place of the weights."""
        for name, parameter in self._network.named_parameters():
            parameter.copy_(self._values[name])
