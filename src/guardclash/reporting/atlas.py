"""The atlas: every combination that was ever measured, by data set, from all records that are at hand.

Records of several labs go into one atlas; where their verdicts differ, it says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from guardclash.errors import UserError
from guardclash.records.cells import braces
from guardclash.records.file import read_results
from guardclash.reporting.findings import Findings, find
from guardclash.reporting.markdown import escaped
from guardclash.reporting.sentences import decisive
from guardclash.reporting.tables import number
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study
from guardclash.studies.study_schema import Scale

DECIDED = {"compatible", "conflict", "clash", "does not train together"}
BAD = DECIDED - {"compatible"}
RESULTS = "results.json"


@dataclass(frozen=True)
class Sight:
    """A verdict, and where it is from."""

    lab: str
    """Whose records it is in."""
    study: str
    recipe: str
    dataset: str
    mechanisms: tuple[str, ...]
    """Their names, sorted: by which variants of a combination belong together."""
    combination: tuple[str, ...]
    """Their labels."""
    outcome: str
    rule: str
    numbers: tuple[tuple[str, str], ...]
    """Symbols of the metrics that it rests on, and what they did."""
    seeds: tuple[int, int]
    """Alone and together, at most."""
    records: Path
    """The raw values."""

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        lists = {name: list(getattr(self, name)) for name in ("mechanisms", "combination", "seeds")}
        return {**vars(self), **lists, "numbers": dict(self.numbers), "records": self.records.as_posix()}


def atlas(folders: Iterable[Path]) -> tuple[Sight, ...]:
    """Every verdict on record.

    Args:
        folders: Each with study files, at any depth, whose `records` name where their results are kept; a lab each.

    Raises:
        UserError: If a folder is none, or no study in any of them has records.
    """
    sights = sights_of(folders)
    if not sights:
        raise UserError("no study has records", where=", ".join(map(str, folders)), mend="guardclash export STUDY")
    return tuple(sorted(sights, key=lambda one: (one.mechanisms, one.dataset, one.lab, one.study, one.recipe)))


def sights_of(folders: Iterable[Path]) -> list[Sight]:
    """As `atlas`, in the order of files, and none where there are none."""
    return [one for folder in folders for study, path in recorded(folder) for one in _sights(folder, study, path)]


def recorded(folder: Path) -> Iterator[tuple[Study, Path]]:
    """The studies below a folder that have records, at each scale at which they do, and these."""
    if not folder.is_dir():
        raise UserError("no such folder", where="atlas", got=folder)
    seen: set[Path] = set()
    for file in sorted(folder.rglob("*.toml")):
        for scale in (None, *get_args(Scale)):
            try:
                study = read_study(file, scale)
            except UserError:
                continue  # a part that others extend, or no study
            path = study.records / study.name / RESULTS if study.records else None
            if path is not None and path.is_file() and path not in seen:
                seen.add(path)
                yield study, path


def _sights(folder: Path, study: Study, path: Path) -> Iterator[Sight]:
    found = find(study, read_results(path))
    for verdict in found.verdicts:
        cell = found.cells[verdict.cell]
        begun = verdict.clash or any(one.together.n for one in verdict.judgements)
        if begun:
            yield Sight(
                lab=folder.name,
                study=study.name,
                recipe=verdict.recipe,
                dataset=cell.recipe.name,
                mechanisms=tuple(sorted({named.name for named in cell.combination})),
                combination=verdict.combination,
                outcome=verdict.outcome(found.rule),
                rule=found.rule,
                numbers=_numbers(found, verdict),
                seeds=_seeds(verdict),
                records=path,
            )


def _numbers(found: Findings, verdict: Any) -> tuple[tuple[str, str], ...]:
    told = [one for one in decisive(verdict, found.rule) if one.alone.n and one.together.n and one.metric.criterion]
    return tuple(
        (one.symbol, f"{number(one.metric, one.alone.mean)} → {number(one.metric, one.together.mean)}") for one in told
    )


def _seeds(verdict: Any) -> tuple[int, int]:
    arms = [(one.alone.n, one.together.n) for one in verdict.judgements]
    return max((alone for alone, _ in arms), default=0), max((together for _, together in arms), default=0)


def beside(sights: Iterable[Sight], name: str) -> dict[str, dict[str, int]]:
    """How the pairs of a mechanism came out: by the other one, how often each outcome, the worst company first."""
    counted: dict[str, dict[str, int]] = {}
    for one in sights:
        if len(one.mechanisms) == 2 and name in one.mechanisms:
            (other,) = set(one.mechanisms) - {name}
            words = counted.setdefault(other, {})
            words[one.outcome] = words.get(one.outcome, 0) + 1

    def bad(other: str) -> tuple[float, str]:
        words = counted[other]
        return -sum(words.get(word, 0) for word in BAD) / sum(words.values()), other

    return {other: dict(sorted(counted[other].items())) for other in sorted(counted, key=bad)}


def disagreement(sights: Iterable[Sight]) -> str:
    """Where decided verdicts differ: "labs", "studies" of one lab, or "" if they do not."""
    decided = [one for one in sights if one.outcome in DECIDED]
    if len({one.outcome in BAD for one in decided}) < 2:
        return ""
    by_lab: dict[str, set[bool]] = {}
    for one in decided:
        by_lab.setdefault(one.lab, set()).add(one.outcome in BAD)
    return "labs" if len(by_lab) > 1 and all(len(words) == 1 for words in by_lab.values()) else "studies"


def literature_from(path: Path) -> dict[tuple[str, ...], str]:
    """What publications expect, by the sorted names of mechanisms.

    Args:
        path: JSON with a list `pairs` of objects with `pair`, `expected` and `literature`, as
            studies/table9/literature.json.

    Raises:
        UserError: If it is not of that form.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["pairs"]
        return {tuple(sorted(one["pair"])): f"{one['expected']}: {one['literature']}" for one in cells}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            "no literature in this form", where=path, got=error, allowed="pairs, of pair, expected and literature"
        ) from error


def to_markdown(sights: Iterable[Sight], literature: Mapping[tuple[str, ...], str] | None = None) -> str:
    """The atlas as Markdown: a section for each combination, a row for each verdict."""
    known, held = literature or {}, tuple(sights)
    lines = ["# Atlas", "", *_summary(held), ""]
    for mechanisms in dict.fromkeys(one.mechanisms for one in held):
        own = [one for one in held if one.mechanisms == mechanisms]
        lines += [f"## {escaped(braces(mechanisms))}", ""]
        if mechanisms in known:
            lines += [f"Expected: {escaped(known[mechanisms])}.", ""]
        lines += ["| data | verdict | rests on | seeds | as | recipe | study |", "|---" * 7 + "|"]
        lines += [_row(one) for one in own]
        for dataset in dict.fromkeys(one.dataset for one in own):
            if who := disagreement(one for one in own if one.dataset == dataset):
                lines += ["", f"On {escaped(dataset)}, {who} differ: variants, readings or scales are not the same."]
        lines.append("")
    return "\n".join(lines)


def _summary(held: tuple[Sight, ...]) -> Iterator[str]:
    labs, studies = {one.lab for one in held}, {(one.lab, one.study) for one in held}
    pairs = {one.mechanisms for one in held}
    yield (
        f"{len(held)} verdicts on {len(pairs)} combinations of mechanisms, from {len(studies)} studies of "
        f"{len(labs)} {'lab' if len(labs) == 1 else 'labs'}. Each is by its study's own rule and limits, at the scale "
        "of its recipe."
    )
    yield ""
    yield "| verdict | how often |"
    yield "|---|---|"
    counted = sorted({one.outcome for one in held})
    yield from (f"| {word} | {sum(one.outcome == word for one in held)} |" for word in counted)


def _row(one: Sight) -> str:
    rests = "<br>".join(escaped(f"{symbol} {change}") for symbol, change in one.numbers) or "-"
    word = f"**{one.outcome}**" if one.outcome in BAD else one.outcome
    where = f"{escaped(one.study)}" + (f" ({escaped(one.lab)})" if one.lab else "")
    seeds = f"{one.seeds[0]}, {one.seeds[1]}"
    fields = (escaped(one.dataset), word, rests, seeds, escaped(braces(one.combination)), escaped(one.recipe), where)
    return "| " + " | ".join(fields) + " |"


def to_json(sights: Iterable[Sight]) -> str:
    """The atlas as JSON: a list of verdicts."""
    return json.dumps([one.to_dict() for one in sights], indent=1, ensure_ascii=False) + "\n"
