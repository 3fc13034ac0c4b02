"""Ownership claims: on the owner's model, on stolen and on innocent ones, beside their controls. No training here."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.errors import UserError
from guardclash.judging.criteria import ACCURACY, Ceiling, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.stats import Sample
from guardclash.records.cells import Cell
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.claims import ITSELF, Claim, Outcome, Proof, claims
from guardclash.reporting.controls import controls
from guardclash.reporting.export import dump, to_json
from guardclash.reporting.findings import find
from guardclash.reporting.forms import FORMS
from guardclash.reporting.looks import look_of
from guardclash.reporting.sentences import claim_sentences
from guardclash.reporting.tables import number, styled
from guardclash.reporting.text import render
from guardclash.studies.store import SCHEMA
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from

PRINT = Metric("print", "φ_P", Ceiling(-3), False, 1, log10=True, controls=("framed", "spare"))
FRAMED = Metric("framed", "framed", None, False, 1, log10=True)
SPARE = Metric("spare", "spare", None, False, 1, log10=True)
TRACE = Metric("trace", "φ_T", Floor(0.01), decimals=3)
MARK = Metric("mark", "φ_M", MaxDrop(0.3))
COST = Metric("cost", "ζ", MaxGrowth(1.5), higher_is_better=False)
METRICS = {None: (ACCURACY,), "p": (PRINT, FRAMED, SPARE), "t": (TRACE,), "m": (MARK,), "c": (COST,)}
OWNERS = {"p", "t", "m"}
STOLEN = {"extraction": True, "fine-tuning": True, "independent": False, "unrelated": False}
SUSPECTS = [{"kind": "extraction"}, {"kind": "independent"}]
Value = Callable[[str, str, int], float | None]
"""Of a suspect ("itself": the model of a combination), a metric and a seed."""


def study(*combinations: list[Any], suspects: list[dict[str, Any]] = SUSPECTS, seeds: int = 3, **keys: Any) -> Study:
    return study_from(
        {
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [{"mechanisms": mechanisms} for mechanisms in combinations or (["p", "c"],)],
            "replicates": {"alone": seeds, "together": seeds},
            "suspects": suspects,
            **keys,
        }
    )


def quiet(suspect: str, metric: str, seed: int) -> float:
    """Stolen models are claimed, innocent ones and controls are not."""
    if metric == "print":
        return -9.0 - seed if STOLEN.get(suspect, True) else -0.5
    if metric == "trace":
        return 0.05 if STOLEN.get(suspect, True) else 0.001 * seed
    return -0.2 - seed / 10 if metric in ("framed", "spare") else 0.9


def cell_of(wanted: Study, cell: Cell, value: Value, clash: str | None = None, **keys: Any) -> dict[str, Any]:
    kind = cell.suspect.kind.name if cell.suspect else ITSELF
    measuring = [named for named in cell.combination if named.name in OWNERS] if cell.suspect else cell.combination
    measured = [None, *measuring]
    trials = []
    for seed in () if clash else wanted.seeds(cell):
        found = []
        for of in measured:
            given = {metric.name: value(kind, metric.name, seed) for metric in METRICS[of and of.name]}
            kept = {name: number for name, number in given.items() if number is not None}
            found.append({"of": of and of.to_dict(), "values": kept, "warnings": []})
        trials.append({"seed": seed, "trial": f"{kind}-{seed}", "seconds": 1.0, "measurements": found})
    suspect = {"suspect": cell.suspect.to_dict(), "stolen": STOLEN[kind]} if cell.suspect else {}
    declared = [
        {"of": of and of.to_dict(), "metrics": [metric.to_dict() for metric in METRICS[of and of.name]]}
        for of in measured
    ]
    recipe = {"epochs": 2, "protected_epochs": None, "examples": 256, "test_examples": 128, "batch_size": 64}
    recipe |= {"model": "cnn4-small", "norm": "batch"}
    plan = None if clash else "+".join(named.name for named in cell.combination if named.name != "p") or "unprotected"
    own = {"key": cell.key, "recipe": recipe, "clash": clash, "plan": plan, "facts": {}}
    return {**suspect, **own, "measures": declared, "trials": trials, **keys}


def results(wanted: Study, value: Value = quiet, clashes: dict[str, str] | None = None) -> Results:
    cells = [cell_of(wanted, cell, value) for cell in wanted.cells()]
    for cell in wanted.suspect_cells():
        kind = cell.suspect.kind.name if cell.suspect else ""
        cells.append(cell_of(wanted, cell, value, (clashes or {}).get(kind)))
    content = {"schema": SCHEMA, "study": wanted.name, "written": "", "environments": [], "cells": cells}
    return results_from(json.loads(json.dumps(content)))


def outcomes(wanted: Study, value: Value = quiet) -> dict[str, str]:
    return {claim.suspect: claim.outcome for claim in claims(wanted, results(wanted, value))}


def with_values(**given: dict[str, Any]) -> Value:
    """Values by suspect and metric, a number or one for each seed; `quiet` where there is none."""

    def value(suspect: str, metric: str, seed: int) -> float | None:
        found = given.get(suspect, {}).get(metric, quiet(suspect, metric, seed))
        return found[seed] if isinstance(found, list) else found

    return value


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_stolen_models_are_detected_and_innocent_ones_cleared():
    assert outcomes(study()) == {"itself": "detected", "extraction": "detected", "independent": "cleared"}


def test_a_claim_on_a_model_that_the_mechanism_trains_is_not_called_the_owners_own(monkeypatch):
    """DAWN marks answers: what its metric reads is in a thief's model, never in the owner's."""
    monkeypatch.setitem(METRICS, "p", (replace(PRINT, model="its thief"), FRAMED, SPARE))
    wanted = study()
    found = {claim.suspect: claim for claim in claims(wanted, results(wanted))}
    assert {name: one.outcome for name, one in found.items()} == {
        "its thief": "detected",
        "extraction": "detected",
        "independent": "cleared",
    }
    assert found["its thief"].stolen and found["its thief"].useful.n == 0 < found["extraction"].useful.n
    (told,) = claim_sentences(find(wanted, results(wanted)))
    assert "rightly claims its thief and extraction" in told


@pytest.mark.parametrize(
    ("suspect", "values", "outcome"),
    [
        ("extraction", {"print": [-3.0, -9.0, -4.0]}, "detected"),
        ("extraction", {"print": [-2.9, -0.1, 0.0]}, "missed"),
        ("extraction", {"print": [-2.9, -9.0, -4.0]}, "mixed"),
        ("extraction", {"print": [-9.0, -9.0, -9.0], "spare": [-0.1, -3.0, 0.0]}, "not credible"),
        ("extraction", {"print": [-0.1, -9.0, -0.1], "spare": [-5.0, -0.1, -5.0]}, "mixed"),
        ("extraction", {"print": [-0.1, -0.1, -0.1], "framed": [-5.0, -5.0, -5.0]}, "missed"),
        ("extraction", {"print": [None, -9.0, -9.0]}, "undecided"),
        ("extraction", {"print": [None, -0.1, -0.1]}, "undecided"),
        ("extraction", {"print": [None, -9.0, -9.0], "framed": [-0.1, -0.1, -4.0]}, "not credible"),
        ("extraction", {"print": [None, None, None]}, "not measured"),
        ("independent", {"print": [-0.1, -2.9, -0.1]}, "cleared"),
        ("independent", {"print": [-0.1, -3.0, -0.1]}, "false claim"),
        ("independent", {"print": [None, -3.0, None]}, "false claim"),
        ("independent", {"print": [-9.0, -9.0, -9.0], "framed": [-9.0, -9.0, -9.0]}, "false claim"),
        ("independent", {"print": [-0.1, None, -0.1]}, "undecided"),
        ("extraction", {"print": [-0.1, -0.1, -0.1], "accuracy": 0.84}, "removed with the model"),
        ("extraction", {"print": [-0.1, -0.1, -0.1], "accuracy": 0.85}, "missed"),
        ("extraction", {"print": [-0.1, -0.1, -0.1], "accuracy": [0.9, 0.9, 0.74]}, "removed with the model"),
        ("extraction", {"print": [-0.1, -9.0, -0.1], "accuracy": 0.1}, "mixed"),
        ("extraction", {"print": [-9.0, -9.0, -9.0], "accuracy": 0.1}, "detected"),
        ("extraction", {"print": [None, -0.1, -0.1], "accuracy": 0.1}, "undecided"),
        ("extraction", {"print": [-0.1, -0.1, -0.1], "accuracy": None}, "missed"),
        ("independent", {"print": [-0.1, -0.1, -0.1], "accuracy": 0.1}, "cleared"),
        ("itself", {"print": [-0.1, -0.1, -0.1], "accuracy": 0.1}, "missed"),
        ("itself", {"print": [-0.1, -0.1, -0.1]}, "missed"),
        ("itself", {"print": [-5.0, -5.0, -5.0], "spare": [-5.0, -5.0, -5.0]}, "not credible"),
    ],
)
def test_what_a_claim_is_worth(suspect, values, outcome):
    assert outcomes(study(), with_values(**{suspect: values}))[suspect] == outcome


def test_a_model_that_is_no_good_is_no_loss_by_whatever_it_is_judged():
    proof = Proof(PRINT, (0,), Sample((-0.1,)), ())
    lower = Metric("error", "ζ", MaxGrowth(1.5), higher_is_better=False, range=(0.0, 10.0))
    for utility, owners, suspects, outcome in (
        (ACCURACY, 0.9, 0.849, "removed with the model"),
        (ACCURACY, 0.5, 0.9, "missed"),
        (lower, 1.0, 1.51, "removed with the model"),
        (lower, 1.0, 1.5, "missed"),
        (replace(ACCURACY, range=None), 0.9, 0.1, "missed"),
    ):
        own, theirs = Sample((owners,)), Sample((suspects,))
        claim = Claim("r", ("p",), "s", True, "p", proof, (), theirs, 1, utility=utility, owners=own)
        assert claim.outcome == outcome
        assert claim.to_dict()["utility"]["owners"] == [owners]


def test_the_outcome_words_are_all_used_and_have_a_style():
    assert all(look_of(word) for word in set(get_args(Outcome)) - {"not measured"})
    assert styled("false claim") == "[bold red]false claim[/]"
    assert styled("not measured") == "not measured"


seeds = st.lists(st.integers(0, 9), unique=True).map(sorted).map(tuple)


@given(st.booleans(), seeds, st.data())
def test_no_claim_on_an_innocent_model_is_ever_good(stolen, measured, data):
    some = st.lists(st.sampled_from(measured), unique=True).map(sorted) if measured else st.just([])
    claimed, fired = (tuple(data.draw(some)) for _ in range(2))
    values = Sample((0.0,) * len(measured))
    finding, control = (Proof(PRINT, measured, values, those) for those in (claimed, fired))
    asked = len(measured) + data.draw(st.integers(0, 1))
    claim = Claim("r", ("p",), "s", stolen, "p", finding, (control,), values, asked)
    if stolen:
        assert claim.outcome not in ("cleared", "false claim")
        assert (claim.outcome == "not credible") == bool(set(claimed) & set(fired))
        assert claim.outcome != "detected" or claimed == measured
    else:
        assert (claim.outcome == "false claim") == bool(claimed)
        assert claim.outcome in ("cleared", "false claim", "undecided", "not measured")
    assert (claim.outcome in ("undecided", "not measured")) <= (len(measured) < asked or not asked)
    assert json.loads(dump(claim.to_dict())) == claim.to_dict()


# --- rows -------------------------------------------------------------------------------------------------------------


def test_every_metric_with_a_bound_has_a_row_for_every_model():
    wanted = study(["p", "t", "c"], ["m"], ["t"], suspects=[*SUSPECTS, {"kind": "unrelated"}])
    found = claims(wanted, results(wanted))
    rows = [(claim.combination, claim.mechanism, claim.finding.metric.name, claim.suspect) for claim in found]
    models = ["itself", "extraction", "independent", "unrelated"]
    assert rows == [
        *((("t",), "t", "trace", model) for model in models),
        *((("p", "t", "c"), "p", "print", model) for model in models),
        *((("p", "t", "c"), "t", "trace", model) for model in models),
    ], "m's criterion is no fixed bound, c proves no ownership"
    assert [claim.stolen for claim in found[:4]] == [True, True, False, False]
    assert {claim.recipe for claim in found} == {"digits/smoke"}
    assert [control.metric for control in found[4].controls] == [FRAMED, SPARE]
    assert found[0].controls == found[8].controls == ()
    assert found[1].useful.values == (0.9,) * 3


def test_values_keep_their_seeds():
    wanted = study(first_seed=0, seeds=4)
    value = with_values(extraction={"print": [None, -9.0, None, -1.0], "spare": [None, None, -5.0, 0.0]})
    (claim,) = [claim for claim in claims(wanted, results(wanted, value)) if claim.suspect == "extraction"]
    assert (claim.finding.seeds, claim.finding.sample.values, claim.finding.claimed) == ((1, 3), (-9.0, -1.0), (1,))
    assert [control.seeds for control in claim.controls] == [(0, 1, 2, 3), (2, 3)]
    assert (claim.discredited, claim.outcome, claim.asked) == ((), "undecided", 4)


def test_a_control_that_is_not_measured_is_left_out():
    wanted = study()
    found = claims(
        wanted, results(wanted, lambda s, metric, seed: None if metric == "spare" else quiet(s, metric, seed))
    )
    assert [control.metric.name for control in found[0].controls] == ["framed"]


def test_replicates_of_suspects_may_be_fewer():
    wanted = study(replicates={"alone": 5, "together": 5, "suspects": 2})
    found = {claim.suspect: claim for claim in claims(wanted, results(wanted))}
    assert (found["itself"].asked, found["extraction"].asked) == (5, 2)
    assert found["extraction"].finding.seeds == (0, 1)
    assert found["extraction"].outcome == "detected"
    assert render(find(wanted, results(wanted), "strict")).count("control: framed") == 1


def test_a_control_that_fires_in_seeds_of_the_victim_alone_is_shown_as_silent_beside_its_suspect():
    """The same values are told by the victim's row, which says of all of its seeds that it fires."""
    wanted = study(replicates={"alone": 5, "together": 5, "suspects": 2})
    loud = results(wanted, lambda s, metric, seed: -9.0 if metric == "framed" and seed == 4 else quiet(s, metric, seed))
    text = render(find(wanted, loud, "strict"), width=300).splitlines()
    assert [row.split()[-1] for row in text if "control: framed" in row] == ["fires", "silent"]
    page = FORMS["html"](find(wanted, loud, "strict")).decode()
    assert page.count(">control: framed<") % 2 == 0 and page.count(">control: framed<") > 0


def test_the_bound_of_the_study_counts():
    strict = study(criteria={"print": {"ceiling": -10}})
    assert outcomes(strict)["extraction"] == "mixed", "-9, -10 and -11"
    assert "≤ -10" in render(find(strict, results(strict), "strict"))
    control = with_values(extraction={"spare": -5.0})
    assert outcomes(strict, control)["extraction"] == "mixed", "controls are held against the same bound"
    assert outcomes(study(), control)["extraction"] == "not credible"
    marked = study(["m"], criteria={"mark": {"floor": 0.5}})
    assert set(outcomes(marked).values()) == {"detected", "false claim"}, "0.9 everywhere"
    cheap = study(["p", "c"], criteria={"cost": {"ceiling": 9}})
    assert {claim.mechanism for claim in claims(cheap, results(cheap))} == {"p"}, "a bound is no proof of ownership"


def test_a_relative_criterion_of_the_study_leaves_claims_as_they_are():
    wanted = study(["t"], criteria={"trace": {"max_drop": 0.02}})
    (claim, *_) = claims(wanted, results(wanted))
    assert claim.finding.metric.claimed_at == Floor(0.01)


def test_a_claim_of_its_own_is_kept(monkeypatch):
    own = replace(TRACE, claim=Floor(0.06))
    monkeypatch.setitem(METRICS, "t", (own,))
    wanted = study(["t"], criteria={"trace": {"floor": 0.02}})
    assert outcomes(wanted)["extraction"] == "missed", "0.05"


def test_values_that_are_no_numbers_are_told():
    wanted = study()
    with pytest.raises(UserError, match=r"values\.print"):
        results(
            wanted, lambda suspect, metric, seed: float("nan") if metric == "print" else quiet(suspect, metric, seed)
        )


def test_minus_infinity_is_a_claim_and_valid_json():
    wanted = study()
    found = claims(wanted, results(wanted, with_values(extraction={"print": float("-inf")})))
    assert found[1].outcome == "detected"
    assert json.loads(dump(found[1].to_dict()))["values"] == [-324.0] * 3


# --- without suspects -------------------------------------------------------------------------------------------------


def test_without_suspects_only_a_metric_with_controls_has_a_row():
    wanted = study(["p", "t", "c"], ["t"], suspects=[])
    (claim,) = claims(wanted, results(wanted))
    assert (claim.mechanism, claim.suspect, claim.outcome) == ("p", ITSELF, "detected")
    text = render(find(wanted, results(wanted), "strict"))
    assert text.count("Ownership claims") == 1
    assert "control: spare" in text


def test_without_suspects_and_controls_nothing_is_said():
    wanted = study(["t", "c"], ["m"], suspects=[])
    assert claims(wanted, results(wanted)) == ()
    assert "claim" not in render(find(wanted, results(wanted), "strict")).lower()
    assert to_json(find(wanted, results(wanted), "strict"))["claims"] == []


def test_results_from_before_there_were_suspects():
    wanted, before = study(), study(suspects=[])
    old = results(before)
    assert [claim.suspect for claim in claims(wanted, old)] == [ITSELF]
    text = render(find(wanted, old, "strict"))
    assert "digits/smoke extraction of {p, c}, independent of {p, c}: not run yet." in text
    empty = results_from({"schema": SCHEMA, "study": "study", "cells": []})
    assert claims(wanted, empty) == ()
    assert "Ownership claims" not in render(find(wanted, empty, "strict"))


def test_metrics_from_before_there_were_controls():
    wanted = study()
    content = json.loads(json.dumps(to_plain(results(wanted))))
    for metric in (m for cell in content["cells"] for one in cell["measures"] for m in one["metrics"]):
        del metric["controls"], metric["claim"]
    found = claims(wanted, results_from(content))
    assert [claim.outcome for claim in found] == ["detected", "detected", "cleared"]
    assert not any(claim.controls for claim in found)


# --- clashes and notes ------------------------------------------------------------------------------------------------


def test_a_suspect_that_cannot_be_built_is_told():
    wanted = study()
    found = results(wanted, clashes={"extraction": "both set 'gradient'"})
    assert {claim.suspect: claim.outcome for claim in claims(wanted, found)}["extraction"] == "clash"
    text = render(find(wanted, found, "strict"), width=300)
    assert "digits/smoke extraction of {p, c} cannot be built: both set 'gradient'." in text


def test_a_combination_that_clashes_claims_nothing():
    wanted = study()
    found = results(wanted)
    content = to_plain(found)
    for cell in content["cells"]:
        if "p" in cell["key"] and "c" in cell["key"].split("[", 2)[-1]:
            cell.update(clash="p and c", trials=[], plan=None)
    found = results_from(content)
    text = render(find(wanted, found, "strict"))
    assert claims(wanted, found) == ()
    assert "Ownership claims" not in text
    assert "cannot be built" not in text


def test_what_is_measured_on_suspects_but_claims_nothing_is_told():
    wanted = study(["m"])
    note = "digits/smoke {m}: no metric of m has a value from which on it claims a model"
    assert note in render(find(wanted, results(wanted), "strict"))
    assert note not in render(find(study(), results(study()), "strict"))


def test_warnings_facts_and_failures_of_suspects_are_noted():
    wanted = study()
    found = results(wanted)
    content = to_plain(found)
    cell = content["cells"][-1]
    cell["facts"] = {"c": {"cost": "3"}}
    cell["trials"][1]["measurements"][1]["warnings"] = ["walks that [say] nothing"]
    cell["trials"][2] = {"seed": 2, "trial": "x", "error": "Traceback\nRuntimeError: no luck\n", "measurements": []}
    found = results_from(content)
    text = render(find(wanted, found, "strict"), width=300)
    assert "digits/smoke independent of {p, c}: c: cost 3." in text
    assert "digits/smoke independent of {p, c}: seed 1: walks that [say] nothing." in text
    assert "digits/smoke independent of {p, c}: seed 2 failed: RuntimeError: no luck" in text


# --- text and JSON ----------------------------------------------------------------------------------------------------


def rows(text: str, title: str) -> list[str]:
    lines = text.splitlines()
    start = lines.index(title) + 4  # title, empty line, names of the columns, rule
    taken = list(itertools.takewhile(lambda line: not line.strip() or line.startswith(" "), lines[start:]))
    return [line for line in taken if line.strip()]


def test_the_table_shows_the_model_the_controls_once_and_the_suspects():
    wanted = study(["p", "t"], suspects=[{"kind": "extraction", "sweep": {"answers": ["labels", "probabilities"]}}])
    value = with_values(extraction={"print": [-9.0, -9.0, -1.0]})
    shown = rows(
        render(find(wanted, results(wanted, value), "strict"), width=300), "Ownership claims: digits/smoke {p, t}"
    )
    assert [row.split("  ")[0].strip() for row in shown] == [
        *("itself", "control: framed", "control: spare"),
        *("extraction(answers=labels)", "extraction(answers=probabilities)"),
        *("itself", "extraction(answers=labels)", "extraction(answers=probabilities)"),
    ]
    itself, framed, _, extraction, *_ = ([part for part in row.split("  ") if part.strip()] for row in shown)
    stripped = [part.strip() for part in extraction[1:]]
    assert stripped == ["yes", "φ_P", "-6.3±4.6 (n=3)", "≤ -3", "2 of 3", "0.90±0.00 (n=3)", "mixed"]
    assert itself[1].strip() == "-"
    assert [part.strip() for part in framed[1:]] == ["no", "-0.3±0.1 (n=3)", "0 of 3", "silent"]


def test_controls_that_differ_are_shown_beside_their_suspect():
    wanted = study()
    value = with_values(independent={"framed": -4.0})
    shown = rows(
        render(find(wanted, results(wanted, value), "strict"), width=300), "Ownership claims: digits/smoke {p, c}"
    )
    assert [row.split("  ")[0].strip() for row in shown][-2:] == ["independent", "control: framed"]
    assert shown[-1].split()[-1] == "fires"


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["itself", *STOLEN]), st.sampled_from(["print", "framed", "trace", "accuracy"])),
        st.lists(st.one_of(st.none(), st.floats(-12, 0.9)), min_size=4, max_size=4),
    )
)
def test_text_and_json_say_the_same(shapes):
    def value(suspect: str, metric: str, seed: int) -> float | None:
        found = shapes[suspect, metric][seed] if (suspect, metric) in shapes else quiet(suspect, metric, seed)
        return abs(found) / 12 if metric == "accuracy" and found is not None else found  # which is a share

    wanted = study(["p", "t"], suspects=[{"kind": kind} for kind in STOLEN], seeds=4)
    found = results(wanted, value)
    content = json.loads(
        dump(to_json(find(wanted, found, "strict"))),
        parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"),
    )
    text = render(find(wanted, found, "strict"), width=300)
    shown = [row for row in rows(text, "Ownership claims: digits/smoke {p, t}") if "control: " not in row]
    assert len(shown) == len(content["claims"]) == 10
    told = set()
    for row, entry in zip(shown, content["claims"], strict=True):
        assert row.strip().startswith(entry["suspect"])
        assert row.strip().endswith(entry["outcome"])
        metric = {"print": PRINT, "trace": TRACE}[entry["metric"]]
        if entry["values"]:
            assert f" {number(metric, statistics.fmean(entry['values']))}" in row
            assert f" {len(entry['claimed'])} of {len(entry['values'])} " in row
        assert entry["claimed"] == [
            seed for seed, value in zip(entry["seeds"], entry["values"], strict=True) if metric.claims(value)
        ]
        assert len(entry["seeds"]) == len(entry["values"]) <= entry["asked"] == 4
        assert entry["claimed_at"] == ({"ceiling": -3} if entry["metric"] == "print" else {"floor": 0.01})
        for control in entry["controls"]:
            values = zip(control["seeds"], control["values"], strict=True)
            said = {(bool(control["claimed"]), seed, round(one, FRAMED.decimals)) for seed, one in values}
            assert said <= told or number(FRAMED, statistics.fmean(control["values"])) in text
            told |= said


# --- with and without -------------------------------------------------------------------------------------------------


def test_a_test_of_finished_models_has_no_control_without_it():
    """p changes no training here, so {p, c} and {c} are the same models."""
    wanted = study(["p", "c"], ["t", "c"])
    content = to_plain(results(wanted))
    by_name = {cell.key: "+".join(named.name for named in cell.combination) for cell in wanted.cells()}
    for cell in content["cells"]:
        measured = {one["of"]["name"] for one in cell["measures"] if one["of"]}
        for name in {"p", "t"} - measured if by_name.get(cell["key"]) in ("", "c") else ():
            cell["measures"].append({"of": {"name": name}, "metrics": [m.to_dict() for m in METRICS[name]]})
            for trial in cell["trials"]:
                values = {metric.name: quiet(ITSELF, metric.name, trial["seed"]) for metric in METRICS[name]}
                trial["measurements"].append({"of": {"name": name}, "values": values})
    found = {(control.combination, control.mechanism) for control in controls(wanted, results_from(content))}
    assert found == {(("t",), "t"), (("t", "c"), "t")}
    later = json.loads(json.dumps(content))
    (short,) = [cell for cell in later["cells"] if by_name.get(cell["key"]) == "p+c"]
    for seed, trial in enumerate(short["trials"]):
        trial["measurements"][1]["values"]["print"] -= seed
    (plain,) = [cell for cell in later["cells"] if by_name.get(cell["key"]) == "c"]
    for seed, trial in enumerate(plain["trials"]):
        next(one for one in trial["measurements"] if one["of"] == {"name": "p"})["values"]["print"] = short["trials"][
            seed
        ]["measurements"][1]["values"]["print"]
    del short["trials"][0]
    known = {(control.combination, control.mechanism) for control in controls(wanted, results_from(later))}
    assert known == found, "the same models, one of them not yet under the first seed"
    for cell in content["cells"]:
        if by_name.get(cell["key"]) == "p+c":
            cell["trials"][0]["measurements"][1]["values"]["print"] = -1.0
    found = {(control.combination, control.mechanism) for control in controls(wanted, results_from(content))}
    assert (("p", "c"), "p") in found, "one that answers for the model changes what is measured, though not the plan"
