"""Reads a study from TOML, with an error that says where for everything that can be wrong in one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from guardclash.data.own.task import OwnTask
from guardclash.errors import UserError, suggestion
from guardclash.handed import path_in
from guardclash.judging.criteria import Criterion, criterion_from
from guardclash.records.cells import Named, Note, Options, Sequel, Suspected
from guardclash.studies.extended_toml import read_table
from guardclash.studies.limits import at_most, check_name, check_size
from guardclash.studies.study import Study
from guardclash.studies.study_schema import (
    CombinationEntry,
    Further,
    MechanismEntry,
    NoteEntry,
    RecipeEntry,
    Scale,
    StudyTable,
    SuspectEntry,
    TaskEntry,
    validated,
)
from guardclash.studies.sweeps import OF_RECIPES, expanded, options_of, refuse_keys, variants


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
    if "name" not in table:
        check_name(path.stem, path, given=False)
    study = study_from(table, where=str(path), folder=path.parent, name=path.stem, scale=scale)
    return replace(study, file=path.resolve())


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
    file = validated(table, where)
    _check_replicates(file, where)

    def beside(path: str, key: str) -> Path:
        return path_in(folder or Path(), path, f"{where}: {key}")

    called = check_name(name if file.name is None else file.name, f"{where}: name")
    named = (named for recipe in file.recipes for named in _recipes(recipe, file, where, scale))
    suspected = (suspect for entry in file.suspects for suspect in _suspects(entry, where))
    recipes = tuple(dict.fromkeys(at_most(named, where, "recipes")))
    combinations = _combinations(file, where)
    suspects = tuple(dict.fromkeys(at_most(suspected, where, "suspects")))
    asked = file.replicates.most or file.replicates.together
    replicates = asked, min(asked, file.replicates.suspects or asked)
    check_size(len(recipes), len(combinations), len(suspects), replicates, where)
    return Study(
        name=f"{called}-{scale}" if scale else called,
        recipes=recipes,
        combinations=combinations,
        alone=file.replicates.most or file.replicates.alone,
        together=asked,
        start=file.replicates.start,
        measures=_measures(file, where),
        suspects=suspects,
        suspected=file.replicates.suspects,
        first_seed=file.first_seed,
        rule=file.rule,
        alpha=file.alpha,
        correction=file.correction,
        criteria=tuple(
            (metric, _criterion(criterion, f"{where}: criteria.{metric}"))
            for metric, criterion in file.criteria.items()
        ),
        plugins=tuple(beside(plugin, "plugins") for plugin in file.plugins),
        readings=tuple((reading, _reading(reading, under, where)) for reading, under in file.readings.items()),
        reference=beside(file.reference, "reference") if file.reference else None,
        reference_tables=tuple(file.reference_tables),
        records=beside(file.records, "records") if file.records else None,
        notes=tuple(_note(note, file, where) for note in file.notes),
        tasks=tuple(_task(task, where, folder or Path()) for task in file.tasks),
        folder=folder or Path(),
    )


def _task(entry: TaskEntry, where: str, folder: Path) -> OwnTask:
    """A task of the study's own, not opened yet."""
    place = f"{where}: tasks.{entry.name}"
    size = entry.size
    if isinstance(size, list) and (len(size) != 2 or min(size) < 1):
        raise UserError("a size is a number or two", where=f"{place}.size", got=size, allowed="64, or [48, 64]")
    plain = {name: getattr(entry, name) for name in TaskEntry.model_fields}
    tuples = {name: tuple(plain[name]) for name in ("categories", "mean", "std")}
    tables = {name: options_of(plain[name], f"{place}.{name}") for name in ("options", "training")}
    sides = {"size": tuple(size)} if isinstance(size, list) else {}
    return OwnTask(**{**plain, **tuples, **tables, **sides}, folder=folder)


def _note(note: NoteEntry, file: StudyTable, where: str) -> Note:
    """A note; one of a reading that there is not would never be shown."""
    if note.reading is not None and note.reading not in file.readings:
        mend = suggestion(note.reading, file.readings)
        raise UserError("no such reading", where=f"{where}: notes", got=note.reading, mend=mend)
    return Note(frozenset(note.mechanisms), note.metric, note.text, note.dataset, note.reading)


def _recipes(recipe: RecipeEntry, file: StudyTable, where: str, scale: str | None) -> Iterator[Named]:
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
        refuse_keys(under, OF_RECIPES, f"{where}: readings.{reading}.recipe")
        refuse_keys(of_scale, OF_RECIPES - {"sweep"}, f"{where}: scales.{chosen}.{recipe.dataset}")
        named: dict[str, Any] = {"reading": reading} if reading else {}
        place = f"{where}: {recipe.dataset}"
        for scaled in variants(of_scale, f"{where}: scales.{chosen}.{recipe.dataset}", True, OF_RECIPES):
            for variant in variants(own, place, keys=OF_RECIPES):
                options = options_of({**scaled, **under, **variant, **named, "scale": chosen}, place)
                for world in expanded(recipe.conditions, place):
                    given = (*options, ("conditions", world)) if world else options
                    yield Named(recipe.dataset, tuple(sorted(given)))


def _reading(
    reading: str, under: Mapping[str, Mapping[str, Any]], where: str
) -> tuple[tuple[str, str | None, Options], ...]:
    """Options by mechanism and data set; those for every data set have None and come first."""
    found: list[tuple[str, str | None, Options]] = []
    for of, table in under.items():
        place = f"{where}: readings.{reading}.{of}"
        wide, narrow = _parted(table)
        found.append((of, None, options_of(wide, place)))
        found += [(of, dataset, options_of(options, f"{place}.{dataset}")) for dataset, options in narrow.items()]
    return tuple(found)


def _parted(table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """What a reading says for every data set, and for some."""
    narrow = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    return {name: value for name, value in table.items() if name not in narrow}, narrow


def _check_replicates(file: StudyTable, where: str) -> None:
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
    if file.correction == "holm":
        mend = 'Use correction = "verdict" (the default), or ask for fixed replicates.'
        raise UserError("a correction over the study needs all its replicates at once", where=place, mend=mend)


def _combinations(file: StudyTable, where: str) -> tuple[tuple[Named, ...], ...]:
    every = (combination for entry in file.combinations for combination in _sequences(entry, where))
    found = list(at_most(every, where))
    for combination in found:
        names = [mechanism.name for mechanism in combination]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(f"{twice!r} stands twice in one combination", where=where, got=names)
    return tuple(dict.fromkeys(found))


def _sequences(entry: CombinationEntry, where: str) -> Iterator[tuple[Named, ...]]:
    """All combinations that an entry stands for: at once, one after another, or both in every order."""
    parts = [list(expanded(entry.mechanisms, where))]
    for place, then in enumerate(entry.then, 1):
        later = Sequel(place, then.epochs, then.learning_rate)
        parts.append([tuple(replace(one, later=later) for one in group) for group in expanded(then.mechanisms, where)])
    for groups in itertools.product(*parts):
        combination = tuple(itertools.chain(*groups))
        yield combination
        if entry.orders:
            yield from _orders(combination, entry, where)


def _orders(combination: tuple[Named, ...], entry: CombinationEntry, where: str) -> Iterator[tuple[Named, ...]]:
    if entry.then or len(combination) != 2:
        got = [named.name for named in combination]
        allowed = "two mechanisms, and no `then`"
        raise UserError("both orders are of a pair", where=f"{where}: combinations.orders", got=got, allowed=allowed)
    further = entry.orders if isinstance(entry.orders, Further) else Further(epochs=None, learning_rate=1.0)
    later = Sequel(1, further.epochs, further.learning_rate)
    for first, second in (combination, combination[::-1]):
        yield first, replace(second, later=later)


def _measures(file: StudyTable, where: str) -> tuple[Named, ...]:
    found = [named for measure in file.measures for one in expanded([measure], where) for named in one]
    taken = {named.name for combination in _combinations(file, where) for named in combination}
    for named in found:
        if named.name in taken:
            mend = "Its metrics are measured already."
            raise UserError(
                "a mechanism and a measure have one name", where=f"{where}: measures", got=named.name, mend=mend
            )
    return tuple(dict.fromkeys(found))


def _suspects(entry: SuspectEntry, where: str) -> Iterator[Suspected]:
    """All suspects that an entry stands for."""
    extra = entry.model_extra or {}
    if "name" in extra:  # it would be taken for the kind
        mend = suggestion("name", SuspectEntry.model_fields)
        raise UserError("unknown key 'name'", where=f"{where}: suspects.{entry.kind}", mend=mend)
    kind = MechanismEntry(name=entry.kind, sweep=entry.sweep, **extra)
    for first, *own in expanded([kind, *entry.mechanisms], where):
        yield Suspected(first, tuple(own))


def _criterion(table: dict[str, Any], where: str) -> Criterion:
    try:
        return criterion_from(table, where)
    except UserError as error:
        raise error if where in str(error) else UserError(str(error).rstrip("."), where=where) from None
