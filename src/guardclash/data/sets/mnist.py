"""MNIST.

Checksums: SHA-256 of the packed files as in tensorflow-datasets (`url_checksums/`), of their content computed from
files whose uncompressed MD5 is the official one.
"""

from __future__ import annotations

from guardclash.data.dataset import Dataset
from guardclash.data.files import gzip_file
from guardclash.data.idx import IdxReader
from guardclash.data.space import Images

# The page of its author answers no more at times, so it comes last.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
SIZES = (("train", 60_000), ("test", 10_000))
# Name, SHA-256 of the .gz file, SHA-256 of its content.
FILES = tuple(
    gzip_file("MNIST/raw", MIRRORS, *row)
    for row in (
        (
            "train-images-idx3-ubyte",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            "t10k-images-idx3-ubyte",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    )
)
MNIST = Dataset(
    name="mnist",
    title="MNIST",
    space=Images((1, 28, 28)),
    classes=10,
    sizes=SIZES,
    read=IdxReader("mnist", "MNIST/raw", SIZES),
    files=FILES,
    contents=(("train", "4022ffa3ef3713e1eacc"), ("test", "057d579246e7f51d2b1c")),
    source="LeCun, Cortes and Burges, The MNIST database of handwritten digits",
    license="CC BY-SA 3.0, as it is commonly stated",
)
