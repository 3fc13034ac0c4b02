"""What people and strangers hand in beside results: studies, published numbers, data, weights, a tracker's notes."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from fuzzing import Damaged, Target, changed, damaged_bytes, damaged_json
from PIL import Image
from torch import nn

from guardclash.data.adult import COLUMNS, AdultReader
from guardclash.data.catalog import find_dataset
from guardclash.data.cifar import DIRECTORY, RECORD, CifarReader
from guardclash.data.download import _unpack
from guardclash.data.files import Download, Place
from guardclash.data.gtsrb import IMAGES, IMAGES_ARCHIVE, LABELS, LABELS_ARCHIVE, GtsrbReader
from guardclash.data.idx import IdxReader
from guardclash.data.own.origins import ArrayFile, ImageFolder, TableFile
from guardclash.errors import UserError
from guardclash.plan.foreign import weights_file
from guardclash.reporting.reference import read_reference
from guardclash.studies.composing import compose_study
from guardclash.studies.store import Store
from guardclash.studies.study_file import read_study, study_from
from guardclash.watching.tracking import told_before

Content = dict[str, Any]


def placed(folder: Path, name: str, content: bytes) -> Path:
    """The content as a file below the folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Studies and published numbers

STUDY = """\
name = "fuzzed" # a comment
rule = "strict"
first_seed = 3
replicates = { alone = 2, together = 3 }
criteria = { wm_accuracy = { max_drop = 0.2 } }
[[recipes]]
dataset = "digits"
scale = "smoke"
epochs = 2
sweep = { batch_size = [32, 64] }
[[combinations]]
mechanisms = ["wm", { name = "dpsgd", on = ["task"], sweep = { epsilon = [1.5, 3] } }]
[[combinations]]
mechanisms = ["raddata"]
then = [{ mechanisms = ["advtr"], epochs = 1, learning_rate = 0.5 }]
[[suspects]]
kind = "extraction"
mechanisms = ["wm"]
"""


@cache
def tables() -> tuple[bytes, ...]:
    """Studies as tables: every key of a study file, and most mechanisms."""
    smoke: Content = {"dataset": "digits", "scale": "smoke", "norm": "group"}
    every: Content = {
        "name": "n",
        "rule": "strict",
        "alpha": 0.05,
        "correction": "verdict",
        "first_seed": 1,
        "replicates": {"alone": 2, "together": 2, "suspects": 1},
        "criteria": {"wm_accuracy": {"max_drop": 0.2}},
        "scales": {"smoke": {"digits": {"batch_size": 32}}},
        "readings": {"r": {"recipe": {"epochs": 1}, "wm": {"triggers": 20, "digits": {"passes": 2}}}},
        "recipes": [{**smoke, "conditions": [{"name": "backdoor", "rate": 0.05}]}],
        "combinations": [{"mechanisms": ["wm", {"name": "dpsgd", "epsilon": 3, "delta": 1e-5}], "orders": True}],
        "measures": ["robustness", {"name": "backdoor_success"}],
        "suspects": [{"kind": "fine-tuning", "epochs": 1}, {"kind": "pruning", "sparsity": 0.5}],
        "notes": [{"mechanisms": ["wm"], "metric": "accuracy", "text": "a note"}],
        "records": "records",
        "reference": "numbers.json",
        "reference_tables": ["t"],
    }
    own: Content = {
        "tasks": [{"name": "mine", "data": "sound.npz", "training": {"epochs": 1, "learning_rate": 0.01}}],
        "recipes": [{"dataset": "mine", "scale": "smoke"}],
        "combinations": [{"mechanisms": ["wm", {"name": "advtr", "radius": 0.1, "steps": 2}]}],
    }
    sets = [["raddata", {"name": "di", "images": 20}], [{"name": "trades", "beta": 2}, "distance"]]
    several = {"recipes": [smoke], "combinations": [{"mechanisms": one} for one in sets]}
    return tuple(json.dumps(one).encode() for one in (every, own, several))


def _table(content: bytes) -> Content:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError("this damage is no table") from error
    if not isinstance(found, dict):
        raise UserError("this damage is no table")
    return found


def _composed(content: bytes, folder: Path) -> object:
    if not (folder / "sound.npz").exists():
        placed(folder, "sound.npz", archives()[0])
    return compose_study(study_from(_table(content), where="s.toml", folder=folder), folder)


PUBLISHED: Content = {
    "table": "t",
    "dataset": "digits",
    "combination": {"wm": {}, "dpsgd": {"on": ["task"]}},
    "suspect": {"kind": "extraction"},
    "metric": "accuracy",
    "mean": 0.5,
    "std": 0.1,
    "n": 5,
    "conflict": True,
    "note": "a note",
}

# Data


def _idx(content: bytes, folder: Path) -> object:
    placed(folder, "t/t10k-images-idx3-ubyte", content)
    placed(folder, "t/t10k-labels-idx1-ubyte", b"\0\0\x08\x01" + struct.pack(">I", 6) + bytes(range(6)))
    return IdxReader("t", "t", (("test", 6),), (4, 5))("test", folder)


@cache
def _pixels() -> bytes:
    return random.Random(1).randbytes(8 * RECORD)


@cache
def idx_files() -> tuple[bytes, ...]:
    """One file, packed and not."""
    plain = b"\0\0\x08\x03" + struct.pack(">III", 6, 4, 5) + _pixels()[: 6 * 20]
    return plain, gzip.compress(plain, mtime=0)


def _cifar(content: bytes, folder: Path) -> object:
    placed(folder, f"{DIRECTORY}/test_batch.bin", content)
    return CifarReader(records=2)("test", folder)


@cache
def batch() -> bytes:
    """Two images with their labels."""
    return b"".join(bytes([label]) + _pixels()[: RECORD - 1] for label in (3, 9))


def ppm(width: int, height: int) -> bytes:
    """An image of a traffic sign's form."""
    return b"P6\n%d %d\n255\n" % (width, height) + _pixels()[: 3 * width * height]


SIGNS = b"Filename;Width;ClassId\n00000.ppm;15;3\n00001.ppm;16;0\n"


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return made.getvalue()


@cache
def _signs(folder: Path) -> None:
    placed(folder, LABELS_ARCHIVE, zipped({LABELS: SIGNS}))


def _gtsrb_zip(content: bytes, folder: Path) -> object:
    _signs(folder)
    placed(folder, IMAGES_ARCHIVE, content)
    return GtsrbReader(count=2, side=8)("test", folder)


def _gtsrb_labels(content: bytes, folder: Path) -> object:
    placed(folder, IMAGES_ARCHIVE, sign_archives()[0])
    placed(folder, LABELS_ARCHIVE, content)
    return GtsrbReader(count=2, side=8)("test", folder)


def _gtsrb_folder(content: bytes, folder: Path) -> object:
    table = not content.startswith(b"P")
    placed(folder, f"gtsrb/{LABELS}", content if table else SIGNS)
    placed(folder, f"gtsrb/{IMAGES}/00000.ppm", ppm(15, 16) if table else content)
    placed(folder, f"gtsrb/{IMAGES}/00001.ppm", ppm(16, 15))
    return GtsrbReader(count=2, side=8)("test", folder)


@cache
def sign_archives() -> tuple[bytes, ...]:
    """Two images, packed in each way that is read."""
    members = {f"{IMAGES}/0000{number}.ppm": ppm(15 + number, 15) for number in range(2)}
    return zipped(members), zipped(members, zipfile.ZIP_STORED)


def damaged_zip(content: bytes, rng: random.Random) -> Damaged:
    """Bytes of an archive, or of a member that is then packed anew, so that its checksum is right."""
    if rng.random() < 0.4:
        return damaged_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    if rng.random() < 0.2:
        other = rng.choice(("../" + name, "/" + name, "", name.upper(), "x.npy", "é" * 200))
        members[other] = members.pop(name)
        return Damaged(zipped(members, method), f"{name} is called {other!r:.20}")
    inner = damaged_bytes(members[name], rng)
    made = zipped({**members, name: inner.content}, method)
    if rng.random() < 0.3:
        outer = damaged_bytes(made, rng)
        return Damaged(outer.content, f"method {method}; {name}: {inner.said}; {outer.said}")
    return Damaged(made, f"method {method}; {name}: {inner.said}")


def _tar(content: bytes, folder: Path) -> object:
    path = placed(folder, "in/t.tar.gz", content)
    download = Download(path.relative_to(folder).as_posix(), (), "", (("out/a.bin", ""), ("out/b.bin", "")), True)
    _unpack(download, Place("t", folder))
    written = {one for one in folder.rglob("*") if one.is_file()}
    if not written <= {path, folder / "out/a.bin", folder / "out/b.bin"}:
        raise RuntimeError(f"written elsewhere: {written}")
    return None


@cache
def tar_files() -> tuple[bytes, ...]:
    """Packed in two ways, and with links beside what is asked for."""
    found = []
    for mode in ("w", "w:gz"):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
            for name in ("out/a.bin", "out/b.bin", "../../out.bin"):
                one = tarfile.TarInfo(name)
                one.size = 100
                archive.addfile(one, io.BytesIO(bytes(100)))
            link = tarfile.TarInfo("out/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        found.append(made.getvalue())
    return tuple(found)


ROW = ["39", "Private", "77516", "Bachelors", "13", "Never-married", "Sales", "Husband", "White", "Male"]
ADULT = ", ".join([*ROW, "2174", "0", "40", "Cuba", "<=50K"]) + "\n"


def _adult(content: bytes, folder: Path) -> object:
    placed(folder, "adult/adult.data", content)
    reader = find_dataset("adult").read
    if not isinstance(reader, AdultReader) or len(ADULT.split(",")) != len(COLUMNS):
        raise TypeError("Adult is read by something else")
    return AdultReader(reader.encoding, (("train", 2),), reader.groups)("train", folder)


# Data of somebody's own


@cache
def archives() -> tuple[bytes, ...]:
    """Images, rows and tokens."""
    rng = np.random.default_rng(1)
    y = np.arange(40) % 2
    kinds: tuple[dict[str, Any], ...] = (
        {"x_train": rng.integers(0, 256, (40, 1, 8, 8), np.uint8), "y_train": y},
        {"x_train": rng.random((40, 3)), "y_train": y, "x_test": rng.random((9, 3)), "y_test": y[:9]},
        {"x_train": rng.integers(0, 30, (40, 5)), "y_train": y, "mask_train": rng.random((40, 5)) < 0.9},
        {"x_train": rng.random((40, 8, 8)), "y_train": np.eye(3)[np.arange(40) % 3], "x_ood": rng.random((4, 8, 8))},
        {"x_train": rng.random((40, 3)), "y_train": y, "group_train": y.astype(str)},
    )
    found = []
    for arrays in kinds:
        made = io.BytesIO()
        np.savez_compressed(made, **arrays)
        found.append(made.getvalue())
    return tuple(found)


CSV = "age,kind,y\n" + "".join(f"{20 + n % 7},{'ab'[n % 2]},{n % 3}\n" for n in range(40))


@cache
def parquet() -> tuple[bytes, ...]:
    """The same table."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    made = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(io.BytesIO(CSV.encode())), made)
    return (made.getvalue(),)


def _own(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    return lambda content, folder: read(placed(folder, name, content))


@cache
def pictures() -> tuple[bytes, ...]:
    """One image in every format."""
    found = []
    for form in ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF"):
        made = io.BytesIO()
        Image.frombytes("RGB", (6, 8), _pixels()[: 3 * 48]).save(made, form)
        found.append(made.getvalue())
    return tuple(found)


def _image(content: bytes, folder: Path) -> object:
    for number in range(5):
        placed(folder, f"images/a/{number}.png", pictures()[0])
        placed(folder, f"images/b/{number}.png", pictures()[0])
    placed(folder, "images/a/0.png", content)
    return ImageFolder(folder / "images").read()


def _weights(content: bytes, folder: Path) -> object:
    return weights_file(placed(folder, "w.safetensors", content)).misfit(nn.Linear(3, 2))


@cache
def weights() -> tuple[bytes, ...]:
    """Those of a layer."""
    return (safetensors.numpy.save({"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}),)


def damaged_weights(content: bytes, rng: random.Random) -> Damaged:
    """Bytes, or the header in which the tensors stand, with its length made to fit."""
    if rng.random() < 0.3:
        return damaged_bytes(content, rng)
    (length,) = struct.unpack("<Q", content[:8])
    header, said = json.loads(content[8 : 8 + length]), []
    for _ in range(rng.choice((1, 1, 2))):
        header, change = changed(header, rng)
        said.append(change)
    text = json.dumps(header).encode()
    size = rng.choice((len(text), len(text), len(text), 2**63, 2**64 - 1, len(text) + 1, 0, 10**9))
    return Damaged(struct.pack("<Q", size) + text + content[8 + length :], f"length {size}; {'; '.join(said)}")


TOLD = json.dumps({"schema": 1, "told": ["a-0", "b-0"], "verdicts": {"digits {wm}": "compatible"}}).encode()


TARGETS = (
    Target("study/bytes", lambda c, f: read_study(placed(f, "s.toml", c)), lambda: (STUDY.encode(),), damaged_bytes),
    Target("study/table", lambda c, f: study_from(_table(c), where="s.toml", folder=f), tables, damaged_json),
    Target("study/composed", _composed, tables, damaged_json),
    Target(
        "reference",
        lambda c, f: read_reference(placed(f, "numbers.json", c)),
        lambda: (json.dumps([PUBLISHED]).encode(),),
        damaged_json,
    ),
    Target("data/idx", _idx, idx_files, damaged_bytes),
    Target("data/cifar", _cifar, lambda: (batch(),), damaged_bytes),
    Target("data/gtsrb-zip", _gtsrb_zip, sign_archives, damaged_zip),
    Target("data/gtsrb-labels", _gtsrb_labels, lambda: (zipped({LABELS: SIGNS}),), damaged_zip),
    Target("data/gtsrb-folder", _gtsrb_folder, lambda: (SIGNS, ppm(15, 16)), damaged_bytes),
    Target("data/tar", _tar, tar_files, damaged_bytes),
    Target("data/adult", _adult, lambda: ((ADULT + ADULT).encode(),), damaged_bytes),
    Target("own/npz", _own("a.npz", lambda path: ArrayFile(path).read()), archives, damaged_zip),
    Target("own/csv", _own("t.csv", lambda path: TableFile(path, "y").read()), lambda: (CSV.encode(),), damaged_bytes),
    Target("own/parquet", _own("t.parquet", lambda path: TableFile(path, "y").read()), parquet, damaged_bytes),
    Target("own/image", _image, pictures, damaged_bytes),
    Target("weights", _weights, weights, damaged_weights),
    Target(
        "told",
        lambda c, f: told_before(Store(placed(f, "told.json", c).parent), "told.json"),
        lambda: (TOLD,),
        damaged_json,
    ),
)
