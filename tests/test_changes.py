"""What a study says now, beside what it said of an earlier results file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from committed import RECORDS, committed
from guardclash.cli.app import app
from guardclash.errors import UserError
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.changes import NONE, changes
from guardclash.reporting.findings import find
from test_compare import KEPT, LOST, UNSURE, results, study

ASKED = study()


def between(before: Results, now: Results, asked=ASKED):
    return changes(find(asked, before), find(asked, now))


def test_a_lost_watermark_is_told_with_both_sentences_and_the_metric():
    found = between(results(ASKED, KEPT), results(ASKED, LOST))
    (one,) = found.verdicts
    assert (one.before, one.now, found.same, found.gone) == ("compatible", "conflict", 0, ())
    assert [moved.symbol for moved in one.moved] == ["φ_WM"]
    assert str(found) == (
        "1 of 1 verdicts changed.\n\n"
        "digits/smoke {wm, dpsgd}: compatible → conflict\n"
        "  before: wm and dpsgd are compatible: φ_ACC 0.90 → 0.90, φ_WM 0.97 → 0.96.\n"
        "  now: dpsgd weakens wm: φ_WM 0.97 → 0.36 (at most 0.3 may be lost).\n"
        "  φ_WM: compatible (0.97±0.01 (n=3) alone, 0.96±0.01 (n=3) together); "
        "now conflict (0.97±0.01 (n=3) alone, 0.36±0.01 (n=3) together)"
    )


@pytest.mark.parametrize("values", [KEPT, LOST, UNSURE, {}])
def test_the_same_results_change_nothing(values):
    found = between(results(ASKED, values), results(ASKED, values))
    assert (found.verdicts, found.claims, found.same) == ((), (), 1)
    assert str(found) == "All 1 verdicts stay."


def test_what_was_not_there_is_not_called_undecided():
    (one,) = between(Results(), results(ASKED, LOST)).verdicts
    assert (one.before, one.now) == (NONE, "conflict")
    (back,) = between(results(ASKED, LOST), Results()).verdicts
    assert (back.before, back.now) == ("conflict", NONE)
    assert [moved.before for moved in one.moved] == [moved.now for moved in back.moved] == ["not measured"] * 2


def test_cells_of_another_study_are_counted():
    other = study(["wm", "dpsgd"], ["wm", "advtr"])
    found = between(results(other, KEPT), results(ASKED, KEPT))
    assert len(found.gone) == 2
    assert "2 cells of the earlier file are none of this study." in str(found)


@pytest.mark.parametrize("name", ["theft", "di-suspects"])
def test_claims_change_as_well(name):
    wanted, now = committed(name)
    assert str(between(now, now, wanted)).startswith("All ")
    content = to_plain(now)
    for suspect in (cell.key for cell in wanted.suspect_cells()):
        for entry in content["cells"]:
            if entry["key"] == suspect:
                entry["trials"] = entry["trials"][:1]
    found = between(results_from(content), now, wanted)
    assert found.claims
    assert {one.before for one in found.claims} <= {"undecided", NONE}
    assert all(one.told == () for one in found.claims)


def test_the_command_prints_it(tmp_path):
    name = "wm-dpsgd-mnist"
    _, now = committed(name)
    content = to_plain(replace(now, titles={}))
    for entry in content["cells"]:
        entry["trials"] = entry["trials"][:2]
    (tmp_path / "old.json").write_text(json.dumps(content), encoding="utf-8")
    files = ["--results", str(RECORDS[name]), "--before", str(tmp_path / "old.json")]
    said = CliRunner().invoke(app, ["compare", f"studies/{name}.toml", *files])
    assert said.exit_code == 0
    assert "undecided → conflict" in said.output
    missing = CliRunner().invoke(app, ["compare", f"studies/{name}.toml", "--before", str(tmp_path / "none.json")])
    assert isinstance(missing.exception, UserError)
