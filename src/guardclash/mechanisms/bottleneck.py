"""A variational bottleneck in front of the classifier, against inversion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.mechanisms.inversion import AgainstInversion
from guardclash.numerics.batchnorm import frozen_statistics
from guardclash.numerics.features import classifier, reads_out
from guardclash.plan.examples import Data, Moment
from guardclash.plan.plan import Model, Plan, Rewrite, Stream
from guardclash.plan.structure import skeleton


class Variational(nn.Module):
    """A classifier of a random code: features [B, F] to mean and log variance of a code [B, units], and that to logits.

    In training the code is drawn, from torch's global generator as dropout draws; in evaluation it is the mean.
    """

    def __init__(self, features: int, units: int, classes: int, bias: bool = True):
        super().__init__()
        self.encode = nn.Linear(features, 2 * units)
        # The last linear layer of the network, where features are read.
        self.decode = nn.Linear(units, classes, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, F] to logits [B, classes]."""
        mean, log_variance = self.encode(x).chunk(2, -1)
        if self.training:
            mean = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return self.decode(mean)


@dataclass(frozen=True)
class BottleneckForClassifier:
    """Puts a variational bottleneck in the place of the last linear layer."""

    units: int

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network with it; its own weights are drawn from torch's global generator.

        Raises:
            UserError: If the network has no linear layer.
        """
        last = classifier(network)
        made = Variational(last.in_features, self.units, last.out_features, last.bias is not None)
        made = made.to(last.weight.device).train(network.training)
        if last is network:
            return made
        for module in network.modules():
            for name, child in module._modules.items():
                if child is last:
                    setattr(module, name, made)
        return network


@dataclass(frozen=True)
class Rate:
    """An objective: beta times KL(N(mean, variance) || N(0, 1)) of each example's code, in nats.

    It runs the network by itself. What the layer saw last could be anything (neighbours of an attack, single examples
    in a check), and would have to be kept; the price is a second forward pass. That moves no running statistics, so
    these are those of one pass in a step.
    """

    beta: float

    def __call__(self, network: nn.Module, batch: Data, now: Moment) -> Tensor:
        """One loss per example, [B]; 0 in a network without a bottleneck."""
        with frozen_statistics(network), _codes(network) as codes:
            network(batch.x)
        if not codes:
            return batch.x.new_zeros(len(batch.x))
        mean, log_variance = codes[-1].chunk(2, -1)
        return self.beta * rate(mean, log_variance)


def rate(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, summed over all axes but the first: [B]."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


@contextmanager
def _codes(network: nn.Module) -> Iterator[list[Tensor]]:
    """What the encoder of the last bottleneck gives, call by call, as long as it lasts."""
    found: list[Tensor] = []
    layers = [module for module in network.modules() if isinstance(module, Variational)]
    hooks = [layer.encode.register_forward_hook(lambda _, inputs, output: found.append(output)) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Bottleneck(AgainstInversion):
    """A variational bottleneck (MID, Wang et al. 2021): the classifier sees a code that tells little of the input.

    The last layer is replaced by two: one gives mean and variance of a code, the other reads the classes off a draw of
    it (in evaluation, off the mean). Each example pays for how much its code tells, beta times its divergence from
    noise. Of gradients the published form is PRECODE (Scheliga et al. 2022); that they are harder to invert may be the
    attack's failure: see what it leaves of the cosine distance.
    """

    name: ClassVar[str] = "bottleneck"
    title: ClassVar[str] = "the random bottleneck"
    paper: ClassVar[str] = "Wang et al. 2021"

    units: int = 32
    """Length of the code."""
    beta: float = 0.01
    """Weight of the divergence, in nats."""

    def __post_init__(self) -> None:
        AgainstInversion.__post_init__(self)
        within(self.name, ">= 1", units=self.units)
        within(self.name, ">= 0, finite", beta=self.beta)

    def misfit(self, plan: Plan) -> str:
        """As of all its kind; also that the network has no last layer over the classes."""
        reason = super().misfit(plan)
        if reason or _reads_out(plan.model, plan.all_rewrites):
            return reason
        return "stands in front of the last linear layer, and this network has none over its classes"

    def architecture(self, plan: Plan) -> Plan:
        """Puts it into the network."""
        return replace(plan, rewrites=(*plan.rewrites, BottleneckForClassifier(self.units)))

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Adds what the code costs."""
        return replace(stream, objectives=(*stream.objectives, Rate(self.beta)))


@lru_cache
def _reads_out(model: Model, rewrites: tuple[Rewrite, ...]) -> bool:
    return reads_out(skeleton(model, rewrites), model.classes)
