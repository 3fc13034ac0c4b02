"""What a data set is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guardclash.data.examples import Examples
from guardclash.data.files import Download
from guardclash.data.space import Images, Space
from guardclash.errors import UserError

# With which the paper's code normalises CIFAR-10 and the traffic signs beside it.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Dataset:
    """A data set of labelled examples.

    Args:
        name: How studies call it.
        title: How people call it.
        space: What an input is, such as `Images((1, 28, 28))`.
        classes: Number of classes.
        sizes: Number of examples of each split, as pairs.
        read: Reads one split from a data folder: `read(split, folder) -> Examples`. Must be a module's function
            or a frozen dataclass with `__call__`, so that the data set is hashable.
        mean: Of images, per channel, what a model subtracts from an input in [0, 1]; by default 0.5.
        std: Per channel, what a model then divides by; by default 0.5.
        files: The official files, for fetching and checking. Empty: nothing to fetch.
        source: Where it comes from, and whom to cite.
        license: Under what terms.
        note: What a user should know who asks for a split that is not there.
        bundled: Whether its content comes with an installed library, so that it is the same everywhere.
        contents: The official content of splits (see `guardclash.data.contents.digest`), as pairs.
        several_labels: Whether an example may have several labels: `y` is then float32 [N, classes] of 0 and 1.
        notes: What was done to the data before models see them, sentences for reports.
        parts: Of somebody's own data, digests by what they are of, such as "labels of train".

    Raises:
        UserError: `mean` or `std` has not one value per channel.
    """

    name: str
    title: str
    space: Space
    classes: int
    sizes: tuple[tuple[str, int], ...]
    read: Callable[[str, Path], Examples]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    files: tuple[Download, ...] = ()
    source: str = ""
    license: str = ""
    note: str = ""
    bundled: bool = False
    contents: tuple[tuple[str, str], ...] = ()
    several_labels: bool = False
    notes: tuple[str, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        channels = self.shape[0] if isinstance(self.space, Images) else 0
        for key in ("mean", "std"):
            values = getattr(self, key) or (0.5,) * channels
            object.__setattr__(self, key, values)  # frozen; nobody has seen it yet
            if len(values) != channels:
                raise UserError(
                    "one value per channel is needed",
                    where=f"{self.name}.{key}",
                    got=values,
                    allowed=f"{channels} values",
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: channels, height and width of images."""
        return self.space.shape

    @property
    def label(self) -> str:
        """How studies call it, without what says its content."""
        return label_of(self.name)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(split for split, _ in self.sizes)

    def size(self, split: str) -> int:
        """Number of examples of a split.

        Raises:
            UserError: There is no such split.
        """
        if split not in self.splits:
            raise UserError(
                f"data set {self.name} has no such split",
                where="split",
                got=split,
                allowed=", ".join(self.splits),
                mend=self.note,
            )
        return dict(self.sizes)[split]


def label_of(name: str) -> str:
    """How studies call a data set, without what says the content of somebody's own."""
    return name.partition("@")[0]
