"""What goes wrong in a run: it is told, nothing finished is lost, and the same command goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import pytest

from guardclash.errors import UserError
from guardclash.records.cells import Named
from guardclash.records.file import read_results
from guardclash.records.plain import to_plain
from guardclash.studies import jobs
from guardclash.studies.engines import Inline, Later
from guardclash.studies.trials import Trial
from running import Watcher, keys_in, ran, report, study, values

# Failures


BREAKS_FOR_ONE_SEED = """
@dataclass(frozen=True)
class Breaking:
    inner: Split

    @property
    def size(self):
        return self.inner.size

    def load(self, context):
        if context.seed == 1 and os.environ.get("BREAK_SEED_ONE"):
            raise RuntimeError("no such luck [today]")
        return context.data(self.inner)

@dataclass(frozen=True)
class Fragile(Mechanism):
    name: ClassVar[str] = "fragile"
    concern: ClassVar[str] = "none"
    def data(self, plan):
        return replace(plan, streams=(replace(plan.task, source=Breaking(plan.task.source)), *plan.streams[1:]))
"""


def test_a_failing_trial_is_noted_the_others_go_on_and_a_later_run_tries_again(site, load, trained, monkeypatch):
    wanted = study(["dpsgd-control", "fragile"], plugins=[str(load(BREAKS_FOR_ONE_SEED))])
    monkeypatch.setenv("BREAK_SEED_ONE", "yes")
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == ["RuntimeError: no such luck [today]"] * 2
    assert len(watcher.jobs) == len(trained.since()) == 8
    assert all(values(content, names)[0] for names in ([], ["dpsgd-control"], ["fragile"]))
    assert values(content, ["dpsgd-control", "fragile"])[1] == {}
    text = report(wanted, content)
    both = "digits/smoke {fragile}, {dpsgd-control, fragile}"
    assert f"{both}: seed 1 failed: RuntimeError: no such luck [today]" in " ".join(text.split())
    assert "together: 1 of 2" in text
    assert len(list((site.store.folder / "failures").iterdir())) == 2

    again = ran(wanted, site, Inline())
    assert len(trained.since()) == 2
    assert {**again, "written": ""} == {**content, "written": ""}

    monkeypatch.delenv("BREAK_SEED_ONE")
    watcher = Watcher()
    mended = ran(wanted, site, Inline(), watcher)
    assert len(trained.since()) == 2
    assert watcher.errors == []
    assert list((site.store.folder / "failures").iterdir()) == []
    assert values(mended, ["dpsgd-control", "fragile"])[1]["accuracy"] > 0
    assert "failed" not in report(wanted, mended)


def test_a_training_that_diverges_is_a_failed_trial(site):
    wild = {"learning_rate": 1e30, "first_learning_rate": 1e30}
    wanted = study(["dpsgd-control"], seeds=1, recipe=wild)
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert len(watcher.errors) == 2
    assert all("Diverged: the loss of stream 'task' is" in error for error in watcher.errors)
    assert keys_in(site.store) == set()
    assert "seed 0 failed: " in report(wanted, content)
    assert list((site.store.folder / "work").iterdir()) == []


BREAKS_IN_A_STEP = """
@dataclass(frozen=True)
class Raising:
    def __call__(self, network, losses, rng):
        raise RuntimeError("broken step")

@dataclass(frozen=True)
class Broken(Mechanism):
    name: ClassVar[str] = "broken"
    concern: ClassVar[str] = "none"
    def gradient(self, stream, plan):
        return replace(stream, gradient=Raising())
"""


def test_a_step_that_raises_is_a_failed_trial_too(site, load):
    """It must not stop the study by way of the estimate, which runs a few steps."""
    wanted = study(["wm", "broken"], seeds=1, plugins=[str(load(BREAKS_IN_A_STEP))])
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == ["RuntimeError: broken step"] * 2
    assert values(content, ["wm"])[0]["accuracy"] > 0


BREAKS_IN_MEASURING = """
@dataclass(frozen=True)
class Unmeasurable(Mechanism):
    name: ClassVar[str] = "unmeasurable"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("luck", "luck", MaxDrop(0.1)),)
    def measure(self, trained, context):
        if os.environ.get("BREAK_MEASURE"):
            raise RuntimeError("cannot measure")
        return {"luck": 1.0}
"""


def test_a_measurement_that_fails_is_told_and_keeps_no_other_from_being_made(site, load, trained, monkeypatch):
    wanted = study(["unmeasurable", "wm"], seeds=1, plugins=[str(load(BREAKS_IN_MEASURING))])
    monkeypatch.setenv("BREAK_MEASURE", "yes")
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert set(watcher.errors) == {"RuntimeError: cannot measure"}
    assert len(trained.since()) == 2
    for names in ([], ["unmeasurable"], ["unmeasurable", "wm"]):
        assert values(content, names)[0].keys() == {"accuracy", "wm_accuracy", "wm_log10_p"}
    assert "RuntimeError: cannot measure" in report(wanted, content), "a reader must learn why a value is missing"

    monkeypatch.delenv("BREAK_MEASURE")
    mended = ran(wanted, site, Inline())
    assert trained.since() == []
    assert values(mended, ["unmeasurable", "wm"])[0]["luck"] == 1.0
    failures = site.store.folder / "failures"
    assert not failures.exists() or list(failures.iterdir()) == [], "status would tell a failure that is none any more"
    assert "cannot measure" not in report(wanted, mended)


UNDECLARED = """
@dataclass(frozen=True)
class Undeclared(Mechanism):
    name: ClassVar[str] = "undeclared"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("declared", "d", MaxDrop(0.1)),)
    def measure(self, trained, context):
        return {"other": 1.0}
"""


def test_a_metric_that_is_not_declared_is_told(site, load):
    watcher = Watcher()
    ran(study(["undeclared"], seeds=1, plugins=[str(load(UNDECLARED))]), site, Inline(), watcher)
    assert watcher.errors
    for error in watcher.errors:
        assert "Undeclared.measure()" in error
        assert "'other'" in error
        assert "'declared'" in error


INFINITE = """
@dataclass(frozen=True)
class Infinite(Mechanism):
    name: ClassVar[str] = "infinite"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("log_p", "log p", None, False, log10=True),)
    def measure(self, trained, context):
        return {"log_p": float(os.environ["LOG_P"])}
"""


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_value_that_is_no_number_is_told_by_name(site, load, monkeypatch, value):
    monkeypatch.setenv("LOG_P", value)
    watcher = Watcher()
    ran(study(["infinite"], seeds=1, plugins=[str(load(INFINITE))]), site, Inline(), watcher)
    assert watcher.errors
    assert all("log_p" in error for error in watcher.errors)


def test_a_p_value_of_zero_is_kept(site, load, monkeypatch):
    """Its logarithm is minus infinity, which `Metric.sample` takes for its floor; so it must get that far."""
    monkeypatch.setenv("LOG_P", "-inf")
    watcher = Watcher()
    content = ran(study(["infinite"], seeds=1, plugins=[str(load(INFINITE))]), site, Inline(), watcher)
    assert watcher.errors == []
    assert values(content, ["infinite"])[0]["log_p"] <= -324


def test_missing_data_stops_a_run_with_one_message(site):
    wanted = replace(study(["wm"], seeds=1), recipes=(Named("mnist", (("scale", "smoke"),)),))
    with pytest.raises(UserError, match="mnist") as caught:
        ran(wanted, site, Inline())
    assert str(site.data_folder) in str(caught.value)
    assert "guardclash data fetch mnist" in str(caught.value)
    assert (site.store.folder / "studies" / "study.json").is_file(), "the results are kept up to date all the same"


def test_damaged_weights_are_told_with_the_file_and_made_anew(site, trained):
    wanted = study(["dpsgd-control"], seeds=1)
    ran(wanted, site, Inline())
    for path in (site.store.folder / "measurements").iterdir():
        path.unlink()
    weights = next((site.store.folder / "trials").glob("*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    trained.since()
    watcher = Watcher()
    ran(wanted, site, Inline(), watcher)
    assert len(trained.since()) == 1, "it is trained anew"
    assert [flaw for done in watcher.jobs for flaw in done.damaged] == [
        f"trials/{weights.parent.name}/weights.safetensors: its checksum does not fit"
    ]


def test_an_interruption_keeps_what_is_finished(site, trained, monkeypatch):
    wanted = study(["wm"], seeds=2)
    keep = jobs._keep

    def interrupted(trial: Trial, *rest: Any) -> None:
        keep(trial, *rest)
        if len(trained.trials) == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_keep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ran(wanted, site, Inline())
    assert len(trained.since()) == len(keys_in(site.store)) == 2
    results = read_results(site.store.folder / "studies" / "study.json")
    assert sum(len(cell["trials"]) for cell in to_plain(results)["cells"]) == 2
    content = ran(wanted, site, Inline())
    assert len(trained.since()) == 2
    assert values(content, ["wm"]).keys() == {0, 1}


class Dying(Inline):
    """Workers of which one is killed, by the kernel perhaps, when some jobs are done."""

    left = 2 + 2  # two plans are timed first

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Later:
        def work() -> Any:
            if not self.left:
                raise BrokenProcessPool("a process in the pool was terminated abruptly")
            self.left -= 1
            return fn(*args)

        return Later(work)


def test_a_killed_worker_is_told_and_the_same_command_goes_on(site, trained):
    wanted = study(["dpsgd-control"])
    with pytest.raises(UserError, match="a worker process was killed") as caught:
        ran(wanted, site, Dying())
    assert "same command" in str(caught.value)
    assert len(trained.since()) == len(keys_in(site.store)) == 2
    results = read_results(site.store.folder / "studies" / "study.json")
    assert sum(len(cell["trials"]) for cell in to_plain(results)["cells"]) == 2
    ran(wanted, site, Inline())
    assert len(trained.since()) == 2
