"""tools/fuzz.py: inputs follow from their numbers, faults are told, and our readers have none."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from guardclash.errors import UserError

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))

from fuzzing import Damaged, Target, damaged_bytes, damaged_json, made_input, table, targets, tried  # noqa: E402

SOUND = json.dumps({"a": [1, 2, {"b": "x"}], "c": {"d": None}}).encode()
SHORT = {"results/read": 150, "results/every": 12}
"""Inputs here of targets that take longer, or of which more are wanted; 0: the slow test alone."""


def short(target: Target) -> int:
    return SHORT.get(target.name, 0 if target.name.startswith("results/") else 150)


def broken(content: bytes, folder: Path) -> None:
    """A reader with a fault: it presumes that a table is there."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError("no JSON") from error
    data["a"]


@pytest.mark.parametrize("target", [one for one in targets() if short(one)], ids=lambda one: one.name)
def test_readers_take_damaged_inputs_or_refuse_them(target):
    found = tried(target, short(target), seed=0)
    assert not found.faults, "\n".join(table([found]))
    assert found.inputs == found.accepted + found.refused == short(target)
    assert found.refused, "damage that nobody notices tests nothing"


@pytest.mark.slow
@pytest.mark.parametrize("target", targets(), ids=lambda one: one.name)
def test_readers_take_more_damaged_inputs_or_refuse_them(target):
    found = tried(target, 200, seed=1)
    assert not found.faults, "\n".join(table([found]))


@pytest.mark.parametrize("damage", [damaged_bytes, damaged_json])
def test_an_input_follows_from_its_number(damage):
    target = Target("one", broken, lambda: (SOUND,), damage)
    made = [made_input(target, number, 7) for number in range(200)]
    assert made == [made_input(target, number, 7) for number in range(200)]
    assert len({one.content for one in made}) > 100
    assert made != [made_input(target, number, 8) for number in range(200)]


def test_a_fault_is_told_with_its_smallest_example():
    found = tried(Target("broken", broken, lambda: (SOUND,), damaged_json), 300, seed=0)
    assert found.faults
    assert found.foreign == sum(fault.times for fault in found.faults.values()) > 0
    for fault in found.faults.values():
        again = made_input(Target("broken", broken, lambda: (SOUND,), damaged_json), fault.number, 0)
        assert again == fault.example
        with pytest.raises((KeyError, TypeError)):
            broken(again.content, Path())
    lines = list(table([found]))
    assert len(lines) == 2 + len(found.faults)
    assert lines[1].split()[:2] == ["broken", "300"]


def test_a_sound_input_that_is_refused_ends_it():
    def refuse(content: bytes, folder: Path) -> None:
        raise UserError("never")

    with pytest.raises(RuntimeError, match="a sound input is refused: never"):
        tried(Target("closed", refuse, lambda: (SOUND,), damaged_bytes), 1, seed=0)


def test_a_reader_that_hangs_is_told(monkeypatch):
    monkeypatch.setattr("fuzzing.LIMIT_S", 0.1)

    def hang(content: bytes, folder: Path) -> None:
        while content != SOUND:
            pass

    found = tried(Target("slow", hang, lambda: (SOUND,), lambda content, rng: Damaged(b"", "emptied")), 1, seed=0)
    assert [fault.place.split(":")[0] for fault in found.faults.values()] == ["TooLong"]


def test_damage_of_json_reaches_every_kind_of_place():
    said = " ".join(damaged_json(SOUND, random.Random(number)).said for number in range(1500))
    for part in ("a[0] removed", "a[2].b = ", "c.d doubled", "c is called", "raw deep", "raw NaN", "bits flipped"):
        assert part in said, part
    texts = [damaged_json(SOUND, random.Random(number)).content for number in range(1500)]
    for token in (b"NaN", b"[" * 3000, b"\\ud800", b"1e999"):
        assert any(token in text for text in texts), token
