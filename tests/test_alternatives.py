"""Other mechanisms for the same concerns: the studies ask for all of them, and the page says what the records say."""

from __future__ import annotations

import subprocess
import sys

import alternatives as tool
import pytest

from committed import ROOT
from guardclash.records.file import read_results
from guardclash.registry import find_mechanism
from guardclash.reporting.findings import find
from guardclash.studies.composing import compose_study
from guardclash.studies.study_file import read_study

FOLDER = ROOT / "studies/alternatives"


def asked(*names: str) -> set[frozenset[str]]:
    studies = [read_study(FOLDER / f"{name}.toml") for name in names]
    return {frozenset(one.name for one in pair) for study in studies for pair in study.combinations}


def test_mechanisms_stand_for_the_concerns_that_they_name():
    for concern, names in tool.CONCERNS.items():
        assert {find_mechanism(name).concern for name in names} == {concern}


@pytest.mark.parametrize("data", ["MNIST", "FashionMNIST"])
def test_the_studies_ask_for_all_marks_and_fingerprints_beside_privacy_and_robustness(data):
    rows, columns = tool._sides()
    columns = [name for name in columns if name != "pate"]
    assert {frozenset((row, name)) for row in rows for name in columns} <= asked(*tool.PAIRS[data])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_study_can_be_composed(path):
    if path.stem not in ("common", "pairs", "fingerprint-pairs"):
        study = read_study(path)
        composed = compose_study(study)
        assert any(cell.plan for cell in composed)
        assert all(cell.plan or cell.clash for cell in composed)


@pytest.mark.parametrize(
    ("bad", "decided", "whose"),
    [(1, 1, "one pair does not tell"), (3, 3, "the concerns"), (0, 4, "nobody"), (2, 4, "the mechanisms")],
)
def test_whose_a_conflict_is(bad, decided, whose):
    assert tool.belongs(bad, decided) == whose


def test_a_cell_has_the_word_and_the_numbers_that_it_rests_on():
    found = find(read_study(ROOT / "studies/wm-dpsgd-mnist.toml"), read_results(ROOT / "results/wm-dpsgd-mnist"))
    told = {cell.combination: tool._told(found, cell) for cell in found.study.cells() if cell.key in found.by_cell}
    assert next(iter(told.values())) == ("conflict", "φ_WM 1.00 → 0.38")
    assert tool._cell("not measured", "") == "-"


def test_the_page_says_what_the_records_say():
    said = subprocess.run([sys.executable, ROOT / "tools/alternatives.py", "--check"], cwd=ROOT, check=False)
    assert said.returncode == 0, "run python tools/alternatives.py"
