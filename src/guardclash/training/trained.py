"""A finished training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from guardclash.numerics.layout import at_a_time, fast
from guardclash.plan.deployed import Deployed, Server
from guardclash.plan.examples import class_indices
from guardclash.plan.plan import Plan, Predict


@dataclass(frozen=True)
class Trained:
    """A trained network with the plan that made it and the answers that it serves."""

    plan: Plan
    seed: int
    network: nn.Module
    """In evaluation mode."""
    predict: Predict
    """Images [N, C, H, W] in [0, 1] to logits [N, classes], as deployed (through every mechanism's `serve`)."""
    serving: tuple[Server, ...] = ()
    """The mechanisms through which it answers."""

    @property
    def deployed(self) -> Deployed:
        """What says which model this is, but for its seed."""
        return Deployed(self.plan, self.serving)

    @cached_property
    def weights(self) -> str:
        """SHA-256 of all tensors of the network: with the mechanisms it says which model this is.

        A plan does not: a foreign network may be given the plan of a victim, and must not be taken for it.
        """
        digest = hashlib.sha256(type(self.network).__qualname__.encode())
        # Tensors that are plain attributes, neither parameters nor buffers, are in no state_dict.
        loose = {
            f"{name}.{key}": value
            for name, module in self.network.named_modules()
            for key, value in vars(module).items()
            if isinstance(value, Tensor)
        }
        for name, value in sorted({**self.network.state_dict(), **loose}.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def predictor(network: nn.Module, batch_size: int = 1000) -> Predict:
    """Batched inference without gradients; the answers lie on the CPU."""

    @torch.no_grad()
    def predict(x: Tensor) -> Tensor:
        device = next(network.parameters()).device
        batches = x.split(at_a_time(x, batch_size))
        answers = [network(fast(batch.to(device))).cpu() for batch in batches]
        # No images have no batches, but their answers have a width.
        return torch.cat(answers) if answers else network(x.to(device)).cpu()

    return predict


def accuracy(predict: Predict, x: Tensor, y: Tensor) -> float:
    """Share of images whose most likely class is their label, in [0, 1] (equation 1); of a vector its largest entry."""
    return told_right(predict(x), class_indices(y)).double().mean().item()


def told_right(logits: Tensor, y: Tensor) -> Tensor:
    """What of some answers is right.

    Args:
        logits: [N, classes].
        y: Class indices [N]; or, of a task of several labels, vectors [N, classes] of 0 and 1.

    Returns:
        Whether the most likely class is the label, [N]; or, for each class, whether the sign of its logit tells the
        label, [N, classes].
    """
    return logits.argmax(1) == y if y.dim() == 1 else (logits > 0) == (y > 0.5)
