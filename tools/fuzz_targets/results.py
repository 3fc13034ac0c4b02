"""Readers of results files: `report` in every form, `compare`, `figure`, and the reader that all of them share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from fuzzing import Target, damaged_json

from guardclash.judging.criteria import ACCURACY, Ceiling, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.records.cells import Cell, Named
from guardclash.records.file import read_results, results_text
from guardclash.records.plain import results_from
from guardclash.reporting.compare import compare_tables
from guardclash.reporting.figure_parts.distances import COLUMNS, ROWS
from guardclash.reporting.figures import FIGURES, draw
from guardclash.reporting.findings import Findings, find
from guardclash.reporting.forms import FORMS
from guardclash.reporting.reference import Published
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from

METRICS: dict[str | None, tuple[Metric, ...]] = {
    None: (ACCURACY,),
    "mark": (
        Metric("mark", "φ_MARK", MaxDrop(0.30), title="marks that are found", range=(0.0, 1.0), net=True, paired=True),
        Metric("extra", "χ", None),
    ),
    "cost": (Metric("epsilon", "ε", MaxGrowth(1.5), higher_is_better=False, decimals=1, gain=False, computed=True),),
    "print": (
        Metric("p", "φ_P", Ceiling(-3), False, 1, log10=True, controls=("framed",)),
        Metric("framed", "framed", None, False, 1, log10=True),
    ),
    "trace": (Metric("trace", "φ_T", Floor(0.01), decimals=3, optional=True),),
    "other": (),
}
"""One of every kind of criterion, by mechanism."""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


@cache
def study() -> Study:
    """A study with a clash, a sweep, an order and suspects."""
    combinations: list[list[Any]] = [["mark", "cost"], ["print", "trace"], ["mark", "other"], ["cost", "trace"]]
    combinations += [["mark", {"name": "other", "strength": strength}] for strength in (1, 2)]
    return study_from(
        {
            "name": "fuzzed",
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "replicates": {"alone": 2, "together": 2},
            "combinations": [{"mechanisms": one} for one in combinations]
            + [{"mechanisms": ["mark"], "then": [{"mechanisms": ["cost"]}]}],
            "suspects": [{"kind": "extraction"}, {"kind": "independent"}],
        }
    )


def _value(name: str, seed: int, names: tuple[str, ...]) -> float:
    usual = {"accuracy": 0.8, "mark": 0.9, "epsilon": 3.0, "p": -8.0, "framed": -0.2, "trace": 0.4, "extra": 1.0}
    return usual[name] + 0.0 * seed if name == "epsilon" else usual[name] * (1 - 0.1 * len(names)) + 0.01 * seed


def _measured(of: Named | None, seed: int, names: tuple[str, ...], suspect: bool) -> dict[str, Any]:
    metrics = METRICS[of and of.name]
    found: dict[str, Any] = {
        "of": of and of.plain.to_dict(),
        "values": {metric.name: _value(metric.name, seed, names) for metric in metrics},
        "warnings": ["a warning"] if len(names) == 2 else [],
    }
    if of and of.name == "mark" and suspect and "cost" in names:
        found["curves"] = {f"{row}_{column}": [[1, 0.9], [20, 0.95]] for row in ROWS for column in COLUMNS}
    if of and names == ("mark",):
        groups = {"clean": {"all": {"x": [0.1, 0.2], "y": [0.3, 0.4]}}, "marks": {"one": {"x": [0.5], "y": [0.6]}}}
        found["scatter"] = {"caption": "Marks are apart.", "axes": ["one", "two"], **groups}
    return found


def _cell(cell: Cell) -> dict[str, Any]:
    names = tuple(named.name for named in cell.combination)
    measured = (None, *(study().measured_in(cell) if not cell.suspect else cell.combination))
    clash = "both want the gradient" if names == ("cost", "trace") else None
    stream = {"type": "Stream", "name": "task", "gradient": {"type": "Mean"}, "maps": []}
    plan = {"type": "Plan", "model": {"type": "CNN", "widths": [8, 16], "norm": "group"}, "streams": [stream]}
    whole = {**plan, "streams": [stream, {**stream, "source": {"type": "Marks", "network": plan}}], "initial": plan}
    recipe = {"dataset": "digits", "scale": "smoke", "epochs": 2, "protected_epochs": 4, "examples": 256}
    recipe |= {"test_examples": None, "model": "cnn4-small", "norm": "batch", "batch_size": 64, "parameters": 1234}
    trials: list[dict[str, Any]] = [
        {
            "seed": seed,
            "trial": f"{'-'.join(names)}-{seed}",
            "seconds": 61.5 + seed,
            "losses": {"task": [2.3, 1.1], "trigger": [2.0, "inf"]},
            "measurements": [_measured(of, seed, names, bool(cell.suspect)) for of in measured],
        }
        for seed in study().seeds(cell)
    ]
    if names == ("mark", "other"):
        trials[-1] |= {"error": "Traceback\nValueError: no", "measurements": []}
    if names == ("print", "trace"):
        trials[-1] |= {"diverged": True, "error": "diverged"}
    picture = {"name": "triggers", "caption": "Triggers.", "png": PNG, "width": 30}
    suspect = cell.suspect and {"suspect": cell.suspect.to_dict(), "stolen": cell.suspect.kind.name == "extraction"}
    return {
        **(suspect or {}),
        "key": cell.key,
        "recipe": recipe,
        "combination": [named.to_dict() for named in cell.combination],
        "clash": clash,
        "plan": None if clash else "+".join(names) or "bare",
        "composed": None if clash else whole,
        "facts": {"cost": {"ε of task": "3 (δ = 1e-05)"}} if "cost" in names and not clash else {},
        "measures": [
            {"of": of and of.plain.to_dict(), "metrics": [one.to_dict() for one in METRICS[of and of.name]]}
            for of in measured
        ],
        "trials": [] if clash else trials,
        **({"evidence": [picture]} if names == ("mark",) else {}),
        **({} if names else {"data": {"sizes": {"train": 100}, "parts": {"x": "abc"}, "notes": ["Scaled."]}}),
    }


@cache
def sound() -> tuple[bytes, ...]:
    """A results file of each schema, with everything in it."""
    cells = [_cell(cell) for cell in (*study().cells(), *study().suspect_cells())]
    environments = [{"guardclash": "0.1.0", "processor": "none", "torch": "2.4.0", "commit": "abc123"}]
    content = {"study": "fuzzed", "written": "2026-01-02T03:04:05Z", "environments": environments, "cells": cells}
    return results_text(results_from(content)).encode(), json.dumps({"schema": 1, **content}).encode()


REFERENCE = tuple(
    Published(
        table="3", dataset="digits", combination={name: {} for name in names}, metric=metric, mean=0.8, conflict=True
    )
    for names, metric in (
        (("mark", "cost"), "verdict"),
        (("mark", "cost"), "mark"),
        (("mark", "cost"), "accuracy"),
        (("cost", "trace"), "verdict"),
        (("print", "trace"), "p"),
        (("mark",), "mark"),
    )
)


def _found(content: bytes, folder: Path) -> Findings:
    path = folder / "results.json"
    path.write_bytes(content)
    return find(study(), read_results(path))


def _compared(found: Findings) -> str:
    from rich.console import Console

    console = Console(width=140, force_terminal=False)
    with console.capture() as captured:
        for part in compare_tables(found, REFERENCE):
            console.print(part)
    return captured.get().encode().decode()


def _told(form: Callable[[Findings], object], content: bytes, folder: Path) -> None:
    form(_found(content, folder))


def _exported(found: Findings) -> bytes:
    return results_text(found.results).encode()


def _every(found: Findings) -> None:
    """All forms of one input, which is read once."""
    for form in (*FORMS.values(), _compared, _exported):
        form(found)


def _forms() -> Iterator[tuple[str, Callable[[Findings], object]]]:
    yield "read", lambda found: found
    yield from FORMS.items()
    yield "compare", _compared
    yield "export", _exported
    yield "every", _every
    yield from ((f"figure-{name}", partial(_drawn, name)) for name in FIGURES)


def _drawn(name: str, found: Findings) -> bytes:
    return draw(name, found, "svg")


TARGETS = tuple(Target(f"results/{name}", partial(_told, form), sound, damaged_json) for name, form in _forms())
