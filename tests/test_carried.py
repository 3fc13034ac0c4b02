"""Results that are carried from one store to another, without weights."""

from __future__ import annotations

import io
import lzma
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from guardclash.errors import UserError
from guardclash.studies.carried import add, packed
from guardclash.studies.engines import Inline
from guardclash.studies.inspection import inspected
from guardclash.studies.seal import sealed_json
from guardclash.studies.store import Store
from running import Trained, ran, study, values

RADDATA = {"name": "raddata", "radius": 60, "iterations": 2}
WANTED = study([RADDATA, "dpsgd-control"], seeds=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    from guardclash.studies.jobs import Site

    folder = tmp_path_factory.mktemp("home")
    site = Site(Store(folder / "runs"), folder / "data")
    return site, ran(WANTED, site, Inline())


@pytest.fixture
def file(home, tmp_path):
    (tmp_path / "results.tar.xz").write_bytes(packed(home[0].store))
    return tmp_path / "results.tar.xz"


@pytest.fixture
def away(home, tmp_path):
    return replace(home[0], store=Store(tmp_path / "away"))


def measured(content):
    return {names: values(content, list(names)) for names in ((), ("raddata",), ("raddata", "dpsgd-control"))}


def test_what_was_carried_is_not_trained_again(home, file, away, trained: Trained):
    found = add(file, away.store)
    assert found == (len(home[0].store.trial_keys()), len(home[0].store.measurement_keys()))
    content = ran(WANTED, away, Inline())
    assert trained.since() == []
    assert measured(content) == measured(home[1])
    assert add(file, away.store) == (0, 0)


def test_it_holds_no_weights_and_no_images(home, file, away):
    add(file, away.store)
    assert not list(away.store.folder.rglob("*.safetensors")) and list(home[0].store.folder.rglob("*.safetensors"))
    assert inspected(away.store).damaged == {}, "what never was there is not damaged"


def test_who_needs_the_weights_trains_once_more_and_finds_the_same(home, file, away, trained: Trained):
    add(file, away.store)
    more = replace(WANTED, measures=study(["wm"], measures=["robustness"]).measures)
    content = ran(more, away, Inline())
    again = trained.since()
    assert (
        len(again) == len(set(again)) == 9
    )  # two seeds of four cells, and the network that marks images under the second
    now = measured(content)
    for names, by_seed in measured(home[1]).items():
        assert all(now[names][seed].items() > found.items() for seed, found in by_seed.items())
    ran(more, away, Inline())
    assert trained.since() == [], "they are kept from then on"
    assert inspected(away.store).damaged == {}
    there = {key: home[0].store.part(key, "weights.safetensors") for key in home[0].store.trial_keys()}
    assert {key: away.store.part(key, "weights.safetensors") for key in there} == there


def test_equal_stores_give_equal_bytes_also_after_a_journey(home, file, away):
    assert packed(home[0].store) == file.read_bytes() == packed(Store(home[0].store.folder))
    add(file, away.store)
    assert packed(away.store) == file.read_bytes()


def test_what_is_there_stays(home, file, away):
    add(file, away.store)
    key = min(away.store.measurement_keys())
    own = {**(away.store.measurement(key) or {}), "warnings": ["mine"]}
    away.store.keep_measurement(key, own)
    add(file, away.store)
    assert (away.store.measurement(key) or {})["warnings"] == ["mine"]


def test_damaged_results_are_not_carried(home, away, tmp_path):
    import shutil

    copy = Store(tmp_path / "copy")
    shutil.copytree(home[0].store.folder, copy.folder)
    key = min(copy.measurement_keys())
    (copy.folder / f"measurements/{key}.json").write_bytes(b"{}")
    (tmp_path / "some.tar.xz").write_bytes(packed(copy))
    assert list(copy.damaged) == [f"measurements/{key}.json"]
    add(tmp_path / "some.tar.xz", away.store)
    assert key not in away.store.measurement_keys()


# Files of strangers


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(path.read_bytes()))) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive.getmembers()}


def repacked(path: Path, files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(text) if kind == tarfile.REGTYPE else 0, kind, "x"
            archive.addfile(member, io.BytesIO(text))
    path.write_bytes(lzma.compress(content.getvalue()))
    return path


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "trials/../../x-0/record.json", "work/x-0.json", "trials/a-0/weights.safetensors", "a"]
)
def test_no_file_is_written_anywhere_else(file, away, name, tmp_path):
    files = unpacked(file)
    with pytest.raises(UserError, match="nothing of a store is called so"):
        add(repacked(file, {**files, name: b"x"}), away.store)
    assert not away.store.folder.exists(), "then nothing is kept"


def test_every_changed_file_is_noticed(file, away):
    files = unpacked(file)
    for name, text in files.items():
        changed = bytearray(text)
        place = text.index(b":")
        changed[place] ^= 1
        with pytest.raises(UserError, match="these are no packed results"):
            add(repacked(file.with_name("changed"), {**files, name: bytes(changed)}), away.store)
    assert not away.store.folder.exists()


def test_a_record_of_another_trial_is_noticed(file, away):
    files = unpacked(file)
    one, other = sorted(name for name in files if name.endswith("record.json"))[:2]
    with pytest.raises(UserError, match=r"it is that of|checksum"):
        add(repacked(file, {**files, one: files[other]}), away.store)


def test_a_record_that_lists_files_elsewhere_is_refused(file, away):
    files = unpacked(file)
    name = next(name for name in files if name.endswith("record.json"))
    import json

    record = json.loads(files[name])
    del record["seal"]
    record["files"]["../../x"] = "0" * 64
    with pytest.raises(UserError, match="lists files"):
        add(repacked(file, {**files, name: sealed_json(record)}), away.store)


@pytest.mark.parametrize("content", [b"", b"x", lzma.compress(b"x"), lzma.compress(b"")[:-3]])
def test_what_is_no_such_file_is_told(file, away, content):
    file.write_bytes(content)
    with pytest.raises(UserError, match="no packed results"):
        add(file, away.store)


def test_links_are_refused(file, away):
    with pytest.raises(UserError, match="no file"):
        add(repacked(file, {"measurements/a-0.json": b""}, tarfile.SYMTYPE), away.store)


def test_a_missing_file_is_told(away, tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        add(tmp_path / "none", away.store)


def test_the_commands_carry_results(home, tmp_path):
    from typer.testing import CliRunner

    from guardclash.cli.app import app

    file, store = tmp_path / "results.tar.xz", tmp_path / "other"
    ran_pack = CliRunner().invoke(app, ["store", "pack", str(file), "--store", str(home[0].store.folder)])
    assert ran_pack.exit_code == 0 and f"{file.stat().st_size:,} bytes" in ran_pack.output.replace("\n", "")
    ran_add = CliRunner().invoke(app, ["store", "add", str(file), "--store", str(store)])
    assert "9 trainings and 16 measurements are new" in ran_add.output
