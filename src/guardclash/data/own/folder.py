"""Folders of images: one sub-folder for each class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardclash.data.own.brought import LARGEST
from guardclash.errors import UserError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif"))
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF")
"""What such files may be inside; others have decoders that start programs."""
Files = list[tuple[str, Path]]
"""Images with the name of their class."""


def image_files(folder: Path) -> dict[str, Files]:
    """The images of a folder by split: of `train/` and `test/`, or all as "train".

    Raises:
        UserError: There is no folder, no class, or a class without images.
    """
    if not folder.is_dir():
        raise UserError("there is no such folder of images", where=folder)
    splits = [split for split in ("train", "test") if (folder / split).is_dir()]
    if not splits:
        return {"train": _classes(folder)}
    if "train" not in splits:
        raise UserError("a folder test/, and none called train/", where=folder)
    found = {split: _classes(folder / split) for split in splits}
    known = {name for name, _ in found["train"]}
    for name, file in found.get("test", ()):
        if name not in known:
            raise UserError("a class without training images", where=file.parent, got=name)
    return found


def _classes(folder: Path) -> Files:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        allowed = "one sub-folder for each class, two or more"
        raise UserError(
            "no classes in a folder of images", where=folder, got=f"{len(classes)} folders", allowed=allowed
        )
    found: Files = []
    for path in classes:
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise UserError("a class without images", where=path, allowed=", ".join(sorted(SUFFIXES)))
        found += [(path.name, file) for file in files]
    return found


def image_arrays(
    folder: Path, size: tuple[int, int] | None
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], tuple[str, ...]]:
    """Decodes a folder of images.

    Args:
        folder: See `image_files`.
        size: Height and width; images are then cut to that form at their centre and scaled. None: as they are, and all
            of one size.

    Returns:
        Arrays by name, bytes [N, C, H, W] with one channel where all images are grey and three otherwise; the names of
        the classes; and sentences on what was done.

    Raises:
        UserError: A file is no image, or of another size than the first.
    """
    files = image_files(folder)
    names = tuple(dict.fromkeys(name for name, _ in files["train"]))
    grey = all(_is_grey(file) for split in files.values() for _, file in split)
    first = size or _size(files["train"][0][1])
    count = sum(map(len, files.values()))
    if count * first[0] * first[1] * (1 if grey else 3) > LARGEST:
        mend = "Take fewer images, or give a smaller `size`."
        raise UserError("so many images are not held in memory", where=folder, got=count, allowed="4 GiB", mend=mend)
    arrays: dict[str, NDArray[Any]] = {}
    for split, found in files.items():
        arrays[f"x_{split}"] = np.stack([_decoded(file, first, size is not None, grey) for _, file in found])
        arrays[f"y_{split}"] = np.array([names.index(name) for name, _ in found], np.int64)
    notes = [f"{count:,} images of {len(names)} classes, {'grey' if grey else 'in colours'}: {_listed(names)}."]
    if size:
        notes.append(f"Each was cut at its centre to the form of {first[0]}x{first[1]} and scaled to it.")
    return arrays, names, tuple(notes)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _open(file: Path) -> Any:
    from PIL import Image

    with _reading(file):
        return Image.open(file, formats=FORMATS)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turns whatever a decoder raises on damaged bytes into a `UserError`; each has kinds of errors of its own."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"an image cannot be read: {error}", where=file, mend="Remove it, or save it anew.") from error


def _is_grey(file: Path) -> bool:
    with _open(file) as image:
        if str(image.mode).startswith(("I", "F")):  # would be cut off at 255, and nearly all of it be white
            mend = "Save it with 8 bits, or hand in arrays of floats."
            raise UserError("an image of more than 8 bits a channel", where=file, got=str(image.mode), mend=mend)
        return str(image.mode) in ("1", "L")


def _size(file: Path) -> tuple[int, int]:
    with _open(file) as image:
        return int(image.height), int(image.width)


def _decoded(file: Path, size: tuple[int, int], scale: bool, grey: bool) -> NDArray[np.uint8]:
    from PIL import ImageOps

    height, width = size
    with _open(file) as image:
        if not scale and (image.height, image.width) != size:
            mend = f"Say size = [{height}, {width}], to which all are then cut and scaled."
            got, allowed = f"{image.height}x{image.width}", f"{height}x{width}, as the first"
            raise UserError("images of different sizes", where=file, got=got, allowed=allowed, mend=mend)
        with _reading(file):
            pixels = image.convert("L" if grey else "RGB")
            if scale and (image.height, image.width) != size:
                pixels = ImageOps.fit(pixels, (width, height))
    found = np.asarray(pixels, np.uint8)
    return found[None] if grey else found.transpose(2, 0, 1)
