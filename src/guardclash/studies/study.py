"""A study: which combinations of mechanisms, on which recipes, with how many replicates, judged how. Read from TOML.

This module knows names and tables only, neither torch nor the mechanisms, so that a report of finished results opens
at once.
"""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardclash.errors import UserError, suggestion
from guardclash.judging.criteria import Criterion, criterion_from

Scalar = bool | int | float | str | None
Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Named:
    """A name with options, as written in a study: a mechanism, or a data set of a recipe."""

    name: str
    options: Options = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON data: the name and each option."""
        return {"name": self.name, **dict(self.options)}

    def label(self, shown: set[str]) -> str:
        """The name with the options in `shown`, such as "dpsgd(on=task)"."""
        options = [f"{name}={_short(value)}" for name, value in self.options if name in shown]
        return self.name + (f"({', '.join(options)})" if options else "")


def _short(value: Any) -> str:
    return (
        "+".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


@dataclass(frozen=True)
class Cell:
    """One entry of a study's matrix: a combination on a recipe, and how many seeds it needs."""

    recipe: Named
    combination: tuple[Named, ...]
    replicates: int

    @property
    def key(self) -> str:
        """Canonical text of what is asked for; the number of replicates is left out."""
        parts = [self.recipe.to_dict(), [mechanism.to_dict() for mechanism in self.combination]]
        return json.dumps(parts, sort_keys=True)


@dataclass(frozen=True)
class Study:
    """A frozen study; see docs/studies.md for the file format."""

    name: str
    recipes: tuple[Named, ...]
    """Data sets with their options, among them `scale`."""
    combinations: tuple[tuple[Named, ...], ...]
    alone: int = 5
    """Replicates of the unprotected model and of each mechanism alone (the paper's 5)."""
    together: int = 10
    """Replicates of each combination (the paper's 10)."""
    first_seed: int = 0
    rule: Literal["paper", "strict"] = "strict"
    alpha: float = 0.05
    correction: Literal["none", "holm"] = "none"
    criteria: tuple[tuple[str, Criterion], ...] = ()
    """Overrides by name of metric."""
    plugins: tuple[Path, ...] = ()
    """Single-file mechanisms, absolute."""

    def cells(self) -> tuple[Cell, ...]:
        """All that is trained: per recipe the unprotected model, each mechanism alone, each combination; once each."""
        cells: dict[str, Cell] = {}
        for recipe in self.recipes:
            alone = [(mechanism,) for combination in self.combinations for mechanism in combination]
            for combination in [(), *alone, *self.combinations]:
                replicates = self.together if len(combination) > 1 else self.alone
                cell = Cell(recipe, combination, replicates)
                cells.setdefault(cell.key, cell)
        return tuple(cells.values())

    def seeds(self, cell: Cell) -> range:
        """The seeds of a cell's replicates: consecutive, so that alone and together share the first ones."""
        return range(self.first_seed, self.first_seed + cell.replicates)

    def mechanisms(self) -> tuple[Named, ...]:
        """Every mechanism of the study, with its options, once."""
        return tuple(dict.fromkeys(mechanism for combination in self.combinations for mechanism in combination))

    def label(self, mechanism: Named) -> str:
        """A mechanism's name, with those options by which the study tells its variants apart."""
        return mechanism.label(_varying(mechanism.name, self.mechanisms()))

    def recipe_label(self, recipe: Named) -> str:
        """Data set and scale, such as "mnist/reduced", with the options by which the study tells recipes apart."""
        shown = _varying(recipe.name, self.recipes) - {"scale"}
        scale = dict(recipe.options)["scale"]
        options = [f"{name}={_short(value)}" for name, value in recipe.options if name in shown]
        return f"{recipe.name}/{scale}" + (f" ({', '.join(options)})" if options else "")


def _varying(name: str, all_of: tuple[Named, ...]) -> set[str]:
    same = [dict(other.options) for other in all_of if other.name == name]
    names = {option for options in same for option in options}
    return {option for option in names if len({repr(options.get(option)) for options in same}) > 1}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Replicates(_Strict):
    alone: int = Field(5, ge=1)
    together: int = Field(10, ge=1)


class _Mechanism(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    name: str
    sweep: dict[str, list[Any]] = {}


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    dataset: str
    scale: Literal["paper", "reduced", "smoke"] = "reduced"


class _Combination(_Strict):
    mechanisms: list[str | _Mechanism] = Field(min_length=1)


class _File(_Strict):
    name: str | None = Field(None, pattern=r"^[\w][\w. -]*$")
    plugins: list[str] = []
    rule: Literal["paper", "strict"] = "strict"
    alpha: float = Field(0.05, gt=0, lt=0.5)
    correction: Literal["none", "holm"] = "none"
    first_seed: int = Field(0, ge=0)
    replicates: _Replicates = Field(default_factory=lambda: _Replicates(alone=5, together=10))
    criteria: dict[str, dict[str, Any]] = {}
    recipes: list[_Recipe] = Field(min_length=1)
    combinations: list[_Combination] = Field(min_length=1)


def read_study(path: str | Path) -> Study:
    """Reads a study file.

    Args:
        path: A TOML file; plugins are relative to it.

    Raises:
        UserError: If the file is missing, is not TOML, or has an unknown key or a wrong value; the message says where.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(
            "no such study file",
            got=str(path),
            mend="Give the path of a TOML file, such as studies/digits.toml.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"not a TOML file: {error}", where=path) from error
    except OSError as error:
        raise UserError(f"the study file cannot be read: {error.strerror}", where=path) from error
    return study_from(table, where=str(path), folder=path.parent, name=path.stem)


def study_from(
    table: Mapping[str, Any], *, where: str = "study", folder: Path | None = None, name: str = "study"
) -> Study:
    """A study from a table of the same form as the file.

    Raises:
        UserError: As `read_study`.
    """
    try:
        file = _File.model_validate(dict(table))
    except ValidationError as error:
        raise _explain(error, where) from None
    recipes = tuple(
        Named(recipe.dataset, _options({"scale": recipe.scale, **(recipe.model_extra or {})}))
        for recipe in file.recipes
    )
    combinations = [combo for entry in file.combinations for combo in _expand(entry.mechanisms, where)]
    for combination in combinations:
        names = [mechanism.name for mechanism in combination]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(f"{twice!r} stands twice in one combination", where=where, got=names)
    return Study(
        name=file.name or name,
        recipes=recipes,
        combinations=tuple(dict.fromkeys(combinations)),
        alone=file.replicates.alone,
        together=file.replicates.together,
        first_seed=file.first_seed,
        rule=file.rule,
        alpha=file.alpha,
        correction=file.correction,
        criteria=tuple(
            (metric, criterion_from(criterion, f"{where}: criteria.{metric}"))
            for metric, criterion in file.criteria.items()
        ),
        plugins=tuple(((folder or Path()) / plugin).resolve() for plugin in file.plugins),
    )


def _expand(mechanisms: list[str | _Mechanism], where: str) -> Iterator[tuple[Named, ...]]:
    """All combinations that an entry stands for: the product of its mechanisms' sweeps."""
    variants = []
    for mechanism in mechanisms:
        entry = _Mechanism(name=mechanism) if isinstance(mechanism, str) else mechanism
        empty = next((option for option, values in entry.sweep.items() if not values), None)
        if empty:
            raise UserError("a sweep needs values", where=f"{where}: {entry.name}.sweep.{empty}")
        choices = [[(option, value) for value in values] for option, values in entry.sweep.items()]
        variants.append(
            [
                Named(entry.name, _options({**(entry.model_extra or {}), **dict(choice)}))
                for choice in itertools.product(*choices)
            ]
        )
    yield from itertools.product(*variants)


def _options(table: Mapping[str, Any]) -> Options:
    """Sorted, and 3.0 as 3, so that one meaning has one form."""
    return tuple((name, _plain(value)) for name, value in sorted(table.items()))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _explain(error: ValidationError, where: str) -> UserError:
    # A misspelt key is reported as such, and not as the right one missing.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    path = _path(first["loc"])
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
