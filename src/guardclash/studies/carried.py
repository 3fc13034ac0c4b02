"""Results without weights, as one file: what one machine has trained and measured, another one need not do again.

A trial comes without its weights, which are large and can be made again: whoever needs them, such as a new measure,
trains it once more. Marked images and what a run makes anew from the rest (`studies/`) stay behind as well.
"""

from __future__ import annotations

import io
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from guardclash.errors import UserError
from guardclash.handed import content_of
from guardclash.studies.files import SCHEMA
from guardclash.studies.seal import digest, sealed_json, unsealed_json
from guardclash.studies.store import EVIDENCE, LEFT, MEASUREMENT, RECORD, Store

RECORD_NAME, HISTORY = "record.json", "history.jsonl"
FORMS = {
    re.compile(r"trials/([0-9a-z]+-\d+)/(record\.json|history\.jsonl)"): "trial",
    re.compile(r"measurements/([0-9a-z]+-\d+)\.json"): "measurement",
    re.compile(r"evidence/([0-9a-z]+-\d+)\.json"): "evidence",
}
"""The names that a file may hold: nobody's archive writes anywhere else."""
LARGEST = 1 << 28
"""Bytes of such a file, and sixteen times as much of what is packed in it."""


class Carried(NamedTuple):
    """How much was carried."""

    trials: int
    measurements: int


def packed(store: Store) -> bytes:
    """The results of a store as one file; equal stores give equal bytes.

    What is damaged is left out, as everywhere.
    """
    content = io.BytesIO()
    with lzma.open(content, "wb") as compressed, tarfile.open(fileobj=compressed, mode="w") as archive:
        for name, text in sorted(_light(store)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return content.getvalue()


def _light(store: Store) -> Iterator[tuple[str, bytes]]:
    for key in store.trial_keys():
        record = store.intact(key)
        if record is None:
            continue
        history = store.part(key, HISTORY)
        files = {HISTORY: history} if history is not None else {}
        left = {name: its for name, its in (record.get("files") or {}).items() if name not in files}
        listed = {name: digest(text) for name, text in files.items()}
        light = {**record, LEFT: {**record.get(LEFT, {}), **left}, "files": listed}
        yield f"trials/{key}/{RECORD_NAME}", sealed_json(light)
        yield from ((f"trials/{key}/{name}", text) for name, text in files.items())
    kinds: tuple[tuple[str, set[str], Callable[[str], Any]], ...] = (
        ("measurements", store.measurement_keys(), store.measurement),
        ("evidence", store.picture_keys(), lambda key: store.sealed(f"evidence/{key}.json", EVIDENCE)),
    )
    for folder, keys, read in kinds:
        for key in keys:
            if (found := read(key)) is not None:
                yield f"{folder}/{key}.json", sealed_json(found)


def add(path: Path, store: Store) -> Carried:
    """Puts packed results into a store; what is there already stays as it is.

    Args:
        path: What `packed` gave.
        store: Where they go.

    Returns:
        How many trials and measurements are new.

    Raises:
        UserError: It is no such file, damaged, or of a newer version; then nothing of it is kept.
        SiteError: The store cannot be written to.
    """
    files = _checked(_read(path), path)
    trials = measurements = 0
    for name, text in files.items():
        kind, key = _kind(name) or ("", "")
        content = _opened(text)
        if kind == "trial" and name.endswith(RECORD_NAME) and store.record(key) is None:
            history = files.get(f"trials/{key}/{HISTORY}")
            store.keep_trial(key, content, {HISTORY: history} if history is not None else {})
            trials += 1
        elif kind == "measurement" and store.measurement(key) is None:
            store.keep_measurement(key, content)
            measurements += 1
        elif kind == "evidence" and store.pictures(key) is None:
            store.keep_pictures(key, content["pictures"])
    return Carried(trials, measurements)


def _read(path: Path) -> dict[str, bytes]:
    try:
        compressed = content_of(path, LARGEST)
        opened = lzma.LZMADecompressor(memlimit=1 << 28)
        content = opened.decompress(compressed, max_length=16 * LARGEST)
        if not opened.eof:
            raise lzma.LZMAError("it ends too early, or is too large")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = archive.getmembers()
            found = {one.name: archive.extractfile(one) for one in members if one.isfile()}
            if len(found) < len(members):
                raise tarfile.TarError("it holds something twice, or what is no file")
            return {name: stream.read() for name, stream in found.items() if stream is not None}
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror or error}", where=path) from error
    except (lzma.LZMAError, tarfile.TarError, EOFError, ValueError) as error:
        mend = "Make it by `guardclash store pack FILE`."
        raise UserError(f"these are no packed results: {error}", where=path, mend=mend) from error


def _checked(files: Mapping[str, bytes], path: Path) -> dict[str, bytes]:
    """The files, once it is known of all that they are what their names say."""
    for name, text in files.items():
        kind, key = _kind(name) or ("", "")
        why = "nothing of a store is called so" if not kind else _flaw(kind, name, key, text, files)
        if why:
            raise UserError(f"these are no packed results: {why}", where=path, got=name)
    return dict(files)


def _flaw(kind: str, name: str, key: str, text: bytes, files: Mapping[str, bytes]) -> str:
    """What is wrong with a file; "" if nothing is."""
    if name.endswith(HISTORY):
        record = _opened(files.get(f"trials/{key}/{RECORD_NAME}", b""))
        listed = (record.get("files") or {}).get(HISTORY)
        return "" if listed == digest(text) else "its checksum does not fit"
    content, why = unsealed_json(text, SCHEMA)
    if content is None:
        return why
    forms: dict[str, dict[str, Any]] = {"trial": RECORD, "measurement": MEASUREMENT, "evidence": EVIDENCE}
    of = content.get("trial", key) if kind == "trial" else key
    listed = set(content.get("files") or ()) - {HISTORY} if kind == "trial" else set()
    if listed or of != key:
        return "it lists files that are not here" if listed else f"it is that of {of}"
    if content.get("schema", 1) > SCHEMA:
        return "it is of a newer version of guardclash"
    return next(
        (f"it has no {part}" for part, its in forms[kind].items() if not isinstance(content.get(part), its)), ""
    )


def _opened(text: bytes) -> dict[str, Any]:
    return unsealed_json(text, SCHEMA)[0] or {}


def _kind(name: str) -> tuple[str, str] | None:
    """What a file of this name is, and its key."""
    found = ((kind, form.fullmatch(name)) for form, kind in FORMS.items())
    return next(((kind, match[1]) for kind, match in found if match), None)
