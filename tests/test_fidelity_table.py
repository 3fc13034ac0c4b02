"""Table 11 of docs/fidelity.md is what the records say."""

from __future__ import annotations

import re

import pytest

from committed import ROOT, committed
from guardclash.studies.verdicts import verdicts

SYMBOLS = {"conflict": "✗", "compatible": "✓", "undecided": "?", "ineffective": "∅", "not credible": "‼"}
COLUMNS = [(data, reading) for data in ("mnist", "fmnist", "cifar10") for reading in ("paper", "published", "sound")]


def printed() -> dict[tuple[str, str, str], str]:
    text = (ROOT / "docs/fidelity.md").read_text(encoding="utf-8")
    section = text[text.index("## Table 11") :]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| {"]
    return {(row[0], *column): cell for row in rows for column, cell in zip(COLUMNS, row[1:], strict=True)}


def test_every_cell_of_table_11_says_what_its_verdict_says():
    study, results = committed("paper/table11-reduced")
    cells = printed()
    for verdict in verdicts(study, results):
        data, reading = re.fullmatch(r"(\w+)/reduced \(reading=(\w+)\)", verdict.recipe).groups()
        cell = cells.pop((f"{{{', '.join(verdict.combination)}}}", data, reading))
        assert cell.startswith(SYMBOLS[verdict.outcome("strict")]), (verdict.recipe, verdict.combination, cell)
        if verdict.outcome("strict") == "conflict":
            broken = [one.metric.symbol for one in verdict.judgements if one.outcome("strict") == "conflict"]
            assert re.sub(r"\(.*", "", cell)[2:].strip() == ", ".join(broken), (verdict.recipe, cell)
    assert {column for _, _, column in cells} == {"paper"} and len(cells) == 18


@pytest.mark.parametrize("count", [19])
def test_the_conflicts_of_table_11_are_counted(count):
    study, results = committed("paper/table11-reduced")
    assert sum(verdict.outcome("strict") == "conflict" for verdict in verdicts(study, results)) == count
    assert f"{count} are conflicts" in (ROOT / "docs/fidelity.md").read_text(encoding="utf-8")
