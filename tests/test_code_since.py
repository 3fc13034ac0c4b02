"""Code that changed since results were made is told, by the class and the number of results."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from guardclash.studies import snapshot
from guardclash.studies.engines import Inline
from guardclash.studies.held import held
from guardclash.studies.jobs import Site
from guardclash.studies.run import run_study
from guardclash.watching.progress import Progress
from running import edited, report, study


def test_code_that_changed_without_a_version_is_told(site: Site, monkeypatch: pytest.MonkeyPatch):
    wanted = study(["wm", "dpsgd-control"], seeds=1)
    results = run_study(wanted, site, Inline())
    assert results.changed == (), "nothing has changed"
    trials = sorted(site.store.folder.glob("trials/*/record.json"))
    assert len(trials) == 4
    for path in trials:
        edited(path, codes__SGD="of before")
    (one,) = [path for path in site.store.folder.glob("measurements/*.json") if "wm_accuracy" in path.read_text()][:1]
    edited(one, codes__Watermark="of before")

    monkeypatch.setattr(snapshot, "_code", lambda: "of now")  # as when the package is edited
    said: list[str] = []
    found = held(wanted, site.store.folder, say=said.append)
    changed = "another code than today's made results of SGD (4 results), Watermark (1 result)"
    assert said == [f"note: {changed}; if it means something else now, raise the version of the class"]
    assert changed[1:] in " ".join(report(wanted, found).split())
    more, screen = study(["wm", "dpsgd-control"], seeds=2), io.StringIO()
    with Progress(Console(file=screen, width=300), 1, more, site, "strict") as progress:
        run_study(more, site, Inline(), progress)
    assert f"note: {changed}" in screen.getvalue()
    monkeypatch.setattr(snapshot, "_code", lambda: "of later")
    for path in trials:
        edited(path, codes=None)
    edited(one, codes=None)
    assert held(wanted, site.store.folder).changed == (), "of what was made before codes were noted nothing is known"
