"""A study as the text of a study file, so that a report holds all that is needed to repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from guardclash.judging.criteria import criterion_dict
from guardclash.studies.cells import Named, Suspected
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
    table: dict[str, Any] = {
        "name": study.name,
        "replicates": replicates,
        "first_seed": study.first_seed,
        "rule": study.rule,
        "alpha": study.alpha,
        "correction": study.correction,
    }
    if study.criteria:
        table["criteria"] = {name: criterion_dict(criterion) for name, criterion in study.criteria}
    if study.plugins:
        table["plugins"] = [path.name for path in study.plugins]
    if study.reference:
        table["reference"] = study.reference.name
    if study.reference_tables:
        table["reference_tables"] = list(study.reference_tables)
    yield from _entries(table)
    yield from _readings(study)
    for recipe in study.recipes:
        yield from ("", "[[recipes]]", *_entries({"dataset": recipe.name, **dict(recipe.options)}))
    for combination in study.combinations:
        yield from ("", "[[combinations]]", f"mechanisms = {_mechanisms(combination)}")
    for suspect in study.suspects:
        yield from ("", "[[suspects]]", *_suspect(suspect))
    for note in study.notes:
        about = {"mechanisms": sorted(note.mechanisms), "metric": note.metric, "text": note.text}
        yield from ("", "[[notes]]", *_entries(about))


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
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else _text(name)
