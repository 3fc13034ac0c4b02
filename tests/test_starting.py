"""What somebody begins with: `guardclash new` writes starts that work as written, `guardclash demo` runs anywhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.cli.app import main
from guardclash.cli.demo import PLACES, STUDY, bundled
from guardclash.cli.new import KINDS, MADE, TEMPLATES, filled, started
from guardclash.data.catalog import datasets
from guardclash.errors import UserError
from guardclash.registry import DOORS, known
from guardclash.studies.composing import compose_study
from guardclash.studies.study_file import read_study
from guardclash.studies.study_schema import StudyTable
from guardclash.tasks.catalog import tasks

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HAVE_TASKS = "tasks" in StudyTable.model_fields
"""Whether studies may bring tasks of their own; until then a start of one can only be tested in parts."""
NEEDS_TASKS = pytest.mark.skipif(not HAVE_TASKS, reason="studies have no [[tasks]] yet")
NAMES = ("softening", "label_noise_2_for_everyone")


def environment(folder: Path) -> dict[str, str]:
    """Of a process that finds this very package and leaves the user's data alone."""
    source = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": source, "GUARDCLASH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}


def ended(folder: Path, *command: object) -> str:
    """What a Python process says on standard output; it must end well."""
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def guardclash(folder: Path, *arguments: object) -> str:
    """What a command says on standard output."""
    return ended(folder, "-c", "from guardclash.cli.app import main; main()", *arguments)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs a command in this process, in a folder of its own; gives what it says on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUARDCLASH_STORE", raising=False)

    def run(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["guardclash", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr().err
        assert int(end.value.code or 0) == code, said
        return said

    return run


def written(folder: Path, kind: str, name: str) -> dict[str, str]:
    """A start, as files in a folder."""
    texts = dict(started(kind, name))
    folder.mkdir(exist_ok=True)
    for one, text in texts.items():
        (folder / one).write_text(text, encoding="utf-8")
    return texts


# new


def test_each_kind_has_a_study_and_a_test():
    assert set(KINDS) >= {"task", "mechanism", "measure", "study"}
    for kind in KINDS:
        assert set(started(kind, "mine")) >= {"mine.toml", "test_mine.py"}, kind


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "task")) for kind in KINDS])
def test_the_test_of_a_start_passes_as_written(kind, command, tmp_path):
    """In a process of its own, as whoever wrote it runs it, with every warning an error."""
    said = command("new", kind, "softening", "--folder", "here")
    assert "wrote here/softening.toml" in said and "pytest here/test_softening.py" in said
    parts = [] if HAVE_TASKS or kind != "task" else ["-k", "not study"]
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", *parts)
    told = ended(tmp_path / "here", "-m", "pytest", "test_softening.py", *options)
    assert re.search(r"\d+ passed", told) and "skipped" not in told


@pytest.mark.parametrize("kind", ["measure", "mechanism", "study"])
def test_the_study_of_a_start_runs(kind, tmp_path):
    written(tmp_path, kind, "softening")
    text = (tmp_path / "softening.toml").read_text(encoding="utf-8")
    fewer = re.sub(r"^replicates = .*$", "replicates = { alone = 1, together = 1 }", text, count=1, flags=re.MULTILINE)
    assert fewer != text
    (tmp_path / "softening.toml").write_text(fewer, encoding="utf-8")
    told = guardclash(tmp_path, "run", "softening.toml", "--workers", 0)
    study = read_study(tmp_path / "softening.toml")
    labels = ["{" + ", ".join(one.name for one in combination) for combination in study.combinations]
    assert all(label in told for label in labels) and "Verdicts" in told
    assert kind == "study" or "φ_SOFTENING" in told


@pytest.mark.slow
@NEEDS_TASKS
def test_the_study_of_a_task_runs(command, tmp_path):
    command("new", "task", "signs")
    text = (tmp_path / "signs.toml").read_text(encoding="utf-8")
    (tmp_path / "signs.toml").write_text(text.replace("alone = 3, together = 5", "alone = 1, together = 1"))
    told = guardclash(tmp_path, "run", "signs.toml", "--workers", 0)
    assert "{wm, dpsgd}" in told and "φ_ACC" in told


def test_a_task_brings_data_that_its_script_makes_again(command, tmp_path):
    command("new", "task", "signs")
    script, ending = MADE["task"]
    first = (tmp_path / f"signs{ending}").read_bytes()
    with np.load(tmp_path / f"signs{ending}") as arrays:
        assert set(arrays) == {"x_train", "y_train", "x_test", "y_test"}
        assert arrays["x_train"].dtype == np.uint8 and arrays["y_train"].dtype == np.int64
    ended(tmp_path, script)
    assert (tmp_path / f"signs{ending}").read_bytes() == first
    assert set(tmp_path.iterdir()) >= {tmp_path / "nets.py", tmp_path / "signs.toml", tmp_path / "test_signs.py"}


def test_the_task_of_a_start_is_in_the_form_that_was_agreed():
    table = tomllib.loads(started("task", "signs")["signs.toml"])
    (task,) = table["tasks"]
    assert (task["name"], task["data"], task["model"]) == ("signs", "signs.npz", "nets.py:build")
    assert set(task) == {"name", "data", "model", "utility", "training"}
    assert set(task["training"]) == {"epochs", "batch_size", "optimizer", "learning_rate"}
    assert [one["dataset"] for one in table["recipes"]] == ["signs"]


def test_the_mechanism_of_a_start_stands_beside_a_watermark_and_private_training(tmp_path):
    written(tmp_path, "mechanism", "softening")
    cells = compose_study(read_study(tmp_path / "softening.toml"))
    assert not [cell.clash for cell in cells if cell.clash]
    company = {frozenset(one.name for one in cell.combination) for cell in cells}
    assert company >= {frozenset({"softening", "wm"}), frozenset({"softening", "dpsgd"})}


@pytest.mark.parametrize("width", [88, 120])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_needs_no_mending(name, width, tmp_path):
    """By our own rules, docstrings included, at the usual width and at ours."""
    for kind in KINDS:
        written(tmp_path / kind, kind, name)
    lint = PROJECT["tool"]["ruff"]["lint"]
    rules = ["--select", ",".join(lint["select"]), "--ignore", ",".join(lint["ignore"])]
    common = ["--isolated", "--no-cache", "--line-length", str(width)]
    ended(tmp_path, "-m", "ruff", "check", *common, *rules, "--config", 'lint.pydocstyle.convention="google"', ".")
    ended(tmp_path, "-m", "ruff", "format", *common, "--check", ".")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_never_overwritten(kind, command, tmp_path):
    """Whichever of the files is there, and nothing is written beside it."""
    ending = MADE[kind][1:] if kind in MADE else ()
    for one in (*started(kind, "mine"), *(f"mine{end}" for end in ending)):
        (tmp_path / one).write_text("precious")
        said = command("new", kind, "mine", code=2)
        assert said.startswith("error: ") and one in said
        assert [path.name for path in tmp_path.iterdir()] == [one]
        assert (tmp_path / one).read_text() == "precious"
        (tmp_path / one).unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_are_there_already_are_refused(kind, command, tmp_path):
    for name in {name for door in DOORS for name in known(door)} | set(datasets()) | set(tasks()):
        with pytest.raises(UserError, match="NAME"):
            started(kind, name)
    assert "there is a mechanism of this name" in command("new", kind, "wm", code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["Smoothing", "1st", "two-words", "a.b", "../up", "", "_hidden", "class", "größe", "a "]
)
@pytest.mark.parametrize("kind", KINDS)
def test_names_that_no_file_or_class_can_have_are_refused(kind, name):
    with pytest.raises(UserError, match="no usable name"):
        started(kind, name)


@pytest.mark.parametrize("name", ["random", "types", "torch", "pytest"])
def test_names_that_would_hide_a_module_from_the_test_are_refused(name):
    """The file would stand before it on the path of all that the test imports."""
    with pytest.raises(UserError, match="module of this name"):
        started("mechanism", name)
    assert name not in {Path(one).stem for one in started("study", name) if one.endswith(".py")}


def test_kinds_that_there_are_not_are_refused_with_the_nearest(command):
    assert "Did you mean 'mechanism'?" in command("new", "mechanisms", "mine", code=2)


@settings(max_examples=30, deadline=None)
@given(st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True))
def test_whatever_the_name_all_that_is_written_can_be_read(name):
    for kind in KINDS:
        for one, text in filled(kind, name).items():
            assert "{{" not in text and "NAME" not in one
            if one.endswith(".py"):
                compile(text, one, "exec")
            else:
                assert tomllib.loads(text).get("name", name) == name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mechanism", "measure"])
def test_names_of_classes_that_a_start_needs_hide_none_of_them(kind, tmp_path):
    names = ("metric", "measure", "mechanism", "stream", "hide")
    for name in names:
        written(tmp_path, kind, name)
    ended(tmp_path, "-c", f"import {', '.join(names)}")


# demo


@pytest.mark.slow
def test_the_demo_runs_the_bundled_study_and_writes_a_page(command, tmp_path):
    """Without a clone around, into a folder that had nothing."""
    said = command("demo", "--scale", "smoke", "--workers", 0, "--store", "kept", "-o", "pages/mine.html")
    assert "does a watermark survive" in said and "wrote pages/mine.html" in said
    page = (tmp_path / "pages" / "mine.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "digits/smoke" in page
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "pages"}
    assert (tmp_path / "kept" / "studies" / "digits-smoke.json").is_file()


def test_the_bundled_study_has_nothing_beside_it():
    """Installed, it stands alone: a file that it names relative to itself would not be there."""
    study = read_study(bundled())
    assert (study.plugins, study.reference, study.records) == ((), None, None)
    assert "extends" not in tomllib.loads(bundled().read_text(encoding="utf-8"))


def test_a_demo_that_is_not_installed_is_a_message(monkeypatch, command):
    monkeypatch.setattr("guardclash.cli.demo.PLACES", (Path("nowhere"),))
    assert command("demo", code=2).startswith("error: the bundled study is not installed")


# The wheel


def test_the_wheel_is_asked_for_the_study_and_the_templates():
    """By what the project says, which needs nobody who builds."""
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["src/guardclash"] and not {"include", "exclude", "only-include"} & set(wheel)
    forced = {ROOT / source: ROOT / "src" / target for source, target in wheel["force-include"].items()}
    assert forced == {ROOT / "studies" / STUDY: PLACES[0] / STUDY}
    assert all(source.is_file() for source in forced)
    assert not PLACES[0].exists(), "the study would be there twice"
    ignored = ["git", "check-ignore", "--no-index", *map(str, TEMPLATES.rglob("*.jinja"))]
    found = subprocess.run(ignored, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout == "", "what git ignores is left out of the wheel"


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed")
def test_the_wheel_has_the_study_and_the_templates(tmp_path):
    code = f"from hatchling.builders.wheel import WheelBuilder; print(*WheelBuilder({str(ROOT)!r}).build("
    ended(ROOT, "-c", f"{code}directory={str(tmp_path)!r}, versions=['standard']))")
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
        assert wheel.read(f"guardclash/cli/demo_parts/{STUDY}") == (ROOT / "studies" / STUDY).read_bytes()
    assert names >= {path.relative_to(ROOT / "src").as_posix() for path in TEMPLATES.rglob("*.jinja")}
