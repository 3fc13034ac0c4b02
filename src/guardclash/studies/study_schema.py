"""The form of a study file: which keys there are, and a message for each that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardclash.checks import LARGEST_WHOLE
from guardclash.errors import UserError, suggestion
from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Correction
from guardclash.studies.limits import REPLICATES, check_form


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Replicates(_Strict):
    """How many: fixed, or added from `start` up to `most`."""

    alone: int = Field(5, ge=1, le=REPLICATES)
    together: int = Field(10, ge=1, le=REPLICATES)
    suspects: int | None = Field(None, ge=1, le=REPLICATES)
    start: int | None = Field(None, ge=3, le=REPLICATES)  # fewer decide nothing (judgement.MINIMUM)
    most: int | None = Field(None, ge=3, le=REPLICATES)


class MechanismEntry(BaseModel):
    """A mechanism with its options, and options to sweep."""

    model_config = ConfigDict(extra="allow", strict=True)
    name: str
    sweep: dict[str, list[Any]] = {}


Scale = Literal["paper", "reduced", "smoke"]


class RecipeEntry(BaseModel):
    """A data set, at a scale, with what it overrides."""

    model_config = ConfigDict(extra="allow", strict=True)
    dataset: str
    scale: Scale = "reduced"
    conditions: list[str | MechanismEntry] = []


class SuspectEntry(BaseModel):
    """A kind of suspect with its options, and the mechanisms of its party."""

    model_config = ConfigDict(extra="allow", strict=True)
    kind: str
    mechanisms: list[str | MechanismEntry] = []
    sweep: dict[str, list[Any]] = {}


class Further(_Strict):
    """How a training goes on that begins with the weights of another one."""

    epochs: int | None = Field(None, ge=1)
    learning_rate: float = Field(1.0, gt=0, le=1, strict=False)


class ThenEntry(Further):
    """Mechanisms of a training that goes on with the deployed weights."""

    mechanisms: list[str | MechanismEntry] = Field(min_length=1)


class CombinationEntry(_Strict):
    """Mechanisms that are deployed together, at once or one after another."""

    mechanisms: list[str | MechanismEntry] = Field(min_length=1)
    then: list[ThenEntry] = []
    orders: bool | Further = False


class TaskEntry(_Strict):
    """A task of somebody's own; see `guardclash.data.own.task.OwnTask`."""

    name: str = Field(pattern=r"^[A-Za-z_][\w-]*$")
    data: str
    test: str | None = None
    model: str | None = None
    options: dict[str, Any] = {}
    weights: str | None = None
    utility: str | None = None
    groups: str | None = None
    target: str | None = None
    categories: list[str] = []
    size: int | list[int] | None = None
    vocabulary: int | None = Field(None, ge=1)
    neighbour: str | None = None
    mean: list[float] = []
    std: list[float] = []
    training: dict[str, Any] = {}


class NoteEntry(_Strict):
    """What is known of a disagreement with published numbers."""

    mechanisms: list[str]
    metric: str
    text: str
    dataset: str | None = None
    reading: str | None = None


class ScaleTables(_Strict):
    """By scale: what recipes override, by data set."""

    paper: dict[str, dict[str, Any]] = {}
    reduced: dict[str, dict[str, Any]] = {}
    smoke: dict[str, dict[str, Any]] = {}


class StudyTable(_Strict):
    """All keys of a study file; see docs/studies.md."""

    extends: str | None = None
    scales: ScaleTables = Field(default_factory=lambda: ScaleTables())
    readings: dict[str, dict[str, dict[str, Any]]] = {}
    name: str | None = None
    plugins: list[str] = []
    tasks: list[TaskEntry] = []
    rule: Rule = "strict"
    alpha: float = Field(0.05, gt=0, lt=0.5)
    correction: Correction = "verdict"
    first_seed: int = Field(0, ge=0, le=LARGEST_WHOLE - REPLICATES)  # the last seed must fit as well
    replicates: Replicates = Field(default_factory=lambda: Replicates.model_validate({}))
    criteria: dict[str, dict[str, Any]] = {}
    recipes: list[RecipeEntry] = Field(min_length=1)
    combinations: list[CombinationEntry] = Field(min_length=1)
    measures: list[str | MechanismEntry] = []
    suspects: list[SuspectEntry] = []
    reference: str | None = None
    reference_tables: list[str] = []
    records: str | None = None
    notes: list[NoteEntry] = []


def validated(table: Mapping[str, Any], where: str) -> StudyTable:
    """A study file's table in its form.

    Raises:
        UserError: For an unknown or missing key, or a wrong value.
    """
    check_form(table, where)
    try:
        return StudyTable.model_validate(dict(table))
    except ValidationError as error:
        raise _explain(error, where) from None


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
        tables: dict[str, type[BaseModel]] = {
            "replicates": Replicates,
            "combinations": CombinationEntry,
            "then": ThenEntry,
            "orders": Further,
            "tasks": TaskEntry,
        }
        known = tables.get(parent[-1] if parent else "", StudyTable).model_fields
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
        elif part not in ("str", "MechanismEntry"):  # pydantic names the member of a union
            text += f".{part}" if text else part
    return text
