"""PATE: a student that learns what teachers on parts of the private examples answer, by noisy votes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

from guardclash.checks import given, one_of, within
from guardclash.errors import UserError
from guardclash.judging.criteria import SHARE, Metric
from guardclash.mechanism import Mechanism
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.numerics.vote_privacy import gaussian_mu
from guardclash.numerics.votes import Voting, Wanted, voting
from guardclash.plan.condition import origin
from guardclash.plan.identity import nested
from guardclash.plan.members import own_images, same_people, told_openly
from guardclash.plan.plan import Context, Plan, Source, Stream
from guardclash.plan.sources import Split
from guardclash.plan.trainings import made_of, trainings
from guardclash.plan.voted import Retold, Teachers, VotedLabels, true_labels, votes_of
from guardclash.suspect import images_left, last_images
from guardclash.training.trained import Trained, accuracy

SHARD = 240
"""Private examples of a teacher: 250 teachers have 60,000, as published."""
FEW = 100
"""Labels of which a student learns little."""
CONTROLS = {"pate_true_labels": "true", "pate_plurality": "plurality"}
"""Students by metric, and by whose labels they are trained."""


@dataclass(frozen=True)
class PATE(Mechanism):
    """PATE (Papernot et al. 2018): teachers on parts of the private examples vote, under noise, on public ones.

    The model, a student, sees public inputs and the answers only, so that each private example is behind one vote of
    many. Public inputs are the last ones of the task's data set that the recipe leaves. Epsilon is told beforehand,
    whatever the votes: a Gaussian mechanism, counted exactly. The smaller number that sees the votes is no promise,
    and is reported only. What other mechanisms do to the private examples comes first, and all that acts on batches,
    losses and groups acts on the student.
    """

    name: ClassVar[str] = "pate"
    title: ClassVar[str] = "PATE"
    concern: ClassVar[str] = DPSGD.concern
    paper: ClassVar[str] = "Papernot et al. 2018"
    one_class: ClassVar[bool] = True
    order: ClassVar[int] = 8  # private examples are marked and filtered before, the student's are grouped after
    metrics: ClassVar[tuple[Metric, ...]] = (
        *DPSGD.metrics,
        Metric("pate_seen_epsilon", "ε seen", None, False, title="privacy spent as the votes fell; not releasable"),
        Metric("pate_labels", "labels right", None, title="accuracy of the released labels", range=SHARE),
        Metric("pate_answered", "answered", None, title="share of the queries that were answered", range=SHARE),
        Metric("pate_answers", "answers", None, decimals=0, title="queries that were answered"),
        Metric("pate_teacher", "teacher's φ_ACC", None, title="mean accuracy of a teacher on the queries", range=SHARE),
        Metric("pate_true_labels", "φ_ACC true labels", None, title="of a student with true labels", range=SHARE),
        Metric("pate_plurality", "φ_ACC no noise", None, title="of a student with votes without noise", range=SHARE),
    )

    teachers: int | None = None
    """None: one for every 240 private examples, at least 2."""
    variant: str = "confident"
    """"confident": only queries on which many agree are answered; "gnmax": all are."""
    epsilon: float = 3.0
    """Budget for each private example."""
    delta: float = 1e-5
    answers: int | None = None
    """Labels released at most; None: as many as the budget pays for."""
    queries: int | None = None
    """Public inputs that teachers are asked about at most, of "confident"; None: twice the answers. Fewer if there are
    no more."""
    threshold: float | None = None
    """Votes that the first class must have under noise, of "confident"; None: 0.8 of the teachers."""
    sigma1: float | None = None
    """Noise of that comparison, in votes; None: 0.6 of the teachers, or more: see `sigma2`."""
    sigma2: float | None = None
    """Noise on the votes for each class; None: 0.16 of the teachers, or as much more as the budget takes for the
    answers that are asked for, or for one of each class."""
    batch_size: int = 16
    """Of teachers and the student, who have few examples; the recipe's where that is smaller."""
    unprotected: Any = None
    """The training of a teacher, whatever its examples; None: the study's unprotected one. From Python only."""
    public: Any = None
    """A source of public inputs; None: the last ones of the data set. From Python only."""

    def __post_init__(self) -> None:
        one_of(self.name, ("confident", "gnmax"), variant=self.variant)
        within(self.name, "> 0, finite", epsilon=self.epsilon, **given(sigma1=self.sigma1, sigma2=self.sigma2))
        within(self.name, "> 0, < 1", delta=self.delta)
        within(self.name, "whole, >= 2", batch_size=self.batch_size)
        counts = {"teachers": self.teachers, "answers": self.answers, "queries": self.queries}
        within(self.name, "whole, >= 2", **given(**counts))
        within(self.name, ">= 0, finite", **given(threshold=self.threshold))
        for name in ("queries", "threshold", "sigma1"):
            value = getattr(self, name)
            if self.variant == "gnmax" and value is not None:
                mend = 'Leave it out, or use variant = "confident".'
                raise UserError("gnmax has no threshold", where=f"pate.{name}", got=value, mend=mend)
        if self.queries is not None and self.answers is not None and self.queries < self.answers:
            allowed = f"at least {self.answers}, as many as answers"
            raise UserError("more answers than queries", where="pate.queries", got=self.queries, allowed=allowed)

    def bind(self, unprotected: Plan) -> Self:
        """With the training of a teacher."""
        return replace(self, unprotected=self.unprotected or unprotected)

    def data(self, plan: Plan) -> Plan:
        """Puts public inputs with answers in the place of the task's examples.

        Raises:
            UserError: There are too few private or public examples, or the budget does not pay for two answers.
        """
        task = replace(plan.task, source=self._votes(plan))
        return replace(plan, streams=(task, *plan.streams[1:]))

    def gradient(self, stream: Stream, plan: Plan) -> Stream:
        """Small batches of the student."""
        # A gradient that bounds examples clashes with these ones, which is told for that reason.
        if stream.name != plan.task.name or getattr(stream.gradient, "per_example", False):
            return stream
        return self._in_small_batches(stream)

    def _in_small_batches(self, stream: Stream) -> Stream:
        sampler: Any = stream.sampler
        return replace(stream, sampler=replace(sampler, batch_size=min(self.batch_size, sampler.batch_size)))

    def _votes(self, plan: Plan) -> VotedLabels:
        private = plan.task.source
        most = private.size // 2
        count = max(2, round(private.size / SHARD)) if self.teachers is None else self.teachers
        if count > most:
            mend = "Use fewer, or more examples: a teacher needs two."
            raise UserError(
                "too few private examples", where="pate.teachers", got=count, allowed=f"2 to {most}", mend=mend
            )
        template: Plan = self.unprotected or replace(plan, streams=(plan.task,))
        task = self._in_small_batches(replace(template.task, source=private))
        teachers = Teachers(replace(template, streams=(task,), party=plan.party), count)
        how = self._voting(count, plan.model.classes, self._public(private).size)
        return VotedLabels(self._public(private, how.queries), teachers, how)

    def _public(self, private: Source, count: int | None = None) -> Source:
        """So many public inputs, or all that there are."""
        if self.public is not None:
            if same_people(private, self.public):
                raise UserError("public inputs that are private examples too", where="pate.public", got=self.public)
            return cast(Source, self.public)
        own = own_images(private)
        if not isinstance(origin(own), Split):
            what, mend = "the task's examples are no part of a data set that public inputs are left of", "Name some."
            raise UserError(what, where="pate.public", got=type(own).__name__, mend=mend)
        return last_images(own, images_left(own) if count is None else count)

    def _voting(self, teachers: int, classes: int, available: int) -> Voting:
        for name in ("answers", "queries"):
            asked = getattr(self, name)
            if asked is not None and asked > available:
                mend = "Ask for fewer, or let the recipe use fewer examples."
                allowed = f"at most {available}, the public examples that are left"
                raise UserError("too few public examples", where=f"pate.{name}", got=asked, allowed=allowed, mend=mend)
        if available < 2:
            mend = "Let the recipe use fewer examples."
            raise UserError("too few public examples", where="pate", got=available, allowed="at least 2", mend=mend)
        wanted = Wanted(self.answers, self.queries, self.threshold, self.sigma1, self.sigma2)
        mu = gaussian_mu(self.epsilon, self.delta)
        found = voting(teachers, classes, available, mu, wanted, self.variant == "confident")
        if found is None or found.answers < 2:
            mend = "Raise epsilon or the noise, or ask for less."
            what = (
                "the budget does not pay for two answers" if self.answers is None else "the budget does not pay for it"
            )
            raise UserError(what, where="pate.epsilon", got=self.epsilon, mend=mend)
        return found

    def needs(self, plan: Plan) -> tuple[Plan, ...]:
        """The students with other labels; what teachers say is known to the plan itself."""
        votes = votes_of(plan)
        return tuple(self._control(votes, plan, labels) for labels in CONTROLS.values()) if votes else ()

    def _control(self, votes: VotedLabels, plan: Plan, labels: str) -> Plan:
        """A student as it is without other mechanisms, so that all combinations of a seed share it."""
        template = votes.teachers.template
        task = replace(template.task, source=Retold(votes, labels))
        return replace(template, streams=(task,), epochs=plan.origin.epochs)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """What the answers cost and are worth; nothing of a model that does not learn from votes."""
        votes = votes_of(trained.plan)
        if votes is None:
            return {}
        counts, released = votes.counts(context), votes.released(context)
        truth = true_labels(votes, context)
        spent = math.inf if told_openly(trained.serving) else self.spent(trained.plan)
        queries, labels, asked = released
        test = context.data(trained.plan.judged_by.test)
        controls = {name: self._control(votes, trained.plan, which) for name, which in CONTROLS.items()}
        shares = counts.gather(1, truth[:, None]).double() / votes.teachers.count
        return {
            "epsilon": spent,
            "pate_seen_epsilon": votes.how.seen_epsilon(counts, released, self.delta)
            if math.isfinite(spent)
            else spent,
            "pate_labels": (labels == truth[queries]).double().mean().item(),
            "pate_answered": len(queries) / asked,
            "pate_answers": float(len(queries)),
            "pate_teacher": shares.mean().item(),
            **{name: accuracy(context.trained(one).predict, test.x, test.y) for name, one in controls.items()},
        }

    def spent(self, plan: Plan) -> float:
        """Epsilon of a private example, at this delta, from the plan; infinite if it does not learn from votes.

        What else reads the same examples spends everything: no accountant here knows of both.
        """
        votes = votes_of(plan)
        return math.inf if votes is None or _beside(votes, plan) else votes.how.epsilon(self.delta)

    def facts(self, plan: Plan) -> dict[str, str]:
        """How many teachers there are, what they are asked, and what that costs."""
        votes = votes_of(plan)
        if votes is None:
            return {}
        how, count = votes.how, votes.teachers.count
        sure = (
            f", of which the first class has {how.threshold:g} votes ± {how.sigma1:g}"
            if how.threshold is not None
            else ""
        )
        beside = _beside(votes, plan)
        cost = f"∞: {beside}" if beside else f"{self.spent(plan):.3g} (δ = {self.delta:g}, whatever the votes)"
        return {
            "teachers": f"{count}, of {votes.private.size // count} private examples each",
            "answers": f"{how.answers} at most, to {how.queries} public inputs{sure}; noise ± {how.sigma2:g} votes",
            "ε of private examples": cost,
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That there are too few answers, or that noise makes them."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        answers, right = metrics.get("pate_answers", FEW), metrics.get("pate_labels", 1.0)
        if answers < FEW:
            yield f"only {answers:.0f} answers to learn from: PATE needs more private examples, and so more teachers"
        if right < 0.5:
            yield f"only {right:.0%} of the released labels are right: noise or weak teachers made the others"


def _beside(votes: VotedLabels, plan: Plan) -> str:
    """What else reads the teachers' examples, or tells of them; "": nothing does."""
    private, own = votes.private, set(votes.teachers.plans)
    for part in made_of(private):
        if getattr(part, "spends_privacy", False) or getattr(part, "mixes_examples", False):
            return f"{type(part).__name__} makes or chooses an example by looking at others"
    if any(other != votes and same_people(private, other.private) for other in nested(plan, VotedLabels)):
        return "the same examples are asked for other answers as well"
    for run, seed in ((plan, 0), *dict.fromkeys(trainings(plan))):
        if (run not in own or seed) and any(same_people(private, source) for source in _read(run)):
            where = "this training" if run is plan else "another training that this one uses"
            return f"{where} reads the same examples, and not by votes"
    return ""


def _read(run: Plan) -> Iterator[Any]:
    """What a training reads itself: its streams' sources, and what its rewrites look at."""
    if run.epochs:  # what only changes weights reads no stream
        yield from (stream.source for stream in run.streams)
    yield from run.rewrites
