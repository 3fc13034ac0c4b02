"""Fetching, from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from guardclash.data.catalog import datasets
from guardclash.data.check import check
from guardclash.data.dataset import Dataset
from guardclash.data.download import fetch
from guardclash.data.files import Download
from guardclash.data.loading import read
from guardclash.data.space import Images
from guardclash.errors import UserError
from test_data_idx import READER, tiny_files


@dataclass
class Server:
    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.asked.append(self.path)
            content = serving.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if content:
                self.wfile.write(content[: len(content) // 2] if self.path in serving.cut else content)

        def log_message(self, *rest: object) -> None:
            pass

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        serving = Server(f"http://127.0.0.1:{listening.server_address[1]}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        listening.shutdown()
        thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


PACKED = {name: gzip.compress(content, mtime=0) for name, content in tiny_files().items()}
NAMES = list(PACKED)
RAW = "TINY/raw"


def tiny(server: Server, mirrors: tuple[str, ...] = ("a", "b")) -> Dataset:
    """A data set of four gzip files on the mirrors /a/ and /b/ of the server."""
    files = tuple(
        Download(
            f"{name}.gz",
            tuple(f"{server.address}/{mirror}/{Path(name).name}.gz" for mirror in mirrors),
            f"sha256:{sha256(content)}",
            contents=((name, sha256(tiny_files()[name])),),
        )
        for name, content in PACKED.items()
    )
    sizes = (("train", 5), ("test", 3))
    return Dataset("tiny", "Tiny", Images((1, 4, 6)), 3, sizes, READER, files=files)


def serve(server: Server, mirror: str, names: list[str] = NAMES) -> None:
    server.files |= {f"/{mirror}/{Path(name).name}.gz": PACKED[name] for name in names}


def on_disk(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_all_files_come_and_can_be_read(server, tmp_path):
    serve(server, "a")
    folder = tmp_path / "new" / "folder"
    findings = fetch(tiny(server), folder, progress=False)
    assert [finding.file for finding in findings] == [f"{name}.gz" for name in NAMES]
    assert all(finding.ok and "downloaded from" in finding.detail for finding in findings)
    assert on_disk(folder) == {f"{name}.gz" for name in NAMES}
    assert all(finding.ok for finding in check(tiny(server), folder))
    assert read(tiny(server), "train", folder).x.shape == (5, 1, 4, 6)


def test_a_terminal_shows_progress(server, tmp_path, monkeypatch, capsys):
    serve(server, "a")
    fetch(tiny(server), tmp_path / "quiet")
    assert "%" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fetch(tiny(server), tmp_path / "shown")
    assert "100%" in capsys.readouterr().err


def test_files_can_be_read_by_others(server, tmp_path):
    serve(server, "a")
    fetch(tiny(server), tmp_path, progress=False)
    assert {path.stat().st_mode & 0o444 for path in (tmp_path / RAW).iterdir()} == {0o444}


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    serve(server, "a")
    fetch(tiny(server), tmp_path, progress=False)
    server.asked.clear()
    findings = fetch(tiny(server), tmp_path, progress=False)
    assert server.asked == []
    assert all("already there" in finding.detail for finding in findings)


def test_files_without_gzip_or_packed_otherwise_count_as_there(server, tmp_path):
    (tmp_path / RAW).mkdir(parents=True)
    (tmp_path / NAMES[0]).write_bytes(tiny_files()[NAMES[0]])
    (tmp_path / f"{NAMES[1]}.gz").write_bytes(gzip.compress(tiny_files()[NAMES[1]], 1))
    serve(server, "a")
    fetch(tiny(server), tmp_path, progress=False)
    assert server.asked == [f"/a/{Path(name).name}.gz" for name in NAMES[2:]]


def test_the_next_mirror_serves_when_the_first_has_nothing(server, tmp_path):
    serve(server, "b")
    findings = fetch(tiny(server), tmp_path, progress=False)
    assert all(f"downloaded from {server.address}/b/" in finding.detail for finding in findings)


def test_the_next_mirror_serves_when_the_first_gives_other_bytes(server, tmp_path):
    serve(server, "a")
    serve(server, "b")
    server.files[f"/a/{Path(NAMES[0]).name}.gz"] = gzip.compress(b"something else")
    findings = fetch(tiny(server), tmp_path, progress=False)
    assert "/b/" in findings[0].detail
    assert "/a/" in findings[1].detail
    assert (tmp_path / f"{NAMES[0]}.gz").read_bytes() == PACKED[NAMES[0]]


def test_the_next_mirror_serves_when_the_first_breaks_off(server, tmp_path):
    serve(server, "a")
    serve(server, "b")
    server.cut = {path for path in server.files if path.startswith("/a/")}
    assert all("/b/" in finding.detail for finding in fetch(tiny(server), tmp_path, progress=False))


def test_the_next_mirror_serves_when_the_first_is_not_there(server, tmp_path):
    serve(server, "b")
    nobody = "http://127.0.0.1:9"  # the discard port: nothing listens
    dataset = tiny(server, ("b",))
    files = tuple(replace(file, urls=(f"{nobody}/x.gz", *file.urls)) for file in dataset.files)
    findings = fetch(replace(dataset, files=files), tmp_path, progress=False)
    assert all("/b/" in finding.detail for finding in findings)


@pytest.mark.parametrize("fault", ["cut", "other bytes"])
def test_wrong_bytes_never_get_the_final_name(server, tmp_path, fault):
    serve(server, "a")
    path = f"/a/{Path(NAMES[0]).name}.gz"
    server.files[path] = server.files[path] if fault == "cut" else b"other bytes"
    server.cut = {path} if fault == "cut" else set()
    with pytest.raises(UserError, match="no mirror gave the right file") as caught:
        fetch(tiny(server), tmp_path, progress=False)
    assert on_disk(tmp_path) == set()
    for part in (f"{server.address}{path}", f"{server.address}/b/", "404", NAMES[0], sha256(PACKED[NAMES[0]])):
        assert part in str(caught.value)


def test_running_again_goes_on_where_it_stopped(server, tmp_path):
    serve(server, "a", NAMES[:2])
    with pytest.raises(UserError, match="no mirror gave the right file"):
        fetch(tiny(server), tmp_path, progress=False)
    assert on_disk(tmp_path) == {f"{name}.gz" for name in NAMES[:2]}
    serve(server, "a")
    server.asked.clear()
    fetch(tiny(server), tmp_path, progress=False)
    assert server.asked == [f"/a/{Path(name).name}.gz" for name in NAMES[2:]]


def test_a_damaged_file_is_replaced_and_only_it(server, tmp_path):
    serve(server, "a")
    fetch(tiny(server), tmp_path, progress=False)
    damaged = tmp_path / f"{NAMES[1]}.gz"
    damaged.write_bytes(PACKED[NAMES[1]][:-4])
    server.asked.clear()
    fetch(tiny(server), tmp_path, progress=False)
    assert server.asked == [f"/a/{Path(NAMES[1]).name}.gz"]
    assert damaged.read_bytes() == PACKED[NAMES[1]]


def test_a_damaged_file_stays_when_there_is_nothing_better(server, tmp_path):
    (tmp_path / RAW).mkdir(parents=True)
    damaged = tmp_path / f"{NAMES[0]}.gz"
    damaged.write_bytes(b"damaged")
    with pytest.raises(UserError):
        fetch(tiny(server), tmp_path, progress=False)
    assert damaged.read_bytes() == b"damaged"


def test_fetching_mends_a_damaged_file_without_gzip(server, tmp_path):
    (tmp_path / RAW).mkdir(parents=True)
    (tmp_path / NAMES[0]).write_bytes(b"damaged")
    serve(server, "a")
    fetch(tiny(server), tmp_path, progress=False)
    assert read(tiny(server), "train", tmp_path).x.shape == (5, 1, 4, 6)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    serve(server, "a")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(tiny(server), tmp_path / "file", progress=False)


def test_a_folder_in_the_place_of_a_file(server, tmp_path):
    serve(server, "a")
    (tmp_path / f"{NAMES[0]}.gz").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"):
        fetch(tiny(server), tmp_path, progress=False)


def tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def packed_dataset(server: Server, archive: bytes) -> Dataset:
    contents = tuple((name, sha256(content)) for name, content in tiny_files().items())
    file = Download("tiny.tar.gz", (f"{server.address}/tiny.tar.gz",), f"sha256:{sha256(archive)}", contents)
    server.files["/tiny.tar.gz"] = archive
    return replace(tiny(server), files=(replace(file, unpack=True, exact=False),))


def test_an_archive_is_unpacked(server, tmp_path):
    extra = {"../outside": b"no", "TINY/extra": b"not asked for"}
    dataset = packed_dataset(server, tar(tiny_files() | extra))
    (finding,) = fetch(dataset, tmp_path / "data", progress=False)
    assert "unpacked" in finding.detail
    assert on_disk(tmp_path) == {"data/tiny.tar.gz"} | {f"data/{name}" for name in NAMES}
    assert all(finding.ok and "not the official" not in finding.detail for finding in check(dataset, tmp_path / "data"))

    (tmp_path / "data" / NAMES[2]).write_bytes(b"damaged")
    server.asked.clear()
    fetch(dataset, tmp_path / "data", progress=False)
    assert server.asked == []  # the archive was still there
    assert (tmp_path / "data" / NAMES[2]).read_bytes() == tiny_files()[NAMES[2]]


def test_an_archive_that_lacks_a_member(server, tmp_path):
    lacking = {name: content for name, content in tiny_files().items() if name != NAMES[3]}
    with pytest.raises(UserError, match=f"cannot be unpacked .*{NAMES[3]}"):
        fetch(packed_dataset(server, tar(lacking)), tmp_path, progress=False)
    assert not [name for name in on_disk(tmp_path) if name.endswith(".part")]


def test_an_archive_that_is_none(server, tmp_path):
    with pytest.raises(UserError, match="cannot be unpacked"):
        fetch(packed_dataset(server, b"no archive"), tmp_path, progress=False)


def test_bundled_data_need_nothing(tmp_path):
    assert fetch(datasets()["digits"], tmp_path / "missing") == []
    assert not (tmp_path / "missing").exists()
