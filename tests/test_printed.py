"""Numbers in docs/fidelity.md and docs/findings.md are those of the records (tools/printed.py)."""

from __future__ import annotations

import printed
import pytest

from committed import ROOT

TABLE4 = "results/paper/table4-reduced/results.json"
ROW = f"| a finding | 9.99 | {{}} | [record](../{TABLE4}) |\n"


def found(tmp_path, text: str) -> list[str]:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return list(printed.checked(page))


@pytest.mark.slow
def test_every_number_is_in_a_record(capsys):
    assert printed.main() == 0, capsys.readouterr().out


@pytest.mark.parametrize("told", ["0.35 ± 0.05", "0.19 ± 0.02", "0.97 → 0.35"])
def test_a_number_of_the_record_is_found(tmp_path, told):
    assert found(tmp_path, ROW.format(told)) == []


@pytest.mark.parametrize(
    "told", ["0.35 ± 0.07", "0.97 ± 0.05", "0.35 [0.31, 0.33]", "0.35 → 0.9999", "p = 1.50", "7.25"]
)
def test_a_number_of_nowhere_is_named(tmp_path, told):
    (line,) = found(tmp_path, ROW.format(told))
    assert line.startswith("a finding: ")
    assert line.removeprefix("a finding: ") in told


def test_what_has_no_record_is_not_held(tmp_path):
    assert found(tmp_path, "## Elsewhere\n\n7.25 of something\n") == []
    text = f"## Here\n\n**The paper** says 7.25.\n\nWe say [0.35 ± 0.05](../{TABLE4}).\n"
    assert found(tmp_path, text) == []
    assert found(tmp_path, text.replace("**The paper** says", "We said")) == ["Here: 7.25"]


def test_numbers_on_two_lines_are_held_together(tmp_path):
    text = f"## Here\n\n[records](../{TABLE4}), with 0.35 ±\n  0.05 in it\n"
    assert found(tmp_path, text) == []
    assert found(tmp_path, text.replace("0.05", "0.07")) == ["Here: 0.35 ± 0.07"]


def test_no_exception_is_idle():
    """An exception for a number that the page no longer prints would hide the next one."""
    pages = " ".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("fidelity.md", "findings.md"))
    for line in printed.ELSEWHERE:
        name, _, number = line.rpartition(": ")
        assert name in pages
        assert number in " ".join(pages.split())
