"""Patches of the two photographs that scikit-learn brings along: images that are no digits."""

from __future__ import annotations

from guardclash.data.bundled import PATCHES_SIZES, read_photo_patches
from guardclash.data.dataset import Dataset
from guardclash.data.space import Images

PHOTO_PATCHES = Dataset(
    name="photo-patches",
    title="Patches of two photographs",
    space=Images((1, 8, 8)),
    classes=2,
    sizes=PATCHES_SIZES,
    read=read_photo_patches,
    source="bundled with scikit-learn: china.jpg by danielbuechele and flower.jpg by vultilion (Flickr)",
    license="CC BY 2.0",
    bundled=True,
)
