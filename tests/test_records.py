"""Records: what is written is read, in both schemas, once each, and damage is told with its place."""

from __future__ import annotations

import json
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
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert {path.suffix for path in files} <= {".json", ".png", ".md"}
    assert {path.name for path in files if path.suffix == ".json" and path.parent.name != "benchmarks"} == {
        "results.json"
    }
    assert all(json.loads(path.read_text(encoding="utf-8"))["schema"] == SCHEMA for path in RECORDS.values())


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


@settings(max_examples=300, deadline=None)
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
