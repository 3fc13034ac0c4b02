"""The victim behind something that is done to its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import one_of, within
from guardclash.data.space import Images, called
from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan
from guardclash.suspect import Suspect, changed

WAYS = "noise", "blur", "quantisation", "flip"


class Prepared(nn.Module):
    """A change of images [B, C, H, W] in [0, 1] into such images."""

    secret: Tensor
    """Bytes that noise hangs on, uint8 [8]."""

    def __init__(self, how: str, amount: float):
        super().__init__()
        self.how, self.amount = how, amount
        # Among the stored weights: drawn once, by the thief.
        self.register_buffer("secret", torch.randint(256, (8,)).byte())

    def forward(self, x: Tensor) -> Tensor:
        """The images as the network behind it sees them."""
        changes: dict[str, Callable[[Tensor], Tensor]] = {
            "noise": self._noisy,
            "blur": self._blurred,
            "quantisation": self._quantised,
            "flip": lambda images: images.flip(-1),
        }
        return changes[self.how](x)

    def _noisy(self, x: Tensor) -> Tensor:
        """Noise that hangs on the secret and the image, so that asking again tells nothing more."""
        secret = bytes(self.secret.tolist())
        rows = [self._noise(one, secret) for one in x.detach().cpu()]
        return (x + self.amount * torch.stack(rows).to(x.device)).clamp(0, 1) if rows else x

    @staticmethod
    def _noise(image: Tensor, secret: bytes) -> Tensor:
        digest = hashlib.sha256(secret + image.contiguous().numpy().tobytes()).digest()
        rng = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randn(image.shape, generator=rng)

    def _blurred(self, x: Tensor) -> Tensor:
        size = int(self.amount)
        padded = functional.pad(x, [size // 2] * 4, mode="replicate")
        return functional.avg_pool2d(padded, size, stride=1)

    def _quantised(self, x: Tensor) -> Tensor:
        steps = self.amount - 1
        return (x * steps).round() / steps


@dataclass(frozen=True)
class Preprocessed:
    """Puts a change of the inputs in front of a network."""

    how: str
    amount: float

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network behind it."""
        device = next(network.parameters()).device
        return nn.Sequential(Prepared(self.how, self.amount).to(device), network).train(network.training)


@dataclass(frozen=True)
class Preprocessing(Suspect):
    """Preprocessing: the victim's weights, served by a thief who changes every image before the model sees it.

    Against marks that show in answers to certain images (Lukas et al. 2022). Nothing is trained.
    """

    kind: ClassVar[str] = "preprocessing"

    how: str = "quantisation"
    """"noise": Gaussian, of `noise` in pixels of [0, 1]; "blur": the mean over `size` x `size` pixels;
    "quantisation": each pixel to the nearest of `levels` values; "flip": left and right changed."""
    noise: float = 0.05
    size: int = 3
    levels: int = 16

    def __post_init__(self) -> None:
        one_of(self.kind, WAYS, how=self.how)
        within(self.kind, "> 0, finite", noise=self.noise)
        within(self.kind, ">= 3, whole", size=self.size)
        within(self.kind, ">= 2, <= 256, whole", levels=self.levels)
        if self.size % 2 == 0:
            raise UserError("a window has a middle", where=f"{self.kind}.size", got=self.size, allowed="odd numbers")

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The victim's network behind the change.

        Raises:
            UserError: If inputs are no images.
        """
        space = unprotected.judged_by.space
        if not isinstance(space, Images):
            raise UserError("images are changed", where=self.kind, got=called(space), allowed="images")
        amounts = {"noise": self.noise, "blur": self.size, "quantisation": self.levels, "flip": 0}
        return changed(victim, unprotected, Preprocessed(self.how, float(amounts[self.how])))
