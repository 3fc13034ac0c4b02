"""The code of docs/own-model.md, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from guardclash.studies.study_schema import TaskEntry
from guardclash.tasks.own import FIXED
from guardclash.tasks.recipe import Recipe
from test_cli import Guardclash, guardclash  # noqa: F401  (a fixture)

PAGE = (Path(__file__).parents[1] / "docs" / "own-model.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for one, text in found if one == kind]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the page has saved, with its images."""
    images, nets, _ = blocks("python")
    (tmp_path / "make_images.py").write_text(images)
    (tmp_path / "nets.py").write_text(nets)
    (tmp_path / "study.toml").write_text(blocks("toml")[0])
    subprocess.run([sys.executable, "make_images.py"], cwd=tmp_path, check=True, timeout=120)
    return tmp_path


@pytest.mark.slow
def test_from_a_folder_to_a_page(guardclash: Guardclash, folder: Path):  # noqa: F811
    (commands,) = [block for block in blocks("") if "guardclash run" in block]
    lines = [line.partition("#")[0].split() for line in commands.splitlines()]
    assert [line[1] for line in lines] == ["check", "plan", "run", "report"]
    study = folder / "study.toml"
    text = study.read_text().replace("alone = 5, together = 10", "alone = 1, together = 1")
    study.write_text(text.replace('\ndataset = "mine"', '\ndataset = "mine"\nscale = "smoke"'))
    for line in lines:
        said = guardclash(*line[1:])
        assert said.code == 0, said.err
    page = (folder / "page.html").read_text()
    assert "Sequential by build of nets.py" in page and "one of 5 training examples" in page


def test_the_same_in_python(folder: Path):
    (folder / "own.py").write_text(blocks("python")[2])
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    ran = subprocess.run(
        [sys.executable, "own.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("undecided") == 2


def test_every_key_is_on_the_page():
    table = PAGE.split("## All keys")[1].split("\n## ")[0]
    keys = set(TaskEntry.model_fields) - {"training"} | {field.name for field in fields(Recipe)} - set(FIXED)
    assert not {key for key in keys if f"`{key}`" not in table}
