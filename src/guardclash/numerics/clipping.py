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
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from guardclash.checks import within
from guardclash.errors import UserError
from guardclash.numerics.clipping_calls import unshared
from guardclash.numerics.clipping_checks import Misread, Verified, buffers_of, close, known_of, moved
from guardclash.numerics.clipping_layout import forget
from guardclash.numerics.clipping_recording import Recording
from guardclash.numerics.inexact import exactly, step_chance

SHORTEST = 1e-18
"""Shorter gradients count as of this length: their squares are lost in float32, and with them what bounds them."""


class Clipped(NamedTuple):
    """A clipped sum of gradients.

    Fields:
        total: Parameter name -> sum over the examples of min(1, clip / norm) times the example's gradient, shaped as
            the parameter. One entry for each trainable parameter.
        norms: [B], each example's gradient norm over all trainable parameters, before clipping.
    """

    total: dict[str, Tensor]
    norms: Tensor


def clipped_sum(
    network: nn.Module,
    losses: Callable[[], Tensor],
    clip: float,
    store: Callable[[Tensor], Tensor] | None = None,
) -> Clipped:
    """Clips each example's gradient to a norm of at most `clip` and sums over the examples.

    Exact up to rounding for every network that treats the examples independently. Linear, convolution, group and layer
    norm layers have rules of their own; any other module with parameters runs once more, vectorised over the examples
    by `torch.func`, or in a loop. Where the rows that a layer sees are not those of one example after another, the
    module around it runs again on single examples; at worst the whole network does, which is slow. What is presumed is
    checked by numbers once for each kind of call, for which `losses` may run several times in the first step. Layers
    may be used several times and may share parameters. The sums of the parts of a batch add up to that of the batch.
    Neither `.grad` nor the network is changed, but for the vectors of spectral norms.

    Args:
        network: The network. Frozen parameters do not count.
        losses: Runs `network`, once or several times, and returns one loss per example, [B]; B may be 0. The network
            gets the examples in the order of the losses, along the first axis, and the loss of an example must depend
            on this example only.
        clip: Largest norm of an example's gradient, > 0; infinity clips nothing.
        store: What the clipped gradients of single examples, [B, *parameter shape], pass through before they are added
            up; None: nothing, and they are not even formed.

    Returns:
        The clipped sum and the norms; zeros for a parameter that the losses do not depend on.

    Raises:
        UserError: If something mixes the examples or keeps what it saw of them, if a parameter is used in a way that
            cannot be followed, or if something was changed in place that is still needed.
    """
    within("", "> 0", clip=clip)
    _refuse_batch_statistics(network)
    known, first = known_of(network), None
    while True:
        try:
            return _clipped(network, losses, clip, known, store)
        except Misread as found:
            first = first or found.error
            if not known.widen(network, found.unit):
                raise first from found
            forget(network)
        except UserError as error:  # what was found first is nearest to the cause
            raise first or error from error


def _clipped(
    network: nn.Module,
    losses: Callable[[], Tensor],
    clip: float,
    known: Verified,
    store: Callable[[Tensor], Tensor] | None = None,
) -> Clipped:
    recording, before = Recording(network, known), buffers_of(network)
    with torch.enable_grad(), recording.hooks():
        values = recording.run(losses)
        if not isinstance(values, Tensor) or values.dim() != 1 or not values.is_floating_point():
            got = tuple(values.shape) if isinstance(values, Tensor) else values
            raise UserError("the losses are not one number per example", where="losses", got=got, allowed="shape [B]")
        _refuse_moved(moved(before, buffers_of(network)))
        gathered = recording.gather(values, check=step_chance() is None)
    if recording.unchecked:
        # Layers that round would be taken for layers that mix examples, so those of a step are checked beside it.
        with exactly():
            _clipped(network, losses, clip, known)
    if recording.given and recording.weighed:
        _check_given(recording, values, losses)
    with torch.no_grad():
        squares = [parameter.squared_norms().to(values.dtype) for parameter in gathered.values()]
        norms = torch.stack(squares).sum(0).sqrt() if squares else torch.zeros_like(values)
        factors = (clip / norms.clamp(min=SHORTEST)).clamp(max=1)
        return Clipped({name: parameter.weighted_sum(factors, store) for name, parameter in gathered.items()}, norms)


def _check_given(recording: Recording, values: Tensor, losses: Callable[[], Tensor]) -> None:
    """Checks that copies of what all examples share changed no loss: what counts its rows would count others."""
    with torch.no_grad():
        if not close([values.detach()], losses()):
            unit = recording.given[0].unit
            raise unshared(unit, "the losses change")


def _refuse_batch_statistics(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            what = f"the batch norm layer {name!r} mixes the examples of a batch, which have no gradients of their own"
        elif isinstance(module, _InstanceNorm) and module.training and module.track_running_stats:
            what = f"the instance norm layer {name!r} keeps statistics of the examples, which nothing bounds"
        else:
            continue
        mend = "Replace it by a group norm (torch.nn.GroupNorm), or put it in evaluation mode."
        raise UserError(what, mend=mend)


def _refuse_moved(names: list[str]) -> None:
    if names:
        raise UserError(
            "the network keeps something of the examples in its buffers, which nothing bounds",
            where="losses",
            got=", ".join(names),
            mend="Put the layer in evaluation mode, or let it change no buffers.",
        )
