"""What a paper begins with: all verdicts in one table, and how they were found, with sources."""

from __future__ import annotations

from collections.abc import Iterator

from guardclash.judging.verdict import Verdict
from guardclash.records.cells import braces
from guardclash.reporting.findings import Findings
from guardclash.reporting.latex_parts.layout import paged, row
from guardclash.reporting.latex_parts.text import escaped, prose
from guardclash.reporting.tables import percent
from guardclash.studies.verdicts import judged_cells

LETTERS = 108
"""How many fit beside each other on a page."""
TOGETHER = 5
"""Rows between which there is no space."""
WORDS = {
    "compatible": r"\gcKept{yes}",
    "undecided": "?",
    "ineffective": r"$\dagger$",
    "not credible": r"$\ddagger$",
    "clash": r"\emph{clash}",
    "does not train together": r"\gcConflict{diverges}",
    "not measured together": "?",
}
"""By outcome; a conflict is told by its metrics."""
MEANINGS = {
    "compatible": r"\gcKept{yes}: compatible",
    "conflict": r"\gcConflict{a metric}: it is lost beyond its limit",
    "undecided": "?: undecided",
    "ineffective": r"$\dagger$: a mechanism is ineffective already alone",
    "not credible": r"$\ddagger$: not credible, a control makes the same claim",
    "clash": r"\emph{clash}: cannot be built together",
    "does not train together": r"\gcConflict{diverges}: does not train together",
}
SOURCES = {
    "szyller2023conflicting": """@inproceedings{szyller2023conflicting,
  author    = {Szyller, Sebastian and Asokan, N.},
  title     = {Conflicting Interactions Among Protection Mechanisms for Machine Learning Models},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year      = {2023},
}""",
    "welch1947": """@article{welch1947,
  author  = {Welch, Bernard Lewis},
  title   = {The Generalization of `Student's' Problem when Several Different Population Variances are Involved},
  journal = {Biometrika},
  volume  = {34},
  number  = {1--2},
  pages   = {28--35},
  year    = {1947},
}""",
    "schuirmann1987": """@article{schuirmann1987,
  author  = {Schuirmann, Donald J.},
  title   = {A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing the Equivalence of
             Average Bioavailability},
  journal = {Journal of Pharmacokinetics and Biopharmaceutics},
  volume  = {15},
  number  = {6},
  pages   = {657--680},
  year    = {1987},
}""",
    "holm1979": """@article{holm1979,
  author  = {Holm, Sture},
  title   = {A Simple Sequentially Rejective Multiple Test Procedure},
  journal = {Scandinavian Journal of Statistics},
  volume  = {6},
  number  = {2},
  pages   = {65--70},
  year    = {1979},
}""",
    "waudbysmith2024": """@article{waudbysmith2024,
  author  = {Waudby-Smith, Ian and Ramdas, Aaditya},
  title   = {Estimating Means of Bounded Random Variables by Betting},
  journal = {Journal of the Royal Statistical Society Series B},
  volume  = {86},
  number  = {1},
  pages   = {1--27},
  year    = {2024},
}""",
}
"""What the method rests on, as BibTeX, by key."""


def verdict_table(found: Findings) -> Iterator[str]:
    """All verdicts, combinations by recipes."""
    told: dict[str, dict[str, str]] = {}
    cells = [cell for cell in judged_cells(found.study) if cell.key in found.by_cell]
    for cell in cells:
        verdict = found.by_cell[cell.key]
        told.setdefault(braces(verdict.combination), {})[found.study.recipe_label(cell.recipe)] = _entry(found, verdict)
    outcomes = {found.by_cell[cell.key].outcome(found.rule) for cell in cells}
    meanings = "; ".join(meaning for outcome, meaning in MEANINGS.items() if outcome in outcomes)
    recipes = list(dict.fromkeys(found.study.recipe_label(cell.recipe) for cell in cells))
    longest = max(map(len, told), default=0)
    for place, some in enumerate(_packed(recipes, LETTERS - longest)):
        heads = [recipe.partition(" (") for recipe in some]
        head = [row(["Combination", *(escaped(name) for name, _, _ in heads)])]
        if any(rest for _, _, rest in heads):
            head.append(row(["", *(escaped(rest.removesuffix(")")) for _, _, rest in heads)]))
        lines = [row([escaped(name), *(by.get(recipe, "") for recipe in some)]) for name, by in told.items()]
        groups = [lines[start : start + TOGETHER] for start in range(0, len(lines), TOGETHER)]
        caption = rf"\textbf{{Verdicts}} by the rule {found.rule}. {meanings}." if place == 0 else "Continued."
        yield from paged(caption, "l" + "l" * len(some), head, groups)


def _packed(recipes: list[str], letters: int) -> list[list[str]]:
    """Recipes in tables that are not too wide, one at least in each."""
    tables: list[list[str]] = []
    room = 0
    for recipe in recipes:
        width = max(len(part) for part in recipe.split(" (")) + 2
        if not tables or width > room:
            tables.append([])
            room = letters
        tables[-1].append(recipe)
        room -= width
    return tables


def _entry(found: Findings, verdict: Verdict) -> str:
    outcome = verdict.outcome(found.rule)
    if outcome != "conflict":
        begun = outcome == "clash" or any(one.together.n for one in verdict.judgements)
        return WORDS[outcome] if begun else "--"
    symbols = {one.metric.name: one.symbol for one in verdict.judgements}
    return ", ".join(rf"\gcConflict{{{prose(symbols[name])}}}" for name in verdict.broken(found.rule))


def methods(found: Findings) -> str:
    """How verdicts were found, as a paragraph to be pasted, with citations of `SOURCES`."""
    study, cite = found.study, r"\cite"
    if study.start is None:
        seeds = f"{study.alone} seeds alone and each combination with {study.together}"
    else:
        most = max(study.alone, study.together)
        seeds = f"{study.start} seeds, and with up to {most} while a verdict was undecided, at corrected levels"
    parts = [
        rf"\paragraph{{Method.}} We follow the framework of {cite}{{szyller2023conflicting}}: each mechanism was "
        f"trained with {seeds}, and every metric of a mechanism in company is held against its own value alone.",
        _tests(found.rule, rf"$\alpha = {study.alpha:g}$", cite),
        {
            "verdict": rf"Conflicts are corrected within each verdict by Holm's procedure {cite}{{holm1979}}.",
            "holm": rf"All claims are corrected over the whole study by Holm's procedure {cite}{{holm1979}}.",
            "none": "Nothing is corrected for the number of tests.",
        }[study.correction],
        "A mechanism that is not shown to work alone is called ineffective, and a claim that a control makes as well "
        f"is not credible. Intervals are at {escaped(percent(study.confidence))}. Measured and judged with guardclash.",
    ]
    return " ".join(parts) + "\n"


def _tests(rule: str, level: str, cite: str) -> str:
    if rule == "paper":
        return f"Differences and equivalence are tested as in section 4.2 there, at {level}."
    if rule == "bounded":
        return (
            f"A conflict is claimed where a loss beyond the metric's limit is shown at {level}, compatibility where it "
            rf"is shown to stay within, by tests that presume nothing but the metric's range {cite}{{waudbysmith2024}}."
        )
    return (
        rf"A conflict is claimed where a one-sided Welch test {cite}{{welch1947}} shows a loss beyond the metric's "
        rf"limit at {level}, compatibility where one shows that it stays within (non-inferiority, one half of "
        rf"{cite}{{schuirmann1987}}); what neither shows is undecided."
    )


def bibliography(found: Findings) -> str:
    """The sources that `methods` cites, as BibTeX."""
    text = methods(found)
    return "\n\n".join(entry for key, entry in SOURCES.items() if f"{{{key}}}" in text) + "\n"
