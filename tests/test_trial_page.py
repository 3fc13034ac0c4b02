"""`guardclash show` on records that are damaged: told with file and field, and a lost history costs nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guardclash.reporting.text import plain
from guardclash.reporting.trial import trial_page

RECORD = {
    **{"schema": 1, "seed": 0, "seconds": 1.5, "finished": "2026-01-01", "execution": {"device": "cpu"}},
    **{"environment": {"torch": "2"}, "plan": {"type": "Plan", "epochs": 1}},
}
MEASURED = {
    "schema": 1,
    "trial": "abc-0",
    "measure": {"type": "Accuracy"},
    "metrics": {"accuracy": 0.5},
    "warnings": [],
}


def store(folder: Path, **files: Any) -> Path:
    content = {"record": RECORD, "measured": MEASURED, "history": '{"epoch": 0, "task": 2.5}\n', **files}
    for name in ("trials/abc-0", "measurements"):
        (folder / name).mkdir(parents=True)
    (folder / "trials/abc-0/record.json").write_text(json.dumps(content["record"]))
    (folder / "measurements/m-0.json").write_text(json.dumps(content["measured"]))
    (folder / "trials/abc-0/history.jsonl").write_text(content["history"])
    return folder


def shown(folder: Path) -> str:
    return plain([trial_page("abc", folder)])


def test_a_trial_is_shown(tmp_path):
    text = shown(store(tmp_path))
    for part in ("Accuracy (1)", "accuracy=0.5", "epoch 0", "task=2.5", "device=cpu"):
        assert part in text, part


@pytest.mark.parametrize("name", sorted(set(RECORD) - {"schema"}))
def test_what_a_record_lacks_is_told(tmp_path, name):
    damaged = {key: value for key, value in RECORD.items() if key != name}
    text = shown(store(tmp_path, record=damaged))
    assert "damaged, to be made anew by the next run" in text
    assert f"trials/abc-0/record.json: it has no {name}" in text


@pytest.mark.parametrize("name", ["measure", "metrics"])
def test_what_a_measurement_lacks_is_told(tmp_path, name):
    damaged = {key: value for key, value in MEASURED.items() if key != name}
    assert f"measurements/m-0.json: it has no {name}" in shown(store(tmp_path, measured=damaged))


@pytest.mark.parametrize("measured", [{"schema": 1, "measure": 5}, {**MEASURED, "measure": 5}, []])
def test_a_foreign_measurement_ends_nothing(tmp_path, measured):
    assert "epoch 0" in shown(store(tmp_path, measured=measured))


@pytest.mark.parametrize("history", ["{", "{}", "1", '""', "[[]]", "[" * 3000, '{"task": []}'])
def test_a_damaged_history_is_said_and_costs_nothing_else(tmp_path, history):
    text = shown(store(tmp_path, history=history))
    assert "accuracy=0.5" in text
    assert history == "{}" or "history.jsonl: it is no list of losses" in text
