"""Files that are asked for are there whole or not at all; output that cannot be written ends a command with a word."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from committed import RECORDS
from guardclash.errors import UserError
from guardclash.records.file import read_results
from guardclash.reporting.export import export
from guardclash.writing import write_whole

ROOT = Path(__file__).parent.parent
MAIN = [sys.executable, "-c", "from guardclash.cli.app import main; main()"]
WRITE = "from guardclash.writing import write_whole"
FULL = Path("/dev/full")
STUDY = ROOT / "studies" / "raddata-pairs.toml"
REPORT = "report", STUDY, "--results", RECORDS["raddata-pairs"]
MORE = [pytest.param(each, marks=pytest.mark.slow) for each in ((*REPORT, "--format", "json"), ("--help",))]
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no full device")
needs_users = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anything")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Whole or not at all


def test_a_file_is_written_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "folder" / "report.html"
    for content in (b"first", b"", b"second" * 100_000):
        write_whole(path, content)
        assert path.read_bytes() == content
        assert names(path.parent) == {path.name}


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = tmp_path / "report.html"
    path.write_bytes(b"good")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    if fails == "write":
        opened = Path.open

        def broken(self: Path, *arguments: Any, **options: Any) -> Any:
            file = opened(self, *arguments, **options)
            return _Full(file)

        monkeypatch.setattr(Path, "open", broken)
    else:
        monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new and longer")
    monkeypatch.undo()
    assert path.read_bytes() == b"good"
    assert names(tmp_path) == {path.name}


class _Full:
    """A file on a disk that is full after three bytes."""

    def __init__(self, file: Any):
        self._file = file

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> None:
        self._file.write(content[:3])
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_an_older_files_permissions_stay(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_permissions_that_any_new_file_has(tmp_path):
    write_whole(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real").write_bytes(b"old")
    for name, target in (("there", "far/real"), ("dangling", "far/none")):
        (tmp_path / name).symlink_to(target)
        write_whole(tmp_path / name, b"new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_bytes() == b"new"


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    write_whole(Path(os.devnull), b"x")
    assert not Path(os.devnull).is_file()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; {WRITE}; write_whole(Path('/dev/stdout'), b'told')",
        ],
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"told"


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    write_whole(tmp_path / ("n" * 255), b"x")
    assert names(tmp_path) == {"n" * 255}


@needs_users
def test_a_file_that_must_not_be_written_is_not(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_folder_in_the_files_place_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "a", b"x")
    assert (tmp_path / "a").is_dir()
    assert names(tmp_path) == {"a"}


def test_an_export_needs_no_name_of_the_users(tmp_path):
    """The user's own files and folders stay, whatever they are called."""
    results = read_results(RECORDS["raddata-pairs"])
    own = ("work/notes", "results.json.part/notes", ".part/notes")
    for name in own:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "empty").mkdir()
    written = export(results, tmp_path)
    assert tmp_path / "results.json" in written
    assert all((tmp_path / name).read_bytes() == b"mine" for name in own)
    assert (tmp_path / "empty").is_dir()
    assert not [name for name in names(tmp_path) if name.startswith(".guardclash")]


def test_an_export_that_fails_leaves_the_old_record(tmp_path, monkeypatch):
    results = read_results(RECORDS["raddata-pairs"])
    (tmp_path / "results.json").write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the record cannot be written: No space left"):
        export(results, tmp_path)
    assert names(tmp_path) == {"results.json"}
    assert (tmp_path / "results.json").read_bytes() == b"old"


# Output that cannot be written, in processes of their own


def told(
    *arguments: object, out: Any = subprocess.PIPE, err: Any = subprocess.PIPE, **environment: str
) -> tuple[int, bytes, bytes]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    command = [*MAIN, *map(str, arguments)]
    done = subprocess.run(command, stdout=out, stderr=err, env={**known, **environment}, check=False)
    return done.returncode, done.stdout or b"", done.stderr or b""


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
        pytest.param({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, marks=pytest.mark.slow),
    ],
    ids=["cp1252", "ascii", "C"],
)
def test_what_an_encoding_lacks_is_a_question_mark(environment):
    code, out, err = told(*REPORT, **environment)
    assert (code, err) == (0, b"")
    assert b"rule strict, ? = 0.05" in out


@needs_full
@pytest.mark.parametrize("arguments", [REPORT, *MORE], ids=["text", "json", "help"])
def test_a_full_device_is_told_in_one_line(arguments):
    with FULL.open("wb") as full:
        code, _, err = told(*arguments, out=full)
    assert (code, err) == (2, b"error: the output cannot be written: No space left on device\n")


@needs_full
@pytest.mark.slow
def test_where_no_word_can_be_said_the_exit_code_says_it():
    with FULL.open("wb") as full:
        assert told(*REPORT, out=full, err=full)[0] == 2
        assert told("report", "missing.toml", err=full)[0] == 2


@pytest.mark.skipif(os.name == "nt", reason="pipes close otherwise there")
@pytest.mark.parametrize("arguments", [REPORT, *MORE], ids=["text", "json", "help"])
def test_a_closed_pipe_ends_a_command_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    try:
        assert told(*arguments, out=write) == (141, b"", b"")
    finally:
        os.close(write)


@pytest.mark.skipif(os.name == "nt", reason="by a shell of Unix")
def test_a_closed_output_is_no_fault_of_the_command():
    shell = ["sh", "-c", '"$@" >&-', "sh", *MAIN, *map(str, REPORT)]
    done = subprocess.run(shell, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
