"""Versions and machine, for records."""

from __future__ import annotations

import os
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
    """The commit of a source checkout; empty for an installed package, whatever repository that is installed in."""
    package = Path(__file__).resolve().parents[1]
    # No locks: the index of a repository is its owner's. No monitor: a repository can name any program as one.
    command = ["git", "-c", "core.fsmonitor=false"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = {**own, "GIT_OPTIONAL_LOCKS": "0"}
    git = partial(subprocess.run, cwd=package, capture_output=True, text=True, check=False, env=settings)
    try:
        top = git([*command, "rev-parse", "--show-toplevel"]).stdout.strip()
        if not top or not _is_checkout(Path(top), package):
            return ""
        commit = git([*command, "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        changed = git([*command, "status", "--porcelain", "--", "."]).stdout.strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return commit + ("+changes" if commit and changed else "")


def _is_checkout(top: Path, package: Path) -> bool:
    """Whether a repository is that of the package's source, and none that it is only installed in."""
    project = top / "pyproject.toml"
    if (top / "src" / "guardclash").resolve() != package or not project.is_file():
        return False
    return 'name = "guardclash"' in project.read_text(encoding="utf-8")
