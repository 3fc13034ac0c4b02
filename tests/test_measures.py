"""Measures: what can be asked of any model, listed by a mechanism or by a study, and what mechanisms do to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.compose import Clash, compose
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.space import Rows
from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.plan.examples import Data
from guardclash.plan.identity import describe
from guardclash.plan.sources import Split
from guardclash.records.plain import results_from
from guardclash.registry import MEASURES, find, find_mechanisms, known
from guardclash.reporting import findings
from guardclash.reporting.forms import FORMS
from guardclash.reporting.page_parts.records import raw_values
from guardclash.reporting.rows import rows as tidy
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.side_effects import side_effects
from guardclash.tasks.recipe import recipe
from running import load, ran, site, study, values  # noqa: F401

# Utility against independent implementations


class Fixed:
    """A context whose data are given."""

    def __init__(self, y: torch.Tensor):
        self.y = y

    def data(self, source: Any) -> Data:
        return Data(torch.arange(len(self.y)).float()[:, None], self.y)


class Told:
    """A model whose answers are given."""

    def __init__(self, logits: torch.Tensor):
        self.logits = logits

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits[x[:, 0].long()]


def measured(name: str, logits: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    return find(MEASURES, name)(test="given").measure(Told(logits), Fixed(y))


def by_hand(name: str, logits: np.ndarray, y: np.ndarray) -> float | None:
    told, classes = logits.argmax(1), range(logits.shape[1])
    shares = torch.tensor(logits).softmax(1).numpy()  # its ties are those of the measure
    if name == "accuracy":
        return float((told == y).mean())
    if name == "balanced_accuracy":
        return float(np.mean([(told[y == one] == one).mean() for one in classes if (y == one).any()]))
    if name == "macro_f1":
        found = []
        for one in classes:
            right = ((told == one) & (y == one)).sum()
            both = (told == one).sum() + (y == one).sum()
            found.append(2 * right / both if both else 0.0)
        return float(np.mean(found))
    areas = []
    for one in [1] if len(classes) == 2 else classes:
        inside, outside = shares[y == one, one], shares[y != one, one]
        if len(inside) and len(outside):
            pairs = inside[:, None] - outside[None]
            areas.append(((pairs > 0) + 0.5 * (pairs == 0)).mean())  # Mann and Whitney
    return float(np.mean(areas)) if areas else None


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1", "auroc"])
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), classes=st.integers(2, 5), ties=st.booleans())
def test_utilities_are_what_they_are_by_hand(name, seed, n, classes, ties):
    chance = np.random.default_rng(seed)
    logits = chance.normal(size=(n, classes)).round(1 if ties else 8)
    y = chance.integers(classes, size=n)
    found = measured(name, torch.tensor(logits), torch.tensor(y)).get(name)
    expected = by_hand(name, logits, y)
    assert found is expected is None or found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", sorted(known(MEASURES)))
def test_every_measure_is_complete(name):
    cls = known(MEASURES)[name]
    assert cls.__doc__ and cls.metrics and not issubclass(cls, Mechanism)
    bound = cls().bind(recipe("digits", "smoke").plan())
    describe(bound)
    assert {metric.name for metric in bound.metrics}
    assert hash(bound) == hash(replace(bound))


def test_what_a_utility_is_measured_on_is_part_of_it():
    plan = recipe("digits", "smoke").plan()
    bound = find(MEASURES, "balanced_accuracy")().bind(plan)
    assert bound.test == Split("digits", "test")
    assert find(MEASURES, "balanced_accuracy")(test=Split("digits", "test", 10)).bind(plan).test.size == 10


# Studies that list measures


QUICK = {"steps": 2, "test_examples": 20}


def test_a_study_lists_measures_for_all_its_cells(site):  # noqa: F811
    wanted = study(["wm", "dpsgd-control"], seeds=1, measures=["balanced_accuracy", {"name": "robustness", **QUICK}])
    content = ran(wanted, site, Inline())
    assert len(content["cells"]) == 4, "a measure adds no cell"
    for names in ([], ["wm"], ["dpsgd-control"], ["wm", "dpsgd-control"]):
        found = values(content, names)[0]
        assert {"accuracy", "balanced_accuracy", "adv_accuracy", "adv_doubt"} <= set(found)
        assert 0 <= found["adv_accuracy"] <= found["accuracy"] + 0.3


def test_adding_a_measure_trains_nothing_and_measures_the_rest_once(site, trained):  # noqa: F811
    ran(study(["wm"], seeds=1), site, Inline())
    assert len(trained.since()) == 2
    ran(study(["wm"], seeds=1, measures=["macro_f1"]), site, Inline())
    assert trained.since() == []


def test_mechanisms_with_one_attack_share_its_measurement():
    wanted = study([{"name": "advtr", **QUICK}, "wm"], [{"name": "trades", **QUICK}, "wm"], seeds=1)
    unprotected = compose_study(wanted)[0]
    (trial,) = unprotected.trials()
    keys = {
        named.name: [
            probe.key
            for probe, (of, _) in zip(unprotected.probes(trial), unprotected.measures, strict=True)
            if of == named
        ]
        for named in wanted.mechanisms()
    }
    assert keys["advtr"] == keys["trades"] and len(keys["advtr"]) == 1
    asked = study([{"name": "advtr", **QUICK}], seeds=1, measures=[{"name": "robustness", **QUICK}])
    (entry, *_) = compose_study(asked)
    (trial,) = entry.trials()
    assert len({probe.key for probe in entry.probes(trial)}) == 2, "accuracy, and one robustness"


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        (["balanced_acuracy"], "unknown measure 'balanced_acuracy'.*balanced_accuracy"),
        ([{"name": "robustness", "radius": -1.0}], "robustness.radius"),
        ([{"name": "robustness", "radus": 1.0}], "'radus'.*radius"),
        (["wm"], "a mechanism and a measure have one name|unknown measure"),
        (["dpsgd"], "unknown measure 'dpsgd'"),
    ],
)
def test_mistakes_are_told(measures, said):
    with pytest.raises(UserError, match=said):
        compose_study(study(["wm"], measures=measures))


PLUGIN = """
from guardclash.measure import Measure

@dataclass(frozen=True)
class Sureness(Measure):
    '''How sure a model is of its answers.'''
    name: ClassVar[str] = "sureness"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("sureness", "sure", MaxDrop(0.2)),)
    test: Any = None
    def bind(self, unprotected):
        return replace(self, test=unprotected.judged_by.test)
    def measure(self, trained, context):
        return {"sureness": trained.predict(context.data(self.test).x).softmax(1).max(1).values.mean().item()}

@dataclass(frozen=True)
class Contrary(Mechanism):
    '''Answers the least likely class.'''
    name: ClassVar[str] = "contrary"
    concern: ClassVar[str] = "none"
    def serve(self, predict, trained, context):
        return lambda x: -predict(x)

@dataclass(frozen=True)
class Oracle(Mechanism):
    '''Knows the test set by heart.'''
    name: ClassVar[str] = "oracle"
    concern: ClassVar[str] = "none"
    test: Any = None
    def bind(self, unprotected):
        return replace(self, test=unprotected.judged_by.test)
    def serve(self, predict, trained, context):
        labels = context.data(self.test).y
        return lambda x: 9.0 * (labels[:len(x), None] == __import__("torch").arange(10)).float()

@dataclass(frozen=True)
class Idle(Mechanism):
    '''Does nothing.'''
    name: ClassVar[str] = "idle"
    concern: ClassVar[str] = "none"
    def serve(self, predict, trained, context):
        return lambda x: predict(x) + 0.0
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    import running
    from guardclash.studies.jobs import Site
    from guardclash.studies.store import Store

    folder = tmp_path_factory.mktemp("effects")
    path = folder / "plugin_effects.py"
    path.write_text(running.HEAD + PLUGIN)
    wanted = study(
        ["contrary", "idle"],
        ["oracle", "idle"],
        seeds=3,
        plugins=[str(path)],
        measures=["balanced_accuracy", "sureness"],
    )
    content = ran(wanted, Site(Store(folder / "runs"), folder), Inline())
    return wanted, content


@pytest.mark.parametrize("rule", ["strict", "paper", "bounded"])
def test_side_effects_are_judged_against_the_unprotected_model(judged, rule):
    wanted, content = judged
    found = {
        (one.cell.combination[0].name, one.judgement.metric.name): one.effect(rule)
        for one in side_effects(wanted.under(rule), results_from(content))
    }
    # Tests that presume nothing but the range need more than three seeds.
    assert found["contrary", "balanced_accuracy"] == ("undecided" if rule == "bounded" else "harmed")
    assert found["oracle", "balanced_accuracy"] == ("undecided" if rule == "bounded" else "improved")
    assert found["idle", "balanced_accuracy"] in ("unharmed", "undecided")
    assert len(found) == 6


@pytest.mark.parametrize("form", ["text", "md", "tex", "html", "json"])
def test_every_form_of_a_report_tells_side_effects(judged, form):
    wanted, content = judged
    said = FORMS[form](findings.find(wanted, results_from(content), "strict")).decode()
    assert "side effects" in said.lower() or "side_effects" in said
    for word in ("harmed", "improved", "contrary", "oracle", "balanced_accuracy" if form == "json" else "BACC"):
        assert word in said, word
    bare = FORMS[form](findings.find(replace(wanted, measures=()), results_from(content), "strict")).decode()
    assert "harmed" not in bare


def test_values_of_a_studys_measures_are_in_the_tidy_table(judged):
    wanted, content = judged
    found = [row for row in tidy(findings.find(wanted, results_from(content))) if row["metric"] == "sureness"]
    assert {row["mechanism"] for row in found} == {"sureness"}
    assert len({row["combination"] for row in found}) == 6
    seeds, shown = raw_values(wanted, results_from(content))
    assert len([row for cell in shown for row in cell.rows if row.metric == "sure"]) == 6 and seeds == (0, 1, 2)


def test_the_same_models_are_unharmed(judged):
    """Equal values in both arms: nothing is lost, whatever the spread."""
    wanted, content = judged
    loose = replace(wanted, criteria=(("balanced_accuracy", replace(_drop(), threshold=0.9)),))
    found = {
        one.cell.combination[0].name: one
        for one in side_effects(loose, results_from(content))
        if one.of.name != "sureness"
    }
    assert found["idle"].effect("strict") == "unharmed"
    assert found["idle"].judgement.alone.values == found["idle"].judgement.together.values


def _drop() -> Any:
    from guardclash.judging.criteria import MaxDrop

    return MaxDrop(0.1)


def test_fewer_seeds_leave_side_effects_undecided(judged):
    wanted, content = judged
    more = replace(wanted, alone=4)
    assert {one.effect("strict") for one in side_effects(more, results_from(content))} == {"undecided"}
    assert all("of 4" in " ".join(one.judgement.missing) for one in side_effects(more, results_from(content)))


def test_without_measures_there_are_no_side_effects(judged):
    wanted, content = judged
    assert side_effects(replace(wanted, measures=()), results_from(content)) == ()


# Inputs that are no images


def read_rows(split: str, folder: Any) -> Examples:
    chance = np.random.default_rng(len(split))
    y = chance.integers(3, size=90)
    return Examples((chance.normal(size=(90, 4)) + y[:, None]).astype(np.float32), y.astype(np.int64))


ROWS = Dataset("rows-of-measures", "Rows", Rows(("a", "b", "c", "d")), 3, (("train", 90), ("test", 90)), read_rows)


@pytest.fixture
def rows(monkeypatch):
    from guardclash.data.catalog import datasets
    from guardclash.tasks.catalog import tasks
    from guardclash.tasks.recipe import standard
    from guardclash.tasks.task import Task

    monkeypatch.setitem(datasets(), ROWS.name, ROWS)
    monkeypatch.setitem(tasks(), ROWS.name, Task(ROWS, standard(ROWS), utility="macro_f1"))
    return ROWS.name


def test_what_a_mechanism_needs_of_inputs_is_a_clash_before_any_training(rows):
    plan = recipe(rows, "smoke").plan()
    for cls in find_mechanisms().values():
        if cls.spaces and Rows not in cls.spaces:
            with pytest.raises(Clash, match=f"{cls.name} {cls.does}, and the inputs of this task are rows"):
                compose(plan, [cls()])
    assert compose(plan, [find_mechanisms()["dpsgd"]()]).task.gradient != plan.task.gradient


def test_a_measure_for_other_inputs_is_refused(rows):
    with pytest.raises(UserError, match=r"backdoor_success cannot be measured on .*: it looks for a square on images"):
        compose_study(study(["dpsgd"], recipe={"dataset": rows, "scale": "smoke"}, measures=["backdoor_success"]))


def test_rows_train_with_and_without_privacy_and_are_judged_by_their_utility(rows, site):  # noqa: F811
    wanted = study(["dpsgd", "raddata"], seeds=1, recipe={"dataset": rows, "scale": "smoke", "epochs": 12})
    content = ran(wanted, site, Inline())
    assert not [trial for cell in content["cells"] for trial in cell["trials"] if trial.get("error")]
    plain, private = values(content, [])[0], values(content, ["dpsgd"])[0]
    assert plain["macro_f1"] > 0.6 and "accuracy" not in plain
    assert private["epsilon"] == pytest.approx(3.0, rel=0.02)
    clashes = {tuple(named["name"] for named in cell["combination"]): cell["clash"] for cell in content["cells"]}
    assert "marks images" in clashes["raddata",] and "marks images" in clashes["dpsgd", "raddata"]


@pytest.mark.parametrize("form", ["text", "md", "tex", "html", "csv"])
def test_reports_show_the_utility_of_the_task_and_no_accuracy(rows, site, form):  # noqa: F811
    wanted = study(["dpsgd", "dpsgd-control"], seeds=3, recipe={"dataset": rows, "scale": "smoke"})
    said = FORMS[form](findings.find(wanted, results_from(ran(wanted, site, Inline())), "strict")).decode()
    assert ("F<sub>" in said or "φ<sub>F1</sub>" in said) if form == "html" else ("F1" in said or "macro_f1" in said)
    assert "ACC" not in said and "accuracy" not in said.replace("accuracy in", "")
