"""What a data folder holds: a data set's official content, or another one, which then belongs to every key."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from guardclash.data.check import in_place
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.files import Place
from guardclash.data.loading import data_folder, load, state
from guardclash.errors import UserError

OFFICIAL = ""
"""The content that a data set is known for: of the official files, or what a library brings along."""


def content(dataset: Dataset, split: str, folder: str | Path | None = None) -> str:
    """Which examples of a split a data folder holds.

    Args:
        dataset: Which data set.
        split: Which of its splits.
        folder: The data folder; None: see `guardclash.data.loading.data_folder`.

    Returns:
        `OFFICIAL`, or the digest of what is there instead. `OFFICIAL` as well where nothing can be read: then nothing
        is trained on it, and whoever tries is told why.
    """
    if dataset.bundled:
        return OFFICIAL
    chosen = data_folder(folder)
    return _content(dataset, split, chosen, state(dataset, chosen))


@lru_cache(maxsize=64)
def _content(dataset: Dataset, split: str, folder: Path, state: object) -> str:
    place, official = Place(dataset.name, folder), dict(dataset.contents).get(split)
    if not official and dataset.files and all(in_place(download, place) for download in dataset.files):
        return OFFICIAL
    try:
        found = digest(load(dataset, split, folder))
    except UserError:
        return OFFICIAL
    return OFFICIAL if found == official else found


def digest(examples: Examples) -> str:
    """20 hexadecimal digits of the SHA-256 of examples, whatever is known of them: the same however files pack them."""
    x, y = examples
    found = hashlib.sha256(f"{x.dtype} {x.shape} {y.dtype}".encode())
    for values in (x, y):
        found.update(values.tobytes())
    for name, values in sorted(examples.about.items()):
        found.update(f"{name} {values.dtype}".encode())
        found.update(values.tobytes())
    return found.hexdigest()[:20]
