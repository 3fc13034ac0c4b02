"""Architectures for inputs that are no images: rows of a table, texts as tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from guardclash.data.space import Tokens
from guardclash.plan.models import Norm, norm_layer


@dataclass(frozen=True)
class MLP:
    """Linear layers, each but the last followed by normalisation and ReLU."""

    shape: tuple[int, ...]
    """The number of columns."""
    classes: int
    widths: tuple[int, ...] = (128, 64)
    norm: Norm = "batch"

    @property
    def std(self) -> tuple[float, ...]:
        """Rows come as the model should see them."""
        return (1.0,)

    def build(self) -> nn.Module:
        """A fresh network, initialised from torch's global generator."""
        layers: list[nn.Module] = []
        (before,) = self.shape
        for width in self.widths:
            layers += [nn.Linear(before, width), norm_layer(self.norm, width, flat=True), nn.ReLU()]
            before = width
        return nn.Sequential(*layers, nn.Linear(before, self.classes))


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Averages [B, length, width] over the places."""
        return x.mean(1)


@dataclass(frozen=True)
class MeanEmbedding:
    """Texts as the mean of their tokens' embeddings, then two linear layers (Joulin et al. 2017, one layer deeper)."""

    space: Tokens
    classes: int
    width: int = 64

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of places."""
        return self.space.shape

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.space.vocabulary

    @property
    def std(self) -> tuple[float, ...]:
        """Tokens have no scale."""
        return (1.0,)

    def build(self) -> nn.Module:
        """A fresh network, initialised from torch's global generator."""
        embedding = nn.Embedding(self.space.vocabulary, self.width)
        head = nn.Sequential(nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, self.classes))
        return nn.Sequential(embedding, _Mean(), *head)
