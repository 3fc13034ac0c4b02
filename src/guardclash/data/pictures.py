"""Pictures of a mechanism's evidence, as PNG files."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """An image for people, with the words that belong under it."""

    name: str
    """Part of a file name: lower case, no spaces."""
    caption: str
    png: bytes


def grid(images: NDArray[np.float32], enlarge: int = 3, gap: int = 2) -> bytes:
    """Images side by side in rows, on white, as PNG.

    Args:
        images: [rows, columns, C, H, W] in [0, 1]; C is 1 or 3.
        enlarge: Screen pixels per pixel.
        gap: White pixels around each image, before enlarging.

    Returns:
        The bytes of a PNG file, equal for equal images.
    """
    rows, columns, channels, height, width = images.shape
    framed = np.ones((rows, columns, channels, height + gap, width + gap), np.float32)
    framed[..., gap:, gap:] = images
    sheet = framed.transpose(0, 3, 1, 4, 2).reshape(rows * (height + gap), columns * (width + gap), channels)
    sheet = np.pad(sheet, ((0, gap), (0, gap), (0, 0)), constant_values=1)
    pixels = (sheet.clip(0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    image = image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
