"""Checking the files of a data set."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

from guardclash.data.catalog import datasets
from guardclash.data.check import Finding, check
from guardclash.data.dataset import Dataset
from guardclash.data.files import Download
from guardclash.data.loading import load
from guardclash.data.space import Images
from test_data_idx import IMAGES, LABELS, READER, tiny_files, write_tiny

FILES = tuple(
    Download(f"{name}.gz", (), "sha256:0", contents=((name, hashlib.sha256(content).hexdigest()),))
    for name, content in tiny_files().items()
)
TINY = Dataset("tiny", "Tiny", Images((1, 4, 6)), 3, (("train", 5), ("test", 3)), READER, files=FILES)


def by_file(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.file: finding for finding in findings}


def test_official_files(tmp_path):
    for packed in (False, True):
        findings = check(TINY, write_tiny(tmp_path, packed))
        assert all(finding.ok for finding in findings)
        assert [finding.file for finding in findings[-2:]] == ["train split", "test split"]
        assert findings[0].file == (f"{IMAGES}.gz" if packed else IMAGES)
        assert all("identical to the official file" in finding.detail for finding in findings[:4])
        assert "5 images of 1x4x6, 3 classes" in findings[4].detail


def changed(folder: Path) -> Path:
    path = write_tiny(folder) / IMAGES
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    return folder


def test_a_changed_pixel_is_found_by_the_checksum_alone(tmp_path):
    findings = by_file(check(TINY, changed(tmp_path)))
    assert not findings[IMAGES].ok
    assert "checksum differs" in findings[IMAGES].detail
    assert "guardclash data fetch tiny" in findings[IMAGES].detail
    assert [name for name, finding in findings.items() if not finding.ok] == [IMAGES]


def test_stand_ins_are_told_but_not_refused(tmp_path):
    lenient = replace(TINY, files=tuple(replace(download, exact=False) for download in FILES))
    findings = by_file(check(lenient, changed(tmp_path)))
    assert findings[IMAGES].ok
    assert "not the official file" in findings[IMAGES].detail
    assert "identical" in findings[LABELS].detail
    assert "format and counts are right" in findings["train split"].detail


def test_an_archive_is_compared_as_it_is(tmp_path):
    write_tiny(tmp_path)
    known = hashlib.md5((tmp_path / LABELS).read_bytes(), usedforsecurity=False).hexdigest()
    as_is = (Download(LABELS, (), f"md5:{known}"), Download(IMAGES, (), "sha256:" + "0" * 64, exact=False))
    findings = check(replace(TINY, files=as_is), tmp_path)
    assert [finding.ok for finding in findings] == [True] * 4
    assert "identical" in findings[0].detail
    assert "not the official file" in findings[1].detail


def test_a_missing_file_fails_the_split_that_needs_it(tmp_path):
    write_tiny(tmp_path)
    (tmp_path / LABELS).unlink()
    findings = by_file(check(TINY, tmp_path))
    assert LABELS not in findings
    assert not findings["train split"].ok
    assert LABELS in findings["train split"].detail
    assert findings["test split"].ok


def test_a_damaged_file(tmp_path):
    write_tiny(tmp_path, packed=True)
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(tiny_files()[IMAGES])[:-3])
    findings = by_file(check(TINY, tmp_path))
    assert not findings[f"{IMAGES}.gz"].ok
    assert "damaged or cut short" in findings[f"{IMAGES}.gz"].detail
    assert not findings["train split"].ok


def test_no_folder(tmp_path):
    findings = check(TINY, tmp_path / "nowhere")
    assert [finding.ok for finding in findings] == [False, False]
    assert "data folder does not exist" in findings[0].detail


def test_checking_reads_the_files_again(tmp_path):
    load(TINY, "train", write_tiny(tmp_path))
    (tmp_path / IMAGES).unlink()
    assert not by_file(check(TINY, tmp_path))["train split"].ok


def test_bundled_data(tmp_path):
    findings = check(datasets()["digits"], tmp_path)
    assert [(finding.file, finding.ok) for finding in findings] == [
        ("train split", True),
        ("test split", True),
    ]
