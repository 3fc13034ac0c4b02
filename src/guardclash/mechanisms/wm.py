"""Backdoor watermark by an out-of-distribution trigger set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

import numpy as np
import torch

from guardclash.checks import one_of, within
from guardclash.data.catalog import find_dataset
from guardclash.data.pictures import Picture, grid
from guardclash.data.space import Images, called, same_form
from guardclash.errors import UserError
from guardclash.judging.criteria import SHARE, Ceiling, MaxDrop, Metric
from guardclash.mechanism import Mechanism
from guardclash.numerics.features import linear_readout
from guardclash.numerics.planes import boundary_plane
from guardclash.numerics.scatter import Scatter
from guardclash.numerics.verification import log10_verification_p
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.made import made_up
from guardclash.plan.plan import BatchNormPolicy, Cadence, Context, Plan, Stream
from guardclash.plan.samplers import Shuffled
from guardclash.plan.sources import Split
from guardclash.training.trained import Trained, accuracy

SHOWN = 1000
"""Test images that a scatter is made of."""


@dataclass(frozen=True)
class TriggerSet:
    """Inputs of another data set under labels of ours: the owner's secret, drawn anew for every seed."""

    images: Any
    """Where they are drawn from, without replacement: a source that says its `title` and its number of `classes`."""
    size: int
    labels: str
    """"random": uniform over our classes, independent of the image; "native": the image's own label."""
    classes: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.images.size:
            raise UserError(
                f"so many triggers cannot be drawn from {self.images.title}",
                where="wm.triggers",
                got=self.size,
                allowed=f"1 to {self.images.size}",
            )
        theirs = self.images.classes
        if self.labels == "native" and theirs < 2:
            mend = 'Use labels = "random".'
            raise UserError(
                f"{self.images.title} have no labels of their own", where="wm.labels", got="native", mend=mend
            )
        if self.labels == "native" and theirs > self.classes:
            raise UserError(
                f"{self.images.title} has more classes than the task, so its native labels cannot be used",
                where="wm.labels",
                got=f"native labels of {theirs} classes",
                allowed=f"at most {self.classes} classes",
                mend='Use labels = "random".',
            )

    def load(self, context: Context) -> Data:
        """The triggers of the context's seed."""
        rng = context.rng("triggers")
        whole = context.data(self.images)
        drawn = whole.take(torch.randperm(len(whole.x), generator=rng)[: self.size])
        if self.labels == "random":
            return replace(drawn, y=torch.randint(self.classes, (self.size,), generator=rng))
        return replace(drawn, y=class_indices(drawn.y))


@dataclass(frozen=True)
class Watermark(Mechanism):
    """Backdoor watermark: an out-of-distribution trigger set, learnt beside the task, proves whose model it is.

    The model is trained on D_T as well as on its task; an owner who finds a suspect queries it with D_T. The accuracy
    there is phi_WM (equation 2), and V (equation 3) is the chance that a model without the watermark does as well by
    guessing; that null holds for random labels only.

    With its defaults this is the published training (sections 2.2 and 6): 100 triggers in batches of 16, one pass
    after each epoch, through the task's own optimizer, moving batch norm's running statistics. The last matters: see
    docs/pitfalls.md.
    """

    name: ClassVar[str] = "wm"
    title: ClassVar[str] = "the backdoor watermark"
    one_class: ClassVar[bool] = True
    concern: ClassVar[str] = "model watermarking"
    paper: ClassVar[str] = "Zhang et al. 2018; Adi et al. 2018; Szyller et al. 2021"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("wm_accuracy", "φ_WM", MaxDrop(0.30), title="accuracy on the trigger set", range=SHARE),
        Metric(
            "wm_log10_p",
            "log₁₀ V",
            None,
            False,
            1,
            title="watermark verification p-value",
            log10=True,
            claim=Ceiling(-3),
        ),
    )

    triggers: int = 100
    """Size of the trigger set, |D_T|."""
    labels: str = "random"
    """Label rule: "random" (the paper's text) or "native" (the published code for grey images)."""
    batch_size: int = 16
    passes: int = 1
    """Passes over the trigger set per epoch."""
    cadence: Cadence = "after_epoch"
    """"after_epoch": after the task's batches; "mixed": spread among them."""
    batch_norm: BatchNormPolicy = "update"
    """What trigger batches do to batch norm's running statistics: "update", "freeze" or "recalibrate"."""
    source: str | None = None
    """The data set that triggers are drawn from (its test split); None: the task's neighbour."""
    made: bool = False
    """Make triggers up although the task has a neighbour: images of noise, rows outside the usual ranges, random texts.
    """
    images: Any = None
    """A source that triggers are drawn from. From Python only."""

    def __post_init__(self) -> None:
        one_of("wm", ("random", "native"), labels=self.labels)
        one_of("wm", get_args(Cadence), cadence=self.cadence)
        one_of("wm", get_args(BatchNormPolicy), batch_norm=self.batch_norm)
        within("wm", ">= 1", triggers=self.triggers, batch_size=self.batch_size, passes=self.passes)
        if self.made and self.source is not None:
            what = "triggers are either made up or drawn from a data set"
            raise UserError(what, where="wm.source", got=self.source, mend="Leave out source, or made.")

    def trigger_set(self, plan: Plan) -> TriggerSet:
        """The trigger set for the task of a plan, watermarked or not."""
        images = self.images or self._named(plan) or self._made(plan) or _neighbour(plan)
        return TriggerSet(images, self.triggers, self.labels, plan.model.classes)

    def bind(self, unprotected: Plan) -> Watermark:
        """With the images that `source` names, or that are made, so that it is known which they are."""
        return replace(self, images=self.images or self._named(unprotected) or self._made(unprotected))

    def _named(self, plan: Plan) -> Split | None:
        if self.source is None:
            return None
        other = find_dataset(self.source)
        if other.shape != plan.model.shape:
            raise UserError(
                "trigger images must have the shape of the task's",
                where="wm.source",
                got=f"{self.source} of shape {other.shape}",
                allowed=f"shape {plan.model.shape}",
            )
        if plan.purpose is not None and not same_form(other.space, plan.purpose.space):
            got, allowed = f"{self.source}: {other.space}", str(plan.purpose.space)
            raise UserError("triggers have the form of the task's inputs", where="wm.source", got=got, allowed=allowed)
        return Split(self.source, "test")

    def _made(self, plan: Plan) -> Any:
        if not self.made:
            return None
        purpose = plan.judged_by
        found = made_up(purpose.space, purpose.test)
        if found is None:
            what = f"nobody knows how to make up {called(purpose.space)}"
            raise UserError(what, where="wm.made", got=True, allowed="false")
        return found

    def data(self, plan: Plan) -> Plan:
        """Adds the stream "trigger"."""
        stream = Stream(
            "trigger",
            self.trigger_set(plan),
            Shuffled(self.batch_size),
            cadence=self.cadence,
            passes=self.passes,
            batch_norm=self.batch_norm,
        )
        return plan.add(stream)

    def facts(self, plan: Plan) -> dict[str, str]:
        """The trigger set in words, and what its batches do to batch norm where that is known to hurt."""
        triggers = self.trigger_set(plan)
        found = {"triggers": f"{self.triggers} of {triggers.images.title}, {self.labels} labels"}
        stream = plan.stream("trigger")
        batches = stream.sampler if stream else None
        if isinstance(batches, Shuffled) and batches.last(self.triggers) == 2:
            inputs = called(plan.purpose.space) if plan.purpose else "images"
            found["warning"] = (
                f"the last batch holds two {inputs}, too few if there is batch norm: choose another batch_size"
            )
        return found

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """phi_WM and log10 V of any model, against this seed's trigger set."""
        return self.verify(trained, trained, context)

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """The same of a suspect, against the victim's trigger set."""
        triggers = self.trigger_set(victim.plan)
        x, y = context.data(triggers)
        share = accuracy(suspect.predict, x, y)
        if self.labels != "random":  # the null of equation (3) is a guesser; native labels can be known
            return {"wm_accuracy": share}
        errors = round((1 - share) * len(y))
        return {"wm_accuracy": share, "wm_log10_p": log10_verification_p(errors, len(y), triggers.classes)}

    def scatter(self, trained: Trained, context: Context) -> Scatter | None:
        """Triggers and test images of two labels, where the model decides between these labels.

        The labels are the two that most triggers have, so all models of a seed are seen alike. The plane is that of
        the decision (`boundary_plane`) and not of the first two principal components: those hold the spread of the
        classes, in the midst of which triggers lie whether they are learnt or not. That triggers cannot be told from
        the images of their class by the last layer is what Szyller et al. (2021) report of watermarks that hold; the
        paper (section 4.1) lays the conflict with DP-SGD to triggers that are outliers and must be memorised.
        """
        source = self.trigger_set(trained.plan)
        test, triggers = context.data(trained.plan.judged_by.test), context.data(source)
        read = linear_readout(trained.network, source.classes, [test.x[:SHOWN], triggers.x])
        if read is None:
            return None
        (images, marks), own, given = read.features, test.y[:SHOWN].numpy(), triggers.y.numpy()
        pair = [int(label) for label in np.argsort(-np.bincount(given, minlength=source.classes), kind="stable")[:2]]
        plane = boundary_plane(images, read.weight, read.bias, (pair[0], pair[1]))
        inputs = called(trained.plan.judged_by.space)
        caption = (
            "Features of the penultimate layer. Triggers that are learnt lie on the side of their label, with its test "
            f"{inputs}. Labels {pair[0]} and {pair[1]} are those that most triggers have."
        )
        clean = {f"test {inputs}, label {label}": plane.points(images[own == label]) for label in pair}
        clean[f"test {inputs}, other labels"] = plane.points(images[~np.isin(own, pair)])
        secret = {f"triggers, label {label}": plane.points(marks[given == label]) for label in pair}
        return Scatter(caption, plane.axes, clean, secret)

    def evidence(self, plan: Plan, context: Context) -> tuple[Picture, ...]:
        """The trigger images by their labels: a row for each class, the first twelve of it; nothing of other inputs."""
        if plan.purpose is not None and not isinstance(plan.purpose.space, Images):
            return ()
        x, y = context.data(self.trigger_set(plan))
        rows = []
        for label in range(plan.model.classes):
            own = x[y == label][:12]
            rows.append(torch.cat([own, torch.ones(12 - len(own), *x.shape[1:])]))
        caption = f"Trigger images, a row for each of the {plan.model.classes} labels that the model learns for them."
        return (Picture("triggers", caption, grid(torch.stack(rows).numpy())),)


def _neighbour(plan: Plan) -> Any:
    purpose = plan.judged_by
    if purpose.neighbour is None:
        mend = 'Name a data set, such as source = "gtsrb".'
        raise UserError(
            "the task has no neighbour to draw triggers from", where="wm.source", got=purpose.task, mend=mend
        )
    return purpose.neighbour
