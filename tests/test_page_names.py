"""Names that look like markup stay text, addresses are unique, and all can be read in both themes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, get_args

import pytest

from guardclash.judging.criteria import ACCURACY
from guardclash.judging.rules import OUTCOMES, RULES
from guardclash.records.cells import Cell, Named, Suspected
from guardclash.records.plain import results_from
from guardclash.records.results import Results
from guardclash.reporting import claims as claims_module
from guardclash.reporting.findings import find
from guardclash.reporting.page import render_html
from guardclash.reporting.page_parts import accounts, words
from guardclash.studies.study import Study
from pages import COST, EVIL, FRAMED, PARTS, PRINT, QUOTED, head_of, read, results, sound, study

# Names that bite


def evil_study() -> tuple[Study, Results]:
    named = Named(EVIL, (("option", QUOTED), ("size", 1)))
    other, more = Named("b", (("size", 2),)), Named(EVIL, (("option", EVIL), ("size", 2)))
    recipe = Named("digits", (("scale", EVIL),))
    suspect = Suspected(Named(EVIL, (("option", QUOTED),)))
    wanted = Study(EVIL, (recipe,), ((named, other), (more, other), (named,)), alone=2, together=2, suspects=(suspect,))
    metric = replace(PRINT, name=EVIL, symbol=f"φ_{EVIL}", title=QUOTED, controls=(QUOTED,))
    control = replace(FRAMED, name=QUOTED, symbol=EVIL)
    METRICS_OF = {None: (ACCURACY,), EVIL: (metric, control), "b": (COST,)}

    def cell(asked: Cell) -> dict[str, Any]:
        owners = (None, *asked.combination)
        trial = {
            "trial": EVIL,
            "seconds": 1.0,
            "measurements": [
                {
                    "of": of and json.loads(json.dumps(of.to_dict())),
                    "values": {one.name: -5.0 if of else 0.5 for one in METRICS_OF[of and of.name]},
                    "warnings": [EVIL, QUOTED],
                }
                for of in owners
            ],
        }
        measures = [
            {"of": of and of.to_dict(), "metrics": [one.to_dict() for one in METRICS_OF[of and of.name]]}
            for of in owners
        ]
        recipe = {"dataset": EVIL, "scale": QUOTED, "epochs": 1, "protected_epochs": None, "examples": None}
        recipe |= {"test_examples": 3, "model": EVIL, "norm": QUOTED, "batch_size": 1}
        failed = {"seed": 1, "trial": "x", "error": f"Error: {EVIL}", "measurements": []}
        return {
            **({"suspect": asked.suspect.to_dict(), "stolen": True} if asked.suspect else {}),
            "key": asked.key,
            "recipe": recipe,
            "combination": [],
            "clash": f"{EVIL}{QUOTED}" if asked.combination[:1] == (more,) and len(asked.combination) > 1 else None,
            "plan": EVIL,
            "composed": {"type": EVIL, EVIL: {"type": EVIL, QUOTED: [{"type": EVIL, "a": [1]}]}, "x": EVIL},
            "facts": {EVIL: {EVIL: QUOTED}},
            "measures": measures,
            "trials": [{"seed": 0, **trial}, failed],
        }

    cells = [cell(asked) for asked in (*wanted.cells(), *wanted.suspect_cells())]
    content = {"study": EVIL, "written": EVIL, "environments": [{EVIL: QUOTED, "commit": EVIL}], "cells": cells}
    return wanted, results_from(json.loads(json.dumps(content)))


@pytest.mark.parametrize("rule", RULES)
def test_names_of_scripts_stay_text(rule):
    text = render_html(find(*evil_study(), rule))
    page = read(text)
    sound(page)
    assert page.all("h1")[0].said == EVIL
    assert page.all("title")[0].said.startswith(EVIL)
    matrix = page.all("table", class_="matrix")[0]
    assert any(f"{EVIL}(option=" in one.said for one in matrix.all("th"))
    charts = page.all("svg", class_="chart")
    assert any(EVIL in head_of(chart) for chart in charts)
    known = {
        "",
        "html",
        "head",
        "meta",
        "link",
        "title",
        "style",
        "body",
        "svg",
        "symbol",
        "path",
        "use",
        "a",
        "header",
        "p",
    }
    known |= {"h1", "h2", "h3", "h4", "dl", "div", "dt", "dd", "nav", "ul", "li", "main", "section", "table", "caption"}
    known |= {"thead", "tbody", "tr", "th", "td", "span", "sub", "wbr", "details", "summary", "figure", "figcaption"}
    known |= {"button", "rect", "line", "circle", "g", "text", "pre", "code", "data", "script"}
    assert {one.tag for one in page.walk()} == known
    assert text.count("<script>") == text.count("</script>") == 1


def test_letters_without_a_shape_are_made_visible():
    bad = "a\x00\x1b\u202e\u200bb"
    wanted = replace(study(), name=bad, combinations=((Named(bad), Named("b")),))
    text = render_html(find(wanted, results(wanted), "strict"))
    text.encode()
    assert not set(text) & set("\x00\x1b\u202e")
    assert read(text).all("h1")[0].said == "a" + "\N{REPLACEMENT CHARACTER}" * 4 + "b"


def test_addresses_are_unique_whatever_the_labels():
    wanted = study(["a", "b"], ["a", {"name": "b", "x": "!"}], ["a", {"name": "b", "x": "?"}], ["a", "ä"])
    page = read(render_html(find(wanted, results(wanted), "strict")))
    sound(page)
    ids = [one.attributes["id"] for one in page.all("div", class_="body")]
    assert ids == ["digits-smoke-a-b", "digits-smoke-a-b-x", "digits-smoke-a-b-x-2", "digits-smoke-a"]
    assert list(words.unique(["", "x", "x", "values"], ["values"])) == ["part", "x", "x-2", "values-2"]


# Words and colours


def test_every_outcome_has_a_look_of_its_own():
    """But for two rare ones, which share that of the common one whose word they qualify."""
    shared = {word: words.SAME_LOOK[word] for word in OUTCOMES if word in words.SAME_LOOK}
    assert shared == {"does not train together": "conflict", "not measured together": "undecided"}
    looks = {word: words.look(word) for word in OUTCOMES}
    assert len(set(looks.values())) == len(OUTCOMES) - len(shared)
    assert all(looks[word] == looks[other] for word, other in shared.items())
    icons, css = PARTS.joinpath("icons.svg").read_text(), PARTS.joinpath("page.css").read_text()
    paths = dict(re.findall(r'id="icon-([a-z-]+)".*?d="([^"]+)"', icons))
    for look in (*looks.values(), "quiet"):
        assert f".{look} {{ --own: var(--{look});" in css
    assert set(paths) == {*looks.values(), "quiet"}
    assert len(set(paths.values())) == len(paths)
    assert {words.look(word) for word in ("no difference", "equivalent", "improved", "effective")} == {"compatible"}
    assert (*words.CLAIMS,)[:-1] == tuple(sorted(get_args(claims_module.Outcome), key=list(words.CLAIMS).index))
    for word in get_args(claims_module.Outcome):
        assert (words.look(word) == "quiet") == (word == "not measured")


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    shares = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_texts_can_be_read_in_both_themes():
    assert contrast("#000", "#fff") == pytest.approx(21)
    css = PARTS.joinpath("page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    for theme in (light, dark):
        looks = [words.look(word) for word in OUTCOMES]
        pairs = [(theme[look], theme[f"{look}-wash"]) for look in looks]
        pairs += [
            (theme[ink], theme[ground]) for ink in ("ink", "soft", "link", "quiet") for ground in ("paper", "wash")
        ]
        pairs += [(theme[look], theme["paper"]) for look in looks if look != "clash"]
        assert all(contrast(*pair) >= 4.5 for pair in pairs), [(pair, contrast(*pair)) for pair in pairs]
    figure = PARTS.joinpath("figure.css").read_text()
    for block, paper in zip(figure.split("@media"), (light["paper"], dark["paper"]), strict=True):
        inks = re.findall(r"\.chart (?:text|\.tick[^{]*) \{ fill: (#[0-9a-f]{6})", block)
        marks = re.findall(r"(?:\.mean|\.interval|\.limit|\.hue-\d)[^{]*\{ (?:fill|stroke): (#[0-9a-f]{6})", block)
        assert len(inks) == 2
        assert len(marks) > 15
        assert all(contrast(ink, paper) >= 4.5 for ink in inks)
        assert all(contrast(mark, paper) >= 3 for mark in marks), [(mark, contrast(mark, paper)) for mark in marks]


def test_small_words():
    assert words.symbol("φ_WM") == "φ<sub>WM</sub>"
    assert words.symbol("φ_RAD held-out") == "φ<sub>RAD</sub> held-out"
    assert words.symbol("<i>_<b>") == "&lt;i&gt;<sub>&lt;b&gt;</sub>"
    assert words.symbol("ε") == "ε"
    assert words.broken("a(b=<c>)") == 'a(<wbr>b=<wbr class="late">&lt;c&gt;)'
    assert words.broken("/==") == '/<wbr>=<wbr class="late">=<wbr class="late">'
    assert words.broken("x/y (z=1)") == 'x/<wbr>y (z=<wbr class="late">1)'
    assert words.slug("mnist/reduced {wm, dpsgd(on=task)}") == "mnist-reduced-wm-dpsgd-on-task"
    assert (words.listed([]), words.listed(["a"]), words.listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert (words.plural(1, "seed"), words.plural(1234, "seed")) == ("1 seed", "1,234 seeds")
    assert accounts.seed_names([0, 1, 2]) == "seeds 0 to 2"
    assert accounts.seed_names([3]) == "seed 3"
    assert accounts.failure("") == ""
