"""The files of a data set: how they are found, opened and summed, and what is said when one is wrong."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import lzma
import os
import shlex
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardclash.errors import UserError
from guardclash.handed import open_regular

GZIP_MAGIC = b"\x1f\x8b"

# All that the standard library and pillow raise on damaged bytes; OSError is told apart by what caused it.
DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError, MemoryError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, csv.Error),
)
PLAIN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How members of archives may be packed; the others can claim a dictionary of GiB before a byte is read."""
RATIO = 100
"""How much larger than its gzip file a content may be; those of data sets are 5 times as large, a bomb's 1,000."""


@dataclass(frozen=True)
class Download:
    """One official file: where it comes from, where it is kept, and what it must hold.

    Args:
        path: Where it is kept, relative to the data folder.
        urls: The official source and its mirrors, in the order in which they are tried.
        known_hash: Checksum of the file as downloaded, `"sha256:..."` or `"md5:..."`.
        contents: The files that are read, each with the SHA-256 of its uncompressed bytes: one for a gzip
            file, the members for an archive to unpack. Empty: the download is read as it is.
        unpack: Whether the download is a tar archive whose `contents` are written beside it.
        exact: Whether other content is an error. False where re-packed or converted copies are in common use:
            then a difference is reported but accepted.
    """

    path: str
    urls: tuple[str, ...]
    known_hash: str
    contents: tuple[tuple[str, str], ...] = ()
    unpack: bool = False
    exact: bool = True


def gzip_file(directory: str, mirrors: tuple[str, ...], name: str, packed: str, content: str) -> Download:
    """A file that is kept with gzip.

    Args:
        directory: Where it is kept, relative to the data folder.
        mirrors: What its address begins with, at each of its sources.
        name: Its name, without ".gz".
        packed: SHA-256 of the packed file.
        content: SHA-256 of what is in it.
    """
    return Download(
        f"{directory}/{name}.gz",
        tuple(f"{mirror}{name}.gz" for mirror in mirrors),
        f"sha256:{packed}",
        contents=((f"{directory}/{name}", content),),
    )


@dataclass(frozen=True)
class Place:
    """Where a data set is looked for; it words the errors about its files.

    Args:
        dataset: Name of the data set.
        folder: The data folder.
    """

    dataset: str
    folder: Path

    def find(self, name: str) -> Path:
        """The path of a file that may be kept with gzip: `name.gz` where it exists, else `name`.

        The gzip file comes first because that is what a download replaces.
        """
        packed = self.folder / f"{name}.gz"
        return packed if os.path.exists(packed) else self.folder / name

    def expected(self, download: Download) -> list[tuple[Path, str]]:
        """The paths that are read of a download and the checksums that they must have; no colon: of the content."""
        if download.contents:
            return [(self.find(name), known) for name, known in download.contents]
        return [(self.folder / download.path, download.known_hash)]

    def mend(self) -> str:
        """What to do about a file that is missing or wrong."""
        command = f"guardclash data fetch {self.dataset} --data-dir {shlex.quote(str(self.folder))}"
        return f"Run `{command}`, or point --data-dir or GUARDCLASH_DATA at a folder that has the data."

    def error(self, what: str, path: Path, got: Any = ..., allowed: str = "") -> UserError:
        """The error that one file is wrong (see `UserError`)."""
        return UserError(f"{self.dataset}: {what}", where=path, got=got, allowed=allowed, mend=self.mend())

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Turns whatever goes wrong while a file is opened and decoded into a `UserError` that names it."""
        try:
            yield
        except DAMAGE as error:
            raise self._explained(path, error) from error

    def _explained(self, path: Path, error: Exception) -> UserError:
        if not os.path.isdir(self.folder):
            return self.error("the data folder does not exist", self.folder)
        if os.path.isdir(path):
            return self.error("a file is expected here, not a folder", path)
        if isinstance(error, FileNotFoundError):
            return self.error("the file is missing", path)
        if isinstance(error, PermissionError):
            return UserError(
                f"{self.dataset}: no permission to read the file",
                where=path,
                mend="Change its permissions, or point --data-dir or GUARDCLASH_DATA at another folder.",
            )
        if isinstance(error, MemoryError):
            return self.error("there is not enough memory to read the file", path)
        return self.error(f"the file is damaged or cut short ({error})", path)

    def demand_length(self, values: bytes, size: int, path: Path) -> None:
        """Raises a `UserError` unless a file, asked for one byte more, gave `size` bytes of values."""
        if len(values) != size:
            what = "the file is cut short" if len(values) < size else "the file goes on after its last value"
            got = f"{len(values)} bytes" if len(values) < size else f"more than {size} bytes"
            raise self.error(what, path, got=got, allowed=f"{size} bytes of values")

    def labels(self, values: NDArray[Any], classes: int, path: Path) -> NDArray[np.int64]:
        """The labels of a file as int64, once all are known to lie in 0 to `classes` - 1."""
        wrong = values[(values < 0) | (values >= classes)]
        if wrong.size:
            raise self.error("a label is out of range", path, got=int(wrong[0]), allowed=f"0 to {classes - 1}")
        return values.astype(np.int64)


def open_content(path: Path) -> io.BufferedIOBase:
    """Opens a file for reading its bytes, uncompressed where it is a gzip file by its first two bytes.

    The name is not trusted: browsers and proxies unpack `.gz` files without renaming them.

    Raises:
        UserError: It is no regular file.
    """
    with open_regular(path) as stream:
        packed = stream.read(2) == GZIP_MAGIC
    return gzip.open(path, "rb") if packed else path.open("rb")


def content_sum(path: Path) -> str:
    """SHA-256 of the uncompressed bytes of a file, in hexadecimal.

    Raises:
        ValueError: A gzip file unpacks to far more than any data set does.
    """
    digest, size, most = hashlib.sha256(), 0, (1 << 20) + RATIO * path.stat().st_size
    with open_content(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
            if size > most:
                raise ValueError(f"it unpacks to more than {RATIO} times its size")
    return digest.hexdigest()


def has_hash(path: Path, known_hash: str) -> bool:
    """Whether a file as it lies on disk has the checksum `"algorithm:hexadecimal digits"`."""
    algorithm, _, digits = known_hash.partition(":")
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == digits.lower()
