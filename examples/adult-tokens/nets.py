"""A small transformer that tells the class of a text."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Transformer(nn.Module):
    """Embeddings of tokens and places, one encoder layer, the mean over the places, a linear layer."""

    def __init__(self, vocabulary: int, length: int, classes: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(1, length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, length] to logits [B, classes]."""
        return self.head(self.encoder(self.embedding(x) + self.places).mean(1))


def build(vocabulary: int, length: int, classes: int, width: int = 32) -> nn.Module:
    """A fresh network."""
    return Transformer(vocabulary, length, classes, width)
