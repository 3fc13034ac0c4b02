"""The figure matrix of several studies: a triangle of all their pairs for every data set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from committed import committed
from guardclash.cli.app import app
from guardclash.errors import UserError
from guardclash.reporting.figure_parts.merged import in_order, merged
from guardclash.reporting.figures import FIGURES, OF_SEVERAL, draw
from guardclash.reporting.findings import find

NAMES = ("raddata-pairs", "wm-dpsgd-mnist")


@pytest.fixture(scope="module")
def found():
    return [find(*committed(name), "strict") for name in NAMES]


def test_a_triangle_holds_every_pair_of_both_studies(found):
    blocks = list(merged(found))
    shown = {
        (block.title, row.label, head): cell
        for block in blocks
        for row in block.rows
        for head, cell in zip(block.heads, row.cells, strict=True)
        if not isinstance(cell, str)
    }
    asked = {
        (cell.recipe.name, frozenset(named.name for named in cell.combination)): one.by_cell[cell.key]
        for one in found
        for cell in one.study.cells()
        if len(cell.combination) == 2
    }
    assert {(data, frozenset((row, head))) for data, row, head in shown} == set(asked)
    for (data, row, head), cell in shown.items():
        assert asked[data, frozenset((row, head))] in [verdict for _, verdict in cell]


def test_below_the_diagonal_there_is_nothing(found):
    for block in merged(found):
        order = [block.rows[0].label, *block.heads]
        for place, row in enumerate(block.rows):
            assert row.label == order[place]
            assert all(cell == "" for cell in row.cells[:place])
            assert all(cell != "" for cell in row.cells[place:])


@given(st.permutations(list("abcdefg")), st.data())
def test_names_stand_in_the_order_of_their_pairs(order, data):
    pairs = [(one, other) for place, one in enumerate(order) for other in order[place + 1 :]]
    shuffled = data.draw(st.permutations(pairs))
    assert in_order(shuffled) == list(order)


def test_pairs_that_contradict_each_other_are_all_drawn():
    assert in_order([("a", "b"), ("b", "c"), ("c", "a")]) == ["a", "b", "c"]


def test_one_study_alone_is_drawn_as_before(found):
    assert draw("matrix", found[0], "svg") != draw("matrix", found[0], "svg", found[1])


@pytest.mark.parametrize("name", sorted(set(FIGURES) - set(OF_SEVERAL)))
def test_other_figures_are_of_one_study(name, found):
    with pytest.raises(UserError, match="this figure is of one study"):
        draw(name, found[0], "svg", found[1])


def test_the_command_draws_studies_together(tmp_path):
    file = tmp_path / "both.svg"
    studies = [f"studies/{name}.toml" for name in NAMES]
    asked = ["figure", "matrix", studies[0], "--with", studies[1], "-o", str(file), "--store", str(tmp_path / "none")]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "raddata-pairs, wm-dpsgd-mnist: verdicts by" in file.read_text()
