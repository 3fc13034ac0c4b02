"""The atlas: every verdict on record, of one lab or several."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from committed import ROOT
from guardclash.errors import UserError
from guardclash.records.file import read_results
from guardclash.reporting.atlas import (
    Sight,
    atlas,
    beside,
    disagreement,
    literature_from,
    recorded,
    sights_of,
    to_json,
    to_markdown,
)
from guardclash.reporting.findings import find
from guardclash.studies.study_file import read_study


def lab(folder: Path, *names: str) -> Path:
    """A folder with some of our studies and their records."""
    folder.mkdir(parents=True)
    for name in names:
        text = (ROOT / f"studies/{name}.toml").read_text("utf-8")
        (folder / f"{name}.toml").write_text(text.replace('"../results"', '"records"'), "utf-8")
        shutil.copytree(ROOT / f"results/{name}", folder / "records" / name)
    return folder


def test_every_study_with_records_is_found_and_nothing_else():
    found = {study.name: path for study, path in recorded(ROOT / "studies")}
    assert {"wm-dpsgd-mnist", "table9-mnist", "table11-reduced", "theft"} <= set(found)
    folders = {path.parent for path in (ROOT / "results").rglob("results.json") if "paper" not in path.parts}
    assert {path.parent for path in found.values()} >= folders


def test_verdicts_are_those_of_the_reports(tmp_path):
    folder = lab(tmp_path / "ours", "wm-dpsgd-mnist")
    found = find(read_study(folder / "wm-dpsgd-mnist.toml"), read_results(folder / "records/wm-dpsgd-mnist"))
    sights = atlas([folder])
    assert {one.combination: one.outcome for one in sights} == {
        one.combination: one.outcome(found.rule) for one in found.verdicts
    }
    joint = next(one for one in sights if one.outcome == "conflict")
    assert (joint.lab, joint.dataset, joint.mechanisms, joint.seeds) == ("ours", "mnist", ("dpsgd", "wm"), (5, 10))
    assert joint.numbers == (("φ_WM", "1.00 → 0.38"),)


def test_two_labs_go_into_one_atlas(tmp_path):
    first, second = lab(tmp_path / "here", "wm-dpsgd-mnist"), lab(tmp_path / "there", "wm-dpsgd-mnist")
    sights = atlas([first, second])
    assert {one.lab for one in sights} == {"here", "there"}
    text = to_markdown(sights)
    assert "from 2 studies of 2 labs" in text and text.count("## {dpsgd, wm}") == 1
    rows = json.loads(to_json(sights))
    assert [row["outcome"] for row in rows].count("conflict") == 2 and rows[0]["mechanisms"] == ["dpsgd", "wm"]


SIGHT = Sight(
    "a", "s", "mnist/reduced", "mnist", ("dpsgd", "wm"), ("wm", "dpsgd"), "conflict", "strict", (), (3, 5), Path("r")
)


def test_the_company_of_a_mechanism_is_counted_the_worst_first(tmp_path, monkeypatch):
    def sight(outcome: str, *names: str) -> Sight:
        one = sights_of([lab(tmp_path / str(next(numbers)), "wm-dpsgd-mnist")])[0]
        return replace(one, outcome=outcome, mechanisms=names)

    numbers = itertools.count()
    sights = [sight("compatible", "a", "b"), sight("conflict", "a", "c"), sight("undecided", "a", "c")]
    sights += [sight("compatible", "b", "c"), sight("conflict", "a", "b", "c")]
    assert beside(sights, "a") == {"c": {"conflict": 1, "undecided": 1}, "b": {"compatible": 1}}
    assert list(beside(sights, "a")) == ["c", "b"]
    assert beside(sights, "d") == {}
    lab(tmp_path / "studies", "wm-dpsgd-mnist")
    monkeypatch.chdir(tmp_path)
    said = subprocess.run(
        [sys.executable, "-m", "guardclash", "list", "wm"], capture_output=True, text=True, check=True
    )
    assert "On record in studies/ beside others (guardclash atlas):\n  dpsgd: 1 compatible, 1 conflict\n" in said.stdout


@pytest.mark.parametrize(
    ("words", "who"),
    [
        ([("a", "conflict"), ("b", "compatible")], "labs"),
        ([("a", "conflict"), ("a", "compatible")], "studies"),
        ([("a", "conflict"), ("a", "compatible"), ("b", "conflict")], "studies"),
        ([("a", "conflict"), ("b", "clash")], ""),
        ([("a", "conflict"), ("b", "undecided")], ""),
    ],
)
def test_who_differs_is_said(words, who):
    sights = [replace(SIGHT, lab=name, outcome=word) for name, word in words]
    assert disagreement(sights) == who
    assert (f"On mnist, {who} differ" in to_markdown(sights)) == bool(who)


def test_what_is_expected_stands_beside():
    known = literature_from(ROOT / "studies/table9/literature.json")
    assert "Expected: conflict: the paper" in to_markdown([SIGHT], known)


def test_names_stay_text():
    odd = replace(SIGHT, combination=("a|b", "<script>"), study="x|y")
    assert "<script>" not in to_markdown([odd]) and r"x\|y" in to_markdown([odd])


def test_folders_without_records_are_told(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        atlas([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no study has records"):
        atlas([tmp_path])
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UserError, match="no literature"):
        literature_from(tmp_path / "x.json")
