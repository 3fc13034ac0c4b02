"""Adult: does somebody earn more than 50,000 dollars a year? Rows of the census of 1994, with sex and race as groups.

Checksums: SHA-256 of the official files as several projects list them.
"""

from __future__ import annotations

from guardclash.data.adult import AdultReader
from guardclash.data.dataset import Dataset
from guardclash.data.files import Download
from guardclash.data.table import Category, Encoding, Numbers

MIRRORS = ("https://archive.ics.uci.edu/ml/machine-learning-databases/adult/",)
SIZES = (("train", 32_561), ("test", 16_281))
FILES = tuple(
    Download(f"adult/{name}", tuple(mirror + name for mirror in MIRRORS), f"sha256:{digits}")
    for name, digits in (
        ("adult.data", "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d"),
        ("adult.test", "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"),
    )
)


def _category(name: str, values: str) -> Category:
    return Category(name, tuple(values.split()))


# Mean and standard deviation of the training rows; all their values.
NUMBERS = (
    Numbers("age", 38.58164676, 13.64022309),
    Numbers("education-num", 10.08067934, 2.572680826),
    Numbers("capital-gain", 1077.648844, 7385.178677),
    Numbers("capital-loss", 87.30382973, 402.9540308),
    Numbers("hours-per-week", 40.43745585, 12.34723908),
)
CATEGORIES = (
    _category(
        "workclass",
        "? Federal-gov Local-gov Never-worked Private Self-emp-inc Self-emp-not-inc State-gov Without-pay",
    ),
    _category(
        "education",
        "10th 11th 12th 1st-4th 5th-6th 7th-8th 9th Assoc-acdm Assoc-voc Bachelors Doctorate HS-grad "
        "Masters Preschool Prof-school Some-college",
    ),
    _category(
        "marital-status",
        "Divorced Married-AF-spouse Married-civ-spouse Married-spouse-absent Never-married Separated Widowed",
    ),
    _category(
        "occupation",
        "? Adm-clerical Armed-Forces Craft-repair Exec-managerial Farming-fishing Handlers-cleaners "
        "Machine-op-inspct Other-service Priv-house-serv Prof-specialty Protective-serv Sales "
        "Tech-support Transport-moving",
    ),
    Category(
        "relationship",
        tuple(("Husband Not-in-family Other-relative Own-child Unmarried Wife").split()),
    ),
    Category(
        "race",
        tuple(("Amer-Indian-Eskimo Asian-Pac-Islander Black Other White").split()),
    ),
    Category(
        "sex",
        tuple(("Female Male").split()),
    ),
    _category(
        "native-country",
        "? Cambodia Canada China Columbia Cuba Dominican-Republic Ecuador El-Salvador England France "
        "Germany Greece Guatemala Haiti Holand-Netherlands Honduras Hong Hungary India Iran Ireland "
        "Italy Jamaica Japan Laos Mexico Nicaragua Outlying-US(Guam-USVI-etc) Peru Philippines Poland "
        "Portugal Puerto-Rico Scotland South Taiwan Thailand Trinadad&Tobago United-States Vietnam "
        "Yugoslavia",
    ),
)
SEX, RACE = (next(one.values for one in CATEGORIES if one.name == name) for name in ("sex", "race"))
ENCODING = Encoding(NUMBERS, CATEGORIES)
ADULT = Dataset(
    name="adult",
    title="Adult (census income)",
    space=ENCODING.space,
    classes=2,
    sizes=SIZES,
    read=AdultReader(ENCODING, SIZES, (("sex", SEX), ("race", RACE))),
    files=FILES,
    contents=(("train", "1bcfb63eb2b29c7e5180"), ("test", "f29e1b17d468ee776e2f")),
    source="Becker and Kohavi, Adult, UCI Machine Learning Repository (1996)",
    license="CC BY 4.0",
    notes=(
        "5 columns of numbers, scaled by mean and standard deviation of the 32,561 training rows.",
        "8 categories as 102 columns, one for each of their values; a missing value (?) is a value of its own.",
        "fnlwgt is left out, a weight of the sample and no property of somebody; sex and race are inputs and groups.",
    ),
)
