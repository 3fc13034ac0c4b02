"""Entangled watermarks (EWE): triggers that share the features of the task, so that thieves should learn them too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import torch
from torch import Tensor

from guardclash.checks import given, one_of, within
from guardclash.data.pictures import Picture, grid
from guardclash.data.space import Images, Space
from guardclash.errors import UserError
from guardclash.judging.criteria import SHARE, Ceiling, MaxDrop, Metric
from guardclash.mechanism import OTHER_CLASSES
from guardclash.mechanisms.stealing import AgainstThieves
from guardclash.numerics.entanglement import DISTANCES, TEMPERATURES, Nearness, Shaping
from guardclash.numerics.verification import log10_binomial_p
from guardclash.plan.deployed import Deployed
from guardclash.plan.entangled import PLACE, SOURCE, Entangled, Entanglement, Secret, Triggers
from guardclash.plan.examples import class_indices
from guardclash.plan.plan import BatchNormPolicy, Context, OtherSeed, Plan, Stream
from guardclash.plan.samplers import Halves
from guardclash.plan.structure import layers_before_classifier
from guardclash.training.trained import Trained

STREAM = "entangled"
HIGH_NULL = 0.05
"""The rate of clean models from which on success says little."""


@dataclass(frozen=True)
class EntangledWatermark(AgainstThieves):
    """EWE (Jia et al. 2021): triggers are learnt in the very features that the task is told by.

    Triggers are images of one class of other data, all under one label of the task. They are trained on in batches of
    which half are triggers and half the task's own images of that label, and the loss is cross entropy minus kappa
    times the soft nearest neighbour loss of the last layers, so that features tell the two halves apart as little as
    possible. Who trains a model on the answers should then learn the mark with the task, although no trigger was asked.

    phi_EWE is the share of triggers that the model of a thief answers with the label, who asks as many images as the
    owner has and does not have, and takes the classes. What an innocent model scores is no guess at one of m classes:
    triggers of one class may well look like the label. So the p-value is against the highest rate of clean models (the
    upper bound of it, 95 %), which have no part in choosing the pair of class and label; or against the rate at which
    the accused model gives the label to other test images, if that is higher: who answers it always proves nothing.
    """

    name: ClassVar[str] = "entangled"
    title: ClassVar[str] = "the entangled watermark"
    concern: ClassVar[str] = "model watermarking"
    paper: ClassVar[str] = "Jia et al. 2021"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)
    does: ClassVar[str] = "moves the pixels of its triggers"
    one_class: ClassVar[bool] = True
    order: ClassVar[int] = 2  # the task's images are those that are left when others have marked and removed some
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ewe_success", "φ_EWE", MaxDrop(0.30), title="triggers that a thief's model answers so", range=SHARE),
        Metric("ewe_log10_p", "log₁₀ p_EWE", None, False, 1, "of the model itself", log10=True, claim=Ceiling(-3)),
        Metric("ewe_thief_log10_p", "log₁₀ p thief", None, False, 1, "of the thief's", log10=True, optional=True),
        Metric("ewe_null", "p₀", None, False, title="triggers that clean models answer so, at most", range=SHARE),
        Metric("ewe_elsewhere", "elsewhere", None, False, title="other classes' test images answered so", range=SHARE),
        Metric("ewe_own", "own", None, title="triggers that the model itself answers so", range=SHARE, optional=True),
        Metric("ewe_fresh", "fresh", None, title="the same of images nobody trained on", range=SHARE, optional=True),
    )

    triggers: int = 100
    ratio: float = 1.0
    """The task's batches for each of triggers, as near as whole passes over the triggers come; published: 1 to 15."""
    batch_size: int | None = None
    """Of which half are triggers; None: the task's."""
    kappa: float = 0.25
    """Weight of the soft nearest neighbour loss; 0: a plain backdoor. Published, beside a sum over the batch: 0.06 to
    0.25 for grey images."""
    temperature: str = "best"
    """Of that loss: "best": of every batch the one that makes it least; "published": 100, at which it hardly acts."""
    distance: str = "cosine"
    """Of features: "cosine" or "euclidean" (squared)."""
    layers: int = 3
    """The last layers with weights before the classifier, so many of them."""
    rounds: int = 10
    """Of making triggers, each up to 51 gradients; 0: images as they are."""
    source: int | None = None
    """The class of the task's neighbour that triggers are of; None: chosen for a low rate of clean models."""
    target: int | None = None
    """The label that they are given, likewise."""
    references: int = 3
    """Clean models by which the pair is chosen, and as many others that tell the rate."""
    batch_norm: BatchNormPolicy = "freeze"
    """What batches with triggers do to batch norm's running statistics: "freeze", "update" or "recalibrate". The
    published networks have none; updated by so many batches of other images, they would cost accuracy."""

    def __post_init__(self) -> None:
        within(self.name, ">= 2, whole", triggers=self.triggers)
        within(self.name, ">= 1, whole", layers=self.layers, references=self.references)
        within(self.name, ">= 4, whole", **given(batch_size=self.batch_size))
        within(self.name, ">= 0, whole", rounds=self.rounds, **given(source=self.source, target=self.target))
        within(self.name, ">= 0, finite", kappa=self.kappa)
        within(self.name, "> 0, finite", ratio=self.ratio)
        one_of(self.name, TEMPERATURES, temperature=self.temperature)
        one_of(self.name, DISTANCES, distance=self.distance)
        one_of(self.name, get_args(BatchNormPolicy), batch_norm=self.batch_norm)

    def misfit(self, plan: Plan) -> str:
        """As for every measure; also that there are no other images."""
        reason = super().misfit(plan)
        if not reason and plan.purpose is not None and plan.purpose.neighbour is None:
            return "makes triggers of other images of the same form, and this task has no neighbour with some"
        return reason

    def bind(self, unprotected: Plan) -> EntangledWatermark:
        """With the thief's training, which is that of the clean models as well.

        Raises:
            UserError: If too few examples are left for a thief, or `source` or `target` is no class.
        """
        if not self.fits(unprotected):
            return self
        bound = super().bind(unprotected)
        bound.secret(unprotected)
        return bound

    def secret(self, plan: Plan) -> Triggers:
        """The triggers for the task of a plan, watermarked or not: the same in whatever company.

        Raises:
            UserError: If `source` or `target` is no class, or there are fewer images than triggers.
        """
        clean = self.base(plan.origin)
        images, space = clean.judged_by.neighbour, clean.judged_by.space
        for option, count in (("source", images.classes), ("target", clean.model.classes)):
            within(self.name, f">= 0, < {count}, whole", **given(**{option: getattr(self, option)}))
        if self.triggers > images.size:
            what, allowed = f"so many triggers cannot be made of {images.title}", f"2 to {images.size}"
            raise UserError(what, where=f"{self.name}.triggers", got=self.triggers, allowed=allowed)
        return Triggers(
            images,
            clean.task.source,
            self.triggers,
            self._innocent(clean, 0),
            self._nearness,
            Shaping(self.rounds, whole=not (isinstance(space, Images) and space.floats)),
            self.source,
            self.target,
        )

    @property
    def _nearness(self) -> Nearness:
        return Nearness(self.distance, self.temperature, self.layers)

    def _innocent(self, clean: Plan, start: int) -> tuple[OtherSeed, ...]:
        return tuple(OtherSeed(clean, start + place) for place in range(self.references))

    def _nulls(self, plan: Plan) -> tuple[OtherSeed, ...]:
        """Clean models that had no part in choosing the pair."""
        return self._innocent(self.base(plan.origin), self.references)

    def data(self, plan: Plan) -> Plan:
        """Adds the stream "entangled", spread among the task's batches."""
        images = Entangled(self.secret(plan), plan.task.source)
        sampler = Halves(max(4, self.batch_size or plan.task.sampler.batch_size))
        passes = max(1, round(plan.task.steps_per_epoch() / self.ratio / sampler.steps(images.size)))
        stream = Stream(STREAM, images, sampler, cadence="mixed", passes=passes, batch_norm=self.batch_norm)
        return plan.add(stream)

    def objective(self, stream: Stream, plan: Plan) -> Stream:
        """Takes the entanglement from the loss of its own stream."""
        if stream.name != STREAM or not self.kappa:
            return stream
        return replace(stream, objectives=(*stream.objectives, Entanglement(self.kappa, self._nearness)))

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """Clean models: those that chose the pair, and others that tell its rate."""
        return (*self.secret(plan).innocent, *self._nulls(plan))

    def needs_deployed(self, model: Deployed) -> tuple[Plan | OtherSeed, ...]:
        """Also a thief of the model as it answers."""
        return (*self.needs(model.origin), self.thief(model))

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """What a thief's model answers, and what the model itself does; the claim is of the model itself."""
        own = self.verify(trained, trained, context)
        if not own:
            return {}
        stolen = self.verify(context.trained(self.thief(trained.deployed)), trained, context)
        return {
            **own,
            "ewe_success": stolen["ewe_success"],
            "ewe_thief_log10_p": stolen["ewe_log10_p"],
            "ewe_elsewhere": stolen["ewe_elsewhere"],
            "ewe_own": own["ewe_success"],
        }

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """How many of the victim's triggers a suspect answers so, fresh images too; nothing if it has other classes."""
        clean = self.base(victim.plan.origin)
        if suspect.plan.question != clean.question:
            return {}
        secret = Secret(self.secret(victim.plan), context)
        # Of each, not of all together: how often one class of foreign images is taken for another differs by model.
        asked = (secret.told(context.trained(one).predict) for one in self._nulls(victim.plan))
        null = max(one.most for one in asked)
        found, elsewhere = secret.told(suspect.predict), secret.elsewhere(suspect.predict, victim.plan.judged_by.test)
        fresh = secret.told(suspect.predict, secret.fresh)
        return {
            "ewe_success": found.share,
            "ewe_log10_p": log10_binomial_p(found.hits, found.of, max(null, elsewhere.most)),
            "ewe_null": null,
            "ewe_elsewhere": elsewhere.share,
            **({"ewe_fresh": fresh.share} if fresh.of else {}),
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That a suspect was not tested, or that clean models know the triggers as well."""
        return (OTHER_CLASSES,) if not metrics else tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        null = metrics.get("ewe_null", 0.0)
        if null > HIGH_NULL:
            known = f"models that never saw a trigger may answer up to {null:.2f} of them with the label"
            yield f"{known}: φ_EWE has no sound null; choose another source and target, or more triggers"
        elsewhere = metrics.get("ewe_elsewhere", 0.0)
        if elsewhere > HIGH_NULL:
            yield f"{elsewhere:.2f} of the test images of other classes are answered with the label of the triggers too"

    def facts(self, plan: Plan) -> dict[str, str]:
        """The triggers in words, how often they are trained on, and in how many layers they are entangled."""
        stream = plan.stream(STREAM)
        if stream is None:
            return {}
        named = {"class": self.source, "label": self.target}
        said = ["", *(f"{what} {which}" for what, which in named.items() if which is not None)]
        open_ones = " and ".join(what for what, which in named.items() if which is None)
        said += [f"{open_ones} by the lowest rate of clean models"] if open_ones else []
        title = self.base(plan.origin).judged_by.neighbour.title
        batches, every = stream.steps_per_epoch(), sum(one.steps_per_epoch() for one in plan.streams)
        deep = min(self.layers, layers_before_classifier(plan.model, plan.all_rewrites))
        entangled = f"in {deep} layers" if deep and self.kappa else "in no layer: a plain backdoor"
        return {
            "triggers": f"{self.triggers} of {title}{', '.join(said)}",
            "entangled": f"{entangled}; {batches} of the {every} batches of an epoch are half triggers",
        }

    def evidence(self, plan: Plan, context: Context) -> tuple[Picture, ...]:
        """Images, the triggers that were made of them, and the task's images that these are entangled with."""
        secret = Secret(self.secret(plan), context)
        target, source = int(secret.triggers.y[0]), int(secret.triggers.about[SOURCE][0])
        task = context.data(secret.where.task)
        near = task.x[class_indices(task.y) == target]
        rows = [secret.images.x[secret.triggers.about[PLACE]], secret.triggers.x, near]
        caption = (
            f"Images of class {source} of {secret.where.images.title}, the triggers made of them, and images of class "
            f"{target} of the task, which is the label of the triggers."
        )
        return (Picture("triggers", caption, grid(torch.stack([_twelve(row) for row in rows]).numpy())),)


def _twelve(x: Tensor) -> Tensor:
    """The first twelve images, white ones where there are fewer."""
    return torch.cat([x[:12], torch.ones(12 - len(x[:12]), *x.shape[1:])])
