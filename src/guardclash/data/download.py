"""Fetching the official files of a data set."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
import zlib
from pathlib import Path

from guardclash.data.check import Finding, in_place
from guardclash.data.dataset import Dataset
from guardclash.data.files import Download, Place, has_hash
from guardclash.data.loading import data_folder
from guardclash.errors import UserError


def fetch(dataset: Dataset, folder: str | Path | None = None, progress: bool = True) -> list[Finding]:
    """Brings the official files of a data set into the data folder; run again, it goes on where it stopped.

    Files that are there with the official content are left alone. Others are downloaded beside their place,
    and moved into it once their checksum is right: so they replace what was damaged, and copies that `check`
    accepts although they are not the official files. An archive is kept after unpacking.

    Args:
        dataset: Which data set.
        folder: The data folder, made if need be; None: see `data_folder`.
        progress: Whether to show a progress bar (only on a terminal).

    Returns:
        One finding per file: whether it was there or where it came from.

    Raises:
        UserError: No mirror gave the right file, or the folder cannot be written.
    """
    place = Place(dataset.name, data_folder(folder))
    return [_fetched(download, place, progress) for download in dataset.files]


def _fetched(download: Download, place: Place, progress: bool) -> Finding:
    if in_place(download, place):
        return Finding(download.path, True, "already there, content identical to the official file")
    path = place.folder / download.path
    try:
        if path.is_file() and has_hash(path, download.known_hash):
            detail = "already there"
        else:
            detail = f"downloaded from {_first_good(download, path, progress)}"
        if download.unpack:
            _unpack(download, place)
            detail += ", unpacked"
    except OSError as error:
        raise UserError(
            f"{place.dataset}: the file cannot be written ({error})",
            where=path,
            mend="Free space, change permissions, or point --data-dir or GUARDCLASH_DATA at another folder.",
        ) from error
    return Finding(download.path, True, detail)


def _first_good(download: Download, path: Path, progress: bool) -> str:
    """Downloads from the first mirror that gives the right bytes, and returns its address."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # what came from where is in the findings
    downloader = pooch.HTTPDownloader(progressbar=progress and sys.stderr.isatty())
    failures = []
    for url in download.urls:
        try:
            pooch.retrieve(url, download.known_hash, fname=path.name, path=path.parent, downloader=downloader)
        except requests.HTTPError as error:
            failures.append(str(error))
        except requests.RequestException as error:
            failures.append(f"{url}: no answer, or only part of one ({type(error).__name__})")
        except ValueError:
            failures.append(f"{url}: other bytes than the official file")
        else:
            path.chmod(0o644)  # pooch's temporary files are for their owner only; a data folder may be shared
            return url
    raise UserError(
        "no mirror gave the right file: " + "; ".join(failures),
        where=path,
        mend=f"Check the network and run this again, or get the file by other means ({download.known_hash}).",
    )


def _unpack(download: Download, place: Place) -> None:
    """Writes the contents of a verified archive into the data folder, each complete or not at all."""
    path = place.folder / download.path
    try:
        with tarfile.open(path) as archive:
            for name, _ in download.contents:
                _unpack_member(archive, name, place.folder / name)
    except (tarfile.TarError, gzip.BadGzipFile, LookupError, EOFError, zlib.error) as error:
        raise UserError(f"{place.dataset}: the archive cannot be unpacked ({error})", where=path) from error


def _unpack_member(archive: tarfile.TarFile, name: str, target: Path) -> None:
    source = archive.extractfile(name)
    if source is None:
        raise LookupError(f"{name} is not a file in the archive")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with source, partial.open("wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
