"""The trainings of all committed studies have the keys that they had, so that old stores stay useful.

`python tests/test_recorded_keys.py` writes them down anew: only where CHANGELOG says why a key had to change.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from committed import EVERY, RECORDS, committed
from guardclash.plan.identity import fingerprint
from guardclash.studies.composing import compose_study

KNOWN = Path(__file__).parent / "reference" / "keys.json"


def keys(name: str) -> list[str]:
    """The key of every cell's training, in the order of the study; "" for a clash."""
    study, _ = committed(name)
    return [fingerprint(entry.plan) if entry.plan else "" for entry in compose_study(study)]


@pytest.mark.parametrize("name", EVERY)
def test_keys_of_trainings_are_as_before(name: str) -> None:
    assert keys(name) == json.loads(KNOWN.read_text())[name]


if __name__ == "__main__":
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(keys(name))}" for name in RECORDS)
    KNOWN.write_text("{\n" + lines + "\n}\n")
