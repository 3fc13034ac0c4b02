"""Does to runs what machines and people do to them, and compares what is left with an undisturbed run.

    python tools/torture.py               all, about ten minutes of two cores
    python tools/torture.py flips kills   some
    python tools/torture.py --short       a few of each; --shortest for tests

Prints a table: how often each was done, and what came out wrong; exit code 1 if anything did. It works in a temporary
folder, on the bundled digits. Needs fork, so not on Windows.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a forked child has no other threads

from guardclash.errors import SiteError
from guardclash.records.plain import to_plain
from guardclash.studies import jobs
from guardclash.studies.engines import Inline
from guardclash.studies.held import held
from guardclash.studies.inspection import inspected, repaired
from guardclash.studies.jobs import Site
from guardclash.studies.run import run_study
from guardclash.studies.store import Store
from guardclash.studies.study_file import read_study

STUDY = """
replicates = { alone = 2, together = 2 }
[[recipes]]
dataset = "digits"
scale = "smoke"
norm = "group"
[[combinations]]
mechanisms = ["wm", "dpsgd-control"]
[[combinations]]
mechanisms = ["wm", { name = "raddata", iterations = 2 }]
"""
POISONED = """
plugins = ["poison.py"]
replicates = { alone = 2, together = 2 }
[[recipes]]
dataset = "digits"
scale = "smoke"
norm = "group"
[[combinations]]
mechanisms = [{ name = "poison", how = "HOW" }, "dpsgd-control"]
"""
POISON = """
from __future__ import annotations
import os, signal, sys, time
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from guardclash.judging.criteria import MaxDrop, Metric
from guardclash.mechanism import Mechanism

def deed(how):
    if how == "exit": os._exit(7)
    if how == "SystemExit": sys.exit(0)
    if how == "KeyboardInterrupt": raise KeyboardInterrupt
    if how == "SIGSEGV": os.kill(os.getpid(), signal.SIGSEGV)
    if how == "SIGKILL": os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang": time.sleep(100_000)
    if how == "flood": print("x" * 20_000_000); raise RuntimeError("x" * 5_000_000)
    if how == "surrogate": raise RuntimeError("\\ud800")
    if how == "memory": return [bytearray(2**30) for _ in range(64)]
    if how == "recursion": return deed(how)
    if how == "signals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD): signal.signal(number, signal.SIG_IGN)
        raise RuntimeError("signals are mine")
    raise RuntimeError(how)

@dataclass(frozen=True)
class Poisoned:
    inner: Any
    how: str
    @property
    def size(self): return self.inner.size
    def load(self, context):
        if context.seed == 1: deed(self.how)
        return context.data(self.inner)

@dataclass(frozen=True)
class Poison(Mechanism):
    name: ClassVar[str] = "poison"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("luck", "luck", MaxDrop(0.1)),)
    how: str = ""
    def data(self, plan):
        return replace(plan, streams=(replace(plan.task, source=Poisoned(plan.task.source, self.how)),))
    def measure(self, trained, context): return {"luck": 1.0}
"""
LARGE = 2
DEEDS = (
    *("raise", "exit", "SystemExit", "KeyboardInterrupt", "SIGSEGV", "SIGKILL", "hang"),
    *("flood", "surrogate", "memory", "recursion", "signals"),
)
OPERATIONS = ((Path, "mkdir"), (Path, "write_bytes"), (Path, "rename"), (Path, "unlink"), (os, "replace"), (os, "link"))
"""What a store does to files."""


@dataclass
class World:
    """A folder, and what an undisturbed run leaves in it."""

    folder: Path
    chance: random.Random
    size: int
    undisturbed: Any = None
    keys: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def site(self, name: str) -> Site:
        """A store of that name."""
        return Site(Store(self.folder / name), self.folder / "data")

    def some(self, fewest: int, few: int, many: int) -> int:
        """How often something is done."""
        return (fewest, few, many)[self.size]

    def demand(self, holds: bool, what: str) -> None:
        """Notes what came out wrong."""
        if not holds:
            self.wrong.append(what)


def measured(site: Site, folder: Path) -> Any:
    """Every value of a study in a store, to the last bit; without times of day and durations."""
    results = held(read_study(folder / "study.toml"), site.store.folder, site.data_folder)
    cells = to_plain(results)["cells"] if results else []
    for cell in cells:
        for trial in cell["trials"]:
            trial["seconds"] = 0
    return cells


def finished(site: Site) -> dict[str, bytes]:
    """The records of all trials that are there."""
    return {path.parent.name: path.read_bytes() for path in site.store.folder.glob("trials/*/record.json")}


def in_child(act: Callable[[], Any]) -> int:
    """Does something in a forked process of its own; returns how that ended, as `os.waitstatus_to_exitcode` says."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 3
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        act()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr) if os.environ.get("TORTURE_TRACE") else None
    finally:
        os._exit(code)
    return code


def run(world: World, site: Site) -> None:
    """The study, in this process."""
    run_study(read_study(world.folder / "study.toml"), site, Inline())


def completed(world: World, site: Site, what: str) -> None:
    """Demands that one more run leaves what an undisturbed one leaves."""
    world.demand(in_child(lambda: run(world, site)) == 0, f"{what}: the run after it does not end well")
    world.demand(measured(site, world.folder) == world.undisturbed, f"{what}: other results than undisturbed")
    world.demand(not inspected(site.store).damaged, f"{what}: damage is left")


@contextmanager
def nth_operation(number: int, act: Callable[[], None], middle: bool = False) -> Iterator[None]:
    """Calls something before the n-th operation on files, and before every later one; or in the middle of a write."""
    count, usual = 0, {(module, name): getattr(module, name) for module, name in OPERATIONS}

    def patched(module: Any, name: str) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count >= number:
                if middle and name == "write_bytes":
                    usual[module, name](arguments[0], arguments[1][: len(arguments[1]) // 2])
                act()
            return usual[module, name](*arguments, **options)

        return operation

    for module, name in OPERATIONS:
        setattr(module, name, patched(module, name))
    try:
        yield
    finally:
        for (module, name), operation in usual.items():
            setattr(module, name, operation)


def killed(world: World, site: Site, number: int, middle: bool) -> None:
    """A run that is killed at an operation on files, or in the middle of it."""
    with nth_operation(number, partial(os.kill, os.getpid(), signal.SIGKILL), middle):
        run(world, site)


def kills_at_operations(world: World) -> int:
    """SIGKILL at one operation on files after another, each time going on with what is left."""
    done = stores = 0
    while done < (asked := world.some(3, 12, 300)):
        site, stores, code = world.site(f"killed{stores}"), stores + 1, -signal.SIGKILL
        while code and done < asked:
            before, number = finished(site), world.chance.randrange(1, 40)
            code = in_child(partial(killed, world, site, number, world.chance.random() < 0.5))
            world.demand(before.items() <= finished(site).items(), "killed: a finished trial is gone or another")
            world.demand(code in (0, -signal.SIGKILL), f"killed: ended with {code}")
            world.demand(not inspected(site.store).damaged, "killed: half a file counts as a result")
            done += bool(code)
        completed(world, site, "killed")
        shutil.rmtree(site.store.folder)
    return done


def failing(world: World, site: Site, number: int, code: int) -> None:
    """A run whose operations on files fail from one on."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    with nth_operation(number, fail):
        told(world, site)


def limited(world: World, site: Site, limit: int) -> None:
    """A run that may write no larger files."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    told(world, site)


def told(world: World, site: Site) -> None:
    """A run that ends its process with code 2 if it says that something cannot be written."""
    try:
        run(world, site)
    except SiteError as error:
        os._exit(2 if "cannot be written" in str(error) else 4)


def full_and_read_only_disks(world: World) -> int:
    """Every operation fails from some moment on: as on a disk that is full, read only, or broken."""
    codes = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT)
    ways: list[tuple[str, Callable[..., None], tuple[int, ...]]] = [
        (errno.errorcode[code], failing, (world.chance.randrange(1, 120), code))
        for code in world.chance.choices(codes, k=world.some(1, 3, 40))
    ]
    ways += [("file-size limit", limited, (limit,)) for limit in (10_000, 60_000)[: world.size]]
    for what, way, numbers in ways:
        site = world.site("disk")
        world.demand(in_child(partial(way, world, site, *numbers)) in (0, 2), f"{what}: not told as one message")
        world.demand(not inspected(site.store).damaged, f"{what}: half a file counts as a result")
        completed(world, site, what)
        shutil.rmtree(site.store.folder, ignore_errors=True)
    return len(ways)


KINDS = ("record.json", "history.jsonl", "weights.safetensors", "measurements", "data", "evidence", "studies")


def flips(world: World) -> int:
    """A bit of one file after another: named by whoever looks, made anew by the next run, and nothing else changes."""
    site, whole, done = world.site("flipped"), world.folder / "undisturbed", 0
    for kind in KINDS:
        for number in range(world.some(2, 4, 60)):
            shutil.copytree(whole, site.store.folder, dirs_exist_ok=True)
            files = [path for path in sorted(site.store.folder.rglob("*")) if path.is_file() and kind in str(path)]
            path = world.chance.choice(files)
            content = bytearray(path.read_bytes())
            content[world.chance.randrange(len(content))] ^= 1 << world.chance.randrange(8)
            path.write_bytes(content)
            found, name = inspected(site.store), path.relative_to(site.store.folder).as_posix()
            world.demand(name in found.damaged, f"flip in {kind}: not noticed")
            world.demand(len(found.damaged) == 1, f"flip in {kind}: others are blamed, {found.damaged}")
            done += 1
            if (number == 0 and world.size) or number % 10 == 9:  # a look costs nothing, and a run seconds
                if kind in ("weights.safetensors", "data"):  # nobody needs them, for all is measured
                    repaired(site.store, found)
                completed(world, site, f"flip in {kind}")
    completed(world, site, "flips")
    shutil.rmtree(site.store.folder)
    return done


def counted(world: World, site: Site, log: Path) -> None:
    """A run that writes down what it trains."""
    keep = jobs._keep

    def counting(trial: Any, *rest: Any) -> None:
        with log.open("a") as file:
            file.write(trial.key + "\n")
        keep(trial, *rest)

    jobs._keep = counting
    run(world, site)


def four_at_once(world: World) -> int:
    """Four runs on one store: they share the work, and the results are the same."""
    for _ in range(times := world.some(1, 1, 5)):
        site, log = world.site("shared"), world.folder / "trained.log"
        log.write_text("")
        pids = []
        for _ in range(4):
            pid = os.fork()
            if not pid:
                os._exit(0 if in_child(partial(counted, world, site, log)) == 0 else 1)
            pids.append(pid)
        codes = {os.waitpid(pid, 0)[1] for pid in pids}
        counts = Counter(log.read_text().split())
        world.demand(codes == {0}, "four at once: not all end well")
        world.demand(set(counts) == world.keys, "four at once: other trials")
        world.demand(sum(counts.values()) <= len(world.keys) + 1, f"four at once: {sum(counts.values())} trainings")
        completed(world, site, "four at once")
        shutil.rmtree(site.store.folder)
    return times


def command(world: World, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """The real command line, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from guardclash.cli.app import main; main()", *arguments],
        **{"cwd": world.folder, "start_new_session": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE},
        **options,
    )


def kills_of_processes(world: World) -> int:
    """The run, one of its workers or the helper of multiprocessing, by SIGKILL, SIGTERM or SIGINT, at any moment."""
    done = 0
    while done < world.some(1, 2, 60):
        site = world.site("processes")
        for _ in range(4):
            before = finished(site)
            process = command(world, "run", "study.toml", "--store", "processes", "--workers", "2", "--no-check")
            victim = world.chance.choice(["run", "run", "worker", "helper"])
            number = world.chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]) if victim == "run" else 9
            time.sleep(world.chance.uniform(2.0, 9.0))
            for pid in [process.pid] if victim == "run" else children(process.pid, helper=victim == "helper")[:1]:
                os.kill(pid, number)
            err = process.communicate(timeout=300)[1].decode()
            done += 1
            world.demand(before.items() <= finished(site).items(), f"{victim} killed: a finished trial is gone")
            world.demand("Traceback" not in err, f"{victim} killed by {number}: a traceback:\n{err}")
            if victim != "run":
                world.demand(process.returncode == 0, f"{victim} killed: exit code {process.returncode}")
        completed(world, site, "processes killed")
        shutil.rmtree(site.store.folder, ignore_errors=True)
    return done


def children(pid: int, helper: bool) -> list[int]:
    """Worker processes of a run, or the helper that multiprocessing starts beside them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            is_helper = b"resource_tracker" in (path / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid and is_helper == helper:
            found.append(int(path.name))
    return found


def poison(world: World) -> int:
    """Mechanisms that do their worst in two of eight trials, on the command line, with one worker and with two."""
    (world.folder / "poison.py").write_text(POISON)
    deeds = DEEDS if world.size == LARGE else [world.chance.choice(DEEDS)]
    done = 0
    for how in deeds:
        for workers in ("1", "2") if world.size == LARGE else ("2",):
            (world.folder / "poison.toml").write_text(POISONED.replace("HOW", how))
            more = ["--limit", "20"] if how == "hang" else []
            limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30,) * 2)) if how == "memory" else None
            process = command(
                world, "run", "poison.toml", "--store", "poisoned", "--workers", workers, *more, preexec_fn=limit
            )
            err = process.communicate(timeout=600)[1].decode(errors="replace")
            notes = [json.loads(path.read_text()) for path in (world.folder / "poisoned" / "failures").glob("*.json")]
            label = f"poison {how}, {workers} workers"
            world.demand(process.returncode == 1, f"{label}: exit code {process.returncode}:\n{err[-2000:]}")
            world.demand(len(notes) == 2, f"{label}: {len(notes)} failures are noted")
            kept = len(finished(world.site("poisoned")))
            world.demand(kept == 6, f"{label}: {kept} of 6 other trials are there")
            world.demand(len(err) < 60_000, f"{label}: {len(err)} letters on the terminal")
            shutil.rmtree(world.folder / "poisoned", ignore_errors=True)
            done += 1
    return done


TORTURES: dict[str, Callable[[World], int]] = {
    "kills": kills_at_operations,
    "disks": full_and_read_only_disks,
    "flips": flips,
    "shared": four_at_once,
    "processes": kills_of_processes,
    "poison": poison,
}


def torture(names: list[str], seed: int, size: int, folder: Path) -> list[tuple[str, int, list[str], float]]:
    """Does what is asked for; gives for each how often, what came out wrong, and seconds."""
    world = World(folder, random.Random(seed), size)
    (folder / "study.toml").write_text(STUDY if size else STUDY.replace("2, together = 2", "1, together = 1"))
    site = world.site("undisturbed")
    run(world, site)  # in this process: those that are forked from it need not import and read everything again
    world.undisturbed, world.keys = measured(site, folder), set(finished(site))
    told = []
    for name in names:
        start, world.wrong = time.monotonic(), []
        count = TORTURES[name](world)
        told.append((name, count, world.wrong, time.monotonic() - start))
    return told


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *TORTURES], help="which; by default all")
    parser.add_argument("--short", action="store_const", dest="size", const=1, default=LARGE, help="a few of each")
    parser.add_argument("--shortest", action="store_const", dest="size", const=0, help="one or two of each")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = torture(asked.names or list(TORTURES), asked.seed, asked.size, Path(folder))
    for name, count, wrong, seconds in told:
        print(f"{name:<10} {count:>5} times   {len(wrong)} wrong   {seconds:.0f} s")
        for what, times in Counter(wrong).items():
            print(f"    {times} x {what}")
    return int(any(wrong for _, _, wrong, _ in told))


if __name__ == "__main__":
    sys.exit(main())
