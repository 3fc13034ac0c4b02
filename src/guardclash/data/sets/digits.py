"""The handwritten digits that scikit-learn brings along."""

from __future__ import annotations

from guardclash.data.bundled import DIGITS_SIZES, read_digits
from guardclash.data.dataset import Dataset
from guardclash.data.space import Images

DIGITS = Dataset(
    name="digits",
    title="Digits of scikit-learn",
    space=Images((1, 8, 8)),
    classes=10,
    sizes=DIGITS_SIZES,
    read=read_digits,
    source="bundled with scikit-learn: the test part of UCI's Optical Recognition of Handwritten Digits "
    "(Alpaydin and Kaynak, 1998)",
    license="CC BY 4.0",
    bundled=True,
)
