"""Results on disk, found by what they are. Whole or absent: each is written beside its place and renamed into it.

    trials/<plan>-<seed>/             record.json, history.jsonl, weights.safetensors
    measurements/<probe>.json         one mechanism's metrics on one trial
    data/<source>-<seed>.safetensors  images that were dear to make, such as marked ones: evidence
    evidence/<mechanism>-<seed>.json  pictures of what a mechanism alone put into its training, for reports
    failures/<plan>-<seed>.json       why a trial has no result yet
    studies/<name>.json               a study's results, made anew from the above by every run
    work/                             what is being written; notes of work under way (see activity.py)

No torch here: reports read stores without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardclash.errors import UserError

SCHEMA = 1
MEND = "Remove it; the next run makes it anew."
"""What to do about a damaged result."""


@dataclass(frozen=True)
class Store:
    """A folder of results; made on first use."""

    folder: Path
    """Given as a path or its text."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def trial(self, key: str) -> Path | None:
        """The folder of a finished trial, if there is one."""
        return self.folder / "trials" / key if os.path.isfile(self._record(key)) else None

    def record(self, key: str) -> dict[str, Any] | None:
        """The record of a finished trial, if there is one."""
        return _found_json(self._record(key))

    def _record(self, key: str) -> str:
        return f"{self.folder}/trials/{key}/record.json"

    def losses(self, key: str) -> dict[str, list[float]]:
        """Mean losses by epoch of each stream of a finished trial, to four digits; empty where none were kept."""
        try:
            with open(f"{self.folder}/trials/{key}/history.jsonl", "rb", buffering=0) as file:
                lines = json.loads(b"[%s]" % b",".join(file.read().splitlines()))
        except (OSError, ValueError):
            return {}  # they are there to be drawn; the results do not hang on them
        streams = [name for name in (lines[0] if lines else {}) if name != "epoch"]
        return {name: [float(f"{line[name]:.4g}") for line in lines] for name in streams}

    def keep_trial(self, key: str, files: Mapping[str, bytes]) -> None:
        """Keeps a finished trial. A second writer of the same key changes nothing: equal keys are equal results."""
        target = self.folder / "trials" / key
        with self._writing() as work:
            work.mkdir(parents=True)
            for name, content in files.items():
                (work / name).write_bytes(content)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() and not (target / "record.json").is_file():
                shutil.rmtree(target)  # a user took a damaged record away
            try:
                work.rename(target)
            except OSError:
                # Another process was first, or else something is wrong.
                if not (target / "record.json").is_file():
                    raise

    def measurement(self, key: str) -> dict[str, Any] | None:
        """A measurement, if there is one."""
        return _found_json(f"{self.folder}/measurements/{key}.json")

    def trial_keys(self) -> set[str]:
        """The keys of all trials that have a folder; one whose record was taken away is among them."""
        return set(_listed(self.folder / "trials"))

    def measurement_keys(self) -> set[str]:
        """The keys of all measurements."""
        return {name.removesuffix(".json") for name in _listed(self.folder / "measurements")}

    def failure_keys(self) -> set[str]:
        """The keys of all trials whose last failure is noted."""
        return {name.removesuffix(".json") for name in _listed(self.folder / "failures")}

    def keep_measurement(self, key: str, content: Mapping[str, Any]) -> None:
        """Keeps a measurement."""
        self.keep_json(f"measurements/{key}.json", content)

    def data(self, key: str) -> Path | None:
        """The file of kept data, if there is one."""
        path = self.folder / "data" / f"{key}.safetensors"
        return path if path.is_file() else None

    def keep_data(self, key: str, content: bytes) -> Path:
        """Keeps data; equal keys hold equal data."""
        return self._replace(f"data/{key}.safetensors", content)

    def pictures(self, key: str) -> list[dict[str, Any]] | None:
        """Pictures of evidence, if there are any; those in a damaged file are not there."""
        path = self.folder / "evidence" / f"{key}.json"
        try:
            return list(read_json(path)["pictures"]) if path.is_file() else None
        except (UserError, KeyError, TypeError):
            return None  # the next run makes them anew; the results do not hang on them

    def keep_pictures(self, key: str, pictures: list[dict[str, Any]]) -> None:
        """Keeps pictures of evidence, none among them as well."""
        self.keep_json(f"evidence/{key}.json", {"schema": SCHEMA, "pictures": pictures})

    def failure(self, key: str) -> dict[str, Any] | None:
        """Why a trial failed last time, if it did."""
        return _found_json(f"{self.folder}/failures/{key}.json")

    def forget_failure(self, key: str) -> None:
        """After a trial was trained and measured."""
        (self.folder / "failures" / f"{key}.json").unlink(missing_ok=True)

    def keep_failure(self, key: str, error: str, diverged: bool = False) -> None:
        """Notes a trial whose training or measurement failed; the next run tries it again.

        Of one that diverged, which is a result: the same training would end so again.
        """
        noted = {"schema": SCHEMA, "trial": key, "error": error, "diverged": diverged, "time": now()}
        self.keep_json(f"failures/{key}.json", noted)

    def keep_text(self, name: str, text: str) -> Path:
        """Writes a text file below the store, whole or not at all."""
        return self._replace(name, text.encode())

    def keep_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Writes a JSON file below the store, whole or not at all."""
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        return self._replace(name, text.encode())

    def forget_json(self, name: str) -> None:
        """Removes a JSON file below the store, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def _replace(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        with self._writing() as work:
            work.parent.mkdir(parents=True, exist_ok=True)
            work.write_bytes(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(work, path)
        return path

    def sweep_work(self, older_than_s: float = 86_400) -> None:
        """Removes what killed runs left half-written."""
        for path in (self.folder / "work").glob("*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > older_than_s:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Path]:
        work = self.folder / "work" / uuid.uuid4().hex
        try:
            work.parent.mkdir(parents=True, exist_ok=True)
            yield work
        except OSError as error:
            mend = "Free some space or choose another store; the same command then continues."
            raise UserError(f"a result cannot be written: {error.strerror}", where=self.folder, mend=mend) from error
        finally:
            if work.is_dir():
                shutil.rmtree(work, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    work.unlink(missing_ok=True)


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _found_json(path: str) -> dict[str, Any] | None:
    """As `read_json`; None if there is no such file. Of large studies tens of thousands are read, so it is brief."""
    try:
        with open(path, "rb", buffering=0) as file:
            return _checked(file.read(), path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"a result cannot be read: {error}", where=path, mend=MEND) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: If it is damaged or of a newer schema.
    """
    try:
        return _checked(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"a result cannot be read: {error}", where=path, mend=MEND) from error


def _checked(text: bytes, path: Path | str) -> dict[str, Any]:
    try:
        content: Any = json.loads(text.decode())
    except ValueError as error:
        raise UserError(f"a result cannot be read: {error}", where=path, mend=MEND) from error
    schema = content.get("schema", SCHEMA) if isinstance(content, dict) else None
    if not isinstance(schema, int):
        raise UserError("a result is damaged", where=path, mend=MEND)
    if schema > SCHEMA:
        raise UserError("a result of a newer version of guardclash", where=path, mend="Update guardclash.")
    return content


def now() -> str:
    """The present time, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
