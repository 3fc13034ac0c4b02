"""Running studies: what is trained, what is shared, what is kept, and which seeds are added."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from guardclash.errors import UserError
from guardclash.plan.identity import fingerprint
from guardclash.plan.plan import Plan
from guardclash.records.file import read_results
from guardclash.records.plain import results_from, to_plain
from guardclash.studies import jobs
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.estimating import estimates, trials_of
from guardclash.studies.jobs import Site
from guardclash.studies.run import Together, waves
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.verdicts import verdicts
from guardclash.training.context import RunContext
from running import GRADIENT_SIGN, RELAXED, SMOKE, Trained, Watcher, edited, keys_in, ran, report, study, values

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
        content = ran(wanted, site, Inline(), watcher)
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
    kept = to_plain(read_results(site.store.folder / "studies" / "study.json"))
    assert content == json.loads(json.dumps(kept))
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

    monkeypatch.setattr(jobs, "_measured", never)
    watcher = Watcher()
    again = ran(wanted, site, Inline(), watcher)
    assert trained.trials == []
    assert (watcher.waves, watcher.seconds, watcher.jobs) == ((), {}, [])
    assert {**again, "written": ""} == {**content, "written": ""}
    after = {path: path.stat().st_mtime_ns for path in site.store.folder.rglob("*") if "studies" not in path.parts}
    assert {path for path, time in after.items() if path.is_file() and before.get(path) != time} == set()


def test_a_criterion_a_rule_or_a_correction_changes_no_training(finished, trained):
    wanted, site, _, _, _ = finished
    criteria = {"wm_accuracy": {"max_drop": 0.01}, "accuracy": {"floor": 0.99}}
    for keys in (
        {"rule": "paper", "correction": "none", "alpha": 0.1, "criteria": criteria},
        {"rule": "bounded", "correction": "holm"},
    ):
        other = study(["wm", "dpsgd"], ["wm", RELAXED], **keys)
        content = ran(other, site, Inline())
        assert trained.trials == []
        assert report(other, content) != report(wanted, content)


@pytest.fixture
def copied(finished, tmp_path: Path) -> Site:
    """A copy of the finished store, to go on with."""
    shutil.copytree(finished[1].store.folder, tmp_path / "copy")
    return replace(finished[1], store=Store(tmp_path / "copy"))


def test_more_seeds_train_only_those(copied, trained):
    more = study(["wm", "dpsgd"], seeds=3, name="more")
    content = ran(more, copied, Inline())
    assert [seed for _, seed in trained.since()] == [2, 2, 2, 2]
    assert list(values(content, ["wm", "dpsgd"])) == [0, 1, 2]
    later = study(["wm", "dpsgd"], seeds=2, first_seed=2, name="later")
    ran(later, copied, Inline())
    assert [seed for _, seed in trained.since()] == [3, 3, 3, 3]


def test_more_combinations_train_only_those(finished, copied, trained):
    """The order of a combination's mechanisms changes no training unless they stack."""
    more = study(["dpsgd", "wm"], ["wm", "dpsgd-control"], name="combinations")
    content = ran(more, copied, Inline())
    assert len(trained.since()) == 4, "{dpsgd-control} and {wm, dpsgd-control}"
    joint = values({"cells": finished[2]["cells"][4:5]}, ["wm", "dpsgd"])
    assert values(content, ["dpsgd", "wm"]) == joint


def test_other_recipes_share_nothing(copied, trained):
    ran(study(["wm"], seeds=1, recipe={"norm": "group"}, name="group"), copied, Inline())
    assert len(trained.since()) == 2


def test_two_runs_give_the_same_numbers(finished, site):
    _, _, content, _, _ = finished
    again = ran(study(["wm", "dpsgd"], seeds=1), site, Inline())
    for names in ([], ["wm"], ["wm", "dpsgd"]):
        assert values(again, names)[0] == values({**content, "cells": content["cells"][:5]}, names)[0]


def test_known_seconds_are_used_for_the_estimate(finished):
    _, site, _, _, _ = finished
    composed = compose_study(study(["wm"], seeds=3))
    missing = trials_of(waves(composed, site.store), site.store)
    assert [trial.seed for trial in missing.values()] == [2, 2]
    seconds = estimates(missing.values(), site, Inline())
    for key, trial in missing.items():
        same = [site.store.record(f"{fingerprint(trial.plan)}-{seed}")["seconds"] for seed in (0, 1)]
        assert seconds[key] == pytest.approx(sum(same) / 2)


def test_trainings_that_differ_in_whose_they_are_are_timed_once(site):
    """Teachers of a committee, each on as many examples."""

    class Counted(Inline):
        def submit(self, fn, /, *args):
            asked.append(args[0].key)
            return super().submit(fn, *args)

    teachers = {"name": "pate", "teachers": 5, "epsilon": 2000.0, "answers": 120, "sigma2": 0.4, "variant": "gnmax"}
    composed = compose_study(study([teachers], seeds=1, recipe={"examples": 500}))
    missing = trials_of(waves(composed, site.store), site.store)
    asked: list[str] = []
    seconds = estimates(missing.values(), site, Counted())
    assert len(missing) >= 7 and len(asked) <= len(missing) - 4
    parties = [key for key, trial in missing.items() if trial.plan.party.startswith("teacher")]
    assert len(parties) == 5 and len({seconds[key] for key in parties}) == 1 and seconds[parties[0]] > 0


# A changed default


def test_a_changed_default_of_a_training_is_refused_by_name(site):
    wanted = study(["dpsgd-control"], seeds=1)
    ran(wanted, site, Inline())
    record = next((site.store.folder / "trials").glob("*/record.json"))
    edited(record, plan__optimizer__momentum=0.123)
    with pytest.raises(UserError, match=r"optimizer\.momentum was 0\.123 and is 0\.9") as caught:
        ran(wanted, site, Inline())
    assert record.parent.name in str(caught.value)
    assert "version" in str(caught.value)


def test_a_changed_default_of_a_measurement_is_refused_by_name(site):
    """Otherwise values under the old and the new meaning stand in one sample."""
    wanted = study(["wm"], seeds=1)
    ran(wanted, site, Inline())
    marks = [path for path in (site.store.folder / "measurements").glob("*") if "wm_accuracy" in path.read_text()]
    edited(marks[0], measure__triggers=99)
    with pytest.raises(UserError, match=r"triggers was 99 and is 100") as caught:
        ran(wanted, site, Inline())
    assert "version" in str(caught.value)


def test_a_field_that_is_new_or_gone_does_not_matter(site, trained):
    wanted = study(["dpsgd-control"], seeds=1)
    ran(wanted, site, Inline())
    assert trained.since()
    record = next((site.store.folder / "trials").glob("*/record.json"))
    edited(record, plan__gone=1, plan__optimizer__momentum=None)
    ran(wanted, site, Inline())
    assert trained.since() == []


# Clashes and a plugin from outside


def test_a_clash_costs_no_training_and_is_a_verdict(site, trained):
    wanted = study(["gradient-sign", "dpsgd-control"], ["gradient-sign", "dpsgd"], plugins=[str(GRADIENT_SIGN)])
    content = ran(wanted, site, Inline())
    # {}, {gradient-sign}, {dpsgd-control}, {dpsgd} and {gradient-sign, dpsgd-control}
    assert len(trained.since()) == 10
    clash = content["cells"][-1]
    assert clash["clash"] == "dpsgd and gradient-sign both set 'gradient' of stream 'task'"
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
    "a data set without a recipe": ({"dataset": "gtsrb"}, ["wm"], ("gtsrb", "no model is trained", "Known: ")),
    "unknown key of a recipe": ({"epoch": 1}, ["wm"], ("'epoch'", "recipe digits", "'epochs'")),
    "unknown model": ({"model": "cnn5"}, ["wm"], ("recipe digits.model", "'cnn5'", "cnn4")),
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


# Seeds that are added while a verdict is undecided, and runs of some data sets only


def test_seeds_are_added_only_while_a_verdict_is_undecided(site, trained):
    """φ_ACC is far better than alone and wm marks nothing in so few steps: the first look decides."""
    asked = study(
        ["wm", "dpsgd-control"], replicates={"start": 3, "most": 5}, criteria={"wm_accuracy": {"max_drop": 0.9}}
    )
    started: list[int] = []

    class Counting(Together):
        def started(self, waves, seconds):
            started.append(sum(map(len, waves)))

    results = results_from(ran(asked, site, Inline(), Counting()))
    (verdict,) = verdicts(asked, results)
    seeds = {
        len(results.values(cell, None, "accuracy", range(9))) for cell in asked.cells() if len(cell.combination) == 2
    }
    assert seeds <= {3, 5}
    assert len(started) == {3: 1, 5: 2}[max(seeds)]
    if max(seeds) < 5:
        assert verdict.settled("strict") and verdict.outcome("strict") != "undecided"
    trained.since()
    ran(asked, site, Inline())
    assert trained.since() == [], "running it again asks for nothing more"


@pytest.mark.slow
def test_a_verdict_that_stays_undecided_gets_all_seeds(site):
    impossible = {"accuracy": {"max_drop": 1e-9}, "wm_accuracy": {"floor": 0.0}}
    asked = study(["wm", "dpsgd-control"], replicates={"start": 3, "most": 4}, criteria=impossible, alpha=0.0001)
    results = results_from(ran(asked, site, Inline()))
    (verdict,) = verdicts(asked, results)
    words = {judgement.metric.name: judgement.outcome("strict") for judgement in verdict.judgements}
    assert words["accuracy"] == words["wm_accuracy"] == "undecided", "wm_log10_p claims nothing already alone"
    assert not verdict.settled("strict") and not verdict.missing
    assert {len(results.values(cell, None, "accuracy", range(9))) for cell in asked.cells()} == {4}


def test_a_failing_trial_does_not_ask_for_seeds_forever(site, monkeypatch):
    def broken(*args: Any, **keys: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(jobs, "train", broken)
    asked = study(["wm", "dpsgd-control"], replicates={"start": 3, "most": 4})
    results = results_from(ran(asked, site, Inline()))
    assert not any(results.values(cell, None, "accuracy", range(9)) for cell in asked.cells())


def test_a_run_of_one_data_set_leaves_the_others_for_later(site, trained):
    recipes = [SMOKE, {**SMOKE, "dataset": "mnist"}]
    asked = study(["wm"], seeds=1, recipes=recipes)
    results = results_from(ran(asked, site, Inline(), datasets=("digits",)))
    counted = {cell.recipe.name: len(results.values(cell, None, "accuracy", range(1))) for cell in asked.cells()}
    assert counted == {"digits": 1, "mnist": 0}
    assert len(trained.since()) == 2
