"""tools/mutate.py, as far as it is a function of texts: what mistakes it plants, and that its table fits the source."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))

import mutate  # noqa: E402

SOURCE = '''
"""A module of 1 thing."""

from functools import cache

LIMIT: int = 3


@cache
def shorten(values: list[int], most: int = 7) -> list[int] | None:
    """Never more than 5."""
    if not values and most < 2:
        raise ValueError(1 + 1)
    low: float = min(values)
    for value in values:
        low += value * 0.5
    if any(values):
        return [one for one in values if one is not None and 0 <= one <= low]
    return None


class Box:
    full = True

    def size(self) -> int:
        """One or more."""
        return list(zip((1,), "a", strict=True)) if self.full else -2
'''


def changes(source: str = SOURCE) -> list[str]:
    return [change for _, change, _ in mutate.generic(source)]


def test_generic_mutants_change_one_line_and_are_python():
    whole = ast.unparse(ast.parse(SOURCE)).splitlines()
    texts = [text for _, _, text in mutate.generic(SOURCE)]
    assert len(set(texts)) == len(texts) > 20
    for line, change, text in mutate.generic(SOURCE):
        compile(text, "mutant", "exec")
        changed = [pair for pair in zip(whole, text.splitlines(), strict=True) if pair[0] != pair[1]]
        assert len(changed) == 1, change
        assert change.count(" -> ") >= 1
        assert SOURCE.splitlines()[line - 1].split()[0] == changed[0][0].split()[0], "the line is that of the source"


@pytest.mark.parametrize(
    "change",
    [
        "if not values [and -> or] most < 2:",
        "if not values and most [< -> <=] 2:",
        "if not values and most [< -> >=] 2:",
        "if not values and most < [2 -> 3]:",
        "low: float = [min -> max](values)",
        "low [+= -> -=] value * 0.5",
        "low += value [* -> /] 0.5",
        "low += value * [0.5 -> 1.5]",
        "if [any -> all](values):",
        "if[ ->  not] any(values):",
        "return [[one for one in values if one is not None and 0 <= one <= low] -> None]",
        "return [list(zip((1,), 'a', strict=True)) if self.full else -2 -> None]",
    ],
)
def test_generic_mutants_swap_operators_constants_and_values(change):
    assert change in changes()


def test_generic_mutants_leave_alone_what_is_no_behaviour():
    """Documentation, annotations, defaults, decorators, errors, what stands outside functions, and strict zips."""
    found = "\n".join(changes())
    for part in ("thing", "Never", "One or more", "ValueError", "LIMIT", "most: int", "full = True", "True -> False"):
        assert part not in found
    assert changes("def f():\n    return None\n") == changes("x = 1 + 1\n") == []


def test_a_sample_is_spread_evenly_and_always_the_same():
    assert mutate.sampled(list(range(10)), 5) == [0, 2, 4, 6, 8]
    assert mutate.sampled(list(range(3)), 5) == mutate.sampled(list(range(3)), None) == [0, 1, 2]
    assert mutate.sampled([], 5) == []


@pytest.mark.parametrize("old", ["value", "nowhere"])
def test_a_stale_entry_is_refused(old):
    with pytest.raises(ValueError, match=r"x is stale.*not once"):
        mutate.planted("value = value", "x", old, "other")


def test_a_named_mistake_is_planted_where_it_says():
    assert mutate.planted("a = 1\nb = 2\n", "x", "b = 2", "b = 3") == "a = 1\nb = 3\n"


def test_no_entry_of_the_table_is_stale():
    table = tomllib.loads((ROOT / "tools/mutants.toml").read_text(encoding="utf-8"))
    named = list(mutate.named_mutants(table, "*"))
    assert len({mutant.name for mutant in named}) == len(table["mutants"]) == len(named)
    for mutant in named:
        compile(mutant.text, mutant.file, "exec")
        assert mutant.text != (ROOT / mutant.file).read_text(encoding="utf-8")
        assert mutant.tests
    for files, tests in table["tests"].items():
        assert all(list(ROOT.glob(pattern)) for pattern in (files, *tests)), files
