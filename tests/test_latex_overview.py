"""What a paper begins with: verdicts in one table, and how they were found."""

from __future__ import annotations

import re

import pytest

from committed import ROOT
from guardclash.judging.rules import RULES
from guardclash.records.file import read_results
from guardclash.reporting.findings import find
from guardclash.reporting.latex import render_latex
from guardclash.reporting.latex_parts.overview import LETTERS, SOURCES, bibliography, methods, verdict_table
from guardclash.studies.study_file import read_study
from test_results_reports import results, study


@pytest.fixture(scope="module")
def paper():
    return find(
        read_study(ROOT / "studies/paper/table11.toml", "reduced"), read_results(ROOT / "results/paper/table11-reduced")
    )


def test_the_first_table_has_every_verdict_once(paper):
    tables = list(verdict_table(paper))
    assert render_latex(paper).index(tables[0]) < render_latex(paper).index(r"\textbf{\{wm, dpsgd\}}")
    entries = [line.split(" & ")[1:] for table in tables for line in table.splitlines() if line.startswith(r"\{")]
    assert sum(map(len, entries)) == len(paper.verdicts) == 36
    told = " ".join(" ".join(one) for one in entries)
    for outcome, word in (
        ("conflict", r"\\gcConflict"),
        ("compatible", r"\\gcKept"),
        ("undecided", r"\?"),
        ("ineffective", r"\\dagger"),
        ("not credible", r"\\ddagger"),
    ):
        there = sum(verdict.outcome("strict") == outcome for verdict in paper.verdicts)
        broken = sum(len(verdict.broken("strict")) for verdict in paper.verdicts)
        assert len(re.findall(word, told)) == (broken if outcome == "conflict" else there), outcome


def test_tables_are_not_wider_than_a_page(paper):
    for table in verdict_table(paper):
        head = next(line for line in table.splitlines() if line.startswith("Combination"))
        assert len(head.replace(r"\\", "").replace(" & ", "  ")) <= LETTERS


@pytest.mark.parametrize("rule", RULES)
def test_every_source_that_is_cited_is_in_the_bibliography(paper, rule):
    found = find(paper.study, paper.results, rule)
    cited = re.findall(r"\\cite\{(\w+)\}", methods(found))
    assert cited and set(cited) <= set(SOURCES)
    assert set(re.findall(r"@\w+\{(\w+),", bibliography(found))) == set(cited)
    assert f"{{{cited[0]}}}" in render_latex(found)


def test_the_method_says_seeds_level_and_correction():
    wanted = study(alone=5, together=10, alpha=0.01)
    told = methods(find(wanted, results(wanted), "strict"))
    assert "5 seeds alone and each combination with 10" in told and r"\alpha = 0.01" in told
    assert r"Holm's procedure \cite{holm1979}" in told and r"98 \%" in told
    none = study(correction="none")
    assert "Nothing is corrected" in methods(find(none, results(none), "strict"))
    stepwise = study(replicates={"start": 4, "most": 6})
    assert "with 4 seeds, and with up to 6" in methods(find(stepwise, results(stepwise), "strict"))


def test_entries_are_balanced_sources():
    for key, entry in SOURCES.items():
        assert entry.startswith("@") and f"{{{key}," in entry
        assert entry.count("{") == entry.count("}")


def test_what_is_not_measured_is_a_dash():
    wanted = study()
    found = results(wanted, lambda names, of, metric, seed: None)
    (table,) = verdict_table(find(wanted, found, "strict"))
    assert r"\{a, b\} & -- \\" in table
