"""Other mechanisms for the same concerns, in the docs: which conflicts belong to two concerns, which to two mechanisms.

python tools/alternatives.py            writes the tables of docs/alternatives.md anew
python tools/alternatives.py --check    exit code 1 if they are not those of the records
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial

from generated import ROOT, run
from generated import on_record as record_of

from guardclash.records.cells import Cell, braces
from guardclash.records.file import read_results
from guardclash.reporting.atlas import atlas, beside, recorded
from guardclash.reporting.claims import ITSELF
from guardclash.reporting.findings import Findings, find
from guardclash.reporting.tables import number

PAGE = ROOT / "docs/alternatives.md"
CONCERNS = {
    "model watermarking": ("wm", "dawn", "uchida", "entangled"),
    "dataset watermarking": ("raddata",),
    "model fingerprinting": ("di", "duci"),
    "differential privacy": ("dpsgd", "scatterdp", "pate"),
    "model evasion": ("advtr", "nfgsm", "smoothing"),
}
"""The mechanisms that stand for a concern, in the order of the tables."""
PAIRS = {
    "MNIST": ("mnist", "mnist-fingerprint", "pate"),
    "FashionMNIST": ("fmnist", "fmnist-fingerprint"),
}
SUSPECTS = ("removal", "thieves")
SYSTEMS: tuple[tuple[str, str, str], ...] = (
    ("Zhang et al. 2018; Adi et al. 2018", "wm", ""),
    ("Uchida et al. 2017", "uchida", ""),
    (
        "Darvish Rouhani et al. 2019 (DeepSigns)",
        "",
        "reads activations of one layer; `uchida` stands for white-box marks",
    ),
    ("Orekondy et al. 2019; Correia-Silva et al. 2018; Pal et al. 2019", "extraction", ""),
    ("Papernot et al. 2017; Juuti et al. 2019", "jacobian", ""),
    (
        "Tramèr et al. 2016; Jagielski et al. 2020; Carlini et al. 2020",
        "",
        "solve equations for the weights; nothing is trained",
    ),
    ("Takemura et al. 2020", "", "of recurrent networks"),
    ("Juuti et al. 2019 (PRADA)", "prada", ""),
    (
        "Atli et al. 2020; Quiring et al. 2018",
        "",
        "need examples of what thieves will ask; `prada` stands for detection",
    ),
    ("Orekondy et al. 2020 (MAD)", "mad", ""),
    ("Lee et al. 2018", "reverse-sigmoid", ""),
    ("Dziedzic et al. 2022", "pow", ""),
    ("Szyller et al. 2021 (DAWN)", "dawn", ""),
    ("Jia et al. 2021 (EWE)", "entangled", ""),
    ("Sablayrolles et al. 2020", "raddata", ""),
    ("Maini et al. 2021", "di", ""),
    ("Abadi et al. 2016", "dpsgd", ""),
    ("Tramèr and Boneh 2021 (ScatterDP)", "scatterdp", ""),
    ("Papernot et al. 2018 (PATE)", "pate", ""),
    ("Madry et al. 2018", "advtr", ""),
    ("Lecuyer et al. 2019 (PixelDP)", "smoothing", ""),
    ("Lukas et al. 2021, removal", "fine-tuning", ""),
    ("Lukas et al. 2021, removal", "pruning", ""),
    ("Lukas et al. 2021, removal", "quantisation", ""),
    ("Lukas et al. 2021, removal", "permutation", ""),
    ("Lukas et al. 2021, removal", "shifting", ""),
    ("Lukas et al. 2021, removal", "overwriting", ""),
    ("Lukas et al. 2021, removal", "preprocessing", ""),
)
"""Systems that the paper names: by whom, what stands for it here, and why nothing does."""
DECIDED = {"conflict", "clash", "compatible", "does not train together"}
BAD = DECIDED - {"compatible"}
NOT_MEASURED = "not measured"
NOTHING = "Nothing is on record yet."


on_record = partial(record_of, "alternatives")
"""What a study says; None where it is not on record yet."""


def verdicts_of(names: Iterable[str]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Word and numbers of each pair on record, by the labels of its mechanisms in the order of their names."""
    found = {}
    for name in names:
        findings = on_record(name)
        for cell in findings.study.cells() if findings else ():
            if findings and len(cell.combination) == 2 and cell.key in findings.by_cell:
                labels = tuple(sorted(map(findings.study.label, cell.combination)))
                found[labels] = _told(findings, cell)
    return found


def _told(findings: Findings, cell: Cell) -> tuple[str, str]:
    verdict = findings.by_cell[cell.key]
    word = verdict.outcome(findings.rule)
    judged = [one for one in verdict.judgements if one.outcome(findings.rule) == word and one.metric.criterion]
    if not (verdict.clash or any(one.together.n for one in verdict.judgements)):
        return NOT_MEASURED, ""
    changes = (
        f"{one.symbol} {number(one.metric, one.alone.mean)} → {number(one.metric, one.together.mean)}"
        for one in judged
        if one.alone.n and one.together.n
    )
    return word, "<br>".join(changes)


def tables() -> dict[str, str]:
    """The generated parts of the page, by the name of their place."""
    on = {data: verdicts_of(names) for data, names in PAIRS.items()}
    by_pair = {"pairs": _pairs(on), "belongs": _belongs(on)}
    made = {**by_pair, "alone": _alone(), "suspects": _suspects(), "systems": _systems()}
    return {name: "\n".join(lines).strip() or NOTHING for name, lines in made.items()}


On = dict[str, dict[tuple[str, ...], tuple[str, str]]]


def _sides() -> tuple[list[str], list[str]]:
    """Mechanisms of ownership, and those that they stand beside."""
    concerns = list(CONCERNS.values())
    return [name for names in concerns[:3] for name in names], [name for names in concerns[3:] for name in names]


def _pairs(on: On) -> Iterator[str]:
    """Ownership by privacy and robustness, a table for each data set that is on record."""
    rows, columns = _sides()
    for data, found in on.items():
        if found:
            yield f"**{data}**"
            yield ""
            yield "| | " + " | ".join(f"`{name}`" for name in columns) + " |"
            yield "|---" * (1 + len(columns)) + "|"
            for row in rows:
                cells = (found.get(tuple(sorted((row, name))), (NOT_MEASURED, "")) for name in columns)
                yield f"| `{row}` | " + " | ".join(_cell(*one) for one in cells) + " |"
            yield ""
            for labels, told in found.items():
                if any("(" in label for label in labels):
                    yield f"{braces(labels)}: {_cell(*told).replace('<br>', ' ')}"
                    yield ""


def _cell(word: str, numbers: str) -> str:
    return "-" if word == NOT_MEASURED else f"**{word}**" + (f"<br>{numbers}" if numbers else "")


def _belongs(on: On) -> Iterator[str]:
    """For each two concerns, whether all their mechanisms say the same."""
    concerns, head = (
        list(CONCERNS),
        "| concerns | data | pairs decided | conflict | compatible | it belongs to |\n" + "|---" * 6 + "|",
    )
    for first in concerns[:3]:
        for second in concerns[3:]:
            for data, found in on.items():
                names = [tuple(sorted((one, other))) for one in CONCERNS[first] for other in CONCERNS[second]]
                words = [found[pair][0] for pair in names if pair in found and found[pair][0] in DECIDED]
                if words:
                    yield from filter(None, (head,))
                    head = ""
                    bad = sum(word in BAD for word in words)
                    whose = belongs(bad, len(words))
                    yield f"| {first} × {second} | {data} | {len(words)} | {bad} | {len(words) - bad} | {whose} |"


def belongs(bad: int, decided: int) -> str:
    """Whose a conflict is, seeing how many of the decided pairs of two concerns have one."""
    if decided < 2:
        return "one pair does not tell"
    return "the concerns" if bad == decided else "nobody" if not bad else "the mechanisms"


def _alone() -> Iterator[str]:
    """What each mechanism gains by itself on its judged metrics, with what it costs."""
    head = "| study | mechanism | metric | unprotected | with it | accuracy |\n" + "|---" * 6 + "|"
    for name in (*(name for names in PAIRS.values() for name in names), "slowing"):
        found = on_record(name)
        for cell in found.study.cells() if found else ():
            if found and len(cell.combination) == 1:
                for row in _gains(found, cell):
                    yield from filter(None, (head, f"| `{name}` | {row}"))
                    head = ""


def _gains(found: Findings, cell: Cell) -> Iterator[str]:
    (named,) = cell.combination
    bare, utility = Cell(cell.recipe, (), found.study.alone), found.results.utility(cell)
    accuracy = [found.sample(one, None, utility) for one in (bare, cell)]
    if accuracy[1].n:
        cost = " → ".join(number(utility, one.mean) for one in accuracy)
        for metric in found.results.metrics(cell, named):
            if metric.criterion is not None or metric.claim is not None:
                values = [found.sample(one, named, metric) for one in (bare, cell)]
                told = [number(metric, one.mean) if one.n else "-" for one in values]
                label = found.study.label(named)
                yield f"`{label}` | {metric.symbol} | {told[0]} | {told[1]} (n={values[1].n}) | {cost} |"


def _suspects() -> Iterator[str]:
    """What is claimed of each suspect, by the mechanism that was to find it."""
    for name in SUSPECTS:
        found = on_record(name)
        if found is None:
            continue
        owners = dict.fromkeys((claim.combination, claim.mechanism) for claim in found.claims)
        yield f"`studies/alternatives/{name}.toml`:"
        yield ""
        yield "| suspect | " + " | ".join(f"{who} of {braces(whole)}" for whole, who in owners) + " |"
        yield "|---" * (1 + len(owners)) + "|"
        for suspect in dict.fromkeys(claim.suspect for claim in found.claims):
            told = {(one.combination, one.mechanism): one.outcome for one in found.claims if one.suspect == suspect}
            shown = "the model itself" if suspect == ITSELF else suspect
            yield f"| {shown} | " + " | ".join(told.get(owner, "-") for owner in owners) + " |"
        yield ""


def _systems() -> Iterator[str]:
    """What the paper names, what stands for it, and how that came out in all studies on record."""
    sights = atlas([ROOT / "studies"])
    claimed = _claimed()
    yield "| system | here | pairs on record, or claims on it |"
    yield "|---|---|---|"
    for whose, name, instead in SYSTEMS:
        words: dict[str, int] = dict(claimed.get(name, {}))
        for found in beside(sights, name).values():
            for word, count in found.items():
                words[word] = words.get(word, 0) + count
        said = ", ".join(f"{count} {word}" for word, count in sorted(words.items())) or NOT_MEASURED
        yield f"| {whose} | {f'`{name}`' if name else 'not built'} | {instead or said} |"


def _claimed() -> dict[str, dict[str, int]]:
    """By kind of suspect, how often each outcome stands in the claims of all studies on record."""
    counted: dict[str, dict[str, int]] = {}
    for study, path in recorded(ROOT / "studies"):
        found = find(study, read_results(path)) if study.suspects else None
        kinds = {study.suspect_label(one): one.kind.name for one in study.suspects}
        for claim in found.claims if found else ():
            words = counted.setdefault(kinds.get(claim.suspect, ""), {})
            words[claim.outcome] = words.get(claim.outcome, 0) + 1
    return counted


if __name__ == "__main__":
    sys.exit(run(__doc__, PAGE, tables()))
