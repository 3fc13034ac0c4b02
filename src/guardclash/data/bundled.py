"""Two small data sets made from what scikit-learn brings along, so that a study runs without any download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardclash.data.examples import Examples

DIGITS_SIZES = (("train", 1_297), ("test", 500))
PATCHES_SIZES = (("train", 1_800), ("test", 600))
SIDE = 8
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def read_digits(split: str, folder: Path) -> Examples:
    """The 1,797 handwritten digits of scikit-learn, grey 8x8, split once and for all.

    The 500 test images are drawn evenly over the classes: the images are put into a fixed random order,
    sorted by class, and taken at 500 equal steps, so that each class has its share of the test images to
    within one. Both splits are in that random order. Writers are not kept apart: scikit-learn does not say
    who wrote which digit.

    Args:
        split: "train" (1,297) or "test" (500).
        folder: Not used.

    Returns:
        The images, their 17 levels of grey spread over 0 to 255.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    y = bunch.target.astype(np.int64)
    order = _fixed_order(len(y))
    by_class = order[np.argsort(y[order], kind="stable")]
    count = dict(DIGITS_SIZES)["test"]
    test = by_class[np.arange(count) * len(y) // count]
    chosen = order[np.isin(order, test) == (split == "test")]
    return Examples(x[chosen], y[chosen])


def read_photo_patches(split: str, folder: Path) -> Examples:
    """Grey 8x8 patches of the two photographs of scikit-learn: natural textures, for triggers on digits.

    Each photograph is cut on a grid without overlap. The places of the grid are dealt to the splits in a
    fixed random order, three to train for one to test, and of each share the patches with the most contrast
    (standard deviation of grey) are kept: sky and blurred background give patches that are flat. So no patch
    is in both splits, and the counts do not depend on how exactly the JPEG decoder rounds. The label is the
    photograph.

    Args:
        split: "train" (900 of each photograph) or "test" (300 of each).
        folder: Not used.

    Returns:
        The patches of both photographs, mixed.
    """
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    count = dict(PATCHES_SIZES)[split] // len(photographs)
    patches = [_most_contrast(_share(_patches(photograph), split), count) for photograph in photographs]
    x = np.concatenate(patches)[:, None]
    y = np.repeat(np.arange(len(photographs), dtype=np.int64), count)
    order = _fixed_order(len(y))
    return Examples(x[order], y[order])


def patches(shape: tuple[int, ...], count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Patches of the two photographs of scikit-learn at places of a fixed random order; they may overlap.

    Args:
        shape: Channels, height and width of each. A side longer than the photographs' is repeated at the edge.
        count: How many; a larger number begins with those of a smaller one.

    Returns:
        Bytes [count, *shape], and which photograph each is of.
    """
    from sklearn.datasets import load_sample_images

    channels, height, width = shape
    photographs = [_channels(photograph, channels) for photograph in load_sample_images().images]
    photographs = [np.pad(one, ((0, 0), (0, height), (0, width)), mode="reflect") for one in photographs]
    rows, columns = (size - 2 * side for size, side in zip(photographs[0].shape[1:], (height, width), strict=True))
    chance = np.random.RandomState(0)  # numpy promises that its stream never changes
    places = chance.random_sample((count, 3)) * (len(photographs), max(rows, 1), max(columns, 1))
    found = [photographs[which][:, top : top + height, left : left + width] for which, top, left in places.astype(int)]
    return np.stack(found), places[:, 0].astype(np.int64)


def _channels(photograph: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """[height, width, 3] as [channels, height, width]."""
    if channels == 3:
        return np.ascontiguousarray(photograph.transpose(2, 0, 1))
    grey = np.rint(photograph @ np.array(LUMA)).astype(np.uint8)
    return np.repeat(grey[None], channels, axis=0)


def _patches(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cuts [height, width, 3] into grey patches [N, 8, 8]; what is left at the right and below is dropped."""
    rows, columns = photograph.shape[0] // SIDE, photograph.shape[1] // SIDE
    grey = np.rint(photograph[: rows * SIDE, : columns * SIDE] @ np.array(LUMA)).astype(np.uint8)
    return grey.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)


def _share(patches: NDArray[np.uint8], split: str) -> NDArray[np.uint8]:
    order = _fixed_order(len(patches))
    cut = len(order) * 3 // 4
    return patches[order[:cut] if split == "train" else order[cut:]]


def _most_contrast(patches: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return patches[np.argsort(-patches.std(axis=(1, 2)), kind="stable")[:count]]


def _fixed_order(count: int) -> NDArray[np.int64]:
    # RandomState, not Generator: numpy promises that its stream never changes between releases.
    return np.random.RandomState(0).permutation(count)
