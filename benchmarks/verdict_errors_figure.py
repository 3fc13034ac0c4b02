"""The figure of docs/trust.md, from the record that `verdict_errors.py` writes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from guardclash.reporting.figure_parts.style import COLOURS, GUIDE, MARKERS
from guardclash.reporting.figure_parts.style import PAGE as WIDTH
from guardclash.reporting.figures import METADATA, STYLE
from verdict_errors_shown import ALPHA, SHOWN, Record, Row, limits, pick, plus, wrong

FIGURE = Path(__file__).parents[1] / "docs/figures/verdict-errors.svg"


def drawn(record: Record) -> bytes:
    """Errors of one metric at its limit and just beyond, by how seeds scatter, with their intervals."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = record["one_metric"]
    names = list(dict.fromkeys(row["spread"] for row in rows))
    series = [("strict", seeds) for seeds in SHOWN] + [("bounded", [5, 10]), ("paper", [5, 10])]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.25 * len(names)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, drop in zip(panels, (1.0, 1.04), strict=True):
            axes.axvline(ALPHA, color="black", linewidth=0.6, linestyle="--")
            for place, (rule, seeds) in enumerate(series):
                points = list(_points(rows, names, rule, seeds, drop))
                shift = (place - (len(series) - 1) / 2) * 0.15
                y, x, low, high = zip(*((at + shift, *three) for at, *three in points), strict=True)
                axes.errorbar(
                    *(x, y),
                    xerr=([a - b for a, b in zip(x, low, strict=True)], [b - a for a, b in zip(x, high, strict=True)]),
                    **{"fmt": MARKERS[place], "color": COLOURS[place], "markersize": 3.2, "elinewidth": 0.7},
                    label=f"{rule}, {plus(seeds)} seeds",
                )
            axes.set_xscale("symlog", linthresh=ALPHA)
            axes.set_xlim(-0.002, 1)
            axes.set_xticks([0, 0.025, 0.05, 0.1, 0.2, 0.5, 1], ["0", "2.5", "5", "10", "20", "50", "100"])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("% of verdicts (linear to 5, then logarithmic)")
            where = "a drop of exactly the limit" if drop == 1 else "a drop 4 % beyond the limit"
            axes.set_title(f'wrong "{wrong(drop)}": {where}', fontsize=7)
            axes.grid(axis="y", color=GUIDE, linewidth=0.5)
            axes.set_axisbelow(True)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata=METADATA["svg"])
    return content.getvalue()


def _points(
    rows: Sequence[Row], names: Sequence[str], rule: str, seeds: list[int], drop: float
) -> Iterator[tuple[int, float, float, float]]:
    """Place, error and its interval, of the distributions that the rule can judge."""
    for place, name in enumerate(names):
        row = pick(rows, spread=name, seeds=seeds, drop=drop)
        if rule in row:
            k, n = row[rule].get(wrong(drop), 0), sum(row[rule].values())
            yield (place, k / n, *limits(k, n))
