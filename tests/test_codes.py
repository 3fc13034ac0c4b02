"""Digests of code: another meaning is another digest, other words are not."""

from __future__ import annotations

import importlib
import sys
import uuid
from pathlib import Path

import pytest

from guardclash.plan.codes import changed, code_digest, codes
from guardclash.plan.optimizers import SGD
from guardclash.plan.samplers import Shuffled
from guardclash.tasks.recipe import recipe

PARTS = '''
"""A module."""

from __future__ import annotations

from dataclasses import dataclass

from {name}.helpers import Base, stepped
from {name}.checks import refuse

RATE = 0.1
LEFT: int = 3
if RATE:
    SIDE = 1
else:
    SIDE = 2


def unused():
    return 5


@dataclass(frozen=True)
class Step(Base):
    """A step."""

    size: float = 1.0
    """How large."""

    def __call__(self, value: float) -> float:
        """Takes it."""
        if value < 0:
            raise ValueError("too low")
        refuse(value)
        # once
        return stepped(value, self.size * RATE) * SIDE
'''
HELPERS = """
FACTOR = 2


class Base:
    def halved(self, value):
        return value / 2


def stepped(value, by):
    from {name}.deep import inner

    return value - by * FACTOR + inner()
"""
DEEP = "def inner():\n    return 0\n"
CHECKS = "def refuse(value):\n    assert value\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package of four modules, some text of which is replaced; the digest of its class."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(*edits: tuple[str, str], load: tuple[str, ...] = ()) -> str:
        name = f"package_{uuid.uuid4().hex}"
        folder = Path(tmp_path / name)
        folder.mkdir()
        modules = {"__init__": "", "parts": PARTS, "helpers": HELPERS, "deep": DEEP, "checks": CHECKS}
        for module, text in modules.items():
            for old, new in edits:
                text = text.replace(old, new)
            (folder / f"{module}.py").write_text(text.replace("{name}", name))
        importlib.invalidate_caches()
        for module in load:
            importlib.import_module(f"{name}.{module}")
        step = importlib.import_module(f"{name}.parts").Step()
        (found,) = codes(step).values()
        for module in [one for one in sys.modules if one.partition(".")[0] == name]:
            del sys.modules[module]
        return found

    return digest


@pytest.mark.parametrize(
    "edit",
    [
        ("# once", "# twice"),
        ('"""A step."""', '"""Another step."""'),
        ('    """How large."""\n', ""),
        ('"""Takes it."""', '"""Takes one."""'),
        ("(self, value: float) -> float:", "(self, value):"),
        ('ValueError("too low")', 'RuntimeError(f"{value} is too low")'),
        ("return 5", "return 6"),
        ("RATE = 0.1", "\n\nRATE = (\n    0.1\n)"),
        ("assert value", "assert value > -9"),
        ("def halved(self, value):", "def halved(self, value: int):"),
    ],
)
def test_words_places_and_what_is_not_used_change_nothing(edit, package):
    assert package(edit) == package()


@pytest.mark.parametrize(
    "edit",
    [
        ("self.size * RATE", "2 * self.size * RATE"),
        ("RATE = 0.1", "RATE = 0.2"),
        ("    SIDE = 2", "    SIDE = 3"),
        ("size: float = 1.0", "size: float = 2.0"),
        ("value < 0", "value <= 0"),
        ("FACTOR = 2", "FACTOR = 2.0"),
        ("value / 2", "value / 3"),
        ("return 0", "return 1"),
        ("frozen=True", "frozen=True, order=True"),
        ("        refuse(value)\n", ""),
        ("import Base, stepped", "import Base\nfrom math import dist as stepped"),
        ("import Base, stepped", "import Base\nfrom {name}.deep import inner as stepped"),
    ],
)
def test_what_runs_counts_wherever_in_its_package_it_stands(edit, package):
    assert package(edit) != package()


def test_a_function_may_move_within_its_package(package):
    moved = (
        ("def stepped(value, by):", "def elsewhere(value, by):"),
        ("import Base, stepped", "import Base\nfrom {name}.deep import FACTOR, inner"),
        ("RATE = 0.1\n", "RATE = 0.1\n\n\ndef stepped(value, by):\n    return value - by * FACTOR + inner()\n"),
        ("    return 0\n", "    return 0\n\n\nFACTOR = 2\n"),
    )
    at_home = (
        ("    from {name}.deep import inner\n\n", ""),
        (
            "FACTOR = 2\n",
            "from {name}.deep import inner\n\nFACTOR = 2\n",
        ),
    )
    assert package(*moved) == package(*at_home)


def test_it_does_not_matter_what_was_imported_before(package):
    assert package(load=("deep", "helpers")) == package()


def test_every_class_of_a_plan_has_a_digest_but_one_of_a_notebook(monkeypatch):
    plan = recipe("digits", "smoke").plan()
    found = codes(plan)
    assert {"Plan", "Stream", "SGD", "Shuffled", "CNN", "Split", "CrossEntropy", "Mean", "OneCycle"} <= found.keys()
    assert found == codes(plan, SGD(0.1)) and list(found) == sorted(found)
    assert codes(Shuffled(3)) == {"Shuffled": found["Shuffled"]}
    assert code_digest("guardclash.training.train", "train") != code_digest("guardclash.training.train", "Run")
    assert code_digest("guardclash.training.train", "nothing") == code_digest("nowhere", "train") == ""
    monkeypatch.setattr(sys.modules[SGD.__module__], "__guardclash_source__", "123", raising=False)
    assert not any("SGD" in name for name in codes(SGD(0.1))), "a plugin's source is in the names of its classes"


def test_only_what_both_sides_know_can_have_changed():
    recorded = {"SGD": "1", "CNN": "2", "Gone": "3"}
    assert changed(recorded, {"SGD": "9", "CNN": "2", "New": "4"}) == ("SGD",)
    assert changed({}, {"SGD": "9"}) == ()
