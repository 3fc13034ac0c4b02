"""The documentation site: built offline without a warning, nothing missing, nothing fetched."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import guardclash
from committed import ROOT
from guardclash.cli.app import COMMANDS
from guardclash.registry import find_mechanisms
from guardclash.studies.composing import compose_study
from guardclash.studies.study_file import study_from

pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install guardclash[dev]")
TUTORIALS = sorted((ROOT / "docs/tutorial").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # A proxy that is not there: whoever fetches something fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder]
    said = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return folder


@pytest.fixture(scope="module")
def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "tools/site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_public_name_is_missing(site):
    text = (site / "reference/python.html").read_text("utf-8")
    there = set(re.findall(r'id="guardclash\.([\w.]+)"', text))
    assert {name for name in guardclash.__all__ if not any(one.split(".")[-1] == name for one in there)} == set()


def test_every_mechanism_has_a_section(site):
    text = (site / "reference/mechanisms.html").read_text("utf-8")
    assert set(find_mechanisms()) <= set(re.findall(r'<h2 id="([\w-]+)"', text))


def test_programs_find_every_page(site):
    text = (site / "llms.txt").read_text("utf-8")
    listed = set(re.findall(r"^- \[.+?\]\((.+?)\): ", text, re.M))
    pages = {str(page.relative_to(site)) for page in site.rglob("*.html")} - {"404.html"}
    assert listed == pages


def test_nothing_is_fetched(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text("utf-8"))
        assert not [one for one in loaded if "sitemap" not in one], page.name


def test_every_page_of_the_docs_is_on_the_site(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file(), page
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    missing = [
        page.name for page in (ROOT / "docs").rglob("*.md") if str(page.relative_to(ROOT / "docs")) not in navigation
    ]
    assert not missing, "it can be reached from every page"


def test_links_that_leave_the_docs_name_what_they_would_open(hooks):
    assert hooks.inside("see [the file](../README.md)", "") == "see the file (`README.md`)"
    assert hooks.inside("[README.md](../README.md#x)", "") == "README.md"
    assert hooks.inside("[a](trust.md#b) [c](https://d)", "") == "[a](trust.md#b) [c](https://d)"
    assert hooks.inside("```\n[a](nowhere.md)\n```", "") == "```\n[a](nowhere.md)\n```"
    with pytest.raises(FileNotFoundError, match=r"nowhere\.md"):
        hooks.inside("[a](../../nowhere.md)", "design")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_study_of_a_tutorial_can_be_composed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    studies = blocks(page, "toml")
    assert studies
    for text in studies:
        table = tomllib.loads(text)
        foreign = [one for one in table.get("suspects", []) if one["kind"] == "foreign"]
        if not foreign:
            assert all(cell.plan or cell.clash for cell in compose_study(study_from(table)))
        else:
            assert study_from({**table, "suspects": [one for one in table["suspects"] if one not in foreign]})


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_commands_of_a_tutorial_are_there(page):
    commands = [line for block in blocks(page, "") for line in block.splitlines()]
    assert {line.split()[1] for line in commands if line.startswith("guardclash ")} <= set(COMMANDS)
