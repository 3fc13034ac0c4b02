"""Code, studies and commands of README and docs: all of them parse, and what is quick is run."""

from __future__ import annotations

import ast
import doctest
import importlib
import math
import os
import re
import shlex
import sys
import tomllib
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from typer.main import get_command
from typer.testing import CliRunner

import guardclash
from committed import ROOT
from guardclash import data_folder
from guardclash.cli.app import app
from guardclash.studies.composing import compose_study
from guardclash.studies.study_file import study_from

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "results/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)
BASE = {
    "recipes": [{"dataset": "digits", "scale": "smoke"}],
    "combinations": [{"mechanisms": ["wm"]}],
    "replicates": {"alone": 1, "together": 1},
}
READING = {"report", "compare", "figure", "list", "atlas"}


def parts(page: str) -> tuple[list[tuple[str, str]], str]:
    """The code blocks of a page with their languages, and the prose between them."""
    found: list[tuple[str, list[str]]] = []
    prose, inside = [], False
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
            if inside:
                found.append((line[3:].strip(), []))
        else:
            (found[-1][1] if inside else prose).append(line)
    assert not inside, f"{page}: a block has no end"
    return [(language, "\n".join(lines) + "\n") for language, lines in found], "\n".join(prose)


def blocks(language: str) -> list[Any]:
    return [
        pytest.param(page, block, id=f"{page}-{number}")
        for page in PAGES
        for number, (own, block) in enumerate(parts(page)[0])
        if own == language
    ]


def commands() -> list[str]:
    """Every whole command; what stands for something, such as STUDY, is none."""
    found = []
    for page in PAGES:
        code, prose = parts(page)
        lines = [line for language, block in code if not language for line in block.splitlines()]
        inline = re.findall(r"`(guardclash [^`]+)`", prose)
        for line in (*lines, *(" ".join(one.split()) for one in inline)):
            command = line.partition(" #")[0].strip()
            if command.startswith("guardclash ") and not re.search(r"\b[A-Z]{2,}\b|[\[|…]|\.\.\.", command):
                found.append(command)
    return sorted(set(found))


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_code_parses_and_imports_what_is_there(page, code):
    if code.lstrip().startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(code, {}, page, page, 0)
        assert doctest.DocTestRunner().run(test).failed == 0
        return
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "guardclash":
            module = importlib.import_module(node.module)
            assert not [one.name for one in node.names if not hasattr(module, one.name)]


@pytest.mark.parametrize(("page", "code"), [one for one in blocks("python") if one.values[1].startswith('"""')])
def test_files_of_plugins_can_be_imported(page, code, monkeypatch):
    module = ModuleType("of_the_docs")
    monkeypatch.setitem(sys.modules, "of_the_docs", module)  # where dataclasses look
    exec(compile(code, page, "exec"), vars(module))
    own = [one for one in vars(module).values() if getattr(one, "__module__", "") == "of_the_docs"]
    assert own or "datasets" in vars(module) or "tasks" in vars(module)


BESIDE = {"plugins", "tasks", "project"}
"""Keys of studies that name files beside them: those of docs/own-model.md are run by tests/test_own_page.py."""
WHOLE = [one for one in blocks("toml") if not tomllib.loads(one.values[1]).keys() & BESIDE]


def test_most_studies_name_no_file_beside_them():
    assert len(WHOLE) > 20
    assert len(blocks("toml")) - len(WHOLE) <= 8


@pytest.mark.parametrize(("page", "text"), WHOLE)
def test_studies_can_be_composed(page, text):
    table = tomllib.loads(text)
    recipes = table.pop("recipes", [])
    # Their own recipes are read, and the rest composed on data that need no download.
    own = {"recipes": [{**BASE["recipes"][0], **one} for one in recipes]} if recipes else {}
    assert study_from({**BASE, **table, **own}).cells()
    foreign = [one for one in table.get("suspects", []) if one["kind"] == "foreign"]  # weights that are not at hand
    left = [one for one in table.get("suspects", []) if one not in foreign]
    quick = study_from({**BASE, **table, **({"suspects": left} if foreign else {})})
    assert all(cell.plan or cell.clash for cell in compose_study(quick, data_folder()))


def test_there_are_commands():
    assert len(commands()) > 40


@pytest.mark.parametrize("command", commands())
def test_a_command_is_one(command):
    words = shlex.split(command)[1:]
    if words[0].startswith("-"):
        assert CliRunner().invoke(app, words).exit_code == 0
        return
    group = get_command(app)
    found = group.get_command(None, words[0])
    assert found is not None, words[0]
    words = words[1:]
    while hasattr(found, "commands"):
        found, words = found.commands[words[0]], words[1:]
    # It refuses what it has no option for; prose names commands without what they are about.
    whole = any("." in one or "/" in one for one in words)
    found.make_context(command, [one for one in words if one != "-h"], resilient_parsing=not whole)
    for word in words:
        if word.startswith(("studies/", "results/", "examples/")) and "*" not in word:
            assert (ROOT / word).exists(), word


@pytest.mark.slow
@pytest.mark.parametrize("command", [one for one in commands() if one.split()[1] in READING and "studies/" in one])
def test_a_command_that_reads_records_runs(command, tmp_path, monkeypatch):
    for name in ("studies", "results", "examples", "docs"):
        if name != "docs":
            os.symlink(ROOT / name, tmp_path / name)
    (tmp_path / "docs/figures").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, shlex.split(command)[1:])
    assert ran.exit_code == 0, ran.output


def build(classes: int, shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 16), nn.ReLU(), nn.Linear(16, classes))


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), [one for one in blocks("python") if one.values[0] == "README.md"])
def test_code_of_the_readme_runs(page, code, tmp_path, monkeypatch, capsys):
    """With a model and data as a reader may have them, and the bundled study at its smallest scale."""
    (tmp_path / "studies").mkdir()
    whole = (ROOT / "studies/digits.toml").read_text(encoding="utf-8")
    (tmp_path / "studies/digits.toml").write_text(re.sub(r"\n(epochs|examples) = \d+", "", whole), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guardclash, "read_study", partial(guardclash.read_study, scale="smoke"))
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 4
    x = (torch.rand(200, 1, 8, 8, generator=rng) + (y / 4)[:, None, None, None]) / 2

    exec(compile(code, page, "exec"), {"build": build, "x": x, "y": y})
    said = capsys.readouterr().out
    assert "wm" in said
    assert len(said.splitlines()) == (
        2 if "Task(" in code else len(guardclash.read_study(ROOT / "studies/digits.toml").combinations)
    )
