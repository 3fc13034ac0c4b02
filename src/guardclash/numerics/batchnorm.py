"""Running statistics, of batch norm and of any layer that keeps some: leaving them alone, and estimating them anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from guardclash.numerics.clipping_checks import has_spectral_norm


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def frozen_statistics(network: nn.Module, frozen: bool = True) -> Iterator[None]:
    """Batches normalise by their own statistics as in training, but leave the running statistics as they are.

    Of batch norm by not moving them; whatever else a layer keeps in its buffers is put back afterwards, but for the
    vectors of spectral norms, which follow from weights.
    """
    layers = _batch_norms(network) if frozen else []
    layers = [layer for layer in layers if layer.track_running_stats]
    before = _other_buffers(network) if frozen else []
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
        for kept in before:
            kept.put_back()


class _Kept(NamedTuple):
    """A buffer as it was."""

    module: nn.Module
    name: str
    buffer: Tensor
    version: int
    value: Tensor

    @torch.no_grad()
    def put_back(self) -> None:
        """Undoes changes in place and another tensor in its place."""
        if self.buffer._version != self.version:
            self.buffer.copy_(self.value)
        self.module._buffers[self.name] = self.buffer


def _other_buffers(network: nn.Module) -> list[_Kept]:
    return [
        _Kept(module, name, buffer, buffer._version, buffer.clone())
        for module in network.modules()
        if not isinstance(module, _BatchNorm) and not has_spectral_norm(module)
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets running statistics to the average over batches of images, with the weights as they are and without dropout.

    The cure for statistics that were last moved by out-of-distribution batches.
    """
    layers = _batch_norms(network)
    if not layers:
        return
    before = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # None: a cumulative average
        layer.train()
    for batch in batches:
        network(batch)
    network.eval()
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum
