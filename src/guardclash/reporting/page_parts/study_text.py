"""A study as the text of a study file, so that a report holds all that is needed to repeat it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from guardclash.data.own.task import OwnTask
from guardclash.judging.criteria import criterion_dict
from guardclash.records.cells import Named, Suspected
from guardclash.studies.study import Study


def study_text(study: Study) -> str:
    """A study as TOML: sweeps, scales and extended files are written out, other files are named without their folder.

    Reading it gives the same study again, but for that folder.
    """
    return "\n".join(_lines(study)) + "\n"


def _lines(study: Study) -> Iterator[str]:
    replicates: dict[str, int] = {"alone": study.alone, "together": study.together}
    if study.start is not None:
        replicates = {"start": study.start, "most": study.together}
    replicates |= {} if study.suspected is None else {"suspects": study.suspected}
    yield from _entries({**_head(study), "replicates": replicates})
    yield from _readings(study)
    for task in study.tasks:
        yield from _task(task)
    for recipe in study.recipes:
        yield from ("", "[[recipes]]", *_entries(_recipe(recipe)))
    for combination in study.combinations:
        yield from ("", "[[combinations]]", *_combination(combination))
    for suspect in study.suspects:
        yield from ("", "[[suspects]]", *_suspect(suspect))
    for note in study.notes:
        about = {"mechanisms": sorted(note.mechanisms), "metric": note.metric, "text": note.text}
        about |= {name: said for name in ("dataset", "reading") if (said := getattr(note, name)) is not None}
        yield from ("", "[[notes]]", *_entries(about))


def _head(study: Study) -> dict[str, Any]:
    """What stands before the tables; what is empty is left out."""
    maybe = {
        "criteria": {name: criterion_dict(criterion) for name, criterion in study.criteria},
        "measures": [named.to_dict() for named in study.measures],
        "plugins": [path.name for path in study.plugins],
        "reference": study.reference.name if study.reference else None,
        "reference_tables": list(study.reference_tables),
    }
    return {
        "name": study.name,
        "first_seed": study.first_seed,
        "rule": study.rule,
        "alpha": study.alpha,
        "correction": study.correction,
        **{name: value for name, value in maybe.items() if value},
    }


def _task(task: Any) -> Iterator[str]:
    """A task of the study's own, its files as the study names them; one from Python is only told."""
    if not isinstance(task, OwnTask):
        yield from ("", f"# The task {_text(task.data.label)} was made in Python.")
        return
    names = (field.name for field in dataclasses.fields(OwnTask) if field.compare)
    found: dict[str, Any] = {name: value for name in names if (value := getattr(task, name)) not in (None, ())}
    tables: dict[str, Any] = {name: dict(found[name]) for name in ("options", "training") if name in found}
    yield from ("", "[[tasks]]", *_entries({**found, **tables}))


def _recipe(recipe: Named) -> dict[str, Any]:
    found = recipe.to_dict()
    return {"dataset": found.pop("name"), **found}


def _combination(combination: tuple[Named, ...]) -> Iterator[str]:
    laters = sorted({named.later for named in combination if named.later}, key=lambda later: later.place)
    yield f"mechanisms = {_mechanisms(named for named in combination if named.later is None)}"
    for later in laters:
        own = _mechanisms(named.plain for named in combination if named.later == later)
        epochs = {} if later.epochs is None else {"epochs": later.epochs}
        yield from ("", "[[combinations.then]]", f"mechanisms = {own}")
        yield from _entries({**epochs, "learning_rate": later.learning_rate})


def _readings(study: Study) -> Iterator[str]:
    for name, under in study.readings:
        for of, dataset, options in under:
            where = ".".join(map(_key, ("readings", name, of, *([dataset] if dataset else []))))
            yield from ("", f"[{where}]", *_entries(dict(options)))


def _suspect(suspect: Suspected) -> Iterator[str]:
    yield from _entries({"kind": suspect.kind.name, **dict(suspect.kind.options)})
    if suspect.mechanisms:
        yield f"mechanisms = {_mechanisms(suspect.mechanisms)}"


def _entries(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_key(name)} = {_value(value)}" for name, value in table.items())


def _mechanisms(found: Iterable[Named]) -> str:
    return "[" + ", ".join(_value(named.to_dict() if named.options else named.name) for named in found) + "]"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_entries(value)) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    # TOML reads JSON's strings, but knows no halves of letters (surrogates) and wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else _text(name)
