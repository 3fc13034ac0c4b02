"""Studies that run in seconds, and what watches them: shared by the tests of runs."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guardclash.plan.identity import fingerprint
from guardclash.plan.plan import Plan
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.findings import find
from guardclash.reporting.text import render
from guardclash.studies import jobs
from guardclash.studies.jobs import Done, Job, Site
from guardclash.studies.run import run_study
from guardclash.studies.seal import sealed_json
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from
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
    results: Results = Results()  # noqa: RUF009  (frozen)

    def started(self, waves: tuple[tuple[Job, ...], ...], seconds: dict[str, float]) -> None:
        self.waves, self.seconds = waves, seconds

    def done(self, done: Done) -> None:
        self.jobs.append(done)

    def collected(self, results: Results) -> None:
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
from guardclash.plan.examples import Data
from guardclash.plan.plan import Plan
from guardclash.plan.sources import Split

"""


def ran(*arguments: Any, **options: Any) -> dict[str, Any]:
    """What a run of a study gives, as JSON data."""
    return json.loads(json.dumps(to_plain(run_study(*arguments, **options))))


def values(content: dict[str, Any], combination: list[str]) -> dict[int, dict[str, float]]:
    """All metrics by seed of the cell whose mechanisms have these names."""
    (cell,) = [cell for cell in content["cells"] if [named["name"] for named in cell["combination"]] == combination]
    return {
        trial["seed"]: {name: value for entry in trial["measurements"] for name, value in entry["values"].items()}
        for trial in cell["trials"]
    }


def edited(path: Path, **changes: Any) -> None:
    """Changes fields of a JSON file of a store, as an older version would have written them: its checksum fits.

    Args:
        path: The file.
        changes: New values by the names that lead there, joined by "__"; None takes a field away.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("seal", None)
    for place, value in changes.items():
        *outer, last = place.split("__")
        part = content
        for name in outer:
            part = part[name]
        part[last] = value
        if value is None:
            del part[last]
    path.write_bytes(sealed_json(content))


def keys_in(store: Store) -> set[str]:
    return {path.name for path in (store.folder / "trials").glob("*")}


def report(wanted: Study, content: dict[str, Any] | Results) -> str:
    results = content if isinstance(content, Results) else results_from(content)
    return render(find(wanted, results, wanted.rule))
