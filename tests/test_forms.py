"""The forms of a report: the committed studies in each of them, half-finished ones, odd names, and what is refused."""

from __future__ import annotations

import builtins
import csv
import importlib.util
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import guardclash
from committed import COMMITTED, committed
from guardclash.cli.app import main
from guardclash.errors import UserError
from guardclash.judging.criteria import ACCURACY, Ceiling, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.records.cells import Cell, Named, Suspected
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting import markdown
from guardclash.reporting.findings import find
from guardclash.reporting.forms import BINARY, FORMS, SUFFIXES, form_asked
from guardclash.reporting.latex import render_latex
from guardclash.reporting.latex_parts import text as latex_text
from guardclash.reporting.looks import LIKE, LOOKS
from guardclash.reporting.markdown import render_markdown
from guardclash.reporting.rows import COLUMNS, frame, rows, to_csv, to_parquet
from guardclash.studies import snapshot
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study
from guardclash.words import shown

ROOT = Path(__file__).parent.parent
MARK = Metric("mark", "φ_MARK", MaxDrop(0.30), decimals=3)
TRACE = Metric("trace", "log₁₀ p_TRACE", Ceiling(-3), higher_is_better=False, decimals=1, log10=True, controls=("dud",))
DUD = Metric("dud", "dud", None, higher_is_better=False, log10=True)
SHARE = Metric("share", "share > 0", Floor(0.01))
COST = Metric("cost", "ζ", MaxGrowth(1.5), higher_is_better=False, gain=False)
EXTRA = Metric("extra", "χ", None)
METRICS: dict[str, tuple[Metric, ...]] = {"a": (MARK, EXTRA), "b": (COST,), "t": (TRACE, DUD), "s": (SHARE,)}
NASTY = ["<script>alert(1)</script>", r"\input{x} $5 & 10% #1 a_b^c~{d}", "| a | b |", "[x](y) *z* `q`", "-- ?` ü中\n*"]
Value = Callable[[Cell, str, int], float | None]


def named(name: str, **options: Any) -> Named:
    return Named(name, tuple(options.items()))


def small(*combinations: tuple[Named, ...], name: str = "small", seeds: int = 3, **keys: Any) -> Study:
    recipes = keys.pop("recipes", (named("digits", scale="smoke"),))
    return Study(name, recipes, combinations or ((named("a"), named("b")),), seeds, seeds, **keys)


def smooth(cell: Cell, metric: str, seed: int) -> float:
    """Values of a study in which b breaks a's mark, a control of t fires, and s never worked."""
    wobble = 0.01 * math.sin(seed + 1)
    lost = {"mark": 0.2} if cell.combination != (named("a"),) else {}  # as without any mechanism
    return {"cost": 3.0, "trace": -9, "dud": -8, "share": -0.1, **lost}.get(metric, 0.9) + wobble


def measured(
    study: Study,
    value: Value = smooth,
    clash: Callable[[Cell], str | None] = lambda cell: None,
    metrics: dict[str, tuple[Metric, ...]] = METRICS,
) -> Results:
    """A results file as a run writes it; a value of None is left out."""

    def trial(cell: Cell, owners: list[Named | None], seed: int) -> dict[str, Any]:
        found = []
        for of in owners:
            values = {metric.name: value(cell, metric.name, seed) for metric in declared(of)}
            kept = {name: number for name, number in values.items() if number is not None}
            warnings = ["it is warm", "very"] if of and seed == 1 else []
            found += [{"of": of and of.to_dict(), "values": kept, "warnings": warnings}] if kept else []
        return {"seed": seed, "trial": f"{len(cell.key)}-{seed}", "measurements": found}

    def declared(of: Named | None) -> tuple[Metric, ...]:
        return (ACCURACY,) if of is None else metrics[of.name]

    def entry(cell: Cell) -> dict[str, Any]:
        owners = [None, *(study.measured_in(cell) if cell.suspect is None else cell.combination)]
        return {
            "key": cell.key,
            "recipe": {
                **{"dataset": cell.recipe.name, "scale": "smoke", "examples": None, "test_examples": 128, "epochs": 2},
                **{"protected_epochs": None, "model": "cnn4-small", "norm": "batch", "batch_size": 64},
            },
            "combination": [one.to_dict() for one in cell.combination],
            **({"stolen": cell.suspect.kind.name != "independent"} if cell.suspect else {}),
            "clash": clash(cell),
            "plan": None if clash(cell) else f"{len(cell.key):x}",
            "facts": {},
            "measures": [{"of": of and of.to_dict(), "metrics": [m.to_dict() for m in declared(of)]} for of in owners],
            "trials": [] if clash(cell) else [trial(cell, owners, seed) for seed in study.seeds(cell)],
        }

    cells = [*study.cells(), *study.suspect_cells()]
    return results_from(json.loads(json.dumps({"study": study.name, "cells": list(map(entry, cells))})))


def halfway(cell: Cell, metric: str, seed: int) -> float | None:
    """Of the combinations, the first seed; of t and s alone, none."""
    late = seed > 0 if len(cell.combination) > 1 else cell.combination[:1] in [(named("t"),), (named("s"),)]
    return None if late else smooth(cell, metric, seed)


def skip_without_page(form: str) -> None:
    if form == "html" and importlib.util.find_spec("guardclash.reporting.page") is None:
        pytest.skip("the HTML page is not there yet")


# All forms


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COMMITTED)
def test_every_committed_study_renders_in_every_form(name, form):
    skip_without_page(form)
    study, results = committed(name)
    content = FORMS[form](find(study, results, "strict"))
    assert content
    assert form in BINARY or study.name in content.decode()


@pytest.mark.parametrize("form", FORMS)
def test_equal_records_give_equal_bytes_and_rules_differ_where_they_decide(form):
    skip_without_page(form)
    study, results = committed("batchnorm-wm-advtr")
    strict, again, paper = (FORMS[form](find(study, results, rule)) for rule in ("strict", "strict", "paper"))
    assert strict == again
    assert (strict == paper) == (form in ("csv", "parquet"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [halfway, lambda *_: None])
def test_half_finished_studies_render_in_every_form(form, value):
    skip_without_page(form)
    study = small((named("a"), named("b")), (named("t"), named("s")), suspects=(Suspected(named("extraction")),))
    assert FORMS[form](find(study, measured(study, value), "strict"))
    assert FORMS[form](find(study, results_from({"study": "small", "cells": []}), "strict"))


def test_latex_says_the_words_of_claims_in_their_own_commands():
    """Before, "not credible" stood in the command of a conflict, for both are red in a terminal."""
    text = render_latex(find(*committed("di-suspects"), "strict"))
    said = dict(re.findall(r"(\\gc\w+)\{(not credible|missed|false claim|detected|cleared|fires)\}", text))
    assert text.count(r"\gcNotCredible{not credible}") > 20
    assert not re.search(r"\\gc(?!NotCredible)\w+\{not credible\}", text), said
    defined = set(re.findall(r"providecommand\{(\\gc\w+)\}", text))
    assert {look.command for look in LOOKS.values()} - {""} <= defined
    assert set(LIKE.values()) <= set(LOOKS), "every word that a report marks has a look"


def test_what_is_missing_is_counted_by_cell():
    study = small((named("a"), named("b")), (named("a"), named("t")))
    whole, half = measured(study), measured(study, halfway)
    assert find(study, whole).missing == ()
    assert find(study, whole).unfinished is None
    assert find(study, half).missing == (
        "digits/smoke {t}: 0 of 3 seeds",
        "digits/smoke {a, b}: 1 of 3 seeds",
        "digits/smoke {a, t}: 1 of 3 seeds",
    )
    assert find(study, half).unfinished == "3 of 6 cells still lack seeds"
    clashing = measured(study, halfway, lambda cell: "no" if len(cell.combination) > 1 else None)
    assert find(study, clashing).missing == ("digits/smoke {t}: 0 of 3 seeds",)
    partly = measured(study, lambda cell, metric, seed: None if (metric, seed) == ("cost", 2) else 0.5)
    assert [line.split()[1] for line in find(study, partly).missing] == ["{}:", "{a}:", "{b}:", "{a,"]
    assert len(find(study, results_from({"cells": []})).missing) == 6


def test_seeds_that_a_decided_verdict_does_not_need_are_not_missing():
    """Of seeds that are added step by step."""
    study = small((named("a"), named("b")), (named("a"), named("t")), start=3, seeds=10)
    results = measured(study, lambda cell, metric, seed: smooth(cell, metric, seed) if seed < 3 else None)
    assert find(study, results).unfinished is None
    text = render_latex(find(study, results, "strict"))
    first, *_ = environments(text)
    assert "over 3 to 10 seeds, added while a verdict is undecided" in first
    assert r"digits/smoke (n=3) & " in first
    assert r"\gcConflict{$0.20" in first
    assert r"\gcSeeds{" not in text.partition(r"\begin{document}")[2]
    doubtful = measured(study, lambda cell, metric, seed: 0.9 * (seed % 2) if seed < 3 else None)
    assert "digits/smoke {a, b}: 3 of 5 seeds" in find(study, doubtful).missing
    assert r"\gcSeeds{3/5}" in render_latex(find(study, doubtful, "strict"))


# The tidy table


def read_back(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def raw_values(results: Results) -> Iterator[tuple[Any, ...]]:
    """From the file itself, without any code of reports."""
    for cell in to_plain(results)["cells"]:
        for trial in cell["trials"]:
            for measurement in trial["measurements"]:
                name = measurement["of"]["name"] if measurement["of"] else ""
                for metric, value in measurement["values"].items():
                    yield json.dumps(cell["combination"]), name, metric, trial["seed"], trial["trial"], float(value)


@pytest.mark.parametrize("name", COMMITTED)
def test_csv_holds_exactly_the_values_of_the_records(name):
    study, results = committed(name)
    found = [
        (json.dumps(json.loads(row["options"])), row["mechanism"].split("(")[0], row["metric"], int(row["seed"]),
         row["trial"], float(row["value"]))
        for row in read_back(to_csv(find(study, results)))
    ]  # fmt: skip
    expected = list(raw_values(results))
    assert sorted(found) == sorted(expected)
    assert len(found) > 20


@pytest.mark.parametrize("name", ["wm-dpsgd-mnist", "raddata-pairs"])
def test_csv_parquet_and_frame_are_the_same_table(name):
    parquet, pandas = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pandas")
    study, results = committed(name)
    expected = list(rows(find(study, results)))
    assert [tuple(row) for row in expected] == [tuple(COLUMNS)] * len(expected)

    table = parquet.read_table(io.BytesIO(to_parquet(find(study, results))))
    assert table.to_pylist() == expected
    assert (str(table.schema.field("value").type), str(table.schema.field("seed").type)) == ("double", "int64")

    framed = frame(study, results)
    plain = framed.astype(object).where(framed.notna(), None)
    assert plain.to_dict("records") == expected
    assert str(framed.dtypes["value"]) == "float64"
    assert str(framed.dtypes["examples"]) == "Int64"
    assert pandas.DataFrame(framed).groupby("combination")["seed"].nunique().max() <= 10

    texts = [{column: "" if value is None else value for column, value in row.items()} for row in expected]
    kinds = {float: float, int: int, str: str}
    back = read_back(to_csv(find(study, results)))
    assert [{c: kinds[type(t[c])](row[c]) for c in COLUMNS} for row, t in zip(back, texts, strict=True)] == texts


def test_a_row_says_where_a_value_comes_from():
    suspects = (Suspected(named("extraction"), (named("b"),)), Suspected(named("independent")))
    study = small((named("t"), named("b", size=1)), (named("t"), named("b", size=2)), suspects=suspects)
    found = list(rows(find(study, measured(study))))
    first = found[0]
    assert (first["combination"], first["options"], first["mechanism"], first["symbol"]) == ("{}", "[]", None, "φ_ACC")
    assert (first["dataset"], first["scale"], first["examples"], first["epochs"]) == ("digits", "smoke", None, 2)
    assert (first["suspect"], first["stolen"], first["warnings"]) == (None, None, None)
    stolen = next(row for row in found if row["suspect"] and row["metric"] == "trace" and row["seed"] == 1)
    assert (stolen["combination"], stolen["suspect"], stolen["stolen"]) == ("{t, b(size=1)}", "extraction with b", True)
    assert json.loads(stolen["options"]) == [{"name": "t"}, {"name": "b", "size": 1}]
    assert (stolen["mechanism"], stolen["symbol"], stolen["warnings"]) == ("t", "log₁₀ p_TRACE", "it is warm; very")
    assert {row["stolen"] for row in found} == {None, True, False}
    assert {row["mechanism"] for row in found} == {None, "t", "b(size=1)", "b(size=2)"}
    back = read_back(to_csv(find(study, measured(study))))
    assert {row["stolen"] for row in back} == {"", "true", "false"}


def as_field(text: str) -> str:
    """A text as the table has it: letters without a shape are marks, and nothing is a formula."""
    return "'" * text.startswith(tuple("=+-@\t\n＝＋－＠")) + shown(text)


@settings(max_examples=25, deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.floats(-1e150, 1e150),
    st.lists(st.text(st.characters(codec="utf-8")), max_size=3),
)
def test_csv_survives_any_name_and_any_number(name, number, warnings):
    study = small(name=name)
    results = measured(study, lambda cell, metric, seed: 0.5 if metric == "accuracy" else number)
    content = to_plain(results)
    content["cells"][0]["trials"][0]["measurements"][0]["warnings"] = warnings
    results = results_from(content)
    text = to_csv(find(study, results))
    back = read_back(text)
    assert {row["study"] for row in back} == {as_field(name)}
    assert {float(row["value"]) for row in back if row["metric"] != "accuracy"} == {number}
    assert back[0]["warnings"] == as_field("; ".join(warnings))
    assert text.endswith("\r\n")


def test_only_what_the_study_asks_for_is_in_the_table():
    wide, narrow = small(seeds=4), small(seeds=2)
    assert {row["seed"] for row in rows(find(narrow, measured(wide)))} == {0, 1}


def test_a_frame_by_the_name_of_the_package_and_from_a_store(tmp_path):
    pytest.importorskip("pandas")
    study = small()
    results = measured(study)
    store = Store(tmp_path / "runs")
    snapshot.keep(study, results, snapshot.state(store), store)
    assert guardclash.frame(study, tmp_path / "runs").equals(frame(study, results))
    assert guardclash.frame(study, str(tmp_path / "runs")).equals(frame(study, results))
    with pytest.raises(UserError, match="no results yet"):
        frame(study, tmp_path)
    empty = frame(study, results_from({"cells": []}))
    assert (list(empty.columns), len(empty)) == (list(COLUMNS), 0)


@pytest.mark.parametrize(("package", "make"), [("pandas", frame), ("pyarrow", lambda *told: to_parquet(find(*told)))])
def test_without_its_package_a_form_says_what_to_install(monkeypatch, package, make):
    real = builtins.__import__

    def refused(name: str, *arguments: Any, **keys: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *arguments, **keys)

    monkeypatch.setattr(builtins, "__import__", refused)
    study = small()
    with pytest.raises(UserError, match=rf"{package}.*guardclash\[tables\]"):
        make(study, measured(study))


# Markdown


def tables_of(text: str) -> list[list[list[str]]]:
    """Every table as rows of fields, split as GitHub does: at bars that are not escaped."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith(" |")
            found[-1].append([field.strip() for field in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


@pytest.mark.parametrize("name", COMMITTED)
def test_markdown_tables_have_as_many_columns_in_every_row(name):
    study, results = committed(name)
    text = render_markdown(find(study, results, "strict"))
    tables = tables_of(text)
    assert len(tables) >= 2
    for table in tables:
        assert {len(row) for row in table} == {len(table[0])}
        assert set(table[1]) == {"---"}
        assert len(table) > 2 or table[0][1] == "combination"  # a study of single mechanisms has no verdicts
    assert text.count("\n## ") == len(tables) + 1
    assert ("**Note:**" in text) == bool(find(study, results).unfinished)


def test_markdown_says_what_the_text_report_says():
    study = small((named("a"), named("b")), (named("t"), named("s")))
    text = render_markdown(find(study, measured(study), "strict"))
    verdicts, first, *_ = tables_of(text)
    assert verdicts[2:] == [
        ["digits/smoke", "{a, b}", "**conflict**", "φ_MARK", "conflict"],
        ["digits/smoke", "{t, s}", "not credible", "-", "not credible"],
    ]
    numbers = ["difference", "within", "beyond", "limit", "failing"]
    assert first[0] == ["metric", "alone", "together", *numbers, "strict", "paper"]
    assert [row[0] for row in first[2:]] == ["φ_ACC", "φ_MARK", "χ", "ζ"]
    assert "- digits/smoke {t, s}: log₁₀ p_TRACE is met, but so is its control dud: not credible." in text


def test_markdown_of_a_half_finished_study_says_so():
    study = small()
    text = render_markdown(find(study, measured(study, halfway), "strict"))
    assert "> **Note:** 1 of 4 cells still lack seeds" in text
    assert "- digits/smoke {a, b}: still to be measured: accuracy, together: 1 of 3" in text


@pytest.mark.parametrize("name", NASTY)
def test_odd_names_stay_text_in_markdown(name):
    metrics = {**METRICS, name: (Metric("own", name, MaxDrop(0.1)),)}
    study = small((named(name), named("b")), name=name)
    text = render_markdown(find(study, measured(study, metrics=metrics), "strict"))
    for table in tables_of(text):
        assert {len(row) for row in table} == {len(table[0])}
    assert "<script" not in text
    assert text.startswith(f"# {markdown.escaped(name)}\n")


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_markdown_escapes(text):
    quoted = markdown.escaped(text)
    assert "\n" not in quoted
    assert not set("<>") & set(quoted)
    assert not re.search(r"(?<!\\)(?:\\\\)*[*`|~$]", quoted)
    unquoted = re.sub(r"\\([^A-Za-z0-9\s])", r"\1", quoted)
    for letter, entity in markdown.HTML.items():
        unquoted = unquoted.replace(entity, letter) if letter != "&" else unquoted
    assert unquoted.replace("&amp;", "&") == shown(" ".join(text.split()))


def test_markdown_stays_readable():
    assert markdown.escaped("φ_ACC [-0.02, 0.03] wm_accuracy {wm, dpsgd(on=task)}") == (
        "φ_ACC [-0.02, 0.03] wm_accuracy {wm, dpsgd(on=task)}"
    )
    assert markdown.escaped("[a](b) _c_ *d* 1_") == r"\[a\](b) \_c\_ \*d\* 1\_"


# LaTeX

PRINTED = re.compile(
    r"\\text(?:backslash|asciitilde|asciicircum|bar|endash|emdash)\{\}|\\(?:dots|ss|o|O|ae|l)\{\}|\\[{}$&#%_]"
    r"|\{(?:\[|\]|\*|`)\}|\\[`'^~=u.\"rHvc]\{(?:\\[ij]|[A-Za-z])\}|\$[_^]\{\d\}\$|\$(?:\\[A-Za-z]+|[-<>])\$|-\{\}"
    r"|[A-Za-z0-9 !'()+,\-./:;=?@]"
)
"""All that escaped text is made of, none of which does anything but print."""


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_only_printed_by_latex(text):
    printed = latex_text.escaped(text)
    assert PRINTED.sub("", printed) == ""
    assert printed.isascii()
    assert "--" not in printed
    assert latex_text.prose(text).isascii()
    assert latex_text.prose(text).count("$") % 2 == 0 or r"\$" in printed


def test_words_as_latex():
    for text, expected in {
        "50% & {a_b}": r"50\% \& \{a\_b\}",
        r"\input": r"\textbackslash{}input",
        "é ï ç Ł": r"\'{e} \"{\i} \c{c} {[}U+0141{]}",
        "α ≤ 2 × β": r"$\alpha$ $\le$ 2 $\times$ $\beta$",
        "中": "{[}U+4E2D{]}",
        "on--off\n[x]": "on-{}-off {[}x{]}",
    }.items():
        assert latex_text.escaped(text) == expected
    for text, expected in {
        "φ_WM": r"$\phi_{\mathrm{WM}}$",
        "φ_RAD held-out": r"$\phi_{\mathrm{RAD}}$ held-out",
        "log₁₀ V": r"$\log_{10} V$",
        "log₁₀ φ_DI": r"$\log_{10} \phi_{\mathrm{DI}}$",
        "log₁₀ p_RAD": r"$\log_{10} p_{\mathrm{RAD}}$",
        "ε": r"$\varepsilon$",
        "a_mark": r"a\_mark",
        "-0.5±0.1 (n=2)": r"$-0.5{\pm}0.1$ (n=2)",
        "0.2 [-0.1, 1e-05]": r"0.2 {[}$-0.1$, 1e-05{]}",
        "cnn4-small": "cnn4-small",
    }.items():
        assert latex_text.prose(text) == expected


def environments(text: str) -> list[str]:
    found = re.findall(r"\\begin\{table\}.*?\\end\{table\}", text, re.S)
    assert text.count(r"\begin{table}") == len(found) == text.count(r"\end{table}")
    return [one for one in found if r"\textbf{Verdicts}" not in one]  # tests/test_latex_overview.py


def fields(line: str) -> int:
    """Columns that a row takes."""
    spans = sum(int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line))
    return len(re.findall(r"(?<!\\)&", line)) + 1 + spans


@pytest.mark.parametrize("name", COMMITTED)
def test_latex_rows_fill_their_tables(name):
    study, results = committed(name)
    text = render_latex(find(study, results, "strict"))
    for table in environments(text):
        alignment = re.search(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", table)
        assert alignment
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert {fields(line) for line in lines} == {len(re.sub(r"\{.*?\}", "", alignment[1]))}
        assert len(lines) <= 60
    head = text.partition(r"\documentclass")[0]
    assert all(line.startswith("% ") for line in head.splitlines())
    for part in (study.name, "booktabs", "xcolor", "guardclash report"):
        assert part in head


def test_latex_has_the_layout_of_the_paper():
    text = render_latex(find(*committed("raddata-pairs"), "strict"))
    first, second, alone = environments(text)
    for part in (
        r"\textbf{\{raddata, dpsgd\}}",
        r"5 seeds alone, 5 together, from seed 0",
        r"\gcKept{Green underlined}: no conflict; \gcConflict{red}: conflict; \textsuperscript{?}: undecided.",
        r"Limits: $\phi_{\mathrm{ACC}}$ drop 0.1, $\phi_{\mathrm{RAD}}$ net $\ge$ 0.01, $\varepsilon$ $\times$ 1.5.",
        r"rule strict, $\alpha$ = 0.05, correction verdict, intervals at 90 \%.",
        r"\label{tab:gc-legend}",
        r"Scale of fmnist/reduced, mnist/reduced: 10000 training examples, 10 epochs",
        r"fmnist/reduced & $0.89{\pm}0.00$ & $0.235{\pm}0.035$ & $0.80{\pm}0.00$ & $3.00{\pm}0.00$ & "
        r"\gcKept{$0.80{\pm}0.01$} & \gcKept{$0.033{\pm}0.003$} & \gcConflict{$\infty$} \\",
    ):
        assert part in first
    assert "not measured" not in first
    assert r"\gcConflict{$0.001{\pm}0.001$}" in second
    assert r"\gcUndecided{$0.119{\pm}0.180$}" in second
    assert r"Otherwise as in Table~\ref{tab:gc-legend}." in second
    assert "Green underlined" not in second, "one legend"
    assert r"\emph{\{raddata(placement=stream), advtr(on=task)\}}" in second
    assert r"raddata & $0.99{\pm}0.00$ & $\phi_{\mathrm{RAD}}$ & $0.024{\pm}0.004$ & $-0.915{\pm}0.558$ \\" in alone


def test_latex_tells_all_outcomes_apart():
    study = small((named("a"), named("b")), (named("t"), named("s")), (named("a"), named("s")))
    results = measured(study, clash=lambda cell: "no" if cell.combination == study.combinations[2] else None)
    text = render_latex(find(study, results, "strict"))
    broken, doubtful, clash, *_ = environments(text)
    assert r"\gcConflict{$0.20" in broken
    assert r"\gcNotCredible{$-9.0" in doubtful
    assert r"not credible, a control makes the same claim; \textsuperscript{$\dagger$}: ineffective" in broken
    assert r"\gcIneffective{$-0.09" in doubtful
    assert r"\multicolumn{3}{c}{\emph{clash}}" in clash
    assert "cannot be built together" in broken


def test_latex_of_a_half_finished_study_says_what_is_missing():
    study = small((named("a"), named("b")), (named("t"), named("b")))
    text = render_latex(find(study, measured(study, halfway), "strict"))
    assert "% Missing: digits/smoke {a, b}: 1 of 3 seeds\n" in text
    assert r"\textbf{Not finished}: 3 of 6 cells still lack seeds." in text
    first, second, *_ = environments(text)
    assert r"\gcSeeds{1/3}" in first
    assert "A fraction: so many of the seeds" in first
    assert r"\gcConflict{$" not in first
    assert "-- & --" in second
    assert "--: not measured." in first


def test_wide_combinations_and_long_studies_are_split():
    wide = tuple(named(name) for name in "abts")
    study = small(wide)
    tables = environments(render_latex(find(study, measured(study), "strict")))
    assert [table.count("{c}{alone}") for table in tables] == [1, 1, 1, 1, 0, 0], "each beside what becomes of it"
    assert [table.count("{c}{together}") for table in tables] == [1, 1, 1, 1, 0, 0]
    long = small(*((named("a", size=size), named("b")) for size in range(60)))
    pages = environments(render_latex(find(long, measured(long), "strict")))
    assert len(pages) == 7, "two pages of verdicts, three of combinations, two of mechanisms alone"
    assert max(page.count(r"\\") for page in pages) < 70


def test_claims_are_in_latex():
    suspects = (Suspected(named("extraction")), Suspected(named("independent")))
    study = small((named("t"),), suspects=suspects)
    text = render_latex(find(study, measured(study), "strict"))
    table = environments(text)[-1]
    assert "Ownership claims: digits/smoke \\{t\\}" in table
    assert r"\gcNotCredible{not credible}" in table
    assert r"\gcConflict{false claim}" in table
    assert r"control: dud" in table


@pytest.mark.parametrize("name", NASTY)
def test_odd_names_stay_text_in_latex(name):
    metrics = {**METRICS, name: (Metric("own", name, MaxDrop(0.1)),)}
    study = small((named(name), named("b")), name=name)
    text = render_latex(find(study, measured(study, metrics=metrics), "strict"))
    environments(text)
    shown = [line for line in text.splitlines() if not line.startswith("%")]
    assert not any(r"\input" in line or "<script" in line for line in shown)
    assert all(line.isascii() for line in shown)


def latex_log(text: str, folder: Path) -> str:
    """Compiles a document; what the engine says of it."""
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no TeX is installed: neither pdflatex nor tectonic")
    (folder / "tables.tex").write_text(text, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else ["--keep-logs"]
    ended = subprocess.run([engine, *options, "tables.tex"], cwd=folder, capture_output=True, timeout=300, check=False)
    log = (folder / "tables.log").read_text(encoding="utf-8", errors="replace")
    assert ended.returncode == 0, log
    assert (folder / "tables.pdf").read_bytes().startswith(b"%PDF")
    assert "undefined" not in log
    return log


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMITTED)
def test_latex_of_committed_studies_compiles_as_it_is_and_fits_its_pages(name, tmp_path):
    assert "Overfull" not in latex_log(render_latex(find(*committed(name), "strict")), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("value", [smooth, halfway])
def test_latex_of_many_mechanisms_suspects_and_variants_fits_its_pages(value, tmp_path):
    wide = tuple(map(named, "abts"))
    sweep = [(named("t", size=size), named("b")) for size in range(40)]
    suspects = (Suspected(named("extraction"), (named("b"),)), Suspected(named("independent")))
    study = small(wide, *sweep, suspects=suspects)
    assert "Overfull" not in latex_log(render_latex(find(study, measured(study, value), "strict")), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NASTY)
def test_latex_compiles_whatever_the_names(name, tmp_path):
    study = small((named(name), named("t")), (named("t"), named("b", **{name: 1})), name=name)
    results = measured(study, halfway, metrics={**METRICS, name: (Metric("own", name, MaxDrop(0.1)),)})
    latex_log(render_latex(find(study, results, "strict")), tmp_path)


# The command


@dataclass(frozen=True)
class Said:
    code: int
    err: str
    out: str


@pytest.fixture
def report(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Said]:
    """Runs `guardclash report` on a committed study in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    name = "wm-dpsgd-mnist"
    given = [ROOT / "studies" / f"{name}.toml", "--results", ROOT / "results" / name / "results.json"]

    def run(*arguments: object, first: list[Any] = given) -> Said:
        monkeypatch.setattr(sys, "argv", ["guardclash", "report", *map(str, [*first, *arguments])])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfdbinary.readouterr()
        return Said(int(ended.value.code or 0), said.err.decode(), said.out.decode())

    return run


def test_the_suffix_decides_unless_a_form_is_named(report, tmp_path):
    study, results = committed("wm-dpsgd-mnist")
    for suffix in ("json", "tex", "csv", "md", "parquet", "PARQUET"):
        said = report("-o", f"new/out.{suffix}")
        assert (said.code, said.out, said.err) == (0, "", f"wrote new/out.{suffix}\n")
        expected = FORMS[suffix.lower()](find(study, results, study.rule))
        assert (tmp_path / "new" / f"out.{suffix}").read_bytes() == expected
    assert report("--format", "csv", "-o", "table.txt").code == 0
    assert (tmp_path / "table.txt").read_bytes() == FORMS["csv"](find(study, results, study.rule))
    assert report("-o", "plain.txt").code == 0
    assert (tmp_path / "plain.txt").read_bytes() == FORMS["text"](find(study, results, study.rule))
    assert report("--format", "md", "-o", "out.md").code == 0


def test_the_terminal_gets_the_bytes_of_the_file(report):
    study, results = committed("wm-dpsgd-mnist")
    for form in ("json", "tex", "csv", "md"):
        for rule in ("strict", "paper"):
            said = report("--format", form, "--rule", rule)
            assert (said.code, said.err) == (0, "")
            assert said.out.encode() == FORMS[form](find(study, results, rule))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--format", "parquet"), "-o FILE.parquet"),
        (("--format", "cvs"), "Did you mean 'csv'"),
        (("--format", "csv", "-o", "out.parquet"), "out.parquet"),
        (("--format", "text", "-o", "out.md"), "the file's name says md"),
        (("-o", "."), "cannot be written"),
    ],
)
def test_mistakes_are_one_message_and_write_nothing(report, tmp_path, arguments, told):
    said = report(*arguments)
    assert (said.code, said.out, list(tmp_path.iterdir())) == (2, "", [])
    assert said.err.startswith("error: ")
    assert told in said.err
    assert "Traceback" not in said.err


def test_forms_by_name_and_suffix():
    assert form_asked(None, None) == "text"
    assert form_asked("tex", None) == "tex"
    assert form_asked(None, Path("a.HTM")) == "html"
    assert form_asked("json", Path("a")) == "json"
    assert set(SUFFIXES.values()) == set(FORMS) - {"text"}
    for form in BINARY:
        with pytest.raises(UserError, match="-o FILE"):
            form_asked(form, None)


def test_a_half_finished_study_is_noted_beside_its_table(report, tmp_path):
    (tmp_path / "small.toml").write_text(
        'replicates = { alone = 3, together = 3 }\nrecipes = [{ dataset = "digits", scale = "smoke" }]\n'
        'combinations = [{ mechanisms = ["a", "b"] }]\n',
        encoding="utf-8",
    )
    study = read_study(tmp_path / "small.toml")
    (tmp_path / "results.json").write_text(json.dumps(to_plain(measured(study, halfway))), encoding="utf-8")
    given = [tmp_path / "small.toml", "--results", tmp_path / "results.json"]
    said = report("--format", "csv", first=given)
    assert (said.code, said.err) == (0, "note: 1 of 4 cells still lack seeds\n")
    assert said.out.encode() == to_csv(find(study, measured(study, halfway))).encode()
