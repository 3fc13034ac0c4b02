"""Results on disk, found by what they are. Whole or absent: each is written beside its place and renamed into it.

    trials/<plan>-<seed>/             record.json, history.jsonl, weights.safetensors
    measurements/<probe>.json         one mechanism's metrics on one trial
    data/<source>-<seed>.safetensors  images that were dear to make, such as marked ones: evidence
    evidence/<mechanism>-<seed>.json  pictures of what a mechanism alone put into its training, for reports
    failures/<plan>-<seed>.json       why a trial has no result yet
    studies/<name>.json               a study's results, made anew from the above by every run (see snapshot.py)
    work/                             what is being written; notes of work under way (see activity.py)

Every file but those of `work/` is checked whenever it is read: it holds its own checksum (see seal.py), or stands with
its own in a record that does. One that is damaged counts as missing, is named in `Store.damaged`, and made anew by the
next run. No torch here: reports read stores without it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from guardclash.studies.files import SCHEMA, Files
from guardclash.studies.seal import digest, sealed, sealed_json, tensors_flaw
from guardclash.words import cut

LEFT = "left"
"""In a record: digests by name of files that were left behind where it came from (see carried.py)."""
LONGEST_ERROR = 10_000
"""Letters of an error that are kept."""
RECORD = {"seed": int, "plan": dict, "seconds": (int, float), "finished": str, "execution": dict, "environment": dict}
RECORD |= {"files": (dict, NoneType)}  # from before there were checksums it has none
MEASUREMENT = {"trial": str, "measure": dict, "metrics": dict, "warnings": list}
FAILURE = {"error": str, "time": str}
EVIDENCE = {"pictures": list}
"""What files must hold to be of use: a store may come from anyone."""


@dataclass(frozen=True)
class Store(Files):
    """A folder of results; made on first use."""

    def trial(self, key: str) -> Path | None:
        """The folder of a finished trial, if there is one."""
        return self.folder / "trials" / key if self.record(key) is not None else None

    def record(self, key: str) -> dict[str, Any] | None:
        """The record of a finished trial, if there is one."""
        name = f"trials/{key}/record.json"
        record = self.sealed(name, RECORD)
        # A store may come from anyone: what it lists must lie beside the record, not somewhere else on this machine.
        listed = (record or {}).get("files") or {}
        beside = all(os.path.basename(part) == part and part.strip(".") for part in listed)
        return record if record is None or self._fits(name, "" if beside else "it lists files elsewhere") else None

    def intact(self, key: str) -> dict[str, Any] | None:
        """The record of a finished trial, if its history is whole as well; weights are looked at when they are read."""
        record = self.record(key)
        if record is None or "history.jsonl" not in record.get("files", ()):
            return record
        self.losses(key)
        return None if f"trials/{key}/history.jsonl" in self.damaged else record

    def part(self, key: str, name: str) -> bytes | None:
        """A file of a finished trial beside its record; None where it is missing or damaged."""
        record = self.record(key)
        if record is None:
            return None
        content = self._content(f"trials/{key}/{name}")
        if content is None and name in record.get(LEFT, ()):
            return None  # no damage: it never was here
        if "files" in record:  # else it is from before there were checksums
            why = "it is missing" if content is None else "its checksum does not fit"
            fits = content is not None and digest(content) == record["files"].get(name)
            return content if self._fits(f"trials/{key}/{name}", "" if fits else why) else None
        return content

    def history(self, key: str) -> list[dict[str, float]]:
        """Mean losses of each stream of a finished trial, epoch by epoch; empty where none were kept."""
        try:
            lines = json.loads(b"[%s]" % b",".join((self.part(key, "history.jsonl") or b"").splitlines()))
            return [{name: float(value) for name, value in line.items()} for line in lines]
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):  # from before checksums
            self.damaged[f"trials/{key}/history.jsonl"] = "it is no list of losses"
            return []

    def losses(self, key: str) -> dict[str, list[float]]:
        """Mean losses by epoch of each stream of a finished trial, to four digits; empty where none were kept."""
        lines = self.history(key)
        streams = [name for name in (lines[0] if lines else {}) if name != "epoch"]
        return {name: [float(f"{line[name]:.4g}") for line in lines if name in line] for name in streams}

    def keep_trial(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Keeps a finished trial. A second writer of the same key changes nothing: equal keys are equal results.

        Args:
            key: Its key.
            record: What is known of it; the checksums of its files are added.
            files: What is kept beside the record, by name.
        """
        target = self.folder / "trials" / key
        listed = {**record, "files": {name: digest(content) for name, content in files.items()}}
        with self._writing() as work:
            work.mkdir(parents=True)
            for name, content in {**files, "record.json": sealed_json(listed)}.items():
                (work / name).write_bytes(content)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() and not self._whole(key):
                shutil.rmtree(target)
            try:
                work.rename(target)
            except OSError:
                # Another process was first, or else something is wrong.
                if not self._whole(key):
                    raise

    def _whole(self, key: str) -> bool:
        """Whether a trial is there with all of its files, as of now."""
        fresh = Store(self.folder)
        record = fresh.record(key) or {}
        listed = record.get("files", ())  # one from before checksums is replaced if it was no good
        return bool(listed) and not record.get(LEFT) and all(fresh.part(key, name) is not None for name in listed)

    def measurement(self, key: str) -> dict[str, Any] | None:
        """A measurement, if there is one."""
        return self.sealed(f"measurements/{key}.json", MEASUREMENT)

    def trial_keys(self) -> set[str]:
        """The keys of all trials that have a folder; one whose record was taken away is among them."""
        return set(_listed(self.folder / "trials"))

    def measurement_keys(self) -> set[str]:
        """The keys of all measurements."""
        return {name.removesuffix(".json") for name in _listed(self.folder / "measurements")}

    def failure_keys(self) -> set[str]:
        """The keys of all trials whose last failure is noted."""
        return {name.removesuffix(".json") for name in _listed(self.folder / "failures")}

    def picture_keys(self) -> set[str]:
        """The keys of all pictures of evidence."""
        return {name.removesuffix(".json") for name in _listed(self.folder / "evidence")}

    def data_keys(self) -> set[str]:
        """The keys of all kept data."""
        return {name.removesuffix(".safetensors") for name in _listed(self.folder / "data")}

    def keep_measurement(self, key: str, content: Mapping[str, Any]) -> None:
        """Keeps a measurement."""
        self.keep_sealed(f"measurements/{key}.json", content)

    def data(self, key: str) -> bytes | None:
        """Kept data, a safetensors file, if there are any."""
        name = f"data/{key}.safetensors"
        content = self._content(name)
        return content if content is not None and self._fits(name, tensors_flaw(content)) else None

    def keep_data(self, key: str, content: bytes) -> None:
        """Keeps data, a safetensors file with a place for a seal; equal keys hold equal data."""
        self._replace(f"data/{key}.safetensors", sealed(content))

    def pictures(self, key: str) -> list[dict[str, Any]] | None:
        """Pictures of evidence, if there are any."""
        found = self.sealed(f"evidence/{key}.json", EVIDENCE)
        return list(found["pictures"]) if found else None

    def keep_pictures(self, key: str, pictures: list[dict[str, Any]]) -> None:
        """Keeps pictures of evidence, none among them as well."""
        self.keep_sealed(f"evidence/{key}.json", {"schema": SCHEMA, "pictures": pictures})

    def failure(self, key: str) -> dict[str, Any] | None:
        """Why a trial failed last time, if it did."""
        return self.sealed(f"failures/{key}.json", FAILURE)

    def forget_failure(self, key: str) -> None:
        """After a trial was trained and measured."""
        self.forget_json(f"failures/{key}.json")

    def keep_failure(self, key: str, error: str, diverged: bool = False) -> None:
        """Notes a trial whose training or measurement failed; the next run tries it again.

        Of one that diverged, which is a result: the same training would end so again.
        """
        noted = {"schema": SCHEMA, "trial": key, "error": kept_error(error), "diverged": diverged, "time": now()}
        self.keep_sealed(f"failures/{key}.json", noted)


def kept_error(text: str) -> str:
    """An error's text as records hold it: its beginning and its end, without halves of letters."""
    return cut(text, LONGEST_ERROR).encode(errors="backslashreplace").decode()


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def now() -> str:
    """The present time, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
