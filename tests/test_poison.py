"""A mechanism that does its worst costs its own trials and no others, whatever it does."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from guardclash.studies.engines import Inline, processes
from guardclash.studies.jobs import Site
from guardclash.studies.run import run_study
from running import Watcher, ran, study, values

POISON = """
import signal, sys
from guardclash.errors import UserError

class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text either")

def deed(how):
    if how == "exit":
        os._exit(7)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "flood":
        raise RuntimeError("first " + "x" * 5_000_000 + " last")
    if how == "signals":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return
    raise {
        "SystemExit": SystemExit(0), "KeyboardInterrupt": KeyboardInterrupt(), "UserError": UserError("mine"),
        "surrogate": RuntimeError("\\\\ud800"), "odd": Odd(), "memory": MemoryError(), "GeneratorExit": GeneratorExit(),
    }[how]

@dataclass(frozen=True)
class Poisoned:
    inner: Split
    how: str

    @property
    def size(self):
        return self.inner.size

    def load(self, context):
        if context.seed == 0:
            deed(self.how)
        return context.data(self.inner)

@dataclass(frozen=True)
class Poison(Mechanism):
    name: ClassVar[str] = "poison"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("luck", "luck", MaxDrop(0.1)),)
    how: str = ""
    late: bool = False
    def data(self, plan):
        if self.late:
            return plan
        return replace(plan, streams=(replace(plan.task, source=Poisoned(plan.task.source, self.how)),))
    def measure(self, trained, context):
        if self.late and context.seed == 0:
            deed(self.how)
        return {"luck": 1.0}
"""
RAISED = {
    "SystemExit": "SystemExit: 0",
    "KeyboardInterrupt": "KeyboardInterrupt",
    "UserError": "UserError: mine",
    "surrogate": r"RuntimeError: \ud800",
    "odd": "Odd: (RuntimeError when asked for its text)",
    "memory": "MemoryError",
    "GeneratorExit": "GeneratorExit",
}


def poisoned(load: Any, how: str, late: bool = False) -> Any:
    mechanism = {"name": "poison", "how": how, "late": late}
    return study([mechanism, "dpsgd-control"], plugins=[str(load(POISON))])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("how", RAISED)
def test_what_it_raises_is_noted_and_the_rest_goes_on(site, load, trained, how, late):
    wanted, watcher = poisoned(load, how, late), Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors and set(watcher.errors) == {RAISED[how]}
    assert values(content, ["poison", "dpsgd-control"])[1]["luck"] == 1.0, "of the seed that went well"
    assert values(content, ["dpsgd-control"])[0]["accuracy"] > 0
    assert len(trained.since()) == (8 if not late else 4)


def test_a_long_error_is_cut_wherever_it_is_kept(site, load):
    watcher = Watcher()
    ran(poisoned(load, "flood"), site, Inline(), watcher)
    assert all(len(error) < 11_000 and error.endswith(" last") for error in watcher.errors)
    files = [path for path in site.store.folder.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files if path.suffix == ".json") < 200_000


def test_it_may_not_change_what_signals_do(site, load):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    watcher = Watcher()
    ran(poisoned(load, "signals"), site, Inline(), watcher)
    assert not watcher.errors
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exit", "crash"])
def test_one_that_kills_its_process_is_noted_and_the_rest_goes_on(site, load, how):
    wanted, watcher = study([{"name": "poison", "how": how}], plugins=[str(load(POISON))]), Watcher()
    with processes(1, wanted.plugins) as executor:
        results = run_study(wanted, site, executor, watcher)
    died = "with exit code 7" if how == "exit" else "by SIGSEGV"
    assert watcher.errors == [f"WorkerLost: 2 processes that worked at it died: {died}"]
    missing = [cell for cell in results.cells.values() if len(cell.trials) < 2]
    assert missing == []
    assert sum(trial.error is not None for cell in results.cells.values() for trial in cell.trials) == 1
    assert sum(bool(trial.measurements) for cell in results.cells.values() for trial in cell.trials) == 3


def test_a_read_only_store_in_the_middle_is_one_message(site, load, monkeypatch):
    """Removing a note must not hide why the result could not be written."""
    from guardclash.errors import SiteError

    def read_only(*arguments: Any, **options: Any) -> None:
        raise OSError(30, "Read-only file system")

    wanted, trial = study(["dpsgd-control"], seeds=1), site.store.keep_trial

    def keep(*arguments: Any) -> None:
        for name in ("write_bytes", "unlink", "mkdir"):
            monkeypatch.setattr(Path, name, read_only)
        trial(*arguments)

    monkeypatch.setattr(type(site.store), "keep_trial", lambda self, *arguments: keep(*arguments))
    with pytest.raises(SiteError, match="Read-only file system"):
        run_study(wanted, Site(site.store, site.data_folder), Inline())
