"""Reports as files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from guardclash.errors import UserError
from guardclash.records.file import PICTURES, pictures_of, results_text, shared_pictures
from guardclash.records.results import Results
from guardclash.reporting.findings import Findings
from guardclash.reporting.notes import scales
from guardclash.words import shown
from guardclash.writing import write_whole

UNUSUAL = re.compile(r"[^\n -~]")
"""Letters that may be without a shape."""


def to_json(found: Findings) -> dict[str, Any]:
    """The verdicts with all that they rest on, as JSON data."""
    study, rule = found.study, found.rule
    return {
        "study": study.name,
        "rule": rule,
        "alpha": study.alpha,
        "correction": study.correction,
        "confidence": study.confidence,
        "environments": found.results.environments,
        "scales": list(scales(study, found.results, study.recipes)),
        "verdicts": [verdict.to_dict(rule) for verdict in found.verdicts],
        "side_effects": [one.to_dict(study) for one in found.side_effects],
        "controls": [control.to_dict() for control in found.controls],
        "claims": [claim.to_dict() for claim in found.claims],
    }


def export(results: Results, folder: Path) -> tuple[Path, ...]:
    """Writes a study's record, to be kept or published: results.json, raw values per seed and plans, no weights.

    Pictures are files beside it, in the folder `pictures`; where one of the two folders above has such a folder, they
    go there, so that records share them. All else follows from the record: `guardclash report` and `guardclash compare`
    read the folder.
    """
    shared = shared_pictures(folder) or folder / PICTURES
    files = {folder / "results.json": results_text(results, pictures=False).encode()}
    files |= {shared / f"{name}.png": png for name, png in pictures_of(results).items()}
    path = folder
    try:
        for path, content in files.items():
            write_whole(path, content)
    except OSError as error:
        raise UserError(f"the record cannot be written: {error.strerror}", where=path) from error
    return tuple(files)


def dump(content: dict[str, Any]) -> str:
    """JSON text for people and programs; letters without a shape of their own are written by their numbers."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"  # NaN is no JSON
    return UNUSUAL.sub(lambda found: found[0] if shown(found[0]) == found[0] else json.dumps(found[0])[1:-1], text)
