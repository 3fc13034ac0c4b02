"""The code of docs/extend.md, run as it stands there."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from guardclash.records.plain import results_from
from guardclash.registry import GROUP, known
from guardclash.reporting.claims import claims
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.studies.side_effects import side_effects
from guardclash.studies.study_file import study_from
from running import ran, study

PAGE = (Path(__file__).parents[1] / "docs" / "extend.md").read_text(encoding="utf-8")
WM = {"name": "wm", "triggers": 20, "batch_size": 10, "passes": 4, "cadence": "mixed"}


def section(title: str) -> str:
    return PAGE.split(f"\n# {title}\n")[1].split("\n# ")[0]


def blocks(title: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", section(title), re.DOTALL)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Writes the code of a section under the name that the page gives it."""
    loaded: list[str] = []

    def write(title: str) -> Path:
        name = re.search(r"[Ss]ave it as `(\w+\.py)`", section(title))
        assert name, f"{title} does not say how the file is called"
        path = tmp_path / name[1]
        path.write_text(blocks(title, "python")[0], encoding="utf-8")
        loaded.append(f"guardclash_plugin_{path.stem}")
        return path

    yield write
    for name in loaded:
        sys.modules.pop(name, None)


def errors(content: dict[str, Any]) -> list[str]:
    return [trial["error"] for cell in content["cells"] for trial in cell["trials"] if trial.get("error")]


def test_every_section_is_there_and_named_at_the_head():
    head = PAGE.split("\n# A mechanism\n")[0]
    titles = re.findall(r"^# (An? \w+)$", PAGE, re.MULTILINE)
    assert titles == ["A mechanism", "A measure", "A condition", "A suspect", "A task", "An engine"]
    assert all(f"[{title}](#{title.lower().replace(' ', '-')})" in head for title in titles)


def test_a_mechanism(site: Site, file: Any):
    wanted = study(["noise"], seeds=1, plugins=[str(file("A mechanism"))])
    content = ran(wanted, site, Inline())
    assert not errors(content) and len(content["cells"]) == 2
    assert study_from(tomllib.loads(blocks("A mechanism", "toml")[0])).mechanisms()[1].name == "noise"


def test_a_measure(site: Site, file: Any):
    path = file("A measure")
    listed = tomllib.loads(blocks("A measure", "toml")[0])
    assert listed["plugins"] == [path.name]
    quick = [{**one, "steps": 2, "test_examples": 20} if isinstance(one, dict) else one for one in listed["measures"]]
    wanted = study(["dpsgd-control"], seeds=3, plugins=[str(path)], measures=quick)
    content = ran(wanted, site, Inline())
    assert not errors(content)
    found = {one.judgement.metric.name: one for one in side_effects(wanted, results_from(content))}
    assert {"sureness", "balanced_accuracy", "adv_accuracy"} <= set(found)
    assert found["sureness"].judgement.together.n == 3


def test_a_condition(site: Site, file: Any):
    path = file("A condition")
    listed = tomllib.loads(blocks("A condition", "toml")[0])
    (recipe,) = listed["recipes"]
    wanted = study([WM], seeds=1, recipe=recipe, plugins=[str(path)])
    names = [type(one).__name__ for one in compose_study(wanted)[0].recipe.conditions]
    assert names == ["Negatives", "Backdoor"]
    assert not errors(ran(wanted, site, Inline()))


def test_a_suspect(site: Site, file: Any):
    suspects = [{"kind": "blurring", "share": share} for share in (0.01, 10.0)]
    recipe = {"examples": 256, "epochs": 8, "norm": "group"}
    wanted = study([WM], seeds=1, recipe=recipe, suspects=suspects, plugins=[str(file("A suspect"))])
    content = ran(wanted, site, Inline())
    assert not errors(content)
    outcomes = {claim.suspect: claim.outcome for claim in claims(wanted, results_from(content))}
    assert outcomes["blurring(share=0.01)"] == "detected"
    assert outcomes["blurring(share=10)"] == "removed with the model", "nothing is left of it"


def test_a_task(site: Site, file: Any):
    path = file("A task")
    table = tomllib.loads(blocks("A task", "toml")[0])
    wanted = study_from({**table, "plugins": [str(path)], "replicates": {"alone": 1, "together": 1}})
    content = ran(wanted, site, Inline())
    assert not errors(content)
    (plain, *_), clashes = content["cells"], [cell["clash"] for cell in content["cells"]]
    (measured,) = plain["trials"][0]["measurements"][:1]
    assert measured["of"] is None and measured["values"]["macro_f1"] > 0.8
    said = re.search(r'a clash: "(.*)"', blocks("A task", "toml")[0])
    assert said and any(clash and said[1] in clash for clash in clashes)


def test_an_engine(site: Site):
    space: dict[str, Any] = {}
    exec(compile(blocks("An engine", "python")[0], "engine", "exec"), space)
    engine = space["Counting"]()
    ran(study(["dpsgd-control"], seeds=2), site, engine)
    assert engine.jobs == 6, "four trainings, and two plans that are timed first"
    assert json.dumps({"jobs": engine.jobs})


def test_a_package_brings_all_of_it(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As an installed package, by entry points and without a word in the study but the names."""
    titles = {"A mechanism", "A measure", "A condition", "A suspect", "A task"}
    modules = {f"somebodys_{title.split()[1]}": blocks(title, "python")[0] for title in titles}
    folder = tmp_path / "site"
    info = folder / "somebodys-1.0.dist-info"
    info.mkdir(parents=True)
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code.replace('"wine"', '"somebodys-wine"'), encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    points = "".join(f"{name} = {name}\n" for name in modules)
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    monkeypatch.syspath_prepend(str(folder))
    known.cache_clear()
    try:
        suspects = [{"kind": "blurring", "share": 0.01}]
        recipe = {"examples": 200, "conditions": ["negatives"]}
        wanted = study([WM, "noise"], seeds=1, recipe=recipe, measures=["sureness"], suspects=suspects)
        content = ran(wanted, site, Inline())
        assert not errors(content) and len(content["cells"]) == 5
        assert {tuple(one["values"]) for one in content["cells"][0]["trials"][0]["measurements"]} >= {("sureness",)}
        rows = study(["dpsgd"], seeds=1, recipe={"dataset": "somebodys-wine", "epochs": 2})
        assert not errors(ran(rows, site, Inline()))
    finally:
        known.cache_clear()
        for name in modules:
            sys.modules.pop(name, None)
