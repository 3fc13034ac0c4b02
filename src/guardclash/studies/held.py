"""What a store holds of a study, for whoever reports it: as it is now, not as some run left it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from guardclash.errors import SiteError, UserError
from guardclash.records.results import Results
from guardclash.studies import snapshot
from guardclash.studies.store import Store
from guardclash.studies.study import Study


def held(
    study: Study, folder: str | Path, data: Path | None = None, say: Callable[[str], None] = lambda words: None
) -> Results | None:
    """A study's results in a store; None if it holds nothing of them.

    Args:
        study: The whole study.
        folder: The store.
        data: The data folder: what lies there decides which results are meant.
        say: Is told what is to be known of the results beside them.

    Raises:
        UserError: They cannot be told, such as because the study's own data are gone, and none were kept.
    """
    store = Store(Path(folder))
    if (found := snapshot.fresh(study, store)) is not None:
        return found
    for name, why in store.damaged.items():
        say(f"note: damaged, and collected anew: {store.folder / name}: {why}")
    if not (store.trial_keys() or store.failure_keys()):
        return snapshot.last(study, store)  # such as of a study of clashes only
    try:
        found = _collected(study, store, data)
    except UserError as error:
        found = snapshot.last(study, store)
        if found is None:
            raise
        say(f"note: these are the results of {found.written}; what the store holds now cannot be told: {error}")
    for words in found.changed:
        say(f"note: {words}")
    for flaw in found.damaged:
        say(f"note: damaged and left out: {store.folder / flaw}; the next run makes it anew")
    return found if any(cell.trials for cell in found.cells.values()) else snapshot.last(study, store)


def _collected(study: Study, store: Store, data: Path | None) -> Results:
    from guardclash.data.loading import data_folder
    from guardclash.studies.collect import collect, keep_results  # torch, which a report can mostly do without
    from guardclash.studies.composing import compose_study
    from guardclash.studies.read_once import ReadOnce

    once, composed = ReadOnce(store.folder), compose_study(study, data_folder(data))
    with suppress(SiteError):  # a store that is read only
        return keep_results(study, composed, once)
    return collect(study, composed, once)
