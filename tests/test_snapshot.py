"""Whoever reports shows what the store holds now: of this very study, whatever other runs have left there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from guardclash.records.results import Results
from guardclash.studies import collect, snapshot
from guardclash.studies.engines import Inline
from guardclash.studies.held import held
from guardclash.studies.jobs import Site
from guardclash.studies.run import run_study
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study

STUDY = """
replicates = { alone = 1, together = 1 }
[[recipes]]
dataset = "digits"
scale = "smoke"
norm = "group"
[[combinations]]
mechanisms = MECHANISMS
"""


def written(folder: Path, mechanisms: str) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY.replace("MECHANISMS", mechanisms))
    return read_study(folder / "study.toml")


def measured(results: Results | None) -> int:
    assert results is not None
    return sum(bool(trial.measurements) for cell in results.cells.values() for trial in cell.trials)


def test_two_studies_of_one_name_share_no_file(site: Site, tmp_path):
    one = written(tmp_path / "a", '["wm", "dpsgd-control"]')
    other = written(tmp_path / "b", '["wm", "raddata"]')
    assert one.name == other.name
    run_study(one, site, Inline())
    run_study(other, site, Inline())
    assert measured(held(one, site.store.folder)) == 4
    assert measured(held(other, site.store.folder)) == 4
    files = sorted(path.name for path in (site.store.folder / "studies").iterdir() if ".of." not in path.name)
    assert len(files) == 2 and files[0].startswith("study-") and files[1] == "study.json"
    third = written(tmp_path / "c", '["dpsgd-control"]')
    found = held(third, site.store.folder)
    assert measured(found) == 2, "all of it is in the store, though it was never run"


def test_a_study_that_grows_keeps_its_file(site: Site, tmp_path):
    run_study(written(tmp_path, '["dpsgd-control"]'), site, Inline())
    grown = written(tmp_path, '["wm", "dpsgd-control"]')
    assert measured(held(grown, site.store.folder)) == 2
    run_study(grown, site, Inline())
    assert sorted(path.name for path in (site.store.folder / "studies").iterdir()) == ["study.json", "study.of.json"]


def test_a_snapshot_that_is_older_than_the_store_is_not_believed(site: Site, tmp_path, monkeypatch):
    """As after a kill: the last results were kept when one of several trials was finished."""
    wanted = written(tmp_path, '["wm", "dpsgd-control"]')
    run_study(replace(wanted, combinations=(wanted.combinations[0][1:],)), site, Inline())
    assert measured(held(wanted, site.store.folder)) == 2
    run_study(wanted, site, Inline())
    folder = site.store.folder
    assert snapshot.fresh(wanted, site.store) is not None
    monkeypatch.setattr(collect, "collect", lambda *arguments: pytest.fail("a fresh one is enough"))
    assert measured(held(wanted, folder)) == 4
    monkeypatch.undo()
    gone = next((folder / "measurements").iterdir())
    gone.unlink()
    assert snapshot.fresh(wanted, site.store) is None
    found = held(wanted, folder)
    values = [one for cell in found.cells.values() for trial in cell.trials for one in trial.measurements.values()]
    assert len(values) == len(list((folder / "measurements").iterdir()))


@pytest.mark.parametrize("name", ["study.json", "study.of.json"])
def test_a_damaged_snapshot_is_made_anew(site: Site, tmp_path, name):
    wanted = written(tmp_path, '["dpsgd-control"]')
    run_study(wanted, site, Inline())
    path = site.store.folder / "studies" / name
    whole = path.read_text()
    path.write_text(
        whole.replace("0.", "9.", 1) if name == "study.json" else whole.replace('"schema": 2', '"schema": 3')
    )
    assert snapshot.fresh(wanted, site.store) is None
    said: list[str] = []
    assert measured(held(wanted, site.store.folder, say=said.append)) == 2
    assert len(said) == 1 and f"studies/{name}" in said[0]
    assert snapshot.fresh(wanted, site.store) is not None


def test_damage_is_told_and_left_out(site: Site, tmp_path):
    wanted = written(tmp_path, '["dpsgd-control"]')
    run_study(wanted, site, Inline())
    path = next(path for path in (site.store.folder / "measurements").iterdir())
    path.write_bytes(path.read_bytes().replace(b"0.", b"9.", 1))
    (site.store.folder / "studies" / "study.json").unlink()
    said: list[str] = []
    found = held(wanted, site.store.folder, say=said.append)
    assert measured(found) == 1
    assert said == [f"note: damaged and left out: {path}: its checksum does not fit; the next run makes it anew"]
    run_study(wanted, site, Inline())
    said.clear()
    assert measured(held(wanted, site.store.folder, say=said.append)) == 2
    assert said == []


def test_where_the_store_cannot_be_read_anew_the_last_results_are_told_as_such(site: Site, tmp_path, monkeypatch):
    wanted = written(tmp_path, '["dpsgd-control"]')
    run_study(wanted, site, Inline())
    (site.store.folder / "trials" / "another-0").mkdir()
    from guardclash.errors import UserError

    def gone(*arguments: object) -> None:
        raise UserError("the data are gone")

    monkeypatch.setattr("guardclash.studies.composing.compose_study", gone)
    said: list[str] = []
    assert measured(held(wanted, site.store.folder, say=said.append)) == 2
    assert "these are the results of " in said[0] and "the data are gone" in said[0]
    shutil.rmtree(site.store.folder / "studies")
    with pytest.raises(UserError, match="data are gone"):
        held(wanted, site.store.folder)
