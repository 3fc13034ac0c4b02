"""Entanglement of two groups in the features of a network, and inputs that are moved until they are entangled.

The soft nearest neighbour loss is that of Frosst et al. (2019), its use for watermarks that of Jia et al. (2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import one_of, within
from guardclash.numerics.features import hidden_outputs

DISTANCES = ("cosine", "euclidean")
TEMPERATURES = ("best", "published")
GRID = tuple(10 ** (-3 + place / 8) for place in range(33))
"""Temperatures that are tried, 10^-3 to 10^1, in units of the batch's median distance."""
PUBLISHED = 100.0
"""100 / T of the published code, whose T starts at 1 and moves by less than a tenth."""


def distances(features: Tensor, kind: str = "cosine") -> Tensor:
    """How far examples are from each other.

    Args:
        features: Floats [B, d].
        kind: "cosine": 1 minus the cosine, which of a vector of zeros is 0; or "euclidean": the squared distance.

    Returns:
        [B, B], with gradients.

    Raises:
        UserError: If there is no such kind.
    """
    one_of("", DISTANCES, distance=kind)
    if kind == "cosine":
        length = features.norm(dim=1, keepdim=True)
        unit = features / torch.where(length > 0, length, 1)
        return 1 - unit @ unit.T
    # A common part of all features would cost the digits in which they differ.
    moved = features - features.detach().mean(0)
    squares = moved.square().sum(1)
    return (squares[:, None] + squares - 2 * moved @ moved.T).clamp(min=0)


def soft_nearest(apart: Tensor, groups: Tensor, temperature: Tensor | float) -> Tensor:
    """The soft nearest neighbour loss of each example, in nats: -ln of its own group's share in its neighbours.

    Neighbour j of example i counts with the weight exp(-apart_ij / temperature). The mean over the examples is the
    loss that is published; it is large where groups cannot be told apart.

    Args:
        apart: Distances [..., B, B].
        groups: Of each example, [B].
        temperature: Above 0; a tensor [..., 1, 1] for several at once.

    Returns:
        [..., B]; 0 of an example that is alone in its group.
    """
    itself = torch.eye(len(groups), dtype=torch.bool, device=apart.device)
    other = groups[:, None] != groups
    alone = (other | itself).all(1, keepdim=True)
    if len(groups) < 2:
        return torch.zeros_like(apart[..., 0])
    near = -apart / temperature
    # As logarithms: at low temperatures all weights of a row may vanish. Who is alone is not asked for its group, so
    # that no row is empty: its gradient would be no number.
    every = near.masked_fill(itself, -torch.inf).logsumexp(-1)
    same = near.masked_fill(itself | (other & ~alone), -torch.inf).logsumexp(-1)
    return every - same


@torch.no_grad()
def best_temperature(apart: Tensor, groups: Tensor) -> Tensor:
    """The temperature at which the loss of a batch is least: the inner minimisation of the published objective.

    Args:
        apart: Distances [B, B], B >= 2.
        groups: Of each example, [B].

    Returns:
        That of `GRID`, times the median distance of two examples: a number.
    """
    pairs = ~torch.eye(len(groups), dtype=torch.bool, device=apart.device)
    median = apart[pairs].median()
    unit = torch.where(median > 0, median, torch.ones_like(median))
    tried = unit * torch.tensor(GRID, dtype=apart.dtype, device=apart.device)
    return tried[soft_nearest(apart, groups, tried[:, None, None]).mean(-1).argmin()]


@dataclass(frozen=True)
class Nearness:
    """How entanglement is measured: in which layers, by which distance, at which temperature."""

    distance: str = "cosine"
    temperature: str = "best"
    """"best": of every batch and layer the one that makes the loss least, since at another one it may say nothing
    whatever the features are; "published": 100."""
    layers: int = 3
    """How many of the last layers with weights before the classifier, at most."""

    def of(self, features: Tensor, groups: Tensor) -> Tensor:
        """The soft nearest neighbour loss of each example, [B], by the positive part of features [B, d]."""
        apart = distances(functional.relu(features), self.distance)
        if self.temperature == "published" or len(groups) < 2:
            return soft_nearest(apart, groups, PUBLISHED)
        return soft_nearest(apart, groups, best_temperature(apart, groups))

    def __call__(self, network: nn.Module, x: Tensor, groups: Tensor) -> Tensor:
        """The sum over the layers, [B]; 0 of a network that has none before its classifier."""
        found = [self.of(features, groups) for features in hidden_outputs(network, x, self.layers)]
        return torch.stack(found).sum(0) if found else torch.zeros(len(x), device=x.device)


@dataclass(frozen=True)
class Shaping:
    """How images become triggers: entangled with others, and not yet what a clean network takes for the target."""

    rounds: int = 10
    """0: images stay as they are."""
    step: float = 1 / 100
    """Of each pixel, along the sign of the gradient."""
    threshold: float = 0.1
    """Share of the triggers that a clean network may answer with the target."""
    most: int = 50
    """Steps away from the target in a round, at most."""
    last: int = 5
    """Steps away from the target at the end."""
    whole: bool = True
    """Whether images are bytes, so that triggers are rounded to whole pixel values."""

    def __post_init__(self) -> None:
        within("", ">= 0, whole", rounds=self.rounds, most=self.most, last=self.last)
        within("", "> 0, < 1", step=self.step)

    def __call__(self, network: nn.Module, x: Tensor, partners: Tensor, target: int, nearness: Nearness) -> Tensor:
        """Triggers of images.

        Args:
            network: A clean one, as an attack sees it (`guardclash.numerics.attacks.attacked`).
            x: Images [N, C, H, W] in [0, 1], N >= 2.
            partners: As many images of the target class.
            target: The class that triggers are to be answered with.
            nearness: By which they are entangled.

        Returns:
            [N, C, H, W] in [0, 1].
        """
        groups = torch.arange(len(x) + len(partners), device=x.device) < len(x)

        def entangled(point: Tensor) -> Tensor:
            return nearness(network, torch.cat([point, partners]), groups).mean()

        for _ in range(self.rounds):
            for _ in range(self.most):
                if (network(x).argmax(1) == target).double().mean() <= self.threshold:
                    break
                x = self._down(network, x, target)
            x = (x + self.step * _slope(entangled, x)).clamp(0, 1)
        for _ in range(self.last if self.rounds else 0):
            x = self._down(network, x, target)
        return (x * 255).round() / 255 if self.whole else x

    def _down(self, network: nn.Module, x: Tensor, target: int) -> Tensor:
        return (x - self.step * _slope(lambda point: network(point)[:, target].sum(), x)).clamp(0, 1)


def _slope(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The signs of a number's gradient at inputs; 0 where it does not depend on them."""
    point = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(value(point), point, allow_unused=True, materialize_grads=True)
    return gradient.sign()


def told(answers: Tensor, kinds: Tensor, count: int, classes: int) -> Tensor:
    """Which share of the inputs of each kind is answered with each class.

    Args:
        answers: Classes, int64 [N].
        kinds: Of the inputs, int64 [N], below `count`.
        count: Number of kinds.
        classes: Number of classes.

    Returns:
        float64 [count, classes]; not a number in the row of a kind without inputs.
    """
    found = torch.bincount(kinds * classes + answers, minlength=count * classes).view(count, classes).double()
    return found / found.sum(1, keepdim=True)
