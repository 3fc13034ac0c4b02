"""The verdicts of all committed records are those that were written down before the records changed their form.

`python tests/test_recorded_verdicts.py` writes them down anew: only after a deliberate change of judging.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from committed import RECORDS, committed
from guardclash.judging.rules import PValues
from guardclash.studies.verdicts import verdicts

KNOWN = Path(__file__).parent / "reference" / "verdicts.json"


def words(name: str) -> list[list[object]]:
    """Recipe, mechanisms and, by each of the study's rules, the outcome, every metric's own and its p-values."""
    study, results = committed(name)
    return [
        [
            verdict.recipe,
            *verdict.combination,
            *(
                [
                    verdict.outcome(rule),
                    *(
                        f"{one.metric.name}: {one.outcome(rule)}, {_p(one.decisive(rule))}"
                        for one in verdict.judgements
                    ),
                ]
                for rule in study.rules
            ),
        ]
        for verdict in verdicts(study, results)
    ]


def _p(values: PValues) -> str:
    return " ".join("-" if p is None else f"{p:.4g}" for p in (values.noninferior, values.inferior))


@pytest.mark.parametrize("name", RECORDS)
def test_verdicts_are_as_before(name: str) -> None:
    assert words(name) == json.loads(KNOWN.read_text())[name]


if __name__ == "__main__":
    known = {name: words(name) for name in RECORDS}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(found, ensure_ascii=False)}" for name, found in known.items())
    KNOWN.write_text("{\n" + lines + "\n}\n")
