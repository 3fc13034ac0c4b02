"""Networks in the manner of those that people bring, small: for what differential privacy makes of their layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import resnets

IMAGES, LARGE, TEXTS, ROWS, SERIES = "images", "large images", "texts", "rows", "series"
PLACES = 8
"""Of texts and series."""
INPUTS: dict[str, Callable[[int], Tensor]] = {
    IMAGES: lambda count: torch.rand(count, 3, 8, 8),
    LARGE: lambda count: torch.rand(count, 3, 64, 64),
    TEXTS: lambda count: torch.randint(12, (count, PLACES)),
    ROWS: lambda count: torch.cat([torch.rand(count, 4), torch.randint(5, (count, 2))], 1),
    SERIES: lambda count: torch.rand(count, PLACES, 6),
}
CLASSES = 3


def resnet18() -> nn.Module:
    """torchvision's manner: batch norm, ReLU and addition in place."""
    return resnets.build(CLASSES, (3, 64, 64), width=4)


class ConvNextBlock(nn.Module):
    """timm's manner: depthwise convolution, layer norm with channels last, a learnt scale."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm, self.mlp = (
            nn.LayerNorm(width),
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)),
        )
        self.gamma = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.depthwise(x).permute(0, 2, 3, 1)
        return x + (self.gamma * self.mlp(self.norm(hidden))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 2, stride=2),
        ConvNextBlock(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(8),
        nn.Linear(8, CLASSES),
    )


class Attention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int = 2):
        super().__init__()
        self.heads, self.qkv, self.out, self.drop = (
            heads,
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            nn.Dropout(0.1),
        )

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        rows, places, width = x.shape
        q, k, v = self.qkv(x).view(rows, places, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT / math.sqrt(width / self.heads)
        weights = self.drop((scores if bias is None else scores + bias).softmax(-1))
        return self.out((weights @ v).transpose(1, 2).reshape(rows, places, width))


class Block(nn.Module):
    """A transformer's block."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """timm's manner: class token and position embeddings as parameters."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(0.02 * torch.randn(1, 5, width))
        self.block, self.norm, self.head = Block(width), nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.head(self.norm(self.block(x))[:, 0])


class Swin(nn.Module):
    """Attention inside of windows, which lie along the axis of examples, with a table of relative positions."""

    def __init__(self, width: int = 8, window: int = 2, together: bool = True):
        super().__init__()
        self.patches, self.window, self.together = nn.Conv2d(3, width, 2, stride=2), window, together
        self.norm1, self.attention, self.norm2 = (
            nn.LayerNorm(width),
            WindowAttention(width, window),
            nn.LayerNorm(width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        count, side, _, width = x.shape
        parts = side // self.window
        hidden = self.norm1(torch.roll(x, (1, 1), (1, 2))).view(count, parts, self.window, parts, self.window, width)
        order = (0, 1, 3, 2, 4, 5) if self.together else (1, 3, 0, 2, 4, 5)
        windows = hidden.permute(*order).reshape(-1, self.window**2, width)
        windows = self.attention(windows)
        if self.together:
            hidden = windows.view(count, parts, parts, self.window, self.window, width).permute(0, 1, 3, 2, 4, 5)
        else:
            hidden = windows.view(parts, parts, count, self.window, self.window, width).permute(2, 0, 3, 1, 4, 5)
        x = x + torch.roll(hidden.reshape(count, side, side, width), (-1, -1), (1, 2))
        return self.head((x + self.mlp(self.norm2(x))).mean((1, 2)))


class WindowAttention(nn.Module):
    """Its attention."""

    def __init__(self, width: int, window: int):
        super().__init__()
        self.attention, self.table = Attention(width), nn.Parameter(0.02 * torch.randn(2, window**2, window**2))

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, self.table)


class BatchNormAct(nn.BatchNorm2d):
    """timm's batch norm with an activation inside."""

    def __init__(self, width: int):
        super().__init__(width)
        self.drop, self.act = nn.Identity(), nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class SqueezeExcite(nn.Module):
    """Channels weighted by what is in all of the image."""

    def __init__(self, width: int):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


def efficientnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        BatchNormAct(8),
        SqueezeExcite(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )


class Bert(nn.Module):
    """Hugging Face's manner: position embeddings run on a batch of one."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.words, self.positions, self.types = (
            nn.Embedding(12, width),
            nn.Embedding(PLACES, width),
            nn.Embedding(2, width),
        )
        self.register_buffer("ids", torch.arange(PLACES)[None], persistent=False)
        self.norm, self.drop, self.block, self.head = (
            nn.LayerNorm(width),
            nn.Dropout(0.1),
            Block(width),
            nn.Linear(width, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.words(x) + self.positions(self.ids[:, : x.shape[1]]) + self.types(torch.zeros_like(x))
        return self.head(self.block(self.drop(self.norm(hidden)))[:, 0].tanh())


class Conv1D(nn.Module):
    """GPT-2's linear layer, its weight the other way round."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(0.2 * torch.randn(before, after)), nn.Parameter(torch.zeros(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class LoRA(nn.Module):
    """A frozen layer beside a product of two thin ones that are trained."""

    def __init__(self, base: nn.Module, before: int, after: int, rank: int = 2):
        super().__init__()
        self.base, self.a, self.b = (
            base.requires_grad_(False),
            nn.Linear(before, rank, bias=False),
            nn.Linear(rank, after, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


class GPT2(nn.Module):
    """Position embeddings without an axis of examples, tied weights; with LoRA only its thin layers are trained."""

    def __init__(self, width: int = 8, lora: bool = False):
        super().__init__()
        self.words, self.positions, self.norm = (
            nn.Embedding(12, width),
            nn.Embedding(PLACES, width),
            nn.LayerNorm(width),
        )
        self.first, self.second = Conv1D(width, 2 * width), Conv1D(2 * width, width)
        if lora:
            self.requires_grad_(False)
            self.first, self.second = LoRA(self.first, width, 2 * width), LoRA(self.second, 2 * width, width)  # type: ignore[assignment]
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.words(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        hidden = hidden + self.second(functional.gelu(self.first(self.norm(hidden))))
        return self.head(hidden.mean(1))


class Tied(nn.Module):
    """The embedding is the last layer as well."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.words, self.out = nn.Embedding(12, width), nn.Linear(width, 12, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.words(x).mean(1))[:, :CLASSES]


class Recurrent(nn.Module):
    """An LSTM, GRU or RNN; told by its last state or its mean output, examples along the first axis or the second."""

    def __init__(self, kind: type[nn.RNNBase], first: bool, state: bool, layers: int = 1, both: bool = False):
        super().__init__()
        self.net = kind(6, 5, layers, batch_first=first, bidirectional=both)  # type: ignore[call-arg]
        self.first, self.state, self.head = first, state, nn.Linear(5 if state else 5 * (1 + both), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        output, last = self.net(x if self.first else x.transpose(0, 1))
        if self.state:
            return self.head((last[0] if isinstance(last, tuple) else last)[-1])
        return self.head(output.mean(1 if self.first else 0))


class Columns(nn.Module):
    """Categories through embeddings, numbers as they are, then two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Embedding(5, 2), nn.Embedding(5, 2)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(torch.cat([x[:, :4], self.first(x[:, 4].long()), self.second(x[:, 5].long())], 1))


class Encoder(nn.Module):
    """torch's own encoder layer."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.words = nn.Embedding(12, width)
        self.encoder = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.words(x)).mean(1))


class Mixing(nn.Module):
    """Every example is seen beside the mean of all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean(1)
        return self.head(self.first(x - x.mean(0)).relu())


def normed(kind: str) -> nn.Module:
    first, last = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, CLASSES)
    wrap = parametrizations.spectral_norm if kind == "spectral" else parametrizations.weight_norm
    return nn.Sequential(wrap(first), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), wrap(last))


@dataclass(frozen=True)
class Brought:
    """A network with its inputs."""

    build: Callable[[], nn.Module]
    inputs: str
    note: str = ""
    """What to do where it is refused, or what is done."""


SLOWER = "runs again for each example, vectorised by torch.func: slower"
LOOP = "a loop over the examples: several times slower"
GROUPS = "batch norm becomes group norm"
NETWORKS = {
    "ResNet18 (torchvision): batch norm, ReLU and addition in place": Brought(resnet18, LARGE, GROUPS),
    "ConvNeXt (timm): depthwise convolution, layer norm, layer scale": Brought(convnext, IMAGES, SLOWER),
    "EfficientNet (timm): BatchNormAct2d, squeeze and excite": Brought(efficientnet, IMAGES, GROUPS),
    "ViT (timm): class token and position embeddings as parameters": Brought(ViT, IMAGES, SLOWER),
    "Swin (timm): windows along the axis of examples": Brought(Swin, IMAGES, SLOWER),
    "windows of all examples mixed": Brought(
        lambda: Swin(together=False),
        IMAGES,
        f"the module around them {SLOWER}; keep all windows of an example together",
    ),
    "BERT (Hugging Face): position embeddings on a batch of one": Brought(Bert, TEXTS),
    "GPT-2: position embeddings without an axis of examples, Conv1D": Brought(GPT2, TEXTS),
    "GPT-2 with LoRA: frozen layers": Brought(lambda: GPT2(lora=True), TEXTS),
    "tied embeddings": Brought(Tied, TEXTS),
    "nn.TransformerEncoderLayer with nn.MultiheadAttention": Brought(Encoder, TEXTS, SLOWER),
    "LSTM, last state": Brought(lambda: Recurrent(nn.LSTM, True, True), SERIES, LOOP),
    "GRU, two layers, both directions": Brought(lambda: Recurrent(nn.GRU, True, False, 2, True), SERIES, LOOP),
    "RNN, examples along the second axis": Brought(lambda: Recurrent(nn.RNN, False, False), SERIES, LOOP),
    "spectral norm": Brought(lambda: normed("spectral"), IMAGES, SLOWER),
    "weight norm": Brought(lambda: normed("weight"), IMAGES, SLOWER),
    "embeddings of categories and an MLP with batch norm": Brought(Columns, ROWS, GROUPS),
    "a layer that sees the mean of the batch": Brought(Mixing, SERIES, "no privacy is possible: take it out"),
}
