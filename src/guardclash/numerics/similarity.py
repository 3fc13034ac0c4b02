"""How alike two images are to the eye."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW, WIDTH = 11, 1.5
"""Of the Gaussian window of the structural similarity: pixels, and its standard deviation."""


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of images in [0, 1], one by one.

    The mean over all places of a Gaussian window of 11 pixels that lies within the image; of smaller images, of the
    largest odd one.

    Args:
        x: [N, C, H, W].
        y: Likewise.

    Returns:
        float64 [N], in [-1, 1]; NaN where an image holds a NaN.
    """
    side = min(WINDOW, *x.shape[2:])
    side -= 1 - side % 2
    line = torch.exp(-(torch.arange(side, dtype=torch.float64) - side // 2).square() / (2 * WIDTH**2))
    window = (torch.outer(line, line) / line.sum() ** 2).view(1, 1, side, side)
    a, b = (images.double().flatten(0, 1).unsqueeze(1) for images in (x, y))
    products = functional.conv2d(torch.cat([a, b, a * a, b * b, a * b]), window)
    mean_a, mean_b, square_a, square_b, both = products.chunk(5)
    first, second = 0.01**2, 0.03**2
    alike = (2 * mean_a * mean_b + first) / (mean_a**2 + mean_b**2 + first)
    spread = square_a - mean_a**2 + square_b - mean_b**2
    return (alike * (2 * (both - mean_a * mean_b) + second) / (spread + second)).view(len(x), -1).mean(1)
