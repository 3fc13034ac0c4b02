"""Are the files of a data set there, readable, and the official ones?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guardclash.data.dataset import Dataset
from guardclash.data.files import Download, Place, content_sum, has_hash
from guardclash.data.loading import data_folder, read
from guardclash.data.space import called
from guardclash.errors import UserError

OFFICIAL = "content identical to the official file (checksum)"
ACCEPTED = "not the official file (its checksum differs), accepted if format and counts of its split are right"
DIFFERENT = "not the official file: its checksum differs"


@dataclass(frozen=True)
class Finding:
    """What was found about one file or one split.

    Args:
        file: The file, relative to the data folder, or the split.
        ok: Whether it can be used.
        detail: What was verified, or what is wrong and how to mend it.
    """

    file: str
    ok: bool
    detail: str


def check(dataset: Dataset, folder: str | Path | None = None) -> list[Finding]:
    """Verifies a data set: the checksum of each file that is there, then format and counts of each split.

    A file that is missing gets no finding of its own: the split that needs it fails and names it.

    Args:
        dataset: Which data set.
        folder: The data folder; None: see `data_folder`.

    Returns:
        One finding per file and per split; the data set can be used if all are `ok`.
    """
    place = Place(dataset.name, data_folder(folder))
    sums = [finding for download in dataset.files for finding in _sums(download, place)]
    return sums + [_split(dataset, split, place) for split in dataset.splits]


def in_place(download: Download, place: Place) -> bool:
    """Whether all that a download gives is in the folder, with the official content."""
    try:
        return all(os.path.exists(path) and _official(path, known, place) for path, known in place.expected(download))
    except UserError:
        return False


def _official(path: Path, known: str, place: Place) -> bool:
    with place.reading(path):
        return has_hash(path, known) if ":" in known else content_sum(path) == known


def _sums(download: Download, place: Place) -> Iterator[Finding]:
    for path, known in place.expected(download):
        if not os.path.exists(path):
            continue
        name = path.relative_to(place.folder).as_posix()
        try:
            if _official(path, known, place):
                yield Finding(name, True, OFFICIAL)
            elif download.exact:
                yield Finding(name, False, str(place.error(DIFFERENT, path)))
            else:
                yield Finding(name, True, ACCEPTED)
        except UserError as error:
            yield Finding(name, False, str(error))


def _split(dataset: Dataset, split: str, place: Place) -> Finding:
    try:
        images = read(dataset, split, place.folder)
    except UserError as error:
        return Finding(f"{split} split", False, str(error))
    shape = "x".join(str(side) for side in dataset.shape)
    what = f"{len(images.y):,} {called(dataset.space)} of {shape}, {dataset.classes} classes"
    return Finding(f"{split} split", True, f"format and counts are right: {what}")
