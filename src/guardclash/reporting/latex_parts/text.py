"""Text, symbols and numbers as LaTeX: in ASCII alone, so that every engine and encoding reads the same."""

from __future__ import annotations

import re
import unicodedata

from guardclash.words import MARK, shown

GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi "
        "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        strict=True,
    )
)
# < and > among them: as text, LaTeX's oldest encoding prints other letters for them.
MATHS = {
    "±": r"\pm",
    "×": r"\times",
    "≤": r"\le",
    "≥": r"\ge",
    "·": r"\cdot",
    "−": "-",
    "<": "<",
    ">": ">",
    "→": r"\to",
    "∞": r"\infty",
}
LETTERS = {
    **dict(zip("{}$&#%_", (r"\{", r"\}", r"\$", r"\&", r"\#", r"\%", r"\_"), strict=True)),
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"[": "{[}", "]": "{]}", "*": "{*}", '"': "''", "`": "{`}"},  # else read as arguments, shorthands and ligatures
    **{
        "–": r"\textendash{}",
        "—": r"\textemdash{}",
        "…": r"\dots{}",
        "ß": r"\ss{}",
        "ø": r"\o{}",
        "Ø": r"\O{}",
        "æ": r"\ae{}",
        "ł": r"\l{}",
    },
    **{letter: f"$\\{name}$" for letter, name in GREEK.items()},
    **{letter: f"${command}$" for letter, command in MATHS.items()},
    **{letter: f"$_{{{digit}}}$" for digit, letter in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{letter: f"$^{{{digit}}}$" for digit, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327", "`'^~=u.\"rHvc", strict=True)
)
"""Combining marks, and the commands that set them upon a letter."""
SYMBOL = re.compile(
    r"(?P<log>log₁₀ )(?P<of>[^\W\d_])(?:_(?P<sub>[a-zA-Z]+))?(?!\w)"
    rf"|(?<!\w)(?P<greek>[{''.join(GREEK)}])(?:_(?P<index>[a-zA-Z]+))(?!\w)"
    r"|(?<![\w.])(?=-|[\d.]+±)(?P<mean>-?\d+(?:\.\d+)?)(?P<std>±\d+(?:\.\d+)?)?(?!\.?\w)"
)
"""What is set as mathematics: symbols with an index, such as φ_WM, those after log₁₀, numbers with a sign or ±."""


def escaped(text: str) -> str:
    """Any text as LaTeX that prints it; of a letter that plain LaTeX lacks, its code point: [U+4E2D]."""
    letters = "".join(_letter(letter) for letter in re.sub(r"\s", " ", text))
    return re.sub("-(?=-)", "-{}", letters)  # two in a row would be printed as a dash


def _letter(letter: str) -> str:
    if letter in LETTERS:
        return LETTERS[letter]
    if " " <= letter <= "\x7e":
        return letter
    parts = unicodedata.normalize("NFD", letter)  # a letter, and what stands upon it
    base, mark = parts[0], parts[1:]
    if mark in ACCENTS and base.isascii():
        below = rf"\{base}" if base in "ij" else base  # without its dot
        return rf"\{ACCENTS[mark]}{{{below}}}"
    return f"{{[}}U+{ord(letter):04X}{{]}}"


def prose(text: str) -> str:
    """As `escaped`, but with what looks like a symbol or a number as mathematics: φ_WM, log₁₀ V, -0.5±0.1."""
    parts, end = [], 0
    for found in SYMBOL.finditer(text):
        parts += [escaped(text[end : found.start()]), _maths(found)]
        end = found.end()
    return "".join([*parts, escaped(text[end:])])


def _maths(found: re.Match[str]) -> str:
    if found["log"]:
        return rf"$\log_{{10}} {_indexed(found['of'], found['sub'])}$"
    if found["greek"]:
        return f"${_indexed(found['greek'], found['index'])}$"
    return number(found["mean"], (found["std"] or "")[1:])


def number(mean: str, std: str) -> str:
    """A mean with its standard deviation, where there is one."""
    return rf"${mean}{{\pm}}{std}$" if std else f"${mean}$"


def _indexed(base: str, index: str | None) -> str:
    return (f"\\{GREEK[base]}" if base in GREEK else base) + (rf"_{{\mathrm{{{index}}}}}" if index else "")


def comment(text: str) -> str:
    """Lines as comments; nothing in them can end one."""
    return "".join(f"% {shown(line, lines=False).replace(MARK, '?')}\n" for line in text.splitlines())
