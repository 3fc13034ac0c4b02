"""Published numbers beside ours: which cells fit, what agrees, what is missing."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from committed import committed
from guardclash.errors import UserError
from guardclash.records.plain import results_from
from guardclash.records.results import Results
from guardclash.reporting.compare import _head, compare, compare_tables, counts
from guardclash.reporting.findings import find
from guardclash.reporting.reference import Published, read_reference, reference_of
from guardclash.reporting.text import plain
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study, study_from

PAPER = Path(__file__).parents[1] / "studies" / "paper"
WM = {"name": "wm_accuracy", "symbol": "φ_WM", "criterion": {"max_drop": 0.3}}
ACC = {"name": "accuracy", "symbol": "φ_ACC", "criterion": {"max_drop": 0.1}}


def published(metric: str = "wm_accuracy", conflict: bool | None = True, **keys: Any) -> Published:
    given = {
        "table": "4",
        "dataset": "digits",
        "combination": {"wm": {}, "dpsgd": {}},
        "mean": 0.36,
        "std": 0.06,
        "n": 10,
    }
    return Published(metric=metric, conflict=conflict, **{**given, **keys})


def study(*combinations: list[Any], **keys: Any) -> Study:
    wanted = [{"mechanisms": mechanisms} for mechanisms in combinations or (["wm", "dpsgd"],)]
    table = {
        "recipes": [{"dataset": "digits", "scale": "smoke"}],
        "combinations": wanted,
        "replicates": {"alone": 3, "together": 3},
        **keys,
    }
    return study_from(table)


def results(asked: Study, values: dict[str, list[float]]) -> Results:
    """Made up: φ_WM by the names of the combination, such as "wm+dpsgd"; accuracy 0.9 everywhere.

    It is measured on the unprotected model, "", and without its mechanism as well.
    """
    cells = []
    for cell in asked.cells():
        found = values.get("+".join(named.name for named in cell.combination))
        owner = next((named for named in asked.measured_in(cell) if named.name == "wm"), None)
        of = owner and {
            key: list(value) if isinstance(value, tuple) else value for key, value in owner.to_dict().items()
        }
        trials = [
            {
                "seed": seed,
                "trial": f"{cell.key}-{seed}",
                "seconds": 1.0,
                "measurements": [
                    {"of": None, "values": {"accuracy": 0.9}, "warnings": []},
                    *([{"of": of, "values": {"wm_accuracy": value}, "warnings": []}] if of else []),
                ],
            }
            for seed, value in enumerate(found or [])
        ]
        measures = [{"of": None, "metrics": [ACC]}, *([{"of": of, "metrics": [WM]}] if of else [])]
        cells.append(
            {
                "key": cell.key,
                "recipe": {},
                "clash": None,
                "facts": {},
                "plan": cell.key,
                "measures": measures,
                "trials": trials,
            }
        )
    return results_from({"study": asked.name, "cells": cells})


LOST = {"": [0.1, 0.12, 0.11], "wm": [0.97, 0.98, 0.96], "dpsgd": [0, 0, 0], "wm+dpsgd": [0.36, 0.35, 0.37]}
KEPT = {**LOST, "wm+dpsgd": [0.96, 0.95, 0.97]}
UNSURE = {**LOST, "wm+dpsgd": [0.96, 0.5, 0.7]}
VAIN = {**KEPT, "": KEPT["wm"]}
"""The unprotected model scores as high: there is no effect that could be kept or lost."""


@pytest.mark.parametrize(
    ("values", "conflict", "agreement"),
    [
        (LOST, True, "agrees"),
        (LOST, False, "disagrees"),
        (KEPT, False, "agrees"),
        (KEPT, True, "disagrees"),
        (UNSURE, True, "open"),
        (VAIN, False, "open"),
        (LOST, None, ""),
        ({}, True, "missing"),
        ({"wm": LOST["wm"]}, True, "missing"),
        ({**LOST, "": []}, True, "missing"),
    ],
)
def test_conclusions_are_compared(values, conflict, agreement):
    asked = study()
    (row,) = compare(find(asked, results(asked, values), "strict"), [published(conflict=conflict)])
    (ours,) = row.ours
    assert ours.agreement(row.published) == agreement
    assert counts([row]) == ({} if conflict is None else {"digits/smoke": {agreement: 1}})


@pytest.mark.parametrize(
    ("values", "said", "outcome", "agreement"),
    [
        (LOST, "φ_WM", "conflict", "agrees"),
        (KEPT, "φ_ACC, φ_WM", "compatible", "disagrees"),
        (UNSURE, "φ_WM", "undecided", "open"),
        (VAIN, "φ_WM", "ineffective", "open"),
        ({"wm": LOST["wm"]}, "missing", "undecided", "missing"),
    ],
)
def test_verdicts_are_compared_as_a_whole(values, said, outcome, agreement):
    asked = study(notes=[{"mechanisms": ["dpsgd", "wm"], "metric": "wm_accuracy", "text": "It is the noise."}])
    (row,) = compare(find(asked, results(asked, values), "strict"), [published("verdict", mean=None)])
    (ours,) = row.ours
    assert (ours.said, ours.outcome, ours.agreement(row.published)) == (said, outcome, agreement)
    text = "\n".join(map(str, compare_tables(find(asked, results(asked, values), "strict"), [row.published])))
    assert ("It is the noise." in text) == (agreement in ("disagrees", "open"))


def test_many_readings_stand_below_each_other():
    for count in (2, 3):
        asked = study(readings={f"r{number}": {"wm": {"triggers": 25 + number}} for number in range(count)})
        (table,) = [
            part
            for part in compare_tables(find(asked, results(asked, KEPT), "strict"), [published()])
            if isinstance(part, Table)
        ]
        heads = [str(column.header) for column in table.columns]
        assert ("recipe" in heads) == (count == 3)
        assert table.row_count == (1 if count == 2 else 3)


def test_half_finished_cells_are_not_judged():
    asked = study(replicates={"alone": 3, "together": 4})
    (row,) = compare(find(asked, results(asked, LOST), "strict"), [published()])
    (ours,) = row.ours
    assert (ours.said, ours.agreement(row.published)) == ("0.36±0.01 (n=3)", "missing")


def test_a_study_may_name_the_tables_that_it_stands_beside(tmp_path):
    numbers = [published().model_dump(), published(table="5", conflict=False).model_dump()]
    (tmp_path / "paper.json").write_text(json.dumps(numbers))
    asked = replace(study(), reference=tmp_path / "paper.json", reference_tables=("5",))
    assert [number.table for number in reference_of(asked)] == ["5"]
    with pytest.raises(UserError, match=r"no such published table.*allowed: 4, 5"):
        reference_of(replace(asked, reference_tables=("6",)))


def test_only_the_published_variant_fits():
    asked = study(["wm", "dpsgd"], ["wm", {"name": "dpsgd", "on": ["task"], "epsilon": 3}])
    joint, relaxed = published(), published(combination={"wm": {}, "dpsgd": {"on": ["task"]}})
    for number, labels in ((joint, ("wm", "dpsgd")), (relaxed, ("wm", "dpsgd(epsilon=3, on=task)"))):
        (row,) = compare(find(asked, results(asked, {}), "strict"), [number])
        assert row.combination == labels
    assert compare(find(asked, results(asked, {}), "strict"), [published(dataset="mnist")]) == ()
    assert compare(find(asked, results(asked, {}), "strict"), [published(combination={"wm": {}, "advtr": {}})]) == ()


def test_alone_and_suspects_are_found():
    asked = study(["wm"], suspects=[{"kind": "independent", "sweep": {"images": ["train", "test"]}}])
    alone = published(combination={"wm": {}}, conflict=None)
    framed = published(combination={"wm": {}}, conflict=None, suspect={"kind": "independent", "images": "test"})
    rows = compare(find(asked, results(asked, {}), "strict"), [alone, framed])
    assert [row.suspect for row in rows] == ["", "independent(images=test)"]


def test_the_tables_say_what_is_missing_and_what_is_known():
    asked = study(notes=[{"mechanisms": ["dpsgd", "wm"], "metric": "wm_accuracy", "text": "It is the noise."}])
    console = Console(width=200, record=True, file=io.StringIO())
    for part in compare_tables(
        find(asked, results(asked, LOST), "strict"), [published(conflict=False), published("accuracy", False)]
    ):
        console.print(part)
    text = console.export_text()
    assert "0.36±0.06 (n=10)" in text and "0.36±0.01 (n=3)" in text
    assert "of 2 conclusions 1 agrees, 1 disagrees" in text
    assert "published (table 4): no conflict; here: digits/smoke: conflict. It is the noise." in " ".join(text.split())
    for part in compare_tables(find(asked, results(asked, {}), "strict"), [published()]):
        console.print(part)
    assert "missing" in console.export_text()


def test_the_papers_numbers_are_read():
    reference = read_reference(PAPER / "paper.json")
    figures = {"Figure 1", "Figure 2", "Figure 3", "Appendix A", "talk: clipping", "talk: longer"}
    assert {number.table for number in reference} == {"2", "4", "5", "6", "7", "8", "10", "11", *figures}
    assert {number.dataset for number in reference} == {"mnist", "fmnist", "cifar10"}
    (found,) = [n for n in reference if n.table == "4" and n.dataset == "mnist" and n.metric == "wm_accuracy"]
    assert (found.mean, found.std, found.n, found.conflict) == (0.36, 0.06, 10, True)


@pytest.mark.parametrize(
    "path", sorted(set(PAPER.glob("*.toml")) - {PAPER / "common.toml"}), ids=lambda path: path.stem
)
def test_every_paper_study_stands_beside_numbers_in_both_readings(path):
    asked = read_study(path)
    assert asked.reference == PAPER / "paper.json"
    assert {dict(recipe.options)["reading"] for recipe in asked.recipes} == {"published", "sound"}
    rows = compare(find(asked, results_from({"study": asked.name, "cells": []}), "paper"), reference_of(asked))
    assert {row.published.table for row in rows} >= set(asked.reference_tables)
    assert all(len(row.ours) >= 2 for row in rows), "in both readings"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{]", "not a JSON file"),
        ('[{"table": "4"}]', "dataset"),
        ('[{"table": "4", "dataset": "mnist", "combination": {}, "metric": "a", "mena": 3}]', "mena"),
    ],
)
def test_damaged_numbers_are_told(tmp_path, content, said):
    path = tmp_path / "numbers.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        read_reference(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_reference(tmp_path / "none.json")
    assert json.loads((PAPER / "paper.json").read_text())


def test_long_names_leave_room_for_conclusions():
    wanted, found = committed("paper/table7-reduced")
    published = reference_of(wanted)
    said = [ours.outcome for row in compare(find(wanted, found, "strict"), published) for ours in row.ours]
    data_sets = len({named.name for named in wanted.recipes})
    tables = plain(list(compare_tables(find(wanted, found, "strict"), published))[:data_sets], 160)
    assert tables.count("compatible") == said.count("compatible")
    assert " {raddata(placement=stream), " in tables


def test_a_recipe_is_named_whole_where_its_options_have_brackets():
    ours = SimpleNamespace(recipe="mnist/reduced (conditions=backdoor(rate=0.1))")
    assert _head(ours) == "conditions=backdoor(rate=0.1)"
