"""Where a stream's examples come from."""

from __future__ import annotations

from dataclasses import dataclass

from guardclash.data.catalog import find_dataset
from guardclash.errors import UserError
from guardclash.plan.plan import Context, Data


@dataclass(frozen=True)
class Split:
    """The first `limit` examples of a split of a data set (None: all), in the data set's own order."""

    dataset: str
    split: str = "train"
    limit: int | None = None

    def __post_init__(self) -> None:
        whole = find_dataset(self.dataset).size(self.split)
        if self.limit is not None and not 1 <= self.limit <= whole:
            raise UserError(
                f"{self.dataset} has no such number of {self.split} examples",
                where="limit",
                got=self.limit,
                allowed=f"1 to {whole}",
            )

    @property
    def size(self) -> int:
        """Number of examples."""
        return self.limit or find_dataset(self.dataset).size(self.split)

    def load(self, context: Context) -> Data:
        """The examples; the same for every seed."""
        x, y = context.images(self.dataset, self.split)
        return Data(x[: self.size].clone(), y[: self.size].clone())  # copies, so that the rest can be freed
