"""The matrix of eleven concerns: its studies ask for every pair, and its page says what the records say."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys

import pytest

from committed import ROOT
from guardclash.mechanism import Mechanism
from guardclash.registry import find_mechanism, find_mechanisms
from guardclash.studies.composing import compose_study
from guardclash.studies.study_file import read_study

LITERATURE = json.loads((ROOT / "studies/table9/literature.json").read_text(encoding="utf-8"))
CONCERNS = LITERATURE["concerns"]
PACKAGE = ROOT / "src/guardclash"


def pairs(name: str) -> list[tuple[str, ...]]:
    study = read_study(ROOT / f"studies/table9/{name}.toml")
    return [tuple(named.name for named in combination) for combination in study.combinations]


def test_the_literature_is_on_all_55_pairs_in_order():
    assert [tuple(cell["pair"]) for cell in LITERATURE["pairs"]] == list(itertools.combinations(CONCERNS, 2))
    assert sum(cell.get("unmeasured", False) for cell in LITERATURE["pairs"]) == 9
    expected = {cell["expected"] for cell in LITERATURE["pairs"]}
    assert expected <= {"conflict", "none", "synergy", "mixed", "clash", "unknown"}


@pytest.mark.parametrize("data", ["mnist", "fmnist"])
def test_two_studies_ask_for_every_pair_once(data):
    asked = pairs(data) + pairs(f"{data}-fingerprint")
    assert sorted(asked) == sorted(itertools.combinations(CONCERNS, 2))


def test_every_concern_has_a_mechanism_that_says_so():
    # Two concerns had other names before there was a matrix; they are those of the paper's sections.
    other = {"di": "model fingerprinting", "raddata": "dataset watermarking"}
    for name, concern in CONCERNS.items():
        if name in find_mechanisms():
            assert find_mechanism(name).concern == other.get(name, concern)


def test_a_mechanism_imports_no_other_concern():
    """Each concern stands in files of its own; what mechanisms share lies below them."""
    of = {}
    for name, cls in find_mechanisms().items():
        of.setdefault(cls.__module__.rpartition(".")[2], set()).add(cls.concern)
        assert isinstance(name, str) and issubclass(cls, Mechanism)
    for path in sorted((PACKAGE / "mechanisms").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("guardclash.mechanisms."):
                other = node.module.rpartition(".")[2]
                assert of.get(path.stem, set()) & of.get(other, of.get(path.stem, set())) or not of.get(path.stem), path


def test_the_page_says_what_the_records_say():
    checked = subprocess.run([sys.executable, "tools/table9.py", "--check"], cwd=ROOT, check=False)
    assert checked.returncode == 0, "run python tools/table9.py"


@pytest.mark.parametrize("name", ["mnist", "fmnist", "mnist-fingerprint", "fmnist-fingerprint"])
def test_one_unprotected_training_serves_all_cells(name):
    wanted = read_study(ROOT / f"studies/table9/{name}.toml")
    if {named.name for named in wanted.mechanisms()} - set(find_mechanisms()):
        pytest.skip("a mechanism is not there yet")
    composed = compose_study(wanted)
    assert sum(not entry.cell.combination for entry in composed) == 1
    clashes = [[named.name for named in entry.cell.combination] for entry in composed if entry.clash]
    assert clashes == ([["dpsgd", "relaxloss"]] if "fingerprint" not in name else [])
