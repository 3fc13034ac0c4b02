"""The dry run: every mistake of a plugin is told with its line before anything is trained, and nothing stays behind."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from guardclash.data.catalog import datasets
from guardclash.mechanism import Mechanism
from guardclash.studies.dry_run import check_study
from guardclash.studies.jobs import Site
from guardclash.studies.study_file import study_from
from running import SMOKE, study
from test_cli import Guardclash, guardclash  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[1]
PLUGIN = '''
from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash import MaxDrop, Mechanism, Metric
from guardclash.measure import Measure
from guardclash.plan.condition import Condition
from guardclash.suspect import Suspect, on


@dataclass(frozen=True)
class Sound(Mechanism):
    """Does nothing, and measures one half."""

    name: ClassVar[str] = "sound"
    concern: ClassVar[str] = "nothing"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("half", "half", MaxDrop(0.1)),)

    def measure(self, trained, context):
        return {"half": 0.5}

    def verify(self, suspect, victim, context):
        return {"half": 0.5}
'''
BROKEN = """
    def HOOK(self, *given):
        return self.no_such_field
"""
HOOKS = (
    *("data", "architecture", "batch", "objective", "gradient", "after", "serve", "measure", "verify", "curves"),
    *("scatter", "warnings", "facts", "evidence", "needs", "bind", "measures", "beside"),
)
OTHERS = {
    "a condition, training": (
        "class Other(Condition):\n    name: ClassVar[str] = 'other'\n    def train(self, data, context):\n"
        "        return data.no_such_field\n",
        {"recipes": [{**SMOKE, "conditions": ["other"]}]},
    ),
    "a condition, testing": (
        "class Other(Condition):\n    name: ClassVar[str] = 'other'\n    def test(self, data, context):\n"
        "        return data.no_such_field\n",
        {"recipes": [{**SMOKE, "conditions": ["other"]}]},
    ),
    "a measure": (
        "class Other(Measure):\n    name: ClassVar[str] = 'other'\n"
        "    metrics: ClassVar[tuple[Metric, ...]] = (Metric('m', 'm', None),)\n"
        "    def measure(self, trained, context):\n        return {'m': trained.no_such_field}\n",
        {"measures": ["other"]},
    ),
    "a suspect": (
        "class Other(Suspect):\n    kind: ClassVar[str] = 'other'\n    def plan(self, victim, unprotected):\n"
        "        return victim.no_such_field\n",
        {"suspects": [{"kind": "other"}]},
    ),
}


def plugin(folder: Path, more: str = "") -> Path:
    path = folder / f"mine_{abs(hash(more)) % 10**9}.py"
    path.write_text(PLUGIN + more)
    return path


def snapshot(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_the_list_of_hooks_is_whole():
    """A new hook of `Mechanism` must be tried as well."""
    own = {name for name, value in vars(Mechanism).items() if callable(value) and not name.startswith("_")}
    assert own | {"measure", "scatter", "warnings", "needs", "bind"} == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_mistake_in_a_hook_is_told_with_its_line(hook: str, tmp_path: Path, site: Site):
    path = plugin(tmp_path, BROKEN.replace("HOOK", hook))
    line = path.read_text().splitlines().index("        return self.no_such_field") + 1
    suspects = [{"kind": "retraining"}] if hook in ("verify", "curves") else []
    dry = check_study(study(["sound", "dpsgd-control"], plugins=[str(path)], suspects=suspects), site)
    texts = [str(mistake) for mistake in dry.mistakes]
    assert len(texts) == 1, texts
    assert texts[0].startswith(f"{path.name}:{line} in {hook}: AttributeError: ") and "\n" not in texts[0]
    assert not site.store.folder.exists() or not snapshot(site.store.folder)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_mistake_outside_of_mechanisms_is_told_with_its_line(kind: str, tmp_path: Path, site: Site):
    code, keys = OTHERS[kind]
    path = plugin(tmp_path, f"\n\n@dataclass(frozen=True)\n{code}")
    dry = check_study(study(["sound", "dpsgd-control"], plugins=[str(path)], **keys), site)
    (mistake,) = dry.mistakes
    assert re.match(rf"{path.name}:\d+ in \w+: AttributeError", str(mistake))


@pytest.mark.parametrize(
    ("returned", "said"),
    [("{'other': 1.0}", "declared"), ("{'half': float('nan')}", "half"), ("{'half': 'much'}", "half")],
)
def test_what_a_measure_returns_is_checked_as_in_a_run(returned: str, said: str, tmp_path: Path, site: Site):
    path = plugin(tmp_path, f"\n    def measure(self, trained, context):\n        return {returned}\n")
    (mistake,) = check_study(study(["sound", "wm"], plugins=[str(path)]), site).mistakes
    assert said in str(mistake)


SILENT = {
    "a training that needs does not name": (
        "\n    def measure(self, trained, context):\n"
        "        other = replace(trained.plan, epochs=7)\n"
        "        return {'half': float(context.trained(other) is not None) / 2}\n",
        "does not name",
    ),
    "a loss that is no number": (
        "\n    def objective(self, stream, plan):\n        return replace(stream, objectives=(Broken(),))\n\n\n"
        "@dataclass(frozen=True)\nclass Broken:\n    def __call__(self, network, batch, now):\n"
        "        return network(batch.x).sum(1) * float('nan')\n",
        "no number",
    ),
    "a sampler": (
        "\n    def gradient(self, stream, plan):\n        return replace(stream, sampler=Broken())\n\n\n"
        "@dataclass(frozen=True)\nclass Broken:\n    batch_size: int = 8\n"
        "    def steps(self, size):\n        return 1\n"
        "    def batches(self, size, rng):\n        return rng.no_such_field\n",
        "no_such_field",
    ),
}


@pytest.mark.parametrize("kind", SILENT)
def test_what_only_a_run_would_meet_is_met(kind: str, tmp_path: Path, site: Site):
    code, said = SILENT[kind]
    dry = check_study(study(["sound", "dpsgd-control"], plugins=[str(plugin(tmp_path, code))]), site)
    assert dry.mistakes and all(said in str(one) for one in dry.mistakes), dry.mistakes


def test_several_mistakes_are_all_told_each_once(tmp_path: Path, site: Site):
    broken = BROKEN.replace("HOOK", "facts") + BROKEN.replace("HOOK", "evidence").replace("field", "other")
    dry = check_study(study(["sound", "wm"], ["sound", "dpsgd-control"], plugins=[str(plugin(tmp_path, broken))]), site)
    assert len(dry.mistakes) == 2


def test_a_sound_study_passes_and_nothing_is_left_behind(tmp_path: Path, site: Site):
    before, state, numpy_state = dict(datasets()), torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    wanted = study(["sound", "wm", "dpsgd"], plugins=[str(plugin(tmp_path))], suspects=[{"kind": "extraction"}])
    dry = check_study(wanted, site)
    assert not dry.mistakes and not dry.untried and dry.trainings > 3 and dry.measurements > 5
    assert datasets() == before and torch.equal(torch.random.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numpy_state
    assert not snapshot(site.store.folder)


def test_what_there_is_no_time_for_is_counted(site: Site):
    seconds = iter(range(0, 10_000, 30))
    dry = check_study(study(["wm", "dpsgd"], ["raddata", "wm"]), site, limit=60, clock=lambda: next(seconds))
    assert dry.untried and not dry.mistakes and "not tried" in str(dry)


@pytest.mark.slow
def test_what_fails_on_few_examples_only_is_no_mistake(tmp_path: Path, site: Site):
    few = """
    def measure(self, trained, context):
        x, _ = context.data(trained.plan.judged_by.test)
        if len(x) < 200:
            raise KIND
        return {"half": 0.5}
"""
    for kind in ("ValueError(len(x))", "UserError('too few')"):
        text = "from guardclash import UserError\n" + few.replace("KIND", kind)
        path = tmp_path / f"few{len(kind)}.py"
        path.write_text(f"from guardclash import UserError\n{PLUGIN}{few.replace('KIND', kind)}")
        assert text and not check_study(study(["sound", "wm"], plugins=[str(path)]), site).mistakes
    always = plugin(tmp_path, few.replace("KIND", "ValueError('never')").replace("200", "10**9"))
    (mistake,) = check_study(study(["sound", "wm"], plugins=[str(always)]), site).mistakes
    assert "ValueError: never" in str(mistake)


def test_a_mechanism_that_asks_for_more_gets_more(site: Site):
    assert not check_study(study([{"name": "wm", "triggers": 600}, "dpsgd-control"]), site).mistakes


@pytest.mark.parametrize("path", ["digits.toml"])
def test_committed_studies_on_bundled_data_pass(path: str, site: Site):
    from guardclash.studies.study_file import read_study

    dry = check_study(read_study(ROOT / "studies" / path, "smoke"), site)
    assert not dry.mistakes and not dry.untried


def test_missing_data_are_told(site: Site):
    wanted = study_from({"recipes": [{"dataset": "mnist"}], "combinations": [{"mechanisms": ["wm", "dpsgd-control"]}]})
    dry = check_study(wanted, site)
    assert all("data fetch" in str(mistake) for mistake in dry.mistakes) and dry.mistakes


# From the command line

SMALL = """
plugins = ["NAME.py"]
replicates = { alone = 1, together = 1 }
recipes = [{ dataset = "digits", scale = "smoke" }]
combinations = [{ mechanisms = ["sound", "wm"] }]
"""


def files(folder: Path, name: str, more: str = "") -> Any:
    (folder / f"{name}.py").write_text(PLUGIN + more)
    (folder / "small.toml").write_text(SMALL.replace("NAME", name))
    return folder / "small.toml"


def test_check_and_run_tell_a_mistake_and_train_nothing(
    guardclash: Guardclash,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    path = files(tmp_path, "mine", BROKEN.replace("HOOK", "measure"))
    monkeypatch.delenv("GUARDCLASH_CHECK")
    for command in (("check", path), ("run", path, "--workers", 0)):
        said = guardclash(*command)
        assert said.code == 2 and "mine.py:" in said.err and "in measure" in said.err, said.err
        assert "Traceback" not in said.err
    assert not (tmp_path / "runs" / "trials").exists()


def test_run_tries_first_and_only_what_is_missing(
    guardclash: Guardclash,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    path = files(tmp_path, "also_mine")
    monkeypatch.delenv("GUARDCLASH_CHECK")
    assert "no mistake found" in guardclash("check", path).out
    assert "no mistake found" in guardclash("run", path, "--workers", 0).err
    assert "tried on few examples" not in guardclash("run", path, "--workers", 0).err
    path.write_text(SMALL.replace('["sound", "wm"]', '["wm", "dpsgd-control"]').replace("NAME", "also_mine"))
    assert "2 trainings" in guardclash("run", path, "--workers", 0).err
    assert "tried" not in guardclash("run", path, "--workers", 0, "--no-check", "--store", "other").err
    assert os.environ.get("GUARDCLASH_CHECK") is None
