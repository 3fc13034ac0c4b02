"""The sum of clipped per-example gradients: the inner step of DP-SGD (Abadi et al. 2016, algorithm 1).

Book-keeping (Bu et al. 2023, "Differentially private optimization on large model at small cost"): one forward pass, in
which the input of each layer is kept, and one backward pass for the gradients of activations only. As the gradient of
a layer's output arrives, the per-example gradients of its parameters are formed from it and the kept input, or, for
a matrix, just kept as two factors that give its norm and its clipped sum. Autograd forms no parameter gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from guardclash.checks import within
from guardclash.errors import UserError
from guardclash.numerics.clipping_recording import Recording


class Clipped(NamedTuple):
    """A clipped sum of gradients.

    Fields:
        total: Parameter name -> sum over the examples of min(1, clip / norm) times the example's gradient, shaped as
            the parameter. One entry for each trainable parameter.
        norms: [B], each example's gradient norm over all trainable parameters, before clipping.
    """

    total: dict[str, Tensor]
    norms: Tensor


def clipped_sum(network: nn.Module, losses: Callable[[], Tensor], clip: float) -> Clipped:
    """Clips each example's gradient to a norm of at most `clip` and sums over the examples.

    Exact up to rounding for every network whose layers treat the examples independently. Linear, convolution, group
    and layer norm layers have rules of their own; any other module with parameters runs once more, vectorised over
    the examples by `torch.func`. Layers may be used several times and may share parameters. The sums of the parts of
    a batch add up to that of the batch. Neither `.grad` nor the network is changed.

    Args:
        network: The network. Frozen parameters do not count.
        losses: Runs `network`, once or several times, and returns one loss per example, [B]; B may be 0. In each run
            the inputs and outputs of all layers must have the B examples, in this order, along their first axis, and
            the loss of an example must depend on this example only.
        clip: Largest norm of an example's gradient, > 0; infinity clips nothing.

    Returns:
        The clipped sum and the norms; zeros for a parameter that the losses do not depend on.

    Raises:
        UserError: If a layer mixes the examples, if a parameter is used in a way that cannot be followed, or if
            something was changed in place that is still needed.
    """
    within("", "> 0", clip=clip)
    _refuse_batch_norm(network)
    recording = Recording(network)
    with torch.enable_grad(), recording.hooks():
        values = losses()
        if not isinstance(values, Tensor) or values.dim() != 1 or not values.is_floating_point():
            got = tuple(values.shape) if isinstance(values, Tensor) else values
            raise UserError("the losses are not one number per example", where="losses", got=got, allowed="shape [B]")
        gathered = recording.gather(values)
    with torch.no_grad():
        squares = [parameter.squared_norms().to(values.dtype) for parameter in gathered.values()]
        norms = torch.stack(squares).sum(0).sqrt() if squares else torch.zeros_like(values)
        factors = (clip / norms).clamp(max=1)
        return Clipped({name: parameter.weighted_sum(factors) for name, parameter in gathered.items()}, norms)


def _refuse_batch_norm(network: nn.Module) -> None:
    for name, module in network.named_modules():
        batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if batch_norm and (module.training or module.running_mean is None):
            what = f"the batch norm layer {name!r} mixes the examples of a batch"
            raise UserError(
                f"{what}, which then have no gradients of their own",
                mend="Replace it by a group norm (torch.nn.GroupNorm), or put it in evaluation mode.",
            )
