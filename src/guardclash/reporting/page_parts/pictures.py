"""Pictures of what mechanisms put into the training, read from the records of each mechanism alone."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from guardclash.records.cells import Cell
from guardclash.records.results import Evidence, Results
from guardclash.studies.study import Study
from guardclash.studies.verdicts import alone

PNG = b"\x89PNG\r\n\x1a\n"
"""With what a PNG file begins; nothing else is shown."""
ROOM = 500_000
"""Letters of a page that pictures may take before each is shown once only."""
WRITTEN = "guardclash evidence writes it as a file."
"""What is said of a picture that is not shown."""
WIDEST = 4096
"""Screen pixels; more is no picture for a page."""


@dataclass(frozen=True)
class Exhibit:
    """A picture in the details of a combination."""

    mechanism: str
    caption: str
    source: str
    """The address that holds the picture itself; empty where it is not shown."""
    width: int
    height: int
    """Screen pixels."""
    instead: str = ""
    """What is said where it is not shown."""
    place: tuple[str, str] | None = None
    """Address and name of the section where it is shown instead."""


def exhibits(study: Study, results: Results, cell: Cell) -> tuple[Exhibit, ...]:
    """The pictures of every mechanism of a combination, under the study's first seed.

    Pictures are recorded of mechanisms alone: what they put in is the same in every combination of the recipe. What
    is no picture is left out without a word; what was too large for the records is named.
    """
    return tuple(
        exhibit
        for named in cell.combination
        for entry in results.evidence(alone(cell, named, study))
        if (exhibit := _exhibit(study.label(named.plain), entry))
    )


def _exhibit(mechanism: str, entry: Evidence) -> Exhibit | None:
    if entry.bytes is not None:
        instead = f"Left out: it has {max(entry.bytes // 1024, 1):,} KiB. {WRITTEN}"
        return Exhibit(mechanism, entry.caption, "", 0, 0, instead)
    try:
        content = base64.b64decode(entry.png or "", validate=True)
    except (ValueError, binascii.Error):
        return None
    # From the first chunk of every PNG: signature 8 bytes, length 4, type 4, then width and height.
    width, height = (int.from_bytes(content[place : place + 4], "big") for place in (16, 20))
    if not content.startswith(PNG) or not width or not height:
        return None
    shown = entry.width if entry.width and 0 < entry.width <= WIDEST else min(width, WIDEST)
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"  # anew: nothing but what was checked
    return Exhibit(mechanism, entry.caption, source, shown, max(round(height * shown / width), 1))


def shown_once(sections: Iterable[tuple[tuple[str, str], tuple[Exhibit, ...]]]) -> Iterator[tuple[Exhibit, ...]]:
    """The pictures of all sections of a page; where they take too much room, each stands once only, while there is any.

    Args:
        sections: Address and name of each, and its pictures.
    """
    every = list(sections)
    if sum(len(one.source) for _, found in every for one in found) <= ROOM:
        yield from (found for _, found in every)
        return
    first: dict[str, tuple[str, str]] = {}
    for place, found in every:
        for one in found:
            if sum(map(len, {*first, one.source})) <= ROOM:  # a set, for one that is there takes no more room
                first.setdefault(one.source, place)
        yield tuple(_once(one, first.get(one.source), place) for one in found)


def _once(one: Exhibit, first: tuple[str, str] | None, here: tuple[str, str]) -> Exhibit:
    if first == here or not one.source:
        return one
    instead = "" if first else f"Left out: pictures fill this page. {WRITTEN}"
    return replace(one, source="", place=first, instead=instead)
