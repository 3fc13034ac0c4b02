"""All files of a store, looked at one by one: what is damaged, whether somebody needs it at the moment or not."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from guardclash.errors import SiteError
from guardclash.studies import snapshot
from guardclash.studies.store import Store


@dataclass(frozen=True)
class Inspection:
    """What was looked at."""

    files: int
    damaged: dict[str, str]
    """By path below the store: why."""


def inspected(store: Store) -> Inspection:
    """Reads every file of a store and checks it.

    Raises:
        UserError: One is of a newer version, or cannot be read at all.
    """
    seen = Store(store.folder)
    for key in sorted(seen.trial_keys()):
        record = seen.record(key)
        if record is None:
            seen.damaged.setdefault(f"trials/{key}/record.json", "it is missing")
        for name in record.get("files", ()) if record else ():
            seen.part(key, name)
    for key in seen.measurement_keys():
        seen.measurement(key)
    for key in seen.failure_keys():
        seen.failure(key)
    for key in seen.picture_keys():
        seen.pictures(key)
    for key in seen.data_keys():
        seen.data(key)
    snapshot.inspect(seen)
    kept = ("trials", "measurements", "failures", "evidence", "data", "studies")
    files = sum(path.is_file() for kind in kept for path in (store.folder / kind).rglob("*"))
    return Inspection(files, dict(sorted(seen.damaged.items())))


def repaired(store: Store, found: Inspection) -> None:
    """Takes damaged files away, and trials with them that cannot do without, so that the next run makes them anew.

    Raises:
        SiteError: They cannot be taken away.
    """
    for name in found.damaged:
        path = store.folder / name
        try:
            if name.startswith("trials/"):
                shutil.rmtree(store.folder / "trials" / name.split("/")[1])
            else:
                path.unlink()
        except FileNotFoundError:
            continue  # it went with another one
        except OSError as error:
            raise SiteError(f"a damaged file cannot be removed: {error.strerror}", where=path) from error
