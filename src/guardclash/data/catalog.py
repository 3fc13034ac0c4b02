"""The data sets: what each is, where it comes from, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guardclash.data import official
from guardclash.data.bundled import DIGITS_SIZES, PATCHES_SIZES, read_digits, read_photo_patches
from guardclash.data.cifar import CifarReader
from guardclash.data.files import Download
from guardclash.data.gtsrb import GtsrbReader
from guardclash.data.idx import IdxReader
from guardclash.data.images import Images
from guardclash.errors import UserError, suggestion


@dataclass(frozen=True)
class Dataset:
    """A data set of labelled images.

    Args:
        name: How studies call it.
        title: How people call it.
        shape: Channels, height and width in pixels.
        classes: Number of classes.
        sizes: Number of images of each split, as pairs.
        mean: Per channel, what a model subtracts from an input in [0, 1].
        std: Per channel, what a model then divides by.
        read: Reads one split from a data folder: `read(split, folder) -> Images`. Must be a module's function
            or a frozen dataclass with `__call__`, so that the data set is hashable.
        out_of_distribution: Name of the data set of the same shape that trigger sets are taken from, or None.
        files: The official files, for fetching and checking. Empty: nothing to fetch.
        source: Where it comes from, and whom to cite.
        license: Under what terms.
        note: What a user should know who asks for a split that is not there.

    Raises:
        UserError: `mean` or `std` has not one value per channel.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: int
    sizes: tuple[tuple[str, int], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read: Callable[[str, Path], Images]
    out_of_distribution: str | None = None
    files: tuple[Download, ...] = ()
    source: str = ""
    license: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.shape[0]:
                raise UserError(
                    "one value per channel is needed",
                    where=f"{self.name}.{key}",
                    got=values,
                    allowed=f"{self.shape[0]} values",
                )

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(split for split, _ in self.sizes)

    def size(self, split: str) -> int:
        """Number of images of a split.

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


GREY = (0.5,)
# ImageNet's statistics, with which the paper's code normalises CIFAR-10 and the traffic signs beside it.
COLOUR_MEAN = (0.485, 0.456, 0.406)
COLOUR_STD = (0.229, 0.224, 0.225)
MNIST_SIZES = (("train", 60_000), ("test", 10_000))

BUILT_IN = (
    Dataset(
        name="digits",
        title="Digits of scikit-learn",
        shape=(1, 8, 8),
        classes=10,
        sizes=DIGITS_SIZES,
        mean=GREY,
        std=GREY,
        read=read_digits,
        out_of_distribution="photo-patches",
        source="bundled with scikit-learn: the test part of UCI's Optical Recognition of Handwritten Digits "
        "(Alpaydin and Kaynak, 1998)",
        license="CC BY 4.0",
    ),
    Dataset(
        name="photo-patches",
        title="Patches of two photographs",
        shape=(1, 8, 8),
        classes=2,
        sizes=PATCHES_SIZES,
        mean=GREY,
        std=GREY,
        read=read_photo_patches,
        source="bundled with scikit-learn: china.jpg by danielbuechele and flower.jpg by vultilion (Flickr)",
        license="CC BY 2.0",
    ),
    Dataset(
        name="mnist",
        title="MNIST",
        shape=(1, 28, 28),
        classes=10,
        sizes=MNIST_SIZES,
        mean=GREY,
        std=GREY,
        read=IdxReader("mnist", "MNIST/raw", MNIST_SIZES),
        out_of_distribution="fmnist",
        files=official.MNIST,
        source="LeCun, Cortes and Burges, The MNIST database of handwritten digits",
        license="CC BY-SA 3.0, as it is commonly stated",
    ),
    Dataset(
        name="fmnist",
        title="FashionMNIST",
        shape=(1, 28, 28),
        classes=10,
        sizes=MNIST_SIZES,
        mean=GREY,
        std=GREY,
        read=IdxReader("fmnist", "FashionMNIST/raw", MNIST_SIZES),
        out_of_distribution="mnist",
        files=official.FASHION_MNIST,
        source="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv:1708.07747 (2017)",
        license="MIT",
    ),
    Dataset(
        name="cifar10",
        title="CIFAR-10",
        shape=(3, 32, 32),
        classes=10,
        sizes=(("train", 50_000), ("test", 10_000)),
        mean=COLOUR_MEAN,
        std=COLOUR_STD,
        read=CifarReader(),
        out_of_distribution="gtsrb",
        files=official.CIFAR10,
        source="Krizhevsky, Learning multiple layers of features from tiny images (2009)",
        license="none stated",
    ),
    Dataset(
        name="gtsrb",
        title="GTSRB",
        shape=(3, 32, 32),
        classes=43,
        sizes=(("test", 12_630),),
        mean=COLOUR_MEAN,
        std=COLOUR_STD,
        read=GtsrbReader(),
        files=official.GTSRB,
        source="Stallkamp, Schlipsing, Salmen and Igel, Man vs. computer, Neural Networks 32 (2012)",
        license="none stated",
        note="Only the official test images are read, as a source of trigger sets.",
    ),
)

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in BUILT_IN}
"""All data sets by name; `register` adds those of plugins."""


def register(dataset: Dataset) -> None:
    """Adds the data set of a plugin; adding it again changes nothing.

    Raises:
        UserError: Another data set has that name.
    """
    if DATASETS.setdefault(dataset.name, dataset) != dataset:
        raise UserError("two data sets have the same name", where="name", got=dataset.name, mend="Rename one.")


def find_dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        UserError: There is none.
    """
    if name not in DATASETS:
        raise UserError("unknown data set", where="dataset", got=name, mend=suggestion(name, DATASETS))
    return DATASETS[name]
