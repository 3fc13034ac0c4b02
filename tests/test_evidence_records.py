"""Pictures of what mechanisms put into the training: made once by a run, kept small, and part of the results."""

from __future__ import annotations

import base64
import io
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from guardclash.data.pictures import PNG, grid, reduced
from guardclash.mechanisms.wm import Watermark
from guardclash.records.cells import Cell, Named
from guardclash.records.file import read_results
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Evidence
from guardclash.reporting.page_parts import pictures as page_pictures
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.evidence import ALL, LARGEST, keep_evidence, kept_pictures
from guardclash.studies.jobs import Site
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from
from running import ran

ROOT = Path(__file__).parents[1]
TINY = {"dataset": "digits", "scale": "smoke", "examples": 64, "test_examples": 32, "epochs": 1}
HEAD = """
from __future__ import annotations
import os
from dataclasses import dataclass
from typing import ClassVar
from guardclash.data.pictures import Picture, grid
from guardclash.mechanism import Mechanism
import numpy as np

"""
DRAWS = '''
@dataclass(frozen=True)
class Draws(Mechanism):
    """It draws."""
    name: ClassVar[str] = "draws"
    concern: ClassVar[str] = "nothing"

    def evidence(self, plan, context):
        %s
'''


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def written(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


# Small pictures


@settings(deadline=None, max_examples=25)
@given(
    sheet=st.tuples(st.integers(1, 2), st.integers(1, 3), st.sampled_from([1, 3])),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    enlarge=st.integers(1, 5),
)
def test_what_a_screen_can_enlarge_is_kept_without_it(sheet, size, enlarge):
    images = np.random.default_rng(0).random((*sheet, *size), np.float32)
    whole = grid(images, enlarge=enlarge)
    small = reduced(whole, 10_000_000)
    assert small is not None
    assert small.png.startswith(PNG)
    shown = Image.open(io.BytesIO(small.png))
    times = small.width // shown.width
    assert times % enlarge == 0
    assert np.array_equal(pixels(small.png).repeat(times, 0).repeat(times, 1), pixels(whole)), "no pixel is lost"
    assert (small.width, small.colours) == (pixels(whole).shape[1], None)
    assert reduced(whole, 10_000_000) == small


def test_a_picture_that_is_not_enlarged_keeps_its_bytes():
    content = written(noise(31, 40))
    assert reduced(content, len(content)) == page_small(content)


def page_small(content: bytes) -> Any:
    small = reduced(content, 10**9)
    assert small is not None
    assert small.png == content
    return small


def test_a_large_picture_loses_colours_first_and_is_left_out_at_last():
    content = written(noise(100, 100))
    small = reduced(content, 11_500)
    assert small is not None
    assert len(small.png) <= 11_500 < len(content)
    assert small.colours in (256, 128, 64)
    assert len(np.unique(pixels(small.png).reshape(-1, 3), axis=0)) <= small.colours
    assert pixels(small.png).shape == (100, 100, 3)
    assert reduced(content, 1_000) is None


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg onload='alert(1)'/>", PNG[:4]])
def test_what_is_no_png_is_refused(content):
    with pytest.raises(ValueError, match="PNG"):
        reduced(content, 1_000)


def test_the_page_knows_the_same_signature_without_an_image_library():
    assert page_pictures.PNG == PNG


# Runs


def study(*combinations: list[Any], seeds: int = 1, **keys: Any) -> Study:
    wanted = [{"mechanisms": mechanisms} for mechanisms in combinations]
    replicates = {"alone": seeds, "together": seeds}
    return study_from({"recipes": [TINY], "combinations": wanted, "replicates": replicates, **keys})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Store(tmp_path / "runs"), tmp_path / "data")


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A mechanism whose evidence() has this body; forgotten afterwards."""
    names: list[str] = []

    def load(body: str) -> Path:
        names.append(f"plugin_{uuid.uuid4().hex}")
        path = tmp_path / f"{names[-1]}.py"
        path.write_text(HEAD + DRAWS % body)
        return path

    yield load
    for loaded in [loaded for loaded in sys.modules if any(name in loaded for name in names)]:
        del sys.modules[loaded]


def cells_with(content: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Pictures by the names of a cell's mechanisms."""
    cells = [cell for cell in content["cells"] if "evidence" in cell]
    return {"+".join(named["name"] for named in cell["combination"]): cell["evidence"] for cell in cells}


def test_a_run_keeps_the_pictures_of_mechanisms_alone_and_makes_them_once(site, monkeypatch):
    wanted = study(["wm", "dpsgd"], seeds=2, first_seed=3)
    content = ran(wanted, site, Inline())
    found = cells_with(content)
    assert list(found) == ["wm"], "what draws nothing has no evidence, and combinations have none of their own"
    (picture,) = found["wm"]
    assert set(picture) == {"name", "caption", "png", "width"}
    assert "Trigger images" in picture["caption"]
    png = base64.b64decode(picture["png"], validate=True)
    ((path, whole),) = keep_evidence(wanted, site, site.store.folder / "pictures", seed=3)
    times = picture["width"] // pixels(png).shape[1]
    assert np.array_equal(pixels(png).repeat(times, 0).repeat(times, 1), pixels(whole.png)), "those of the first seed"
    assert path.read_bytes() == whole.png
    (kept,) = (site.store.folder / "evidence").iterdir()
    assert kept.name.endswith("-3.json")
    before = kept.stat().st_mtime_ns

    def never(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(Watermark, "evidence", never)
    assert cells_with(ran(wanted, site, Inline())) == found
    assert kept.stat().st_mtime_ns == before
    read = read_results(site.store.folder / "studies" / f"{wanted.name}.json")
    alone = Cell(wanted.recipes[0], (Named("wm"),), 2)
    assert read.evidence(alone) == tuple(Evidence(**one) for one in found["wm"])
    assert read.evidence(Cell(wanted.recipes[0], (), 2)) == ()


def test_a_damaged_file_of_pictures_is_made_anew(site):
    wanted = study(["wm"])
    found = cells_with(ran(wanted, site, Inline()))
    (kept,) = (site.store.folder / "evidence").iterdir()
    for damage in ('{"schema": 1', '{"schema": 1}', "[]", '{"schema": 1, "pictures": 3}'):
        kept.write_text(damage)
        (alone,) = [entry for entry in compose_study(wanted) if entry.combination]
        assert kept_pictures(alone, site.store) == [], damage
        with pytest.warns(UserWarning, match="damaged, made anew: evidence/"):
            assert cells_with(ran(wanted, site, Inline())) == found


def test_what_a_training_is_missing_for_has_no_pictures_yet(site, monkeypatch):
    class Interrupted(Inline):
        def submit(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    wanted = study(["wm"])
    with pytest.raises(KeyboardInterrupt):
        ran(wanted, site, Interrupted())
    assert not (site.store.folder / "evidence").exists()
    ran(wanted, site, Inline(), datasets=["mnist"])
    assert not (site.store.folder / "evidence").exists()
    assert not cells_with(json.loads((site.store.folder / "studies" / f"{wanted.name}.json").read_text()))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise LookupError('gone')", "LookupError: gone"),
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("return 3", "TypeError"),
        ("return (Picture('a', 'b', b'GIF89a'),)", "no PNG"),
        (r"return (Picture('a', 'b', b'\x89PNG\r\n\x1a\n nothing'),)", "OSError"),
        ("return (Picture(3 + 4j, 'b', grid(np.zeros((1, 1, 1, 4, 4), np.float32))),)", "TypeError"),
    ],
)
def test_a_plugin_that_cannot_draw_costs_its_picture_only(site, plugin, body, said):
    wanted = study(["draws", "wm"], plugins=[str(plugin(body))])
    with pytest.warns(UserWarning, match=f"no pictures of what draws put in.*{said}"):
        content = ran(wanted, site, Inline())
    assert list(cells_with(content)) == ["wm"]
    assert all(trial["measurements"] for cell in content["cells"] for trial in cell["trials"])


def test_a_plugin_that_draws_nothing_is_asked_once(site, plugin):
    path = plugin("assert not os.path.exists(context.data_folder / 'asked'); return ()")
    wanted = study(["draws"], plugins=[str(path)])
    assert cells_with(ran(wanted, site, Inline())) == {}
    site.data_folder.mkdir()
    (site.data_folder / "asked").touch()
    assert cells_with(ran(wanted, site, Inline())) == {}


def test_pictures_too_large_for_a_report_are_named(site, plugin):
    images = "np.random.default_rng(n).random((1, 1, 3, 400, 400), np.float32)"
    small = "np.random.default_rng(n).random((1, 1, 1, 240, 240), np.float32)"
    body = f"return tuple(Picture(str(n), 'c', grid({small} if n else {images}, gap=1, enlarge=1)) for n in range(7))"
    wanted = study(["draws"], plugins=[str(plugin(body))])
    found = cells_with(ran(wanted, site, Inline()))["draws"]
    assert [one["name"] for one in found] == list("0123456")
    assert set(found[0]) == {"name", "caption", "bytes"}
    assert found[0]["bytes"] > 400_000
    sizes = [len(base64.b64decode(one["png"])) for one in found if "png" in one]
    assert max(sizes) <= LARGEST
    assert sum(sizes) <= ALL
    assert "png" not in found[-1], "all pictures of a mechanism together are limited as well"


def test_a_picture_in_fewer_colours_says_so(site, plugin):
    body = (
        "return (Picture('a', 'All of it.', grid(np.random.default_rng(0).random((1, 1, 3, 200, 200), np.float32))),)"
    )
    (found,) = cells_with(ran(study(["draws"], plugins=[str(plugin(body))]), site, Inline()))["draws"]
    assert found["caption"] in [f"All of it. Reduced to {colours} colours." for colours in (256, 128, 64)]
    assert found["width"] == 3 * 204


def test_suspects_have_no_pictures_of_their_own(site):
    """A thief's watermark is a mechanism alone on a model, but not a cell of the study's mechanisms."""
    suspects = [{"kind": "fine-tuning", "mechanisms": ["advtr"]}]
    wanted = study(["wm", "trades"], suspects=suspects)
    ((_, picture),) = keep_evidence(wanted, site, site.store.folder / "pictures", 0)
    assert picture.name == "triggers"


def test_records_of_older_versions_have_no_pictures():
    committed = read_results(ROOT / "results" / "wm-dpsgd-mnist" / "results.json")
    cells = [
        {name: value for name, value in cell.items() if name != "evidence"} for cell in to_plain(committed)["cells"]
    ]
    old = results_from({**to_plain(committed), "cells": cells})
    recipe = Named("mnist", (("scale", "reduced"),))
    assert old.evidence(Cell(recipe, (Named("wm"),), 5)) == ()
    assert list(old.losses(Cell(recipe, (), 5), range(5))) == []


def test_a_package_without_metadata_costs_no_training(monkeypatch):
    """As where the source is run without being installed."""
    from guardclash.studies import environment

    def version(package: str) -> str:
        raise environment.PackageNotFoundError(package)

    monkeypatch.setattr(environment, "version", version)
    assert environment.environment.__wrapped__()["guardclash"] == "unknown"
