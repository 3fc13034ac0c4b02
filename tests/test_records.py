"""Records: what is written is read, in both schemas, once each, and damage is told with its place."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committed import COMMITTED, RECORDS, ROOT, committed
from guardclash.errors import UserError
from guardclash.records.file import SCHEMA, pictures_of, read_results, results_text
from guardclash.records.packing import packed, unpacked
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Evidence, Results
from guardclash.reporting.export import export
from guardclash.reporting.findings import find
from guardclash.reporting.rows import rows
from pages import everything


def found() -> Results:
    """A study with everything: suspects, curves, failures, clashes, pictures, nested plans."""
    _, results = everything()
    inner = {"type": "Plan", "epochs": 1, "streams": [{"type": "Stream", "name": "task"}]}
    outer = {"type": "Plan", "epochs": 2, "streams": [{"type": "Marks", "network": inner}], "initial": inner}
    picture = Evidence("triggers", "Triggers.", "iVBORw0KGgo=", 30)
    cells = {
        key: replace(cell, composed=outer if place % 2 else inner, evidence=(picture,))
        for place, (key, cell) in enumerate(results.cells.items())
    }
    return replace(results, cells=cells)


def test_what_is_written_is_read(tmp_path):
    (tmp_path / "results.json").write_text(results_text(found()), encoding="utf-8")
    assert read_results(tmp_path / "results.json") == found()
    assert read_results(tmp_path) == found(), "a folder is the record in it"


def test_schema_1_is_read_as_before(tmp_path):
    for head in ({"schema": 1}, {}):
        (tmp_path / "old.json").write_text(json.dumps({**head, **to_plain(found())}, indent=1), encoding="utf-8")
        assert read_results(tmp_path / "old.json") == found()


def test_everything_is_there_once(tmp_path):
    text = results_text(found())
    content = json.loads(text)
    assert text.count("iVBORw0KGgo=") == 1
    assert len(content["plans"]) == 2, "the inner plan is in the outer one by reference"
    assert len({json.dumps(one) for one in content["metrics"]}) == len(content["metrics"])
    assert text.count('"title"') == len(content["metrics"])
    assert len(text.splitlines()) == len(found().cells) + len(content) + 2, "a line for each cell"


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_records_pack_and_unpack(name):
    _, results = committed(name)
    plain = json.loads(json.dumps(to_plain(results)))
    again = unpacked(packed(plain), {}.get)
    assert again == plain
    assert results_from(again) == results


def test_committed_records_are_small_and_hold_nothing_that_follows_from_them():
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    # Those of Table 9, with every seed, take 1.6 MB.
    assert sum(path.stat().st_size for path in files) < 10_000_000
    assert {path.suffix for path in files} <= {".json", ".png", ".md"}
    assert {path.name for path in files if path.suffix == ".json" and path.parent.name != "benchmarks"} == {
        "results.json"
    }
    assert all(json.loads(path.read_text(encoding="utf-8"))["schema"] == SCHEMA for path in RECORDS.values())


@pytest.mark.slow
def test_every_committed_picture_is_found_and_none_is_left_over():
    named = set()
    for path in RECORDS.values():
        for cell in read_results(path).cells.values():
            for one in cell.evidence:
                assert one.png or one.bytes, f"{path}: {one.name}"
        named |= set(pictures_of(read_results(path)))
    assert named == {path.stem for path in (ROOT / "results" / "pictures").iterdir()}


# Pictures as files


def test_an_export_keeps_pictures_as_files_and_records_share_them(tmp_path):
    written = export(found(), tmp_path / "one")
    assert [path.parent.name for path in written] == ["one", "pictures"]
    assert read_results(tmp_path / "one") == found()
    (tmp_path / "all" / "pictures").mkdir(parents=True)
    for name in ("a", "b/c"):
        export(found(), tmp_path / "all" / name)
        assert read_results(tmp_path / "all" / name) == found()
        assert not (tmp_path / "all" / name / "pictures").exists()
    assert len(list((tmp_path / "all" / "pictures").iterdir())) == 1


def test_a_picture_that_is_nowhere_is_named(tmp_path):
    _, picture = export(found(), tmp_path / "out")
    picture.unlink()
    (one, *_) = next(iter(read_results(tmp_path / "out").cells.values())).evidence
    assert (one.name, one.png) == ("triggers", None)


def test_the_name_of_a_picture_leads_to_no_other_file(tmp_path):
    export(found(), tmp_path / "out")
    (tmp_path / "secret.png").write_bytes(b"secret")
    path = tmp_path / "out" / "results.json"
    (name,) = pictures_of(found())
    path.write_text(path.read_text(encoding="utf-8").replace(name, "../../secret"), encoding="utf-8")
    assert all(one.png is None for cell in read_results(path).cells.values() for one in cell.evidence)


# Damage


def parts(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(one for name, part in inside for one in parts(part, (*place, name)))]


PLAIN = json.loads(results_text(found()))
PLACES = parts(PLAIN)[1:]


@settings(max_examples=100, deadline=None)
@given(
    place=st.sampled_from(PLACES),
    value=st.sampled_from([None, True, -1, 10**9, 1.5, "x", "inf", [], {}, [[]], {"x": 1}, "gone"]),
)
def test_damage_is_told_and_nothing_else_happens(tmp_path_factory, place, value):
    content = json.loads(json.dumps(PLAIN))
    parent = content
    for name in place[:-1]:
        parent = parent[name]
    if value == "gone":
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    path = tmp_path_factory.mktemp("damage") / "results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        assert isinstance(read_results(path), Results)
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content["cells"][0].update(composed={"$plan": "nowhere"}), "nowhere"),
        (lambda content: content["plans"].update({key: {"$plan": key} for key in content["plans"]}), "holds itself"),
        (lambda content: content["cells"][0]["measures"][0].update(metrics=[-1]), "-1"),
        (lambda content: content["cells"][0]["trials"][0].update(seed="0"), r"cells\[0\]"),
        (lambda content: content.update(schema=3), "newer version"),
        (lambda content: content.update(schema="2"), "damaged"),
    ],
)
def test_what_is_damaged_is_said(tmp_path, change, said):
    content = json.loads(json.dumps(PLAIN))
    change(content)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_results(path)


def first_trial(content: dict[str, Any]) -> dict[str, Any]:
    return content["cells"][0]["trials"][0]


def named_cell(content: dict[str, Any], wanted: str) -> dict[str, Any]:
    return next(cell for cell in content["cells"] if [one["name"] for one in cell["combination"]] == [wanted])


def laughing(content: dict[str, Any]) -> None:
    """Twenty plans, each of which holds the one before it twice: a million parts in a few hundred bytes."""
    for number in range(1, 21):
        content["plans"][f"p{number}"] = {"a": {"$plan": f"p{number - 1}"}, "b": {"$plan": f"p{number - 1}"}}
    content["plans"]["p0"] = {"type": "Plan"}
    content["cells"][0]["composed"] = {"$plan": "p20"}


def towering(content: dict[str, Any]) -> None:
    """Each cell opens a plan that is a little higher than the one before it, whose own height is known by then."""
    content["plans"] = {"p0": {"type": "Plan"}}
    for number, cell in enumerate(content["cells"], 1):
        content["plans"][f"p{number}"] = {"a": [[[[[[[[[[{"$plan": f"p{number - 1}"}]]]]]]]]]]}
        cell["composed"] = {"$plan": f"p{number}"}


PLACED = {
    "a seed twice": (
        lambda content: content["cells"][0]["trials"].append(dict(first_trial(content))),
        r"cells\[0\]\.trials\[4\]\.seed\): got 0; allowed: every seed once",
    ),
    "a seed that is a text": (
        lambda content: first_trial(content).update(seed="x"),
        r"results\.json, cells\[0\]\.trials\[0\]\.seed\): got 'x'; allowed: a whole number",
    ),
    "a seed below 0": (lambda content: first_trial(content).update(seed=-1), r"seed\): got -1; allowed: .*>= 0"),
    "a seed of 65 bits": (lambda content: first_trial(content).update(seed=2**64), "of at most 63 bits"),
    "true as a value": (
        lambda content: first_trial(content)["measurements"][0]["values"].update(accuracy=True),
        r"values\.accuracy\): got True; allowed: a finite number",
    ),
    "an accuracy of 5.1": (
        lambda content: first_trial(content)["measurements"][0]["values"].update(accuracy=5.1),
        r"outside of its metric's range \(in accuracy\): got 5\.1; allowed: 0\.0 to 1\.0 \(in .*values\.accuracy\)",
    ),
    "an integer above any float": (
        lambda content: first_trial(content)["measurements"][0]["values"].update(accuracy=10**400),
        r"values\.accuracy\): got 1000.*allowed: a finite number",
    ),
    "a measure twice in a trial": (
        lambda content: first_trial(content)["measurements"].append(first_trial(content)["measurements"][0]),
        "one value of each metric",
    ),
    "a metric twice": (
        lambda content: content["cells"][0]["measures"][0]["metrics"].append(0),
        r"measures\[0\]\.metrics\): .*every metric once",
    ),
    "negative time": (lambda content: first_trial(content).update(seconds=-1), r"seconds\): got -1"),
    "a flag that is a text": (lambda content: first_trial(content).update(diverged="no"), "true or false"),
    "decimals": (lambda content: content["metrics"][0].update(decimals=1_000_000), r"decimals\): got 1000000"),
    "decimals that are true": (lambda content: content["metrics"][0].update(decimals=True), "got True"),
    "a symbol": (lambda content: content["metrics"][0].update(symbol=1), r"symbol\): got 1; allowed: a text"),
    "no criterion": (lambda content: content["metrics"][0].update(criterion=False), "criterion"),
    "an empty criterion": (lambda content: content["metrics"][0].update(criterion={}), "one kind with one number"),
    "half a letter": (lambda content: content["cells"][0].update(clash="\ud800"), r"clash\): got '\\ud800'"),
    "half a letter in a name": (lambda content: content["cells"][0].update(facts={"\ud800": {}}), r"\\ud800"),
    "a long text": (lambda content: content["cells"][0].update(clash="x" * 1_000_001), "at most 1,000,000 letters"),
    "a cell twice": (
        lambda content: content["cells"].append({**content["cells"][0], "plan": "other"}),
        "every cell once",
    ),
    "parts without end": (laughing, "a plan of at most 20,000 parts"),
    "a tower of plans": (towering, "at most 60 tables and lists inside each other"),
    "an option inside itself": (
        lambda content: content["cells"][0].update(combination=[{"name": "a", "x": json.loads("[" * 80 + "]" * 80)}]),
        "at most 60 tables and lists",
    ),
    "a recipe of another type": (
        lambda content: content["cells"][0]["recipe"].update(examples="many"),
        r"recipe\.examples\): got 'many'; allowed: a whole number",
    ),
}


@pytest.mark.parametrize("kind", PLACED)
def test_what_is_wrong_is_told_with_file_field_and_what_may_stand_there(tmp_path, kind):
    change, said = PLACED[kind]
    content = json.loads(json.dumps(PLAIN))
    change(content)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=said) as told:
        read_results(path)
    assert str(path) in str(told.value)
    assert len(str(told.value).encode()) < 1500, "a message, not a copy of the file"


def test_equal_cells_are_one(tmp_path):
    content = json.loads(json.dumps(PLAIN))
    content["cells"].append(content["cells"][0])
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_results(path) == found()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"seed":0', '"seed":0,"seed":1', "'seed' stands twice"),
        ('"seconds":61.5', '"seconds":NaN', "NaN is no number of JSON"),
        ('"seconds":61.5', '"seconds":-Infinity', "-Infinity is no number of JSON"),
        ('"seconds":61.5', '"seconds":1e999', r"seconds\): got inf"),
        ('"seconds":61.5', f'"seconds":{"9" * 5000}', "Exceeds the limit"),
        ('"seconds":61.5', f'"seconds":{"[" * 3000}', "too deep"),
    ],
)
def test_json_that_may_mean_several_things_or_none_is_refused(tmp_path, before, after, said):
    text = results_text(found())
    assert before in text
    path = tmp_path / "results.json"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(UserError, match=said) as told:
        read_results(path)
    assert str(path) in str(told.value)


def test_what_no_cell_declares_is_read_but_not_written():
    content = to_plain(found())
    content["cells"][0]["measures"] = []
    read = results_from(content)
    with pytest.raises(UserError, match="its cell declares none"):
        results_text(read)


def test_a_large_whole_number_is_one_where_floats_may_stand():
    content = to_plain(found())
    for cell in content["cells"]:
        cell["recipe"] = {**cell["recipe"], "learning_rate": 10**30}
    study, _ = everything()
    (rate,) = {row["learning_rate"] for row in rows(find(study, results_from(content)))}
    assert (rate, type(rate)) == (1e30, float)


def test_a_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "results.json").write_bytes(b"\xef\xbb\xbf" + results_text(found()).encode())
    assert read_results(tmp_path) == found()


def test_files_without_end_are_not_begun(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="not a file"):
            read_results(path)
    with pytest.raises(UserError, match="no results yet"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text(results_text(found()), encoding="utf-8")
    monkeypatch.setattr("guardclash.records.file.LARGEST", 1000)
    with pytest.raises(UserError, match="too large"):
        read_results(tmp_path)


def test_infinities_are_written_and_read(tmp_path):
    content = json.loads(json.dumps(PLAIN))
    for trial in named_cell(content, "b")["trials"]:
        trial["measurements"][1]["values"]["cost"] = "inf"
        trial["losses"] = {"task": ["inf", 1.0]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    read = read_results(path)
    path.write_text(results_text(read), encoding="utf-8")
    assert read_results(path) == read
    assert any(one.losses == {"task": (math.inf, 1.0)} for cell in read.cells.values() for one in cell.trials)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"schema": 2}', "[" * 5000])
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_results(path)


def test_no_module_but_these_knows_a_key_of_the_file():
    """Reports look at values; what is written in which form is known in one place."""
    keys = re.compile(r"""\[["'](cells|trials|measurements|values|composed|measures|clash|evidence|stolen)["']\]""")
    package = ROOT / "src" / "guardclash"
    found = [path for path in package.rglob("*.py") if keys.search(path.read_text(encoding="utf-8"))]
    assert {path.parent.name for path in found} <= {"records"}, found
    assert Path(package / "records" / "packing.py").is_file()
