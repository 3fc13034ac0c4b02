"""What people and strangers hand in beside data: paths, text files, published numbers, and where git is asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.errors import UserError
from guardclash.handed import content_of, path_in, text_of
from guardclash.reporting.reference import read_reference
from guardclash.studies import environment

ONE = '{"table": "t", "dataset": "d", "combination": {}, "metric": "accuracy"%s}'


# Paths and files


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_path_that_can_be_asked_for_or_a_mistake(text: str):
    try:
        path = path_in(Path("here"), text, "key")
    except UserError as error:
        assert "key" in str(error)
        return
    assert path.is_absolute()
    os.path.exists(path)
    path.exists()  # raises for a NUL and for names that are too long


@pytest.mark.parametrize("text", ["a\0b", "a" * 256, "é" * 128, "a/" * 3000, "\ud800"])
def test_what_no_file_can_be_called(text: str):
    with pytest.raises(UserError, match="no file can have"):
        path_in(Path(), text, "key")


@pytest.mark.skipif(os.name != "posix", reason="has no such files")
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/urandom"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str):
    path = tmp_path / "pipe" if kind == "pipe" else Path(kind)
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(UserError, match="no regular file"):
        content_of(path)


def test_no_more_is_read_than_allowed(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert content_of(path, 100) == b"x" * 100
    with pytest.raises(UserError, match="so large a file"):
        content_of(path, 99)
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)  # a hole: a TiB that takes no room
    with pytest.raises(UserError, match="so large a file"):
        content_of(path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    (tmp_path / "file").write_text("äx", encoding="utf-8-sig")
    assert text_of(tmp_path / "file") == "äx"


# Published numbers


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "numbers.json"
    path.write_text(text, encoding="utf-8")
    return read_reference(path)


def test_published_numbers_with_a_byte_order_mark(tmp_path: Path):
    (found,) = read(tmp_path, "\ufeff[" + ONE % ', "mean": 1' + "]")
    assert found.mean == 1


@pytest.mark.parametrize(
    "more",
    [
        ', "mean": NaN',
        ', "mean": 1e999',
        f', "mean": {"9" * 5000}',
        f', "mean": {"9" * 400}',
        ', "mean": "0.5"',
        ', "mean": true',
        ', "std": -1',
        ', "n": 0',
        f', "n": {2**63}',
        ', "n": 1, "n": 2',
        ', "note": "\\ud800"',
        f', "suspect": {{"a": {"[" * 3000}{"]" * 3000}}}',
        "[" * 3000,
    ],
)
def test_published_numbers_that_are_none(tmp_path: Path, more: str):
    with pytest.raises(UserError, match=r"numbers\.json"):
        read(tmp_path, f"[{ONE % more}]")


def test_published_numbers_of_another_encoding_or_without_end(tmp_path: Path):
    path = tmp_path / "numbers.json"
    path.write_bytes("[ä]".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        read_reference(path)
    with pytest.raises(UserError, match="no regular file"):
        read_reference(Path(os.devnull))


# The commit in records


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *command], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("place", [".venv/lib/site-packages/guardclash", "src/guardclash", "vendor/src/guardclash"])
@pytest.mark.parametrize("project", ["guardclash", "somebody-s-own"])
def test_a_commit_is_that_of_our_own_checkout_or_none(tmp_path: Path, monkeypatch, place: str, project: str):
    """guardclash installed inside of a user's repository is not of that repository's commit."""
    (tmp_path / place / "studies").mkdir(parents=True)
    (tmp_path / place / "studies" / "environment.py").touch()
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "x")
    git(tmp_path, "config", "core.fsmonitor", "touch ran; false")
    monkeypatch.setattr(environment, "__file__", str(tmp_path / place / "studies" / "environment.py"))
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD").strip()
    ours = place == "src/guardclash" and project == "guardclash"
    before = (tmp_path / ".git" / "index").stat().st_mtime_ns
    assert environment._commit() == (head if ours else "")
    assert (tmp_path / ".git" / "index").stat().st_mtime_ns == before
    assert not list(tmp_path.rglob("ran"))
    (tmp_path / place / "new.py").touch()
    assert environment._commit() == (f"{head}+changes" if ours else "")
