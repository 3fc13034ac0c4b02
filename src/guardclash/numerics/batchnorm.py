"""Running statistics of batch norm: leaving them alone, and estimating them anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def frozen_statistics(network: nn.Module, frozen: bool = True) -> Iterator[None]:
    """Batches normalise by their own statistics as in training, but leave the running statistics as they are."""
    layers = _batch_norms(network) if frozen else []
    layers = [layer for layer in layers if layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


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
