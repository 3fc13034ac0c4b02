"""What a study says now, beside what it said of an earlier results file. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from guardclash.judging.judgement import Judgement
from guardclash.records.cells import braces
from guardclash.reporting.findings import Findings
from guardclash.reporting.sentences import sentences
from guardclash.reporting.tables import summary

NONE = "not begun"
"""The word for what has no model yet."""


@dataclass(frozen=True)
class Moved:
    """A judged metric of a combination whose outcome is another one."""

    symbol: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.symbol}: {self.before}; now {self.now}"


@dataclass(frozen=True)
class Change:
    """A verdict or an ownership claim that is another one."""

    place: str
    before: str
    """The word."""
    now: str
    told: tuple[str, ...] = ()
    """The verdict in a sentence, before and now; none of a claim, whose word says it."""
    moved: tuple[Moved, ...] = ()

    def __str__(self) -> str:
        head = f"{self.place}: {self.before} → {self.now}" if self.before != self.now else f"{self.place}: {self.now}"
        said = (f"  {name}: {text}" for name, text in zip(("before", "now"), self.told, strict=False))
        return "\n".join((head, *said, *(f"  {one}" for one in self.moved)))


@dataclass(frozen=True)
class Changes:
    """All that is judged otherwise."""

    verdicts: tuple[Change, ...]
    claims: tuple[Change, ...]
    same: int
    """Verdicts of which nothing changed but numbers."""
    gone: tuple[str, ...]
    """Keys of cells that only the earlier file has: it was made for another study, or for more of this one."""

    def __str__(self) -> str:
        counted = len(self.verdicts)
        lines = [
            f"{counted} of {counted + self.same} verdicts changed." if counted else f"All {self.same} verdicts stay."
        ]
        lines += [f"{len(self.claims)} ownership claims changed."] if self.claims else []
        lines += [f"{len(self.gone)} cells of the earlier file are none of this study."] if self.gone else []
        return "\n\n".join((" ".join(lines), *map(str, self.verdicts), *map(str, self.claims)))


def changes(before: Findings, now: Findings) -> Changes:
    """What a study says otherwise than it did.

    Args:
        before: Of the earlier results, under the rule of `now`.
        now: Of today's; of the same study.
    """
    found = [*_verdicts(before, now)]
    kept = sum(one is None for one in found)
    known = {cell.key for cell in (*now.study.cells(), *now.study.suspect_cells())}
    gone = tuple(key for key in before.results.cells if key not in known)
    return Changes(tuple(one for one in found if one), tuple(_claims(before, now)), kept, gone)


def _verdicts(before: Findings, now: Findings) -> Iterator[Change | None]:
    """For each verdict how it changed; None where it did not."""
    for old, new in zip(sentences(before), sentences(now), strict=True):  # of one study, in its order
        was, word = (told.outcome if told.begun else NONE for told in (old, new))
        moved = tuple(_moved(now, old.verdict.judgements, new.verdict.judgements))
        if was == word and not moved:
            yield None
        else:
            place = f"{new.verdict.recipe} {braces(new.verdict.combination)}"
            yield Change(place, was, word, (str(old), str(new)), moved)


def _moved(found: Findings, before: tuple[Judgement, ...], now: tuple[Judgement, ...]) -> Iterator[Moved]:
    def named(judgements: tuple[Judgement, ...]) -> dict[tuple[str, str], Judgement]:
        return {(one.against, one.metric.name): one for one in judgements}

    earlier, later = named(before), named(now)
    for key in dict.fromkeys((*earlier, *later)):
        pair = earlier.get(key), later.get(key)
        said = [one.outcome(found.rule) if one and one.together.n else "not measured" for one in pair]
        judged = [one for one in pair if one and one.metric.criterion is not None]
        if judged and said[0] != said[1]:
            was, word = (f"{word} {_numbers(one)}".strip() for word, one in zip(said, pair, strict=True))
            yield Moved(judged[0].symbol, was, word)


def _numbers(one: Judgement | None) -> str:
    if one is None or not (one.alone.n or one.together.n):
        return ""
    return f"({summary(one.metric, one.alone)} alone, {summary(one.metric, one.together)} together)"


def _claims(before: Findings, now: Findings) -> Iterator[Change]:
    def outcomes(found: Findings) -> dict[str, str]:
        return {
            f"{one.recipe} {braces(one.combination)}, {one.mechanism} ({one.finding.metric.symbol}) on {one.suspect}": (
                one.outcome
            )
            for one in found.claims
        }

    earlier, later = outcomes(before), outcomes(now)
    for place in dict.fromkeys((*earlier, *later)):
        was, word = (said.get(place, NONE) for said in (earlier, later))
        if was != word:
            yield Change(place, was, word)
