"""Pictures of a mechanism's evidence, as PNG files."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
"""With what every PNG file begins."""
FEWER = (256, 128, 64)
"""Colours that a picture is reduced to where it is too large."""


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
        images: [rows, columns, C, H, W] in [0, 1]. Three channels are colours; of others, the mean is shown in grey.
        enlarge: Screen pixels per pixel.
        gap: White pixels around each image, before enlarging.

    Returns:
        The bytes of a PNG file, equal for equal images.
    """
    if images.shape[2] not in (1, 3):
        images = images.mean(2, keepdims=True)
    rows, columns, channels, height, width = images.shape
    framed = np.ones((rows, columns, channels, height + gap, width + gap), np.float32)
    framed[..., gap:, gap:] = images
    sheet = framed.transpose(0, 3, 1, 4, 2).reshape(rows * (height + gap), columns * (width + gap), channels)
    sheet = np.pad(sheet, ((0, gap), (0, gap), (0, 0)), constant_values=1)
    pixels = (sheet.clip(0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    return _bytes(image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST))


@dataclass(frozen=True)
class SmallPicture:
    """A picture for a report, in few bytes."""

    png: bytes
    width: int
    """Screen pixels in which the original was drawn."""
    colours: int | None = None
    """To how many it was reduced; None: it has all of its own."""


def reduced(png: bytes, most: int) -> SmallPicture | None:
    """A picture in few bytes: without its enlargement, which a screen can do, and only if needed in fewer colours.

    Args:
        png: A PNG file.
        most: Bytes that it may have.

    Returns:
        The same picture, of equal bytes for equal ones; None if no way makes it small enough.

    Raises:
        ValueError: It is no PNG file.
    """
    if not png.startswith(PNG):
        raise ValueError("a picture is no PNG file")
    original = Image.open(io.BytesIO(png), formats=["PNG"])
    small = _without_enlargement(original)
    whole = png if small.size == original.size else _bytes(small)
    if len(whole) <= most:
        return SmallPicture(whole, original.width)
    for colours in FEWER:
        content = _bytes(small.convert("RGB").quantize(colours))
        if len(content) <= most:
            return SmallPicture(content, original.width, colours)
    return None


def _without_enlargement(image: Image.Image) -> Image.Image:
    """With one pixel for each square of equal ones, as far as the whole picture is made of such squares."""
    for times in range(8, 1, -1):
        if image.width % times == 0 and image.height % times == 0:
            small = image.resize((image.width // times, image.height // times), Image.Resampling.NEAREST)
            if small.resize(image.size, Image.Resampling.NEAREST).tobytes() == image.tobytes():
                return small
    return image


def _bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
