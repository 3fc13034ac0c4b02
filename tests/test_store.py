"""The store: results are whole or absent, whatever happens while they are written, and damage is told by name."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from guardclash.errors import UserError
from guardclash.records.file import read_results
from guardclash.studies.store import SCHEMA, Store, read_json

KEY = "0123456789abcdef0123-4"
RECORD = {"schema": SCHEMA, "trial": KEY}
FILES = {"weights.safetensors": b"weights", "history.jsonl": b"", "record.json": json.dumps(RECORD).encode()}


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
    store.keep_trial(KEY, FILES)
    store.keep_measurement("m-4", {"schema": SCHEMA, "metrics": {"accuracy": 0.5}, "title": "φ"})
    folder = store.trial(KEY)
    assert folder is not None
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert store.record(KEY) == RECORD
    assert store.measurement("m-4") == {"schema": SCHEMA, "metrics": {"accuracy": 0.5}, "title": "φ"}
    assert everything_in(store) == ["measurements/m-4.json", *(f"trials/{KEY}/{name}" for name in sorted(FILES))]


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
    store.keep_trial(KEY, FILES)
    assert store.record(KEY) == RECORD


@pytest.mark.parametrize("broken", ["write_bytes", "rename", "mkdir"])
def test_a_full_disk_leaves_no_half_trial(store, monkeypatch, broken):
    with monkeypatch.context() as patch:
        patch.setattr(Path, broken, fail_with(errno.ENOSPC))
        with pytest.raises(UserError, match="No space left on device") as caught:
            store.keep_trial(KEY, FILES)
    assert str(store.folder) in str(caught.value)
    assert "same command" in str(caught.value)
    assert store.trial(KEY) is None
    assert not store.folder.exists() or everything_in(store) == []
    store.keep_trial(KEY, FILES)
    assert store.record(KEY) == RECORD


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
        store.keep_trial(KEY, FILES)
    assert written
    assert everything_in(store) == []
    assert list((store.folder / "work").iterdir()) == []


@pytest.mark.parametrize(("module", "broken"), [(Path, "write_bytes"), (os, "replace")])
def test_a_full_disk_leaves_the_old_json(store, monkeypatch, module, broken):
    store.keep_measurement("m-4", {"value": 1})
    with monkeypatch.context() as patch:
        patch.setattr(module, broken, fail_with(errno.ENOSPC))
        with pytest.raises(UserError, match="No space left"):
            store.keep_measurement("m-4", {"value": 2})
    assert store.measurement("m-4") == {"value": 1}
    assert everything_in(store) == ["measurements/m-4.json"]


def test_an_interruption_while_writing_leaves_nothing(store, monkeypatch):
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.keep_trial(KEY, FILES)
    assert everything_in(store) == []


def test_numbers_that_json_does_not_know_are_not_written(store):
    with pytest.raises(ValueError, match="JSON"):
        store.keep_measurement("m-4", {"metrics": {"accuracy": float("nan")}})
    assert everything_in(store) == []


def test_a_store_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    store = Store(tmp_path / "runs")
    with pytest.raises(UserError, match="cannot be written") as caught:
        store.keep_trial(KEY, FILES)
    assert "runs" in str(caught.value)


def test_a_second_writer_changes_nothing(store):
    store.keep_trial(KEY, FILES)
    store.keep_trial(KEY, {**FILES, "weights.safetensors": b"others"})
    assert (store.trial(KEY) / "weights.safetensors").read_bytes() == b"weights"
    assert list((store.folder / "work").iterdir()) == []


def test_many_writers_of_one_key_leave_one_whole_trial(store):
    start, errors = threading.Barrier(8), []

    def keep(number: int) -> None:
        start.wait()
        try:
            store.keep_trial(KEY, {name: content or bytes([number]) for name, content in FILES.items()})
            store.keep_measurement("m-4", {"value": number})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.record(KEY) == RECORD
    assert store.measurement("m-4")["value"] in range(8)
    assert len(everything_in(store)) == 4
    assert list((store.folder / "work").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b'{"schema": 1', b"\xff\xfe", b"[1]", b"null", b'{"schema": "one"}'])
@pytest.mark.parametrize("kind", ["record", "measurement", "failure"])
def test_damage_is_told_with_the_file(store, kind, damage):
    store.keep_trial(KEY, FILES)
    store.keep_measurement(KEY, {"metrics": {}})
    store.keep_failure(KEY, "")
    name = {"record": f"trials/{KEY}/record.json"}.get(kind, f"{kind}s/{KEY}.json")
    path = store.folder / name
    path.write_bytes(damage)
    with pytest.raises(UserError) as caught:
        getattr(store, kind)(KEY)
    assert str(path) in str(caught.value)
    assert "newer" not in str(caught.value) or b"schema" in damage, "damaged is not newer"


def test_the_mend_for_a_damaged_record_works(store):
    """The message says: remove it, the next run makes it anew. So the next run must be able to."""
    store.keep_trial(KEY, FILES)
    path = store.folder / "trials" / KEY / "record.json"
    path.write_text("{")
    with pytest.raises(UserError, match="Remove it"):
        store.record(KEY)
    path.unlink()
    assert store.trial(KEY) is None
    store.keep_trial(KEY, {**FILES, "weights.safetensors": b"anew"})
    assert store.record(KEY) == RECORD
    assert (store.trial(KEY) / "weights.safetensors").read_bytes() == b"anew"


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(UserError, match="newer version") as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert "Update guardclash" in str(caught.value)


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
    store.keep_trial(KEY, FILES)
    work = store.folder / "work"
    (work / "old").mkdir()
    (work / "old" / "weights.safetensors").write_bytes(b"")
    (work / "old.json").write_text("")
    (work / "new").mkdir()
    (work / "new.progress.json").write_text("")
    yesterday = time.time() - 90_000
    for name in ("old", "old.json"):
        os.utime(work / name, (yesterday, yesterday))
    os.utime(store.trial(KEY), (yesterday, yesterday))
    store.sweep_work()
    assert sorted(path.name for path in work.iterdir()) == ["new", "new.progress.json"]
    assert store.record(KEY) == RECORD
    store.sweep_work(older_than_s=-1)
    assert list(work.iterdir()) == []


def test_losses_by_epoch_and_none_where_none_were_kept(tmp_path):
    store = Store(tmp_path)
    lines = b'{"epoch": 1, "task": 2.345678, "trigger": 1.0}\n{"epoch": 2, "task": 0.00012344, "trigger": 0.5}\n'
    store.keep_trial("a-0", {"history.jsonl": lines, "record.json": b'{"schema": 1}'})
    assert store.losses("a-0") == {"task": [2.346, 0.0001234], "trigger": [1.0, 0.5]}
    assert store.losses("b-0") == {}
