"""Somebody's data as a data set that is known by its content, and where what was read of it is kept.

Reading may be dear (decoding a folder of images), and processes that train must find the same examples. So what was
read is kept in the cache: arrays under the digest of the data, what is known of them under the state of their files.
The cache may be removed at any time.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.own.brought import Brought, Facts, facts_from
from guardclash.data.own.origins import ArrayFile, Memory, Origin, text_of
from guardclash.errors import UserError

ENVIRONMENT = "GUARDCLASH_CACHE"
READING = 1
"""Raise it when data are read otherwise than before: what was known of files is then found out anew."""
DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)
"""What comes of a damaged file of the cache, which is then as good as none."""
MARK = "@"
"""Between a data set's name and its digest."""


def cache_folder() -> Path:
    """Where what was read is kept: GUARDCLASH_CACHE, or the user's cache folder."""
    chosen = os.environ.get(ENVIRONMENT)
    if not chosen:
        import pooch

        chosen = pooch.os_cache("guardclash")
    return Path(os.path.abspath(os.path.expanduser(chosen))) / "own"


@dataclass(frozen=True)
class Kept:
    """Reads one split of somebody's data, from the cache or from where they came."""

    digest: str
    origin: Origin = field(compare=False, repr=False)

    def __call__(self, split: str, folder: Path) -> Examples:
        """The examples of a split; the data folder is not looked at.

        Raises:
            UserError: The data cannot be read, or are no longer those that were planned with.
        """
        return _splits(self)[split]

    def __reduce__(self) -> Any:
        """For other processes; arrays of this one's memory must be in the cache."""
        return Kept, (self.digest, Gone() if isinstance(self.origin, Memory) else self.origin)


@dataclass(frozen=True)
class Gone:
    """Data that were in the memory of another process."""

    def read(self) -> Brought:
        """Nothing.

        Raises:
            UserError: Always.
        """
        mend = f"Run it again from where the data are; {ENVIRONMENT} says where the cache lies."
        raise UserError("data from memory are no longer in the cache", where=cache_folder(), mend=mend)

    def state(self) -> None:
        """Unknown."""
        return None


@lru_cache(maxsize=4)
def _splits(reader: Kept) -> dict[str, Examples]:
    kept = _from_cache(reader.digest)
    if kept is not None:
        return kept
    found = reader.origin.read()
    if found.facts().digest != reader.digest:
        mend = "Leave the data alone while a study runs; on every machine they must be the same."
        raise UserError("the data are not those that were planned with", where=reader.origin, mend=mend)
    return dict(found.splits)


def dataset_of(name: str, origin: Origin, **more: Any) -> Dataset:
    """A data set of somebody's own, known by its content: changed, it is another one.

    Args:
        name: How studies call it.
        origin: Where the data come from.
        more: Further fields of `Dataset`, such as `mean`.

    Raises:
        UserError: The data cannot be read, or are not what they must be.
    """
    facts = _facts(origin)
    reader = Kept(facts.digest, origin)
    return Dataset(
        name=f"{name}{MARK}{facts.digest}",
        title=name,
        space=facts.space,
        classes=facts.classes,
        sizes=facts.sizes,
        read=reader,
        bundled=True,  # its name says its content
        several_labels=facts.several_labels,
        notes=facts.notes,
        parts=facts.parts,
        **more,
    )


def _facts(origin: Origin) -> Facts:
    """What is known of data, from before if their files are as they were."""
    try:
        state = origin.state()
    except OSError as error:
        raise UserError(f"the data cannot be read: {error.strerror}", where=error.filename) from error
    if state is None:
        return _looked_at(origin) if isinstance(origin, Memory) else _looked_at_once(origin)
    path = cache_folder() / f"state-{text_of((*state, (repr(origin), READING, 0)))}.json"
    with suppress(*DAMAGED):
        return facts_from(json.loads(path.read_text(encoding="utf-8")))
    facts = _looked_at(origin)
    text = json.dumps(facts.to_dict()).encode()
    _written(path, lambda file: file.write(text))
    return facts


def _looked_at(origin: Origin) -> Facts:
    found = origin.read()
    facts = found.facts()
    if not isinstance(origin, ArrayFile):  # a file of arrays is read as fast as the cache
        _keep(found, facts)
    return facts


_looked_at_once: Callable[[Any], Facts] = lru_cache(maxsize=16)(_looked_at)
"""A study is composed several times, and a function may take long."""


def _keep(found: Brought, facts: Facts) -> None:
    folder = cache_folder() / facts.digest
    for split, examples in found.splits.items():
        for name, values in {"x": examples.x, "y": examples.y, **examples.about}.items():
            if not (path := folder / f"{split}.{name}.npy").exists():
                _written(path, partial(np.save, arr=values, allow_pickle=False))
    text = json.dumps(facts.to_dict()).encode()
    _written(folder / "facts.json", lambda file: file.write(text))  # last: it says that all others are there


def _written(path: Path, write: Callable[[Any], object]) -> None:
    """Writes a file of the cache, whole or not at all; a cache that cannot be written to is done without."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            write(file)
        os.replace(file.name, path)


def _from_cache(digest: str) -> dict[str, Examples] | None:
    """What the cache holds under a digest; None if it holds nothing, or something else by now."""
    folder = cache_folder() / digest
    with suppress(*DAMAGED):
        facts = facts_from(json.loads((folder / "facts.json").read_text(encoding="utf-8")))
        splits = {split: _read(folder, split) for split, _ in facts.sizes}
        found = Brought(facts.space, facts.classes, splits, facts.notes, facts.several_labels)
        if found.facts().digest == digest:
            return splits
    return None


def _read(folder: Path, split: str) -> Examples:
    arrays: dict[str, NDArray[Any]] = {
        path.name.split(".")[1]: np.load(path, mmap_mode="r", allow_pickle=False)
        for path in sorted(folder.glob(f"{split}.*.npy"))
    }
    return Examples(arrays.pop("x"), arrays.pop("y"), arrays)
