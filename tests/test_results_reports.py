"""From results to reports: text, JSON and exports of whole, half-finished and broken studies. No training here."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from guardclash.errors import UserError
from guardclash.judging.criteria import ACCURACY, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.rules import RULES
from guardclash.records.cells import Cell, Named
from guardclash.records.file import read_results
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.export import dump, export, to_json
from guardclash.reporting.findings import find
from guardclash.reporting.notes import notes
from guardclash.reporting.text import WIDTH, number, p_value, render
from guardclash.studies.store import SCHEMA
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from

MARK = Metric("mark", "φ_MARK", MaxDrop(0.30))
COST = Metric("cost", "ζ", MaxGrowth(1.5), higher_is_better=False, decimals=1, gain=False)
EXTRA = Metric("extra", "χ", None)
METRICS = {None: (ACCURACY,), "a": (MARK, EXTRA), "b": (COST,), "c": ()}
Value = Callable[[tuple[str, ...], str | None, str, int], float | None]
ENVIRONMENT = {"guardclash": "0.1.0", "processor": "none"}


def study(*combinations: list[Any], alone: int = 5, together: int = 5, **keys: Any) -> Study:
    wanted = [{"mechanisms": mechanisms} for mechanisms in combinations or (["a", "b"],)]
    return study_from(
        {
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": wanted,
            "replicates": {"alone": alone, "together": together},
            **keys,
        }
    )


def smooth(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
    """Values of a study in which b breaks a's mark and nothing else."""
    wobble = 0.01 * math.sin(seed + len(names))
    if metric == "cost":
        return 3.0
    if metric == "mark" and names != ("a",):
        return 0.2 + wobble
    return 0.95 + wobble


def results(
    wanted: Study,
    value: Value = smooth,
    clash: Callable[[Cell], str | None] = lambda cell: None,
    errors: Callable[[Cell, int], str | None] = lambda cell, seed: None,
) -> Results:
    """A results file as a run writes it, its values by a function; None is a value that is not there."""
    cells = []
    for cell in wanted.cells():
        names = tuple(named.name for named in cell.combination)
        measured = [None, *wanted.measured_in(cell)]
        trials: list[dict[str, Any]] = []
        for seed in () if clash(cell) else wanted.seeds(cell):
            trial = {"seed": seed, "trial": f"{'-'.join(names)}-{seed}", "seconds": 1.0, "measurements": []}
            if error := errors(cell, seed):
                trials.append({**trial, "error": error})
                continue
            for of in measured:
                metrics = METRICS[of and of.name]
                found = {metric.name: value(names, of and of.name, metric.name, seed) for metric in metrics}
                kept = {name: number for name, number in found.items() if number is not None}
                trial["measurements"].append({"of": of and of.to_dict(), "values": kept})
            trials.append(trial)
        cells.append(
            {
                "key": cell.key,
                "recipe": {
                    "dataset": "digits",
                    "scale": "smoke",
                    "epochs": 2,
                    "protected_epochs": None,
                    "examples": 256,
                    "test_examples": 128,
                    "model": "cnn4-small",
                    "norm": "batch",
                    "batch_size": 64,
                },
                "combination": [named.to_dict() for named in cell.combination],
                "clash": clash(cell),
                "plan": None if clash(cell) else "+".join(names),
                "composed": None,
                "facts": {"b": {"cost of task": "3 (δ = 1e-05)"}} if "b" in names and not clash(cell) else {},
                "measures": [
                    {"of": of and of.to_dict(), "metrics": [metric.to_dict() for metric in METRICS[of and of.name]]}
                    for of in measured
                ],
                "trials": trials,
            }
        )
    content = {
        "schema": SCHEMA,
        "study": wanted.name,
        "written": "2026-01-01T00:00:00Z",
        "environments": [ENVIRONMENT],
        "cells": cells,
    }
    return results_from(json.loads(json.dumps(content)))


def strictly(text: str) -> Any:
    """Parses JSON and refuses NaN and Infinity."""
    return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def judgement(content: dict[str, Any], metric: str, verdict: int = 0) -> dict[str, Any]:
    (found,) = [entry for entry in content["verdicts"][verdict]["judgements"] if entry["metric"] == metric]
    return dict(found)


# JSON


def test_json_has_the_promised_structure():
    wanted = study()
    content = strictly(dump(to_json(find(wanted, results(wanted), "strict"))))
    assert content.keys() >= {"study", "rule", "verdicts"}
    assert (content["study"], content["rule"]) == ("study", "strict")
    (verdict,) = content["verdicts"]
    assert verdict.keys() >= {"recipe", "combination", "outcome", "outcomes", "judgements", "diverged"}
    assert list(verdict["outcomes"]) == ["strict", "paper"]
    assert content["confidence"] == pytest.approx(0.9)
    assert (verdict["recipe"], verdict["combination"], verdict["outcome"]) == ("digits/smoke", ["a", "b"], "conflict")
    assert [entry["metric"] for entry in verdict["judgements"]] == ["accuracy", "mark", "extra", "cost"]
    assert [entry["symbol"] for entry in verdict["judgements"]] == ["φ_ACC", "φ_MARK", "χ", "ζ"]
    for entry in verdict["judgements"]:
        keys = {"metric", "symbol", "outcome", "outcomes", "alone", "together", "difference", "interval", "threshold"}
        keys |= {"p_difference", "p_equivalence", "p_noninferior", "p_inferior", "adjusted"}
        assert entry.keys() >= keys | {"confidence", "paired", "gain", "failing", "unseen", "apart"}
        assert list(entry["outcomes"]) == ["strict", "paper"]
        assert entry["confidence"] == pytest.approx(0.9)
        for arm in ("alone", "together"):
            assert entry[arm].keys() == {"mean", "std", "n", "values"}
            assert entry[arm]["n"] == len(entry[arm]["values"]) == 5
            assert entry[arm]["mean"] == pytest.approx(sum(entry[arm]["values"]) / 5)
        assert entry["difference"] == pytest.approx(entry["together"]["mean"] - entry["alone"]["mean"])
    mark = judgement(content, "mark")
    assert mark["outcome"] == "conflict"
    assert mark["threshold"] == 0.3
    assert mark["interval"][0] < mark["difference"] < mark["interval"][1]
    assert mark["p_difference"] < 1e-6
    assert mark["p_equivalence"] > 0.99
    assert mark["p_inferior"] < 1e-6
    assert (mark["failing"], mark["unseen"]) == (5, 1)
    assert mark["gain"]["value"] == pytest.approx(0.75, abs=0.02)
    assert mark["gain"]["unprotected"] == [smooth((), "a", "mark", seed) for seed in range(5)]
    assert judgement(content, "accuracy")["gain"] is judgement(content, "extra")["gain"] is None
    assert judgement(content, "extra")["outcome"] == "reported"


def test_values_stand_in_the_order_of_their_seeds():
    wanted = study(together=7, first_seed=3)
    content = to_json(find(wanted, results(wanted), "strict"))
    values = [smooth(("a", "b"), "a", "mark", seed) for seed in range(3, 10)]
    assert judgement(content, "mark")["together"]["values"] == values
    assert judgement(content, "mark")["alone"]["values"] == [smooth(("a",), "a", "mark", seed) for seed in range(3, 8)]


def test_accuracy_is_held_against_the_lower_single():
    wanted = study()

    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        return {("a",): 0.9, ("b",): 0.7, ("a", "b"): 0.69}.get(names, 0.99) + 0.001 * seed

    accuracy = judgement(to_json(find(wanted, results(wanted, value), "strict")), "accuracy")
    assert accuracy["against"] == "b"
    assert accuracy["alone"]["mean"] == pytest.approx(0.702)
    assert accuracy["others"] == {"a": pytest.approx(0.902)}
    assert accuracy["outcome"] == "compatible"
    assert "φ_ACC alone: b, the lowest; a 0.90." in render(find(wanted, results(wanted, value), "strict"))


def test_the_rule_and_the_criteria_of_the_study_decide():
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        return smooth(names, of, metric, seed) if metric != "mark" else {("a",): 0.9, ("a", "b"): 0.5}.get(names, 0.0)

    def no_better_than_chance(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        return value(names, of, metric, seed) or 0.5

    wanted = study()
    assert judgement(to_json(find(wanted, results(wanted, value), "strict")), "mark")["outcome"] == "conflict"
    lenient = study(criteria={"mark": {"max_drop": 0.5}})
    assert judgement(to_json(find(lenient, results(lenient, value), "strict")), "mark")["outcome"] == "compatible"
    lost = judgement(to_json(find(lenient, results(lenient, no_better_than_chance), "strict")), "mark")
    assert lost["outcome"] == "conflict", "all that it gained over the unprotected model is gone, within any drop"
    bound = study(criteria={"mark": {"floor": 0.6}, "accuracy": {"floor": 0.99}})
    content = to_json(find(bound, results(bound, value), "strict"))
    assert judgement(content, "mark")["outcome"] == "conflict"
    assert judgement(content, "accuracy")["outcome"] == "undecided", "0.95 alone is below 0.99 as well: nothing is lost"
    assert judgement(content, "mark")["threshold"] == 0.6
    text = render(find(bound, results(bound, value), "strict"))
    assert "≥ 0.6" in text
    assert "≥ 0.99" in text


def test_holm_is_applied_over_a_verdict_or_the_whole_study():
    """To the question of a conflict; over the whole study to that of staying within the limit as well."""
    found = {}
    for correction in ("none", "verdict", "holm"):
        wanted = study(["a", "b"], ["a", "c"], correction=correction)
        content = to_json(find(wanted, results(wanted), "strict"))
        assert content["correction"] == correction
        found[correction] = [judgement(content, metric) for metric in ("accuracy", "mark")]
    decisive = {name: [one["adjusted"] or one for one in both] for name, both in found.items()}
    (accuracy, mark), (_, verdict), (within, whole) = (decisive[name] for name in ("none", "verdict", "holm"))
    assert verdict["p_inferior"] == pytest.approx(3 * mark["p_inferior"]), "φ_ACC, φ_MARK and ζ"
    assert whole["p_inferior"] == pytest.approx(5 * mark["p_inferior"]), "and φ_ACC and φ_MARK of {a, c}"
    assert decisive["verdict"][0]["p_noninferior"] == accuracy["p_noninferior"] < within["p_noninferior"]
    for name in ("verdict", "holm"):
        for before, after in zip(found["none"], found[name], strict=True):
            flat = ("p_difference", "p_equivalence", "p_noninferior", "p_inferior")
            assert [after[p] for p in flat] == [before[p] for p in flat], "the raw ones stay"
            tests = ("p_difference", "p_equivalence")  # of the paper's rule, which no correction touches
            assert [(after["adjusted"] or after)[p] for p in tests] == [
                (before["adjusted"] or before)[p] for p in tests
            ]


# With and without


def test_a_metric_is_held_against_the_same_models_without_its_mechanism():
    """{a, b} has a mark of 0.2, and so has {b}: that is no trace of a, whatever the number."""
    wanted = study(["a", "b"])
    content = strictly(dump(to_json(find(wanted, results(wanted), "strict"))))
    found = {("+".join(entry["combination"]), entry["metric"]): entry for entry in content["controls"]}
    assert set(found) == {("a", "mark"), ("a", "extra"), ("b", "cost")} | {
        ("a+b", "mark"),
        ("a+b", "extra"),
        ("a+b", "cost"),
    }
    alone, together = found["a", "mark"], found["a+b", "mark"]
    assert alone["difference"] == pytest.approx(0.75, abs=0.03)
    assert alone["interval"][0] > 0.7
    low, high = together["interval"]
    assert low < 0 < high
    expected = stats.ttest_ind(together["with"], together["without"], equal_var=False).confidence_interval(0.9)
    assert (low, high) == pytest.approx(tuple(expected))
    text = render(find(wanted, results(wanted), "strict"), width=300)
    shown = rows(text, "With and without each mechanism (a score that does not change is no evidence)")
    assert len(shown) == 4, "judged metrics only"
    (row,) = [row for row in shown if "φ_MARK of a" in row and "{a, b}" in row]
    assert number(MARK, together["difference"]) in row


def test_what_is_not_measured_without_the_mechanism_has_no_control():
    wanted = study(["a", "b"])
    missing = results(wanted, lambda names, of, metric, seed: None if of == "a" and "a" not in names else 0.5)
    assert {entry["mechanism"] for entry in to_json(find(wanted, missing, "strict"))["controls"]} == {"b"}


# Text and JSON agree


ALONE = "Alone (and what the unprotected model scores by chance)"


def rows(text: str, title: str) -> list[str]:
    """The rows of one table of the report, as long as no cell is folded."""
    lines = text.splitlines()
    start = lines.index(title) + 4  # title, empty line, names of the columns, rule
    assert set(lines[start - 1].strip()) == {"─"}
    return list(itertools.takewhile(str.strip, lines[start:]))


def fields(row: str) -> list[str]:
    """The cells of a row, none of which is empty or holds two blanks side by side."""
    return re.split(" {2,}", row.strip())


def assert_agree(wanted: Study, found: Results, rule: Any) -> None:
    content = strictly(dump(to_json(find(wanted, found, rule))))
    text = render(find(wanted, found, rule), width=300)  # so that no cell is folded
    metrics = {metric.name: metric for group in METRICS.values() for metric in group}
    for verdict in content["verdicts"]:
        label = "{" + ", ".join(verdict["combination"]) + "}"
        (row,) = [line for line in rows(text, "Verdicts") if f" {label} " in line]
        recipe, combination, said, broken, beside = fields(row)
        assert (recipe, combination) == (verdict["recipe"], label)
        assert [said, beside] == list(verdict["outcomes"].values())
        assert said == verdict["outcome"]
        symbols = {entry["metric"]: entry["symbol"] for entry in verdict["judgements"]}
        assert broken == (", ".join(symbols[name] for name in verdict["broken"]) or "-")
        title = f"{verdict['recipe']} {label}"
        if not any(entry["together"]["n"] for entry in verdict["judgements"]):
            assert title not in text.splitlines(), "nothing is measured together"
            continue
        shown = rows(text, title)
        assert [fields(row)[0] for row in shown] == [entry["symbol"] for entry in verdict["judgements"]]
        for row, entry in zip(shown, verdict["judgements"], strict=True):
            assert_row_agrees(fields(row), entry, metrics[entry["metric"]])
            assert entry["outcome"] == entry["outcomes"][rule]


def assert_row_agrees(cells: list[str], entry: dict[str, Any], metric: Metric) -> None:
    _, alone, together, difference, within, beyond, _, failing, *outcomes = cells
    for arm, said in (("alone", alone), ("together", together)):
        mean, n = number(metric, entry[arm]["mean"]), entry[arm]["n"]
        assert re.fullmatch(re.escape(mean) + r"(±[\d.]+)? " + re.escape(f"(n={n})"), said) if n else said == "-"
    ends = [number(metric, end) for end in entry["interval"] or ()]
    assert difference == number(metric, entry["difference"]) + (f" [{', '.join(ends)}]" if ends else "")
    decisive = entry["adjusted"] or entry
    assert [within, beyond] == [p_value(decisive["p_noninferior"]), p_value(decisive["p_inferior"])]
    counted = entry["unseen"] is not None and entry["alone"]["n"]
    assert failing == (f"{entry['failing']} of {entry['together']['n']}" if counted else "-")
    assert outcomes == list(entry["outcomes"].values())


@pytest.mark.parametrize("rule", RULES)
def test_text_and_json_say_the_same(rule):
    wanted = study(["a", "b"], ["a", "c"], ["b", "c"])
    assert_agree(wanted, results(wanted), rule)


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from([("a",), ("b",), ("a", "b"), ()]), st.sampled_from(["accuracy", "mark", "cost"])),
        st.tuples(st.floats(0, 1), st.floats(0, 0.3)),
    ),
    st.integers(1, 6),
    st.integers(0, 6),
    st.sampled_from(["none", "verdict", "holm"]),
)
def test_whatever_the_values_text_and_json_agree(shapes, alone, missing, correction):
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
        if seed >= missing and len(names) == 2:
            return None
        centre, spread = shapes.get((names, metric), (0.5, 0.0))
        found = centre + spread * math.cos(5 * seed)
        return min(1.0, max(0.0, found)) if metric == "accuracy" else found

    wanted = study(alone=alone, together=6, correction=correction)
    for rule in RULES:
        if (rule, correction) == ("paper", "holm"):
            for report in (to_json, render):
                with pytest.raises(UserError, match="the paper's rule does not go with"):
                    report(find(wanted, results(wanted, value), rule))
        else:
            assert_agree(wanted, results(wanted, value), rule)


# Gaps


def test_a_half_finished_study_is_undecided_and_says_what_is_missing():
    wanted = study(["a", "b"], ["a", "c"])

    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
        return None if names == ("a", "b") and seed >= 3 else smooth(names, of, metric, seed)

    found = results(wanted, value)
    content = to_json(find(wanted, found, "strict"))
    assert [verdict["outcome"] for verdict in content["verdicts"]] == ["undecided", "conflict"]
    assert judgement(content, "mark")["together"]["n"] == 3
    text = render(find(wanted, found, "strict"))
    (note,) = [line for line in text.split("\n") if "still to be measured" in line]
    assert note.startswith("digits/smoke {a, b}: still to be measured: accuracy, together: 3 of 5")


def test_nothing_measured_yet():
    wanted = study()
    for found in (
        results(wanted, lambda *asked: None),
        results_from({"schema": SCHEMA, "study": "study", "cells": []}),
        results_from({**to_plain(results(wanted)), "cells": to_plain(results(wanted))["cells"][:1]}),
    ):
        for rule in ("paper", "strict"):
            content = strictly(dump(to_json(find(wanted, found, rule))))
            assert [verdict["outcome"] for verdict in content["verdicts"]] == ["undecided"]
            assert "undecided" in render(find(wanted, found, rule))
    assert "digits/smoke {a}, {b}, {a, b}: not run yet." in render(find(wanted, found, "strict"))


def test_results_of_another_study_are_not_taken_for_its_own():
    wanted, other = study(), study(recipes=[{"dataset": "digits", "scale": "smoke", "epochs": 9}])
    text = render(find(other, results(wanted), "strict"))
    assert "digits/smoke {}, {a}, {b}, {a, b}: not run yet." in text
    assert "Compute" not in text
    assert "φ_MARK" not in text
    assert [fields(row)[2:] for row in rows(text, "Verdicts")] == [["undecided", "-", "undecided"]]


def test_more_seeds_than_the_study_asks_for_are_left_out():
    small, large = study(together=3), study(together=9)
    content = to_json(find(small, results(large), "strict"))
    assert judgement(content, "mark")["together"]["n"] == 3


def test_a_failed_trial_is_noted_with_its_last_line():
    wanted = study()
    error = "Traceback (most recent call last):\n  File x\nRuntimeError: [bold]no luck[/bold]\n"
    found = results(wanted, errors=lambda cell, seed: error if len(cell.combination) == 2 and seed == 4 else None)
    text = render(find(wanted, found, "strict"))
    assert "digits/smoke {a, b}: seed 4 failed: RuntimeError: [bold]no luck[/bold]" in text
    assert "Traceback" not in text
    assert to_json(find(wanted, found, "strict"))["verdicts"][0]["outcome"] == "undecided"


def test_a_clash_is_a_verdict_without_numbers():
    wanted = study(["a", "b"], ["a", "c"])
    reason = "a and b both set 'gradient' of stream 'task'"
    found = results(wanted, clash=lambda cell: reason if len(cell.combination) == 2 and "b" in cell.key else None)
    content = strictly(dump(to_json(find(wanted, found, "paper"))))
    assert [verdict["outcome"] for verdict in content["verdicts"]] == ["clash", "conflict"]
    assert content["verdicts"][0]["clash"] == reason
    assert content["verdicts"][0]["judgements"] == []
    text = render(find(wanted, found, "paper"))
    (row,) = [line for line in rows(text, "Verdicts") if "{a, b}" in line]
    assert "clash" in row
    assert reason in row
    assert "{a, b}: still to be measured" not in text


@pytest.mark.parametrize(
    ("alone", "optional", "outcome"),
    [
        (False, False, "compatible"),  # it has no meaning anywhere
        (True, True, "compatible"),  # as dpsgd says of ε where it does not cover the task
        (True, False, "not measured together"),
    ],
)
def test_a_metric_that_has_no_meaning_in_a_combination_is_not_waited_for(alone, optional, outcome, monkeypatch):
    """`Mechanism.measure` may leave a metric out; what is measured alone must say so beforehand."""
    monkeypatch.setitem(METRICS, "b", (replace(COST, optional=optional),))
    wanted = study()

    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
        if metric == "cost":
            return 3.0 if alone and names == ("b",) else None
        return (0.2 if metric == "mark" and "a" not in names else 0.9) + 0.001 * seed

    found = results(wanted, value)
    content, text = to_json(find(wanted, found, "strict")), render(find(wanted, found, "strict"), width=300)
    assert content["verdicts"][0]["outcome"] == outcome
    assert "still to be measured" not in text
    assert ("ζ is measured alone (5 seeds) and never together" in text) == (outcome != "compatible")
    assert ("cost" in [entry["metric"] for entry in content["verdicts"][0]["judgements"]]) == (outcome != "compatible")


def test_a_study_of_single_mechanisms_has_no_verdicts_but_a_table():
    wanted = study(["a"])
    found = results(wanted)
    assert to_json(find(wanted, found, "strict"))["verdicts"] == []
    text = render(find(wanted, found, "strict"))
    assert "φ_MARK 0.95±0.01 (n=5)" in text


def test_values_that_are_no_numbers_are_told_with_their_metric():
    wanted = study()
    with pytest.raises(UserError, match=r"values\.mark"):
        results(wanted, lambda names, of, metric, seed: math.nan if metric == "mark" else 0.9)


# What the text shows beside verdicts


def test_the_text_shows_baselines_chance_levels_facts_and_scale():
    wanted = study()
    text = render(find(wanted, results(wanted), "strict"))
    assert text.startswith("study\nOn digits/smoke:\n✗ b destroys a: φ_MARK 0.95 → 0.20 (at most 0.3 may be lost).\n")
    assert "\nJudged by rule strict, α = 0.05, correction verdict, intervals at 90 %.\n" in text
    alone = rows(text, ALONE)
    (row,) = [line for line in alone if " a " in line and "φ_MARK" in line]
    assert "φ_MARK 0.95±0.01 (n=5)" in row
    assert "φ_MARK 0.20±0.01 (n=5)" in row, "what the unprotected model scores by chance"
    assert "digits/smoke {b}, {a, b}: b: cost of task 3 (δ = 1e-05)." in text
    assert "256 training examples, 2 epochs" in text
    assert "drop 0.3" in text
    assert "× 1.5" in text
    assert text.count("digits/smoke") >= 6
    assert max(map(len, text.splitlines())) <= WIDTH


def test_judgements_of_several_recipes_can_be_told_apart():
    two = [{"dataset": "digits", "scale": "smoke"}, {"dataset": "digits", "scale": "reduced"}]
    wanted = study(recipes=two)
    text = render(find(wanted, results(wanted), "strict"), width=300)
    for recipe in ("digits/smoke", "digits/reduced"):
        assert [row.split()[0] for row in rows(text, f"{recipe} {{a, b}}")] == ["φ_ACC", "φ_MARK", "χ", "ζ"]


def test_undecided_says_how_many_replicates_would_decide():
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        return 0.7 + 0.2 * math.cos(3 * seed) if len(names) == 2 else 0.75

    wanted = study()
    found = results(wanted, value)
    needed = judgement(to_json(find(wanted, found, "strict")), "accuracy")["replicates_needed"]
    assert needed > 5
    said = f"φ_ACC is undecided; {needed} replicates in each arm would probably decide. Plan them beforehand"
    assert said in render(find(wanted, found, "strict"), width=300)


@pytest.mark.parametrize("text", ["[red]name[/red]", "näme φ", "a [b] c"])
def test_texts_are_shown_as_they_are(text):
    """Square brackets are markup to the library that prints."""
    wanted = study(["a", {"name": "b", "sweep": {"text": [text, "other"]}}])
    shown = render(find(replace(wanted, name=text), results(wanted), "strict"))
    assert shown.startswith(f"{text}\n")
    assert shown.count(f"{{a, b(text={text})}}") >= 3
    found = results(wanted, clash=lambda cell: text if len(cell.combination) == 2 else None)
    assert re.search(r"clash +" + re.escape(text), render(find(wanted, found, "strict")))


# Exports


def test_an_export_can_be_reported_again(tmp_path):
    wanted = study()
    found = results(wanted)
    written = export(found, tmp_path / "out")
    assert [path.name for path in written] == ["results.json"]
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    assert read_results(tmp_path / "out" / "results.json") == found == read_results(tmp_path / "out")
    before = written[0].read_bytes()
    export(found, tmp_path / "out")
    assert written[0].read_bytes() == before


def test_an_export_into_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        export(results(study()), tmp_path / "file" / "out")


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*args: Any, **kwargs: Any) -> Iterable[str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("guardclash.writing.os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        export(results(study()), tmp_path / "out")


# Asking results


def test_results_answer_by_cell_mechanism_metric_and_seed():
    wanted = study(["a", {"name": "b", "on": ["task"]}])
    found = results(wanted)
    (cell,) = [cell for cell in wanted.cells() if len(cell.combination) == 2]
    b = Named("b", (("on", ("task",)),))
    assert found.values(cell, b, "cost", wanted.seeds(cell)) == (3.0,) * 5
    assert found.values(cell, Named("b"), "cost", wanted.seeds(cell)) == ()
    assert dict(found.by_seed(cell, None, "accuracy", range(2, 4))).keys() == {2, 3}
    assert found.metrics(cell, b) == (COST,)
    assert found.metrics(cell, None) == (ACCURACY,)
    assert found.metrics(cell, Named("z")) == ()
    assert found.environments == (ENVIRONMENT,)
    nowhere = Cell(Named("mnist", (("scale", "smoke"),)), (), 5)
    assert found.cell(nowhere) is None
    assert found.values(nowhere, None, "accuracy", range(5)) == ()
    assert found.metrics(nowhere, None) == ()


def test_floors_are_shown_with_their_own_interval():
    wanted = study(criteria={"mark": {"floor": 0.1}})
    mark = judgement(to_json(find(wanted, results(wanted), "strict")), "mark")
    assert mark["definition"]["criterion"] == {"floor": Floor(0.1).threshold}
    assert mark["together_interval"][0] < mark["together"]["mean"] < mark["together_interval"][1]


def test_where_models_were_trained_is_said():
    wanted = study()
    found = results(wanted)
    assert "20 s of training on none;" in render(find(wanted, found, "strict"))
    found = replace(found, environments=(*found.environments, {**ENVIRONMENT, "accelerator": "H100"}))
    assert "20 s of training on none; none with H100;" in render(find(wanted, found, "strict"))


def test_a_scale_that_recipes_share_is_said_once():
    recipes = [{"dataset": "digits", "scale": "smoke", "epochs": epochs} for epochs in (1, 2)]
    wanted = study(recipes=recipes)
    (said,) = [
        line for line in render(find(wanted, results(wanted), "strict")).splitlines() if line.startswith("Scale of")
    ]
    assert said.startswith("Scale of digits/smoke (epochs=1), digits/smoke (epochs=2): ")


def test_what_is_true_of_several_models_is_noted_once():
    recipes = [{"dataset": "digits", "scale": "smoke", "epochs": epochs} for epochs in (1, 2)]
    wanted = study(["a", "b"], ["a", "c"], recipes=recipes)
    nothing = results_from({"schema": SCHEMA, "study": "study", "cells": [], "environments": []})
    first, covered = notes(find(wanted, nothing))
    assert first == "digits/smoke (epochs=1), digits/smoke (epochs=2) {}, {a}, {b}, {c}, {a, b}, {a, c}: not run yet."
    assert covered.startswith("α = 0.05 covers each verdict")


def test_the_scale_is_of_the_network_that_was_trained():
    """A recipe's word may mean another network, and a recipe of somebody else's builds what it wants."""
    wanted = study()
    content = to_plain(results(wanted))
    for cell in content["cells"]:
        cell["composed"] = {
            "type": "Plan",
            "model": {"type": "mine:Wide", "widths": [7, 9], "shape": [1, 8, 8], "norm": "group"},
        }
    said = render(find(wanted, results_from(content), "strict"))
    assert "mine:Wide (widths 7-9, norm group);" in " ".join(said.split())
    assert "cnn4-small with" not in said
    assert "cnn4-small with batch norm" in render(find(wanted, results(wanted), "strict")), (
        "records without plans have words only"
    )


# What a results file leaves open


def test_a_scale_that_is_not_recorded_is_not_guessed():
    wanted = study()
    content = to_plain(results(wanted))
    for cell in content["cells"]:
        del cell["recipe"]["test_examples"]
    assert "Scale of digits/smoke: not recorded." in render(find(wanted, results_from(content), "strict"))


def test_limits_that_differ_within_the_results_are_noted():
    wanted = study()
    content = to_plain(results(wanted))
    metrics = [metric for cell in content["cells"] for one in cell["measures"] for metric in one["metrics"]]
    changed = next(metric for metric in metrics if metric["criterion"] == {"max_drop": 0.3})
    assert "several limits" not in render(find(wanted, results_from(content), "strict"))
    changed["criterion"] = {"max_drop": 99}
    assert f"{changed['symbol']}: the results hold several limits, drop 99, drop 0.3" in render(
        find(wanted, results_from(content), "strict")
    )
