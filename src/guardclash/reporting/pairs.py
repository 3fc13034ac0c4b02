"""The pairs of a study as a matrix: which mechanisms are its rows, and which its columns."""

from __future__ import annotations

from guardclash.records.cells import Named
from guardclash.studies.study import Study


def in_order(study: Study) -> list[Named]:
    """All mechanisms, the variants of each beside each other."""
    found = study.mechanisms()
    names = list(dict.fromkeys(named.name for named in found))
    return sorted(found, key=lambda named: names.index(named.name))


def sides(study: Study) -> tuple[list[Named], list[Named]]:
    """Rows and columns: those that stand first in a pair and those that stand second; empty if there is no pair."""
    pairs = [_plain(combination) for combination in study.combinations if len(combination) == 2]
    order = in_order(study)
    first = {min(pair, key=order.index) for pair in pairs}
    second = {max(pair, key=order.index) for pair in pairs}
    return [named for named in order if named in first], [named for named in order if named in second]


def asked_of(study: Study, one: Named, other: Named) -> tuple[tuple[Named, ...], ...]:
    """The combinations of two mechanisms that a study asks for: at once, and one after the other."""
    pair = {one, other}
    return tuple(found for found in study.combinations if len(found) == 2 and set(_plain(found)) == pair)


def _plain(combination: tuple[Named, ...]) -> tuple[Named, ...]:
    return tuple(named.plain for named in combination)
