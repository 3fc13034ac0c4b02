"""How often verdicts are wrong: simulated seeds, whose true means are known, judged by the product's own functions.

    python benchmarks/verdict_errors.py          (make simulate: minutes; writes the record, docs/trust.md, the figure)
    python benchmarks/verdict_errors.py --short  (seconds, prints only)

Nothing is trained. A conflict is wrong where the true loss is within the limit, "compatible" where it is beyond it.
Every cell has a generator of its own, so that a cell comes out the same whichever others are simulated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guardclash.judging.criteria import SHARE, Floor, MaxDrop, Metric
from guardclash.judging.judge import Bare, Look, judge
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import RULES, combined
from guardclash.judging.stats import Sample
from guardclash.judging.verdict import Correction, Verdict, corrected, judge_accuracy
from guardclash.reporting.reasons import warnings
from guardclash.studies.study import Study
from simulated_seeds import NORMAL, SPREADS, Seeds, Spread, first, generator, normal

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results/benchmarks/verdict_errors.json"
Row = dict[str, Any]

LIMIT = 0.10
DROPS = (0.0, 0.5, 0.96, 1.0, 1.04, 1.5, 2.0)
"""True drops, as shares of the limit."""
SEEDS: tuple[Seeds, ...] = ((3, 3), (3, 5), (5, 10), (10, 10), (20, 20))
"""Alone, together."""
DROP = Metric("value", "φ", MaxDrop(LIMIT))
STEPS = Study("simulated", (), (), together=10, start=3)


@dataclass(frozen=True)
class Runs:
    """Simulated verdicts in each cell."""

    key: int = 30_000
    """Where an error rate of 5 % is promised and just met: an estimate of 5 % then has an upper limit of 5.3 %."""
    fewest: int = 200_000
    """The same at the fewest seeds, where Welch's test is a little too bold: its error there must be told exactly."""
    some: int = 10_000
    rest: int = 2_000
    bounded: int = 200
    """Of those of `rest`, also judged by the rule "bounded"."""


FULL, SHORT = Runs(), Runs(400, 400, 250, 50, 10)


# Counting


def words(outcomes: Iterable[str]) -> dict[str, int]:
    """How often each word is said."""
    return dict(sorted(Counter(combined([outcome]) for outcome in outcomes).items()))


def wrong(drop: float) -> str:
    """The word that is wrong of a loss, given as a share of what may be lost."""
    return "conflict" if drop <= 1 else "compatible"


def beside(verdicts: Iterable[Verdict], drop: float) -> Row:
    """Beside how many wrong verdicts of the strict rule a warning stands, and one of a seed that lies apart."""
    at = [one for one in verdicts if one.outcome("strict") == wrong(drop)]
    warned = sum(any(True for _ in warnings(STEPS, one, "strict")) for one in at)
    return {"warned": warned, "apart": sum(any(j.apart for j in one.judgements) for one in at)}


def of_one(judgements: Iterable[Judgement], drop: float, bounded: int) -> Row:
    """The words of each rule about one metric, of the rule "bounded" about the first ones, and warnings."""
    found = list(judgements)
    said: Row = {rule: words(one.outcome(rule) for one in found) for rule in RULES if rule != "bounded"}
    if bounded:
        said["bounded"] = words(one.outcome("bounded") for one in found[:bounded])
    return said | beside((Verdict("", (), (one,)) for one in found), drop)


# Parts of the record: a row for every cell


def one_metric(runs: Runs, spreads: Iterable[str] = SPREADS, seeds: Iterable[Seeds] = SEEDS) -> Iterator[Row]:
    """A drop, with fixed numbers of seeds."""
    for name in spreads:
        spread = SPREADS[name]
        metric = replace(DROP, range=SHARE if spread.within else None)
        for counts in seeds:
            for drop in DROPS:
                fewest = runs.fewest if counts == SEEDS[0] else runs.key
                count = {1.0: fewest, 1.04: runs.some}.get(drop, runs.rest) if name in NORMAL else runs.rest
                cell = {"spread": name, "seeds": counts, "drop": drop}
                drawn = spread.drawn(generator("one", *cell.values()), count, counts, drop * LIMIT)
                judgements = (judge(metric, metric.criterion, a, b) for a, b in drawn)
                bounded = runs.bounded if spread.within and drop in (0.0, 1.0, 1.04, 2.0) else 0
                yield {**cell, "runs": count, **of_one(judgements, drop, bounded)}


def stepped(arms: Iterable[tuple[Metric, Sample, Sample]], study: Study = STEPS) -> Verdict:
    """The verdict at which a study with added seeds ends, as in `verdict_so_far`; metrics with all values they get."""
    for stage in study.stages():
        n, look = stage.together, Look((stage.alone, stage.together), study.alpha, stage.together == study.together)
        found = (judge(m, m.criterion, first(a, n), first(b, n), stage.alpha, look=look) for m, a, b in arms)
        (verdict,) = corrected([Verdict("", (), tuple(found))], "verdict")
        if verdict.settled("strict"):
            break
    return verdict


def step_by_step(runs: Runs, spreads: Iterable[str] = SPREADS) -> Iterator[Row]:
    """A drop, with seeds added from 3 up to 10 while it is undecided."""
    most = STEPS.together
    for name in spreads:
        for drop in (1.0, 1.04, 1.5):
            count = runs.some if name in NORMAL and drop == 1 else runs.rest
            drawn = SPREADS[name].drawn(generator("steps", name, drop), count, (most, most), drop * LIMIT)
            found = [stepped([(DROP, alone, together)]) for alone, together in drawn]
            said = words(one.outcome("strict") for one in found)
            yield {"spread": name, "drop": drop, "runs": count, "words": said, **beside(found, drop)}


BOUNDS = (
    *((-below, -below) for below in (0.5, 1.0, 1.5, 2.0)),
    *((0.0, 0.0), (1.0, 0.0), (3.0, 0.0), (3.0, -2.0)),
)
"""Means alone and together, in standard deviations above a floor: first without any loss."""


def fixed_bound(runs: Runs) -> Iterator[Row]:
    """A metric with a floor."""
    floor = Metric("value", "φ", Floor(0.0))
    for alone, together in BOUNDS:
        count = runs.rest if together < -1 else runs.key if alone == 3 else runs.some
        for seeds in ((3, 5), (3, 10), (5, 10), (5, 5)):
            spread = Spread(normal(1), normal(1), alone)
            drawn = spread.drawn(generator("bound", alone, together, seeds), count, seeds, alone - together)
            said = (judge(floor, floor.criterion, a, b).outcome("strict") for a, b in drawn)
            yield {"alone": alone, "together": together, "seeds": seeds, "runs": count, "words": words(said)}


def beside_useless(runs: Runs) -> Iterator[Row]:
    """A watermark that loses 1.5 times its limit beside marks that never reach their floor: is the conflict found?"""
    mark, trace = Metric("wm", "φ_WM", MaxDrop(0.30)), Metric("rad", "φ_RAD", Floor(0.01))
    for design, study in (("step by step", STEPS), ("fixed", replace(STEPS, start=None, alone=10))):
        rng = generator("useless", design)
        marks = list(Spread(normal(0.02), normal(0.10), 0.95).drawn(rng, runs.some, (10, 10), 1.5 * 0.30))
        traces = list(Spread(normal(0.002), normal(0.002), 0.0).drawn(rng, runs.some, (10, 10), 0.0))
        said = (stepped([(mark, *m), (trace, *t)], study).outcome("strict") for m, t in zip(marks, traces, strict=True))
        yield {"design": design, "runs": runs.some, "words": words(said)}


BASELINES = (
    ((0.9, 0.01), (0.9, 0.01)),
    ((0.8, 0.05), (0.805, 0.001)),
    ((0.8, 0.05), (0.81, 0.002)),
    ((0.8, 0.03), (0.81, 0.003)),
    ((0.8, 0.02), (0.805, 0.005)),
)
"""Mean and standard deviation of accuracy of two mechanisms alone; that of the combination is the second's."""


def accuracy(runs: Runs) -> Iterator[Row]:
    """Accuracy against the lowest of two baselines, that lie close together."""
    for pair in BASELINES:
        for seeds in ((3, 5), (5, 5), (5, 10)):
            for drop, count in ((1.0, runs.key if pair in BASELINES[1:4] else runs.some), (1.04, runs.rest)):
                rng = generator("accuracy", pair, seeds, drop)
                arms = [rng.normal(mean, std, (count, seeds[0])).tolist() for mean, std in pair]
                together = rng.normal(pair[0][0] - drop * LIMIT, pair[1][1], (count, seeds[1])).tolist()
                said = (
                    judge_accuracy({"a": Sample(tuple(a)), "b": Sample(tuple(b))}, Sample(tuple(c))).outcome("strict")
                    for a, b, c in zip(*arms, together, strict=True)
                )
                yield {"baselines": pair, "seeds": seeds, "drop": drop, "runs": count, "words": words(said)}


GAINS = (0.25, 0.5, 0.58, 0.6, 0.62, 0.8)
"""Alone over the unprotected model; with a limit of 0.30 and half to be retained, 0.6 is where both losses meet."""
GAIN_CASES = (
    *((size, lost, 0.03) for size in GAINS for lost in (1.0, 1.04)),
    *((size, lost, std) for std in (0.03, 0.15) for size, lost in ((0.0, 0.0), (0.15, 0.0), (0.25, 0.0), (0.25, 2.0))),
    *((0.15, 2.0, 0.03), (0.1, 2.0, 0.15)),
)
"""Gain, the share of what may be lost that is lost (2: all of the gain), standard deviation."""


def gain(runs: Runs) -> Iterator[Row]:
    """A metric with a limit of 0.30, judged by its gain as well: an effect is one of more than 0.15."""
    metric = Metric("value", "φ", MaxDrop(0.30))
    for size, lost, std in GAIN_CASES:
        may = min(0.30, size * (1 - metric.retain))
        for seeds in ((3, 5), (5, 10)):
            count = (runs.key if size == 0.8 else runs.some) if lost == 1 else runs.rest
            rng = generator("gain", size, lost, std, seeds)
            drawn = Spread(normal(std), normal(std), 0.1 + size).drawn(rng, count, seeds, lost * may)
            bare = rng.normal(0.1, std, (count, seeds[0])).tolist()
            said = (
                judge(metric, metric.criterion, a, b, bare=Bare(Sample(tuple(c)))).outcome("strict")
                for (a, b), c in zip(drawn, bare, strict=True)
            )
            yield {"gain": size, "lost": lost, "std": std, "seeds": seeds, "runs": count, "words": words(said)}


TOGETHER = 4
"""Verdicts in a simulated study."""


SEVERAL: tuple[tuple[str, Seeds, float], ...] = (
    *((NORMAL[0], (5, 10), drop) for drop in (1.0, 1.04)),
    *((NORMAL[2], seeds, 1.0) for seeds in ((5, 10), (3, 5))),
)
"""How seeds scatter, how many there are, true drop of every metric."""


def several(runs: Runs) -> Iterator[Row]:
    """Verdicts over several metrics, all exactly at their limits or just beyond; studies of `TOGETHER` of them."""
    corrections: tuple[Correction, ...] = ("none", "verdict", "holm")
    for name, seeds, drop in SEVERAL:
        studies = (2 * runs.some if (name, drop) == (NORMAL[0], 1.0) else 2 * runs.rest) // TOGETHER
        for metrics in (1, 2, 3, 6):
            rng = generator("several", name, seeds, drop, metrics)
            drawn = SPREADS[name].drawn(rng, studies * TOGETHER * metrics, seeds, drop * LIMIT)
            found: dict[Correction, list[str]] = {correction: [] for correction in corrections}
            for _ in range(studies):
                judged = [[judge(DROP, DROP.criterion, *next(drawn)) for _ in range(metrics)] for _ in range(TOGETHER)]
                study = [Verdict("", (), tuple(each)) for each in judged]
                for correction in corrections:
                    found[correction] += [one.outcome("strict") for one in corrected(study, correction)]
            for by, said in found.items():
                any_wrong = sum(wrong(drop) in said[i : i + TOGETHER] for i in range(0, len(said), TOGETHER))
                cell = {"spread": name, "seeds": seeds, "drop": drop, "metrics": metrics, "correction": by}
                yield {**cell, "runs": len(said), "words": words(said), "studies": studies, "studies_wrong": any_wrong}


def advice(runs: Runs) -> Iterator[Row]:
    """A drop of exactly the limit: if it is undecided at (5, 10), as many seeds as advised are added, or new ones."""
    rng, spread, most = generator("advice"), SPREADS[NORMAL[0]], 1000
    said: dict[str, list[str]] = {way: [] for way in ("once", "added", "new", "second of new")}
    for _ in range(2 * runs.rest):
        (drawn,) = spread.drawn(rng, 1, (most, most), LIMIT)
        one = judge(DROP, DROP.criterion, first(drawn[0], 5), first(drawn[1], 10))
        word, n = one.outcome("strict"), one.replicates_needed  # None: decided, or beyond 1,000
        said["once"].append(word)
        if n is None:
            said["added"].append(word)
            said["new"].append(word)
            continue
        n = max(n, 10)
        (new,) = spread.drawn(rng, 1, (n, n), LIMIT)
        more = judge(DROP, DROP.criterion, first(drawn[0], n), first(drawn[1], n))
        said["added"].append(more.outcome("strict"))
        said["second of new"].append(judge(DROP, DROP.criterion, *new).outcome("strict"))
        said["new"].append(said["second of new"][-1])
    for way, found in said.items():
        yield {"way": way, "runs": len(found), "words": words(found)}


def price(runs: Runs) -> Iterator[Row]:
    """What the rule "bounded" costs: no loss at all, and one of twice the limit, by seeds in each arm."""
    for name, limit in (("beta .02/.02", LIMIT), ("beta .01/.08", LIMIT), ("beta .02/.02", 0.30)):
        metric = replace(DROP, criterion=MaxDrop(limit), range=SHARE)
        for drop in (0.0, 2.0):
            for n in (5, 10, 15, 20, 30, 40, 60, 80):
                rng = generator("price", name, limit, drop, n)
                drawn = SPREADS[name].drawn(rng, runs.bounded, (n, n), drop * limit)
                judged = [judge(metric, metric.criterion, alone, together) for alone, together in drawn]
                said: Row = {rule: words(one.outcome(rule) for one in judged) for rule in RULES if rule != "paper"}
                yield {"spread": name, "limit": limit, "drop": drop, "seeds": n, "runs": len(judged), **said}


PARTS: dict[str, Callable[[Runs], Iterator[Row]]] = {
    "one_metric": one_metric,
    "step_by_step": step_by_step,
    "fixed_bound": fixed_bound,
    "beside_useless": beside_useless,
    "accuracy": accuracy,
    "gain": gain,
    "several": several,
    "advice": advice,
    "price": price,
}


def simulated(runs: Runs) -> dict[str, list[Row]]:
    """All parts of the record, with a line of progress now and then."""
    record: dict[str, list[Row]] = {}
    start = time.monotonic()
    for name, part in PARTS.items():
        record[name] = []
        for row in part(runs):
            record[name].append(row)
            if len(record[name]) % 30 == 0:
                print(f"{name}: {len(record[name])} cells, {time.monotonic() - start:.0f} s", flush=True)
        print(f"{name}: done, {time.monotonic() - start:.0f} s", flush=True)
    return record


def written(record: dict[str, list[Row]]) -> str:
    """A record as JSON, a line for every cell."""
    parts = (
        f'"{name}": [\n'
        + ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
        + "\n]"
        for name, rows in record.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Simulates, and writes the record, the tables of docs/trust.md and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="few runs in each cell; nothing is written")
    parser.add_argument("--tables", action="store_true", help="tables and figure only, from the record")
    options = parser.parse_args()
    if not options.tables:
        text = written(simulated(SHORT if options.short else FULL))
        if options.short:
            return
        RECORD.write_text(text, encoding="utf-8")
    from verdict_errors_figure import FIGURE, drawn
    from verdict_errors_shown import show

    record = json.loads(RECORD.read_text(encoding="utf-8"))
    show(record)
    FIGURE.write_bytes(drawn(record))


if __name__ == "__main__":
    main()
