"""The traffic signs, from archives and unpacked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardclash.data.gtsrb import IMAGES, IMAGES_ARCHIVE, LABELS, LABELS_ARCHIVE, GtsrbReader, scaled
from guardclash.errors import UserError

COUNT = 6
READER = GtsrbReader(count=COUNT)
LABEL_OF = [16, 1, 38, 33, 11, 42]


def ppm(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PPM")
    return stream.getvalue()


def signs() -> dict[str, bytes]:
    rng = np.random.RandomState(0)
    sizes = [(32, 32), (15, 20), (250, 240), (40, 33), (33, 40), (64, 64)]
    return {
        f"{number:05d}.ppm": ppm(rng.randint(0, 256, (*size, 3)).astype(np.uint8)) for number, size in enumerate(sizes)
    }


def table(labels: list[object] = LABEL_OF, first: int = 0) -> str:
    rows = [f"{number + first:05d}.ppm;9;9;1;1;8;8;{label}" for number, label in enumerate(labels)]
    return "\r\n".join(["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", *rows, ""])


def write_archives(folder: Path, images: dict[str, bytes] | None = None, text: str = "") -> Path:
    (folder / "gtsrb").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / IMAGES_ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("GTSRB/Readme-Images-Final-test.txt", "as in the official archive")
        for name, content in (images or signs()).items():
            archive.writestr(f"{IMAGES}/{name}", content)
    with zipfile.ZipFile(folder / LABELS_ARCHIVE, "w") as archive:
        archive.writestr(LABELS, text or table())
    return folder


def write_unpacked(folder: Path) -> Path:
    (folder / "gtsrb" / IMAGES).mkdir(parents=True)
    for name, content in signs().items():
        (folder / "gtsrb" / IMAGES / name).write_bytes(content)
    (folder / "gtsrb" / LABELS).write_text(table())
    return folder


def test_archives_and_unpacked_files_give_the_same(tmp_path):
    first = READER("test", write_archives(tmp_path))
    (tmp_path / "other").mkdir()
    second = READER("test", write_unpacked(tmp_path / "other"))
    assert (first.x.dtype, first.x.shape) == (np.uint8, (COUNT, 3, 32, 32))
    assert first.y.tolist() == LABEL_OF
    assert first.y.dtype == np.int64
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y, second.y)


def test_an_image_of_the_right_size_is_not_touched():
    pixels = np.random.RandomState(3).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(scaled(ppm(pixels), 32), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("wide", [False, True])
def test_the_centre_is_kept_and_scaled(wide):
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = (10, 20, 30)  # the central square; black beside it
    result = scaled(ppm(pixels if wide else pixels.swapaxes(0, 1)), 32)
    assert result.shape == (3, 32, 32)
    inner = result[:, 2:-2, 2:-2]
    assert [np.unique(channel).tolist() for channel in inner] == [[10], [20], [30]]


def test_small_images_are_enlarged_not_padded():
    assert scaled(ppm(np.full((15, 15, 3), 200, np.uint8)), 32).min() == 200


def without(images: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {key: value for key, value in images.items() if key != name}


@pytest.mark.parametrize(
    ("images", "text", "blamed", "message"),
    [
        (without(signs(), "00005.ppm"), "", IMAGES_ARCHIVE, "another number of images .*got 5; allowed: 6"),
        (without(signs(), "00003.ppm") | {"00009.ppm": b"P6"}, "", IMAGES_ARCHIVE, "no item named"),
        (signs() | {"00003.ppm": b"P6\n32 32\n255\n" + bytes(99)}, "", IMAGES_ARCHIVE, "truncated"),
        (signs() | {"00003.ppm": b"\x89PNG\r\n\x1a\n"}, "", IMAGES_ARCHIVE, "cannot identify image"),
        (signs() | {"00003.ppm": bytes(1 << 21)}, "", IMAGES_ARCHIVE, "would unpack to 2097152 bytes"),
        (signs() | {"00003.ppm": b"P6\n90000 90000\n255\n"}, "", IMAGES_ARCHIVE, "damaged"),
        (None, table(LABEL_OF[:-1]), LABELS_ARCHIVE, "does not list the images .*got '5 rows"),
        (None, table(first=1), LABELS_ARCHIVE, "00001.ppm to 00006.ppm.*allowed: 6 rows, 00000.ppm"),
        (None, "Filename;ClassId\r\n", LABELS_ARCHIVE, "got '0 rows'"),
        (None, "a,b\r\n1,2\r\n", LABELS_ARCHIVE, "Filename"),
        (None, table([1, 2, 3, 4, 5, "x"]), LABELS_ARCHIVE, "invalid literal"),
        (None, "Filename;ClassId\r\n00000.ppm\r\n", LABELS_ARCHIVE, "invalid literal"),
        (
            None,
            table([0, 1, 2, 3, 4, 43]),
            LABELS_ARCHIVE,
            "label is out of range .*got 43; allowed: 0 to 42",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_wrong_is_named_with_the_mend(tmp_path, images, text, blamed, message):
    write_archives(tmp_path, images, text)
    with pytest.raises(UserError, match=message) as caught:
        READER("test", tmp_path)
    assert str(tmp_path / blamed) in str(caught.value)
    assert "guardclash data fetch gtsrb" in str(caught.value)


@pytest.mark.parametrize("name", [IMAGES_ARCHIVE, LABELS_ARCHIVE])
@pytest.mark.parametrize("change", [lambda content: content[: len(content) // 2], lambda content: b"PK"])
def test_a_damaged_archive(tmp_path, name, change):
    write_archives(tmp_path)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match="damaged or cut short") as caught:
        READER("test", tmp_path)
    assert str(path) in str(caught.value)


def test_a_changed_byte_in_an_archive_is_found_by_its_checksum(tmp_path):
    write_archives(tmp_path)
    path = tmp_path / IMAGES_ARCHIVE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or cut short"):
        READER("test", tmp_path)


def test_a_missing_unpacked_image_is_named(tmp_path):
    write_unpacked(tmp_path)
    (tmp_path / "gtsrb" / IMAGES / "00002.ppm").unlink()
    with pytest.raises(UserError, match=r"file is missing .*00002\.ppm"):
        READER("test", tmp_path)


@pytest.mark.parametrize("left", [IMAGES_ARCHIVE, LABELS_ARCHIVE])
def test_one_of_the_two_archives_is_missing(tmp_path, left):
    write_archives(tmp_path)
    other = {IMAGES_ARCHIVE, LABELS_ARCHIVE} - {left}
    for name in other:
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match="file is missing"):
        READER("test", tmp_path)
