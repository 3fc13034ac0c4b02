"""Holds the numbers that docs/fidelity.md and docs/findings.md print to the records that they link to.

python tools/printed.py       exit code 1 if a number is in no record; prints where

A row of a table, or a section of a page, is held to the records that it links to. Numbers that stand together must be
together in a record: "0.35 ± 0.05" is the mean and the deviation of one sample, "0.13 [0.11, 0.15]" a mean or a
difference with its own interval, "0.97 → 0.35" two means of one metric. What follows from no record, such as the
paper's own numbers, is in `ELSEWHERE`, with its source.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardclash.judging.criteria import Metric
from guardclash.judging.stats import Sample, estimate_difference, estimate_mean, interval, t_test
from guardclash.records.file import read_results
from guardclash.reporting.findings import Findings, find
from guardclash.studies.study_file import read_study

ROOT = Path(__file__).parent.parent
NUMBER = r"[-−+]?\d+\.\d+"
LINK = re.compile(r"\(\.\./((?:results|examples)/[^)#]*results\.json)\)")
PUBLISHED = "**The paper**"
"""Paragraphs that begin so tell the paper's numbers."""
ELSEWHERE = {
    "Each mechanism works alone (Table 2): 0.284": "the paper's",
    "leaving triggers out of adversarial training does not help (Table 6): 0.004": "p told after another p",
    "trained outside of DP-SGD it still falls (Table 8): 0.39": "the paper's",
    "leaving triggers out of adversarial training does not help (Table 6): 0.04": "the paper's",
    "Does a watermark ruin adversarial robustness?: 0.07": "the largest of several losses",
    "Does a watermark ruin adversarial robustness?: 0.05": "losses of one order over the other",
    "Does a watermark ruin adversarial robustness?: 0.04": "losses of one order over the other",
    "Does a watermark ruin adversarial robustness?: 0.033": "p told after another p",
    "Is it the architecture?: 0.62 [0.56, 0.67]": "a difference of two records",
    "Is it the architecture?: 0.25 [0.04, 0.47]": "a difference of two records, of nets",
    "Is it the architecture?: 0.19 [0.15, 0.22]": "a difference of two records, of nets",
    "Do the marks of radioactive data survive adversarial training and DP-SGD?: 0.191": "the paper's",
    "Do the marks of radioactive data survive adversarial training and DP-SGD?: 0.284": "the paper's",
    "Where there is something to infer: 0.039": "p told after another p",
    "Could distances between models do better?: 0.21": "of curves",
    "Could distances between models do better?: 0.006": "of curves",
}
"""What is printed and is no sample's mean, by row or section; why."""


@dataclass
class Numbers:
    """What a study's records say."""

    means: list[tuple[float, float | None]] = field(default_factory=list)
    """Mean and standard deviation; single values with None."""
    pairs: list[tuple[float, float]] = field(default_factory=list)
    """Two means of one metric."""
    spans: list[tuple[float, float, float]] = field(default_factory=list)
    """A mean or a difference with its interval."""
    chances: list[float] = field(default_factory=list)
    """p-values."""

    def add(self, other: Numbers) -> None:
        """Those of another study as well."""
        for name, values in vars(other).items():
            getattr(self, name).extend(values)


def studies() -> dict[str, tuple[Path, str | None]]:
    """By a record's path: its study's file, and the scale where the record's name has one."""
    found: dict[str, tuple[Path, str | None]] = {}
    named = {}
    for path in sorted((ROOT / "studies").rglob("*.toml")):
        told = re.search(r'^name = "([^"]+)"', path.read_text(encoding="utf-8"), re.M)
        own = str(path.relative_to(ROOT / "studies").with_suffix(""))
        named[told[1] if told else own] = named[own] = path
    for record in (ROOT / "examples").rglob("results.json"):
        found[str(record.relative_to(ROOT))] = record.parent / "study.toml", None
    for record in (ROOT / "results").rglob("results.json"):
        name = str(record.parent.relative_to(ROOT / "results"))
        stem, _, scale = name.rpartition("-")
        if name in named:
            found[str(record.relative_to(ROOT))] = named[name], None
        elif stem in named:
            found[str(record.relative_to(ROOT))] = named[stem], scale
    return found


@functools.cache
def numbers_of(record: str) -> Numbers:
    """All that a record says, under the study's own rule."""
    path, scale = studies()[record]
    found = find(read_study(path, scale), read_results(ROOT / record))
    said = Numbers()
    for verdict in found.verdicts:
        for one in verdict.judgements:
            said.means += [(sample.mean, sample.std) for sample in (one.alone, one.together) if sample.n]
            said.means += [(one.threshold, None)] if one.threshold is not None else []
            said.pairs += [(one.alone.mean, one.together.mean)] if one.alone.n and one.together.n else []
            for value, ends in ((one.together.mean, one.together_interval), (one.difference, one.interval)):
                said.spans += [(value, *ends)] if ends and value is not None else []
            said.chances += [p for p in (*vars(one.raw).values(), *vars(one.claims).values()) if p is not None]
    for alike in samples_of(found).values():
        for metric, sample in alike:
            _single(said, found, metric, sample)
        finite = [sample for _, sample in alike if math.isfinite(sample.mean)]
        for one, other in itertools.permutations(finite, 2):
            said.pairs.append((one.mean, other.mean))
            for paired in (False, True):
                change = estimate_difference(one, other, paired)
                ends = interval(change, found.study.level)
                said.spans += [(change.value, *ends)] if all(map(math.isfinite, ends)) else []
                test = t_test(change)
                said.chances += [test.p, test.p_less, test.p_greater]
    return said


def samples_of(found: Findings) -> dict[Any, list[tuple[Metric, Sample]]]:
    """All samples, those together that are of one metric on one data set."""
    study, results = found.study, found.results
    alike: dict[Any, list[tuple[Metric, Sample]]] = {}
    for cell in (*study.cells(), *study.suspect_cells()):
        for of in (None, *study.mechanisms(), *study.measures):
            for metric in results.metrics(cell, of):
                sample = found.sample(cell, of, metric)
                if sample.n:
                    alike.setdefault((cell.recipe.name, metric.name), []).append((metric, sample))
    for verdict in found.verdicts:  # of a net metric, what is judged is none of the samples above
        data = found.cells[verdict.cell].recipe.name
        for one in verdict.judgements if any(j.metric.net for j in verdict.judgements) else ():
            alike.setdefault((data, one.metric.name, "judged"), []).extend(
                (one.metric, sample) for sample in (one.alone, one.together) if sample.n
            )
    for claim in found.claims:
        proof = claim.finding
        alike.setdefault((claim.recipe, proof.metric.name), []).append((proof.metric, proof.sample))
    return alike


def _single(said: Numbers, found: Findings, metric: Metric, sample: Sample) -> None:
    said.means += [(sample.mean, sample.std), *((value, None) for value in sample.values)]
    ends = interval(estimate_mean(sample), found.study.level)
    said.spans += [(sample.mean, *ends)] if all(map(math.isfinite, ends)) else []


def prints(text: str, value: float | None) -> bool:
    """Whether a value, rounded as the text is, is the text."""
    if value is None or not math.isfinite(value):
        return False
    text = text.replace("−", "-")
    return abs(float(text) - value) <= 0.500001 * 10 ** -len(text.partition(".")[2])


def _span(said: Numbers, *texts: str) -> bool:
    """A difference may be told as a gain or as a loss."""
    return any(
        all(map(prints, texts, span)) or all(map(prints, texts, (-span[0], -span[2], -span[1]))) for span in said.spans
    )


def _spread(said: Numbers, *texts: str) -> bool:
    return any(all(map(prints, texts, one)) for one in said.means)


def _change(said: Numbers, before: str, now: str, then: str = "") -> bool:
    """A third mean may be of another record than the two before it."""
    there = any(prints(before, one) and prints(now, other) for one, other in said.pairs)
    return there and (not then or any(prints(then, mean) for mean, _ in said.means))


FORMS: tuple[tuple[str, Callable[..., bool]], ...] = (
    (rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\]", _span),
    (rf"({NUMBER}) ± ({NUMBER})", _spread),
    (rf"({NUMBER}) → ({NUMBER}) → ({NUMBER})", _change),
    (rf"({NUMBER}) → ({NUMBER})", _change),
    (rf"\bp(?: =| of)? ({NUMBER})", lambda said, text: any(prints(text, p) for p in said.chances)),
    (rf"({NUMBER})", lambda said, text: any(prints(text, mean) for mean, _ in said.means)),
)
"""How numbers stand together, the longest forms first, and what a record must have of them."""


def unknown(text: str, records: list[str]) -> Iterator[str]:
    """What a text prints and no record has."""
    said = Numbers()
    for record in records:
        said.add(numbers_of(record))
    for pattern, there in FORMS:
        for match in re.finditer(pattern, text):
            if not there(said, *match.groups()):
                yield match[0]
        text = re.sub(pattern, "#", text)


def units(page: str) -> Iterator[tuple[str, str]]:
    """Rows of tables with records of their own, and the sections around them: a name, and the text."""
    for part in re.split(r"(?m)^(?=#{2,3} )", page):
        rest = []
        paragraphs = re.sub(r"```.*?```", "", part, flags=re.S).split("\n\n")
        for line in "\n".join(one for one in paragraphs if not one.startswith(PUBLISHED)).splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if line.startswith("|") and LINK.search(line):
                # The second cell is what was published.
                yield cells[0], " | ".join((cells[0], *cells[2:]))
            else:
                rest.append(line)
        # Numbers that stand together may be on two lines.
        yield part.partition("\n")[0].strip("# "), " ".join(" ".join(rest).split())


def checked(path: Path) -> Iterator[str]:
    """Lines that say which numbers of a page are in no record that it links to."""
    for name, text in units(path.read_text(encoding="utf-8")):
        records = [one for one in dict.fromkeys(LINK.findall(text)) if one in studies()]
        plain = re.sub(r"`[^`]*`", "", re.sub(r"\]\([^)]*\)", "]", text))
        if records:
            yield from (line for one in unknown(plain, records) if (line := f"{name}: {one}") not in ELSEWHERE)


def main() -> int:
    """Prints what is in no record."""
    found = [line for page in ("fidelity.md", "findings.md") for line in checked(ROOT / "docs" / page)]
    print("\n".join(found) or "every number is in a record that its row or section links to")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
