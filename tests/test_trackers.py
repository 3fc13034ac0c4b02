"""Trackers: what they are told, once each, also after interruptions; that their failures cost no result."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from guardclash.cli.app import main
from guardclash.errors import UserError
from guardclash.records.file import read_results
from guardclash.records.plain import results_from, to_plain
from guardclash.studies import jobs
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from
from guardclash.trackers import tracker as tracker_module
from guardclash.trackers.tracker import TrackedTrial, Tracker, find_tracker
from guardclash.watching.tracking import Tracking
from running import ran


def study(*combinations: list[Any], seeds: int = 1, **keys: Any) -> Study:
    return study_from(
        {
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [{"mechanisms": mechanisms} for mechanisms in combinations],
            "replicates": {"alone": seeds, "together": seeds},
            **keys,
        }
    )


WM = ["wm", "dpsgd-control"]


class Remembering(Tracker):
    """Remembers what it was told, beyond its own life."""

    calls: list[tuple[Any, ...]] = []  # noqa: RUF012

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.calls.append(("made", folder))

    def study_started(self, study: str) -> None:
        self.calls.append(("study_started", study))

    def trial_finished(self, trial: TrackedTrial, history: Sequence[Mapping[str, float]], seconds: float) -> None:
        self.calls.append(("trial_finished", trial, tuple(history), seconds))

    def trial_failed(self, trial: TrackedTrial, error: str) -> None:
        self.calls.append(("trial_failed", trial, error))

    def measured(self, trial: TrackedTrial, metrics: Mapping[str, float]) -> None:
        self.calls.append(("measured", trial, dict(metrics)))

    def verdict(self, study: str, recipe: str, combination: str, outcome: str, broken: Sequence[str]) -> None:
        self.calls.append(("verdict", study, recipe, combination, outcome, tuple(broken)))

    def study_finished(self, study: str) -> None:
        self.calls.append(("study_finished", study))


class Failing(Remembering):
    """Fails when it is first told of a trial."""

    def trial_finished(self, *rest: Any) -> None:
        self.calls.append(("failing",))
        raise RuntimeError("the server is [gone]")


class Unmade(Tracker):
    """Cannot even be made."""

    def __init__(self, folder: Path):
        raise OSError("no room")


@dataclass(frozen=True)
class Entry:
    """An installed package's entry point."""

    name: str
    loaded: Any

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What trackers were told; the fake ones are installed."""
    entries = [Entry("remembering", Remembering), Entry("failing", Failing), Entry("unmade", Unmade)]
    entries.append(Entry("unimportable", ImportError("No module named 'swanlake'")))

    def entry_points(group: str) -> list[Entry]:
        assert group == "guardclash.trackers"
        return entries

    monkeypatch.setattr(tracker_module, "entry_points", entry_points)
    monkeypatch.setattr(Remembering, "calls", [])
    return Remembering.calls


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Store(tmp_path / "runs"), tmp_path / "data")


@dataclass
class Ran:
    """A run with trackers: what it said of them, its results."""

    said: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)


def run(wanted: Study, site: Site, *names: str) -> Ran:
    made = Ran()
    with Tracking(names, wanted, site, wanted.rule, made.said.append) as tracking:
        made.results = ran(wanted, site, Inline(), tracking, clock=lambda: 0.0)
    return made


def kinds(calls: list[tuple[Any, ...]]) -> list[str]:
    found = [call[0] for call in calls]
    calls.clear()
    return found


def test_a_tracker_is_told_all_of_a_run_in_order(calls, site):
    ran = run(study(WM), site, "remembering")
    assert ran.said == []
    each = ["trial_finished", "measured"] * 4
    expected = ["made", "study_started", *each, "verdict", "study_finished"]
    assert [call[0] for call in calls] == expected
    assert calls[0] == ("made", site.store.folder / "trackers" / "remembering")
    assert calls[1] == ("study_started", "study")
    assert calls[-2] == ("verdict", "study", "digits/smoke", "{wm, dpsgd-control}", "undecided", ())
    by_label = {call[1].combination: call for call in calls if call[0] == "trial_finished"}
    _, trial, history, seconds = by_label["{wm, dpsgd-control}"]
    assert (trial.study, trial.recipe, trial.seed) == ("study", "digits/smoke", 0)
    assert (trial.settings["recipe.epochs"], trial.settings["wm.triggers"]) == (2, 100)
    assert [line["epoch"] for line in history] == [1, 2]
    assert all(line.keys() == {"epoch", "task", "trigger"} for line in history)
    assert seconds == site.store.record(trial.key)["seconds"]
    metrics = {call[1].combination: call[2] for call in calls if call[0] == "measured"}
    assert metrics["{wm, dpsgd-control}"].keys() == {"accuracy/accuracy", "wm/wm_accuracy", "wm/wm_log10_p"}
    assert metrics["{}"].keys() == metrics["{wm}"].keys()


def test_each_thing_is_told_once(calls, site):
    run(study(WM), site, "remembering")
    kinds(calls)
    run(study(WM), site, "remembering")
    assert kinds(calls) == ["made", "study_started", "study_finished"], "all of it was told before"
    run(study(WM, seeds=2), site, "remembering")
    assert kinds(calls).count("trial_finished") == 4, "the new seeds"
    run(study(WM, name="other"), site, "remembering")
    assert kinds(calls).count("trial_finished") == 4, "another study over the same trials is another one to show"
    shutil.rmtree(site.store.folder / "trackers")
    run(study(WM, seeds=2), site, "remembering")
    assert kinds(calls).count("trial_finished") == 8, "its files are gone, so it is told anew"


def test_a_tracker_that_comes_later_is_told_what_was_before(calls, site):
    """And a measurement that comes later is told alone."""
    run(study(WM), site)
    assert not (site.store.folder / "trackers").exists()
    measurements = site.store.folder / "measurements"
    for path in measurements.iterdir():
        if "wm_accuracy" in path.read_text():
            path.rename(path.with_suffix(".away"))
    key = next(path.name for path in (site.store.folder / "trials").iterdir())
    with Tracking(["remembering"], study(WM), site, "strict", print) as tracking:
        tracking.started((), {})
    assert [call[0] for call in calls].count("trial_finished") == 4
    assert all(call[2].keys() == {"accuracy/accuracy"} for call in calls if call[0] == "measured")
    kinds(calls)
    for path in measurements.glob("*.away"):
        path.rename(path.with_suffix(".json"))
    (site.store.folder / "trials" / key / "history.jsonl").unlink()
    run(study(WM), site, "remembering")
    told = [call for call in calls if call[0] == "measured"]
    assert told
    assert all(call[2].keys() == {"wm/wm_accuracy", "wm/wm_log10_p"} for call in told)
    assert "trial_finished" not in kinds(calls)


def test_verdicts_are_told_when_they_change(calls, site):
    run(study(WM), site, "remembering")
    kinds(calls)
    run(replace(study(WM), rule="paper"), site, "remembering")
    assert "verdict" not in kinds(calls)
    with Tracking(["remembering"], study(WM), site, "strict", print) as tracking:
        tracking.started((), {})
        content = site.store.folder / "studies" / "study.json"
        plain = to_plain(read_results(content))
        for cell in plain["cells"]:
            cell["clash"] = "no way" if len(cell["combination"]) == 2 else None
        tracking.collected(results_from(plain))
        tracking.collected(results_from(plain))
        tracking.collected({"cells": "damaged"})
    assert [call[4] for call in calls if call[0] == "verdict"] == ["clash"]


def test_a_failed_trial_is_told_with_its_error(calls, site, monkeypatch):
    def failing(*arguments: Any) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(jobs, "train", failing)
    run(study(WM), site, "remembering")
    failed = [call for call in calls if call[0] == "trial_failed"]
    assert len(failed) == 4
    assert {call[2] for call in failed} == {"RuntimeError: no such luck"}
    assert "trial_finished" not in kinds(calls)


def test_a_tracker_that_fails_costs_no_result_and_is_told_once(calls, site):
    ran = run(study(WM), site, "failing", "remembering", "unmade")
    assert [cell["trials"][0]["seed"] for cell in ran.results["cells"]] == [0, 0, 0, 0]
    assert sorted(ran.said) == [
        "warning: the tracker 'failing' failed and is left out: RuntimeError: the server is [gone]",
        "warning: the tracker 'unmade' failed and is left out: OSError: no room",
    ]
    assert [call[0] for call in calls].count("failing") == 1
    assert [call[0] for call in calls].count("trial_finished") == 4, "the others go on"
    told = json.loads((site.store.folder / "trackers" / "remembering" / "study.told.json").read_text())
    assert len(told["told"]) == 4 + 8
    kinds(calls)
    run(study(WM), site, "failing")
    assert "failing" in kinds(calls), "it is told again what it did not hear"


def test_an_interrupted_run_finishes_its_trackers(calls, site, monkeypatch):
    keep = jobs._keep

    def interrupted(*arguments: Any) -> None:
        keep(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(jobs, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(study(WM), site, "remembering")
    assert kinds(calls) == ["made", "study_started", "study_finished"]
    monkeypatch.setattr(jobs, "_keep", keep)
    run(study(WM), site, "remembering")
    assert kinds(calls).count("trial_finished") == 4, "also the one that was finished when it was interrupted"


def test_a_tracker_that_does_nothing_is_one(site, monkeypatch):
    monkeypatch.setattr(tracker_module, "entry_points", lambda group: [Entry("idle", Tracker)])
    assert run(study(WM), site, "idle").said == []


# Finding them


def test_unknown_and_broken_trackers_are_refused_before_anything_is_trained(calls, site):
    with pytest.raises(UserError, match=r"unknown tracker 'tensorbord'.*Did you mean 'tensorboard'"):
        find_tracker("tensorbord")
    with pytest.raises(UserError, match=r"'unimportable' cannot be imported: No module named 'swanlake'"):
        run(study(WM), site, "unimportable")
    assert not site.store.folder.exists()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_extra_is_told_with_the_way_to_install_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, f"guardclash.trackers.{name}", None)
    with pytest.raises(UserError, match=rf"pip install guardclash\[{name}\]"):
        find_tracker(name)


def test_an_installed_tracker_takes_the_place_of_a_built_in_one(monkeypatch):
    monkeypatch.setattr(tracker_module, "entry_points", lambda group: [Entry("mlflow", Remembering)])
    assert find_tracker("mlflow") is Remembering


def test_on_the_command_line(calls, tmp_path, monkeypatch, capsys):
    (tmp_path / "study.toml").write_text(
        'replicates = { alone = 1, together = 1 }\nrecipes = [{ dataset = "digits", scale = "smoke" }]\n'
        'combinations = [{ mechanisms = ["dpsgd-control"] }]\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GUARDCLASH_DATA", str(tmp_path / "data"))

    def said(*names: str) -> tuple[int, str]:
        options = [word for name in names for word in ("--track", name)]
        monkeypatch.setattr("sys.argv", ["guardclash", "run", "study.toml", "--workers", "0", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    code, err = said("remembering", "nonsense")
    assert (code, calls) == (2, [])
    assert "unknown tracker 'nonsense'" in err
    assert not (tmp_path / "runs").exists()
    code, err = said("failing", "remembering", "remembering")
    assert code == 0
    assert err.count("warning: the tracker 'failing' failed") == 1
    assert "2 of 2 done" in err
    names = [call[0] for call in calls]
    assert (names.count("study_started"), names.count("trial_finished"), names.count("study_finished")) == (2, 2, 1)


# The built-in ones


def test_tensorboard_has_a_run_for_each_trial(site):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ran = run(study(WM, seeds=2), site, "tensorboard")
    assert ran.said == []
    top = site.store.folder / "trackers" / "tensorboard" / "study"
    folders = sorted(path for path in top.glob("*/*") if path.is_dir())
    assert len(folders) == 8
    (folder,) = top.glob("digits_smoke_{wm,_dpsgd-control}/seed_1_*")
    events = EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["scalars"]) >= {"loss/task", "loss/trigger", "accuracy/accuracy", "wm/wm_accuracy"}
    losses = events.Scalars("loss/task")
    assert [loss.step for loss in losses] == [1, 2]
    accuracy = events.Scalars("accuracy/accuracy")[0].value
    (cell,) = [cell for cell in ran.results["cells"] if len(cell["combination"]) == 2]
    assert accuracy == pytest.approx(cell["trials"][1]["measurements"][0]["values"]["accuracy"])
    verdicts = EventAccumulator(str(top / "verdicts")).Reload()
    assert any("{wm, dpsgd-control}" in tag for tag in verdicts.Tags()["tensors"])


def test_names_of_the_users_own_stay_inside_the_folder(tmp_path):
    pytest.importorskip("tensorboard")
    tracker = find_tracker("tensorboard")(tmp_path / "board")
    names = dict.fromkeys(("study", "key", "recipe", "combination"), "../../<script>:|?*")
    tracker.measured(TrackedTrial(**names, seed=0), {"a/b": 1.0})
    tracker.verdict("..", "/", "..", "conflict", ["b"])
    inside = [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*tfevents*")]
    assert inside == ["board"] * 2
    assert not any(set("<>:|?*") & set(str(path)) for path in tmp_path.rglob("*"))


def mlflow_client(folder: Path) -> Any:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # mlflow-skinny comes without
    from mlflow import MlflowClient

    folder.mkdir(parents=True)
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


@pytest.mark.filterwarnings("ignore")  # other people's, of other people's packages
def test_mlflow_has_a_run_for_each_trial_and_calls_no_server(site, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    monkeypatch.setattr("socket.socket.connect", lambda *rest: pytest.fail("a server was called"))
    folder = site.store.folder / "trackers" / "mlflow"
    client = mlflow_client(folder)
    ran = run(study(WM), site, "mlflow")
    assert ran.said == []
    experiment = client.get_experiment_by_name("study")
    assert experiment.tags["verdict digits/smoke _wm_ dpsgd-control_"] == "undecided"
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    both = next(run for run in runs if run.data.tags["combination"] == "{wm, dpsgd-control}")
    assert both.info.run_name == "digits/smoke {wm, dpsgd-control}, seed 0"
    assert (both.data.params["recipe.epochs"], both.data.params["wm.triggers"]) == ("2", "100")
    assert both.data.metrics.keys() >= {"loss/task", "loss/trigger", "training/seconds", "accuracy/accuracy"}
    assert [metric.step for metric in client.get_metric_history(both.info.run_id, "loss/task")] == [1, 2]
    more = run(study(WM, ["wm", "dpsgd"]), site, "mlflow")
    assert more.said == []
    keys = [run.data.tags["trial"] for run in client.search_runs([experiment.experiment_id])]
    assert len(keys) == len(set(keys)) == 6, "what is told later goes to the run that the trial has"
    with sqlite3.connect(folder / "mlflow.db") as database:
        (count,) = database.execute("select count(*) from runs").fetchone()
    assert count == 6
