"""A study's standing as the terminal shows it: while it runs, and once by `guardclash status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import braces
from guardclash.reporting.screen import literal
from guardclash.reporting.tables import duration, styled
from guardclash.watching.board import Standing, Underway
from guardclash.words import shown


def view(standing: Standing, verdicts: Sequence[Verdict], rule: Rule, room: int | None = None) -> Group:
    """Counts, time left, what is under way, and what is decided.

    Args:
        standing: How far the study is.
        verdicts: Of what is measured so far.
        rule: Which rule decides.
        room: How many lines there are; decided combinations that do not fit are counted. None: as many as it takes.
    """
    shown: list[Any] = [_head(standing)]
    shown += _underway(standing.underway)
    others = 4 + 2 * len(standing.underway)  # lines
    shown += _verdicts(verdicts, rule, None if room is None else max(0, room - others))
    return Group(*shown)


def _head(standing: Standing) -> Group:
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(max(1, standing.trials), standing.done, width=30)
    grid.add_row(Text(shown(standing.study), "bold"), bar, Text(left(standing), "cyan"))
    counts = (
        f"{standing.done} of {standing.trials} trials done, {standing.running} running, {standing.waiting} waiting, "
        f"{standing.failed} failed"
    )
    return Group(grid, _line(counts))


def left(standing: Standing) -> str:
    """The time left in words; why there is none."""
    if standing.waiting + standing.running == 0:
        return ""
    if not standing.runs and not standing.running:
        return "nothing runs"
    unknown = f"{standing.untimed} steps of unknown length"
    if standing.untimed and standing.left < 1:
        return f"{unknown} left"
    return f"{duration(standing.left)} left" + (f" and {unknown}" if standing.untimed else "")


def _underway(underway: Iterable[Underway]) -> Iterator[Text]:
    """Two lines for each, because names of combinations may fill one."""
    for one in underway:
        yield _line(f"  {one.task.label}")
        losses = ", ".join(f"{name} {_loss(loss)}" for name, loss in one.losses.items())
        left = "" if one.left is None else f", {duration(one.left)} left"
        parts = (one.doing, f"loss: {losses}" if losses else "", f"{duration(one.so_far)} so far{left}")
        yield _line("    " + "   ".join(filter(None, parts)))


def _line(text: str | Text) -> Text:
    """Text that is cut off where the terminal ends."""
    line = Text(shown(text)) if isinstance(text, str) else text
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _loss(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.4g}"


def decided(verdicts: Iterable[Verdict], rule: Rule) -> dict[str, str]:
    """What a rule says of each combination that is measured enough for a word, by recipe and combination; markup."""
    return {
        literal(f"{verdict.recipe} {braces(verdict.combination)}"): _word(verdict, rule)
        for verdict in verdicts
        if verdict.clash or (verdict.judgements and not verdict.missing)
    }


def _word(verdict: Verdict, rule: Rule) -> str:
    symbols = {judgement.metric.name: judgement.metric.symbol for judgement in verdict.judgements}
    broken = ", ".join(symbols[name] for name in verdict.broken(rule))
    return styled(verdict.outcome(rule)) + (f" ({literal(broken)})" if broken else "")


def _verdicts(verdicts: Sequence[Verdict], rule: Rule, room: int | None) -> Iterator[Any]:
    words = decided(verdicts, rule)
    if not verdicts:
        return
    yield _line(f"verdicts ({rule}): {len(words)} of {len(verdicts)} combinations are measured enough")
    fitting = list(words.items())[:room]  # all of them for None
    for label, word in fitting:
        yield _line(Text.from_markup(f"  {word}  {label}", emoji=False))
    if len(fitting) < len(words):
        yield Text(f"  and {len(words) - len(fitting)} more")
