"""The test images of the German Traffic Sign Recognition Benchmark: PPM files, 15 to 250 pixels a side.

Source: Stallkamp et al., "Man vs. computer", Neural Networks 32 (2012); https://benchmark.ini.rub.de/
"""

from __future__ import annotations

import csv
import io
import os
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardclash.data.examples import Examples
from guardclash.data.files import PLAIN_METHODS, Place
from guardclash.handed import content_of, open_regular, text_of

IMAGES_ARCHIVE = "gtsrb/GTSRB_Final_Test_Images.zip"
LABELS_ARCHIVE = "gtsrb/GTSRB_Final_Test_GT.zip"
LABELS = "GT-final_test.csv"
IMAGES = "GTSRB/Final_Test/Images"

LARGEST = 1 << 20
"""Bytes of the largest member that is unpacked, and pixels of the largest image; a sign of 250x250 pixels has 187,500
bytes, the table 377,382."""


@dataclass(frozen=True)
class GtsrbReader:
    """Reads the test split, from the two official archives or from where torchvision unpacks them.

    Of each image the central square is scaled to `side` (bilinear, antialiased): the shorter side is brought
    to `side` and the centre cropped, in one step.

    Args:
        dataset: Name of the data set, for messages.
        count: Number of images.
        side: Height and width in pixels after scaling.
        classes: Number of classes.
    """

    dataset: str = "gtsrb"
    count: int = 12_630
    side: int = 32
    classes: int = 43

    def __call__(self, split: str, folder: Path) -> Examples:
        """Reads the test split.

        Args:
            split: "test"; there is no other.
            folder: The data folder.

        Raises:
            UserError: A file is missing or unreadable, or does not hold the images and labels that it should.
        """
        place = Place(self.dataset, folder)
        y = self._labels(place)
        return Examples(np.stack(list(self._images(place))), y)

    def _names(self) -> list[str]:
        return [f"{number:05d}.ppm" for number in range(self.count)]

    def _labels(self, place: Place) -> NDArray[np.int64]:
        archive = place.folder / LABELS_ARCHIVE
        path = archive if os.path.exists(archive) else place.folder / "gtsrb" / LABELS
        with place.reading(path):
            rows = list(csv.DictReader(io.StringIO(_table(path)), delimiter=";", restval=""))
            names = [row["Filename"] for row in rows]
            labels = np.array([int(row["ClassId"]) for row in rows], np.int64)
        if names != self._names():
            raise place.error(
                "the table of labels does not list the images in order",
                path,
                got=f"{len(names)} rows" + (f", {names[0]} to {names[-1]}" if names else ""),
                allowed=f"{self.count} rows, 00000.ppm to {self.count - 1:05d}.ppm",
            )
        return place.labels(labels, self.classes, path)

    def _images(self, place: Place) -> Iterator[NDArray[np.uint8]]:
        archive = place.folder / IMAGES_ARCHIVE
        unpacked = place.folder / "gtsrb" / IMAGES
        if os.path.isdir(unpacked) and not os.path.exists(archive):
            for name in self._names():
                with place.reading(unpacked / name):
                    yield scaled(content_of(unpacked / name, LARGEST), self.side)
        else:
            yield from self._archived(archive, place)

    def _archived(self, path: Path, place: Place) -> Iterator[NDArray[np.uint8]]:
        with place.reading(path), open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            found = sum(name.endswith(".ppm") for name in archive.namelist())
            if found != self.count:
                what = "the archive holds another number of images"
                raise place.error(what, path, got=found, allowed=str(self.count))
            for name in self._names():
                yield scaled(_member(archive, f"{IMAGES}/{name}"), self.side)


def scaled(ppm: bytes, side: int) -> NDArray[np.uint8]:
    """Decodes a PPM image, cuts its central square and scales it.

    Args:
        ppm: The file's bytes.
        side: Height and width of the result in pixels.

    Returns:
        uint8 array [3, side, side].

    Raises:
        ValueError: The image claims to be huge.
        OSError: The bytes are not a whole PPM image.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(ppm), formats=["PPM"]) as image:
                if image.width * image.height > LARGEST:  # before room is made for it
                    raise ValueError(f"an image of {image.width}x{image.height} pixels")
                square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BILINEAR)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from error
    return np.asarray(square).transpose(2, 0, 1)


def _table(path: Path) -> str:
    if path.suffix != ".zip":
        return text_of(path, LARGEST)
    with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
        return _member(archive, LABELS).decode("utf-8-sig")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    found = archive.getinfo(name)
    if found.compress_type not in PLAIN_METHODS:
        raise ValueError(f"{name} is packed in an unusual way")
    if found.file_size > LARGEST:
        raise ValueError(f"{name} would unpack to {found.file_size} bytes")
    return archive.read(name)
