"""Studies that strangers hand in: each bound is told as a mistake, with its place, before anything is unrolled."""

from __future__ import annotations

import os
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.checks import LARGEST_WHOLE
from guardclash.errors import UserError
from guardclash.studies import limits
from guardclash.studies.composing import compose_study
from guardclash.studies.limits import COMBINATIONS, DEPTH, EXTENDED, NAME_BYTES, REPLICATES
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study, study_from

RECIPE = '[[recipes]]\ndataset = "digits"\nscale = "smoke"\n'
WM = '[[combinations]]\nmechanisms = ["wm"]\n'
TABLE: dict[str, Any] = {
    "recipes": [{"dataset": "digits", "scale": "smoke"}],
    "combinations": [{"mechanisms": ["wm"]}],
}
HUGE = "1" + "0" * 400
NINE = ", ".join(f"o{number} = [{', '.join(map(str, range(10)))}]" for number in range(9))
NAMES = {"a NUL": "a\\u0000b", "a name of 300 letters": "a" * 300, "a path of 9,000 letters": "a/" * 4500}
FILES = {
    "lists in lists": "x = " + "[" * 1000 + "]" * 1000,
    "tables in tables": "x = " + "{a=" * 1000 + "1" + "}" * 1000,
    "dotted keys": ".".join("a" * 3000) + " = 1",
    "quoted dotted keys": " . ".join(['"a.b"', "'c'"] * 300) + " = 1",
    "a dotted header": f"[{'.'.join('a' * 3000)}]",
    "a list of lists that can be read": "x = " + "[" * (DEPTH + 2) + "]" * (DEPTH + 2),
    "5,000 digits": "first_seed = " + "9" * 5000,
    "a megabyte": "#" * 1_000_001,
    "10^9 replicates": "replicates = { alone = 1000000000 }",
    "one replicate too many": f"replicates = {{ together = {REPLICATES + 1} }}",
    "2^63 replicates": f"replicates = {{ alone = {2**63} }}",
    "too many at most": f"replicates = {{ start = 3, most = {2**63} }}",
    "too many suspects": f"replicates = {{ suspects = {REPLICATES + 1} }}",
    "a first seed beyond 64 bits": f"first_seed = {2**63}",
    "a last seed beyond 64 bits": f"first_seed = {2**63 - 1}\nreplicates = {{ alone = 1, together = 1 }}",
    **{f"extends: {what}": f'extends = "{name}"' for what, name in NAMES.items()},
    **{f"plugins: {what}": f'plugins = ["{name}"]' for what, name in NAMES.items()},
    **{f"reference: {what}": f'reference = "{name}"' for what, name in NAMES.items()},
    **{f"records: {what}": f'records = "{name}"' for what, name in NAMES.items()},
    "a suspect's name": '[[suspects]]\nkind = "extraction"\nname = "wm"',
    "a list for it": '[[suspects]]\nkind = "extraction"\nname = ["x"]',
    "mechanisms in lists": '[[suspects]]\nkind = "extraction"\nmechanisms = [["dpsgd"]]',
    "nine swept options": f'[[combinations]]\nmechanisms = [{{ name = "wm", sweep = {{ {NINE} }} }}]',
    "nine mechanisms swept": "[[combinations]]\nmechanisms = ["
    + ", ".join(f'{{ name = "m{number}", sweep = {{ o = {list(range(10))} }} }}' for number in range(9))
    + "]",
    "then, swept": "[[combinations]]\nmechanisms = "
    + f'[{{ name = "wm", sweep = {{ o = {list(range(200))} }} }}]\nthen = '
    + f'[{{ mechanisms = [{{ name = "dpsgd", sweep = {{ o = {list(range(200))} }} }}] }}]',
    "nine options of a suspect": f'[[suspects]]\nkind = "extraction"\nsweep = {{ {NINE} }}',
    "nine options of a measure": f'[[measures]]\nname = "robustness"\nsweep = {{ {NINE} }}',
    "nine options of a recipe": f'[[recipes]]\ndataset = "mnist"\nsweep = {{ {NINE} }}',
    "nine options of a scale": f"[scales.smoke.digits.sweep]\n{NINE.replace(', o', chr(10) + 'o')}",
    "a swept scale": '[[recipes]]\ndataset = "digits"\nsweep = { scale = ["smoke", "reduced"] }',
    "another data set by a scale": '[scales.smoke.digits]\ndataset = "mnist"',
    "a key that turns the line round": '"a\\u202eb" = 1',
    "a key that writes a title": '[readings."\\u001b]0;owned\\u0007"]',
    "epochs later": f'[[combinations]]\nmechanisms = ["wm"]\nthen = [{{ mechanisms = ["dpsgd"], epochs = {HUGE} }}]',
    "an option": f'[[combinations]]\nmechanisms = [{{ name = "advtr", steps = {HUGE} }}]',
    "an option of a recipe": f'[[recipes]]\ndataset = "mnist"\nbatch_size = {HUGE}',
}


def study(path: Path, text: str) -> Path:
    head, _, tables = text.partition("\n[")
    tables = f"\n[{tables}" if tables else ""
    if head.startswith("["):
        head, tables = "", f"\n{text}"
    path.write_text(f"{head}\n{RECIPE}{WM}{tables}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_each_bound_is_a_mistake_with_its_file(tmp_path, text):
    path = study(tmp_path / "mine.toml", text)
    with pytest.raises(UserError) as caught:
        read_study(path)
    assert "mine.toml" in str(caught.value)
    assert len(str(caught.value)) < 6_000 or "9,000 letters" in text


def test_a_study_beside_each_bound_is_read(tmp_path):
    text = (
        f"first_seed = {LARGEST_WHOLE - REPLICATES}\nreplicates = {{ alone = {REPLICATES}, together = {REPLICATES} }}"
    )
    path = study(tmp_path / "mine.toml", text)
    found = read_study(path)
    assert max(found.seeds(found.cells()[0])) < LARGEST_WHOLE
    many = (
        f'[[combinations]]\nmechanisms = [{{ name = "wm", sweep = {{ triggers = {list(range(1, COMBINATIONS))} }} }}]'
    )
    study(path, f"replicates = {{ alone = 1, together = 1 }}\n{many}")
    assert len(read_study(path).combinations) == COMBINATIONS


def test_a_study_of_more_trainings_than_a_process_holds_is_refused():
    swept = [{"name": "wm", "sweep": {"triggers": list(range(1, 201))}}]
    recipes = [{"dataset": "digits", "sweep": {"epochs": list(range(1, 1001))}}]
    with pytest.raises(UserError, match="too many trainings"):
        study_from({"recipes": recipes, "combinations": [{"mechanisms": swept}]})


@pytest.mark.parametrize("kind", ["pipe", "device", "through extends"])
@pytest.mark.skipif(os.name != "posix", reason="has no such files")
def test_what_never_ends_is_not_opened(tmp_path, kind):
    path = tmp_path / "study.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_text('extends = "/dev/zero"')
    with pytest.raises(UserError, match="no regular file"):
        read_study(path)


def chain(folder: Path, files: int) -> Path:
    for number in range(files - 1):
        (folder / f"s{number}.toml").write_text(f'extends = "s{number + 1}.toml"\n')
    (folder / f"s{files - 1}.toml").write_text(RECIPE + WM)
    return folder / "s0.toml"


def test_as_many_files_extend_each_other_as_are_allowed(tmp_path):
    assert read_study(chain(tmp_path, EXTENDED + 1)).name == "s0"
    with pytest.raises(UserError, match="too many files extend each other"):
        read_study(chain(tmp_path, 1_100))


@pytest.mark.skipif(os.name != "posix", reason="has no such links")
def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    path = study(tmp_path / "mine.toml", 'extends = "a"')
    with pytest.raises(UserError):
        read_study(path)


def test_a_byte_order_mark_says_nothing(tmp_path):
    path, other = tmp_path / "a.toml", tmp_path / "b.toml"
    path.write_text('extends = "b.toml"\nname = "x"\n', encoding="utf-8-sig")
    other.write_text(RECIPE + WM, encoding="utf-8-sig")
    assert read_study(path).combinations == study_from(TABLE).combinations


@pytest.mark.parametrize("key", ["\ud800", "a\nb", "", 5, None, ("a",)])
def test_keys_of_tables_from_python_are_texts_that_can_be_shown(key):
    with pytest.raises(UserError) as caught:
        study_from({**TABLE, "criteria": {key: {"max_drop": 0.1}}, **({} if key != "" else {"": 1})})
    assert str(caught.value).encode()


# Fields that a study may not set


@pytest.mark.parametrize("value", [[1, 2], "x", 1, True])
@pytest.mark.parametrize(
    ("mechanism", "field"),
    [("di", "framed"), ("di", "unrelated"), ("distance", "others"), ("raddata", "network"), ("wm", "images")],
)
def test_inner_fields_are_unknown_keys(mechanism, field, value, tmp_path):
    table = {**TABLE, "combinations": [{"mechanisms": [{"name": mechanism, field: value}]}]}
    with pytest.raises(UserError, match=f"unknown key '{field}'"):
        compose_study(study_from(table), tmp_path)


# Names


ODD = {
    "above": "../../escaped",
    "empty": "",
    "dots": "..",
    "a line": "a\nb",
    "a line at its end": "a\n",
    "absolute": "/abs/x",
    "a drive": "C:x",
    "another separator": "a\\b",
    "a device": "CON",
    "a device with an ending": "nul.2024",
    "a formula": "=cmd",
    "another formula": "-1+1",
    "markup": "[red]x",
    "an escape": "\x1b[31mx",
    "a C1 control": "x\x9b31m",
    "from right to left": "a\u202etxt",
    "without width": "a\u200db",
    "a NUL": "a\0b",
    "a surrogate": "a\ud800",
    "too long": "x" * 300,
    "too long in bytes": "é" * (NAME_BYTES // 2 + 1),
    "hidden": ".x",
    "a dot at its end": "x.",
    "a space at its end": "x ",
}


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
@pytest.mark.parametrize("how", ["key", "argument", "stem"])
def test_one_rule_for_the_name_wherever_it_is_said(tmp_path, monkeypatch, name, how):
    with pytest.raises(UserError, match="name"):
        if how == "key":
            study_from({**TABLE, "name": name})
        elif how == "argument":
            study_from(TABLE, name=name)
        else:
            monkeypatch.setattr("guardclash.studies.study_file.read_table", lambda path: dict(TABLE))
            stem = type("Odd", (), {"stem": name, "parent": tmp_path, "__str__": lambda self: "odd"})
            monkeypatch.setattr("guardclash.studies.study_file.Path", lambda path: stem())
            read_study("odd")


@given(st.text(max_size=30) | st.text(string.ascii_letters + "./\\ -_", max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_name_that_is_taken_stays_in_its_folder(name):
    try:
        found = study_from(TABLE, name=name)
    except UserError:
        return
    store = Store(Path("store"))
    path = store.folder / "studies" / f"{found.name}.json"
    assert Path(os.path.normpath(path)).parent == store.folder / "studies"
    assert found.name.isprintable() and found.name.encode()


def test_a_file_whose_name_does_not_fit_is_told_one_that_does(tmp_path):
    path = tmp_path / "wd=5e-4, lr=0.1 #2.toml"
    path.write_text(RECIPE + WM)
    with pytest.raises(UserError) as caught:
        read_study(path)
    said = re.search(r'name = "(.*)"', str(caught.value))
    assert said
    path.write_text(f'name = "{said.group(1)}"\n{RECIPE}{WM}')
    assert read_study(path).name == said.group(1)


@given(st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_the_name_that_is_proposed_can_be_used(stem):
    try:
        limits.check_name(stem, "x.toml", given=False)
    except UserError as error:
        said = re.search(r'name = "([^"]*)"\.$', str(error))
        assert said
        assert isinstance(study_from({**TABLE, "name": said.group(1)}), Study)
