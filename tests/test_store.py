"""The store: results are whole or absent, whatever happens while they are written, and damage is told by name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from guardclash.cli.app import main
from guardclash.errors import UserError
from guardclash.records.file import read_results
from guardclash.studies.files import SCHEMA
from guardclash.studies.inspection import inspected, repaired
from guardclash.studies.seal import OPEN
from guardclash.studies.store import Store

KEY = "0123456789abcdef0123-4"
RECORD = {
    **{"schema": SCHEMA, "trial": KEY, "seed": 4, "plan": {}, "seconds": 1.0, "finished": "today"},
    **{"execution": {"device": "cpu"}, "environment": {}},
}
FILES = {"weights.safetensors": b"weights", "history.jsonl": b'{"epoch": 1, "task": 0.5}\n'}
LISTED = {**RECORD, "files": {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}}
METRICS = {"schema": SCHEMA, "trial": KEY, "measure": {}, "metrics": {"accuracy": 0.5}, "warnings": ["φ"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def everything_in(store: Store) -> list[str]:
    return sorted(path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if path.is_file())


def fail_with(number: int) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_an_empty_store_holds_nothing_and_makes_no_folder(store):
    assert store.trial(KEY) is None
    assert store.record(KEY) is None
    assert store.measurement(KEY) is None
    assert store.failure(KEY) is None
    store.sweep_work()
    assert not store.folder.exists()


def test_what_is_kept_is_found(store):
    store.keep_trial(KEY, RECORD, FILES)
    store.keep_measurement("m-4", METRICS)
    folder = store.trial(KEY)
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {*FILES, "record.json"}
    assert {name: store.part(KEY, name) for name in FILES} == FILES
    assert store.record(KEY) == LISTED
    assert store.measurement("m-4") == METRICS
    held = [f"trials/{KEY}/{name}" for name in sorted([*FILES, "record.json"])]
    assert everything_in(store) == ["measurements/m-4.json", *held]
    assert store.damaged == {}


def test_a_failure_is_noted_until_it_is_forgotten(store):
    store.keep_failure(KEY, "RuntimeError: boom")
    assert store.failure(KEY)["error"] == "RuntimeError: boom"
    assert store.trial(KEY) is None
    for _ in range(2):
        store.forget_failure(KEY)
        assert store.failure(KEY) is None


def test_a_folder_may_be_given_as_text(tmp_path):
    store = Store(str(tmp_path / "runs"))
    assert store == Store(tmp_path / "runs")
    store.keep_trial(KEY, RECORD, FILES)
    assert store.record(KEY) == LISTED


@pytest.mark.parametrize("broken", ["write_bytes", "rename", "mkdir"])
def test_a_full_disk_leaves_no_half_trial(store, monkeypatch, broken):
    with monkeypatch.context() as patch:
        patch.setattr(Path, broken, fail_with(errno.ENOSPC))
        with pytest.raises(UserError, match="No space left on device") as caught:
            store.keep_trial(KEY, RECORD, FILES)
    assert str(store.folder) in str(caught.value)
    assert "same command" in str(caught.value)
    assert store.trial(KEY) is None
    assert not store.folder.exists() or everything_in(store) == []
    store.keep_trial(KEY, RECORD, FILES)
    assert store.record(KEY) == LISTED


def test_a_disk_that_fills_up_between_two_files_leaves_no_half_trial(store, monkeypatch):
    written = []
    write = Path.write_bytes

    def fill_up(path: Path, content: bytes) -> int:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(UserError, match="No space left"):
        store.keep_trial(KEY, RECORD, FILES)
    assert written
    assert everything_in(store) == []
    assert list((store.folder / "work").iterdir()) == []


@pytest.mark.parametrize(("module", "broken"), [(Path, "write_bytes"), (os, "replace")])
def test_a_full_disk_leaves_the_old_json(store, monkeypatch, module, broken):
    store.keep_measurement("m-4", METRICS)
    with monkeypatch.context() as patch:
        patch.setattr(module, broken, fail_with(errno.ENOSPC))
        with pytest.raises(UserError, match="No space left"):
            store.keep_measurement("m-4", {**METRICS, "metrics": {}})
    assert store.measurement("m-4") == METRICS
    assert everything_in(store) == ["measurements/m-4.json"]


def test_an_interruption_while_writing_leaves_nothing(store, monkeypatch):
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.keep_trial(KEY, RECORD, FILES)
    assert everything_in(store) == []


def test_numbers_that_json_does_not_know_are_not_written(store):
    with pytest.raises(ValueError, match="JSON"):
        store.keep_measurement("m-4", {"metrics": {"accuracy": float("nan")}})
    assert everything_in(store) == []


def test_a_store_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    store = Store(tmp_path / "runs")
    with pytest.raises(UserError, match="cannot be written") as caught:
        store.keep_trial(KEY, RECORD, FILES)
    assert "runs" in str(caught.value)


def test_a_second_writer_changes_nothing(store):
    store.keep_trial(KEY, RECORD, FILES)
    store.keep_trial(KEY, RECORD, {**FILES, "weights.safetensors": b"others"})
    assert (store.trial(KEY) / "weights.safetensors").read_bytes() == b"weights"
    assert list((store.folder / "work").iterdir()) == []


def test_many_writers_of_one_key_leave_one_whole_trial(store):
    start, errors = threading.Barrier(8), []

    def keep(number: int) -> None:
        start.wait()
        try:
            store.keep_trial(KEY, RECORD, {name: content + bytes([number]) for name, content in FILES.items()})
            store.keep_measurement("m-4", {**METRICS, "metrics": {"accuracy": number}})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(store.part(KEY, name) is not None for name in FILES)
    assert store.measurement("m-4")["metrics"]["accuracy"] in range(8)
    assert store.damaged == {}
    assert len(everything_in(store)) == 4
    assert list((store.folder / "work").iterdir()) == []


KINDS = {
    "record": f"trials/{KEY}/record.json",
    "measurement": f"measurements/{KEY}.json",
    "failure": f"failures/{KEY}.json",
    "pictures": f"evidence/{KEY}.json",
    "data": f"data/{KEY}.safetensors",
    "history": f"trials/{KEY}/history.jsonl",
}
"""What a store holds, by the method that reads it."""


@pytest.fixture
def full(store: Store) -> Store:
    store.keep_trial(KEY, RECORD, FILES)
    store.keep_measurement(KEY, METRICS)
    store.keep_failure(KEY, "it broke")
    store.keep_pictures(KEY, [{"name": "a"}])
    store.keep_data(KEY, safetensors.torch.save({"x": torch.arange(9)}, {"seal": OPEN, "source": "{}"}))
    return store


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Types a command; gives its exit code and what it says."""

    def type_in(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["guardclash", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out.strip(), said.err.strip()

    return type_in


def read(store: Store, kind: str) -> Any:
    fresh = Store(store.folder)
    return getattr(fresh, kind)(KEY), fresh.damaged


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_of_every_file_is_noticed_and_named(full, kind):
    path = full.folder / KINDS[kind]
    whole = path.read_bytes()
    assert read(full, kind)[1] == {}
    draw = random.Random(kind)
    for place in {0, len(whole) - 1, *draw.sample(range(len(whole)), min(200, len(whole)))}:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            found, damaged = read(full, kind)
        except UserError as error:
            assert "newer version" in str(error), "never: a digit of the schema is under the seal as well"
            raise
        assert (not found, list(damaged)) == (True, [KINDS[kind]]), (place, bytes(flipped))
    path.write_bytes(whole)
    assert read(full, kind)[1] == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "damage", [b"", b'{"schema": 2', b"\xff\xfe", b"[1]", b"null", b'{"schema": "one"}', b"[" * 100_000, b"{}"]
)
def test_damage_counts_as_missing_and_is_named(full, kind, damage):
    (full.folder / KINDS[kind]).write_bytes(damage)
    found, damaged = read(full, kind)
    assert (not found, list(damaged)) == (True, [KINDS[kind]])


def test_what_is_under_a_seal_may_still_be_of_no_use(full):
    """A store may come from anyone: whoever can write can seal."""
    for kind, name in KINDS.items():
        if name.endswith(".json"):
            full.keep_sealed(name, {"schema": SCHEMA, "error": 5, "metrics": [], "pictures": "x", "seed": None})
            found, damaged = read(full, kind)
            assert (found, list(damaged)) == (None, [name])
            assert "it has no " in damaged[name]


def test_files_of_before_there_were_checksums_are_read(store):
    for name, content in {
        f"trials/{KEY}/record.json": {**RECORD, "schema": 1},
        f"measurements/{KEY}.json": {**METRICS, "schema": 1},
    }.items():
        store.keep_json(name, content)
    (store.folder / "trials" / KEY / "history.jsonl").write_bytes(FILES["history.jsonl"])
    (store.folder / "data").mkdir()
    (store.folder / KINDS["data"]).write_bytes(safetensors.torch.save({"x": torch.arange(9)}, {"source": "{}"}))
    assert store.record(KEY)["seconds"] == 1.0
    assert store.losses(KEY) == {"task": [0.5]}
    assert store.measurement(KEY)["metrics"] == {"accuracy": 0.5}
    assert store.data(KEY) is not None
    assert store.damaged == {}


def test_what_was_damaged_is_made_anew_and_forgotten(full):
    for name in KINDS.values():
        (full.folder / name).write_bytes(b"damaged")
    for kind in KINDS:
        assert not getattr(full, kind)(KEY)
    assert full.trial(KEY) is None
    assert len(full.damaged) == len(KINDS) - 1, "a history is looked up in its record"
    full.keep_trial(KEY, RECORD, {**FILES, "weights.safetensors": b"anew"})
    full.keep_measurement(KEY, METRICS)
    full.keep_failure(KEY, "again")
    full.keep_pictures(KEY, [])
    full.keep_data(KEY, safetensors.torch.save({"x": torch.arange(9)}, {"seal": OPEN, "source": "{}"}))
    for kind in KINDS:
        getattr(full, kind)(KEY)
    assert full.damaged == {}
    assert full.part(KEY, "weights.safetensors") == b"anew"


def test_inspection_finds_all_damage_and_takes_it_away(full, said):
    assert said("store", "check", "--store", full.folder) == (0, "7 files checked, 0 damaged", "")
    names = [*KINDS.values(), f"trials/{KEY}/weights.safetensors"]
    for name in names[1:]:  # a damaged record hides what it lists
        path = full.folder / name
        path.write_bytes(path.read_bytes()[:-1])
    found = inspected(full).damaged
    assert set(found) == set(names[1:])
    code, out, _ = said("store", "check", "--store", full.folder)
    assert code == 1
    assert all(f"damaged: {full.folder / name}: {why}" in out.splitlines() for name, why in found.items())
    assert said("store", "check", "--store", full.folder, "--repair")[0] == 0
    assert said("store", "check", "--store", full.folder) == (0, "0 files checked, 0 damaged", "")
    code, _, err = said("store", "check", "--store", full.folder / "none")
    assert code == 2 and "no such folder" in err


def test_an_error_of_any_length_and_letters_is_kept_in_part(store):
    store.keep_failure(KEY, "first " + "x" * 5_000_000 + " \ud800 last")
    error = store.failure(KEY)["error"]
    assert error.startswith("first x") and error.endswith(r" \ud800 last")
    assert len(error) < 11_000 and "letters left out" in error


def test_a_newer_schema_is_refused(store):
    store.keep_json(KINDS["record"], {"schema": SCHEMA + 1})
    with pytest.raises(UserError, match="newer version") as caught:
        store.record(KEY)
    assert str(store.folder / KINDS["record"]) in str(caught.value)
    assert "Update guardclash" in str(caught.value)


@pytest.mark.parametrize("name", ["../../../mine/thesis.tex", "/etc/passwd", "..", ".", "", "a/b"])
def test_a_record_that_lists_files_elsewhere_reads_and_removes_none_of_them(store, tmp_path, name):
    mine = tmp_path / "mine" / "thesis.tex"
    mine.parent.mkdir()
    mine.write_text("chapter 1")
    store.keep_sealed(KINDS["record"], {**RECORD, "files": {name: "0" * 64}})
    found = inspected(store)
    assert found.damaged == {KINDS["record"]: "it lists files elsewhere"}
    repaired(store, found)
    assert mine.read_text() == "chapter 1"
    assert store.trial_keys() == set()


@pytest.mark.parametrize("files", [5, [], "x"])
def test_a_record_whose_files_are_no_table_is_damaged(store, files):
    store.keep_sealed(KINDS["record"], {**RECORD, "files": files})
    assert inspected(store).damaged == {KINDS["record"]: "it has no files"}


def test_results_files(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(UserError, match="no results yet") as caught:
        read_results(path)
    assert str(path) in str(caught.value)
    assert "guardclash run" in str(caught.value)
    for content in ({"study": "s"}, {"cells": []}, {}):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match="not a results file") as caught:
            read_results(path)
        assert str(path) in str(caught.value)
    path.write_text(json.dumps({"study": "s", "cells": []}))
    assert read_results(path).environments == ()


@pytest.mark.parametrize("cells", [5, [5], [{}], [{"key": "x"}]])
def test_a_results_file_with_damaged_cells_is_refused_when_it_is_read(tmp_path, cells):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema": SCHEMA, "study": "s", "cells": cells}))
    with pytest.raises(UserError) as caught:
        read_results(path)
    assert str(path) in str(caught.value)


def test_sweeping_removes_what_old_runs_left_and_nothing_else(store):
    store.keep_trial(KEY, RECORD, FILES)
    work = store.folder / "work"
    ours = ["0" * 32, "1" * 32, f"{KEY}.claim.json", "new.progress.json", "study-7.run.json", f"{KEY}.measuring.json"]
    for name in ours[:2]:
        (work / name).mkdir()
        (work / name / "weights.safetensors").write_bytes(b"")
    for name in ours[2:]:
        (work / name).write_text("")
    (work / "thesis").mkdir()
    (work / "thesis" / "chapter1.tex").write_text("a user may have a folder of this name")
    (work / "notes.json").write_text("")
    yesterday = time.time() - 90_000
    for path in work.iterdir():
        if path.name not in ("1" * 32, "new.progress.json"):
            os.utime(path, (yesterday, yesterday))
    os.utime(store.trial(KEY), (yesterday, yesterday))
    store.sweep_work()
    assert sorted(path.name for path in work.iterdir()) == ["1" * 32, "new.progress.json", "notes.json", "thesis"]
    assert store.record(KEY) == LISTED
    store.sweep_work(older_than_s=-1)
    assert sorted(path.name for path in work.iterdir()) == ["notes.json", "thesis"]
    assert (work / "thesis" / "chapter1.tex").is_file()


def test_losses_by_epoch_and_none_where_none_were_kept(tmp_path):
    store = Store(tmp_path)
    lines = b'{"epoch": 1, "task": 2.345678, "trigger": 1.0}\n{"epoch": 2, "task": 0.00012344, "trigger": 0.5}\n'
    store.keep_trial("a-0", RECORD, {"history.jsonl": lines})
    assert store.losses("a-0") == {"task": [2.346, 0.0001234], "trigger": [1.0, 0.5]}
    assert store.losses("b-0") == {}
