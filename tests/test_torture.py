"""What machines and people do to runs, a little of each: `make torture` does all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "torture.py"


def tortured(*arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_and_flips_leave_what_an_undisturbed_run_leaves():
    told = tortured("--shortest", "kills", "flips")
    assert [line.split()[0] for line in told.splitlines()] == ["kills", "flips"]
    assert all(" 0 wrong" in line for line in told.splitlines())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_few_of_all_tortures():
    assert len(tortured("--short").splitlines()) == 6
