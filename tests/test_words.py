"""Texts of unknown origin as people see them: no letter without a shape, no markup, no formula, nothing endless."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.markup import render as markup

from guardclash.cli.app import main
from guardclash.errors import UserError
from guardclash.planning import planned, standing
from guardclash.records.results import CellRecord, Results
from guardclash.reporting.compare import compare_tables
from guardclash.reporting.export import to_json
from guardclash.reporting.findings import find
from guardclash.reporting.forms import BINARY, FORMS
from guardclash.reporting.notes import notes
from guardclash.reporting.reference import Published
from guardclash.reporting.screen import Screen, literal
from guardclash.reporting.text import plain, told
from guardclash.reporting.trial import trial_page
from guardclash.studies import snapshot
from guardclash.studies.files import SCHEMA
from guardclash.studies.jobs import Done, Job, Site
from guardclash.studies.store import Store
from guardclash.studies.study_file import read_study, study_from
from guardclash.watching.board import Standing, Underway
from guardclash.watching.progress import Progress
from guardclash.watching.view import view
from guardclash.words import LONGEST, MARK, cut, shown
from hostile import HOSTILE, MARKUP, UNSEEN, results, study, unseen

LONG = 5_000_000
ANY = st.text(st.characters(exclude_categories=[]), max_size=12)
ODD = st.text("\\[]a/#@: x\u202e", max_size=12)


@dataclass(frozen=True)
class Named:
    """A task as views know it."""

    label: str


def printed(*parts: Any, **options: Any) -> str:
    screen = Screen(file=io.StringIO(), width=140, **options)
    for part in parts:
        screen.print(part)
    return screen.file.getvalue()  # type: ignore[attr-defined]


# Letters


@given(ANY, st.booleans())
def test_what_is_shown_has_a_shape_and_is_else_the_same(text, lines):
    found = shown(text, lines)
    assert not unseen(found, "\n\t" if lines else "")
    assert shown(found, lines) == found
    seen = [letter for letter in text if not unseen(letter, "") and letter.isprintable()]
    assert [letter for letter in found if letter not in f"{MARK}\n\t"] == [one for one in seen if one != MARK]


def test_every_letter_is_either_shown_or_marked():
    letters = list(map(chr, range(0x11000)))
    marked = {letter for letter in letters if shown(letter, lines=False) != letter}
    assert all(shown(letter, lines=False) == MARK for letter in marked)
    assert {letter for letter in letters if unseen(letter, "")} <= marked
    assert len([letter for letter in marked if letter.isprintable()]) < 16, "few of those that Python prints"
    kept = "aZ 0~ÄφΩ₁中🙂é±×≤→∞e\u0301\ufe0f"
    assert shown(kept) == kept


@given(st.text(max_size=40), st.integers(2, 10))
def test_a_long_text_keeps_its_ends(text, limit):
    found = cut(text, limit)
    if len(text) <= limit:
        assert found == text
    else:
        head, said, tail = found.partition(f" ... {len(text) - limit:,} letters left out ... ")
        assert said
        assert text.startswith(head)
        assert text.endswith(tail)
        assert len(head) + len(tail) == limit


@settings(max_examples=300)
@given(ANY | ODD, ODD)
def test_any_text_is_no_markup(text, other):
    assert markup(literal(text), emoji=False).plain == shown(text)
    both = markup(f"[bold]{literal(text)}[/]{literal(other)}[red]x[/]", emoji=False)
    assert both.plain == shown(text) + shown(other) + "x"


@given(ANY, ANY, ANY)
def test_a_mistake_is_told_without_unseen_letters(what, where, mend):
    assert not unseen(str(UserError(what, where=where, got=what, allowed=mend, mend=mend)), "\n\t")


def test_a_long_mistake_is_short():
    error = UserError("a" * LONG, where="b" * LONG, got="c" * LONG, allowed="d" * LONG, mend="e" * LONG)
    assert len(str(error)) < 6 * LONGEST
    assert str(error).count("letters left out") == 5


# Forms and views


@pytest.mark.parametrize("form", [name for name in FORMS if name not in BINARY])
def test_no_form_holds_an_unseen_letter(form):
    asked = study()
    text = FORMS[form](find(asked, results(asked))).decode()
    assert not unseen(text.replace("\r\n", "\n"), "\n\t" if form == "html" else "\n")


def test_json_loses_nothing():
    found = find(study(), results(study()))
    told_back = json.loads(FORMS["json"](found))
    assert told_back == json.loads(json.dumps(to_json(found)))
    assert told_back["study"].endswith(HOSTILE)


def test_text_shows_markup_as_it_is():
    asked = study(MARKUP)
    text = FORMS["text"](find(asked, results(asked, MARKUP))).decode()
    assert text.startswith(f"s{MARKUP}\n")


def test_no_table_of_the_text_needs_the_wall_behind_it():
    """Else what is laid out is of another width than what is printed."""
    asked = study()
    console = Console(file=io.StringIO(), width=140, color_system=None, emoji=False)
    for part in told(find(asked, results(asked))):
        console.print(part)
    assert not unseen(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_comparison_is_fit_to_be_shown():
    asked = study()
    combination = {named.name: {} for named in asked.combinations[0]}
    given = {"table": HOSTILE, "dataset": asked.recipes[0].name, "combination": combination, "note": HOSTILE}
    reference = [Published(metric=metric, conflict=False, **given) for metric in ("verdict", f"mark{HOSTILE}")]
    text = plain(compare_tables(find(asked, results(asked)), reference))
    assert "published" in text
    assert not unseen(text)


def test_plan_and_status_are_fit_to_be_shown(tmp_path):
    table = {"recipes": [{"dataset": "digits", "scale": "smoke"}], "combinations": [{"mechanisms": ["wm", "advtr"]}]}
    # No study file can have such a name, but whoever makes a `Study` by hand.
    asked, site = replace(study_from(table), name=f"s{HOSTILE}"), Site(Store(tmp_path / "runs"), tmp_path)
    for text in (printed(*planned(asked, site, 1, full=True)), printed(*standing(asked, site, asked.rule))):
        assert f"Study s{shown(HOSTILE)}" in text.replace("\n", "")
        assert not unseen(text)


def test_what_runs_is_fit_to_be_shown():
    asked = study()
    task = Underway(Named(f"t{HOSTILE}"), f"measuring {HOSTILE}", 1.0, 2.0, {HOSTILE: 0.5})
    now = Standing(f"s{HOSTILE}", 1, 1, 1, 1, (task,), 1, 5.0, 0)
    verdicts = find(asked, results(asked)).verdicts
    console = Console(file=io.StringIO(), width=1000, color_system=None)  # as a run's own may be
    console.print(view(now, verdicts, "strict"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown(HOSTILE) in text
    assert not unseen(text)


def test_a_failure_is_told_in_short_and_without_unseen_letters(tmp_path):
    console = Console(file=io.StringIO(), width=140, force_terminal=False)
    asked = study_from(
        {"recipes": [{"dataset": "digits", "scale": "smoke"}], "combinations": [{"mechanisms": ["wm"]}]}, name="x"
    )
    site = Site(Store(tmp_path), tmp_path)
    progress = Progress(console, 1, asked, site, "strict")
    failed = Done(Job(SimpleNamespace(key=f"k{HOSTILE}"), ()), 1.0, f"RuntimeError: {HOSTILE}{'x' * LONG}{HOSTILE}")
    progress.done(failed)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "letters left out" in text
    assert len(text) < 2 * LONGEST
    assert ":smile:" in text
    assert not unseen(text)


def test_a_trial_is_fit_to_be_shown(tmp_path):
    store = Store(tmp_path)
    key, flat = "abc-0", HOSTILE
    record = {"schema": SCHEMA, "seed": 0, "seconds": 1.0, "finished": flat}
    record |= {"execution": {flat: flat}, "environment": {flat: flat}}
    record |= {"plan": {f"p{flat}": [flat], "type": flat, "model": {"type": flat, "inner": {"a": flat}}}}
    store.keep_trial(key, record, {"history.jsonl": b""})
    store.keep_failure(key, f"Trace\n{'x' * LONG}{flat}")
    store.keep_measurement(
        "m-0", {"schema": SCHEMA, "trial": key, "measure": {"type": flat}, "metrics": {flat: 1.0}, "warnings": []}
    )
    text = printed(trial_page("abc", tmp_path))
    assert len(text) < 40 * LONGEST
    assert not unseen(text)


def test_long_texts_of_records_are_short_in_reports():
    asked, long = study(""), "x" * 50_000
    known = results(asked, "")
    cells = {key: _long(cell, long) for key, cell in known.cells.items()}
    found = find(asked, replace(known, cells=cells))
    lines = notes(found)
    assert all(len(line) < 2 * LONGEST for line in lines)
    assert sum("letters left out" in line for line in lines) >= 3
    for form in ("text", "md", "html", "tex"):
        assert long[: 2 * LONGEST] not in FORMS[form](found).decode().replace("\n", ""), form


def _long(cell: CellRecord, text: str) -> CellRecord:
    """With long texts where mechanisms and their errors have their say."""
    facts = {name: dict.fromkeys(told, text) for name, told in cell.facts.items()}
    trials = tuple(
        replace(
            one,
            error=one.error and one.error + text,
            measurements={of: replace(found, warnings=(text,)) for of, found in one.measurements.items()},
        )
        for one in cell.trials
    )
    return replace(cell, facts=facts, trials=trials, clash=cell.clash and cell.clash + text)


def test_the_terminals_own_commands_pass():
    assert "\x1b[1m" in printed("[bold]x[/]", force_terminal=True, color_system="standard")


# Formulas


@given(st.text(st.characters(codec="utf-8"), max_size=8), st.sampled_from(["", "=", "+", "-", "@", "\t", "\r"]))
@settings(max_examples=20, deadline=None)
def test_no_field_of_a_csv_is_a_formula(text, first):
    asked = study("")
    name = f"{first}{text}"
    named = replace(asked, name=name)
    fields = list(csv.DictReader(io.StringIO(FORMS["csv"](find(named, results(asked))).decode(), newline="")))
    assert fields
    for row in fields:
        assert not row["study"].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert row["study"].removeprefix("'") == shown(name).removeprefix("'")
    assert any(float(row["value"]) < 0 for row in fields), "numbers stay numbers"


# Commands


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["guardclash", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_commands_say_nothing_unseen_of_hostile_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flat = json.dumps(UNSEEN, ensure_ascii=True).replace("\\udb40\\udc41", "")
    Path("k.toml").write_text(f'{flat} = 1\n[[recipes]]\ndataset = "digits"\n[[combinations]]\nmechanisms = ["wm"]\n')
    Path("m.toml").write_text(f"recipes = [{{ dataset = {flat} }}]\ncombinations = [{{ mechanisms = [{flat}] }}]\n")
    odd = Path("o\x1b[31m\u202e[x].toml")
    odd.write_text('recipes = [{ dataset = "digits" }]\ncombinations = [{ mechanisms = ["wm"] }]\nnonsense = 1\n')
    for asked in ("k.toml", "m.toml", odd, "missing\x1b.toml"):
        for name in ("plan", "status", "report", "check"):
            code, said = command(monkeypatch, capsys, name, asked)
            assert code == 2
            assert said.startswith("error: ")
            assert not unseen(said)


def test_the_paths_of_an_export_are_no_markup(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text('recipes = [{ dataset = "digits" }]\ncombinations = [{ mechanisms = ["wm"] }]\n')
    asked, store = read_study("s.toml"), Store(Path("runs"))
    known = Results("s", cells={cell.key: CellRecord(cell.key) for cell in asked.cells()})
    snapshot.keep(asked, known, snapshot.state(store), store)
    for folder in ("out[/x]", "out[red]", "out:smile:", "out\\[/"):
        code, said = command(monkeypatch, capsys, "export", "s.toml", folder)
        assert (code, said) == (0, f"{Path(folder) / 'results.json'}\n")


# Versions


def test_mixed_versions_are_said_with_their_seeds():
    asked = study("")
    found = find(asked, results(asked, ""))
    said = "\n".join(notes(found))
    assert "Trained with different versions: torch 2; torch 1. A difference may be one of versions." in said
    assert "seed 0 trained with torch 2." in said
    assert "seed 1 trained with torch 1." in said
    assert "not recorded" not in said


def test_where_records_do_not_know_the_versions_of_a_seed_that_is_said():
    asked = study("")
    found = results(asked, "")
    one = replace(found, environments=found.environments[:1])
    assert "different versions" not in "\n".join(notes(find(asked, one))), "there are none"
    cells = {key: _forgotten(cell) for key, cell in found.cells.items()}
    old = replace(found, cells=cells)
    assert "Which seeds by which is not recorded of all." in "\n".join(notes(find(asked, old)))


def _forgotten(cell: CellRecord) -> CellRecord:
    """With places that lead nowhere, as in a damaged file."""
    return replace(cell, trials=tuple(replace(one, environment=7) for one in cell.trials))
