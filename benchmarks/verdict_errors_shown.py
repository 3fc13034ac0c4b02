"""Tables of docs/trust.md, from the record that `verdict_errors.py` writes.

In the page, a table stands between two markers that name it, and is written anew from the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/trust.md"
BLOCK = re.compile(r"(<!-- verdict_errors:begin (\w+) -->\n).*?(<!-- verdict_errors:end -->)", re.DOTALL)
Row = dict[str, Any]
Record = dict[str, list[Row]]
ALPHA = 0.05


# Numbers


def limits(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of Clopper and Pearson for a share of which k of n were seen."""
    from scipy.special import betaincinv

    beside = (1 - confidence) / 2
    low = float(betaincinv(k, n - k + 1, beside)) if k else 0.0
    return low, float(betaincinv(k + 1, n - k, 1 - beside)) if k < n else 1.0


def rate(k: int, n: int) -> str:
    """A share with its interval; bold where it is above 5 % beyond chance."""
    low, high = limits(k, n)
    text = f"{k / n:.3f} [{low:.3f} {high:.3f}]"
    return f"**{text}**" if low > ALPHA else text


def share(row: Row, word: str, said: str = "words") -> str:
    """How often a word was said, of all runs of a row."""
    return rate(row[said].get(word, 0), sum(row[said].values()))


def quiet(row: Row, word: str) -> str:
    """As `share`, of a word that is not wrong: never bold."""
    return share(row, word).replace("**", "")


def wrong(drop: float) -> str:
    """The word that is wrong of a loss, given as a share of what may be lost."""
    return "conflict" if drop <= 1 else "compatible"


def at(drop: float) -> str:
    """A true drop in words."""
    known = {0.0: "none", 1.0: "the limit", 1.04: "4 % beyond the limit", 2.0: "twice the limit"}
    return known.get(drop, f"{drop:g} of the limit")


def pick(rows: Sequence[Row], **cell: Any) -> Row:
    """The one row of a cell."""
    (found,) = [row for row in rows if all(row[name] == value for name, value in cell.items())]
    return found


def table(*rows: Sequence[object]) -> str:
    """Markdown, the first row as the head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def made(rows: Sequence[Row]) -> str:
    """By what, from how many runs."""
    counts = sorted({row["runs"] for row in rows}, reverse=True)
    return "\n`make simulate`; verdicts in each cell: " + ", ".join(f"{count:,}" for count in counts) + ".\n"


def plus(seeds: Sequence[int]) -> str:
    """Seeds alone and together."""
    return f"{seeds[0]} + {seeds[1]}"


# Tables, by the name of their markers

SHOWN = ([3, 5], [5, 10], [20, 20])


def strict(record: Record) -> str:
    rows = record["one_metric"]
    names = list(dict.fromkeys(row["spread"] for row in rows))
    places = [(drop, seeds) for drop in (1.0, 1.04) for seeds in SHOWN]
    head = ["seeds alone / together", *(f"wrong {wrong(drop)}, {plus(seeds)}" for drop, seeds in places)]
    found = [
        [name, *(share(pick(rows, spread=name, drop=d, seeds=s), wrong(d), "strict") for d, s in places)]
        for name in names
    ]
    shown = [row for row in rows if (row["drop"], row["seeds"]) in places]
    return table(head, *found) + made(shown)


def rules(record: Record) -> str:
    rows = [row for row in record["one_metric"] if row["seeds"] == [5, 10]]
    names = list(dict.fromkeys(row["spread"] for row in rows))
    head = ["5 seeds alone, 10 together"]
    for rule, drops in (("paper", (1.0, 1.04, 2.0)), ("bounded", (1.0, 1.04))):
        head += [f"{rule}: wrong {wrong(drop)}, {at(drop)}" for drop in drops]
    found = []
    for name in names:
        line = [name]
        for rule, drops in (("paper", (1.0, 1.04, 2.0)), ("bounded", (1.0, 1.04))):
            cells = [pick(rows, spread=name, drop=drop) for drop in drops]
            line += [share(one, wrong(one["drop"]), rule) if rule in one else "-" for one in cells]
        found.append(line)
    bounded = {sum(row["bounded"].values()) for row in rows if "bounded" in row}
    runs = made(rows).rstrip(".\n") + f'; by the rule "bounded" the first {", ".join(map(str, bounded))}.\n'
    return table(head, *found) + runs


def above(rows: Sequence[Row], rule: str = "strict") -> list[Row]:
    """Cells whose error is above 5 % beyond chance."""
    return [row for row in rows if limits(row[rule].get(wrong(row["drop"]), 0), sum(row[rule].values()))[0] > ALPHA]


def worst(rows: Sequence[Row], rule: str) -> str:
    """The number of cells above 5 %, and the largest error with its cell."""
    most = max(rows, key=lambda row: row[rule].get(wrong(row["drop"]), 0) / row["runs"])
    cell = f"{most['spread']}, {plus(most['seeds'])}"
    return (
        f"{len(above(rows, rule))} of {len(rows)}; {most[rule].get(wrong(most['drop']), 0) / most['runs']:.3f} ({cell})"
    )


def distance(record: Record) -> str:
    rows = record["one_metric"]
    head = ["true drop", "wrong", "strict: cells above 5 %; the worst", "paper: cells above 5 %; the worst"]
    found = []
    for drop in sorted({row["drop"] for row in rows}):
        here = [row for row in rows if row["drop"] == drop]
        found.append([at(drop), wrong(drop), worst(here, "strict"), worst(here, "paper")])
    return table(head, *found) + made(rows)


def warned(record: Record) -> str:
    """Where errors are above 5 %, at the limit and just beyond it, by seeds, and what stands beside wrong verdicts."""
    rows = [row for row in record["one_metric"] if row["drop"] in (1.0, 1.04)]
    loud = dict.fromkeys((row["spread"], row["drop"]) for row in above(rows))
    seeds = list(dict.fromkeys(tuple(row["seeds"]) for row in rows))
    head = ["seeds alone / together", "wrong", *(plus(one) for one in seeds)]
    found = []
    for name, drop in loud:
        cells = [pick(rows, spread=name, drop=drop, seeds=list(one)) for one in seeds]
        found.append([name, wrong(drop), *map(beside, cells)])
    wrongs = above(record["one_metric"])
    full = sum(row["warned"] == row["strict"][wrong(row["drop"])] for row in wrongs)
    said = (
        f"Over all true drops, {len(wrongs)} of {len(record['one_metric'])} cells are above 5 %; in {full} of them a "
        "warning stands beside every wrong verdict.\n"
    )
    return table(head, *found) + made([row for row in rows if (row["spread"], row["drop"]) in loud]) + said


def beside(row: Row, said: str = "strict") -> str:
    """An error; of the wrong verdicts the share with a warning, and with one of a seed that lies apart."""
    k = row[said].get(wrong(row["drop"]), 0)
    text = f"{k / row['runs']:.3f}"
    text = f"**{text}**" if limits(k, row["runs"])[0] > ALPHA else text
    return f"{text} ({row['warned'] / k:.0%}, {row['apart'] / k:.0%})" if k else text


def steps(record: Record) -> str:
    rows = record["step_by_step"]
    drops = sorted({row["drop"] for row in rows})
    head = ["3 to 10 seeds", *(f"wrong {wrong(drop)}, {at(drop)}" for drop in drops)]
    names = dict.fromkeys(row["spread"] for row in rows)
    found = [[name, *(beside(pick(rows, spread=name, drop=drop), "words") for drop in drops)] for name in names]
    return table(head, *found) + made(rows)


BOUND_BEFORE = {
    0.5: (0.194, 0.365, 0.317, 0.186),
    1.0: (0.404, 0.620, 0.362, 0.233),
    1.5: (0.408, 0.479, 0.141, 0.117),
    2.0: (0.283, 0.284, 0.026, 0.028),
}
"""Wrong conflicts by the rules before, by distance below the bound and in the order of the record's seeds."""


def bound(record: Record) -> str:
    rows = record["fixed_bound"]
    seeds = [row["seeds"] for row in rows[:4]]
    found = []
    for alone, together in dict.fromkeys((row["alone"], row["together"]) for row in rows):
        cells = [pick(rows, alone=alone, together=together, seeds=one) for one in seeds]
        lost = alone >= 0 > together
        said = [(quiet if lost else share)(row, "conflict") for row in cells]
        if -alone in BOUND_BEFORE:
            said = [f"{now}; before {then:.3f}" for now, then in zip(said, BOUND_BEFORE[-alone], strict=True)]
        found.append([f"{alone:+g}", f"{together:+g}", "right" if lost else "wrong", *said])
    return table(["alone", "together", '"conflict" is', *map(plus, seeds)], *found) + made(rows)


def useless(record: Record) -> str:
    words, before = ("conflict", "ineffective", "undecided"), {"step by step": "0.338", "fixed": "0.996"}
    found = [
        [row["design"], *(quiet(row, word) for word in words), before[row["design"]]]
        for row in record["beside_useless"]
    ]
    return table(["seeds", *words, "conflict before"], *found) + made(record["beside_useless"])


ACCURACY_BEFORE = (
    (0.010, 0.015, 0.007),
    (0.428, 0.413, 0.416),
    (0.354, 0.322, 0.326),
    (0.262, 0.231, 0.224),
    (0.085, 0.104, 0.126),
)
"""Wrong conflicts by the rules before, by baselines and seeds of the record."""


def accuracy(record: Record) -> str:
    rows = record["accuracy"]
    seeds = [row["seeds"] for row in rows[:6:2]]
    head = ["baselines: mean (sd)", *(f"wrong conflict, {plus(one)}" for one in seeds)]
    head += [f"wrong compatible, {plus(one)}" for one in seeds]
    found = []
    for place, first in enumerate(rows[::6]):
        pair = first["baselines"]
        at, beyond = ([pick(rows, baselines=pair, seeds=one, drop=drop) for one in seeds] for drop in (1.0, 1.04))
        then = [f"{share(row, 'conflict')}; before {b:.3f}" for row, b in zip(at, ACCURACY_BEFORE[place], strict=True)]
        label = ", ".join(f"{mean:g} ({std:g})" for mean, std in pair)
        found.append([label, *then, *(share(row, "compatible") for row in beyond)])
    return table(head, *found) + made(rows)


def gain(record: Record) -> str:
    """What may be lost is lost, or 4 % more."""
    rows = [row for row in record["gain"] if row["lost"] in (1.0, 1.04)]
    places = [(drop, seeds) for drop in (1.0, 1.04) for seeds in ([3, 5], [5, 10])]
    head = ["gain alone", "may be lost", *(f"wrong {wrong(drop)}, {plus(seeds)}" for drop, seeds in places)]
    found = []
    for size in dict.fromkeys(row["gain"] for row in rows):
        said = (share(pick(rows, gain=size, lost=drop, seeds=seeds), wrong(drop)) for drop, seeds in places)
        found.append([size, f"{min(0.30, size / 2):g}", *said])
    return table(head, *found) + made(rows)


def effect(record: Record) -> str:
    """Nothing is lost, or all of the gain; a gain of at most 0.15 is no effect, so that both claims are wrong."""
    rows = [row for row in record["gain"] if row["lost"] not in (1.0, 1.04)]
    words = ("conflict", "compatible", "ineffective", "undecided")
    found = []
    for row in rows:
        false = ["conflict"] * (row["gain"] <= 0.15 or not row["lost"])
        false += ["compatible"] * (row["gain"] <= 0.15 or bool(row["lost"]))
        said = [f"{share(row, word)} (wrong)" if word in false else quiet(row, word) for word in words]
        found.append([row["gain"], "all" if row["lost"] else "nothing", row["std"], plus(row["seeds"]), *said])
    return table(["gain alone", "lost", "sd", "seeds", *words], *found) + made(rows)


def several(record: Record) -> str:
    rows = record["several"]
    head = ["sd, seeds", "metrics", "none: a verdict", "verdict: a verdict", "verdict: any of 4", "holm: any of 4"]
    found = []
    for name, seeds, metrics in dict.fromkeys((row["spread"], tuple(row["seeds"]), row["metrics"]) for row in rows):
        cell = {"spread": name, "seeds": list(seeds), "metrics": metrics, "drop": 1.0}
        none, verdict, holm = (pick(rows, **cell, correction=one) for one in ("none", "verdict", "holm"))
        whole = [rate(row["studies_wrong"], row["studies"]) for row in (verdict, holm)]
        beyond = [row for row in rows if row["drop"] > 1 and all(row[key] == cell[key] for key in list(cell)[:3])]
        compatible = share(beyond[0], "compatible") if beyond else "-"
        conflict = share(none, "conflict"), share(verdict, "conflict")
        found.append([f"{name}, {plus(seeds)}", metrics, *conflict, *whole, compatible])
    return table([*head, "wrong compatible"], *found) + made(rows)


WAYS = {
    "once": "judged once, at 5 + 10",
    "added": "undecided: seeds added as advised, all judged again",
    "new": "undecided: so many new seeds, judged by themselves",
    "second of new": "of these, the second judgement alone",
}


def advice(record: Record) -> str:
    found = [
        [WAYS[row["way"]], f"{row['runs']:,}", share(row, "conflict"), quiet(row, "compatible")]
        for row in record["advice"]
    ]
    return table(["a drop of exactly the limit", "runs", "conflict", "compatible"], *found) + "\n`make simulate`.\n"


def price(record: Record) -> str:
    rows = record["price"]
    counts = sorted({row["seeds"] for row in rows})
    head = ["seeds alone / together, limit", "true drop", "right word", "rule", *counts]
    found = []
    for name, limit, drop in dict.fromkeys((row["spread"], row["limit"], row["drop"]) for row in rows):
        right = "compatible" if drop < 1 else "conflict"
        cells = [pick(rows, spread=name, limit=limit, drop=drop, seeds=n) for n in counts]
        for rule in ("strict", "bounded"):
            said = [f"{row[rule].get(right, 0) / row['runs']:.2f}" for row in cells]
            found.append([f"{name}, {limit:.2f}", f"{drop * limit:.2f}", right, rule, *said])
    return table(head, *found) + made(rows)


TABLES: dict[str, Callable[[Record], str]] = {
    **{"strict": strict, "rules": rules, "distance": distance, "warned": warned, "steps": steps, "bound": bound},
    **{
        "useless": useless,
        "accuracy": accuracy,
        "gain": gain,
        "effect": effect,
        "several": several,
        "advice": advice,
        "price": price,
    },
}


def filled(page: str, record: Record) -> str:
    """A page with the tables between its markers as the record has them."""
    return BLOCK.sub(lambda found: found[1] + TABLES[found[2]](record) + found[3], page)


def show(record: Record) -> None:
    """Writes the tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), record), encoding="utf-8")
