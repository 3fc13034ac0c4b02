"""Table 9 in the docs: what the literature expects of each pair of concerns, and what the records say.

python tools/table9.py            writes the tables of docs/table9.md anew
python tools/table9.py --check    exit code 1 if they are not those of the records
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from generated import ROOT, run
from generated import on_record as record_of

from guardclash.judging.judgement import Judgement
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell
from guardclash.records.file import read_results
from guardclash.records.results import UNKNOWN
from guardclash.reporting.findings import Findings, find
from guardclash.reporting.tables import number, summary
from guardclash.studies.side_effects import SideEffect
from guardclash.studies.study_file import read_study

FOLDER, PAGE = ROOT / "studies/table9", ROOT / "docs/table9.md"
STUDIES = {
    "MNIST": ("mnist", "mnist-fingerprint"),
    "FashionMNIST": ("fmnist", "fmnist-fingerprint"),
    "Adult": ("adult",),
}
PLAIN: tuple[tuple[str, str, str | None], ...] = (
    ("paper/table11", "paper/table11-reduced", "reduced"),
    ("raddata-wm", "raddata-wm", None),
)
"""Studies without any condition that hold the same pairs: their file, their records and their scale."""
EFFECTS = "side-effects"
"""The study of what a protection does to concerns that it is not for."""
OTHERS = "others"
"""The study of mechanisms that the matrix leaves out, each alone."""
NAMES = {"mnist": "MNIST", "fmnist": "FashionMNIST"}
AGREES: dict[str, set[str]] = {
    "conflict": {"conflict"},
    "clash": {"clash"},
    "none": {"compatible"},
    "synergy": {"compatible"},
}
"""By what the literature expects, the verdicts that say the same; of the rest nothing definite is expected."""
NOT_MEASURABLE = "not measurable"
DECIDED = {"conflict", "compatible", "clash"}


@dataclass(frozen=True)
class Found:
    """A verdict on a pair, and where it stands."""

    verdict: Verdict
    findings: Findings
    unfit: str = ""
    """Which of the two cannot be built alone on such data, so that their clash says nothing about the pair."""

    @property
    def begun(self) -> bool:
        """Whether anything is known: a clash, or any model of the pair."""
        return self.word in ("clash", NOT_MEASURABLE) or any(one.together.n for one in self.verdict.judgements)

    @property
    def word(self) -> str:
        """What the study's rule says."""
        return NOT_MEASURABLE if self.unfit else self.verdict.outcome(self.findings.rule)


on_record = partial(record_of, "table9")
"""What a study of the matrix says; None where it is not on record yet."""


def found_of(name: str) -> dict[frozenset[str], Found]:
    """The verdicts of a study on record, by pair; none where it is not on record yet."""
    findings = on_record(name)
    if findings is None:
        return {}
    pairs = (cell for cell in findings.study.cells() if len(cell.combination) == 2 and cell.key in findings.by_cell)
    named = {frozenset(one.name for one in cell.combination): findings.by_cell[cell.key] for cell in pairs}
    single = (cell for cell in findings.study.cells() if len(cell.combination) == 1)
    unfit = {cell.combination[0].name for cell in single if (findings.results.cell(cell) or UNKNOWN).clash}
    found = {pair: Found(verdict, findings, ", ".join(sorted(pair & unfit))) for pair, verdict in named.items()}
    return {pair: one for pair, one in found.items() if one.begun}


def plain_of(data: str) -> dict[frozenset[str], Found]:
    """The verdicts on record on a data set without conditions, in the sound reading, but for dataset inference."""
    found = {}
    for name, records, scale in PLAIN:
        findings = find(read_study(ROOT / f"studies/{name}.toml", scale), read_results(ROOT / f"results/{records}"))
        for cell in findings.study.cells():
            reading, names = dict(cell.recipe.options).get("reading", "sound"), {one.name for one in cell.combination}
            if cell.key in findings.by_cell and reading == "sound" and cell.recipe.name == data and "di" not in names:
                found[frozenset(names)] = Found(findings.by_cell[cell.key], findings)
    return found


def literature() -> dict[str, Any]:
    """What was expected."""
    return json.loads((FOLDER / "literature.json").read_text(encoding="utf-8"))


def tables() -> dict[str, str]:
    """The generated parts of the page, by the name of their place."""
    known = literature()
    on = {
        data: {pair: one for name in names for pair, one in found_of(name).items()} for data, names in STUDIES.items()
    }
    return {
        "pairs": "\n".join(_pairs(known, on)),
        "counts": "\n".join(_counts(known, on)),
        "differences": "\n".join(_differences(known, on)),
        "alone": "\n".join(_alone()),
        "effects": "\n".join(_effects()),
        "plain": "\n".join(_plain(on)),
        "compute": "\n".join(_compute()),
    }


On = dict[str, dict[frozenset[str], Found]]


def _pairs(known: dict[str, Any], on: On) -> Iterator[str]:
    """A row for each of the 55 pairs."""
    shown = [data for data in STUDIES if on[data]]
    yield "| | pair | expected | " + " | ".join(shown) + " |"
    yield "|---" * (3 + len(shown)) + "|"
    for place, cell in enumerate(known["pairs"], 1):
        pair = frozenset(cell["pair"])
        star = " ★" if cell.get("unmeasured") else ""
        concerns = " × ".join(known["concerns"][name] for name in cell["pair"])
        words = [_told(on[data].get(pair)) for data in shown]
        expected = f"{cell['expected']}: {cell['literature']}"
        yield f"| {place} | {concerns}{star}<br>{{{', '.join(cell['pair'])}}} | {expected} | {' | '.join(words)} |"


def _told(found: Found | None) -> str:
    """A verdict with the numbers that it rests on."""
    if found is None:
        return "not measured"
    if found.unfit:
        return f"{NOT_MEASURABLE}: `{found.unfit}` is not for such data"
    judged = [one for one in found.verdict.judgements if one.outcome(found.findings.rule) == found.word]
    if found.word == "compatible":
        judged = [one for one in found.verdict.judgements[1:] if one.metric.criterion is not None]
    lines = [f"**{found.word}**", *(_numbers(one) for one in judged)]
    return "<br>".join(lines)


def _numbers(one: Judgement) -> str:
    """Alone and together, with the number of seeds."""
    if not (one.alone.n and one.together.n):
        return one.symbol
    places = one.metric.decimals
    change = f"{one.alone.mean:.{places}f} → {one.together.mean:.{places}f}"
    return f"{one.symbol} {change} ({one.alone.n}, {one.together.n} seeds)"


def _agreement(cell: dict[str, Any], found: Found) -> str:
    expected = AGREES.get(cell["expected"])
    if expected is None:
        return "nothing definite expected"
    if found.unfit:
        return NOT_MEASURABLE
    if found.word not in DECIDED:
        return "open"
    return "as expected" if found.word in expected else "differs"


def _counts(known: dict[str, Any], on: On) -> Iterator[str]:
    """How often a word was said, and how often it was expected."""
    words = list(dict.fromkeys(one.word for of_data in on.values() for one in of_data.values()))
    agreements = ["as expected", "differs", "open", "nothing definite expected"]
    yield "| data | pairs | " + " | ".join([*words, *agreements]) + " |"
    yield "|---" * (2 + len(words) + len(agreements)) + "|"
    for data, of_data in on.items():
        if of_data:
            said = [one.word for one in of_data.values()]
            cells = {frozenset(cell["pair"]): cell for cell in known["pairs"]}
            agreed = [_agreement(cells[pair], one) for pair, one in of_data.items() if pair in cells]
            numbers = [*map(said.count, words), *map(agreed.count, agreements)]
            yield f"| {data} | {len(of_data)} | {' | '.join(map(str, numbers))} |"


def _differences(known: dict[str, Any], on: On) -> Iterator[str]:
    """The cells that are not as expected, with the reason."""
    yield "| pair | data | expected | verdict | likely reason |"
    yield "|---|---|---|---|---|"
    for cell in known["pairs"]:
        for data, of_data in on.items():
            found = of_data.get(frozenset(cell["pair"]))
            if found and _agreement(cell, found) == "differs":
                reason = cell.get("reason", {}).get(data, "not known")
                names = ", ".join(cell["pair"])
                yield f"| {{{names}}} | {data} | {cell['expected']} | {found.word} | {reason} |"


def _alone() -> Iterator[str]:
    """What each mechanism gains by itself on its own judged metric, and what it costs."""
    yield "| data | mechanism | metric | unprotected | with it | difference | accuracy |"
    yield "|---|---|---|---|---|---|---|"
    for data, names in STUDIES.items():
        for name in names:
            found, few = on_record(name), ", few images" if name.endswith("fingerprint") else ""
            for cell in found.study.cells() if found else ():
                if found and len(cell.combination) == 1:
                    yield from (f"| {data}{few} | {row}" for row in _gains(found, cell))
    others = on_record(OTHERS)
    for cell in others.study.cells() if others else ():
        if others and len(cell.combination) == 1:
            yield from (f"| {NAMES[cell.recipe.name]} | {row}" for row in _gains(others, cell))


def _gains(found: Findings, cell: Cell) -> Iterator[str]:
    (named,) = cell.combination
    bare, utility = replace(cell, combination=()), found.results.utility(cell)
    accuracy = [found.sample(one, None, utility) for one in (bare, cell)]
    if not accuracy[1].n:
        return
    cost = " → ".join(number(utility, one.mean) for one in accuracy)
    # The same models with and without it, as of a test of finished ones, are no gain: those have no control.
    place = found.labels(cell)
    gained = {one.metric.name: one for one in found.controls if (one.recipe, one.combination) == place}
    for metric in found.results.metrics(cell, named):
        if metric.criterion is not None:
            with_it, control = found.sample(cell, named, metric), gained.get(metric.name)
            without, change = "-", "-"
            if control:
                ends = control.interval
                without = summary(metric, control.absent)
                change = number(metric, control.difference)
                change += f" [{number(metric, ends[0])}, {number(metric, ends[1])}]" if ends else ""
            fields = f"`{found.study.label(named)}`", metric.symbol, without, summary(metric, with_it), change, cost
            yield f"{' | '.join(fields)} |"


def _plain(on: On) -> Iterator[str]:
    """Verdicts under the plain recipe beside those of the matrix."""
    yield "| data | pair | plain recipe | with minority, halves and poison |"
    yield "|---|---|---|---|"
    for data, of_data in on.items():
        for pair, one in plain_of(data.lower().replace("fashion", "f")).items():
            if of_data:
                yield f"| {data} | {{{', '.join(sorted(pair))}}} | {_told(one)} | {_told(of_data.get(pair))} |"


def _effects() -> Iterator[str]:
    """What each mechanism does to measures that it is not for."""
    found = on_record(EFFECTS)
    if found is None:
        return
    of = {(one.cell.combination[0].name, one.of.name): [] for one in found.side_effects}
    for one in found.side_effects:
        if one.judgement.metric.criterion is not None:
            of[one.cell.combination[0].name, one.of.name].append(one)
    measures = [one.name for one in found.study.measures]
    yield "| mechanism | " + " | ".join(measures) + " |"
    yield "|---" * (1 + len(measures)) + "|"
    for name in dict.fromkeys(name for name, _ in of):
        cells = ["<br>".join(map(partial(_effect, found), of.get((name, one), ()))) or "-" for one in measures]
        yield f"| `{name}` | {' | '.join(cells)} |"


def _effect(found: Findings, one: SideEffect) -> str:
    return f"**{one.effect(found.rule)}** {_numbers(one.judgement)}"


def _compute() -> Iterator[str]:
    """How many models each study holds, and what their training took; a model of several studies is told once."""
    told: set[str] = set()
    total = 0.0
    yield "| study | models | hours of one core to train them |"
    yield "|---|---|---|"
    for name in (*(name for names in STUDIES.values() for name in names), EFFECTS, OTHERS):
        found = on_record(name)
        if found is not None:
            trials = {one.key: one.seconds or 0.0 for cell in found.results.cells.values() for one in cell.trials}
            hours = sum(seconds for key, seconds in trials.items() if key not in told) / 3600
            new, total = len(trials.keys() - told), total + hours
            told |= trials.keys()
            yield f"| `{name}` | {new} | {hours:.1f} |"
    yield f"| all | {len(told)} | {total:.1f} |"


if __name__ == "__main__":
    sys.exit(run(__doc__, PAGE, tables()))
