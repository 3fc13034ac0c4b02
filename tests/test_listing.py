"""What `guardclash list` says of everything that it finds."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pytest
from pydantic import TypeAdapter
from rich.console import Console

from guardclash.plan.plan import Plan
from guardclash.registry import CONDITIONS, DOORS, MEASURES, SUSPECTS, find_mechanisms, known
from guardclash.reporting.listing import listing

PLUGINS = ((Path(__file__).parent / "plugins/gradient_sign.py").resolve(),)
FOUND = [cls for door in DOORS for cls in known(door, PLUGINS).values()]


def told(*classes: type) -> str:
    """The list, as plain text without line breaks inside of a table's rows."""
    console = Console(width=2000, color_system=None)
    mechanisms = find_mechanisms(PLUGINS).values()
    others = {"Measures": MEASURES, "Conditions": CONDITIONS, "Suspects": SUSPECTS}
    shown = listing(
        [cls for cls in mechanisms if cls in classes],
        {title: {n: c for n, c in known(door, PLUGINS).items() if c in classes} for title, door in others.items()},
        (),
        {},
    )
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def written(default: Any) -> str:
    """As a study file has it."""
    return repr(str(default) if isinstance(default, Path) else default)


def from_python_only(cls: type) -> set[str]:
    """The fields of which the source says so, below them."""
    found = set()
    for base in cls.__mro__[:-1]:
        source = inspect.getsource(base)
        found |= set(
            re.findall(r'^    (\w+): [^\n]*\n    """(?:(?!""").)*From\s+Python\s+only\."""', source, re.M | re.S)
        )
    return found & {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", FOUND, ids=lambda cls: cls.__name__)
def test_an_option_is_what_a_study_file_can_give(cls):
    text, hints = told(cls), get_type_hints(cls)
    hidden = from_python_only(cls)
    for field in dataclasses.fields(cls):
        listed = re.search(rf"\b{field.name}={re.escape(written(field.default))}", text) is not None
        assert listed == (field.name not in hidden), field.name
        if listed:  # as studies/build.py reads it
            TypeAdapter(hints[field.name]).validate_json(json.dumps(field.default, default=str), strict=True)


def test_options_of_measures_that_have_none_to_give():
    (accuracy,) = (cls for name, cls in known(MEASURES).items() if name == "accuracy")
    assert "test=" not in told(accuracy)
    assert re.search(r"accuracy +- ", told(accuracy))


def test_tuples_and_choices_are_options_and_parts_of_plans_are_none():
    @dataclasses.dataclass(frozen=True)
    class Thing:
        """Something."""

        sizes: tuple[int, ...] = (1, 2)
        pair: tuple[float, str | None] = (0.5, None)
        mode: Literal["a", "b"] = "a"
        on: tuple[str, ...] | None = None
        anything: Any = None
        many: tuple[Any, ...] = ()
        path: Path = Path("a.b")
        plan: Plan | None = None

    console = Console(width=2000, color_system=None)
    with console.capture() as capture:
        console.print(listing((), {"Things": {"thing": Thing}}, (), {}))
    text = capture.get()
    assert "sizes=(1, 2), pair=(0.5, None), mode='a', on=None, path='a.b' " in text
    assert not re.search("anything|many|plan", text)
