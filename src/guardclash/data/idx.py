"""IDX, the file format of MNIST and FashionMNIST.

A file is a magic number (two zero bytes, the type of the values, the number of dimensions), the dimensions as
big-endian 32-bit integers, and the values. Format: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardclash.data.examples import Examples
from guardclash.data.files import Place, open_content

UNSIGNED_BYTE = 0x08

PREFIXES = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class IdxReader:
    """Reads a data set of the MNIST family: per split one IDX file of images and one of labels, gzip or not.

    Args:
        dataset: Name of the data set, for messages.
        directory: Where its files lie, relative to the data folder.
        sizes: Number of images of each split.
        side: Height and width in pixels.
        classes: Number of classes.
    """

    dataset: str
    directory: str
    sizes: tuple[tuple[str, int], ...]
    side: tuple[int, int] = (28, 28)
    classes: int = 10

    def __call__(self, split: str, folder: Path) -> Examples:
        """Reads one split.

        Args:
            split: "train" or "test".
            folder: The data folder.

        Raises:
            UserError: A file is missing, unreadable, or not what the format and the counts demand.
        """
        place = Place(self.dataset, folder)
        count = dict(self.sizes)[split]
        stem = f"{self.directory}/{PREFIXES[split]}"
        images = place.find(f"{stem}-images-idx3-ubyte")
        labels = place.find(f"{stem}-labels-idx1-ubyte")
        x = read_idx(images, (count, *self.side), place)
        y = read_idx(labels, (count,), place)
        return Examples(x[:, None], place.labels(y, self.classes, labels))


def read_idx(path: Path, shape: tuple[int, ...], place: Place) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes whose shape is known beforehand, so that no header is trusted.

    Args:
        path: The file, gzip or not.
        shape: The shape that it must have.
        place: Words the errors.

    Returns:
        uint8 array of that shape, read-only.

    Raises:
        UserError: The file is missing, unreadable, not IDX, of another shape, too short or too long.
    """
    size = math.prod(shape)
    with place.reading(path), open_content(path) as stream:
        header = stream.read(4 * (1 + len(shape)))
        # One byte more than needed: it tells a file that goes on, and makes gzip verify its checksum.
        values = stream.read(size + 1)
    magic = bytes([0, 0, UNSIGNED_BYTE, len(shape)])
    if header[:4] != magic:
        what = f"not an IDX file of unsigned bytes in {len(shape)} dimensions: wrong magic number"
        raise place.error(what, path, got=header[:4].hex(), allowed=magic.hex())
    if len(header) < 4 * (1 + len(shape)):
        raise place.error("the file is cut short in its header", path)
    dimensions = tuple(int(side) for side in np.frombuffer(header, ">u4", offset=4))
    if dimensions != shape:
        raise place.error("the file holds another number or size of items", path, got=dimensions, allowed=str(shape))
    place.demand_length(values, size, path)
    return np.frombuffer(values, np.uint8).reshape(shape)
