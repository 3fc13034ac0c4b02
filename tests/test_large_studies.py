"""What a study costs beside its trainings grows with its trials and no faster: work is counted, not timed."""

from __future__ import annotations

import builtins
import gc
import io
import json
import multiprocessing
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from guardclash.errors import UserError
from guardclash.plan import identity
from guardclash.plan.identity import Remembered, describe, fingerprint
from guardclash.planning import planned, standing
from guardclash.reporting.findings import find
from guardclash.reporting.text import render
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline, processes
from guardclash.studies.files import SCHEMA
from guardclash.studies.inspection import inspected
from guardclash.studies.jobs import Site
from guardclash.studies.read_once import ReadOnce
from guardclash.studies.run import run_study
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study
from guardclash.watching import tracking as tracking_module
from guardclash.watching.board import Board
from guardclash.watching.progress import Progress
from guardclash.watching.tracking import _Listener

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from large_study import Prepared, fill, results, write_study
from running import edited


def status(study: Study, site: Site) -> None:
    list(standing(study, site, "strict"))


def plan(study: Study, site: Site) -> None:
    list(planned(study, site, 1))


def run(study: Study, site: Site) -> None:
    render(find(study, run_study(study, site, Inline()), "strict"))


COMMANDS = {"status": status, "plan": plan, "run": run}


Written = Callable[..., tuple[Study, Path]]
Filled = Callable[..., tuple[Study, Site]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A study of so many trials and seeds. A plugin is loaded from one place only, so all stand beside the same."""
    folder = tmp_path_factory.mktemp("large")

    def of(trials: int, seeds: int = 10) -> tuple[Study, Path]:
        path = write_study(folder, trials, seeds)
        return read_study(path), path

    return of


@pytest.fixture(scope="module")
def filled(written: Written, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A study of so many trials and seeds, and a store that holds all of it."""
    made: dict[tuple[int, int], tuple[Study, Site]] = {}

    def of(trials: int, seeds: int = 10) -> tuple[Study, Site]:
        if (trials, seeds) not in made:
            study, path = written(trials, seeds)
            store = tmp_path_factory.mktemp("runs")
            assert fill(path, store) == (trials, 2 * trials)
            made[trials, seeds] = study, Site(Store(store), store)
        return made[trials, seeds]

    return of


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often values are described and texts hashed, and how often each file is opened."""
    work: Counter[str] = Counter()
    members, sha256, opened = identity._members, identity.hashlib.sha256, builtins.open

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **keys: (work.update([name]), call(*arguments, **keys))[1]

    def opening(path: Any, *rest: Any, **keys: Any) -> Any:
        file = opened(path, *rest, **keys)  # those that are not there do not count
        work.update([str(path)])
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "_members", counting("described", members))
        patch.setattr(identity.hashlib, "sha256", counting("hashed", sha256))
        patch.setattr(builtins, "open", opening)
        yield work


def files(work: Counter[str]) -> list[int]:
    """How often each file of trials and measurements was opened."""
    return [times for name, times in work.items() if "/trials/" in name or "/measurements/" in name]


# Reading


@pytest.mark.parametrize("command", COMMANDS)
def test_twice_the_trials_are_at_most_twice_the_work(command, filled):
    found = []
    for trials in (40, 80):
        study, site = filled(trials)
        with counted() as work:
            COMMANDS[command](study, site)
        assert max(files(work)) == 1, "no file is read twice"
        found.append((work["described"], work["hashed"], len(files(work))))
    few, many = found
    assert all(one > 0 for one in few)
    assert all(more <= 2 * less for less, more in zip(few, many, strict=True)), found
    assert many[1] <= 3 * 80, "keys of a training and of two measurements for each trial"
    assert many[2] <= 4 * 80, "its record, its losses, and two measurements"


@pytest.mark.parametrize("command", COMMANDS)
def test_more_seeds_cost_no_descriptions(command, filled):
    """A plan is described for all its seeds at once."""
    found = []
    for trials, seeds in ((40, 10), (80, 20)):
        study, site = filled(trials, seeds)
        with counted() as work:
            COMMANDS[command](study, site)
        found.append(work["described"])
    assert found[0] == found[1] > 0


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("folder", ["trials", "measurements"])
def test_a_changed_default_is_refused_whichever_seed_has_it(command, folder, written, tmp_path):
    """That a plan is described once must not mean that one record is compared only."""
    study, path = written(8, 2)
    fill(path, tmp_path / "runs")
    site = Site(Store(tmp_path / "runs"), tmp_path)
    for seed in (0, 1):
        trial = compose_study(study)[-1].trials()[seed]
        record = site.store.folder / "trials" / trial.key / "record.json"
        kept = record.read_text()
        if folder == "trials":
            changed = record
            edited(changed, plan={**describe(trial.plan, full=True), "party": "other"})
        else:
            key = compose_study(study)[-1].probes(trial)[1].key
            changed = site.store.folder / "measurements" / f"{key}.json"
            kept = changed.read_text()
            edited(changed, measure={**json.loads(kept)["measure"], "strength": 77})
        with pytest.raises(UserError, match="party was 'other'" if folder == "trials" else "strength was 77") as caught:
            COMMANDS[command](study, site)
        assert changed.stem in str(caught.value) or trial.key in str(caught.value)
        changed.write_text(kept)
    COMMANDS[command](study, site)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["trials/*/record.json", "measurements/*.json"])
@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b'{"schema": 99}'])
def test_a_damaged_file_is_told(command, name, text, written, tmp_path):
    study, path = written(4, 1)
    fill(path, tmp_path / "runs")
    damaged = sorted((tmp_path / "runs").glob(name))[-1]
    damaged.write_bytes(text)
    site = Site(Store(tmp_path / "runs"), tmp_path)
    if b"99" in text:  # of a newer version: neither read nor replaced
        with pytest.raises(UserError, match="newer version") as caught:
            COMMANDS[command](study, site)
        assert str(damaged) in str(caught.value)
        return
    COMMANDS[command](study, site)
    place = damaged.relative_to(tmp_path / "runs").as_posix()
    failed = site.store.failure_keys()  # of a made-up trial, whose weights are no network's, nothing can be measured
    assert (place in inspected(site.store).damaged) == (command != "run" or bool(failed)), "a run makes it anew"
    assert bool(failed) == (command == "run" and name.startswith("measurements"))


def test_what_is_finished_is_read_once_and_what_comes_later_is_found(tmp_path):
    store = ReadOnce(tmp_path)
    assert store.record("plan-0") is store.measurement("probe-0") is None
    parts = {"plan": {"epochs": [1, 2]}, "environment": {"torch": "2"}}
    for seed in (0, 1, 2):
        other = {"environment": {"torch": "3"}} if seed == 2 else {}
        rest = {"schema": SCHEMA, "seed": seed, "finished": "", "execution": {}}
        Store(tmp_path).keep_sealed(f"trials/plan-{seed}/record.json", {**rest, "seconds": seed, **parts, **other})
    measured = {"schema": SCHEMA, "trial": "", "measure": {}, "metrics": {}, "warnings": []}
    Store(tmp_path).keep_measurement("probe-0", measured)
    records = [store.record(f"plan-{seed}") for seed in (0, 1, 2)]
    assert [record["seconds"] for record in records] == [0, 1, 2]
    assert [record["environment"]["torch"] for record in records] == ["2", "2", "3"]
    assert records[0]["plan"] is records[1]["plan"] is records[2]["plan"], "held once"
    assert store.measurement("probe-0") == measured
    assert store.record("plan-0") is records[0]
    assert store == ReadOnce(tmp_path)


# Driving


class Ticking:
    """A clock on which everything takes a second."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def driven(study: Study, folder: Path, trials: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The work of a run's driver, and the bytes that it writes."""
    site = Site(Store(folder / f"runs-{trials}"), folder)
    executor = Prepared(dict(results(study, site.store)))
    written: Counter[str] = Counter()
    replaced = Store._replace

    def counting(self: Store, name: str, content: bytes) -> Path:
        written["bytes"] += 0 if name.startswith("measurements") else len(content)
        return replaced(self, name, content)

    with counted() as work, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_replace", counting)
        console = Console(file=io.StringIO())
        with Progress(console, 1, study, site, "strict", lambda: 0.0) as progress:
            found = run_study(study, site, executor, progress, clock=lambda: 0.0)
    assert sum(len(cell.trials) for cell in found.cells.values()) == trials
    return Counter(
        described=work["described"], hashed=work["hashed"], opened=sum(files(work)), written=written["bytes"]
    )


def test_a_driver_does_as_much_for_each_trial_of_a_large_study(written, tmp_path, monkeypatch):
    few, many = (driven(written(trials)[0], tmp_path, trials, monkeypatch) for trials in (40, 80))
    assert all(few.values())
    assert all(many[what] <= 2 * few[what] for what in few), (few, many)


def test_trackers_are_not_noted_down_more_often_than_their_share(tmp_path, monkeypatch):
    """All that a tracker was told is written each time; a second for each of ten thousand trials would be hours."""
    monkeypatch.setattr(tracking_module.time, "monotonic", Ticking())
    listener = _Listener("name", lambda folder: None, "study", Store(tmp_path), lambda text: None)  # type: ignore[arg-type]
    kept = []
    monkeypatch.setattr(Store, "keep_sealed", lambda self, name, content: kept.append(content))
    for trial in range(1000):
        listener.told.add(f"{trial}")
        listener.keep_sparingly()
    assert 1 <= len(kept) <= 1000 / 20
    listener.keep()
    assert len(kept[-1]["told"]) == 1000, "the last one is not lost"


def test_a_view_takes_no_more_than_its_share_of_the_time(filled, monkeypatch):
    study, site = filled(40)
    looked = []
    monkeypatch.setattr(Board, "standing", lambda self: looked.append(self))
    progress = Progress(Console(file=io.StringIO()), 1, study, site, "strict", Ticking())
    progress._board, progress._verdicts, progress._shown = Board(study.name, {}, site.store), (), None  # type: ignore[assignment]
    for _ in range(200):
        progress._view()
    assert 2 <= len(looked) <= 200 / 10, "each look takes a second of this clock"


def test_workers_are_born_with_the_first_job():
    """A run that finds all done takes no time for them."""
    before = len(multiprocessing.active_children())
    with processes(2) as pool:
        assert len(multiprocessing.active_children()) == before
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
        assert len(multiprocessing.active_children()) > before


# What is remembered of values


@dataclass(frozen=True)
class Part:
    size: object
    inner: object = None


@dataclass(frozen=True, slots=True)
class Slotted:
    size: int


def test_a_value_is_looked_at_once_and_forgotten_with_it():
    looked: list[Any] = []
    look = Remembered(lambda value: (looked.append(value.size), value.size)[1])
    part = Part(3)
    assert [look(part), look(part)] == [3, 3]
    assert looked == [3]
    assert len(look._known) == 1
    del part
    gc.collect()
    assert look._known == {}


def test_equal_values_are_not_taken_for_each_other():
    """True == 1 == 1.0, and equal dataclasses hash alike; their descriptions differ."""
    values = [Part(1), Part(True), Part(1.0), Part((1,)), Part((True,))]
    assert fingerprint(values[0]) == fingerprint(values[2]) != fingerprint(values[1])
    assert fingerprint(values[3]) != fingerprint(values[4])


def test_a_later_value_at_the_same_place_in_memory_is_another_one():
    keys = {fingerprint(Part(number)) for number in range(500)}
    assert len(keys) == 500


def test_copies_and_pickles_take_nothing_along():
    """Another process may know other definitions of their classes."""
    part = Part(1, Part(2))
    key = fingerprint(part)
    assert vars(part) == {"size": 1, "inner": part.inner}
    copy = pickle.loads(pickle.dumps(part))
    assert vars(copy).keys() == {"size", "inner"}
    assert fingerprint(copy) == key
    assert fingerprint(replace(part, size=2)) not in (key, fingerprint(part.inner))


def test_a_value_that_cannot_be_referred_to_weakly_is_described_all_the_same():
    known = len(identity._text_of_dataclass._known)
    slotted = Slotted(3)
    assert fingerprint(slotted) == fingerprint(Slotted(3)) != fingerprint(Slotted(4))
    assert len(identity._text_of_dataclass._known) == known
