"""FashionMNIST.

Checksums: as for MNIST.
"""

from __future__ import annotations

from guardclash.data.dataset import Dataset
from guardclash.data.files import gzip_file
from guardclash.data.idx import IdxReader
from guardclash.data.space import Images

MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
SIZES = (("train", 60_000), ("test", 10_000))
# Name, SHA-256 of the .gz file, SHA-256 of its content.
FILES = tuple(
    gzip_file("FashionMNIST/raw", MIRRORS, *row)
    for row in (
        (
            "train-images-idx3-ubyte",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        (
            "train-labels-idx1-ubyte",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        (
            "t10k-images-idx3-ubyte",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        (
            "t10k-labels-idx1-ubyte",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    )
)
FASHION_MNIST = Dataset(
    name="fmnist",
    title="FashionMNIST",
    space=Images((1, 28, 28)),
    classes=10,
    sizes=SIZES,
    read=IdxReader("fmnist", "FashionMNIST/raw", SIZES),
    files=FILES,
    contents=(("train", "c1ab32e6570e65e5132c"), ("test", "b3b79e72b8334acf217b")),
    source="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv:1708.07747 (2017)",
    license="MIT",
)
