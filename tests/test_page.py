"""The report as an HTML page: well-formed, self-contained, escaped, and of the same numbers as the JSON."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from committed import COMMITTED, LARGEST, RECORDS, committed
from guardclash.judging.criteria import Metric
from guardclash.judging.rules import OUTCOMES, RULES
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import CellRecord
from guardclash.reporting.export import to_json
from guardclash.reporting.findings import find
from guardclash.reporting.page import render_html
from guardclash.reporting.page_parts import words
from guardclash.reporting.page_parts.pictures import ROOM
from guardclash.reporting.page_parts.plan_tree import plan_tree, unprotected_plans
from guardclash.reporting.tables import number, p_value
from pages import (
    EXPECTED,
    EXTRA,
    MARK,
    METRICS,
    PAIRS,
    ROOT,
    Element,
    everything,
    head_of,
    plan_of,
    read,
    results,
    row_with,
    section,
    sound,
    study,
    value_of,
)

# The whole page


@pytest.mark.parametrize("rule", RULES)
def test_a_page_is_well_formed_and_refers_to_nothing_outside(rule):
    sound(read(render_html(find(*everything(), rule))))


@pytest.mark.parametrize("name", COMMITTED)
def test_pages_of_the_committed_studies(name):
    wanted, found = committed(name)
    text = render_html(find(wanted, found, wanted.rule))
    page = read(text)
    sound(page)
    assert page.all("h1")[0].said == wanted.name
    assert len(text.encode()) < 5_000_000
    charts = re.findall(r"<svg class=\"chart\".*?</svg>", text, re.DOTALL)
    assert charts
    assert len(charts) == len(set(charts)), "a chart stands in the page twice"


def test_the_largest_study_is_fast_and_small():
    wanted, found = committed(LARGEST)
    begun = time.process_time()
    text = render_html(find(wanted, found, "strict"))
    assert time.process_time() - begun < 3
    assert len(text.encode()) < 3_000_000
    assert len(text.encode()) - ROOM < 52_000 * len(wanted.cells()), "a page grows with its combinations only"
    records = RECORDS[LARGEST].read_text(encoding="utf-8")
    longest = max(len(part) for one in read(text).walk() for part in one.content if isinstance(part, str))
    assert longest < len(records) / 20, "no records are kept in the page as such"


def test_the_same_records_give_the_same_bytes():
    """In processes that order sets differently."""
    code = "import hashlib, sys; from pathlib import Path; from guardclash.reporting.page import render_html;"
    code += "from guardclash.reporting.findings import find;"
    code += "from guardclash.records.file import read_results; from guardclash.studies.study_file import read_study;"
    code += "study, found = read_study(sys.argv[1]), read_results(Path(sys.argv[2]));"
    code += "print(hashlib.sha256(render_html(find(study, found, 'strict')).encode()).hexdigest());"
    code += "print([name for name in ('torch', 'matplotlib', 'pandas') if name in sys.modules])"
    paths = str(ROOT / "studies/raddata-wm.toml"), str(ROOT / "results/raddata-wm/results.json")
    said = [
        subprocess.run(
            [sys.executable, "-c", code, *paths],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.split("\n")
        for seed in ("1", "2")
    ]
    expected = hashlib.sha256(render_html(find(*committed("raddata-wm"), "strict")).encode()).hexdigest()
    assert said == [[expected, "[]", ""]] * 2


def test_the_head_says_how_it_was_judged(whole):
    head = {one.all("dt")[0].said: one.all("dd")[0].said for one in whole.all("dl", class_="head")[0].all("div")}
    assert head["Rule"].startswith("strict")
    assert head["Level of the tests"] == "α = 0.05, correction for their number: verdict"
    assert head["Seeds"] == "4 alone, 5 together and 5 of each suspect, from 0 on"
    assert head["Recipes"] == "digits/smoke"
    assert head["Scale"].startswith("smoke scale")
    assert head["Records of"] == "2026-01-02 03:04:05 UTC"
    paper = read(render_html(find(*everything(), "paper"))).all("dl", class_="head")[0].said
    assert "the study itself asks for strict" in paper


# Verdicts

NEVER_HERE = {"does not train together", "not measured together"}
"""Outcomes that nothing in `everything` has."""


def test_the_matrix_says_every_outcome_by_word_symbol_and_colour(whole):
    table = whole.all("table", class_="matrix")[0]
    found = {}
    for link in table.all("a"):
        word, place = link.said.split(" : ")
        found[place] = re.match(r"[a-z ]+", word).group().strip()
        look = words.look(found[place])
        assert {one.attributes["href"] for one in link.all("use")} == {f"#icon-{look}"}
        assert look in link.parent.attributes["class"].split()
        assert link.attributes["href"] == f"#{link.attributes['aria-controls']}"
    places = [f"{{{', '.join(pair)}}} on digits/smoke" for pair in PAIRS]
    assert found == dict(zip(places, EXPECTED, strict=True))
    assert sorted(EXPECTED) == sorted(set(OUTCOMES) - NEVER_HERE)
    assert table.all("td", class_="quiet")[0].said == "not asked"
    assert [one.said for one in table.all("th", scope="row")] == ["a", "b", "c", "p"]
    assert [one.said for one in table.all("th", scope="col")] == ["b", "c", "p", "q"]
    undecided = next(link for link in table.all("a") if "{b, c}" in link.said)
    assert row_with(table, "b", "the same mechanism", undecided.said, "not asked", "not asked")
    assert undecided.said.startswith("undecided")
    assert row_with(table, "c", "see the other half", "the same mechanism")
    broken = next(link for link in table.all("a") if "{a, b}" in link.said)
    assert re.fullmatch(r"φMARK 0\.\d\d → 0\.\d\d", broken.all("span", class_="because")[0].said)


def test_the_words_that_occur_are_explained(whole):
    key = {one.all("dt")[0].said: one.all("dd")[0].said for one in whole.all("dl", class_="key")[0].all("div")}
    assert list(key.items()) == [(word, said) for word, said in words.MEANINGS.items() if word not in NEVER_HERE]
    assert (*list(words.MEANINGS)[:-1],) == tuple(sorted(OUTCOMES, key=list(words.MEANINGS).index))
    small = read(render_html(find(study(), results(study()), "strict")))
    assert [one.said for one in small.all("dl", class_="key")[0].all("dt")] == ["conflict"]


def test_what_does_not_train_or_is_left_out_together_has_its_own_word_and_a_known_look():
    """The mark of a is left out beside c; {b, c} diverges under two of its five seeds, b and c alone never do."""
    wanted = study(["a", "c"], ["b", "c"])
    found = results(wanted, lambda names, *of: None if names == ("a", "c") and "mark" in of else value_of(names, *of))
    content = to_plain(found)
    (broken,) = [one for one in content["cells"] if [of["name"] for of in one["combination"]] == ["b", "c"]]
    for seed in (1, 3):
        broken["trials"][seed] = {"seed": seed, "trial": f"x{seed}", "error": "no numbers", "diverged": True}
        broken["trials"][seed]["measurements"] = []
    found = results_from(content)
    page = read(render_html(find(wanted, found, "strict")))
    sound(page)
    table = page.all("table", class_="matrix")[0]
    for link, (word, known) in zip(table.all("a"), SHARED.items(), strict=True):
        assert link.said.startswith(word)
        assert {one.attributes["href"] for one in link.all("use")} == {f"#icon-{known}"}
        assert known in link.parent.attributes["class"].split()
    key = {one.all("dt")[0].said: one.all("dd")[0].said for one in page.all("dl", class_="key")[0].all("div")}
    assert {word: said for word, said in words.MEANINGS.items() if word in SHARED}.items() <= key.items()
    said = section(page, "digits-smoke-a-c").all("ul", class_="sentences")[0].said
    assert "φMARK is measured alone (4 seeds) and never together, where it should be." in said
    said = section(page, "digits-smoke-b-c").all("ul", class_="sentences")[0].said
    assert said.startswith("2 of 5 trainings together diverged (seeds 1, 3), alone none of 12.")


SHARED = {"not measured together": "undecided", "does not train together": "conflict"}
"""Outcomes with a look that another one has as well."""


def test_larger_combinations_stand_below_the_matrix(whole):
    (table,) = whole.all("table", class_="list")
    assert row_with(table, "{a, b, c}", "digits/smoke").all("a")[0].said.startswith("conflict φMARK")


@pytest.mark.parametrize(("recipes", "layout"), [(2, "colgroup"), (4, "pairs"), (9, "rowgroup")])
def test_recipes_stand_side_by_side_until_they_are_too_many(recipes, layout):
    scales = [{"dataset": "digits", "scale": "smoke", "epochs": epochs} for epochs in range(1, recipes + 1)]
    wanted = study(["a", "c"], ["b", "c"], ["a", "b"], recipes=scales)
    page = read(render_html(find(wanted, results(wanted), "strict")))
    sound(page)
    table = page.all("table", class_="matrix")[0]
    assert len(table.all("a")) == 3 * recipes
    assert bool(table.all("th", scope="colgroup")) == (layout == "colgroup")
    assert bool(table.all("th", scope="rowgroup")) == (layout == "rowgroup")
    if layout == "pairs":
        assert [one.said for one in table.all("th", scope="row")] == ["{a, c}", "{a, b}", "{c, b}"]
    grid = [
        sum(int(one.attributes.get("colspan") or 1) for one in row.content if isinstance(one, Element))
        for row in table.all("tr")
    ]
    assert len(set(grid[2:])) <= 2, "rows are of equal width, but for the rowgroup's head"


def test_variants_of_a_mechanism_are_told_apart_and_never_combined():
    wanted = study([{"name": "a", "sweep": {"size": [1, 2]}}, {"name": "a2", "x": 1}], ["c", {"name": "a", "size": 2}])
    page = read(render_html(find(wanted, results(wanted), "strict")))
    table = page.all("table", class_="matrix")[0]
    assert [one.said for one in table.all("th", scope="row")] == ["a(size=1)", "a(size=2)"]
    assert [one.said for one in table.all("th", scope="col")] == ["a2", "c"]
    assert row_with(table, "a(size=1)").all("td", class_="quiet")[0].said == "not asked"
    pair = study(["c", "a"], [{"name": "a", "size": 2}, "b"])
    assert (
        "the same mechanism"
        in read(render_html(find(pair, results(pair), "strict"))).all("table", class_="matrix")[0].said
    )


def test_both_orders_of_a_pair_share_a_slot():
    wanted = study(["a", "b"], ["b", "a"])
    page = read(render_html(find(wanted, results(wanted), "strict")))
    sound(page)
    links = page.all("table", class_="matrix")[0].all("a")
    assert [link.attributes["href"] for link in links] == ["#digits-smoke-a-b", "#digits-smoke-b-a"]


def test_a_study_without_combinations_has_no_matrix():
    wanted = study(["a"], ["b"])
    page = read(render_html(find(wanted, results(wanted), "strict")))
    sound(page)
    assert not page.all("table", class_="matrix")
    assert "so there are no verdicts" in page.said
    assert "φMARK" in section(page, "digits-smoke-a").said


# Details agree with the JSON


@pytest.mark.parametrize("name", ["everything", "wm-dpsgd-mnist", "raddata-pairs"])
@pytest.mark.parametrize("rule", RULES)
def test_details_and_json_say_the_same(name, rule):
    wanted, found = everything() if name == "everything" else committed(name)
    page, content = read(render_html(find(wanted, found, rule))), to_json(find(wanted, found, rule))
    for verdict in content["verdicts"]:
        label = "{" + ", ".join(verdict["combination"]) + "}"
        body = section(page, words.slug(" ".join((verdict["recipe"], *verdict["combination"]))))
        (summary,) = [one for one in body.parent.content if isinstance(one, Element) and one.tag == "summary"]
        # With one recipe, no section says which it is of.
        place = f"{verdict['recipe']} {label}" if len(wanted.recipes) > 1 else label
        assert summary.said.startswith(f"{place} {verdict['outcome']}")
        other = "strict" if rule == "paper" else "paper"
        assert list(verdict["outcomes"]) == [rule, other]
        same = verdict["outcomes"][rule] == verdict["outcomes"][other]
        assert f"{'Also' if same else 'But'} {verdict['outcomes'][other]} by the rule {other}." in body.said
        if verdict["clash"]:
            assert verdict["clash"] in body.said
            continue
        rows = body.all("table")[0].all("tr")[2:]
        for row, entry in zip(rows, verdict["judgements"], strict=True):
            assert_row_agrees(row, entry)
        charts = len(body.all("svg", class_="chart"))
        assert charts == len(verdict["judgements"])


def assert_row_agrees(row: Element, entry: dict[str, Any]) -> None:
    metric = Metric(entry["metric"], entry["symbol"], None, decimals=entry["definition"]["decimals"])
    cells = [one.said for one in row.content if isinstance(one, Element)]
    for arm_name, said in (("alone", cells[1]), ("together", cells[2])):
        numbers = entry[arm_name]
        assert said == "-" if not numbers["n"] else said.startswith(number(metric, float(numbers["mean"])))
        assert said == "-" or said.endswith(f"(n={numbers['n']})")
    assert cells[3].startswith(number(metric, entry["difference"]))
    if entry["interval"]:
        assert cells[3].endswith(f"[{number(metric, entry['interval'][0])}, {number(metric, entry['interval'][1])}]")
    counted = entry["unseen"] is not None and entry["alone"]["n"]
    assert cells[5] == (f"{entry['failing']} of {entry['together']['n']}" if counted else "-")
    decisive = entry["adjusted"] or entry
    names = ("p_difference", "p_equivalence", "p_noninferior", "p_inferior")
    assert [said.split(" ")[0] for said in cells[6:10]] == [p_value(decisive[name]) for name in names]
    for said, outcome in zip(cells[10:12], entry["outcomes"].values(), strict=True):
        assert said.startswith(outcome)
    needed = entry["replicates_needed"] and entry["outcomes"].get("strict") == "undecided"
    assert ("would probably decide" in cells[10] + cells[11]) == bool(needed)


def test_corrected_p_values_stand_beside_the_raw_ones():
    wanted = study(["a", "b"], ["a", "c"], correction="holm")
    page, content = (
        read(render_html(find(wanted, results(wanted), "strict"))),
        to_json(find(wanted, results(wanted), "strict")),
    )
    entry = content["verdicts"][0]["judgements"][1]
    row = next(row for row in section(page, "digits-smoke-a-b").all("tr") if row.said.startswith("φMARK"))
    adjusted, raw = entry["adjusted"]["p_inferior"], entry["p_inferior"]
    assert adjusted != raw
    assert f" {p_value(adjusted)} raw {p_value(raw)} " in row.said


def test_a_net_metric_shows_what_its_mechanism_adds(monkeypatch):
    """Judged is the value with the mechanism minus that without it, seed by seed; the values themselves stand below."""
    monkeypatch.setitem(METRICS, "a", (replace(MARK, net=True), EXTRA))
    wanted = study(["a", "b"])
    page = read(render_html(find(wanted, results(wanted), "strict")))
    body = section(page, "digits-smoke-a-b")

    def added(names: tuple[str, ...], seeds: range) -> float:
        without = tuple(name for name in names if name != "a")
        return sum(value_of(names, "a", "mark", seed) - value_of(without, "a", "mark", seed) for seed in seeds) / len(
            seeds
        )

    numbers, beside = body.all("table")[:2]
    alone, together = (number(MARK, added(*of)) for of in ((("a",), range(4)), (("a", "b"), range(4))))
    row = next(row for row in numbers.all("tr") if row.said.startswith("φMARK net"))
    cells = [one.said for one in row.content if isinstance(one, Element)]
    assert cells[1].startswith(f"{alone}±") and cells[2].startswith(f"{together}±")
    assert (cells[1][-5:], cells[2][-5:]) == ("(n=4)", "(n=4)"), "the seeds that both have"
    assert " a 0.20±0.01 (n=5) " in row_with(beside, "φMARK how many marks are found", "a").said
    assert f"φMARK net breaks its limit (drop 0.3): {alone} alone, {together} together." in body.said
    assert "φMARK net" in page.all("table", class_="matrix")[0].said


def test_all_intervals_of_a_page_are_of_one_confidence_which_it_names():
    """Of that of the tests: 1 - 2 alpha, and of alpha its share where seeds are added step by step."""
    for keys, confidence in (({}, "90 %"), ({"alpha": 0.01}, "98 %"), (STEPS, "96.7 %")):
        wanted = study([{"name": "a", "sweep": {"size": [1, 2]}}, "b"], ["a", "c"], **keys)
        found = results(wanted)
        page, content = read(render_html(find(wanted, found, "strict"))), to_json(find(wanted, found, "strict"))
        judgements = [one for verdict in content["verdicts"] for one in verdict["judgements"]]
        assert {f"{100 * one['confidence']:.3g} %" for one in judgements} == {confidence}
        named = re.findall(r"intervals? at ([\d.]+ %)|its ([\d.]+ %) interval|Intervals at ([\d.]+ %)", page.said)
        assert {said for group in named for said in group if said} == {confidence}
        notes = " ".join(one.attributes["data-notes"] or "" for one in page.all("svg", class_="chart"))
        assert set(re.findall(r"intervals at ([\d.]+ %)", notes)) == {confidence}


STEPS = {"replicates": {"start": 3, "most": 6}}
"""Looks after 3, 5 and 6 seeds."""


def test_why_a_verdict_is_what_it_is(whole):
    def first(*names: str) -> str:
        return section(whole, f"digits-smoke-{'-'.join(names)}").all("ul", class_="sentences")[0].said

    assert "φMARK breaks its limit (drop 0.3): 0.95 alone, 0.20 together." in first("a", "b")
    assert "φACC and φMARK stay within their limits." in first("a", "c")
    assert re.search(r"φACC is undecided; \d+ replicates in each arm would probably decide. Plan them", first("b", "c"))
    assert "φP is met, but so is its control framed: not credible." in first("p", "c")
    assert "φT misses its limit (≥ 0.01) already alone (-0.5" in first("q", "c")
    assert first("p", "q").startswith("The mechanisms cannot be built together: both want the gradient.")


def test_a_chart_shows_every_seed_the_limit_and_the_band(whole):
    body = section(whole, "digits-smoke-a-b")
    (chart,) = [one for one in body.all("svg", class_="chart") if one.attributes["aria-label"].startswith("φ_MARK")]
    dots = [one.said for one in chart.all("title")]
    values = [value_of(("a",), "a", "mark", seed) for seed in range(4)]
    values += [value_of(("a", "b"), "a", "mark", seed) for seed in range(5)]
    assert dots == [f"seed {seed}: {value:.6g}" for seed, value in zip([*range(4), *range(5)], values, strict=True)]
    assert [one.said for one in chart.all("text", class_="name")] == ["alone", "together", "difference"]
    assert len(chart.all("rect", class_="band")) == len(chart.all("path", class_="limit")) == 1
    ticks = [[one.said for one in group.all("text")] for group in chart.all("g", class_="tick")]
    assert [any(float(tick) == 0 for tick in some) for some in ticks] == [False, True], "a difference has its own 0"
    limit = sum(values[:4]) / 4 - 0.3
    assert chart.all("text", class_="small")[0].said == f"limit {limit:.2f}"
    assert (
        "alone (a) 0.95±0.01 (n=4), together 0.20±0.01 (n=5), limit: drop 0.3."
        in chart.attributes["aria-label"].lower()
    )
    assert head_of(chart) == "φ_MARK, digits/smoke {a, b}: conflict"


def test_plans_are_trees_that_mark_what_the_mechanisms_changed(whole):
    body = section(whole, "digits-smoke-a-b")
    (tree,) = body.all("div", class_="plan")
    changed = [one.said for one in tree.all("li", class_="changed")]
    assert "gradient Noisy(clip=1) (changed)" in changed
    assert "name trigger (changed)" in changed
    assert "epochs 2" in [one.said for one in tree.all("li")]
    assert "a+b, 4 lines changed by the mechanisms" in body.said


def test_what_mechanisms_leave_as_it_is_stands_once():
    bare = {"type": "Plan", "model": {"type": "Net", "layers": [{"type": "Dense", "units": 3}]}, "epochs": 2}
    tree = plan_tree(CellRecord(composed={**bare, "epochs": 3}, plan="x"), CellRecord(composed=bare, plan="y"))
    assert tree is not None
    assert [(one.name, one.value, one.changed, one.parts) for one in tree.parts] == [
        ("model", "Net unchanged", False, ()),
        ("epochs", "3", True, ()),
    ]
    assert tree.changes == 1
    wanted, found = everything()
    (shown,) = unprotected_plans(wanted, found)
    assert shown[0] == "digits/smoke"
    page = read(render_html(find(wanted, found, "strict")))
    assert "The plan without any mechanism, digits/smoke" in section(page, "scale").parent.said


def test_a_plan_without_a_counterpart_is_compared_with_nothing():
    tree = plan_tree(CellRecord(composed=plan_of(("a",)), plan="x"), None)
    assert tree is not None
    assert (tree.compared, tree.summary) == (False, "")
    assert plan_tree(CellRecord(), None) is None


def test_circumstances_stand_in_the_details(whole):
    said = section(whole, "digits-smoke-a-b").said
    assert "b: cost of task 3 (δ = 1e-05)" in said
    assert "beware of 0 (seeds 0, 2 and 4)" in said
    assert "beware of 1 (seeds 1 and 3)" in said
    assert "5 trainings (seeds 0 to 4): 1 min 4 s each on average, 5 min 18 s in all." in said
    assert "With and without each mechanism" in said


def test_controls_and_claims_agree_with_the_json(whole):
    content = to_json(find(*everything(), "strict"))
    body = section(whole, "digits-smoke-p-c")
    (table,) = [one for one in body.all("table") if "Ownership claims" in one.said]
    for claim in content["claims"]:
        if claim["combination"] == ["p", "c"]:
            row = row_with(table, claim["suspect"])
            assert row.said.endswith(claim["outcome"])
            assert f"{len(claim['claimed'])} of {len(claim['seeds'])}" in row.said
    assert row_with(table, "control: framed").said.endswith("fires")
    overview = section(whole, "claims").parent
    assert row_with(overview, "digits/smoke {p, c}", "φP").said.endswith("not credible not credible false claim")
    control = next(one for one in content["controls"] if one["combination"] == ["a", "b"] and one["metric"] == "mark")
    (beside,) = [one for one in section(whole, "digits-smoke-a-b").all("table") if "With and without" in one.said]
    assert row_with(beside, "φMARK how many marks are found").said.split()[-3] == number(MARK, control["difference"])
