"""What in an input speaks for its label, by gradients: saliency maps.

A map says of every place of an input, a pixel of an image or a column of a row, how much it speaks for the label:
above 0 for it, below 0 against it. A pixel's entry is the sum over its channels. What is missing is 0: black, or the
mean of a standardised column. The network is read in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import one_of, within
from guardclash.errors import UserError
from guardclash.numerics.attacks import attacked
from guardclash.numerics.layout import at_a_time, fast

METHODS = {"ig": "integrated gradients", "gradient": "plain gradient", "gradcam": "Grad-CAM"}
"""Ways to explain, and what they are called."""
BATCH = 500
"""Points at which gradients are taken at once."""


@dataclass(frozen=True)
class Saliency:
    """A way to explain a network: inputs [N, ...] and labels [N] to maps [N, H, W] or [N, columns]."""

    method: str = "ig"
    steps: int = 32
    """Of integrated gradients."""

    def __post_init__(self) -> None:
        one_of("", METHODS, method=self.method)
        within("", ">= 1", steps=self.steps)

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The maps of inputs, on the CPU.

        Args:
            network: The network.
            x: Floats [N, ...]: images [N, C, H, W], rows [N, columns].
            y: Which logit of each is explained, int64 [N].

        Raises:
            UserError: If a network without a convolution is to be explained by Grad-CAM.
        """
        with attacked(network), torch.enable_grad():
            if self.method == "gradcam":
                return grad_cam(network, x, y)
            if self.method == "gradient":
                return by_place(gradient(network, x, y))
            return by_place(integrated_gradients(network, x, y, self.steps))


def by_place(attributions: Tensor) -> Tensor:
    """The sum over channels of images [N, C, H, W]; anything else as it is."""
    return attributions.sum(1) if attributions.dim() == 4 else attributions


def gradient(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of a logit of each input: of x's shape (Simonyan et al. 2014)."""
    device = next(network.parameters()).device
    found = []
    for some, labels in zip(*split(x, y), strict=True):
        point = fast(some.to(device)).requires_grad_()
        (slope,) = torch.autograd.grad(logits_of(network, point, labels).sum(), point)
        found.append(slope.cpu())
    return torch.cat(found)


def integrated_gradients(network: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017, equation 1) from 0 to each input, by the midpoint rule.

    Args:
        network: The network.
        x: [N, ...], floats.
        y: Which logit of each is explained, int64 [N].
        steps: Points on the way, >= 1.

    Returns:
        x times the mean gradient on the way, of x's shape. Its sum is about F(x) - F(0).
    """
    shares = (torch.arange(steps, dtype=x.dtype) + 0.5) / steps
    at_once = max(1, at_a_time(x, BATCH) // steps)
    found = []
    for some, labels in zip(x.split(at_once), y.split(at_once), strict=True):
        way = (shares.view(-1, *(1,) * x.dim()) * some).flatten(0, 1)  # [steps x n, ...]
        slopes = gradient(network, way, labels.repeat(steps)).view(steps, *some.shape)
        found.append(some * slopes.mean(0))
    return torch.cat(found)


def last_convolution(network: nn.Module) -> nn.Conv2d:
    """The last convolution of a network, in the order in which its layers are declared.

    Raises:
        UserError: If it has none.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not layers:
        what, mend = "Grad-CAM looks at a convolution, and the network has none", "Choose another method."
        raise UserError(what, got=type(network).__name__, allowed="a network with torch.nn.Conv2d", mend=mend)
    return layers[-1]


def grad_cam(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) on the last convolution: [N, H, W], at least 0.

    Its channels, each times the mean of its gradient, are summed up, what is below 0 is cut off, and the rest is
    enlarged to the size of the images, bilinearly.
    """
    device, layer = next(network.parameters()).device, last_convolution(network)
    found = []
    for some, labels in zip(*split(x, y), strict=True):
        seen: list[Tensor] = []

        def look(module: nn.Module, inputs: object, output: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(output.detach().requires_grad_())
            return seen[-1].clone()  # the next layer may work in place

        handle = layer.register_forward_hook(look)
        try:
            logits = logits_of(network, fast(some.to(device)), labels)
        finally:
            handle.remove()
        (slope,) = torch.autograd.grad(logits.sum(), seen[-1])
        small = functional.relu((slope.mean((2, 3), keepdim=True) * seen[-1].detach()).sum(1, keepdim=True))
        found.append(functional.interpolate(small, some.shape[2:], mode="bilinear")[:, 0].cpu())
    return torch.cat(found)


def logits_of(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The logit of each input's label: [N], where the inputs lie."""
    return network(x).gather(1, y.to(x.device).view(-1, 1))[:, 0]


def split(x: Tensor, y: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Inputs and labels in batches."""
    at_once = at_a_time(x, BATCH)
    return x.split(at_once), y.split(at_once)
