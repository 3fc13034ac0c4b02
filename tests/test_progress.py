"""Following a run: notes of work under way, where a study stands, the time left, and what the terminal shows of it."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from rich.console import Console

from guardclash.judging.criteria import MaxDrop, Metric
from guardclash.judging.judge import Look, judge
from guardclash.judging.stats import Sample
from guardclash.judging.verdict import Verdict
from guardclash.planning import standing as status
from guardclash.studies import jobs, measuring
from guardclash.studies.activity import alive, noted, notes
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.estimating import trials_of
from guardclash.studies.files import SCHEMA
from guardclash.studies.jobs import Site, run_job
from guardclash.studies.run import completed, waves
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from
from guardclash.watching import progress as progress_module
from guardclash.watching.board import Board, Standing
from guardclash.watching.forecast import Means
from guardclash.watching.progress import Progress
from guardclash.watching.tasks import Followed, learnt_kinds, tasks
from guardclash.watching.view import decided, left, view
from running import edited, ran

HERE = Path("/proc/self/stat").exists()
NOW = 2e9


def standing_clock() -> float:
    """A test that takes long on a busy machine takes no time by this one."""
    return NOW


def study(*combinations: list[Any], seeds: int = 2, **keys: Any) -> Study:
    return study_from(
        {
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [{"mechanisms": mechanisms} for mechanisms in combinations],
            "replicates": {"alone": seeds, "together": seeds},
            **keys,
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def shown(*parts: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


# Notes


def test_a_note_is_there_while_the_work_is(store):
    with noted(store, "abc-0.progress", epochs=5, epoch=0) as note:
        (found,) = notes(store, "progress").values()
        assert (found["epochs"], found["epoch"], found["pid"]) == (5, 0, os.getpid())
        note(epoch=2, losses={"task": 0.5, "trigger": math.nan})
        again = notes(store, "progress")["abc-0"]
        assert (again["epochs"], again["epoch"]) == (5, 2)
        assert again["losses"] == {"task": 0.5, "trigger": None}, "what is not finite is no JSON"
        assert again["started"] == found["started"] <= again["written"]
        assert notes(store, "measuring") == {}
    assert list((store.folder / "work").iterdir()) == []


def test_a_note_goes_when_the_work_fails(store):
    with pytest.raises(RuntimeError), noted(store, "abc-0.measuring"):
        raise RuntimeError
    assert list((store.folder / "work").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": null}', '{"pid": "x"}'])
def test_what_is_no_note_is_passed_over(store, text):
    (store.folder / "work").mkdir(parents=True)
    (store.folder / "work" / "abc-0.progress.json").write_text(text)
    assert notes(store, "progress") == {}


@pytest.mark.skipif(not HERE, reason="looks at processes through /proc")
def test_a_dead_process_has_no_notes():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert alive({"pid": os.getpid()})
    assert not alive({"pid": process.pid})
    assert not alive({"pid": os.getpid(), "born": -1}), "its number was given to another process"
    assert alive({"pid": process.pid, "host": "another-machine"}), "nobody can tell from here"


# Where a study stands


@dataclass
class FollowedStudy:
    """A study, its trials and a board of them."""

    study: Study
    store: Store

    def __post_init__(self) -> None:
        composed = compose_study(self.study)
        self.tasks = tasks(self.study, composed)
        self.board = Board(self.study.name, self.tasks, self.store, standing_clock)

    def task(self, what: str, seed: int) -> Followed:
        (found,) = [task for task in self.tasks.values() if (task.what, task.seed) == (what, seed)]
        return found

    def train(self, task: Followed, seconds: float) -> None:
        empty = {"seed": task.seed, "plan": {}, "finished": "", "execution": {}, "environment": {}}
        self.store.keep_sealed(f"trials/{task.key}/record.json", {"schema": SCHEMA, **empty, "seconds": seconds})

    def measure(self, task: Followed, seconds: float | None = 1.0) -> None:
        for probe in (
            probe for entry in compose_study(self.study) for trial in entry.trials() for probe in entry.probes(trial)
        ):
            if probe.trial.key == task.key:
                measure = {"type": type(probe.measure).__name__}
                content = {"schema": SCHEMA, "trial": task.key, "measure": measure, "metrics": {}, "warnings": []}
                content |= {"seconds": seconds} if seconds is not None else {}
                self.store.keep_measurement(probe.key, content)

    def standing(self) -> Standing:
        return self.board.standing()

    def counts(self) -> tuple[int, int, int, int]:
        now = self.standing()
        return now.done, now.running, now.waiting, now.failed


@pytest.fixture
def followed(store: Store) -> FollowedStudy:
    return FollowedStudy(study(["wm", "dpsgd-control"]), store)


def test_trials_are_counted_once_and_named(followed):
    assert followed.counts() == (0, 0, 8, 0)
    assert not followed.store.folder.exists(), "looking changes nothing"
    names = {task.label for task in followed.tasks.values()}
    assert "digits/smoke {wm, dpsgd-control}, seed 1" in names
    assert len(names) == 8
    assert [asked.of for asked in followed.task("{wm}", 0).asked] == ["accuracy", "wm"]
    assert left(followed.standing()) == "nothing runs"


def test_a_trial_is_done_when_it_is_trained_and_measured(followed):
    task = followed.task("{wm}", 0)
    followed.train(task, 10.0)
    assert followed.counts() == (0, 0, 8, 0)
    followed.measure(task)
    assert followed.counts() == (1, 0, 7, 0)
    with noted(followed.store, f"{task.key}.progress", epochs=2, epoch=0):
        assert followed.counts() == (1, 0, 7, 0), "a note that another run has not removed yet"


def test_a_failure_counts_until_a_run_tries_again(followed):
    task = followed.task("{}", 1)
    followed.store.keep_failure(task.key, "Traceback: boom")
    assert followed.counts() == (0, 0, 7, 1)
    path = followed.store.folder / "failures" / f"{task.key}.json"
    edited(path, time="2001-01-01T00:00:00Z")
    assert followed.counts() == (0, 0, 7, 1)
    with noted(followed.store, "study-1.run", study="study", workers=1, estimates={}):
        assert followed.counts() == (0, 0, 8, 0)
        followed.store.keep_failure(task.key, "Traceback: boom again")
        assert followed.counts() == (0, 0, 7, 1)
    with noted(followed.store, "other-1.run", study="other", workers=1, estimates={}):
        assert followed.standing().runs == 0


def test_work_under_way_is_told_with_epoch_losses_and_time(followed):
    first, second = followed.task("{wm}", 0), followed.task("{}", 0)
    followed.train(second, 3.0)
    with (
        noted(followed.store, f"{first.key}.progress", standing_clock, epochs=20, epoch=0) as note,
        noted(followed.store, f"{second.asked[1].key}.measuring", standing_clock) as count,
    ):
        note(epoch=5, losses={"task": 0.25, "trigger": 1.5}, started=NOW - 50)
        standing = followed.standing()
        assert (standing.running, standing.waiting) == (2, 6)
        measuring, training = standing.underway
        assert (training.task, training.doing) == (first, "epoch 5 of 20")
        assert training.so_far == pytest.approx(50)
        assert training.left == pytest.approx(150), "ten seconds for each of five epochs"
        assert (measuring.task, measuring.doing, measuring.left) == (second, "measuring wm", None)
        text = shown(view(standing, [], "strict"))
        count(done=3, of=12)
        assert followed.standing().underway[0].doing == "measuring wm, 3 of 12"
    assert "0 of 8 trials done, 2 running, 6 waiting, 0 failed" in text
    assert "digits/smoke {wm}, seed 0" in text
    assert "epoch 5 of 20   loss: task 0.25, trigger 1.5   50 s so far, 2 min 30 s left" in text
    assert "measuring wm" in text


# The time left


def test_a_mean_is_taken_of_the_most_alike():
    means = Means()
    assert means.expect(["plan", "sort"]) is None
    means.learn(["other", "sort"], 10.0)
    assert means.expect(["plan", "sort"]) == 10.0
    means.learn(["plan", "sort"], 2.0)
    means.learn(["plan", "sort"], 4.0)
    assert means.expect(["plan", "sort"]) == 3.0
    assert means.expect(["sort"]) == pytest.approx(16 / 3)


def test_kinds_of_measurements_in_the_store_are_those_of_a_study(tmp_path):
    """Durations would never be found again otherwise."""
    wanted = study(["wm", "dpsgd-control"], seeds=1)
    site = Site(Store(tmp_path / "runs"), tmp_path / "data")
    ran(wanted, site, Inline())
    for task in tasks(wanted, compose_study(wanted)).values():
        for asked in task.asked:
            found = site.store.measurement(asked.key)
            assert found["seconds"] > 0
            assert learnt_kinds(asked.key, found) == asked.kinds


def run_note(followed: FollowedStudy, workers: int = 2, seconds: float = 10.0) -> Any:
    estimates = dict.fromkeys(followed.tasks, seconds)
    return noted(followed.store, "study-1.run", study="study", workers=workers, estimates=estimates)


def test_the_time_left_counts_measuring_as_soon_as_one_is_timed(followed):
    """Otherwise minutes of measuring are announced as 0 s."""
    with run_note(followed):
        start = followed.standing()
        assert (start.left, start.untimed) == (8 * 10 / 2, sum(len(task.asked) for task in followed.tasks.values()))
        assert left(start) == f"40 s left and {start.untimed} steps of unknown length"
        first = followed.task("{}", 0)
        followed.train(first, 10.0)
        followed.measure(first, 60.0)
        later = followed.standing()
        assert later.untimed < start.untimed
        known = start.untimed - len(first.asked) - later.untimed
        assert known > 0
        assert later.left == pytest.approx((7 * 10 + known * 60) / 2)
        with noted(followed.store, f"{followed.task('{}', 1).asked[0].key}.measuring", standing_clock):
            assert followed.standing().left > 100


def test_a_measurement_that_takes_longer_than_ever_has_time_left(followed):
    first, second = followed.task("{}", 0), followed.task("{}", 1)
    for task in (first, second):
        followed.train(task, 1.0)
    followed.measure(first, 5.0)
    with noted(followed.store, f"{second.asked[0].key}.measuring", standing_clock) as note:
        note(started=NOW - 100)
        (one,) = followed.standing().underway
        assert one.left == pytest.approx(10)


def test_measurements_of_before_durations_were_noted_teach_nothing(followed):
    task = followed.task("{}", 0)
    followed.train(task, 1.0)
    followed.measure(task, None)
    assert followed.standing().done == 1
    with run_note(followed):
        assert followed.standing().untimed > 0


def test_estimates_are_scaled_by_how_they_fared(followed):
    """By plan where a seed is finished, else by all of them; a training under way counts at its speed."""
    fast, slow = followed.task("{}", 0), followed.task("{wm}", 0)
    for task in followed.tasks.values():
        followed.measure(task, 0.0)
    with run_note(followed, workers=1):
        assert followed.standing().left == 80
        followed.train(fast, 20.0)
        assert followed.standing().left == pytest.approx(7 * 20)
        followed.train(slow, 60.0)
        assert followed.standing().left == pytest.approx(20 + 60 + 4 * 40)
        with noted(
            followed.store, f"{followed.task('{dpsgd-control}', 0).key}.progress", standing_clock, epochs=10, epoch=0
        ) as note:
            note(epoch=5, losses={}, started=NOW - 50)
            assert followed.standing().left == pytest.approx(20 + 60 + 50 + 100 + 2 * 60)


def test_the_last_training_is_not_halved_by_idle_workers(followed):
    for task in followed.tasks.values():
        followed.measure(task, 0.0)
        if task != followed.task("{wm}", 1):
            followed.train(task, 10.0)
    with run_note(followed, workers=8):
        assert followed.standing().left == 10.0


# Verdicts


def verdict(names: tuple[str, ...], together: float, asked: int) -> Verdict:
    mark = Metric("mark", "φ_MARK", MaxDrop(0.3))
    samples = (Sample.of(0.9, 0.01, 5), Sample.of(together, 0.01, 5))
    judged = judge(mark, mark.criterion, *samples, look=Look((5, asked)))
    return Verdict("digits/smoke", names, (judged,))


def test_verdicts_are_shown_when_they_can_be_given(followed):
    """Not before all replicates are there: looking early and often would find conflicts by chance."""
    found = [verdict(("a", "b"), 0.1, 5), verdict(("a", "c"), 0.1, 10), Verdict("digits/smoke", ("d",), (), "no way")]
    assert decided(found, "strict") == {
        "digits/smoke {a, b}": "[bold red]conflict[/] (φ_MARK)",
        "digits/smoke {d}": "[magenta]clash[/]",
    }
    text = shown(view(followed.standing(), found, "strict"))
    assert "verdicts (strict): 2 of 3 combinations are measured enough" in text
    assert "conflict (φ_MARK)  digits/smoke {a, b}" in text
    assert "{a, c}" not in text
    many = [verdict((f"a{number}", "b"), 0.9, 5) for number in range(30)]
    short = shown(view(followed.standing(), many, "strict", 12), width=40)
    assert len(short.splitlines()) <= 12
    assert "and 22 more" in short


# Progress


def told(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Store(tmp_path / "runs"), tmp_path / "data")


def test_without_a_terminal_there_are_few_lines(site):
    wanted = study(["wm", "dpsgd-control"], seeds=1)
    console = Console(file=io.StringIO(), width=200)
    with Progress(console, 1, wanted, site, "strict", standing_clock) as progress:
        ran(wanted, site, Inline(), progress, clock=standing_clock)
    first, last = told(console).splitlines()
    assert first.startswith("4 models to train, about ")
    assert first.endswith(" with 1 at a time; 8 values to measure, 8 steps never timed yet")
    assert last == "4 of 4 done, 0 s left"
    with Progress(console, 1, wanted, site, "strict", standing_clock) as progress:
        ran(wanted, site, Inline(), progress, clock=standing_clock)
    assert told(console).splitlines()[2:] == ["nothing to train or measure: all is in the store"]


def test_lines_tell_failures_and_verdicts_as_they_come(site, monkeypatch):
    monkeypatch.setattr("guardclash.studies.run._Sparingly.again", lambda self: self._work())
    recipes = [{"dataset": "digits", "scale": "smoke", "norm": norm} for norm in ("batch", "group")]
    wanted = study(["wm", "dpsgd-control"], seeds=1, recipes=recipes)
    train = jobs.train

    def failing(plan: Any, *rest: Any) -> Any:
        if plan.model.norm == "group" and len(plan.streams) == 1:
            raise RuntimeError("no such luck [today]")
        return train(plan, *rest)

    monkeypatch.setattr(jobs, "train", failing)
    console = Console(file=io.StringIO(), width=300)
    with Progress(console, 1, wanted, site, "strict", standing_clock) as progress:
        ran(wanted, site, Inline(), progress, clock=standing_clock)
    assert progress.failed == 2
    _, decided, *failed, last = told(console).splitlines()
    assert decided == "digits/smoke (norm=batch) {wm, dpsgd-control}: undecided"
    assert len(failed) == 2
    assert all(re.fullmatch(r"trial \w+-0 failed: RuntimeError: no such luck \[today\]", line) for line in failed)
    assert last == "8 of 8 done, 0 s left"


def test_on_a_terminal_the_view_is_kept_up_to_date_and_status_shows_the_same(site, monkeypatch):
    monkeypatch.setattr(progress_module, "REFRESHED_PER_SECOND", 50.0)
    wanted = study(["wm", "dpsgd-control"], seeds=1)
    console = Console(file=io.StringIO(), width=100, height=40, force_terminal=True, _environ={"TERM": "xterm"})
    seen: list[str] = []
    views: list[Standing] = []
    train, end = jobs.train, time.monotonic() + 90
    monkeypatch.setattr(progress_module, "view", lambda now, *rest: (views.append(now), view(now, *rest))[1])

    def slow(plan: Any, context: Any, execution: Any, log: Any) -> Any:
        trained = train(plan, context, execution, log)
        seen.append(shown(*status(wanted, site, "strict"), width=140))
        views.clear()
        while len(views) < 3:  # by the thread that refreshes; the second one begins now at the earliest, and is shown
            assert time.monotonic() < end, "no view came"
            time.sleep(0.01)
        return trained

    monkeypatch.setattr(jobs, "train", slow)
    with Progress(console, 1, wanted, site, "strict", standing_clock) as progress:
        ran(wanted, site, Inline(), progress, clock=standing_clock)
    for text in (told(console), "".join(seen)):
        assert "1 of 4 trials done, 1 running, 2 waiting, 0 failed" in text
        assert "digits/smoke {wm}, seed 0" in text
        assert "epoch 2 of 2   loss: task" in text
        assert "verdicts (strict): 0 of 1 combinations are measured enough" in text
        assert " left" in text
    assert "seed 0: epoch 2 of 2" in seen[0]
    after = shown(*status(wanted, site, "strict"), width=140)
    assert "4 of 4 trials done, 0 running, 0 waiting, 0 failed" in after
    assert "verdicts (strict): 1 of 1 combinations are measured enough" in after
    assert "epoch" not in after
    assert list((site.store.folder / "work").iterdir()) == []


def test_measuring_is_shown(site, monkeypatch):
    wanted = study(["wm", "dpsgd-control"], seeds=1)
    seen = []
    values = measuring.values_of

    def looking(*arguments: Any) -> Any:
        seen.append(shown(*status(wanted, site, "strict"), width=140))
        return values(*arguments)

    monkeypatch.setattr(measuring, "values_of", looking)
    ran(wanted, site, Inline())
    assert "seed 0: measuring" in seen[0]
    assert re.search(r"    measuring accuracy   [\d.]+ s so far", seen[0])
    assert re.search(r"    measuring wm   [\d.]+ s so far", seen[1])
    assert "left" in seen[-1], "others of its kind were timed by then"


def test_a_view_that_cannot_be_made_does_not_end_the_run(site, monkeypatch):
    calls: list[Board] = []
    standing = Board.standing

    def broken(self: Board) -> Standing:
        if self in calls:
            raise ValueError("another process is at it")
        calls.append(self)
        return standing(self)

    wanted = study(["dpsgd-control"], seeds=1)
    monkeypatch.setattr(Board, "standing", broken)
    for terminal in (True, False):
        console = Console(file=io.StringIO(), width=100, force_terminal=terminal, _environ={"TERM": "xterm"})
        with Progress(console, 1, wanted, site, "strict") as progress:
            assert ran(wanted, site, Inline(), progress)["cells"]
        assert "ValueError" not in told(console)
        assert terminal or "time left unknown" in told(console)
        shutil.rmtree(site.store.folder)


def test_results_come_as_they_finish():
    """A slow first job does not hide those that are done; futures of other libraries come in order."""
    with ThreadPoolExecutor(2) as pool:
        told = Event()
        slow = pool.submit(lambda: "slow" if told.wait(30) else "not told of the fast one")
        results = completed({"first": slow, "second": pool.submit(lambda: "fast")})
        job, future = next(results)
        assert (job, future.result()) == ("second", "fast")
        told.set()
        assert [(job, future.result()) for job, future in results] == [("first", "slow")]
    calls: list[str] = []
    lazy = [Inline().submit(calls.append, name) for name in ("first", "second")]
    results = completed({0: lazy[0], 1: lazy[1]})
    next(results)[1].result()
    assert calls == ["first"], "one at a time, when it is asked for"
    assert list(completed({})) == []


def test_json_of_notes_is_strict(store):
    with noted(store, "abc-0.progress", epochs=1, epoch=1, losses={"task": math.inf}):
        (path,) = (store.folder / "work").iterdir()
        json.loads(path.read_text(), parse_constant=pytest.fail)


def test_a_study_that_adds_seeds_counts_those_that_it_needs_now(site):
    """And it may start several times in one run, which continues the count."""
    adding = study(["wm", "dpsgd-control"], replicates={"start": 3, "most": 9})
    composed = compose_study(adding)
    three = tuple(replace(entry, seeds=entry.seeds[:3]) for entry in composed)
    console = Console(file=io.StringIO(), width=200)
    with Progress(console, 1, adding, site, "strict") as progress:
        for _ in range(2):
            rounds = waves(three, site.store)
            progress.started(rounds, dict.fromkeys(trials_of(rounds, site.store), 1.0))
            if rounds:
                assert progress._board.standing().trials == 12
            for job in (job for wave in rounds for job in wave):
                progress.done(run_job(job, site))
    assert "12 models to train, about 12 s with 1 at a time; 24 values to measure" in told(console)
    assert "12 of 12 done" in told(console)
    assert "nothing to train" not in told(console)
