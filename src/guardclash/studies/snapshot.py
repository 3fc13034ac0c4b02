"""A study's results as its last run left them in the store: a file to send, and to report from without torch.

    studies/<name>.json      a results file
    studies/<name>.of.json   which study it is of, what the store held then, and the file's checksum

It is believed only where it is of this very study and the store holds what it held then. Else results are collected
from the store anew (see held.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from guardclash.records.file import read_results, results_text
from guardclash.records.results import Results
from guardclash.studies.files import SCHEMA
from guardclash.studies.seal import digest
from guardclash.studies.store import Store
from guardclash.studies.study import Study

FORM = {"origin": str, "study": str, "state": str, "results": str}
COLLECTED = ("name", "recipes", "combinations", "alone", "together", "measures", "suspects", "suspected", "readings")
"""What of a study decides which results it has; beside the first seed. How it is judged does not."""


def keep(study: Study, results: Results, before: str, store: Store) -> None:
    """Keeps results in the store.

    Args:
        study: Of which study.
        results: What was collected.
        before: The `state` of the store before that: what came in the meantime may not be among them.
        store: Where.
    """
    name, text = stem(study, store), results_text(results)
    store.keep_text(f"studies/{name}.json", text)
    known = {"schema": SCHEMA, "origin": _origin(study), "study": _identity(study), "results": digest(text.encode())}
    store.keep_sealed(_card(name), {**known, "state": "" if results.damaged or results.changed else before})


def fresh(study: Study, store: Store) -> Results | None:
    """The results that are kept, if they are of this very study and nothing has changed in the store.

    Never of a study with code or data of its own, for they may have changed as well.
    """
    own = study.plugins or study.tasks
    return None if own else _read(study, store, state(store))


def last(study: Study, store: Store) -> Results | None:
    """The results that are kept under its name, whatever has happened since to the store and to the study."""
    found = _read(study, store)
    return found if found and any(cell.key in found.cells for cell in study.cells()) else None


def stem(study: Study, store: Store) -> str:
    """The name of the results file, without suffix: the study's, unless another study of that name has it.

    A study is the same if it comes from the same file, or asks the same.
    """
    card = store.sealed(_card(study.name), FORM)
    if card is None or card["origin"] == _origin(study) or card["study"] == _identity(study):
        return study.name
    return f"{study.name}-{_hash(_origin(study), _identity(study) if study.file is None else '')[:8]}"


def state(store: Store) -> str:
    """What a store holds, in a digest: the names of all that is finished or has failed."""
    held = store.trial_keys(), store.measurement_keys(), store.failure_keys()
    return _hash(*(" ".join(sorted(keys)) for keys in held))


def inspect(store: Store) -> None:
    """Checks all results that are kept; what is damaged stands in `store.damaged` then."""
    for card in sorted((store.folder / "studies").glob("*.of.json")):
        known = store.sealed(f"studies/{card.name}", FORM)
        name = f"studies/{card.name.removesuffix('.of.json')}.json"
        path = store.folder / name
        if known and not (path.is_file() and digest(path.read_bytes()) == known["results"]):
            store.damaged[name] = "its checksum does not fit"


def _read(study: Study, store: Store, held: str | None = None) -> Results | None:
    name = stem(study, store)
    card = store.sealed(_card(name), FORM)
    if card is None or (held is not None and (card["study"], card["state"]) != (_identity(study), held)):
        return None
    path = store.folder / "studies" / f"{name}.json"
    if not path.is_file():
        return None
    if digest(path.read_bytes()) != card["results"]:
        store.damaged[f"studies/{name}.json"] = "its checksum does not fit"  # or a run was killed between the two
        return None
    return read_results(path)


def _card(name: str) -> str:
    return f"studies/{name}.of.json"


def _origin(study: Study) -> str:
    return str(study.file or "")


def _identity(study: Study) -> str:
    return _hash(*_asked(study))


def _asked(study: Study) -> Iterator[Any]:
    yield _code()  # it decides what is collected, and which results may be doubted
    yield from (getattr(study, name) for name in COLLECTED)
    yield study.first_seed if study.start is None else (study.first_seed, study.start)


@lru_cache(1)
def _code() -> str:
    """A digest of the package's own source."""
    root = Path(__file__).parents[1]
    return _hash(*(digest(path.read_bytes()) for path in sorted(root.rglob("*.py"))))


def _hash(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
