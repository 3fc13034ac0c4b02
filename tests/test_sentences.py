"""Verdicts as sentences: what is said, of whom, with which numbers, and that every form begins with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guardclash.judging.rules import RULES
from guardclash.records.file import read_results
from guardclash.records.plain import results_from, to_plain
from guardclash.registry import find_mechanisms
from guardclash.reporting.findings import find
from guardclash.reporting.latex import render_latex
from guardclash.reporting.markdown import render_markdown
from guardclash.reporting.page import render_html
from guardclash.reporting.sentences import claim_sentences, sentences, unbegun
from guardclash.reporting.text import render
from guardclash.studies.engines import Inline
from guardclash.studies.run import run_study
from guardclash.studies.study_file import read_study
from running import site
from running import study as ran_study
from test_results_reports import results, smooth, study

__all__ = ["site"]


def said(wanted, found, rule="strict"):
    return [str(one) for one in sentences(find(wanted, found, rule))]


def kept(names, of, metric, seed):
    """Nothing is broken."""
    return smooth(("a",), of, metric, seed) if metric == "mark" and "a" in names else smooth(names, of, metric, seed)


def test_a_conflict_says_who_harms_whom_and_by_how_much():
    wanted = study()
    assert said(wanted, results(wanted)) == ["b destroys a: φ_MARK 0.95 → 0.20 (at most 0.3 may be lost)."]


def test_a_part_of_the_gain_is_left_to_what_is_weakened():
    def half(names, of, metric, seed):
        return smooth(names, of, metric, seed) + (0.4 if metric == "mark" and names == ("a", "b") else 0.0)

    wanted = study()
    assert said(wanted, results(wanted, half)) == ["b weakens a: φ_MARK 0.95 → 0.60 (at most 0.3 may be lost)."]


def test_several_harm_together():
    wanted = study(["a", "b", "c"])
    assert said(wanted, results(wanted))[0].startswith("b and c destroy a: ")


def test_a_cost_is_a_cost_of_all():
    def poor(names, of, metric, seed):
        return 0.5 + 0.01 * seed if of is None and len(names) == 2 else kept(names, of, metric, seed)

    wanted = study()
    (one,) = said(wanted, results(wanted, poor))
    assert one.startswith("a and b together cost test accuracy, φ_ACC 0.95 → 0.52 (at most 0.1 may be lost)")


def test_a_growth_and_its_factor():
    def spent(names, of, metric, seed):
        return float("inf") if metric == "cost" and len(names) == 2 else kept(names, of, metric, seed)

    wanted = study()
    assert said(wanted, results(wanted, spent)) == ["a breaks b: ζ 3.0 → ∞ (at most 1.5 times as much)."]


def test_what_is_compatible_names_every_number_that_was_judged():
    wanted = study()
    assert said(wanted, results(wanted, kept)) == [
        "a and b are compatible: φ_ACC 0.95 → 0.95, φ_MARK 0.95 → 0.95, ζ 3.0 → 3.0."
    ]


def test_a_variant_that_is_compatible_is_named_beside_the_conflict():
    wanted = study(["a", {"name": "b", "sweep": {"on": [["task"], ["other"]]}}])
    found = results(wanted)

    def mended(measured):
        return replace(measured, values={**measured.values, **({"mark": 0.95} if "mark" in measured.values else {})})

    cells = {cell.key: found.cells[cell.key] for cell in wanted.cells()}
    for cell in wanted.cells():
        if "task" in str(cell.combination):
            trials = [
                replace(one, measurements={of: mended(each) for of, each in one.measurements.items()})
                for one in cells[cell.key].trials
            ]
            cells[cell.key] = replace(cells[cell.key], trials=tuple(trials))
    told = said(wanted, replace(found, cells=cells))
    assert told[0].startswith("a and b(on=task) are compatible: ")
    assert told[1].endswith("(at most 0.3 may be lost). {a, b(on=task)} is compatible.")


def test_a_clash_says_why():
    wanted = study()
    found = results(wanted, clash=lambda cell: "both set the moon" if len(cell.combination) == 2 else None)
    assert said(wanted, found) == ["a and b cannot be deployed together: both set the moon."]


def test_what_has_no_effect_alone_has_nothing_to_lose():
    def idle(names, of, metric, seed):
        return 0.2 + 0.01 * (seed % 2) if metric == "mark" else smooth(names, of, metric, seed)

    wanted = study()
    (one,) = said(wanted, results(wanted, idle))
    assert one.startswith("a and b: a has no effect alone (φ_MARK 0.20, unprotected 0.20), so nothing can be lost.")


def test_what_is_not_measured_is_counted_and_not_told():
    wanted = study()
    found = results(
        wanted, lambda names, of, metric, seed: None if len(names) == 2 else smooth(names, of, metric, seed)
    )
    told = sentences(find(wanted, found, "strict"))
    assert [one.begun for one in told] == [False] and unbegun(told) == "1 combination is not measured yet."
    assert "1 combination is not measured yet." in render(find(wanted, found, "strict"))


def test_what_the_seeds_do_not_decide_is_told_with_those_that_would():
    def close(names, of, metric, seed):
        return 0.68 + 0.05 * (-1) ** seed if metric == "mark" and len(names) == 2 else kept(names, of, metric, seed)

    wanted = study()
    (one,) = said(wanted, results(wanted, close))
    assert one.startswith("a and b: undecided: ") and one.endswith(" more seeds would decide.")


def test_titles_stand_where_a_mechanism_is_first_named():
    wanted = study(["a", "b"], ["a", "c"])
    found = replace(results(wanted), titles={"a": "the mark", "b": "the eraser"})
    first, second = said(wanted, found)
    assert first.startswith("The eraser (b) destroys the mark (a): ")
    assert second.startswith("c destroys a: ")


def test_titles_come_with_the_records(site):
    wanted = ran_study(["wm", "dpsgd-control"], seeds=1)
    found = run_study(wanted, site, Inline())
    assert found.titles == {"wm": "the backdoor watermark", "dpsgd-control": "the architecture of DP-SGD"}
    assert results_from(to_plain(found)).titles == found.titles
    assert results_from({**to_plain(found), "titles": {}}).titles == {}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("form", "matrix"),
    [
        (render, "Verdicts"),
        (render_markdown, "## Verdicts"),
        (render_latex, r"\begin{table}"),
        (render_html, '<table class="matrix'),
    ],
)
def test_every_form_begins_with_them_and_ends_with_the_rule(form, matrix, rule):
    wanted = study()
    text = form(find(wanted, results(wanted), rule))
    told = "undecided: " if rule == "bounded" else "destroys a: "
    assert 0 < text.find(told) < text.find(matrix), "sentences come first"
    foot = "How it was judged</h2>" if form is render_html else f"ule {rule}"
    assert text.rfind(foot) > text.find(matrix), "by what it was judged comes last"


def test_claims_are_told_with_whom_they_accuse():
    folder = Path(__file__).parents[1]
    found = find(read_study(folder / "studies/di-suspects.toml"), read_results(folder / "results/di-suspects"))
    told = claim_sentences(found)
    published = next(
        line for line in told if line.startswith("On fmnist/reduced, di(layout=published, statistic=full)")
    )
    assert "accuses independent(images=train) and independent(images=test) falsely; claims" in published
    assert published.endswith("but so does a control: not credible; clears unrelated.")
    for form in (render, render_markdown, render_latex, render_html):
        text = form(found).replace("<wbr>", "").replace('<wbr class="late">', "")
        assert " ".join(text.split()).count("so does a control: not credible") >= len(
            [one for one in told if "not credible" in one]
        )
    assert not claim_sentences(find(study(), results(study())))


def test_every_mechanism_has_a_title_that_stands_in_a_sentence():
    for name, cls in find_mechanisms().items():
        assert cls.title, f"{name} has no title"
        assert not cls.title.endswith("s") or cls.title.endswith("ss") or cls.title == "TRADES", "a singular"
