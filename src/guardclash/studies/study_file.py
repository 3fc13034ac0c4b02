"""Reads a study from TOML, with an error that says where for everything that can be wrong in one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardclash.errors import UserError, suggestion
from guardclash.judging.criteria import Criterion, criterion_from
from guardclash.studies.extended_toml import read_table
from guardclash.studies.study import Named, Note, Options, Study, Suspected


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Replicates(_Strict):
    alone: int = Field(5, ge=1)
    together: int = Field(10, ge=1)
    suspects: int | None = Field(None, ge=1)
    start: int | None = Field(None, ge=2)
    most: int | None = Field(None, ge=2)


class _Mechanism(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    name: str
    sweep: dict[str, list[Any]] = {}


Scale = Literal["paper", "reduced", "smoke"]


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    dataset: str
    scale: Scale = "reduced"


class _Suspect(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    kind: str
    mechanisms: list[str | _Mechanism] = []
    sweep: dict[str, list[Any]] = {}


class _Combination(_Strict):
    mechanisms: list[str | _Mechanism] = Field(min_length=1)


class _Note(_Strict):
    mechanisms: list[str]
    metric: str
    text: str


class _Scales(_Strict):
    paper: dict[str, dict[str, Any]] = {}
    reduced: dict[str, dict[str, Any]] = {}
    smoke: dict[str, dict[str, Any]] = {}


class _File(_Strict):
    extends: str | None = None
    scales: _Scales = Field(default_factory=lambda: _Scales())
    readings: dict[str, dict[str, dict[str, Any]]] = {}
    name: str | None = Field(None, pattern=r"^[\w][\w. -]*$")
    plugins: list[str] = []
    rule: Literal["paper", "strict"] = "strict"
    alpha: float = Field(0.05, gt=0, lt=0.5)
    correction: Literal["none", "holm"] = "none"
    first_seed: int = Field(0, ge=0)
    replicates: _Replicates = Field(default_factory=lambda: _Replicates.model_validate({}))
    criteria: dict[str, dict[str, Any]] = {}
    recipes: list[_Recipe] = Field(min_length=1)
    combinations: list[_Combination] = Field(min_length=1)
    suspects: list[_Suspect] = []
    reference: str | None = None
    reference_tables: list[str] = []
    records: str | None = None
    notes: list[_Note] = []


def read_study(path: str | Path, scale: str | None = None) -> Study:
    """Reads a study file.

    Args:
        path: A TOML file; plugins and the file that it extends are relative to it.
        scale: Of all its recipes, instead of their own; the study is then called after it, such as "table4-paper".

    Raises:
        UserError: If the file is missing, is not TOML, or has an unknown key or a wrong value; the message says where.
    """
    path = Path(path)
    table = read_table(path)
    return study_from(table, where=str(path), folder=path.parent, name=path.stem, scale=scale)


def study_from(
    table: Mapping[str, Any],
    *,
    where: str = "study",
    folder: Path | None = None,
    name: str = "study",
    scale: str | None = None,
) -> Study:
    """A study from a table of the same form as the file.

    Raises:
        UserError: As `read_study`.
    """
    try:
        file = _File.model_validate(dict(table))
    except ValidationError as error:
        raise _explain(error, where) from None
    _check_replicates(file, where)

    def beside(path: str) -> Path:
        return ((folder or Path()) / path).resolve()

    called = file.name or name
    return Study(
        name=f"{called}-{scale}" if scale else called,
        recipes=tuple(
            dict.fromkeys(named for recipe in file.recipes for named in _recipes(recipe, file, where, scale))
        ),
        combinations=_combinations(file, where),
        alone=file.replicates.most or file.replicates.alone,
        together=file.replicates.most or file.replicates.together,
        start=file.replicates.start,
        suspects=tuple(dict.fromkeys(suspect for entry in file.suspects for suspect in _suspects(entry, where))),
        suspected=file.replicates.suspects,
        first_seed=file.first_seed,
        rule=file.rule,
        alpha=file.alpha,
        correction=file.correction,
        criteria=tuple(
            (metric, _criterion(criterion, f"{where}: criteria.{metric}"))
            for metric, criterion in file.criteria.items()
        ),
        plugins=tuple(beside(plugin) for plugin in file.plugins),
        readings=tuple((reading, _reading(reading, under, where)) for reading, under in file.readings.items()),
        reference=beside(file.reference) if file.reference else None,
        reference_tables=tuple(file.reference_tables),
        records=beside(file.records) if file.records else None,
        notes=tuple(Note(frozenset(note.mechanisms), note.metric, note.text) for note in file.notes),
    )


def _recipes(recipe: _Recipe, file: _File, where: str, scale: str | None) -> Iterator[Named]:
    """A recipe under each of the study's readings; what the recipe itself says counts before scale and reading."""
    own = recipe.model_extra or {}
    chosen = scale or recipe.scale
    if scale and scale not in get_args(Scale):
        raise UserError("unknown scale", where="scale", got=scale, allowed=", ".join(get_args(Scale)))
    for reading in [own["reading"]] if "reading" in own else file.readings or [""]:
        if reading and reading not in file.readings:
            mend = suggestion(str(reading), file.readings)
            raise UserError("unknown reading", where=f"{where}: {recipe.dataset}", got=reading, mend=mend)
        wide, narrow = _parted(file.readings[reading].get("recipe", {}) if reading else {})
        under = {**wide, **narrow.get(recipe.dataset, {})}
        of_scale = getattr(file.scales, chosen).get(recipe.dataset, {})
        named = {"reading": reading} if reading else {}
        yield Named(
            recipe.dataset,
            _options({**of_scale, **under, **own, **named, "scale": chosen}, f"{where}: {recipe.dataset}"),
        )


def _reading(
    reading: str, under: Mapping[str, Mapping[str, Any]], where: str
) -> tuple[tuple[str, str | None, Options], ...]:
    """Options by mechanism and data set; those for every data set have None and come first."""
    found: list[tuple[str, str | None, Options]] = []
    for of, table in under.items():
        place = f"{where}: readings.{reading}.{of}"
        wide, narrow = _parted(table)
        found.append((of, None, _options(wide, place)))
        found += [(of, dataset, _options(options, f"{place}.{dataset}")) for dataset, options in narrow.items()]
    return tuple(found)


def _parted(table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """What a reading says for every data set, and for some."""
    narrow = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    return {name: value for name, value in table.items() if name not in narrow}, narrow


def _check_replicates(file: _File, where: str) -> None:
    """Seeds that are added need both ends, and tests that no later seed changes."""
    asked = file.replicates
    start, most = asked.start, asked.most
    if start is None and most is None:
        return
    place = f"{where}: replicates"
    if start is None or most is None or start > most or {"alone", "together"} & asked.model_fields_set:
        allowed = "{ start = 3, most = 10 }, or { alone = 5, together = 10 }"
        raise UserError(
            "not such a number of replicates", where=place, got=asked.model_dump(exclude_none=True), allowed=allowed
        )
    if file.correction != "none":
        mend = "Leave out the correction, or ask for fixed replicates."
        raise UserError("a correction over the study needs all its replicates at once", where=place, mend=mend)


def _combinations(file: _File, where: str) -> tuple[tuple[Named, ...], ...]:
    found = [combination for entry in file.combinations for combination in _expand(entry.mechanisms, where)]
    for combination in found:
        names = [mechanism.name for mechanism in combination]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(f"{twice!r} stands twice in one combination", where=where, got=names)
    return tuple(dict.fromkeys(found))


def _expand(mechanisms: list[str | _Mechanism], where: str) -> Iterator[tuple[Named, ...]]:
    """All combinations that an entry stands for: the product of its mechanisms' sweeps."""
    variants = []
    for mechanism in mechanisms:
        entry = _Mechanism(name=mechanism) if isinstance(mechanism, str) else mechanism
        fixed = entry.model_extra or {}
        for option, values in entry.sweep.items():
            if not values or option in fixed:
                problem = "an option is both swept and fixed" if values else "a sweep needs values"
                raise UserError(problem, where=f"{where}: {entry.name}.sweep.{option}")
        choices = [[(option, value) for value in values] for option, values in entry.sweep.items()]
        variants.append(
            [
                Named(entry.name, _options({**fixed, **dict(choice)}, f"{where}: {entry.name}"))
                for choice in itertools.product(*choices)
            ]
        )
    yield from itertools.product(*variants)


def _suspects(entry: _Suspect, where: str) -> Iterator[Suspected]:
    """All suspects that an entry stands for."""
    kind = _Mechanism.model_validate({"name": entry.kind, "sweep": entry.sweep, **(entry.model_extra or {})})
    for first, *own in _expand([kind, *entry.mechanisms], where):
        yield Suspected(first, tuple(own))


def _options(table: Mapping[str, Any], where: str) -> Options:
    """Sorted, and 3.0 as 3, so that one meaning has one form."""
    return tuple((name, _plain(value, f"{where}.{name}")) for name, value in sorted(table.items()))


def _plain(value: Any, where: str, inside: bool = False) -> Any:
    if isinstance(value, list | tuple) and not inside:
        return tuple(_plain(item, where, True) for item in value)
    if not isinstance(value, bool | int | float | str):
        allowed = "a number, a text, true, false, or a list of these"
        raise UserError("an option cannot have such a value", where=where, got=value, allowed=allowed)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _criterion(table: dict[str, Any], where: str) -> Criterion:
    try:
        return criterion_from(table, where)
    except UserError as error:
        raise error if where in str(error) else UserError(str(error).rstrip("."), where=where) from None


def _explain(error: ValidationError, where: str) -> UserError:
    # A misspelt key is reported as such, and not as the right one missing.
    # Of the ways to write a mechanism, a text or a table, that one counts which was meant.
    found = [one for one in error.errors() if not (one["type"] == "string_type" and isinstance(one["input"], dict))]
    first = min(found or error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    path = _path(first["loc"])
    if first["type"] in ("model_type", "dict_type"):
        return UserError("this must be a table", where=f"{where}: {path}", got=first["input"])
    if first["type"] == "extra_forbidden":
        parent = [part for part in first["loc"][:-1] if isinstance(part, str)]
        tables: dict[str, type[BaseModel]] = {"replicates": _Replicates, "combinations": _Combination}
        known = tables.get(parent[-1] if parent else "", _File).model_fields
        return UserError(
            f"unknown key {str(first['loc'][-1])!r}",
            where=f"{where}: {path}",
            mend=suggestion(str(first["loc"][-1]), known),
        )
    if first["type"] == "missing":
        return UserError(f"{path} is missing", where=where)
    if first["type"] == "too_short":
        return UserError(
            f"{path} is empty",
            where=where,
            mend="A study needs at least one recipe and one combination of mechanisms.",
        )
    return UserError(first["msg"][:1].lower() + first["msg"][1:], where=f"{where}: {path}", got=first["input"])


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in ("str", "_Mechanism"):  # pydantic names the member of a union
            text += f".{part}" if text else part
    return text
