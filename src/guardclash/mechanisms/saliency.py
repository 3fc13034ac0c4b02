"""Saliency maps: the requirement that explanations stay what they are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from guardclash.data.pictures import Picture, grid
from guardclash.data.space import Space
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.explanation import Explanation
from guardclash.mechanism import Mechanism
from guardclash.numerics.saliency import METHODS
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.training.trained import Trained

SHOWN = 2
"""Test images of each class on the page of evidence."""


@dataclass(frozen=True)
class SaliencyMaps(Mechanism):
    """Saliency maps of the deployed model must stay what they are worth without other protections.

    It is a requirement and changes no training: whoever explains the model's answers, by integrated gradients unless
    another method is chosen, reads the bare network. What other protections do to the maps is measured: insertion minus
    deletion is judged, and beside it stands how alike the maps are to those of the unprotected model. Alone, the model
    is the unprotected one, so that its similarity is 1.
    """

    name: ClassVar[str] = "saliency"
    title: ClassVar[str] = "the saliency map"
    concern: ClassVar[str] = "explainability"
    paper: ClassVar[str] = "Sundararajan et al. 2017"
    spaces: ClassVar[tuple[type[Space], ...]] = Explanation.spaces
    does: ClassVar[str] = Explanation.does
    one_class: ClassVar[bool] = Explanation.one_class
    metrics: ClassVar[tuple[Metric, ...]] = Explanation.metrics

    method: str = "ig"
    """"ig": integrated gradients from black, or from the mean of all columns; "gradient": the plain gradient; or
    "gradcam": Grad-CAM on the last convolution."""
    steps: int = 32
    """Of integrated gradients."""
    test_examples: int = 200
    """Test examples that are explained, the first ones."""
    unprotected: Any = None
    """The training that maps are compared with; None: the measured model's own. From Python only."""
    test: Any = None
    """The examples that are explained; None: those that the model is judged on. From Python only."""
    groups: Any = None
    """The condition whose minority is explained as well, with a method `views`. From Python only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", self.explanation().metrics)  # frozen; the measure knows which there are

    def explanation(self) -> Explanation:
        """What shows whether the maps are worth something."""
        return Explanation(**{field.name: getattr(self, field.name) for field in fields(Explanation)})

    def bind(self, unprotected: Plan) -> SaliencyMaps:
        """With what the measure derives from the unprotected training."""
        bound = self.explanation().bind(unprotected)
        return replace(self, unprotected=bound.unprotected, test=bound.test, groups=bound.groups)

    def measures(self) -> tuple[Measure, ...]:
        """The explanation; a study that names it beside this shares it."""
        return (self.explanation(),)

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """The unprotected model, and an independent one."""
        return self.explanation().needs(plan)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """As the explanation."""
        return self.explanation().measure(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """As the explanation."""
        return self.explanation().warnings(metrics)

    def facts(self, plan: Plan) -> dict[str, str]:
        """How the model is explained."""
        return {"explained": f"{self._words()} of the label's logit, {self.test_examples} test examples"}

    def evidence(self, plan: Plan, context: Context) -> tuple[Picture, ...]:
        """Two test images of each class above their maps; nothing of rows."""
        explanation, network = self.explanation(), context.trained(plan).network
        data = explanation.examples(plan, context)
        if data.x.dim() != 4:
            return ()
        shown = torch.cat([(data.y == label).nonzero().flatten()[:SHOWN] for label in data.y.unique()])
        x, maps = data.x[shown], explanation.how(network, data.x[shown], data.y[shown])
        images = x if x.shape[1] == 3 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        caption = (
            f"Test images and what speaks for their label: {self._words()} of the label's logit. "
            "Red speaks for it, blue against it, each map relative to its strongest pixel."
        )
        return (Picture("maps", caption, grid(torch.stack([images, coloured(maps)]).numpy())),)

    def _words(self) -> str:
        return METHODS[self.method] + (f", {self.steps} steps," if self.method == "ig" else "")


def coloured(maps: Tensor) -> Tensor:
    """Maps [N, H, W] as colours [N, 3, H, W] on white: red above 0, blue below, relative to each map's strongest."""
    largest = maps.abs().amax((1, 2), keepdim=True)
    value = torch.where(largest > 0, maps / largest, 0.0)
    red, blue = value.clamp(min=0), -value.clamp(max=0)
    return torch.stack([1 - blue, 1 - red - blue, 1 - red], 1)
