"""A network, data and a study of somebody's own, from the command line and from Python."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import guardclash as product
from guardclash.data import loading
from guardclash.data.own import keeping
from guardclash.reporting.page_parts.study_text import study_text
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.studies.run import run_study
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study, study_from
from own import COMBINATION, QUICK, SMALL, STUDY, TRAINING, signs, write
from running import Trained
from test_cli import Guardclash, guardclash  # noqa: F401  (a fixture)

FORMS = ("text", "html", "md", "tex", "json", "csv")


def keys(study: Study) -> set[tuple[str, str, str]]:
    """All cells, trainings and measurements."""
    return {
        (entry.cell.key, trial.key, probe.key)
        for entry in compose_study(study)
        for trial in entry.trials()
        for probe in entry.probes(trial)
    }


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("some_nets", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["some_nets"] = module
    spec.loader.exec_module(module)
    return module


def test_a_folder_with_a_network_and_arrays_goes_through_all_commands(guardclash: Guardclash, tmp_path: Path):  # noqa: F811
    path = write(tmp_path)
    tried = guardclash("check", path)
    assert tried.code == 0 and "no mistake found" in tried.out, tried.err
    planned = guardclash("plan", path)
    assert planned.code == 0 and "To train: 8 models" in planned.out  # among them marking and innocent ones
    ran = guardclash("run", path, "--workers", 0)
    assert ran.code == 0, ran.err
    assert "{wm, advtr, dpsgd, raddata, di}" in ran.out
    network = product.Task("signs", data="signs.npz", model="nets.py:build").recipes[0].plan().model.build()
    size = f"{sum(one.numel() for one in network.parameters()):,}"
    assert size in planned.out
    for form in FORMS:
        said = guardclash("report", path, "--format", form)
        assert said.code == 0, said.err
        plain = said.out.replace("\\,", "").replace("\\_", "_")
        assert "ResNet18 by build of nets.py" in plain, form
        assert size in plain or size.replace(",", "") in plain, form
    assert "To train: 0 models" in guardclash("plan", path).out


@pytest.mark.slow
def test_workers_find_the_same_data_and_network(guardclash: Guardclash, tmp_path: Path):  # noqa: F811
    path = write(tmp_path, STUDY + SMALL)
    assert guardclash("run", path, "--workers", 2).code == 0
    together = guardclash("report", path, "--format", "csv").out
    assert guardclash("run", path, "--workers", 0, "--store", "alone").code == 0
    assert guardclash("report", path, "--format", "csv", "--store", "alone").out == together


def test_the_same_from_python_has_the_same_keys(tmp_path: Path):
    arrays = signs()
    from_file = keys(read_study(write(tmp_path)))
    nets = imported(tmp_path / "nets.py")
    pairs = (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
    task = product.Task("signs", model=nets.build, train=pairs[0], test=pairs[1], training=TRAINING)
    replicates = {"alone": 1, "together": 1}
    assert keys(product.Study(task, [QUICK], replicates=replicates)) == from_file


def test_a_study_in_python_runs_without_a_file(site: Site):
    arrays = signs()
    train, test = ((arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test"))
    task = product.Task("signs", train=train, test=test, training={"epochs": 1})
    study = product.Study(task, [("wm", "dpsgd-control")], replicates={"alone": 1, "together": 1})
    results = run_study(study, site, Inline())
    assert all(trial.measurements for cell in results.cells.values() for trial in cell.trials)


def test_changed_data_and_networks_never_meet_old_results(
    guardclash: Guardclash,  # noqa: F811
    tmp_path: Path,
    trained: Trained,
):
    path = write(tmp_path, STUDY + SMALL)
    assert guardclash("run", path, "--workers", 0).code == 0
    assert len(trained.since()) == 4
    labels = signs()["y_train"]
    write(tmp_path, STUDY + SMALL, y_train=np.random.default_rng(1).permutation(labels))
    planned = guardclash("plan", path).out
    assert (
        "To train: 4 models" in planned and "changed since the results of" in planned and "labels of train" in planned
    )
    ran = guardclash("run", path, "--workers", 0)
    assert "labels of train" in ran.err and len(trained.since()) == 4
    write(tmp_path, STUDY + SMALL)
    assert guardclash("run", path, "--workers", 0).code == 0
    assert trained.since() == []
    (tmp_path / "nets.py").write_text((tmp_path / "nets.py").read_text() + "\n# another word\n")
    planned = guardclash("plan", path).out
    assert "To train: 4 models" in planned and "code of the network" in planned


def test_data_that_change_under_a_run_are_refused(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GUARDCLASH_CACHE", str(tmp_path / "cache"))
    study = read_study(write(tmp_path, STUDY + SMALL))
    composed = compose_study(study)
    write(tmp_path, STUDY + SMALL, y_train=signs()["y_train"][::-1].copy())
    for cache in (keeping._splits, loading._kept):  # as in a worker, which has read nothing yet
        cache.cache_clear()
    with pytest.raises(product.UserError, match="not those that were planned with"):
        composed[0].plan.task.source.load(site.context(0))  # type: ignore[union-attr]


def test_a_recipe_may_name_another_network(tmp_path: Path):
    path = write(
        tmp_path, STUDY.replace('dataset = "signs"', 'dataset = "signs"\nmodel = "nets.py:wide"') + COMBINATION
    )
    with pytest.raises(product.UserError, match="no function 'wide'"):
        compose_study(read_study(path))
    nets = tmp_path / "nets.py"
    nets.write_text(nets.read_text() + "\n\ndef wide(classes, shape):\n    return ResNet18(shape[0], classes, 8)\n")
    widths = [entry.plan.model.build().fc.in_features for entry in compose_study(read_study(path)) if entry.plan]
    assert set(widths) == {64}


def test_a_report_holds_the_task_so_that_the_study_can_be_repeated(tmp_path: Path):
    extra = """options = { width = 4 }
weights = "start.safetensors"
neighbour = "gtsrb"
mean = [0.1, 0.2, 0.3]
[tasks.training]"""
    study = read_study(write(tmp_path, STUDY.replace("[tasks.training]", extra) + COMBINATION))
    again = study_from(tomllib.loads(study_text(study)))
    assert again.tasks == study.tasks and again.recipes == study.recipes


def run_all(study: Study, site: Site) -> dict[str, dict[str, float]]:
    """What was measured, by combination; a clash by its reason."""
    results = run_study(study, site, Inline())
    found: dict[str, dict[str, float]] = {}
    for cell in results.cells.values():
        measured = found.setdefault(" ".join(named.name for named in cell.combination), {})
        measured |= {cell.clash: 0.0} if cell.clash else {}
        for trial in cell.trials:
            assert not trial.error, trial.error
            for one in trial.measurements.values():
                measured |= one.values
    return found


ONCE = {"alone": 1, "together": 1}


def test_several_labels(site: Site):
    arrays = signs()
    several = {
        split: np.eye(7)[arrays[f"y_{split}"]] + np.eye(7)[(arrays[f"y_{split}"] + 3) % 7]
        for split in ("train", "test")
    }
    pairs = {split: (arrays[f"x_{split}"], several[split]) for split in several}
    task = product.Task("tags", train=pairs["train"], test=pairs["test"], utility="auroc", training={"epochs": 1})
    study = product.Study(task, [[{"name": "advtr", "steps": 2}, "dpsgd"], ["wm", "dpsgd"]], replicates=ONCE)
    found = run_all(study, site)
    assert {"auroc", "adv_accuracy", "epsilon"} <= found["advtr dpsgd"].keys()
    assert any("one class" in clash for clash in found["wm dpsgd"])


def test_tokens_with_a_network_of_one_s_own(site: Site):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, (200, 9))
    y = (x[:, 0] > 9).astype(np.int64)
    mask = np.arange(9) < rng.integers(4, 10, (200, 1))
    arrays = {"x_train": x, "y_train": y, "mask_train": mask}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(site.store.folder.parent)
        np.savez("texts.npz", **arrays)
        task = product.Task("texts", data="texts.npz", training={"epochs": 1})
        study = product.Study(task, [["wm", "dpsgd"], ["advtr", "dpsgd"], ["raddata", "wm"]], replicates=ONCE)
        found = run_all(study, site)
    assert {"accuracy", "wm_accuracy", "epsilon"} <= found["wm dpsgd"].keys()
    assert any("tokens" in clash for clash in found["advtr dpsgd"])
    assert any("raddata" in clash for clash in found["raddata wm"])


def test_others_that_came_with_the_data_are_the_triggers(tmp_path: Path):
    others = np.full((30, 3, 40, 24), 7, np.uint8)
    study = read_study(write(tmp_path, STUDY + SMALL.replace('"wm"', '{ name = "wm", triggers = 20 }'), x_ood=others))
    (plan,) = {
        entry.plan
        for entry in compose_study(study)
        if entry.plan and entry.plan.stream("trigger") and len(entry.combination) == 1
    }
    context = product.RunContext(0, tmp_path)
    triggers = context.data(plan.stream("trigger").source)  # type: ignore[union-attr]
    assert (triggers.x * 255 == 7).all() and triggers.y.unique().numel() > 1
    native = STUDY + SMALL.replace('"wm"', '{ name = "wm", triggers = 20, labels = "native" }')
    with pytest.raises(product.UserError, match="no labels of their own"):
        compose_study(read_study(write(tmp_path, native, x_ood=others)))


def test_a_task_may_be_judged_by_a_measure_of_a_plugin(tmp_path: Path, site: Site):
    (tmp_path / "sure.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from guardclash import MaxDrop, Metric\nfrom guardclash.measure import Measure\n\n\n"
        "@dataclass(frozen=True)\nclass Sure(Measure):\n"
        "    name: ClassVar[str] = 'sure'\n"
        "    metrics: ClassVar[tuple[Metric, ...]] = (Metric('sure', 'φ_SURE', MaxDrop(0.1)),)\n\n"
        "    def measure(self, trained, context):\n"
        "        x, _ = context.data(trained.plan.judged_by.test)\n"
        "        return {'sure': trained.predict(x).softmax(1).amax(1).mean().item()}\n"
    )
    text = 'plugins = ["sure.py"]\n' + STUDY.replace('utility = "accuracy"', 'utility = "sure"') + SMALL
    found = run_all(read_study(write(tmp_path, text)), site)
    assert all("sure" in measured and "accuracy" not in measured for measured in found.values())


@pytest.mark.parametrize("key", [{"groups": "sex"}, {"target": "y"}, {"size": 8}, {"categories": ["a"]}])
def test_what_says_nothing_about_arrays_is_refused(key: dict[str, object]):
    arrays = signs()
    with pytest.raises(product.UserError, match=f"has no {next(iter(key))}"):
        product.Task("signs", train=(arrays["x_train"], arrays["y_train"]), **key)
