"""Spectral signatures: training data without what looks like poison to a first model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from guardclash.checks import one_of, within
from guardclash.errors import UserError
from guardclash.measure import Measure
from guardclash.measures.filtering import Filtering
from guardclash.mechanisms.poisoning import PoisonDefence
from guardclash.plan.filtered import Clustered, Filtered, Outlying, Suspicion, filter_of
from guardclash.plan.plan import Plan, Source


@dataclass(frozen=True)
class Spectral(PoisonDefence):
    """Spectral signatures (Tran et al. 2018): a first model is trained on all data, and training starts again on less.

    Of every class, those examples are removed that lie furthest along the direction in which the first model's
    features of that class spread most. Classes are known and poisoned classes are not, so all of them lose as many.
    `method = "clustering"` removes the smaller of two clusters instead (Chen et al. 2018).

    Only the task's examples are filtered: not the triggers of a watermark, which the owner adds later, but marks that a
    data owner has put into the task's images, for the filter comes after these. The first model is trained without
    the other mechanisms, because what they put into its features may hide the poison; `model = "combination"`
    measures that.
    """

    name: ClassVar[str] = "spectral"
    title: ClassVar[str] = "the spectral filter"
    paper: ClassVar[str] = "Tran et al. 2018"
    order: ClassVar[int] = 1  # who trains filters what data owners have marked

    method: str = "spectral"
    """"spectral", or "clustering"."""
    expected: float = 0.01
    """How many poisoned examples a class may hold at most, as a share of all training examples: the defender's guess,
    which no recipe tells. Of "spectral"."""
    multiplier: float = 1.5
    """How many are removed of every class, in units of `expected`. Of "spectral"."""
    components: int = 10
    """Principal components of a class's features in which clusters are looked for. Of "clustering"."""
    smaller: float = 0.35
    """Share of its class below which a cluster can be poison. Of "clustering"."""
    silhouette: float = 0.1
    """Mean silhouette above which two clusters lie apart. Of "clustering"."""
    model: str = "unprotected"
    """Whose features the filter reads: of the "unprotected" training, on the same examples; of the "combination"
    without the filter."""
    network: Any = None
    """The plan of the first model, but for its examples; None: the study's unprotected training. From Python only."""

    def __post_init__(self) -> None:
        one_of("spectral", ("spectral", "clustering"), method=self.method)
        one_of("spectral", ("unprotected", "combination"), model=self.model)
        within("spectral", "> 0, < 1", expected=self.expected)
        within("spectral", "> 0, finite", multiplier=self.multiplier)
        within("spectral", "whole, >= 1", components=self.components)
        within("spectral", "> 0, <= 0.5", smaller=self.smaller)
        within("spectral", ">= -1, < 1", silhouette=self.silhouette)
        if self.network is not None and not isinstance(self.network, Plan):
            raise UserError("the first model is a plan", where="spectral.network", got=self.network)

    def bind(self, unprotected: Plan) -> Self:
        """With the training of the first model, and the backdoor of the recipe."""
        return replace(super().bind(unprotected), network=self.network or unprotected)

    def beside(self, others: Callable[[], Plan]) -> Self:
        """With the combination's own training, if it is that model's features that the filter reads."""
        return replace(self, network=others()) if self.model == "combination" else self

    def suspicion(self, images: Source) -> Suspicion:
        """What is removed of so many examples.

        Raises:
            UserError: If it would be none of any class.
        """
        if self.method == "clustering":
            return Clustered(self.components, self.smaller, self.silhouette)
        each = round(self.multiplier * self.expected * images.size)
        if each < 1:
            got, mend = f"{images.size} examples", "Expect more poison, or use more examples."
            raise UserError("too few examples to remove any", where="spectral.expected", got=got, mend=mend)
        return Outlying(each)

    def data(self, plan: Plan) -> Plan:
        """Removes examples of the task."""
        images = plan.task.source
        first: Plan = self.network or replace(plan, streams=(plan.task,))
        if self.model == "unprotected":  # on the same examples, and by the same party
            first = replace(first, streams=(replace(first.task, source=images),), party=plan.party)
        filtered = Filtered(images, first, self.suspicion(images))
        return replace(plan, streams=(replace(plan.task, source=filtered), *plan.streams[1:]))

    def measures(self) -> tuple[Measure, ...]:
        """Success of the backdoor, and what the filter removed."""
        return (*super().measures(), Filtering())

    def facts(self, plan: Plan) -> dict[str, str]:
        """What is removed, and by whose features."""
        found = filter_of(plan)
        if found is None:
            return {}
        removed = "the smaller cluster of each class where it lies apart, and others of the class are there twice"
        if isinstance(found.suspicion, Outlying):
            each, gone = found.suspicion.each, found.images.size - found.size
            removed = f"{each} examples of each class, {gone} of {found.images.size}"
        whose = "the unprotected training" if self.model == "unprotected" else "the combination without the filter"
        return {"removed": removed, "filter's model": whose}
