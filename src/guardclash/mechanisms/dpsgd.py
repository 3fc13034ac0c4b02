"""Differentially private training by DP-SGD, and the control that has its architecture without its privacy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from guardclash.checks import given, one_of, within
from guardclash.data.space import Images, called
from guardclash.errors import UserError
from guardclash.judging.criteria import MaxGrowth, Metric
from guardclash.mechanism import Mechanism
from guardclash.numerics.accounting import MOST_STEPS, Bound, calibrated_noise, epsilon_bound
from guardclash.plan.averaging import Averaging
from guardclash.plan.gradients import ClippedNoisy, Views, kept_in
from guardclash.plan.maps import FlipAndShift
from guardclash.plan.members import private_of, same_people, told_openly
from guardclash.plan.plan import Context, Plan, Stream
from guardclash.plan.rewrites import GroupNormForBatchNorm, WithoutDropout
from guardclash.plan.samplers import Poisson
from guardclash.plan.structure import looks_of, recurrent_layers
from guardclash.plan.trainings import made_of, trainings
from guardclash.training.trained import Trained


def _without_batch_norm_and_dropout(plan: Plan) -> Plan:
    rewrites = tuple(rewrite for rewrite in (GroupNormForBatchNorm(), WithoutDropout()) if rewrite not in plan.rewrites)
    return replace(plan, rewrites=(*plan.rewrites, *rewrites))


@dataclass(frozen=True)
class DPSGD(Mechanism):
    """Differentially private SGD: clipping, noise and Poisson sampling bound what one example can do to the model.

    Batch norm becomes group norm and dropout goes, both visible in the plan. `on=("task",)` is the paper's relaxed
    variant (section 7): other streams are trained by the plan's plain optimizer with momentum of its own, and are not
    covered. Epsilon is worked out per stream, since the streams' examples are different people's: see
    docs/design/privacy.md.
    """

    name: ClassVar[str] = "dpsgd"
    title: ClassVar[str] = "DP-SGD"
    concern: ClassVar[str] = "differential privacy"
    paper: ClassVar[str] = "Abadi et al. 2016"
    version: ClassVar[int] = 2  # 1 looked at the plan's own streams only, and at whole splits
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "epsilon",
            "ε",
            MaxGrowth(1.5),
            higher_is_better=False,
            title="privacy spent on the task's examples",
            gain=False,  # an unprotected training has none at all
            computed=True,
        ),
    )

    epsilon: float = 3.0
    """Budget for each example of the reference stream: the task, or the first stream covered."""
    delta: float = 1e-5
    clip: float = 1.0
    """Bound on the norm of one example's gradient."""
    accountant: str = "rdp"
    """"rdp" (for replication) or "prv"."""
    noise: str = "shared"
    """"shared": every covered stream has the reference stream's noise multiplier, as one optimizer has (the published
    code); "per_stream": each is calibrated to the budget by itself."""
    learning_rate: float | None = None
    """Largest learning rate on covered streams; None: the recipe's."""
    views: int = 1
    """Augmented views of every image in every step (augmentation multiplicity, De et al. 2022), at so many times the
    cost: the gradient of their mean loss is clipped, which costs no privacy. 1: the image as it is."""
    shift: int = 2
    """By how many pixels a view is shifted at most."""
    flips: bool = False
    """Whether every other view is a mirror image."""
    averaging: float | None = None
    """Decay of the moving average of weights that the training ends with (De et al. 2022), such as 0.99, at no cost in
    privacy; None: it ends with the last ones."""

    def __post_init__(self) -> None:
        positive = {"epsilon": self.epsilon, "clip": self.clip, "learning_rate": self.learning_rate}
        within(self.name, "> 0, finite", **given(**positive))
        within(self.name, "> 0, < 1", delta=self.delta)
        one_of(self.name, ("rdp", "prv"), accountant=self.accountant)
        one_of(self.name, ("shared", "per_stream"), noise=self.noise)
        within(self.name, ">= 1, whole", views=self.views)
        within(self.name, ">= 0, whole", shift=self.shift)
        within(self.name, "> 0, < 1", **given(averaging=self.averaging))

    def misfit(self, plan: Plan) -> str:
        """As for every measure; also that there are no images to take views of."""
        if self.views > 1 and plan.purpose is not None and not isinstance(plan.purpose.space, Images):
            return f"takes views of images (`views`), and the inputs of this task are {called(plan.purpose.space)}"
        return super().misfit(plan)

    def architecture(self, plan: Plan) -> Plan:
        """Replaces batch norm and dropout; ends with an average of the weights if that is asked for."""
        return self._averaged(_without_batch_norm_and_dropout(plan))

    def _averaged(self, plan: Plan) -> Plan:
        return plan if self.averaging is None else replace(plan, averaging=Averaging(self.averaging))

    def gradient(self, stream: Stream, plan: Plan) -> Stream:
        """Sets Poisson sampling, the clipped noisy gradient and an optimizer state of its own."""
        reference = self._reference(plan) if self.noise == "shared" else stream
        rate, steps = _exposure(reference, plan.epochs)
        sigma = self._noise(rate, steps)
        size = stream.sampler.batch_size
        rule = plan.optimizer
        if self.learning_rate is not None:
            rule = replace(rule, learning_rate=self.learning_rate)  # type: ignore[type-var]
        views = Views(FlipAndShift(self.shift, self.flips), self.views) if self.views > 1 else None
        clipped = ClippedNoisy(self.clip, sigma, min(size, stream.source.size), views=views)
        return replace(stream, sampler=Poisson(size), gradient=clipped, optimizer=rule)

    def _noise(self, rate: float, steps: int) -> float:
        sigma = calibrated_noise(self.epsilon, rate, steps, self.delta, self.accountant)
        if math.isinf(sigma):
            mend = "Raise epsilon or delta, or train for fewer steps."
            raise UserError(
                "no amount of noise reaches this budget", where=f"{self.name}.epsilon", got=self.epsilon, mend=mend
            )
        return sigma

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """Epsilon of the task's stream, from the plan; nothing where that stream is not covered.

        Where it was covered and a later training reads the same examples without DP-SGD, or the deployed model tells of
        them by more than its weights, all is spent.
        """
        plan, later = self._private(trained.plan)
        spent = self.spent(plan).get(plan.task.name)
        return {} if spent is None else {"epsilon": math.inf if later or told_openly(trained.serving) else spent}

    def _private(self, plan: Plan) -> tuple[Plan, bool]:
        """The training that covers the task, or the first one; whether a later one reads its examples without noise."""
        later = False
        while (before := plan.initial) is not None and plan.task.name not in self.spent(plan):
            plan, later = before, later or same_people(private_of(plan.task.source), private_of(before.task.source))
        return plan, later

    def facts(self, plan: Plan) -> dict[str, str]:
        """Epsilon of every stream, or that it is not covered, and what else reads its examples.

        Where a private training is gone on from with other people's examples, of that one's streams.
        """
        private, later = self._private(plan)
        plan = private if not later and self.spent(private) else plan
        spent = self._bounds(plan)
        found = {f"ε of {stream.name}": self._fact(stream, plan, spent.get(stream.name)) for stream in plan.streams}
        looped = recurrent_layers(plan.model, plan.all_rewrites) if spent else ()
        return found | ({"clipped in a loop over examples, slowly": ", ".join(looped)} if looped else {})

    def _fact(self, stream: Stream, plan: Plan, spent: Bound | None) -> str:
        if spent is None:
            return "not covered"
        if math.isfinite(spent.epsilon):
            other = f', by "{spent.accountant}": {spent.reason}' if spent.reason else ""
            return f"{spent.epsilon:.3g} (δ = {self.delta:g}{other})"
        blamed = next(reader for reader in _readers(stream, plan) if not reader.covered)
        if blamed.openly:
            return "∞: which of the examples are used is told by looking at all of them, without DP-SGD"
        where = "another stream" if blamed.run is plan else "another training that this one uses"
        how = "with the very noise of this one" if _covered(blamed.stream) else "without DP-SGD"
        return f"∞: {where} reads the same examples {how}"

    def spent(self, plan: Plan) -> dict[str, float]:
        """Epsilon by name of covered stream, at this delta, from what the plan says is done to its examples.

        Whatever reads the same examples spends together, in this training and in those that it uses: the one that it
        goes on from, a marking network, a model whose answers are labels. One that reads them without DP-SGD spends
        everything.
        """
        return {name: bound.epsilon for name, bound in self._bounds(plan).items()}

    def _bounds(self, plan: Plan) -> dict[str, Bound]:
        spent = {}
        for stream in filter(_covered, plan.streams):
            readers = _readers(stream, plan)
            steps = tuple(
                (_noise_of(reader.run, reader.stream), *_exposure(reader.stream, reader.run.epochs))
                for reader in readers
                if isinstance(reader.stream.gradient, ClippedNoisy)
            )
            whole = all(reader.covered for reader in readers)
            everything = Bound(math.inf, self.accountant)
            spent[stream.name] = epsilon_bound(steps, self.delta, self.accountant) if whole else everything
        return spent

    def _reference(self, plan: Plan) -> Stream:
        return next(stream for stream in plan.streams if self.on is None or stream.name in self.on)


def _covered(stream: Stream) -> bool:
    return isinstance(stream.gradient, ClippedNoisy) and isinstance(stream.sampler, Poisson)


def _noise_of(plan: Plan, stream: Stream) -> float:
    """The noise of a covered stream in units of what one example may do, in the plan's arithmetic."""
    gradient = kept_in(stream.gradient, plan.arithmetic)
    if not isinstance(gradient, ClippedNoisy):
        return 0.0
    if gradient.each is None:
        return gradient.noise_multiplier
    return gradient.noise_over(looks_of(plan.model, plan.all_rewrites).trainable)


class _Reader(NamedTuple):
    """A stream that reads certain examples, and its training."""

    run: Plan
    stream: Stream
    fresh: bool
    """Whether it draws noise and batches of its own. Trainings add up only then: two that share their noise differ in
    nothing but what the noise was to hide."""

    @property
    def covered(self) -> bool:
        """Whether accounting covers it."""
        return self.fresh and _covered(self.stream) and not self.openly

    @property
    def openly(self) -> bool:
        """Whether its examples are chosen by looking at all of them without noise."""
        return any(getattr(part, "spends_privacy", False) for part in made_of(self.stream.source))


def _readers(stream: Stream, plan: Plan) -> list[_Reader]:
    """Every stream that reads examples of a stream's, itself among them, in the plan and in trainings that it uses."""
    used = dict.fromkeys(trainings(plan))
    runs = [(run, seed != 0 or (run.party, run.stage) != (plan.party, plan.stage)) for run, seed in used]
    return [
        _Reader(run, other, fresh)
        for run, fresh in ((plan, True), *runs)
        if run.epochs  # what only changes weights reads nobody
        for other in run.streams
        if same_people(other.source, stream.source)
    ]


def _exposure(stream: Stream, epochs: int) -> tuple[float, int]:
    """Sampling rate and number of steps of a stream under Poisson sampling at its batch size."""
    sampler = Poisson(stream.sampler.batch_size)
    steps = epochs * stream.passes * sampler.steps(stream.source.size)
    if steps > MOST_STEPS:
        what, where = "more steps than can be accounted for", f"stream {stream.name!r}"
        raise UserError(what, where=where, allowed="at most 2^53", mend="Train for fewer epochs.")
    return sampler.rate(stream.source.size), steps


@dataclass(frozen=True)
class DPSGDControl(Mechanism):
    """The architecture of DP-SGD (group norm, no dropout) trained without privacy: a control, not a protection.

    What {wm, dpsgd-control} loses against {wm} is the architecture's doing, not differential privacy's.
    """

    name: ClassVar[str] = "dpsgd-control"
    title: ClassVar[str] = "the architecture of DP-SGD"
    concern: ClassVar[str] = "control"

    def architecture(self, plan: Plan) -> Plan:
        """Replaces batch norm and dropout."""
        return _without_batch_norm_and_dropout(plan)
