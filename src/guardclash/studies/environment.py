"""Versions and machine, for records."""

from __future__ import annotations

import platform
import subprocess
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from guardclash.numerics.attacks import has_bfloat16


@cache
def environment(device: str = "cpu") -> dict[str, str]:
    """Of the packages that numbers depend on, the processor, the device trained on, the commit of a source checkout."""
    packages = {name: _version(name) for name in ("guardclash", "torch", "numpy", "opacus")}
    return {
        **packages,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "processor": _processor(),
        **({"accelerator": torch.cuda.get_device_name(device)} if device != "cpu" else {}),
        "bfloat16": "native" if has_bfloat16() else "none",
        "commit": _commit(),
    }


def _version(package: str) -> str:
    """Of an installed package; a finished training must not be lost because a record cannot name one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """The commit of a source checkout; empty for an installed package."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    try:
        commit = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "."]).stdout.strip()
    except OSError:
        return ""
    return commit + ("+changes" if commit and changed else "")
