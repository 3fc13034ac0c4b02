"""Worker processes: what they give back after a job."""

import os
import platform
from pathlib import Path

import pytest

from guardclash.studies.engines import processes


def fill_and_free(megabytes):
    """Takes memory in pieces, frees them below one that stays until the end, as batches of many sizes do."""
    pieces = [bytearray(2**20) for _ in range(megabytes)]
    top = bytearray(2**20)
    del pieces
    return resident(), len(top)


def resident():
    """Megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to give memory back")
def test_a_worker_gives_its_free_memory_back_after_a_job():
    with processes(1) as pool:
        before = pool.submit(resident).result()
        during, _ = pool.submit(fill_and_free, 400).result()
        after = pool.submit(resident).result()
    assert during > before + 300, "freed memory stays in the process during a job: that is faster"
    assert after < before + 50
