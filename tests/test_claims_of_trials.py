"""Several runs on one store share the work, and none waits for a process that is dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from guardclash.studies import claims, jobs
from guardclash.studies.claims import claim_of, claimed
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.studies.run import run_study
from guardclash.studies.store import Store
from running import Trained, Watcher, keys_in, study, trained

KEY = "0123456789abcdef0123-4"
__all__ = ["trained"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def claim(store: Store, **who: Any) -> Path:
    """A claim of somebody else."""
    path = store.folder / "work" / f"{KEY}.claim.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "started": 1.0, **who}))
    return path


def test_a_trial_is_claimed_while_somebody_works_at_it(store):
    assert claim_of(store, KEY) is None
    with claimed(store, KEY) as ours, claimed(store, KEY) as theirs:
        assert (ours, theirs) == (True, False)
        assert claim_of(store, KEY)["pid"] == os.getpid()
    assert claim_of(store, KEY) is None
    assert list((store.folder / "work").iterdir()) == []


def test_of_many_at_once_one_has_it(store):
    start, found, over = threading.Barrier(8), [], threading.Event()

    def work() -> None:
        start.wait()
        with claimed(store, KEY) as ours:
            found.append(ours)
            if ours:
                over.wait(30)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(found) < 8 and any(thread.is_alive() for thread in threads):
        if sum(found) and len(found) == 8:
            break
        over.wait(0.01)
    over.set()
    for thread in threads:
        thread.join()
    assert sum(found) == 1


def test_a_claim_that_comes_while_another_looks_stays(store, monkeypatch):
    looked = claims._read

    def late(*asked: Any) -> Any:
        found = looked(*asked)
        claim(store)
        return found

    monkeypatch.setattr(claims, "_read", late)
    with claimed(store, KEY) as ours:
        assert not ours
    assert (store.folder / "work" / f"{KEY}.claim.json").exists()


def test_a_dead_claimant_is_passed_over(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = claim(store, pid=dead.pid)
    assert claim_of(store, KEY) is None
    with claimed(store, KEY) as ours:
        assert ours
    assert not path.exists()


def test_one_of_another_host_counts_as_long_as_it_shows_that_it_lives(store):
    path = claim(store, host="elsewhere")
    written = path.stat().st_mtime
    assert claim_of(store, KEY, lambda: written + claims.SILENT_S - 1)
    assert claim_of(store, KEY, lambda: written + claims.SILENT_S + 1) is None


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "\ud800"])
def test_what_is_no_claim_is_none(store, content):
    path = claim(store)
    path.write_bytes(content.encode(errors="surrogatepass"))
    assert claim_of(store, KEY) is None
    with claimed(store, KEY) as ours:
        assert ours


def test_where_no_claim_can_be_written_nobody_is_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with claimed(Store(tmp_path / "file"), KEY) as ours:
        assert ours


def test_what_another_run_trains_is_not_trained_here(site: Site, trained: Trained, monkeypatch):
    """The other run works at one trial; this one does all others, waits, and takes what the other has made."""
    wanted = study(["dpsgd-control"], seeds=2)
    other = Site(Store(site.store.folder), site.data_folder)
    mine, theirs, waited = Watcher(), Watcher(), []
    keep, begun = jobs._keep, threading.Event()

    def slowly(*arguments: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert ended.wait(60)
        keep(*arguments)

    monkeypatch.setattr(jobs, "_keep", slowly)
    ended = threading.Event()
    thread = threading.Thread(target=lambda: run_study(wanted, other, Inline(), theirs))
    thread.start()
    assert begun.wait(60)

    def pause(seconds: float) -> None:
        waited.append(seconds)
        assert len(keys_in(site.store)) == 3, "all that nobody works at is there"
        ended.set()
        threading.Event().wait(0.05)

    results = run_study(wanted, site, Inline(), mine, pause=pause)
    thread.join()
    assert waited
    assert len(trained.since()) == 4, "each once"
    assert not mine.errors and not theirs.errors
    assert all(len(cell.trials) == 2 and cell.trials[0].measurements for cell in results.cells.values())
