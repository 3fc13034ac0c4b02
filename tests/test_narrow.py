"""Terminals of 80 columns: nothing is folded inside a word or a number, whatever is shown."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from guardclash.cli.app import COMMANDS
from guardclash.records.file import read_results
from guardclash.reporting.findings import find
from guardclash.reporting.screen import literal
from guardclash.reporting.stacked import Terminal
from guardclash.reporting.tables import titled
from guardclash.reporting.text import render
from guardclash.studies.study_file import read_study

ROOT = Path(__file__).parents[1]
RECORDED = ("wm-dpsgd-mnist", "theft", "fairness-adult", "order", "model-distances")
DRAWN = re.compile(r"[─│]+")


def words(text: str) -> set[str]:
    """What stands between spaces, without the marks after it."""
    return {word.strip(",;") for word in DRAWN.sub(" ", text).split()}


def shown(table: Table, width: int) -> str:
    console = Terminal(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


@given(
    st.lists(
        st.lists(st.from_regex(r"[a-z0-9.±]{0,30}( [a-z0-9.]{1,12}){0,3}", fullmatch=True), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None)
def test_a_table_that_does_not_fit_is_shown_row_by_row_with_every_word_whole(rows):
    table = titled("Some title", "recipe", "combination", "a head", "another")
    for row in rows:
        table.add_row(*map(literal, row))
    narrow, wide = shown(table, 60), shown(table, 1000)
    assert all(len(line.rstrip()) <= 60 for line in narrow.splitlines())
    lost = words(" ".join(map(" ".join, rows))) - words(narrow) - {""}
    assert not lost and words(narrow) <= words(wide)


def test_a_table_that_fits_stays_a_table():
    table = titled("Some title", "a", "b")
    table.add_row("1", "2")
    assert "─" in shown(table, 60)
    assert shown(table, 60) == shown(table, 61)


def test_wide_tables_stay_tables_where_that_is_asked_for():
    table = titled("", "a", "b")
    table.add_row("1" * 50, "2" * 50)
    console = Terminal(file=io.StringIO(), width=60, color_system=None)
    console.wide = True
    console.print(table)
    assert "─" in console.file.getvalue()


@pytest.mark.parametrize("name", RECORDED)
def test_a_report_of_80_columns_says_what_one_of_119_says(name):
    found = find(read_study(ROOT / f"studies/{name}.toml"), read_results(ROOT / f"results/{name}"))
    narrow, wider = render(found, 80), render(found, 119)
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert words(narrow) == words(wider) or words(narrow) - words(wider) == set(), words(narrow) - words(wider)


def test_of_each_metric_one_line_says_what_matters():
    found = find(read_study(ROOT / "studies/wm-dpsgd-mnist.toml"), read_results(ROOT / "results/wm-dpsgd-mnist"))
    assert re.search(
        r"^φ_WM +1\.00 → 0\.38 +-0\.62 \[-0\.66, -0\.59\] +conflict \(drop 0\.3\)$", render(found, 80), re.M
    )


def typed(*arguments: str, columns: int = 80) -> str:
    """What a command writes to a terminal."""
    own, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "guardclash", *arguments]
    with subprocess.Popen(
        command, stdout=theirs, stderr=theirs, stdin=theirs, cwd=ROOT, env={**environment, "TERM": "dumb"}
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(own, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
    os.close(own)
    assert process.returncode == 0, said.decode()
    return said.decode().replace("\r\n", "\n")


STUDY = "studies/wm-dpsgd-mnist.toml"
TYPED = [
    ("list",),
    ("list", "wm"),
    ("report", STUDY, "--results", "results/wm-dpsgd-mnist"),
    ("compare", "studies/paper/table5.toml", "--scale", "reduced"),
    ("plan", "studies/digits.toml", "--scale", "smoke"),
]


@pytest.mark.parametrize("arguments", TYPED, ids=" ".join)
def test_no_command_folds_a_word_at_80_columns(arguments):
    narrow = typed(*arguments)
    assert narrow.strip() and all(len(line) <= 80 for line in narrow.splitlines()), narrow
    whole = words(typed(*arguments, columns=1000 if arguments[0] != "report" else 119))
    assert not {word for word in words(narrow) - whole if not re.search(r"\d", word)}


def test_the_help_of_every_command_is_a_whole_sentence():
    said = typed("-h")
    for name in (*COMMANDS, "data", "store"):
        (line,) = re.findall(rf"^  {name} +(.*)$", said, re.M)
        assert line.endswith(".") and not line.endswith("..."), line
    assert said == typed("--help") and typed("--version").startswith("guardclash ")
