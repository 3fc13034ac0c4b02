"""Gradient inversion: whether the gradient of one step gives the example away that it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from guardclash.checks import one_of, within
from guardclash.data.space import Images, Space
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.numerics.inversion import GradientMatching, cosine_distance, psnrs
from guardclash.numerics.similarity import ssim
from guardclash.plan.examples import Data, Moment, class_indices
from guardclash.plan.gradients import trainable
from guardclash.plan.plan import Context, Plan
from guardclash.plan.sources import Drawn
from guardclash.training.released import Chance, released_gradient
from guardclash.training.train import build_network
from guardclash.training.trained import Trained

DOUBT = 0.2
"""A cosine distance that is left beyond that of the true image by more than this means that the attack failed."""
TWICE = ("derivative", "differentiate")
"""In what torch says of an operation without a second derivative."""
CUT = ("Error", "RoundBackward", "FloorBackward", "CeilBackward", "TruncBackward")
"""Beginnings of what a graph calls a derivative that may be taken once only, or is 0 wherever it is taken."""


class NotTwice(RuntimeError):
    """A gradient that cannot be differentiated in turn."""


class Unmoved(nn.Module):
    """A batch norm that stays in evaluation mode: one image has no batch to take statistics of."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def train(self, mode: bool = True) -> Unmoved:
        """Leaves it in evaluation mode."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises by running statistics."""
        return self.inner(x)


Draws = tuple[Tensor, Tensor | None]
"""States of torch's global generators, the processor's and the GPU's, which dropout and its like draw from."""


def drawing(device: torch.device) -> Draws:
    """Where the generators stand."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def draw_again(draws: Draws, device: torch.device) -> None:
    """Sets the generators to where they stood."""
    torch.set_rng_state(draws[0])
    if draws[1] is not None:
        torch.cuda.set_rng_state(draws[1], device)


@dataclass(frozen=True, eq=False)
class Overheard:
    """A map that changes nothing and keeps what the losses of a step get to see, and what they will draw."""

    batches: list[Data] = field(default_factory=list)
    draws: list[Draws] = field(default_factory=list)

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """The same batch."""
        self.batches.append(batch)
        self.draws.append(drawing(batch.x.device))
        return batch


@dataclass(frozen=True)
class GradientInversion(Measure):
    """Gradient inversion: how well one image is restored from the gradient that a step on it releases.

    The gradient is the training's own (maps, losses and gradient slot of the task's stream), of a batch of one: what
    somebody sees who knows all other examples of the batch. It is matched by cosine on the bare network in evaluation
    mode, with the training's own losses. PSNR and SSIM are means over some training images; less is better. What is
    left of the cosine distance, beside what the true image itself leaves, is the attack's doubt.
    """

    name: ClassVar[str] = "gradient-inversion"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)
    does: ClassVar[str] = "restores images"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ginv_psnr", "PSNR∇", None, False, 1, title="of images restored from gradients, in dB"),
        Metric("ginv_ssim", "SSIM∇", None, False, title="the same as structural similarity", range=(-1.0, 1.0)),
        Metric("ginv_left", "left∇", None, title="cosine distance that the attack leaves", range=(0.0, 2.0)),
        Metric("ginv_truth", "truth∇", None, title="cosine distance of the true images", range=(0.0, 2.0)),
    )

    weights: str = "final"
    """Of which weights the gradient is: "final", or "initial", where more leaks."""
    labels: str = "known"
    """What the attack takes for the labels: "known", as the losses get them, or "hard", the classes, as published. The
    latter makes every protection that changes labels look perfect."""
    draws: str = "secret"
    """What the attack knows of what the step drew inside of the network (dropout, a random code): "secret", nothing,
    so it attacks the network in evaluation mode; or "known", as if secrecy failed."""
    images: int = 8
    """Training images that are attacked, each by itself, drawn for every seed."""
    steps: int = 300
    smoothness: float = 0.01
    """Weight of the total variation."""

    def __post_init__(self) -> None:
        one_of(self.name, ("final", "initial"), weights=self.weights)
        one_of(self.name, ("known", "hard"), labels=self.labels)
        one_of(self.name, ("secret", "known"), draws=self.draws)
        within(self.name, ">= 1", images=self.images, steps=self.steps)
        within(self.name, ">= 0, finite", smoothness=self.smoothness)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The means over the images; nothing where the losses cannot be differentiated twice."""
        run = _training(trained.plan)
        source, initial = run.task.source, self.weights == "initial"
        network = build_network(run, context) if initial else trained.network
        device = next(trained.network.parameters()).device
        now = Moment() if initial else _last(run)
        drawn = context.data(Drawn(source, min(self.images, source.size), self.name))
        # Dropout, and whatever else draws from nothing else, as in a training.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.random.set_rng_state(context.rng(self.name, "dropout").get_state())
            if device.type == "cuda":
                torch.cuda.manual_seed(int(torch.randint(2**62, ())))
            chance = Chance(context.rng(self.name, "maps"), context.rng(self.name, "gradient"))
            victim = _Victim(run, unmoved(deepcopy(network)).to(device), now, chance)
            starts = context.rng(self.name, "start")
            batches = (drawn.take(slice(one, one + 1)) for one in range(len(drawn.x)))
            try:
                found = [self._attacked(victim, batch.each(lambda part: part.to(device)), starts) for batch in batches]
            except RuntimeError as error:
                if not (isinstance(error, NotTwice) or any(word in str(error) for word in TWICE)):
                    raise
                return {}
        return {
            name: torch.tensor([one[name] for one in found], dtype=torch.float64).mean().item() for name in found[0]
        }

    def _attacked(self, victim: _Victim, batch: Data, chance: torch.Generator) -> dict[str, float]:
        released, seen, drawn = victim.step(batch)
        known = seen if self.labels == "known" else replace(seen, y=class_indices(batch.y))
        gradient = victim.gradient_of(known, tuple(released), drawn if self.draws == "known" else None)
        start = torch.rand(batch.x.shape, generator=chance).to(batch.x.device)
        target = list(released.values())
        own = gradient(seen.x.detach().clone().requires_grad_())
        if _is_cut(own):
            raise NotTwice
        truth = cosine_distance(own, target).item()
        x, left = GradientMatching(self.smoothness, self.steps)(gradient, target, start)
        # What the step saw may be the image moved; whichever is restored better has leaked.
        quality, likeness = (
            max(of(x.cpu(), other.cpu()).nan_to_num(0.0).item() for other in (batch.x, seen.x)) for of in (psnrs, ssim)
        )
        # Rounding may leave a distance of gradients that point the same way a little below 0.
        distances = {"ginv_left": left, "ginv_truth": truth}
        return {
            "ginv_psnr": quality,
            "ginv_ssim": likeness,
            **{name: torch.tensor(distance).clamp(0, 2).item() for name, distance in distances.items()},
        }

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That the attack failed, or is not made of the losses of the training."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        if not metrics:
            yield "a part of the training has no second derivative, so its gradient was not inverted"
            return
        left, truth = metrics["ginv_left"], metrics["ginv_truth"]
        if left > truth + DOUBT:
            yield (
                f"the attack may be failing: it leaves a cosine distance of {left:.2f}, and the true images one of "
                f"{truth:.2f}, so a low PSNR is no protection"
            )
        if self.labels == "hard" and truth > DOUBT:
            yield (
                f"with hard labels the true images leave a cosine distance of {truth:.2f}: unless that is noise, the "
                "training used other labels, and an attack with the wrong ones looks like protection"
            )


def _is_cut(gradient: Iterable[Tensor]) -> bool:
    """Whether a part of a gradient has no derivative; torch would go around it without a word."""
    ahead = [part.grad_fn for part in gradient]
    seen = set(ahead)
    while ahead:
        node = ahead.pop()
        if node is None:
            continue
        if node.name().rsplit("::", 1)[-1].startswith(CUT):
            return True
        further = {other for other, _ in node.next_functions} - seen
        seen |= further
        ahead.extend(further)
    return False


def _training(plan: Plan) -> Plan:
    """The last training that had steps: what only changes weights releases nothing."""
    while not plan.epochs and plan.initial is not None:
        plan = plan.initial
    return plan


def _last(plan: Plan) -> Moment:
    """The last step of a training's task."""
    steps = plan.steps()
    return Moment(plan.epochs - 1, steps - 1, (steps - 1) / steps) if steps else Moment()


def unmoved(network: nn.Module) -> nn.Module:
    """The network, changed in place, with batch norm in evaluation mode for good."""
    for name, child in list(network.named_children()):
        setattr(network, name, Unmoved(child) if isinstance(child, _BatchNorm) else unmoved(child))
    return network


@dataclass(frozen=True, eq=False)
class _Victim:
    """A training at one moment, whose steps are seen."""

    run: Plan
    network: nn.Module
    """A copy, which may be changed."""
    now: Moment
    chance: Chance
    """Of one step after the other: each has noise of its own."""

    def step(self, batch: Data) -> tuple[dict[str, Tensor], Data, Draws]:
        """What a step on a batch releases, by parameter; the batch as its losses saw it, and where chance stood."""
        ear = Overheard()
        task = self.run.task
        heard = replace(task, maps=(*task.maps, ear))
        plan = replace(self.run, streams=(heard, *self.run.streams[1:]))
        found = released_gradient(plan, self.network, heard, batch, self.chance, self.now, {})
        return {name: part.detach() for name, part in found.gradient.items()}, ear.batches[-1], ear.draws[-1]

    def gradient_of(
        self, batch: Data, names: tuple[str, ...], drawn: Draws | None
    ) -> Callable[[Tensor], tuple[Tensor, ...]]:
        """What an adversary computes: the gradient for other images under the batch's labels, without maps.

        Clipping would only change its length, and nobody knows the noise.
        """
        parameters = [trainable(self.network)[name] for name in names]
        self.network.train(drawn is not None)

        def gradient(x: Tensor) -> tuple[Tensor, ...]:
            if drawn is not None:
                draw_again(drawn, x.device)
            guess = replace(batch, x=x)
            parts = [part(self.network, guess, now=replace(self.now, memory={})) for part in self.run.task.objectives]
            loss = torch.stack(parts).sum()
            return torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True, allow_unused=True)

        return gradient
