"""Committed records on the command line: reports and comparisons without a store, and restricted to data sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from guardclash.cli.app import main
from guardclash.plan.identity import describe
from guardclash.records.plain import results_from, to_plain
from guardclash.studies import snapshot
from guardclash.studies.store import Store
from guardclash.studies.study_file import read_study
from guardclash.tasks.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "studies" / "paper"
STUDY = """
records = "kept"
reference = "paper.json"
replicates = { alone = 2, together = 2 }
[[recipes]]
dataset = "digits"
scale = "smoke"
[[recipes]]
dataset = "mnist"
scale = "smoke"
[[combinations]]
mechanisms = ["wm", "dpsgd"]
"""
NUMBERS: list[dict[str, Any]] = [
    {"table": "4", "dataset": dataset, "combination": {"wm": {}, "dpsgd": {}}, "metric": metric, "conflict": True}
    for dataset in ("digits", "mnist")
    for metric in ("accuracy", "verdict")
]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs a command in a folder with a study and published numbers: its exit code, output and messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUARDCLASH_STORE", raising=False)
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "paper.json").write_text(json.dumps(NUMBERS))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["guardclash", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def made_up(study_file: Path, accuracy: float) -> dict[str, Any]:
    """Results with accuracy only, in the first recipe."""
    study = read_study(study_file)
    measure = {"of": None, "metrics": [{"name": "accuracy", "symbol": "φ_ACC", "criterion": {"max_drop": 0.1}}]}
    cells = [
        {
            "key": cell.key,
            "recipe": describe(Recipe("digits", "smoke", epochs=1), full=True),
            "clash": None,
            "facts": {},
            "plan": cell.key,
            "measures": [measure],
            "trials": [
                {
                    "seed": seed,
                    "trial": f"{cell.key}-{seed}",
                    "seconds": 1.0,
                    "measurements": [{"of": None, "values": {"accuracy": accuracy + seed / 100}, "warnings": []}],
                }
                for seed in (0, 1)
            ],
        }
        for cell in study.cells()
        if cell.recipe.name == "digits"
    ]
    return to_plain(results_from({"study": study.name, "cells": cells}))


def keep(folder: Path, content: dict[str, Any], name: str = "results.json") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def keep_in_store(folder: Path, accuracy: float) -> None:
    """As if a run had kept its results."""
    store, results = Store(folder / "runs"), results_from(made_up(folder / "study.toml", accuracy))
    snapshot.keep(read_study(folder / "study.toml"), results, snapshot.state(store), store)


def test_before_any_run_everything_is_missing(said):
    code, out, err = said("compare", "study.toml", "--data-dir", "anywhere")
    assert (code, err) == (0, "")
    assert out.count("missing.") == 2, "both recipes are told"
    assert said("compare", "study.toml", "--results", "none.json")[0] == 2
    assert said("report", "study.toml")[0] == 2


def test_records_speak_until_there_is_a_run(said, tmp_path):
    keep(tmp_path / "kept" / "study", made_up(tmp_path / "study.toml", 0.9))
    for command in ("compare", "report"):
        code, out, err = said(command, "study.toml")
        assert code == 0
        assert "from the records: " in err.replace("\n", "")
        assert "0.9" in out
    keep_in_store(tmp_path, 0.7)
    _, out, err = said("compare", "study.toml")
    assert "0.7" in out and "records" not in err


def test_export_writes_where_the_study_keeps_its_records(said, tmp_path):
    keep(tmp_path / "kept" / "study", made_up(tmp_path / "study.toml", 0.9))
    code, _, err = said("export", "study.toml")
    assert code == 2 and "no results yet" in err, "records are not exported onto themselves"
    keep_in_store(tmp_path, 0.7)
    assert said("export", "study.toml")[0] == 0
    assert "0.71" in (tmp_path / "kept" / "study" / "results.json").read_text()
    compared = said("compare", "study.toml")[1]
    assert said("compare", "study.toml", "--results", tmp_path / "kept" / "study")[1] == compared
    (tmp_path / "study.toml").write_text(STUDY.replace('records = "kept"', ""))
    code, _, err = said("export", "study.toml")
    assert code == 2 and "no folder to write to" in err


def test_a_comparison_may_be_of_one_data_set(said, tmp_path):
    keep(tmp_path / "kept" / "study", made_up(tmp_path / "study.toml", 0.9))
    _, out, _ = said("compare", "study.toml", "--dataset", "digits")
    assert "digits: published" in out and "mnist" not in out
    code, _, err = said("compare", "study.toml", "--dataset", "digit")
    assert code == 2 and "Did you mean 'digits'" in err


def test_a_run_of_one_data_set_counts_and_tells_nothing_of_others(said, tmp_path):
    (tmp_path / "study.toml").write_text(STUDY.replace('["wm", "dpsgd"]', '["wm"]').replace("replicates", "# "))
    code, out, err = said("run", "study.toml", "--dataset", "digits", "--workers", 0, "--store", tmp_path / "runs")
    assert code == 0
    assert " done, 0 s left" in err.splitlines()[-1], "what other data sets lack is not waited for"
    assert "digits/smoke" in out and "mnist" not in out
    _, some, _ = said("status", "study.toml", "--dataset", "digits")
    _, whole, _ = said("status", "study.toml")
    assert " 0 waiting" in some and "mnist" not in some
    assert " 0 waiting" not in whole and "mnist" in whole


@pytest.mark.parametrize("name", sorted({path.stem for path in PAPER.glob("*.toml")} - {"common"}))
def test_every_committed_record_of_the_paper_is_compared_without_a_store(name, said):
    recorded = ROOT / "results" / "paper" / f"{name}-reduced" / "results.json"
    if not recorded.is_file():
        pytest.skip("not run yet")
    code, out, err = said("compare", PAPER / f"{name}.toml", "--scale", "reduced", "--data-dir", "anywhere")
    assert code == 0
    assert str(recorded) in err.replace("\n", "")
    assert "±" in out
