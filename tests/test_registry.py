"""Mechanisms are found by name: built in, in single files, and in other people's packages."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import py_compile
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guardclash.compose import Clash, compose
from guardclash.data.catalog import datasets
from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.plan.identity import describe, fingerprint
from guardclash.registry import GROUP, find_mechanism, find_mechanisms, known
from guardclash.studies.build import build_mechanism
from guardclash.studies.composing import compose_study
from guardclash.studies.study_file import study_from
from guardclash.tasks.catalog import tasks
from guardclash.tasks.recipe import recipe

HERE = Path(__file__).parent
GRADIENT_SIGN = HERE / "plugins" / "gradient_sign.py"
PACKAGE = HERE / "test_package"

MECHANISM = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from guardclash.mechanism import Mechanism

@dataclass(frozen=True)
class Mine(Mechanism):
    '''Mine: does nothing.'''
    name: ClassVar[str] = "{name}"
    concern: ClassVar[str] = "none"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a plugin under a name that no other test uses; forgets it afterwards."""
    written: list[Path] = []

    def write_plugin(source: str) -> Path:
        written.append(tmp_path / f"plugin_{uuid.uuid4().hex}.py")
        written[-1].write_text(source)
        return written[-1]

    yield write_plugin
    for name in [name for name in sys.modules if any(path.stem in name for path in written)]:
        del sys.modules[name]


@pytest.fixture
def gradient_sign() -> Iterator[type[Mechanism]]:
    yield find_mechanism("gradient-sign", (GRADIENT_SIGN,))


# Built in


def test_the_built_in_ones_are_found_by_looking_into_the_folder():
    found = find_mechanisms()
    assert {"wm", "dpsgd", "dpsgd-control"} <= set(found)
    for name, cls in found.items():
        assert cls.name == name
        assert dataclasses.is_dataclass(cls)
        assert cls.__dataclass_params__.frozen
        assert cls().on is None
        assert cls.concern
        assert cls.__doc__


def test_the_nearest_name_is_suggested():
    with pytest.raises(UserError, match=r"unknown mechanism 'dpsdg'.*Did you mean 'dpsgd'"):
        find_mechanism("dpsdg")


# Single files


def test_a_single_file_is_found_beside_the_built_in_ones(gradient_sign):
    assert gradient_sign.name == "gradient-sign"
    assert set(find_mechanisms((GRADIENT_SIGN,))) == {*find_mechanisms(), "gradient-sign"}
    assert find_mechanisms((GRADIENT_SIGN, GRADIENT_SIGN)) == find_mechanisms((GRADIENT_SIGN,))


def test_its_options_are_checked_like_those_of_the_built_in_ones(gradient_sign):
    study = study_from(
        {
            "plugins": [str(GRADIENT_SIGN)],
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [{"mechanisms": [{"name": "gradient-sign", "sweep": {"scale": [0.1, 1]}}]}],
        }
    )
    assert [build_mechanism(named, study) for named in study.mechanisms()] == [gradient_sign(scale=s) for s in (0.1, 1)]
    for options, match in (({"scal": 1}, "Did you mean 'scale'"), ({"scale": "much"}, r"gradient-sign\.scale.*'much'")):
        wrong = study_from({**BASE, "combinations": [{"mechanisms": [{"name": "gradient-sign", **options}]}]})
        with pytest.raises(UserError, match=match):
            compose_study(dataclasses.replace(wrong, plugins=(GRADIENT_SIGN,)))


BASE = {"recipes": [{"dataset": "digits", "scale": "smoke"}]}


def test_it_clashes_with_dpsgd_before_anything_is_trained(gradient_sign):
    plan = recipe("digits", "smoke").plan()
    dpsgd = find_mechanism("dpsgd")()
    with pytest.raises(Clash, match="dpsgd and gradient-sign both set 'gradient' of stream 'task'"):
        compose(plan, (dpsgd, gradient_sign()))
    apart = (find_mechanism("wm")(), dpsgd.__class__(on=("trigger",)), gradient_sign(on=("task",)))
    streams = compose(plan, apart).streams
    assert [type(stream.gradient).__name__ for stream in streams] == ["Signs", "ClippedNoisy"]


def test_its_source_is_part_of_its_keys(tmp_path, gradient_sign):
    """A plugin is edited while it is written; results of an older text must not be taken for its own."""

    def key(folder: str, source: str) -> tuple[str, str]:
        path = tmp_path / folder / "signs_for_keys.py"
        path.parent.mkdir()
        path.write_text(source)
        mechanism = find_mechanism("gradient-sign", (path,))()
        plan = compose(recipe("digits", "smoke").plan(), (mechanism,))
        keys = fingerprint(plan), fingerprint(mechanism)
        del sys.modules[type(mechanism).__module__]  # as in the next process
        return keys

    source = GRADIENT_SIGN.read_text()
    first, same, edited = key("a", source), key("b", source), key("c", source + "\nEDITED = True\n")
    assert first == same, "where the file lies is not what it is"
    assert not set(first) & set(edited)


def test_a_plan_without_parts_of_the_plugin_keeps_its_key(write):
    name = find_mechanism("idle", (write(MECHANISM.format(name="idle")),))
    plan = recipe("digits", "smoke").plan()
    assert fingerprint(compose(plan, (name(),))) == fingerprint(plan)
    assert describe(name())["type"].startswith(f"{name.__module__}:Mine@")


def test_two_of_one_name_are_refused_with_both_modules(write):
    one, two = write(MECHANISM.format(name="mine")), write(MECHANISM.format(name="mine"))
    with pytest.raises(UserError, match="'mine'") as caught:
        find_mechanisms((one, two))
    assert one.stem in str(caught.value)
    assert two.stem in str(caught.value)
    with pytest.raises(UserError, match=r"'wm'.*guardclash\.mechanisms\.wm"):
        find_mechanisms((write(MECHANISM.format(name="wm")),))


@pytest.mark.parametrize("name", ["json", "real_module_of_plugin_tests"])
def test_a_file_called_like_a_module_does_not_take_its_place(tmp_path, monkeypatch, name):
    """Refused or accepted: what imports that module, before or after, gets the real one."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "real_module_of_plugin_tests.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / f"{name}.py").write_text(MECHANISM.format(name="mine"))
    try:
        assert "mine" in find_mechanisms((tmp_path / f"{name}.py",))
    except UserError as error:
        assert name in str(error)
        assert "Rename" in str(error)
    assert not hasattr(importlib.import_module(name), "Mine")


def test_compiled_code_beside_a_plugin_is_not_run(write):
    """It counts as current for Python where size and second are the same, as after `cp -p` or from an archive."""
    path = write(MECHANISM.format(name="old") + "\nVALUE = 1\n")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    path.write_text(path.read_text().replace("VALUE = 1", "VALUE = 2"))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    module = sys.modules[find_mechanism("old", (path,)).__module__]
    assert module.VALUE == 2
    assert module.__guardclash_source__ == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_the_bytes_that_are_hashed_are_those_that_run(write):
    """Also where the plugin edits itself, or somebody does meanwhile."""
    path = write(
        MECHANISM.format(name="edited") + "\nfrom pathlib import Path\nPath(__file__).write_text('broken =')\n"
    )
    before = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert sys.modules[find_mechanism("edited", (path,)).__module__].__guardclash_source__ == before


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\ndef broken(:\n", "SyntaxError: invalid syntax (in {path}, line 2)"),
        ("x = 1\n\nraise RuntimeError('boom')\n", "RuntimeError: boom (in {path}, line 3)"),
        ("import no_such_module_anywhere\n", "no_such_module_anywhere"),
        ("raise SystemExit(3)\n", "SystemExit"),
        (MECHANISM.format(name="a").replace("frozen=True", "frozen=False"), "frozen"),
    ],
    ids=["syntax", "raises", "import", "exits", "not frozen"],
)
def test_broken_plugins(write, source, said):
    path = write(source)
    for _ in range(2):  # a second try tells the same, not "loaded already"
        with pytest.raises(UserError, match="cannot be imported") as caught:
            find_mechanisms((path,))
        assert str(path) in str(caught.value)
        assert said.format(path=path) in str(caught.value)
    assert not [name for name in sys.modules if path.stem in name]


@pytest.mark.parametrize("name", ["missing.py", ".", "text.txt"])
def test_what_is_no_plugin(tmp_path, name):
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(UserError, match="no such plugin") as caught:
        find_mechanisms(((tmp_path / name),))
    assert str(tmp_path) in str(caught.value)


def test_a_plugin_without_mechanisms_or_data_sets_is_refused(write):
    """It would silently do nothing, and "unknown mechanism" would puzzle its author."""
    path = write("class Mine:\n    name = 'mine'\n")
    with pytest.raises(UserError, match="no mechanism") as caught:
        find_mechanisms((path,))
    assert str(path) in str(caught.value)


def test_a_mechanism_without_a_concern_is_refused_by_name(write):
    path = write("\n".join(line for line in MECHANISM.format(name="mine").splitlines() if "concern" not in line))
    with pytest.raises(UserError, match="concern") as caught:
        find_mechanisms((path,))
    assert "mine" in str(caught.value).lower()


def test_mechanisms_that_a_plugin_imports_or_leaves_abstract_are_not_its_own(write):
    more = "\nfrom guardclash.mechanisms.wm import Watermark\n\nclass Base(Mechanism):\n    pass\n"
    path = write(MECHANISM.format(name="mine") + more)
    assert set(find_mechanisms((path,))) == {*find_mechanisms(), "mine"}


# Other people's packages


def install(folder: Path, entry_points: dict[str, str] | None = None) -> Path:
    """Lays the package out as an installer does: its module, and metadata with its entry points."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    points = entry_points or project["entry-points"][GROUP]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PACKAGE / "guardclash_rounding.py", folder)
    version = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(version)
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")
    return folder


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes a folder importable as if it were installed; undone afterwards."""

    def add(folder: Path) -> None:
        monkeypatch.syspath_prepend(str(folder))
        known.cache_clear()

    yield add
    known.cache_clear()
    sys.modules.pop("guardclash_rounding", None)
    datasets().pop("dots", None)
    tasks().pop("dots", None)


def test_a_package_brings_mechanisms_and_data_sets(tmp_path, on_path):
    on_path(install(tmp_path / "site"))
    rounding = find_mechanism("rounding")
    assert rounding.__module__ == "guardclash_rounding"
    assert describe(rounding(decimals=2)) == {"type": "guardclash_rounding:Rounding", "decimals": 2}
    assert datasets()["dots"].size("test") == 8
    known.cache_clear()
    assert find_mechanism("rounding") is rounding


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module_anywhere", "no_such_module_anywhere"),
        ("guardclash_rounding:nothing", "nothing"),
        ("guardclash_rounding:Rounding", "module"),  # "each entry names a module"; silently nothing would be worse
    ],
)
def test_broken_packages_are_named(tmp_path, on_path, value, said):
    on_path(install(tmp_path / "site", {"rounding-entry": value}))
    with pytest.raises(UserError, match="'rounding-entry'") as caught:
        find_mechanisms()
    assert said in str(caught.value)


def test_an_installed_package_takes_part_from_the_command_line(tmp_path):
    """In a process of its own, as users have it: list names its mechanism and data set."""
    places = [str(install(tmp_path / "site")), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", "from guardclash.cli.app import main; main()", "list"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (found.returncode, found.stderr) == (0, "")
    for word in ("rounding", "model extraction", "decimals=1", "φ_ROUND", "dots", "wm", "dpsgd"):
        assert word in found.stdout
