"""The test images of GTSRB, a source of trigger sets.

Checksums: SHA-256 as several projects list them (among them squirrel-datasets), beside the MD5 of torchvision.
"""

from __future__ import annotations

from guardclash.data.dataset import IMAGENET_MEAN, IMAGENET_STD, Dataset
from guardclash.data.files import Download
from guardclash.data.gtsrb import IMAGES_ARCHIVE, LABELS_ARCHIVE, GtsrbReader
from guardclash.data.space import Images

MIRRORS = ("https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/",)
FILES = tuple(
    Download(
        path,
        tuple(mirror + path.removeprefix("gtsrb/") for mirror in MIRRORS),
        f"sha256:{digits}",
        exact=False,
    )
    for path, digits in (
        (IMAGES_ARCHIVE, "48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa"),
        (LABELS_ARCHIVE, "f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d"),
    )
)
GTSRB = Dataset(
    name="gtsrb",
    title="GTSRB",
    space=Images((3, 32, 32)),
    classes=43,
    sizes=(("test", 12_630),),
    read=GtsrbReader(),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    files=FILES,
    source="Stallkamp, Schlipsing, Salmen and Igel, Man vs. computer, Neural Networks 32 (2012)",
    license="none stated",
    note="Only the official test images are read, as a source of trigger sets.",
)
