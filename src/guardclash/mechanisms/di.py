"""Dataset inference: a fingerprint of the training data in any model trained on it, and its controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.checks import given, one_of, within
from guardclash.data.space import Images, Rows, Space, movable, unmoved
from guardclash.errors import UserError
from guardclash.judging.criteria import Ceiling, Metric
from guardclash.mechanism import OTHER_CLASSES, Mechanism
from guardclash.mechanisms.fingerprint import CENSORED, SPARE, Exam, Group, group
from guardclash.numerics.attacks import PRECISIONS
from guardclash.numerics.distinguisher import ARRANGEMENTS, Evidence
from guardclash.numerics.walks import BlindWalk, MinGD
from guardclash.plan.deployed import Deployed
from guardclash.plan.members import members_of
from guardclash.plan.plan import Context, Plan
from guardclash.suspect import images_left
from guardclash.suspects.independent import Independent
from guardclash.suspects.unrelated import Unrelated
from guardclash.training.trained import Trained

CLAIM = Ceiling(-3)
"""The paper's threshold: phi_DI of at most 1e-3."""


@dataclass(frozen=True)
class DatasetInference(Mechanism):
    """Dataset inference: the images that a model was trained on lie further from its decision boundary than others do.

    It changes no training. The owner embeds own training images and others by their distances to the model's boundary,
    trains a distinguisher on them, and tests whether it tells further such images apart on a suspect (section 2.2).
    phi_DI is the p-value of that test.

    Three controls run with every test: an independent model that was trained on a disjoint part of the same
    distribution, a model of another data set, and two sets of images that nobody trained on. If one of them fires as
    well, the claim is not credible, whatever its p-value. The published code's arrangement of the features (`layout =
    "published"`) tests the distinguisher on the very images it was trained on, and fires without any membership: see
    docs/pitfalls.md.
    """

    name: ClassVar[str] = "di"
    title: ClassVar[str] = "dataset inference"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images, Rows)
    does: ClassVar[str] = "walks to the decision boundary by small steps"
    one_class: ClassVar[bool] = True
    concern: ClassVar[str] = "model fingerprinting"
    paper: ClassVar[str] = "Maini et al. 2021"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "di_log10_p",
            "log₁₀ φ_DI",
            CLAIM,
            False,
            1,
            title="was the model trained on these images?",
            log10=True,
            controls=("di_framed", "di_unrelated", "di_non_members"),
        ),
        Metric("di_framed", "framed", None, False, 1, title="the same of an independent model", log10=True),
        Metric("di_unrelated", "unrelated", None, False, 1, title="of a model of another data set", log10=True),
        Metric("di_non_members", "non-members", None, False, 1, title="of images nobody trained on", log10=True),
        Metric("di_difference", "score difference", None, title="mean score of others minus that of members"),
        Metric("di_censored", "censored", None, False, title="walks without a change of label, in the worst norm"),
        Metric("di_scale", "noise scale", None, decimals=0, title="of the walks, in units of the published one"),
    )

    embedding: str = "blind-walk"
    """"blind-walk" (needs labels only) or "mingd" (needs gradients)."""
    layout: str = "per_image"
    """How distances become rows: "per_image", or "published" as in the official notebook, for replication only."""
    statistic: str = "full"
    """"full": Welch's test on all scores, a p-value; "harmonic": the harmonic mean over samples of 10, as the tables of
    Maini et al. print it, which is no p-value."""
    images: int = 500
    """Images of each kind to learn from and again to verify with; at most what the data allow."""
    scale: float | None = None
    """Of the walks' noise; None: the smallest of 1, 2, 4 ... 32 that keeps censored walks below 20 % on the victim."""
    walks: int = 10
    """From each image in each norm."""
    steps: int | None = None
    """Of a walk or descent at most; None: as published, 50 and 500."""
    precision: str = "auto"
    """Of the walks: "float32", "bfloat16", or "auto": bfloat16 where the processor computes in it."""
    framed: Any = None
    """The plan of the independent model; None: the study's unprotected training on as many further images. From Python
    only."""
    unrelated: Any = None
    """The plan of the model of another data set; None: the same training there. From Python only."""

    def __post_init__(self) -> None:
        one_of("di", ("blind-walk", "mingd"), embedding=self.embedding)
        one_of("di", ARRANGEMENTS, layout=self.layout)
        one_of("di", ("full", "harmonic"), statistic=self.statistic)
        one_of("di", PRECISIONS, precision=self.precision)
        within("di", ">= 10", images=self.images)
        within("di", "> 0, finite", **given(scale=self.scale))
        self._walk(self._usual_scale)
        if self.scale is not None and self.embedding == "mingd":
            raise UserError("a descent has no noise", where="di.scale", got=self.scale, mend="Leave it out.")

    @property
    def _usual_scale(self) -> float:
        return 1.0 if self.scale is None else self.scale

    def _walk(self, scale: float, space: Space | None = None) -> BlindWalk | MinGD:
        """For inputs of a space; None: images."""
        walk = MinGD() if self.embedding == "mingd" else BlindWalk(scale, walks=self.walks)
        if self.steps is not None:
            walk = replace(walk, steps=self.steps)
        # Rows have no bounds, and of them the numbers move.
        return walk if space is None or isinstance(space, Images) else replace(walk, bounded=False, free=movable(space))

    def misfit(self, plan: Plan) -> str:
        """As for every measure; also that no column is a number."""
        stuck = unmoved(plan.purpose.space) if plan.purpose is not None else ""
        return f"{self.does}, and {stuck}" if stuck else super().misfit(plan)

    def bind(self, unprotected: Plan) -> DatasetInference:
        """With the innocent models of this task; one that no images are left for is done without, and warned of."""
        if not self.fits(unprotected):
            return self
        enough = images_left(unprotected.task.source) >= unprotected.task.source.size / 2
        framed = self.framed or (Independent().plan(Deployed(unprotected), unprotected) if enough else None)
        other = unprotected.judged_by.neighbour_train
        unrelated = self.unrelated or (Unrelated().plan(Deployed(unprotected), unprotected) if other else None)
        return replace(self, framed=framed, unrelated=unrelated)

    def _bound(self, plan: Plan) -> DatasetInference:
        # From Python it may be measured without having been bound.
        first = plan.origin
        return self if self.framed or self.unrelated else self.bind(replace(first, streams=(first.task,), party=""))

    def needs(self, plan: Plan) -> tuple[Plan, ...]:
        """The innocent models."""
        bound = self._bound(plan)
        return tuple(innocent for innocent in (bound.framed, bound.unrelated) if innocent)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """Whether the fingerprint is found in the model itself, with the controls."""
        return self.verify(trained, trained, context)

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """Whether the victim's fingerprint is found in the suspect, with the controls; nothing where no walk can go."""
        if not self._comparable(suspect.plan, victim.plan):
            return {}
        bound = self._bound(victim.plan)
        exam = bound._exam(victim, context)
        members, others, spare = exam.groups
        p = exam.fingerprint(members, others)
        found = p(suspect)
        values = {
            "di_log10_p": bound._log10_p(found),
            "di_non_members": bound._log10_p(exam.fingerprint(spare, others)(victim)),  # whoever is suspected
            "di_difference": found.difference,
            "di_censored": exam.censored(suspect, (members, others)),
        }
        if bound.framed:
            values["di_framed"] = bound._log10_p(p(context.trained(bound.framed)))
        if bound.unrelated and bound._comparable(bound.unrelated, victim.plan):
            values["di_unrelated"] = bound._log10_p(p(context.trained(bound.unrelated)))
        if isinstance(exam.walk, BlindWalk):
            values["di_scale"] = exam.walk.scale
        return values

    def _comparable(self, other: Plan, victim: Plan) -> bool:
        """Descents go to each of the victim's classes, so the other model must have them."""
        return self.embedding != "mingd" or other.model.classes >= victim.model.classes

    def _log10_p(self, found: Evidence) -> float:
        return found.full if self.statistic == "full" else found.sampled

    def _exam(self, victim: Trained, context: Context) -> Exam:
        walk = self._walk(self._usual_scale, victim.plan.judged_by.space)
        exam = Exam(victim, context, self._groups(victim.plan), walk, self.layout, self.precision)
        return exam.calibrated(walk) if isinstance(walk, BlindWalk) and self.scale is None else exam

    def _groups(self, plan: Plan) -> tuple[Group, Group, Group]:
        """Members, others, and further others in the place of members."""
        own, test = members_of(plan), plan.judged_by.test
        # Twice the images are taken of members, four times of others: to learn from, to verify with, the control.
        size = min(self.images, own.size // 2, (test.size - SPARE) // 4)
        if size < 10:
            got = f"{own.size} members and {test.size} test images"
            raise UserError("too few images for a fingerprint", where="di", got=got, allowed="20 and 90 at least")
        return (
            group(own, size, "members", 0),
            group(test, size, "others", 0),
            group(test, size, "others", 2 * size),  # none that the first ones have
        )

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """A claim that a control makes as well, and walks that say nothing about the model."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if not metrics:
            yield OTHER_CLASSES
            return
        main = self.metrics[0]
        fired = [
            metric
            for metric in self.metrics
            if metric.name in main.controls and main.claims(metrics.get(metric.name, 0.0))
        ]
        if main.claims(metrics["di_log10_p"]) and fired:
            accused = ", ".join(f"{metric.symbol} {metrics[metric.name]:.1f}" for metric in fired)
            yield f"{main.symbol} {metrics['di_log10_p']:.1f} is not credible, for the controls fire too: {accused}"
        if "di_framed" not in metrics:
            yield "no images were left for an independent model, so nobody looked for false accusations of one"
        if metrics["di_censored"] > CENSORED:
            yield f"{metrics['di_censored']:.0%} of the walks in a norm ended without a change of label"
