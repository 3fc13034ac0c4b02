"""Reports as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.rules import Rule
from guardclash.reporting.claims import claims
from guardclash.reporting.compare import compare_tables
from guardclash.reporting.controls import controls
from guardclash.reporting.reference import reference_of
from guardclash.reporting.text import plain, render
from guardclash.studies.results import Results
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.verdicts import verdicts


def to_json(study: Study, results: Results, rule: Rule) -> dict[str, Any]:
    """The verdicts with all that they rest on, as JSON data."""
    study = study.under(rule)
    return {
        "study": study.name,
        "rule": rule,
        "alpha": study.alpha,
        "correction": study.correction,
        "confidence": study.confidence,
        "environments": results.environments,
        "verdicts": [verdict.to_dict(rule) for verdict in verdicts(study, results)],
        "controls": [control.to_dict() for control in controls(study, results)],
        "claims": [claim.to_dict() for claim in claims(study, results)],
    }


def export(study: Study, results: Results, rule: Rule, folder: Path) -> tuple[Path, ...]:
    """Writes results.json (raw values per seed, plans, no weights), verdicts.json and report.txt, to be committed.

    And compare.txt, if the study names published numbers.
    """
    store = Store(folder)
    kept = [
        store.keep_json("results.json", results.content),
        store.keep_json("verdicts.json", to_json(study, results, rule)),
    ]
    texts = {"report.txt": render(study, results, rule)}
    if study.reference:
        texts["compare.txt"] = plain(compare_tables(study, results, reference_of(study), rule), 160)
    path = folder
    try:
        for name, text in texts.items():
            path = folder / name
            path.write_text(text, encoding="utf-8")
            kept.append(path)
        (folder / "work").rmdir()
    except OSError as error:
        raise UserError(f"the report cannot be written: {error.strerror}", where=path) from error
    return tuple(kept)


def dump(content: dict[str, Any]) -> str:
    """JSON text for people and programs."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
