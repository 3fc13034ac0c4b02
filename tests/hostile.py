"""Studies and results in which every text holds what could move a terminal, turn words around, or be read as markup."""

from __future__ import annotations

import unicodedata
from typing import Any

from guardclash.judging.criteria import ACCURACY, Ceiling, MaxDrop, Metric
from guardclash.records.cells import Cell, Named, Note, Suspected
from guardclash.records.plain import results_from
from guardclash.records.results import Results
from guardclash.studies.study import Study

UNSEEN = "\x1b]0;owned\x07\x9b31m\x7f\x00\x08\r\u202e\u2066\u200b\u200d\ufeff\u3164\U000e0041"
MARKUP = "[/x][red]:smile:\\[/\\"
HOSTILE = UNSEEN + MARKUP
LINKS = {"key", "of", "combination", "criterion", "png", "type", "controls"}
"""What the parts of results know each other by; the study's own names are hostile already."""


def unseen(text: str, lines: str = "\n") -> set[str]:
    """The letters of a text that have no shape of their own, but line ends; found otherwise than the package does."""
    odd = {letter for letter in set(text) if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}}
    return (odd | (set(text) & set("\u3164\u115f\u034f"))) - set(lines)


def study(text: str = HOSTILE, **keys: Any) -> Study:
    """Every name and note in it ends in the text."""
    recipe = Named(f"digits{text}", (("scale", f"smoke{text}"),))
    mark = [Named(f"a{text}", (("size", f"{n}{text}"),)) for n in (1, 2)]
    other = Named(f"b{text}")
    notes = (Note(frozenset({mark[0].name, other.name}), "verdict", f"known{text}"),)
    suspects = (Suspected(Named(f"thief{text}")), Suspected(Named(f"thief{text}"), (other,)))
    combinations = tuple((one, other) for one in mark)
    return Study(f"s{text}", (recipe,), combinations, 2, 2, suspects=suspects, notes=notes, **keys)


def results(asked: Study, text: str = HOSTILE) -> Results:
    """Results of such a study, every text in them ending in the text: one mark is lost, one combination clashes."""
    cells = [_cell(asked, cell) for cell in (*asked.cells(), *asked.suspect_cells())]
    environments = [{"torch": "2", "processor": "fast", "accelerator": "x"}, {"torch": "1", "processor": "slow"}]
    content = {"study": "s", "written": "now", "environments": environments, "cells": cells}
    return results_from(_ended(content, text))


def _cell(asked: Study, cell: Cell) -> dict[str, Any]:
    owners = [None, *(asked.measured_in(cell) if cell.suspect is None else cell.combination)]
    clash = len(cell.combination) == 2 and cell.combination[0] == asked.combinations[1][0] and not cell.suspect
    numbers = {"examples": 3, "test_examples": None, "epochs": 2, "protected_epochs": 4, "batch_size": 64}
    about = {"dataset": "d", "scale": "s", "model": "m", "norm": "n", "optimizer": "o", "augmentation": "g", **numbers}
    first = not cell.combination
    return {
        "key": cell.key,
        "recipe": {**about, "learning_rate": 0.1},
        "combination": [one.to_dict() for one in cell.combination],
        "suspect": cell.suspect and cell.suspect.to_dict(),
        "stolen": True if cell.suspect else None,
        "clash": "they clash" if clash else None,
        "plan": None if clash else "abc",
        "composed": None if clash else {"type": "Plan", "model": {"type": "CNN", "width": "w"}},
        "facts": {"a": {"epsilon": "8"}},
        "measures": [{"of": of and of.to_dict(), "metrics": [one.to_dict() for one in _metrics(of)]} for of in owners],
        "trials": [] if clash else [_trial(cell, owners, seed) for seed in (0, 1)],
        "evidence": [{"name": "n", "caption": "c"}, {"name": "n", "caption": "c", "bytes": 5}],
        "data": {"sizes": {"train": 5}, "parts": {"train.x": "abc"}, "notes": ["scaled"]} if first else None,
    }


def _metrics(of: Named | None) -> tuple[Metric, ...]:
    if of is None:
        return (ACCURACY,)
    trace = Metric("trace", "τ", Ceiling(-3), higher_is_better=False, log10=True)
    return Metric("mark", "φ_M", MaxDrop(0.3)), trace


def _trial(cell: Cell, owners: list[Named | None], seed: int) -> dict[str, Any]:
    found = []
    for of in owners:
        value = 0.1 if len(cell.combination) == 2 else 0.9
        values = {metric.name: -5.0 if metric.log10 else value for metric in _metrics(of)}
        curves = {"curve": [[0, 1.0], [1, 2.0]]} if of else {}
        found.append({"of": of and of.to_dict(), "values": values, "warnings": ["warm"], "curves": curves})
    error = {"error": "Traceback\nRuntimeError: it broke"} if seed and len(cell.combination) == 1 else {}
    made = {"seconds": 1.0, "losses": {"task": [1.0, 0.5]}, "environment": seed}
    return {"seed": seed, "trial": f"t{seed}", **made, **error, "measurements": found}


def _ended(value: Any, text: str) -> Any:
    """JSON data whose texts, and names that are no keywords of the form, end in a text."""
    if isinstance(value, dict):
        open_ended = {"facts", "values", "losses", "curves", "parts"}
        return {
            name: part
            if name in LINKS
            else {inner + text: _ended(found, text) for inner, found in part.items()}
            if name in open_ended
            else _ended(part, text)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_ended(item, text) for item in value]
    return value + text if isinstance(value, str) else value
