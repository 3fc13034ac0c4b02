"""Figures: what they show of whole and half-finished studies, in three forms, and what becomes of odd names."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from scipy import stats

from guardclash.cli.app import main
from guardclash.errors import UserError
from guardclash.judging.criteria import ACCURACY, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.records.cells import Cell, Named
from guardclash.records.file import read_results
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.entries import Entry, cells_of, mean_interval
from guardclash.reporting.figure_parts.metrics import _ends
from guardclash.reporting.figures import FIGURES, METADATA, draw, form_of
from guardclash.reporting.findings import find
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "studies" / "wm-dpsgd-mnist.toml"
RESULTS = ROOT / "results" / "wm-dpsgd-mnist" / "results.json"
ON_RECORD = (STUDY, "--results", RESULTS)
MARK = Metric("mark", "φ_MARK", MaxDrop(0.30))
COST = Metric("cost", "ζ", MaxGrowth(1.5), higher_is_better=False, gain=False)
EXTRA = Metric("extra", "χ", None)
OWN: dict[str, tuple[Metric, ...]] = {"a": (MARK, EXTRA), "b": (COST,)}
Value = Callable[[Cell, str, int], float | None]


@dataclass(frozen=True)
class Said:
    code: int
    err: str
    out: str


@pytest.fixture
def guardclash(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Said]:
    """Runs a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUARDCLASH_STORE", raising=False)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["guardclash", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.err, said.out)

    return run


@pytest.fixture(scope="module")
def on_record() -> tuple[Study, Results]:
    return read_study(STUDY), read_results(RESULTS)


def small(*combinations: tuple[Named, ...], **keys: Any) -> Study:
    recipe = Named("digits", (("scale", "smoke"),))
    return Study("small", (recipe,), combinations or ((Named("a"), Named("b")),), 3, 3, **keys)


def smooth(cell: Cell, metric: str, seed: int) -> float:
    """Values of a study in which b breaks a's mark and nothing else."""
    lost = cell.combination != (Named("a"),)  # as without any mechanism
    return {"cost": 3.0, "mark": 0.2 if lost else 0.9}.get(metric, 0.9) + 0.01 * seed


def measured(study: Study, value: Value = smooth, own: dict[str, tuple[Metric, ...]] = OWN) -> Results:
    """A results file as a run writes it; a value of None is left out."""

    def trial(cell: Cell, seed: int) -> dict[str, Any]:
        found = []
        for of in (None, *(cell.combination or study.mechanisms())):
            names = [metric.name for metric in ((ACCURACY,) if of is None else own.get(of.name, ()))]
            values = {name: value(cell, name, seed) for name in names}
            kept = {name: number for name, number in values.items() if number is not None}
            found.append({"of": of and of.to_dict(), "values": kept})
        return {"seed": seed, "trial": "0", "measurements": found}

    def entry(cell: Cell) -> dict[str, Any]:
        measures = [
            {"of": of.to_dict(), "metrics": [m.to_dict() for m in own.get(of.name, ())]} for of in cell.combination
        ]
        trials = [trial(cell, seed) for seed in study.seeds(cell)]
        return {"key": cell.key, "recipe": {}, "clash": None, "facts": {}, "measures": measures, "trials": trials}

    return results_from(json.loads(json.dumps({"study": study.name, "cells": list(map(entry, study.cells()))})))


def texts(svg: bytes) -> list[str]:
    """What a viewer writes; the parser refuses what is not well-formed."""
    return [
        "".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")
    ]


def shown(study: Study, results: Results) -> list[str]:
    return texts(draw("metrics", find(study, results, study.rule), "svg"))


def entries(study: Study, results: Results) -> dict[tuple[str, str], Entry]:
    """By the labels of a cell and the symbol of a metric."""
    found = find(study, results)
    return {
        ("+".join(map(study.label, cell.combination)), column.metric.symbol): found.entry(cell, column)
        for cell in cells_of(study, study.recipes[0])
        for column in found.columns
    }


# Files


def test_a_file_in_each_form(guardclash, tmp_path):
    for form, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        said = guardclash("figure", "metrics", *ON_RECORD, "-o", f"new/metrics.{form.upper()}")
        assert (said.code, said.out) == (0, "")
        assert f"wrote new/metrics.{form.upper()}" in said.err
        content = (tmp_path / "new" / f"metrics.{form.upper()}").read_bytes()
        assert content.startswith(start)
        assert len(content) < 100_000
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.width == 1440, "a page of 7.2 inches"


def test_the_figure_has_labels_metrics_outcomes_and_nothing_else(on_record):
    found = shown(*on_record)
    assert {"unprotected", "wm", "dpsgd", "dpsgd(on=task)", "{wm, dpsgd}", "{wm, dpsgd(on=task)}"} <= set(found)
    assert {"φ_ACC", "φ_WM", "ε", "mnist/reduced"} <= set(found)
    assert {"compatible (5)", "conflict (1)", "undecided (0)", "one seed", "beyond the limit"} <= set(found)
    assert any(text.startswith("Markers are means with 90 % intervals") for text in found)
    assert "wm-dpsgd-mnist: rule strict, α = 0.05, correction verdict, intervals at 90 %" in found
    assert "log₁₀ V" not in found, "only judged metrics"
    assert not any("Not finished" in text or " of 5" in text or "left out" in text for text in found)


def test_either_rule(guardclash, tmp_path):
    assert guardclash("figure", "metrics", *ON_RECORD, "--rule", "paper", "-o", "paper.svg").code == 0
    found = texts((tmp_path / "paper.svg").read_bytes())
    assert "wm-dpsgd-mnist: rule paper, α = 0.05, correction verdict, intervals at 90 %" in found
    assert {"compatible (5)", "conflict (1)"} <= set(found), "no difference and equivalent are compatible"


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes_without_torch(on_record, tmp_path):
    """Also in another process, whose hashes differ, and whatever matplotlib was told before."""
    import matplotlib

    study, results = on_record
    wanted = {form: draw("metrics", find(study, results, study.rule), form) for form in METADATA}
    with matplotlib.rc_context({"font.size": 30, "text.parse_math": True}):
        assert {form: draw("metrics", find(study, results, study.rule), form) for form in METADATA} == wanted
        assert matplotlib.rcParams["font.size"] == 30
    code = (
        "import contextlib, sys\n"
        "from guardclash.cli.app import main\n"
        "for form in ('svg', 'pdf', 'png'):\n"
        f"    sys.argv = ['guardclash', 'figure', 'metrics', {str(STUDY)!r}, '--results', {str(RESULTS)!r}]\n"
        f"    sys.argv += ['-o', {str(tmp_path)!r} + '/figure.' + form]\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main()\n"
        "print([name for name in ('torch', 'opacus', 'sklearn', 'matplotlib.pyplot') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.strip() == "[]"
    assert {form: (tmp_path / f"figure.{form}").read_bytes() for form in METADATA} == wanted


# What is shown


def test_limits_lie_where_verdicts_put_them():
    study = small(criteria=(("extra", Floor(0.5)),))
    found = entries(study, measured(study))
    mark, cost, extra = (found["a+b", symbol] for symbol in ("φ_MARK", "ζ", "χ"))
    assert (mark.limit, mark.bad, mark.outcome) == (pytest.approx(0.91 - 0.3), -1, "conflict")
    assert (cost.limit, cost.bad, cost.outcome) == (pytest.approx(1.5 * 3.01), 1, "compatible")
    assert (extra.limit, extra.bad, extra.outcome) == (0.5, -1, "compatible")
    assert found["a+b", "φ_ACC"].limit == pytest.approx(0.91 - 0.1)
    assert all(entry.limit is None and entry.outcome == "" for (cell, _), entry in found.items() if "+" not in cell)


def test_each_variant_is_held_against_itself():
    weak, strong = Named("a", (("power", 1),)), Named("a", (("power", 2),))
    study = small((weak, Named("b")), (strong, Named("b")))

    def value(cell: Cell, metric: str, seed: int) -> float:
        return (0.8 if strong in cell.combination else 0.4) + 0.01 * seed

    found = entries(study, measured(study, value))
    assert found["a(power=1)+b", "φ_MARK"].limit == pytest.approx(0.41 - 0.3)
    assert found["a(power=2)+b", "φ_MARK"].limit == pytest.approx(0.81 - 0.3)
    assert list(dict.fromkeys(cell for cell, _ in found))[:4] == ["", "a(power=1)", "a(power=2)", "b"]
    assert len(found["", "φ_MARK"].samples) == 1, "the unprotected model scores the same in both"


def test_intervals_are_of_the_confidence_of_the_tests(on_record):
    """So that one-sided tests at their level can be read off: 1 - 2 alpha, whose share counts where seeds are added."""
    study, values = on_record[0], entries(*on_record)["wm+dpsgd", "φ_WM"].samples[0]
    step_by_step = replace(study, start=4, together=6)
    for asked, confidence in ((study, 0.9), (replace(study, alpha=0.01), 0.98), (step_by_step, 0.95)):
        expected = stats.t.interval(confidence, values.n - 1, values.mean, values.std / values.n**0.5)
        assert mean_interval(values, asked.level) == pytest.approx(expected)
        assert asked.confidence == pytest.approx(confidence)
        assert any(f"means with {100 * confidence:g} % intervals" in text for text in shown(asked, on_record[1]))


def test_an_axis_reaches_all_values_and_limits(on_record):
    for column in ("φ_ACC", "φ_WM", "ε"):
        of_column = [entry for (_, symbol), entry in entries(*on_record).items() if symbol == column]
        low, high = _ends(of_column, 0.05)
        assert all(low < number < high for entry in of_column for number in entry.numbers)
    assert _ends([], 0.05) == pytest.approx((-0.05, 1.05))
    wild = MARK.sample((0.0, 1.0))  # its interval is six times as wide
    assert _ends([Entry((wild,), 2)], 0.05) == pytest.approx((-1 / 3 - 0.05, 4 / 3 + 0.05))


def test_a_half_finished_study_says_what_is_missing(on_record):
    study, results = on_record
    content = json.loads(json.dumps(to_plain(results)))
    content["cells"][-1]["trials"] = content["cells"][-1]["trials"][:3]
    content["cells"][1]["trials"] = []
    found = shown(study, results_from(content))
    assert {"3 of 10", "0 of 5", "undecided (5)"} <= set(found)
    assert "Not finished: 69 of 100 values are measured; rows say how many of theirs." in found
    nothing = shown(study, results_from({"study": "none", "cells": []}))
    assert nothing.count("0 of 5") == 4
    assert nothing.count("0 of 10") == 2
    assert any(text.startswith("Not finished: 0 of 40 values") for text in nothing)


def test_single_replicates_have_no_interval_but_a_place():
    study = replace(small(), alone=1, together=1)
    found = shown(study, measured(study))
    assert "undecided (3)" in found


def test_a_clash_and_a_metric_without_meaning():
    study = small()
    without = measured(
        study, lambda cell, metric, seed: None if metric == "cost" and len(cell.combination) != 1 else 0.9
    )
    found = entries(study, without)
    assert found["", "ζ"] == Entry()
    assert found["a+b", "ζ"] == Entry(outcome="not measured together")
    assert {"not measured together (1)", "not measured together"} <= set(shown(study, without))
    assert found["b", "ζ"].there == 3
    assert found["b", "φ_MARK"] == Entry(), "not measured where its mechanism is not"
    content = to_plain(without)
    optional = {**OWN, "b": (replace(COST, optional=True),)}
    without = measured(
        study,
        lambda cell, metric, seed: (
            smooth(cell, metric, seed) if metric != "cost" or len(cell.combination) == 1 else None
        ),
        optional,
    )
    assert entries(study, without)["a+b", "ζ"] == Entry(), "it may have no meaning in company"
    assert not [text for text in shown(study, without) if "not measured" in text]
    clashing = {**content["cells"][-1], "clash": "cannot be", "trials": []}
    words = shown(study, results_from({**content, "cells": [*content["cells"][:-1], clashing]}))
    assert words.count("clash") == 3


def test_a_control_is_shown_where_it_is_measured():
    """The mark of a in a model that b alone protects."""
    study = small()
    content = json.loads(json.dumps(to_plain(measured(study))))
    for cell in content["cells"]:
        if json.loads(cell["key"])[1] == [{"name": "b"}]:
            for trial in cell["trials"][:2]:
                trial["measurements"].append({"of": {"name": "a"}, "values": {"mark": 0.1}})
    control = entries(study, results_from(content))["b", "φ_MARK"]
    assert (control.there, control.outcome, control.limit) == (2, "", None)


def test_long_labels_leave_out_what_all_share():
    variants = [Named("a", (("moment", moment), ("treatment", how))) for moment in ("early", "late") for how in "xy"]
    study = small(*((variant, Named("b")) for variant in variants))
    found = shown(study, measured(study))
    assert {"a(early, x)", "{a(late, y), b}"} <= set(found)
    assert "Names of options are left out: a(moment, treatment)." in found
    one_lacks_it = small(*((variant, Named("b")) for variant in (*variants, Named("a"))))
    assert {"a(moment=early, treatment=x)", "a"} <= set(shown(one_lacks_it, measured(one_lacks_it)))


def test_equal_symbols_are_told_apart():
    own = {"a": (MARK,), "b": (MARK,)}
    study = small()
    assert {"φ_MARK (a)", "φ_MARK (b)"} <= set(shown(study, measured(study, own=own)))


def test_odd_names_stay_text():
    odd = ["<script>alert(1)</script>", "$x^2$", "_", "$", "a&b", "-->", "\\frac", "模型"]
    own = {name: (replace(MARK, name=f"mark-{name}", symbol=f"φ{name}"),) for name in odd}
    study = small(*((Named(name), Named("b")) for name in [*odd, "x" * 90]))
    study = replace(study, name="".join(odd), recipes=(Named(odd[0], (("scale", odd[1]),)),))
    results = measured(study, own=own)
    svg = draw("metrics", find(study, results, "strict"), "svg")
    assert not [node.tag for node in ElementTree.fromstring(svg).iter() if "script" in node.tag]
    found = set(texts(svg))
    assert {*odd, *(f"φ{name}" for name in odd), *(f"{{{name}, b}}" for name in odd)} - found <= {f"φ{odd[0]}"}
    assert {
        f"{odd[0]}/{odd[1]}",
        f"{study.name}: rule strict, α = 0.05, correction verdict, intervals at 90 %",
        "x" * 38,
    } <= found
    for form in ("pdf", "png"):
        assert draw("metrics", find(study, results, "strict"), form)


def test_letters_without_a_shape_are_made_visible():
    study = small((Named("a\x00\n\u202e\u200b"), Named("b")))
    assert "a" + "\N{REPLACEMENT CHARACTER}" * 4 in shown(study, measured(study, own={}))


# Mistakes


def test_without_matplotlib(guardclash, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = guardclash("figure", "metrics", *ON_RECORD, "-o", "metrics.svg")
    assert said.code == 2
    assert said.err.startswith("error: figures need matplotlib, which is not installed")
    assert "pip install" in said.err
    assert "guardclash[figures]" in said.err
    assert not list(tmp_path.iterdir())


def test_mistakes_in_the_command(guardclash, tmp_path):
    def refused(*arguments: object) -> str:
        said = guardclash("figure", *arguments)
        assert (said.code, said.out) == (2, "")
        assert "Traceback" not in said.err
        return said.err

    assert "Did you mean 'metrics'?" in refused("metric", *ON_RECORD, "-o", "a.svg")
    for name in ("a.jpg", "a", "svg", "a.svg.gz"):
        assert "allowed: .svg, .pdf, .png" in refused("metrics", *ON_RECORD, "-o", name)
    assert "--output" in refused("metrics", *ON_RECORD)
    assert "no results yet" in refused("metrics", STUDY, "--results", "none.json", "-o", "a.svg")
    (tmp_path / "folder.svg").mkdir()
    assert "the figure cannot be written" in refused("metrics", *ON_RECORD, "-o", "folder.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


def test_help_names_the_figures(guardclash):
    said = guardclash("figure", "--help")
    assert said.code == 0
    assert all(name in said.out for name in FIGURES)


def test_forms_and_names_from_python():
    assert form_of(Path("x.y/a.SVG")) == "svg"
    with pytest.raises(UserError, match="no such form"):
        form_of(Path("a"))
    with pytest.raises(UserError, match=r"no such figure.*Known: distances, embeddings, matrix, metrics, pareto"):
        draw("nonsense", find(small(), results_from({"cells": []}), "strict"), "svg")
