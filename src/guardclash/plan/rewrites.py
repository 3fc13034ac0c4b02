"""Rewrites of networks: batch norm by group norm, dropout switched off. What is not understood is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.overrides import TorchFunctionMode

from guardclash.errors import UserError
from guardclash.plan.models import group_norm

EXACT = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Of these it is known that they do nothing but normalise; a subclass may do anything in its forward."""
DROPOUTS = {
    getattr(functional, name)
    for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
}


@dataclass(frozen=True)
class GroupNormForBatchNorm:
    """Replaces every batch norm by group norm: batch statistics mix examples, which DP-SGD cannot bound.

    A subclass of batch norm that normalises and then runs its own parts one after the other (an activation, a dropout)
    keeps these parts; whether it does so is tried with numbers, and any other one is refused.
    """

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network without batch norm.

        Raises:
            UserError: If a subclass of batch norm does something else in its forward, or is not built yet.
        """
        return _without_batch_norm(network, "")


def _without_batch_norm(module: nn.Module, place: str) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return _group_norm_for(module, place).train(module.training)
    # Not `named_children`, which leaves out the second place of a module that stands in two.
    for name, child in module._modules.items():
        if child is not None:
            setattr(module, name, _without_batch_norm(child, f"{place}.{name}".lstrip(".")))
    return module


def _group_norm_for(module: _BatchNorm, place: str) -> nn.Module:
    if isinstance(module, LazyModuleMixin):
        mend = "Run the network once before it is given, or say the number of features."
        raise UserError("a batch norm that does not know its features yet", where=place, mend=mend)
    norm = group_norm(module.num_features, 4 if isinstance(module, nn.BatchNorm1d) else 1)
    if type(module) in EXACT:
        return norm
    parts = list(module.children())
    if not _normalises_then(module, parts):
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        mend = "Give the model group norm, or batch norm of torch.nn, itself."
        raise UserError(
            "a kind of batch norm that cannot be replaced", where=place or "the network", got=kind, mend=mend
        )
    return nn.Sequential(norm, *(_without_batch_norm(part, place) for part in parts)) if parts else norm


@torch.no_grad()
def _normalises_then(module: _BatchNorm, parts: list[nn.Module]) -> bool:
    """Whether it is batch norm followed by its parts: tried on a copy with weights and statistics of its own.

    On numbers of its own as well, so that neither the caller's device (there may be none) nor its chance is touched.
    """
    if not (module.track_running_stats and module.affine):
        return False
    chance = torch.Generator().manual_seed(0)
    copy = deepcopy(module).to_empty(device="cpu").eval()
    for tensor in chain(copy.parameters(), copy.buffers()):
        if tensor.is_floating_point():  # positive, as a variance must be
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=chance))
    flat = isinstance(module, nn.BatchNorm1d)
    x = torch.randn((4, module.num_features, *(() if flat else (3, 3))), generator=chance)
    statistics = copy.running_mean, copy.running_var
    y: Tensor = functional.batch_norm(x, *statistics, copy.weight, copy.bias, False, 0.0, copy.eps)
    try:
        for part in copy.children():
            y = part(y)
        return bool(torch.allclose(copy(x.clone()), y, atol=1e-5))
    except (RuntimeError, TypeError, ValueError):  # it takes something else
        return False


@dataclass(frozen=True)
class WithoutDropout:
    """Switches every dropout off, as the paper's DP-SGD code does: its probability becomes 0.

    The layers stay, because code reads their `p` (attention of transformers does).
    """

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network without dropout."""
        for module in network.modules():
            if isinstance(module, _DropoutNd):
                module.p = 0.0
            elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
                module.dropout = 0.0
        return network


class _Dropouts(TorchFunctionMode):
    """Notes calls of dropout that would drop something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func in DROPOUTS:
            p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
            training = args[2] if len(args) > 2 else kwargs.get("training", True)
            if p and training:
                self.found.append(func.__name__)
        return func(*args, **kwargs)


def dropouts_left(network: nn.Module, x: Tensor) -> Iterator[str]:
    """Functions of dropout that a network calls in training mode with a probability of its own.

    Such calls lie in code and not in layers, so that no rewrite finds them.

    Args:
        network: Any network; its mode is left as it was.
        x: Inputs [N, ...] of it.
    """
    before = network.training
    with _Dropouts() as mode, torch.no_grad():
        network.train()(x)
    network.train(before)
    yield from dict.fromkeys(mode.found)
