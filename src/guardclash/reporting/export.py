"""Reports as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.rules import Rule
from guardclash.reporting.claims import claims
from guardclash.reporting.controls import controls
from guardclash.reporting.text import render
from guardclash.studies.results import Results
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.verdicts import verdicts


def to_json(study: Study, results: Results, rule: Rule) -> dict[str, Any]:
    """The verdicts with all that they rest on, as JSON data."""
    return {
        "study": study.name,
        "rule": rule,
        "alpha": study.alpha,
        "correction": study.correction,
        "environments": results.environments,
        "verdicts": [verdict.to_dict(rule) for verdict in verdicts(study, results)],
        "controls": [control.to_dict() for control in controls(study, results)],
        "claims": [claim.to_dict() for claim in claims(study, results)],
    }


def export(study: Study, results: Results, rule: Rule, folder: Path) -> tuple[Path, ...]:
    """Writes results.json (raw values per seed, plans, no weights), verdicts.json and report.txt, to be committed."""
    store = Store(folder)
    kept = [
        store.keep_json("results.json", results.content),
        store.keep_json("verdicts.json", to_json(study, results, rule)),
    ]
    text = folder / "report.txt"
    try:
        text.write_text(render(study, results, rule), encoding="utf-8")
        (folder / "work").rmdir()
    except OSError as error:
        raise UserError(f"the report cannot be written: {error.strerror}", where=text) from error
    return (*kept, text)


def dump(content: dict[str, Any]) -> str:
    """JSON text for people and programs."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
