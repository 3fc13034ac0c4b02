"""The report as GitHub Markdown, to be pasted into an issue: the tables of the text report, and its notes."""

from __future__ import annotations

import re

from rich.table import Table
from rich.text import Text

from guardclash.reporting.findings import Findings
from guardclash.reporting.looks import look_of
from guardclash.reporting.notes import notes
from guardclash.reporting.reasons import ruling
from guardclash.reporting.sentences import claim_sentences, sentences, unbegun
from guardclash.reporting.tables import plain
from guardclash.reporting.text import judgement_tables, other_tables, verdict_table
from guardclash.words import shown

SPECIAL = re.compile(r"[\\`*|~$#]|(?<![^\W_])_|_(?![^\W_])|](?=[(\[:])|\A\[|\A[-+=](?=\s)|(?<=\A\d)[.)]")
"""What Markdown would read as its own: letters anywhere, underscores but those inside a word, brackets of links, and
what makes a list at the start of a line."""
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
"""Of "@", so that nobody is called who happens to be called like a mechanism."""


def render_markdown(found: Findings) -> str:
    """The whole report; an outcome that is bad news is bold."""
    study, lacking = found.study, found.unfinished
    parts = [
        f"# {escaped(study.name)}",
        *([f"> **Note:** {lacking}; what can still change is undecided."] if lacking else []),
        *_sentences(found),
        *_section(verdict_table(found.verdicts, study.rules)),
        *(part for table in judgement_tables(found.verdicts, study.rules) for part in _section(table)),
        *(part for table in other_tables(found) for part in _section(table)),
        "## Notes",
        "\n".join(f"- {escaped(note)}" for note in (f"Judged by {ruling(study)}.", *notes(found))),
    ]
    return "\n\n".join(parts) + "\n"


def _sentences(found: Findings) -> list[str]:
    """Every verdict as a sentence, by recipe; one that is bad news has its word in bold."""
    told = sentences(found)
    parts = []
    for recipe in dict.fromkeys(one.verdict.recipe for one in told if one.begun):
        own = [one for one in told if one.begun and one.verdict.recipe == recipe]
        parts += [f"On {escaped(recipe)}:", "\n".join(f"- {_word(one.outcome)}: {escaped(str(one))}" for one in own)]
    lacking = unbegun(told)
    claims = "\n".join(f"- {escaped(line)}" for line in claim_sentences(found))
    return [*parts, *filter(None, (lacking, claims))]


def _word(outcome: str) -> str:
    look = look_of(outcome)
    return f"**{outcome}**" if look and "bold" in look.terminal else outcome


def escaped(text: str) -> str:
    """Any text on one line, such that Markdown shows it as it is."""
    line = shown(" ".join(text.split()))
    # Entities after backslashes: the "#" of an entity must not get one.
    return "".join(HTML.get(letter, letter) for letter in SPECIAL.sub(r"\\\g<0>", line))


def _section(table: Table) -> list[str]:
    """Heading, table, and what stands below it."""
    shown = plain(table)
    head = [list(map(escaped, shown.columns)), ["---"] * len(shown.columns)]
    rows = [[_cell(cell) for cell in row] for row in shown.rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in (*head, *rows))
    return [f"## {escaped(shown.title)}", lines, *([escaped(shown.caption)] if shown.caption else [])]


def _cell(cell: Text) -> str:
    text = "<br>".join(map(escaped, cell.plain.splitlines()))
    return f"**{text}**" if text and any("bold" in str(span.style) for span in cell.spans) else text
