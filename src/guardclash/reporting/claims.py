"""Whether ownership claims stand: on the owner's model, on stolen ones and on innocent ones, beside their controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from guardclash.judging.criteria import ACCURACY, Absolute, Metric, criterion_dict
from guardclash.judging.judgement import plain
from guardclash.judging.stats import TOLERANCE, Sample
from guardclash.records.cells import Cell, Named
from guardclash.records.results import UNKNOWN, Results
from guardclash.studies.study import Study
from guardclash.studies.verdicts import sample

Outcome = Literal[
    "detected",
    "missed",
    "removed with the model",
    "mixed",
    "cleared",
    "false claim",
    "claimed",
    "not claimed",
    "not credible",
    "undecided",
    "not measured",
    "clash",
]
"""Of a claim; see `Claim.outcome`."""
MAY_LOSE = 0.05
"""Share of the utility's range that a stolen model may lack of the owner's and still be worth stealing (Lukas et al.
2022: 5 points of accuracy)."""
TRUTH = {True: "yes", False: "no", None: "unknown"}
"""How tables answer whether a suspect is stolen."""
ORIGIN = {True: "stolen", False: "innocent", None: "of unknown origin"}
"""How legends say it."""
ITSELF = "itself"
"""How a combination's own model is called among its suspects."""


@dataclass(frozen=True)
class Proof:
    """A metric by seed, and where it reaches the bound of a claim."""

    metric: Metric
    seeds: tuple[int, ...]
    """Those that are measured."""
    sample: Sample
    """In the order of the seeds."""
    claimed: tuple[int, ...]
    """The seeds in which the value makes the claim."""

    @property
    def told(self) -> frozenset[tuple[str, bool, int, float]]:
        """What a reader learns of it: whether it ever makes the claim, and by seed the values as they are printed.

        A victim's controls are the same for all of its suspects: one that tells nothing new is not shown again.
        """
        values = zip(self.seeds, self.sample.values, strict=True)
        about, decimals = (self.metric.name, bool(self.claimed)), self.metric.decimals
        return frozenset((*about, seed, round(value, decimals)) for seed, value in values)

    def to_dict(self) -> dict[str, Any]:
        """Strictly valid JSON."""
        return {
            "metric": self.metric.name,
            "symbol": self.metric.symbol,
            "seeds": list(self.seeds),
            "values": list(map(plain, self.sample.values)),
            "claimed": list(self.claimed),
        }


@dataclass(frozen=True)
class Claim:
    """What one mechanism of a combination says of one model: does it come from the combination's?"""

    recipe: str
    combination: tuple[str, ...]
    """Labels of the mechanisms of the owner's model, `mechanism` among them."""
    suspect: str
    """The suspect's label; without one `ITSELF`, or what else its metric is tested on."""
    stolen: bool | None
    """Whether the claim would be true; None: nobody knows."""
    mechanism: str
    finding: Proof
    controls: tuple[Proof, ...]
    """The same test where it must not make a claim, under the same seeds."""
    useful: Sample
    """How good the suspect is at the task: replicates of its utility."""
    asked: int
    """Seeds that the study asks for."""
    clash: str | None = None
    """Why the suspect cannot be built."""
    utility: Metric = ACCURACY
    """Of the task: the metric of `useful`."""
    owners: Sample = Sample()  # noqa: RUF009  (frozen)
    """How good the owner's model is at the task, under the same seeds."""

    @property
    def spoilt(self) -> bool:
        """Whether the suspect is so much worse than the owner's model that it is not worth stealing."""
        if self.utility.range is None or not (self.useful.n and self.owners.n):
            return False
        low, high = self.utility.range
        lacks = self.owners.mean - self.useful.mean
        return (lacks if self.utility.higher_is_better else -lacks) > MAY_LOSE * (high - low) + TOLERANCE

    @property
    def discredited(self) -> tuple[int, ...]:
        """The seeds in which a claim is made, and a control makes it as well."""
        fired = {seed for control in self.controls for seed in control.claimed}
        return tuple(seed for seed in self.finding.claimed if seed in fired)

    @property
    def outcome(self) -> Outcome:
        """What the claim is worth.

        Returns:
            Of a stolen model: "detected" if it is claimed under every seed, "missed" under none, or "removed with the
            model" if it is no good either, "mixed" under some, and "not credible" if a control fires under the seed of
            a claim. Of an innocent one: "false claim" if it is claimed under any seed, "cleared" under none. Of one
            whose origin nobody knows: "claimed" if it is under any seed, each of which is another owner, "not claimed"
            under none, and "not credible" as of a stolen one. What missing seeds can still change is "undecided".
        """
        if self.clash is not None:
            return "clash"
        measured, claimed = len(self.finding.seeds), len(self.finding.claimed)
        # Before all else: neither a control nor a seed to come takes back that an innocent model was claimed.
        if claimed and self.stolen is False:
            return "false claim"
        if self.discredited:  # seeds to come do not take this back either
            return "not credible"
        if measured < self.asked:
            return "undecided" if measured else "not measured"
        if self.stolen:
            lost: Outcome = "removed with the model" if self.spoilt else "missed"
            return lost if not claimed else "detected" if claimed == measured else "mixed"
        return "claimed" if claimed else "not claimed" if self.stolen is None else "cleared"

    def to_dict(self) -> dict[str, Any]:
        """Strictly valid JSON."""
        bound = self.finding.metric.claimed_at
        return {
            "recipe": self.recipe,
            "combination": list(self.combination),
            "suspect": self.suspect,
            "stolen": self.stolen,
            "mechanism": self.mechanism,
            **self.finding.to_dict(),
            "claimed_at": bound and criterion_dict(bound),
            "asked": self.asked,
            "controls": [control.to_dict() for control in self.controls],
            "utility": {
                "metric": self.utility.name,
                "values": list(map(plain, self.useful.values)),
                "owners": list(map(plain, self.owners.values)),
            },
            "outcome": self.outcome,
            "clash": self.clash,
        }


def claims(study: Study, results: Results) -> tuple[Claim, ...]:
    """For every combination that is asked for and can be built, and every metric in it that makes claims, a row each.

    First the combination's own model, then its suspects, as far as the results know them. Without suspects, only
    metrics with controls have a row: there is nobody else to accuse.
    """
    return tuple(
        claim
        for victim in victims(study)
        for named in victim.combination
        for metric in claiming(study, results, victim, named)
        for cell in (victim, *suspects_of(study, victim))
        if results.cell(cell) is not None  # results of before the study had suspects know none
        for claim in (_claim(study, results, cell, victim, named, metric),)
    )


def victims(study: Study) -> Iterator[Cell]:
    """The combinations that are asked for, on each recipe."""
    return (cell for cell in study.cells() if study.asks_for(cell.combination))


def suspects_of(study: Study, victim: Cell) -> tuple[Cell, ...]:
    """The suspects of a combination."""
    models = (victim.recipe, victim.combination)
    return tuple(cell for cell in study.suspect_cells() if (cell.recipe, cell.combination) == models)


def claiming(study: Study, results: Results, victim: Cell, named: Named) -> tuple[Metric, ...]:
    """A mechanism's metrics that claim models, each with the fixed bound that the study may have set.

    A fixed bound alone makes no proof of ownership: it must be measured on suspects, or have controls.
    """
    known = results.cell(victim)
    if known is None or known.clash:
        return ()
    suspected = any(results.metrics(cell, named) for cell in suspects_of(study, victim))
    found = (_as_judged(study, metric) for metric in results.metrics(victim, named))
    return tuple(metric for metric in found if metric.claimed_at and (suspected or metric.controls))


def _as_judged(study: Study, metric: Metric) -> Metric:
    criterion = dict(study.criteria).get(metric.name)
    # A study's drop or growth says nothing of when a claim is made.
    return replace(metric, criterion=criterion) if isinstance(criterion, Absolute) else metric


def _claim(study: Study, results: Results, cell: Cell, victim: Cell, named: Named, metric: Metric) -> Claim:
    utility = results.utility(cell)
    # Under the seeds of the suspect, of which there may be fewer.
    owners = dict(results.by_seed(victim, None, utility.name, study.seeds(cell)))
    entry = results.cell(cell) or UNKNOWN
    declared = {other.name: other for other in results.metrics(cell, named)}
    controls = (
        _finding(study, results, cell, named, declared[name], metric) for name in metric.controls if name in declared
    )
    return Claim(
        recipe=study.recipe_label(cell.recipe),
        combination=tuple(study.label(other) for other in cell.combination),
        suspect=study.suspect_label(cell.suspect) if cell.suspect else metric.model or ITSELF,
        stolen=entry.stolen if cell.suspect else True,  # the owner's own model is the owner's
        mechanism=study.label(named.plain),
        finding=_finding(study, results, cell, named, metric, metric),
        controls=tuple(control for control in controls if control.seeds),  # not measured is not silent
        # Of a model that only the mechanism has trained, how good it is stands in a metric of the mechanism's own.
        useful=Sample() if metric.model and not cell.suspect else sample(study, results, cell, None, utility),
        utility=utility,
        owners=utility.sample(owners.values(), owners),
        asked=cell.replicates,
        clash=entry.clash,
    )


def _finding(study: Study, results: Results, cell: Cell, named: Named, metric: Metric, claim: Metric) -> Proof:
    """A metric, held against the bound of another one's claim."""
    found = dict(results.by_seed(cell, named, metric.name, study.seeds(cell)))
    # By the bound of the claim: a control has none of its own.
    claimed = tuple(seed for seed, value in found.items() if claim.claims(value))
    return Proof(metric, tuple(found), metric.sample(found.values()), claimed)
