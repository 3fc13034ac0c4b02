"""Radioactive data: images that leave a trace in every model trained on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from guardclash.checks import given, one_of, within
from guardclash.data.pictures import Picture, grid
from guardclash.data.space import Images, Space
from guardclash.errors import UserError
from guardclash.judging.criteria import Floor, Metric
from guardclash.mechanism import OTHER_CLASSES, Mechanism
from guardclash.numerics.attacks import PRECISIONS
from guardclash.numerics.features import classifier, features_of, linear_readout, reads_out
from guardclash.numerics.planes import carrier_planes, in_planes
from guardclash.numerics.radioactive import (
    LN10,
    Marking,
    carrier_cosines,
    log10_paired_p,
    log_cosine_p,
    log_fisher,
    psnr,
)
from guardclash.numerics.scatter import Scatter
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.identity import nested
from guardclash.plan.marked import Marked, Marks, Unmarked, carriers_of
from guardclash.plan.plan import Context, OtherSeed, Plan, Source, Stream
from guardclash.plan.samplers import Shuffled
from guardclash.training.trained import Trained

PUBLISHED_RADIUS = 10
ALIGNMENT_IMAGES = 4000
"""Test images by which the white-box test aligns two networks' features: many times the number of features."""

CAPTION = (
    "Features of the penultimate layer, from the mean of their class, in standard deviations of test images. Marks "
    "that are learnt move images to the right, along the carrier, if anywhere. To a network that has not learnt them "
    "they are noise on the class, which moves images down, or nothing that it sees."
)
"""Of its scatter."""
NO_READOUT = "the network has no last linear layer over the classes, so there is no white-box test"
NO_MARK = "no marked image differs from the clean one: raise the radius or the iterations"


@dataclass(frozen=True)
class RadioactiveData(Mechanism):
    """Radioactive data: some training images are marked, and a model trained on them fits the marked versions better.

    Each is moved so that its features, in a marking network of the owner's, point along a secret direction of its
    class. The black-box test is phi_RAD, the mean of loss(clean) - loss(marked): equation (4) read as a mean loss
    difference, because the values of the paper's tables (0.284 to 0.000) and its threshold (0.01) cannot be those of
    the indicator that it prints, which would be near 0.5 for any model. A paired one-sided t test and the share of
    positive differences stand beside it; so does the same difference on marked images that nobody trained on, which
    plain memorisation does not raise. The white-box test aligns the suspect's features with the marking network's and
    asks whether its class weights point along the carriers.

    Marked images are harder than clean ones for a model that never saw marks, so its phi_RAD is below 0, and under
    another mechanism it may be above. So the threshold is held against the trace: phi_RAD with the marks minus that of
    the same combination without them, seed by seed, since a seed's marks are the same in both.
    """

    name: ClassVar[str] = "raddata"
    title: ClassVar[str] = "radioactive data"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)
    does: ClassVar[str] = "marks images"
    one_class: ClassVar[bool] = True
    concern: ClassVar[str] = "dataset watermarking"
    paper: ClassVar[str] = "Sablayrolles et al. 2020"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "rad_loss_difference",
            "φ_RAD",
            Floor(0.01),
            decimals=3,
            title="mean loss difference, clean - marked",
            net=True,  # marked images are harder than clean ones, so an innocent model's value is not 0
            paired=True,  # the marks of a seed are the same secret in all of its models
        ),
        Metric("rad_held_out", "φ_RAD held-out", None, decimals=3, title="the same on images nobody trained on"),
        Metric("rad_sign_rate", "share > 0", None, title="share of marked images that fit better"),
        Metric("rad_log10_p", "log₁₀ p_RAD", None, False, 1, title="paired one-sided t test", log10=True),
        Metric("rad_white_log10_p", "log₁₀ p_white", None, False, 1, title="white-box test", log10=True),
        Metric("rad_psnr", "PSNR", None, decimals=1, title="of the marked images, in dB"),
    )

    ratio: float = 0.10
    """Share of the training examples that is marked."""
    radius: int | None = None
    """Largest change of a pixel, in 1/255; None: the task's own (96 on MNIST and 25 on FashionMNIST, where less leaves
    no sure trace: docs/design/radioactive-data.md), else 10, as published."""
    iterations: int = 100
    optimizer: str = "adam"
    """"adam" or "sgd" (the published recipe)."""
    step: float | None = None
    """Learning rate of the marking; None: a quarter of the radius for Adam, 1.0 as published for SGD."""
    image_penalty: float = 5e-4
    feature_penalty: float = 0.01
    augmentation: str = "none"
    """Of the images while they are marked: "none" or "shift"."""
    placement: str = "task"
    """Where marked images are trained on: "task": in the place of the clean ones; "stream": in batches and with an
    optimizer of their own, so that other mechanisms can leave them alone (Table 7)."""
    precision: str = "auto"
    """Of the marking: "float32", "bfloat16", or "auto": bfloat16 where the processor computes in it."""
    held_out: int = 500
    """Test images that are marked for the control, at most all of them."""
    network_epochs: int | None = None
    """Epochs of the marking network; None: those of its plan."""
    network: Any = None
    """The plan of the marking network; None: the study's unprotected training, under another seed. From Python only."""

    def __post_init__(self) -> None:
        within("raddata", "> 0, < 1", ratio=self.ratio)
        one_of("raddata", ("task", "stream"), placement=self.placement)
        one_of("raddata", PRECISIONS, precision=self.precision)
        within("raddata", ">= 1", **given(network_epochs=self.network_epochs))
        within("raddata", ">= 2", held_out=self.held_out)
        if self.network is not None and not isinstance(self.network, Plan):
            raise UserError("the marking network is a plan", where="raddata.network", got=self.network)
        self._how(PUBLISHED_RADIUS if self.radius is None else self.radius)

    def _how(self, radius: int, whole: bool = True) -> Marking:
        return Marking(
            radius,
            self.iterations,
            self.optimizer,
            self.step,
            self.image_penalty,
            self.feature_penalty,
            self.augmentation,
            whole,
        )

    def bind(self, unprotected: Plan) -> RadioactiveData:
        """With the marking network and the radius for this task."""
        radii = self.radius, unprotected.judged_by.mark_radius, PUBLISHED_RADIUS
        radius = next(one for one in radii if one is not None)
        network = self.network or unprotected
        return replace(self, network=replace(network, epochs=self.network_epochs or network.epochs), radius=radius)

    def marks(self, images: Source) -> Marks:
        """The marks of this mechanism, bound to a task, on training images.

        Raises:
            UserError: If the ratio marks fewer than two of them.
        """
        size = round(self.ratio * images.size)
        if not 2 <= size < images.size:
            raise UserError(
                "too few images to mark", where="raddata.ratio", got=f"{size} of {images.size}", allowed=">= 2"
            )
        purpose = self.network.purpose
        floats = purpose is not None and isinstance(purpose.space, Images) and purpose.space.floats
        return Marks(
            images,
            size,
            self._how(PUBLISHED_RADIUS if self.radius is None else self.radius, whole=not floats),
            OtherSeed(self.network),
            self.precision,
        )

    def data(self, plan: Plan) -> Plan:
        """Replaces a share of the task's images by marked ones, or moves them to the stream "marked"."""
        bound = self.bind(replace(plan, streams=(plan.task,)))
        images = plan.task.source
        marks = bound.marks(images)
        if self.placement == "task":
            return replace(plan, streams=(replace(plan.task, source=Marked(images, marks)), *plan.streams[1:]))
        rest = replace(plan.task, source=Unmarked(images, marks))  # no image is trained on in both forms
        sampler = Shuffled(plan.task.sampler.batch_size)
        own = Stream("marked", marks, sampler, maps=plan.task.maps, optimizer=plan.optimizer, cadence="mixed")
        return replace(plan, streams=(rest, *plan.streams[1:], own))

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """The marking network."""
        return (self._marks_for(plan).network,)

    def _marks_for(self, plan: Plan) -> Marks:
        """The marks that a model was trained on, or would have been."""
        own = (found for found in nested(plan, Marks) if found.how == self._how(found.how.radius, found.how.whole))
        first = plan.origin
        fallback = self if self.network else self.bind(replace(first, streams=(first.task,)))
        # A model that never saw marks is tested with those that it would have had.
        return next(own, None) or fallback.marks(fallback.network.task.source)

    def _held_out(self, marks: Marks) -> Marks:
        test = marks.network.plan.judged_by.test
        return replace(marks, images=test, size=min(self.held_out, test.size))

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """Both tests on any model, trained on these marks or not."""
        return self.verify(trained, trained, context)

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """Both tests on a suspect, for the marks in the victim's data; nothing if it tells other classes than these."""
        if suspect.plan.model.classes != victim.plan.model.classes:
            return {}
        marks = self._marks_for(victim.plan)
        clean, marked = marks.clean(context), context.data(marks)
        gain = _losses(suspect, clean) - _losses(suspect, marked)  # [N]: above 0 where the mark fits better
        control = self._held_out(marks)
        held_out = _losses(suspect, control.clean(context)) - _losses(suspect, context.data(control))
        quality = psnr(clean.x, marked.x)
        return {
            "rad_loss_difference": gain.mean().item(),
            "rad_held_out": held_out.mean().item(),
            "rad_sign_rate": (gain > 0).double().mean().item(),
            "rad_log10_p": log10_paired_p(gain),
            **self._white_box(suspect, marks, context),
            **({"rad_psnr": quality} if math.isfinite(quality) else {}),
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That a suspect was not tested, or not by its weights, and why; that there is nothing to test for."""
        if not metrics:
            return (OTHER_CLASSES,)
        said = {"rad_white_log10_p": NO_READOUT, "rad_psnr": NO_MARK}
        return tuple(reason for name, reason in said.items() if name not in metrics)

    def _white_box(self, trained: Trained, marks: Marks, context: Context) -> dict[str, float]:
        """log10 of Fisher's p-value over the classes' carriers; nothing of a network that ends in no linear layer."""
        if not reads_out(trained.network, marks.network.plan.model.classes):
            return {}
        marking = context.trained(marks.network).network
        x, _ = context.data(marks.network.plan.judged_by.test)
        ours, theirs = (features_of(network, x[:ALIGNMENT_IMAGES]) for network in (marking, trained.network))
        # The features of the two networks have nothing in common but the images: they are aligned by some.
        directions = carriers_of(marks.network.plan, marking, context)
        cosines = carrier_cosines(ours, theirs, classifier(trained.network).weight, directions)
        return {"rad_white_log10_p": log_fisher(log_cosine_p(cosines, directions.shape[1])) / LN10}

    def scatter(self, trained: Trained, context: Context) -> Scatter | None:
        """Marked training images and what they were before, in the planes of their classes' carriers and weights.

        A mark shifts features along the carrier (Sablayrolles et al. 2020), and what a network makes of that is up to
        its weights. `carrier_planes` holds both, for all classes at once; principal components would show the classes
        and not the shift, which is small beside them.
        """
        marks = self._marks_for(trained.plan)
        plan, marking = marks.network.plan, context.trained(marks.network).network
        test, clean, marked = context.data(plan.judged_by.test), marks.clean(context), context.data(marks)
        x, y = test.x[:ALIGNMENT_IMAGES], test.y[:ALIGNMENT_IMAGES].numpy()
        owner = linear_readout(marking, plan.model.classes, [x])
        read = linear_readout(trained.network, plan.model.classes, [x, clean.x, marked.x])
        if owner is None or read is None:
            return None
        directions = carriers_of(plan, marking, context).double().numpy()
        planes = carrier_planes(owner.features[0], read.features[0], y, read.weight, directions)
        labels = class_indices(clean.y).numpy()
        before, after = (in_planes(planes, features, labels) for features in read.features[1:])
        return Scatter(CAPTION, planes[0].axes, {"training images before marking": before}, {"marked": after})

    def evidence(self, plan: Plan, context: Context) -> tuple[Picture, ...]:
        """Two pairs of each class: clean, marked, and their difference, amplified."""
        marks = self._marks_for(plan)
        clean, marked = marks.clean(context), context.data(marks)
        labels = class_indices(clean.y)
        shown = torch.cat([(labels == label).nonzero().flatten()[:2] for label in labels.unique()])
        before, after = clean.x[shown], marked.x[shown]
        largest = (after - before).abs().max().item()
        widest = 2 * largest if largest else 1.0
        change = 0.5 + (after - before) / widest
        caption = (
            f"Clean images, their marked versions, and the difference (grey: none), times {1 / widest:.3g}. "
            f"Radius {marks.how.radius}/255, PSNR {psnr(clean.x, marked.x):.1f} dB over all {marks.size} marked images."
        )
        return (Picture("pairs", caption, grid(torch.stack([before, after, change]).numpy())),)

    def facts(self, plan: Plan) -> dict[str, str]:
        """How many images are marked and how; on whose images the marking network was trained."""
        marks = next(nested(plan, Marks), None)
        if marks is None:
            return {}
        share = f"{marks.size} of {marks.images.size} images, radius {marks.how.radius}/255"
        whose = "the same" if marks.network.plan.task.source == marks.images else "other"
        return {"marked": share, "marks made": f"by a network trained on {whose} images"}


def _losses(trained: Trained, data: Data) -> Tensor:
    return functional.cross_entropy(trained.predict(data.x).double(), data.y, reduction="none")
