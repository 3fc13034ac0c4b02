"""Texts of unknown origin, made fit to be shown: nothing in them moves a terminal, hides, or fills the screen.

Names, errors and notes come from study files, results files and plugins, and those from anybody. No module that prints
or writes for people takes them as they are.
"""

from __future__ import annotations

import re

MARK = "\N{REPLACEMENT CHARACTER}"
"""What stands for a letter without a shape of its own."""
HIDDEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\U000e0100-\U000e01ef]"  # printable to Python
)
"""Letters that Python calls printable and no font draws."""
LONGEST = 2_000
"""Letters of one text that are shown to people; whoever writes more writes it for a file."""


def shown(text: str, lines: bool = True) -> str:
    r"""A text in which each letter without a shape of its own is a mark (U+FFFD).

    Control characters among them, which would move a terminal or make a page unreadable; marks of direction, which turn
    words around; letters of no width, half a pair of letters, and what no font has.

    Args:
        text: Any text.
        lines: Whether line ends and tabs stay as they are.

    Example:
        >>> shown("a\x1b[31mb\u202ec\r\nd"), shown("a\nb", lines=False)
        ('a�[31mb�c\nd', 'a�b')
    """
    # Nearly all are: no letter of these is looked at one by one.
    if text.isprintable() and (text.isascii() or not HIDDEN.search(text)):
        return text
    kept = "\n\t" if lines else ""
    text = text.replace("\r\n", "\n") if lines else text
    return HIDDEN.sub(MARK, "".join(one if one.isprintable() or one in kept else MARK for one in text))


def cut(text: str, limit: int = LONGEST) -> str:
    """A text of at most about so many letters: of a longer one the beginning and the end, and how many are left out.

    Args:
        text: Any text.
        limit: How many letters are kept, at least 2; the words about the rest come on top.

    Example:
        >>> cut("a" * 5_000_000, 6), cut("short")
        ('aaa ... 4,999,994 letters left out ... aaa', 'short')
    """
    if len(text) <= limit:
        return text
    end = limit // 2
    return f"{text[: limit - end]} ... {len(text) - limit:,} letters left out ... {text[-end:]}"
