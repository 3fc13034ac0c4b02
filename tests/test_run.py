"""Running studies: what is trained, what is shared, what is kept, and what happens when something fails."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.plan.identity import fingerprint
from guardclash.plan.plan import Plan
from guardclash.reporting.text import render
from guardclash.studies import jobs
from guardclash.studies.engines import Inline, Later
from guardclash.studies.jobs import Done, Job, Site
from guardclash.studies.results import Results, read_results
from guardclash.studies.run import Together, estimates, run_study, trials_of, waves
from guardclash.studies.store import Store
from guardclash.studies.study import Named, Study
from guardclash.studies.study_file import study_from
from guardclash.studies.trials import Trial, compose_study, depth, needed_trials
from guardclash.studies.verdicts import verdicts
from guardclash.training.context import RunContext

GRADIENT_SIGN = Path(__file__).parent / "plugins" / "gradient_sign.py"
SMOKE = {"dataset": "digits", "scale": "smoke"}
RELAXED = {"name": "dpsgd", "on": ["task"]}


def study(*combinations: list[Any], seeds: int = 2, recipe: dict[str, Any] | None = None, **keys: Any) -> Study:
    """A study of digits that trains in seconds."""
    return study_from(
        {
            "recipes": [{**SMOKE, **(recipe or {})}],
            "combinations": [{"mechanisms": mechanisms} for mechanisms in combinations],
            "replicates": {"alone": seeds, "together": seeds},
            **keys,
        }
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Store(tmp_path / "runs"), tmp_path / "data")


@dataclass
class Trained:
    """The trainings that really happened."""

    trials: list[tuple[str, int]] = field(default_factory=list)

    def since(self) -> list[tuple[str, int]]:
        """Those since the last call."""
        new, self.trials = self.trials, []
        return new


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Counts what is trained from here on."""
    counted, train = Trained(), jobs.train

    def counting(plan: Plan, context: RunContext, *rest: Any) -> Any:
        counted.trials.append((fingerprint(plan), context.seed))
        return train(plan, context, *rest)

    monkeypatch.setattr(jobs, "train", counting)
    return counted


@dataclass
class Watcher:
    """Remembers how a run went."""

    waves: tuple[tuple[Job, ...], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    jobs: list[Done] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    def started(self, waves: tuple[tuple[Job, ...], ...], seconds: dict[str, float]) -> None:
        self.waves, self.seconds = waves, seconds

    def done(self, done: Done) -> None:
        self.jobs.append(done)

    def collected(self, results: dict[str, Any]) -> None:
        self.results = results

    @property
    def errors(self) -> list[str]:
        return [done.error for done in self.jobs if done.error]


Load = Callable[..., Path]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Writes the source of a plugin under a name of its own; forgets it afterwards."""
    names: list[str] = []

    def load_plugin(source: str) -> Path:
        names.append(f"plugin_{uuid.uuid4().hex}")
        path = tmp_path / f"{names[-1]}.py"
        path.write_text(HEAD + source)
        return path

    yield load_plugin
    for loaded in [loaded for loaded in sys.modules if any(name in loaded for name in names)]:
        del sys.modules[loaded]


HEAD = """
from __future__ import annotations
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from guardclash.judging.criteria import Floor, MaxDrop, Metric
from guardclash.mechanism import Mechanism
from guardclash.plan.plan import Data, Plan
from guardclash.plan.sources import Split

"""


def values(content: dict[str, Any], combination: list[str]) -> dict[int, dict[str, float]]:
    """All metrics by seed of the cell whose mechanisms have these names."""
    (cell,) = [cell for cell in content["cells"] if [named["name"] for named in cell["combination"]] == combination]
    return {
        trial["seed"]: {name: value for entry in trial["measurements"] for name, value in entry["values"].items()}
        for trial in cell["trials"]
    }


def keys_in(store: Store) -> set[str]:
    return {path.name for path in (store.folder / "trials").glob("*")}


def report(wanted: Study, content: dict[str, Any]) -> str:
    return render(wanted, Results(content), wanted.rule)


# Trained once, never twice


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Site, dict[str, Any], Watcher, Trained]:
    """{wm, dpsgd}, joint and relaxed, on digits with two seeds."""
    folder = tmp_path_factory.mktemp("finished")
    site = Site(Store(folder / "runs"), folder / "data")
    wanted = study(["wm", "dpsgd"], ["wm", RELAXED])
    with pytest.MonkeyPatch.context() as patch:
        counted, train = Trained(), jobs.train

        def counting(plan: Plan, context: RunContext, *rest: Any) -> Any:
            counted.trials.append((fingerprint(plan), context.seed))
            return train(plan, context, *rest)

        patch.setattr(jobs, "train", counting)
        watcher = Watcher()
        content = run_study(wanted, site, Inline(), watcher)
    return wanted, site, content, watcher, counted


def test_equal_work_is_trained_once(finished):
    """Six cells of two seeds; {dpsgd} and {dpsgd(on=task)} alone are one training."""
    _, site, _, watcher, counted = finished
    assert len(counted.trials) == 10
    assert set(Counter(counted.trials).values()) == {1}
    assert keys_in(site.store) == {f"{plan}-{seed}" for plan, seed in counted.trials}
    assert watcher.errors == []
    assert len(watcher.jobs) == 10
    assert watcher.seconds.keys() == keys_in(site.store)
    assert all(seconds > 0 for seconds in watcher.seconds.values())


def test_every_cell_has_every_value(finished):
    _, site, content, _, _ = finished
    assert content == json.loads((site.store.folder / "studies" / "study.json").read_text())
    assert len(content["cells"]) == 6
    for cell in content["cells"]:
        assert [trial["seed"] for trial in cell["trials"]] == [0, 1]
        names = [named["name"] for named in cell["combination"]]
        for trial in cell["trials"]:
            found = {name for entry in trial["measurements"] for name in entry["values"]}
            expected = {"accuracy"}
            expected |= {"wm_accuracy", "wm_log10_p"}  # without the mark: its false-positive level
            expected |= {"epsilon"} if "dpsgd" in names else set()
            assert found == expected, names
    assert len(content["environments"]) == 1
    assert content["environments"][0].keys() >= {"guardclash", "torch", "python", "processor", "commit"}


def test_records_say_all_that_made_them(finished):
    _, site, _, _, _ = finished
    for key in keys_in(site.store):
        record = site.store.record(key)
        assert record["trial"] == key
        assert record["plan"]["epochs"] == 2
        assert record["execution"]["device"] == "cpu"
        assert record["seconds"] > 0
        folder = site.store.trial(key)
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in history] == [1, 2]
        assert all(line["task"] > 0 for line in history)
        weights = safetensors.torch.load_file(folder / "weights.safetensors")
        assert all(torch.isfinite(value.double()).all() for value in weights.values())


def test_alone_and_together_share_what_they_can(finished):
    """Seed for seed: the triggers, so that {wm} and {wm, dpsgd} are a pair; epsilon is the same in every replicate."""
    _, _, content, _, _ = finished
    alone = [cell for cell in content["cells"] if len(cell["combination"]) == 1]
    epsilons = {
        entry["values"]["epsilon"]
        for cell in content["cells"]
        for trial in cell["trials"]
        for entry in trial["measurements"]
        if "epsilon" in entry["values"]
    }
    assert len(alone) == 3
    assert len(epsilons) == 1
    assert 2.5 < epsilons.pop() <= 3.0


def test_a_trial_read_from_the_store_answers_as_when_it_was_trained(finished):
    wanted, site, _, _, _ = finished
    for entry in compose_study(wanted):
        for trial in entry.trials():
            model = site.read(trial.plan, trial.seed)
            context = site.context(trial.seed)
            measured = entry.measures[0][1].measure(model, context)
            kept = site.store.measurement(entry.probes(trial)[0].key)
            assert measured == kept["metrics"]


def test_running_again_does_nothing(finished, trained, monkeypatch):
    wanted, site, content, _, _ = finished
    before = {path: path.stat().st_mtime_ns for path in site.store.folder.rglob("*") if "studies" not in path.parts}

    def never(*args: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(jobs, "_measure", never)
    watcher = Watcher()
    again = run_study(wanted, site, Inline(), watcher)
    assert trained.trials == []
    assert (watcher.waves, watcher.seconds, watcher.jobs) == ((), {}, [])
    assert {**again, "written": ""} == {**content, "written": ""}
    after = {path: path.stat().st_mtime_ns for path in site.store.folder.rglob("*") if "studies" not in path.parts}
    assert {path for path, time in after.items() if path.is_file() and before.get(path) != time} == set()


def test_a_criterion_a_rule_or_a_correction_changes_no_training(finished, trained):
    wanted, site, _, _, _ = finished
    other = study(
        ["wm", "dpsgd"],
        ["wm", RELAXED],
        criteria={"wm_accuracy": {"max_drop": 0.01}, "accuracy": {"floor": 0.99}},
        rule="paper",
        correction="holm",
        alpha=0.1,
    )
    content = run_study(other, site, Inline())
    assert trained.trials == []
    assert report(other, content) != report(wanted, content)


@pytest.fixture
def copied(finished, tmp_path: Path) -> Site:
    """A copy of the finished store, to go on with."""
    shutil.copytree(finished[1].store.folder, tmp_path / "copy")
    return replace(finished[1], store=Store(tmp_path / "copy"))


def test_more_seeds_train_only_those(copied, trained):
    more = study(["wm", "dpsgd"], seeds=3, name="more")
    content = run_study(more, copied, Inline())
    assert [seed for _, seed in trained.since()] == [2, 2, 2, 2]
    assert list(values(content, ["wm", "dpsgd"])) == [0, 1, 2]
    later = study(["wm", "dpsgd"], seeds=2, first_seed=2, name="later")
    run_study(later, copied, Inline())
    assert [seed for _, seed in trained.since()] == [3, 3, 3, 3]


def test_more_combinations_train_only_those(finished, copied, trained):
    """The order of a combination's mechanisms changes no training unless they stack."""
    more = study(["dpsgd", "wm"], ["wm", "dpsgd-control"], name="combinations")
    content = run_study(more, copied, Inline())
    assert len(trained.since()) == 4, "{dpsgd-control} and {wm, dpsgd-control}"
    joint = values({"cells": finished[2]["cells"][4:5]}, ["wm", "dpsgd"])
    assert values(content, ["dpsgd", "wm"]) == joint


def test_other_recipes_share_nothing(copied, trained):
    run_study(study(["wm"], seeds=1, recipe={"norm": "group"}, name="group"), copied, Inline())
    assert len(trained.since()) == 2


def test_two_runs_give_the_same_numbers(finished, site):
    _, _, content, _, _ = finished
    again = run_study(study(["wm", "dpsgd"], seeds=1), site, Inline())
    for names in ([], ["wm"], ["wm", "dpsgd"]):
        assert values(again, names)[0] == values({**content, "cells": content["cells"][:5]}, names)[0]


def test_known_seconds_are_used_for_the_estimate(finished):
    _, site, _, _, _ = finished
    composed = compose_study(study(["wm"], seeds=3))
    missing = trials_of(waves(composed, site.store), site.store)
    assert [trial.seed for trial in missing.values()] == [2, 2]
    seconds = estimates(missing.values(), site)
    for key, trial in missing.items():
        same = [site.store.record(f"{fingerprint(trial.plan)}-{seed}")["seconds"] for seed in (0, 1)]
        assert seconds[key] == pytest.approx(sum(same) / 2)


# A changed default


def edited(path: Path, **changes: Any) -> None:
    """Changes values in a JSON file, by dotted path."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        place = content
        *way, last = name.split("__")
        for part in way:
            place = place[part]
        assert last in place
        place[last] = value
    path.write_text(json.dumps(content))


def test_a_changed_default_of_a_training_is_refused_by_name(site):
    wanted = study(["dpsgd-control"], seeds=1)
    run_study(wanted, site, Inline())
    record = next((site.store.folder / "trials").glob("*/record.json"))
    edited(record, plan__optimizer__momentum=0.123)
    with pytest.raises(UserError, match=r"optimizer\.momentum was 0\.123 and is 0\.9") as caught:
        run_study(wanted, site, Inline())
    assert record.parent.name in str(caught.value)
    assert "version" in str(caught.value)


def test_a_changed_default_of_a_measurement_is_refused_by_name(site):
    """Otherwise values under the old and the new meaning stand in one sample."""
    wanted = study(["wm"], seeds=1)
    run_study(wanted, site, Inline())
    marks = [path for path in (site.store.folder / "measurements").glob("*") if "wm_accuracy" in path.read_text()]
    edited(marks[0], measure__triggers=99)
    with pytest.raises(UserError, match=r"triggers was 99 and is 100") as caught:
        run_study(wanted, site, Inline())
    assert "version" in str(caught.value)


def test_a_field_that_is_new_or_gone_does_not_matter(site, trained):
    wanted = study(["dpsgd-control"], seeds=1)
    run_study(wanted, site, Inline())
    assert trained.since()
    record = next((site.store.folder / "trials").glob("*/record.json"))
    content = json.loads(record.read_text())
    content["plan"]["gone"] = 1
    del content["plan"]["optimizer"]["nesterov" if "nesterov" in content["plan"]["optimizer"] else "momentum"]
    record.write_text(json.dumps(content))
    run_study(wanted, site, Inline())
    assert trained.since() == []


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
    content = run_study(wanted, site, Inline(), watcher)
    assert watcher.errors == ["RuntimeError: no such luck [today]"] * 2
    assert len(watcher.jobs) == len(trained.since()) == 8
    assert all(values(content, names)[0] for names in ([], ["dpsgd-control"], ["fragile"]))
    assert values(content, ["dpsgd-control", "fragile"])[1] == {}
    text = report(wanted, content)
    assert "digits/smoke {dpsgd-control, fragile}: seed 1 failed: RuntimeError: no such luck [today]" in text
    assert "digits/smoke {fragile}: seed 1 failed" in text
    assert "together: 1 of 2" in text
    assert len(list((site.store.folder / "failures").iterdir())) == 2

    again = run_study(wanted, site, Inline())
    assert len(trained.since()) == 2
    assert {**again, "written": ""} == {**content, "written": ""}

    monkeypatch.delenv("BREAK_SEED_ONE")
    watcher = Watcher()
    mended = run_study(wanted, site, Inline(), watcher)
    assert len(trained.since()) == 2
    assert watcher.errors == []
    assert list((site.store.folder / "failures").iterdir()) == []
    assert values(mended, ["dpsgd-control", "fragile"])[1]["accuracy"] > 0
    assert "failed" not in report(wanted, mended)


def test_a_training_that_diverges_is_a_failed_trial(site):
    wild = {"learning_rate": 1e30, "first_learning_rate": 1e30}
    wanted = study(["dpsgd-control"], seeds=1, recipe=wild)
    watcher = Watcher()
    content = run_study(wanted, site, Inline(), watcher)
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
    content = run_study(wanted, site, Inline(), watcher)
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
    content = run_study(wanted, site, Inline(), watcher)
    assert set(watcher.errors) == {"RuntimeError: cannot measure"}
    assert len(trained.since()) == 2
    for names in ([], ["unmeasurable"], ["unmeasurable", "wm"]):
        assert values(content, names)[0].keys() == {"accuracy", "wm_accuracy", "wm_log10_p"}
    assert "RuntimeError: cannot measure" in report(wanted, content), "a reader must learn why a value is missing"

    monkeypatch.delenv("BREAK_MEASURE")
    mended = run_study(wanted, site, Inline())
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
    run_study(study(["undeclared"], seeds=1, plugins=[str(load(UNDECLARED))]), site, Inline(), watcher)
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
    run_study(study(["infinite"], seeds=1, plugins=[str(load(INFINITE))]), site, Inline(), watcher)
    assert watcher.errors
    assert all("log_p" in error for error in watcher.errors)


def test_a_p_value_of_zero_is_kept(site, load, monkeypatch):
    """Its logarithm is minus infinity, which `Metric.sample` takes for its floor; so it must get that far."""
    monkeypatch.setenv("LOG_P", "-inf")
    watcher = Watcher()
    content = run_study(study(["infinite"], seeds=1, plugins=[str(load(INFINITE))]), site, Inline(), watcher)
    assert watcher.errors == []
    assert values(content, ["infinite"])[0]["log_p"] <= -324


def test_missing_data_stops_a_run_with_one_message(site):
    wanted = replace(study(["wm"], seeds=1), recipes=(Named("mnist", (("scale", "smoke"),)),))
    with pytest.raises(UserError, match="mnist") as caught:
        run_study(wanted, site, Inline())
    assert str(site.data_folder) in str(caught.value)
    assert "guardclash data fetch mnist" in str(caught.value)
    assert (site.store.folder / "studies" / "study.json").is_file(), "the results are kept up to date all the same"


def test_damaged_weights_are_told_with_the_file(site, trained):
    wanted = study(["dpsgd-control"], seeds=1)
    run_study(wanted, site, Inline())
    for path in (site.store.folder / "measurements").iterdir():
        path.unlink()
    weights = next((site.store.folder / "trials").glob("*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError) as caught:
        run_study(wanted, site, Inline())
    assert weights.parent.name in str(caught.value)


def test_an_interruption_keeps_what_is_finished(site, trained, monkeypatch):
    wanted = study(["wm"], seeds=2)
    keep = jobs._keep

    def interrupted(trial: Trial, *rest: Any) -> None:
        keep(trial, *rest)
        if len(trained.trials) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_keep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_study(wanted, site, Inline())
    assert len(trained.since()) == len(keys_in(site.store)) == 2
    results = read_results(site.store.folder / "studies" / "study.json")
    assert sum(len(cell["trials"]) for cell in results.content["cells"]) == 2
    content = run_study(wanted, site, Inline())
    assert len(trained.since()) == 2
    assert values(content, ["wm"]).keys() == {0, 1}


class Dying(Inline):
    """Workers of which one is killed, by the kernel perhaps, when some jobs are done."""

    left = 2

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
        run_study(wanted, site, Dying())
    assert "same command" in str(caught.value)
    assert len(trained.since()) == len(keys_in(site.store)) == 2
    results = read_results(site.store.folder / "studies" / "study.json")
    assert sum(len(cell["trials"]) for cell in results.content["cells"]) == 2
    run_study(wanted, site, Inline())
    assert len(trained.since()) == 2


# Plans that need other plans


NESTED = """
@dataclass(frozen=True)
class Taught:
    '''Images under the labels that a trained model gives them.'''
    images: Split
    teacher: Plan

    @property
    def size(self):
        return self.images.size

    def load(self, context):
        x, _ = context.data(self.images)
        return Data(x, context.trained(self.teacher).predict(x).argmax(1))

@dataclass(frozen=True)
class Distil(Mechanism):
    name: ClassVar[str] = "distil"
    concern: ClassVar[str] = "model extraction"
    generations: int = 1
    def data(self, plan):
        for _ in range(self.generations):
            source = Taught(Split("digits", "train", 256), plan)
            plan = replace(plan, streams=(replace(plan.task, source=source), *plan.streams[1:]))
        return plan
"""


def test_nested_plans_are_trained_first_and_found_in_the_store(site, load, trained):
    """The teacher of the first generation is the unprotected model of the study: it is trained once."""
    plugin = str(load(NESTED))
    wanted = study([{"name": "distil", "generations": 2}], plugins=[plugin])
    baseline, distilled = (entry.plan for entry in compose_study(wanted))
    inner = [trial.plan for trial in needed_trials(Trial(distilled, 0))]
    assert [depth(plan) for plan in (*inner, distilled)] == [0, 1, 2]
    assert inner[0] == baseline
    watcher = Watcher()
    content = run_study(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    order = [plan for plan, _ in trained.since()]
    assert order == [fingerprint(plan) for plan in (baseline, baseline, inner[1], inner[1], distilled, distilled)]
    assert values(content, ["distil"])[0]["accuracy"] > 0.1
    assert run_study(replace(wanted, alone=3), site, Inline())
    assert [seed for _, seed in trained.since()] == [2, 2, 2]


def test_wm_goes_with_a_mechanism_that_changes_the_tasks_source(site, load):
    """In either order: where triggers come from follows from the data set, not from what wraps it."""
    wanted = study(["wm", "distil"], ["distil", "wm"], seeds=1, plugins=[str(load(NESTED))])
    plans = [entry.plan for entry in compose_study(wanted) if len(entry.combination) == 2]
    triggers = {fingerprint(plan.stream("trigger").source) for plan in plans}
    assert len(triggers) == 1
    watcher = Watcher()
    content = run_study(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    assert values(content, ["distil", "wm"])[0].keys() >= {"accuracy", "wm_accuracy"}


def test_a_failed_teacher_fails_its_pupil_and_says_so(site, load):
    wild = {"learning_rate": 1e30, "first_learning_rate": 1e30}
    watcher = Watcher()
    run_study(study(["distil"], seeds=1, recipe=wild, plugins=[str(load(NESTED))]), site, Inline(), watcher)
    assert len(watcher.errors) == 2
    assert watcher.errors[0].startswith("Diverged")
    assert "not in the store" in watcher.errors[1]


NEEDS = """
@dataclass(frozen=True)
class Twin(Mechanism):
    '''How often the model agrees with one trained for longer.'''
    name: ClassVar[str] = "twin"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("agreement", "agree", MaxDrop(0.5)),)
    def needs(self, plan):
        return (self.twin(plan),)
    def twin(self, plan):
        return replace(plan, epochs=plan.epochs + 1)
    def measure(self, trained, context):
        x, _ = context.data(Split("digits", "test", 64))
        twin = context.trained(self.twin(trained.plan)).predict(x)
        return {"agreement": (twin.argmax(1) == trained.predict(x).argmax(1)).double().mean().item()}
"""


def test_what_a_measurement_needs_is_trained_first_and_shared(site, load, trained):
    """{twin} changes no training, so it shares the unprotected model and its longer twin."""
    wanted = study(["twin"], plugins=[str(load(NEEDS))])
    watcher = Watcher()
    content = run_study(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    assert len(trained.since()) == 4
    for names in ([], ["twin"]):
        assert all(0 < found["agreement"] <= 1 for found in values(content, names).values())
    assert values(content, []) == values(content, ["twin"])
    run_study(wanted, site, Inline())
    assert trained.since() == []


# Serving


SERVING = """
@dataclass(frozen=True)
class Contrary(Mechanism):
    '''Answers the least likely class.'''
    name: ClassVar[str] = "contrary"
    concern: ClassVar[str] = "none"
    factor: float = -1.0
    def serve(self, predict, trained, context):
        return lambda x: self.factor * predict(x)

@dataclass(frozen=True)
class Louder(Mechanism):
    '''Adds one to the answers, times ten.'''
    name: ClassVar[str] = "louder"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("answer", "answer", None),)
    def serve(self, predict, trained, context):
        return lambda x: 10 * (predict(x) * 0 + 1)
    def measure(self, trained, context):
        x, _ = context.data(Split("digits", "test", 1))
        return {"answer": trained.predict(x)[0, 0].item()}
"""


def test_what_acts_at_inference_changes_measurements_and_no_training(site, load, trained):
    wanted = study(["contrary", "louder"], ["louder", "contrary"], ["wm"], plugins=[str(load(SERVING))])
    content = run_study(wanted, site, Inline())
    assert len(trained.since()) == 4, "the unprotected model and {wm}"
    plain, contrary = values(content, [])[0], values(content, ["contrary"])[0]
    assert contrary["accuracy"] < 0.1 < plain["accuracy"]
    # The first mechanism is nearest to the network: the last one has the last word.
    assert values(content, ["contrary", "louder"])[0]["answer"] == 10
    assert values(content, ["louder", "contrary"])[0]["answer"] == -10


def test_serving_is_part_of_the_key_of_a_measurement(site, load):
    plugin = str(load(SERVING))

    def keys(mechanism: dict[str, Any]) -> tuple[str, list[str]]:
        entry = compose_study(study([mechanism], seeds=1, plugins=[plugin]))[1]
        (trial,) = entry.trials()
        return trial.key, [probe.key for probe in entry.probes(trial)]

    plain, minus, plus = (
        keys({"name": "dpsgd-control", "on": []}),
        keys({"name": "contrary"}),
        keys({"name": "contrary", "factor": 1.0}),
    )
    assert plain[0] == minus[0] == plus[0]
    assert len({plain[1][0], minus[1][0], plus[1][0]}) == 3


SERVES_WITH_A_MODEL = """
@dataclass(frozen=True)
class Guarded(Mechanism):
    '''Answers through a second model.'''
    name: ClassVar[str] = "guarded"
    concern: ClassVar[str] = "none"
    def needs(self, plan):
        return (self.guard(plan),)
    def guard(self, plan):
        return replace(plan, epochs=plan.epochs + 1)
    def serve(self, predict, trained, context):
        guard = context.trained(self.guard(trained.plan))
        return lambda x: predict(x) + guard.predict(x)
"""


def test_what_serving_needs_is_trained_first(site, load, trained):
    watcher = Watcher()
    content = run_study(study(["guarded"], seeds=1, plugins=[str(load(SERVES_WITH_A_MODEL))]), site, Inline(), watcher)
    assert watcher.errors == []
    assert len(trained.since()) == 2
    assert values(content, ["guarded"])[0]["accuracy"] > 0


# Clashes and a plugin from outside


def test_a_clash_costs_no_training_and_is_a_verdict(site, trained):
    wanted = study(["gradient-sign", "dpsgd-control"], ["gradient-sign", "dpsgd"], plugins=[str(GRADIENT_SIGN)])
    content = run_study(wanted, site, Inline())
    # {}, {gradient-sign}, {dpsgd-control}, {dpsgd} and {gradient-sign, dpsgd-control}
    assert len(trained.since()) == 10
    clash = content["cells"][-1]
    assert clash["clash"] == "gradient-sign and dpsgd both set 'gradient' of stream 'task'"
    assert (clash["plan"], clash["trials"]) == (None, [])
    assert values(content, ["gradient-sign", "dpsgd-control"])[0]["gradient_bits"] == 1
    assert values(content, [])[0]["gradient_bits"] == 32
    text = report(wanted, content)
    rows = [line for line in text.splitlines() if "{gradient-sign, dpsgd}" in line]
    assert any("clash" in row and "both set 'gradient'" in row for row in rows)
    assert not any("still to be measured" in row for row in rows)
    assert "bits" in text


def test_mechanisms_on_streams_apart_do_not_clash(site):
    apart = [{"name": "gradient-sign", "on": ["task"]}, {"name": "dpsgd", "on": ["trigger"]}, "wm"]
    composed = compose_study(study(apart, plugins=[str(GRADIENT_SIGN)]))
    assert composed[-1].clash is None
    assert len(composed[-1].plan.streams) == 2


def test_on_a_stream_that_never_is_is_refused():
    for on in (["trigg"], ["task", "trigg"]):
        with pytest.raises(UserError, match="trigg") as caught:
            compose_study(study(["wm", {"name": "dpsgd-control", "on": on}]))
        assert "dpsgd-control" in str(caught.value)
        assert "trigger" in str(caught.value)


def test_criteria_must_fit_what_is_measured():
    with pytest.raises(UserError, match=r"'wm_acuracy'.*Did you mean 'wm_accuracy'"):
        compose_study(study(["wm"], criteria={"wm_acuracy": {"max_drop": 0.1}}))
    with pytest.raises(UserError, match="wm_accuracy"):
        compose_study(study(["wm"], criteria={"wm_accuracy": {"ceiling": 0.1}}))


MISTAKES: dict[str, tuple[dict[str, Any], list[Any], tuple[str, ...]]] = {
    "unknown mechanism": ({}, ["wn"], ("'wn'", "Did you mean 'wm'")),
    "unknown option": ({}, [{"name": "wm", "trigers": 5}], ("'trigers'", "wm", "'triggers'")),
    "wrong type": ({}, [{"name": "wm", "triggers": "many"}], ("wm.triggers", "'many'")),
    "a text for a list": ({}, [{"name": "wm", "on": "task"}], ("wm.on", "'task'")),
    "negative epsilon": ({}, [{"name": "dpsgd", "epsilon": -1}], ("dpsgd.epsilon", "-1", "> 0")),
    "epsilon is no number": ({}, [{"name": "dpsgd", "epsilon": float("nan")}], ("dpsgd.epsilon", "nan")),
    "too many triggers": ({}, [{"name": "wm", "triggers": 601}], ("wm.triggers", "601", "600")),
    "unknown data set": ({"dataset": "digit"}, ["wm"], ("'digit'", "Did you mean 'digits'")),
    "a data set without a recipe": ({"dataset": "gtsrb"}, ["wm"], ("gtsrb/smoke",)),
    "unknown key of a recipe": ({"epoch": 1}, ["wm"], ("'epoch'", "recipe digits", "'epochs'")),
    "unknown model": ({"model": "cnn5"}, ["wm"], ("recipe digits.model", "'cnn5'", "'cnn4'")),
    "no epochs": ({"epochs": 0}, ["wm"], ("epochs", "0", ">= 1")),
    "too many examples": ({"examples": 10**6}, ["wm"], ("1000000", "1297")),
    "negative weight decay": ({"weight_decay": -1.0}, ["wm"], ("weight_decay", "-1")),
    "infinite learning rate": ({"learning_rate": float("inf")}, ["wm"], ("learning_rate", "inf")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_names_and_values_are_told_before_anything_is_trained(mistake):
    recipe, mechanisms, parts = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        compose_study(study(mechanisms, recipe=recipe))
    missing = [part for part in parts if part not in str(caught.value)]
    assert not missing, f"{caught.value} does not say {missing}"


def test_every_value_of_a_measure_is_finite_json(finished):
    _, site, _, _, _ = finished
    for path in (site.store.folder / "measurements").iterdir():
        content = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert content["metrics"] or content["measure"]["type"] == "DPSGD"
        assert content["trial"] in keys_in(site.store)


def test_mechanisms_pickle_with_their_jobs(load):
    """A worker gets jobs as pickles, of plugins too."""
    import pickle  # only here: what ProcessPoolExecutor does with a job

    wanted = study(["distil", "dpsgd-control"], seeds=1, plugins=[str(load(NESTED))])
    for entry in compose_study(wanted):
        for trial in entry.trials():
            job = Job(trial, entry.probes(trial))
            again = pickle.loads(pickle.dumps(job))
            assert again == job
            assert again.trial.key == trial.key
            assert isinstance(entry.combination, tuple)
            assert all(isinstance(mechanism, Mechanism) for mechanism in entry.combination)


# Seeds that are added while a verdict is undecided, and runs of some data sets only


def test_seeds_are_added_only_while_a_verdict_is_undecided(site, trained):
    """φ_ACC of a model that nothing touches is decided by the first look, at which it equals itself."""
    asked = study(
        ["wm", "dpsgd-control"], replicates={"start": 2, "most": 4}, criteria={"wm_accuracy": {"max_drop": 0.9}}
    )
    started: list[int] = []

    class Counting(Together):
        def started(self, waves, seconds):
            started.append(sum(map(len, waves)))

    results = Results(run_study(asked, site, Inline(), Counting()))
    (verdict,) = verdicts(asked, results)
    seeds = {
        len(results.values(cell, None, "accuracy", range(9))) for cell in asked.cells() if len(cell.combination) == 2
    }
    assert seeds <= {2, 3, 4}
    assert len(started) == {2: 1, 3: 2, 4: 3}[max(seeds)]
    if max(seeds) < 4:
        assert verdict.outcome("strict") != "undecided"
    trained.since()
    run_study(asked, site, Inline())
    assert trained.since() == [], "running it again asks for nothing more"


def test_a_verdict_that_stays_undecided_gets_all_seeds(site):
    impossible = {"accuracy": {"max_drop": 1e-9}, "wm_accuracy": {"max_drop": 1e-9}}
    asked = study(["wm", "dpsgd-control"], replicates={"start": 2, "most": 3}, criteria=impossible, alpha=0.0001)
    results = Results(run_study(asked, site, Inline()))
    (verdict,) = verdicts(asked, results)
    assert verdict.outcome("strict") == "undecided" and not verdict.missing
    assert {len(results.values(cell, None, "accuracy", range(9))) for cell in asked.cells()} == {3}


def test_a_failing_trial_does_not_ask_for_seeds_forever(site, monkeypatch):
    def broken(*args: Any, **keys: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(jobs, "train", broken)
    asked = study(["wm", "dpsgd-control"], replicates={"start": 2, "most": 4})
    results = Results(run_study(asked, site, Inline()))
    assert not any(results.values(cell, None, "accuracy", range(9)) for cell in asked.cells())


def test_a_run_of_one_data_set_leaves_the_others_for_later(site, trained):
    recipes = [SMOKE, {**SMOKE, "dataset": "mnist"}]
    asked = study(["wm"], seeds=1, recipes=recipes)
    results = Results(run_study(asked, site, Inline(), datasets=("digits",)))
    counted = {cell.recipe.name: len(results.values(cell, None, "accuracy", range(1))) for cell in asked.cells()}
    assert counted == {"digits": 1, "mnist": 0}
    assert len(trained.since()) == 2
