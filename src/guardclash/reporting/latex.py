"""The report as a LaTeX document: combinations in the paper's layout, then what they rest on; for papers to copy from.

It compiles as it is with any engine, and needs booktabs and xcolor only (the document itself also geometry).
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from guardclash.judging.criteria import Metric
from guardclash.records.cells import Cell, Named
from guardclash.reporting.claims_text import claim_tables
from guardclash.reporting.findings import Findings
from guardclash.reporting.latex_parts.layout import heading, paged, row
from guardclash.reporting.latex_parts.overview import methods, verdict_table
from guardclash.reporting.latex_parts.tables import FRACTION, combination_tables, criterion_of, measured
from guardclash.reporting.latex_parts.text import comment, escaped, prose
from guardclash.reporting.looks import look_of
from guardclash.reporting.notes import notes, scales
from guardclash.reporting.sentences import claim_sentences, sentences, unbegun
from guardclash.reporting.tables import Plain, plain, utility_head
from guardclash.reporting.text import effect_table

HEAD = """Tables of the study {name}, of records written {written}.
Made by: guardclash report STUDY --format tex --rule {rule} -o FILE.tex
Needs the packages booktabs and xcolor; this document by itself also geometry.
For a paper: copy what stands between the two lines of = into its preamble, and any table environment.
"""
PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[margin=2cm]{geometry}
% ======================================================================
\usepackage{booktabs}
\usepackage{xcolor}
\definecolor{gcgreen}{HTML}{1B7837}
\definecolor{gcred}{HTML}{C4161C}
\providecommand{\gcKept}[1]{\textcolor{gcgreen}{\underline{#1}}}
\providecommand{\gcConflict}[1]{\textcolor{gcred}{#1}}
\providecommand{\gcUndecided}[1]{#1\rlap{\textsuperscript{?}}}
\providecommand{\gcNotCredible}[1]{#1\rlap{\textsuperscript{$\ddagger$}}}
\providecommand{\gcIneffective}[1]{#1\rlap{\textsuperscript{$\dagger$}}}
\providecommand{\gcSeeds}[1]{\textsuperscript{#1}}
% ======================================================================
\makeatletter\setlength{\@fptop}{0pt}\makeatother
\begin{document}
"""
END = "\\end{document}\n"
CLAIMED = "Claims: under how many of the seeds the value reaches the bound."
LONG = 36
"""Letters of a label beyond which it is broken."""


def render_latex(found: Findings) -> str:
    """A document with all tables; what is missing is said at its beginning, in the tables and in comments."""
    lacking, written = found.missing, found.results.written or "-"
    head = HEAD.format(name=found.study.name, written=written, rule=found.rule)
    unready = rf"\noindent\textbf{{Not finished}}: {found.unfinished}." + "\n"
    parts = [
        comment("\n".join([head, *(f"Missing: {line}" for line in lacking)])) + PREAMBLE,
        *([unready] if lacking else []),
        *_sentences(found),
        *([methods(found)] if found.verdicts else []),
        *verdict_table(found),
        *combination_tables(found),
        *(_text_table(plain(effect_table(found)), "Against the unprotected model.") if found.side_effects else ()),
        *alone_tables(found),
        *(table for shown in claim_tables(found.claims) for table in _text_table(plain(shown), CLAIMED)),
        comment("\n".join(["Notes:", *notes(found)])) + END,
    ]
    return "\n".join(parts)


def _sentences(found: Findings) -> list[str]:
    """Every verdict as a sentence, by recipe."""
    told = sentences(found)
    parts = []
    for recipe in dict.fromkeys(one.verdict.recipe for one in told if one.begun):
        own = [one for one in told if one.begun and one.verdict.recipe == recipe]
        items = "\n".join(rf"\item {''.join(prose(piece) for piece in one.pieces)}" for one in own)
        parts.append(rf"\noindent On {escaped(recipe)}:" + f"\n\\begin{{itemize}}\n{items}\n\\end{{itemize}}\n")
    lacking = unbegun(told)
    claims = "\n".join(rf"\item {prose(line)}" for line in claim_sentences(found))
    listed = f"\\begin{{itemize}}\n{claims}\n\\end{{itemize}}\n" if claims else ""
    return [*parts, *([rf"\noindent {lacking}" + "\n"] if lacking else []), *filter(None, (listed,))]


def alone_tables(found: Findings) -> Iterator[str]:
    """The unprotected model and every mechanism alone, with its judged metrics and what they are by chance."""
    study = found.study
    seeds = f"{study.start} to {study.alone}" if study.start else study.alone
    parts = [
        rf"Each mechanism alone: mean $\pm$ standard deviation over {seeds} seeds, from seed {study.first_seed}.",
        "Unprotected: the same measured without it.",
        *([FRACTION] if found.missing else []),
        *map(escaped, scales(study, found.results, study.recipes)),
    ]
    head = [row(["Mechanism", prose(utility_head(found.results)), "Metric", "Alone", "Unprotected"])]
    groups = [[heading(5, escaped(study.recipe_label(recipe))), *_alone(found, recipe)] for recipe in study.recipes]
    return paged(" ".join(parts), "lrlrr", head, groups)


def _alone(found: Findings, recipe: Named) -> Iterator[str]:
    study, results = found.study, found.results
    unprotected = Cell(recipe, (), study.alone)

    def value(cell: Cell, of: Named | None, metric: Metric) -> str:
        return measured(metric, found.sample(cell, of, metric), found.needed[cell.key])

    yield row(["none", value(unprotected, None, results.utility(unprotected)), "", "", ""])
    for named in study.mechanisms():
        cell = Cell(recipe, (named,), study.alone)
        judged = [metric for metric in results.metrics(cell, named) if criterion_of(study, metric)]
        own = [
            [prose(metric.symbol), value(cell, named, metric), value(unprotected, named, metric)] for metric in judged
        ]
        for position, fields in enumerate(own or [["", "", ""]]):  # the utility has its row in any case
            label = ["", ""] if position else [escaped(study.label(named)), value(cell, None, results.utility(cell))]
            yield row([*label, *fields])


def _text_table(shown: Plain, said: str) -> Iterator[str]:
    """A table of the text report; labels that are long are broken."""
    longest = max((len(cells[0].plain) for cells in shown.rows), default=0)
    alignment = ("p{5cm}" if longest > LONG else "l") + "l" * (len(shown.columns) - 1)
    groups: list[list[str]] = [[]]
    for cells, ends in zip(shown.rows, shown.ends, strict=True):
        groups[-1].append(row(map(_styled, cells)))
        groups += [[]] if ends else []
    return paged(f"{escaped(shown.title)}. {said}", alignment, [row(map(prose, shown.columns))], filter(None, groups))


def _styled(cell: Text) -> str:
    """A cell in the command of its word, where the text report marks it; the word decides and not its colour there."""
    look = look_of(cell.plain) if cell.spans else None
    return f"{look.command}{{{prose(cell.plain)}}}" if look and look.command else prose(cell.plain)
