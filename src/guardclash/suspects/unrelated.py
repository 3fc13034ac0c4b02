"""An innocent party's model of something else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.data.catalog import find_dataset
from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan
from guardclash.plan.sources import Split
from guardclash.suspect import Suspect, on, other_images


@dataclass(frozen=True)
class Unrelated(Suspect):
    """An innocent party's model for another data set, whose images have the same shape."""

    kind: ClassVar[str] = "unrelated"

    @property
    def stolen(self) -> bool:
        """It is not."""
        return False

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The recipe's training on the other data set."""
        images = other_images(unprotected)
        if unprotected.several_labels:
            what = "the neighbour's examples have one class each, and the task's may have several labels"
            raise UserError(what, where="unrelated", got=unprotected.judged_by.task)
        data = find_dataset(images.dataset) if isinstance(images, Split) else images
        model: Any = unprotected.model
        fields = {field.name for field in dataclasses.fields(model)} & {"classes", "mean", "std"}
        own = replace(model, **{name: getattr(data, name) for name in fields if hasattr(data, name)})
        return replace(on(unprotected, images, "independent"), model=own)
