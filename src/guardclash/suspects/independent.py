"""An innocent party's model of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from guardclash.checks import one_of
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan
from guardclash.suspect import Suspect, disjoint, on


@dataclass(frozen=True)
class Independent(Suspect):
    """An innocent party's model, trained on data of the same distribution without a common image (Appendix B)."""

    kind: ClassVar[str] = "independent"

    images: str = "train"
    """"train": as many training images that the owner does not have (chunk B); "test": the test split, as the published
    code of dataset inference has it, although the owner uses test images as well."""

    def __post_init__(self) -> None:
        one_of("independent", ("train", "test"), images=self.images)

    @property
    def stolen(self) -> bool:
        """It is not."""
        return False

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The recipe's training on other images."""
        own = unprotected.task.source
        return on(unprotected, unprotected.judged_by.test if self.images == "test" else disjoint(own), "independent")
