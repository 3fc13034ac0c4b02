"""Builds a release, tries the wheel as installed on each Python at hand, and says what is left for a person.

python tools/release.py                    python3.11, python3.12 and python3.13, as far as they are there
python tools/release.py --python PATH      this one only
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
PYTHONS = ("python3.11", "python3.12", "python3.13")
HELD = ("py.typed", "reporting/page_parts/page.html", "reporting/page_parts/page.css", "cli/demo_parts/digits.toml")
"""What is no Python and must be in the wheel."""
TRIED = (
    ("--version",),
    ("list", "wm"),
    ("demo", "--scale", "smoke", "--workers", "2"),
    ("check", "{demo}"),
)
"""Commands that an installed wheel is tried by."""


def run(*command: str | Path, where: Path = ROOT) -> str:
    """Runs a command; its output.

    Raises:
        SystemExit: If it fails.
    """
    said = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{said.stdout}{said.stderr}")
    return said.stdout


def built(python: str) -> Path:
    """The wheel, made anew together with the source archive."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        own = Path(folder) / "bin/python"
        run(own, "-m", "pip", "install", "--quiet", "build")
        run(own, "-m", "build", "--outdir", DIST, ROOT)
    (wheel,) = DIST.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [name for name in HELD if f"guardclash/{name}" not in names]
    if missing:
        raise SystemExit(f"{wheel.name} lacks {', '.join(missing)}")
    return wheel


def tried(python: str, wheel: Path) -> None:
    """Installs the wheel into an environment of its own, and runs commands elsewhere than in the clone."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(python, "-m", "venv", place / "env")
        run(place / "env/bin/python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
        (place / "elsewhere").mkdir()
        (demo,) = (place / "env/lib").rglob("guardclash/cli/demo_parts/digits.toml")
        for command in TRIED:
            given = [part.format(demo=demo) for part in command]
            run(place / "env/bin/guardclash", *given, where=place / "elsewhere")
            print(f"{python}: guardclash {' '.join(command)}", flush=True)


def left(version: str) -> list[str]:
    """What only a person can do, or must decide. The wheel's version follows from the newest tag."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    told = re.search(r"^## \[(\d[^\]]*)\]", changes, re.M)
    newest = told[1] if told else "0.1.0"
    unreleased = changes.partition("## [Unreleased]")[2].partition("\n## [")[0].strip()
    todo = ["commit what is not committed"] if run("git", "status", "--porcelain").strip() else []
    if unreleased:
        todo.append("CHANGELOG.md: give what stands under [Unreleased] a version and a date")
    if f"v{newest}" not in run("git", "tag").split():
        todo.append(f"git tag v{newest}")
    if version != newest:
        return [*todo, f"make release again: this wheel is {version}, which is not for publishing"]
    return [*todo, "git push --tags", "twine upload dist/*"]


def main() -> int:
    """Builds, tries, says what is left."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--python", action="append", help="an interpreter to try; may be repeated")
    pythons = asked.parse_args().python or [one for one in PYTHONS if shutil.which(one)] or [sys.executable]
    wheel = built(pythons[0])
    version = wheel.name.split("-")[1]
    print(f"built {wheel.relative_to(ROOT)}", flush=True)
    for python in pythons:
        tried(python, wheel)
    print("Left for a person:", *(f"  {one}" for one in left(version)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
