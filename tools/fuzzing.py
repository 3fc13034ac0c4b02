"""Damaged inputs and what readers make of them: the parts of tools/fuzz.py. Deterministic: an input is its number."""

from __future__ import annotations

import json
import random
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from guardclash.errors import UserError

LIMIT_S = 20.0
"""Seconds of one input; more is told as `TooLong`."""


@dataclass(frozen=True)
class Damaged:
    """A damaged input."""

    content: bytes
    said: str
    """What was done to the sound one, for people."""


Damage = Callable[[bytes, random.Random], Damaged]


@dataclass(frozen=True)
class Target:
    """One reader, with what it is tried on. Files in `fuzz_targets` list theirs as `TARGETS`."""

    name: str
    """Such as "results/csv"; `--target results` picks all that begin so."""
    read: Callable[[bytes, Path], object]
    """Hands the content of a file to the reader; the folder is its own and stays from input to input. It returns if the
    reader takes it, and raises `UserError` if the reader refuses it; all else is a fault."""
    sound: Callable[[], tuple[bytes, ...]]
    """Sound inputs, which all damage begins with; each must be taken."""
    damage: Damage


class TooLong(BaseException):
    """An input took more than `LIMIT_S`; no `except Exception` of the reader may hide it."""


@dataclass
class Fault:
    """Something else than a `UserError`, at one place of the package."""

    place: str
    times: int
    number: int
    example: Damaged


@dataclass
class Found:
    """What came of one target."""

    target: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    """CPU seconds of one input."""
    largest: float = 0.0
    """MiB that one input took at most."""
    faults: dict[str, Fault] = field(default_factory=dict)

    @property
    def foreign(self) -> int:
        """Inputs of which something else came."""
        return sum(fault.times for fault in self.faults.values())


def tried(target: Target, inputs: int, seed: int, first: int = 0) -> Found:
    """Tries a target on so many inputs, from number `first` on.

    Raises:
        RuntimeError: A sound input is not taken, so that nothing would be tested.
    """
    found = Found(target.name)
    with tempfile.TemporaryDirectory(prefix="fuzz") as made:
        folder = Path(made)
        for content in target.sound():
            try:
                target.read(content, folder)
            except UserError as error:
                raise RuntimeError(f"{target.name}: a sound input is refused: {error}") from error
        for number in range(first, first + inputs):
            _try(target, made_input(target, number, seed), number, folder, found)
    return found


def made_input(target: Target, number: int, seed: int) -> Damaged:
    """The input of that number."""
    rng = random.Random(f"{seed} {target.name.partition('/')[0]} {number}")  # the same for all forms of one report
    return target.damage(rng.choice(target.sound()), rng)


def _try(target: Target, one: Damaged, number: int, folder: Path, found: Found) -> None:
    before, began = _resident("VmRSS"), time.process_time()
    _forget_peak()
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    found.inputs += 1
    try:
        target.read(one.content, folder)
        found.accepted += 1
    except UserError as error:
        if not _printable(error):
            _note(found, "a message that no terminal can print", number, one)
        found.refused += 1
    except (Exception, TooLong) as error:
        _note(found, _place(error), number, one)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    found.slowest = max(found.slowest, time.process_time() - began)
    found.largest = max(found.largest, _resident("VmHWM") - before)


def _note(found: Found, place: str, number: int, one: Damaged) -> None:
    known = found.faults.setdefault(place, Fault(place, 0, number, one))
    known.times += 1
    if len(one.said) < len(known.example.said):
        known.number, known.example = number, one


def _late(*_: object) -> None:
    raise TooLong


def _printable(error: UserError) -> bool:
    try:
        str(error).encode()
    except UnicodeEncodeError:
        return False
    return True


def _place(error: BaseException) -> str:
    """Kind of error, and the innermost line of the package."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "guardclash" in Path(one.filename).parts]
    if not frames:
        return f"{type(error).__name__}: {error}"[:100]
    last = frames[-1]
    file = "/".join(Path(last.filename).parts[-2:])
    return f"{type(error).__name__} {file}:{last.lineno} in {last.name}: {str(error)[:60]!a}".split(": ")[0]


def _resident(line: str) -> float:
    """MiB of this process, as Linux tells them; 0 elsewhere."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(text.split(f"{line}:")[1].split()[0]) / 1024


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


# Damage


def damaged_bytes(content: bytes, rng: random.Random) -> Damaged:
    """Flips, cuts, doubles, removes and inserts bytes."""
    said = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1) if rng.random() < 0.8 else min(len(content), rng.randrange(64))
        size = rng.choice((1, 1, 2, 4, 8, 64))
        name, change = rng.choice(BYTE_CHANGES)
        content = change(content, at, size, rng)
        said.append(f"{name} at {at} ({size})")
    return Damaged(content, "; ".join(said))


def _flip(content: bytes, at: int, size: int, rng: random.Random) -> bytes:
    part = bytes(byte ^ (1 << rng.randrange(8)) for byte in content[at : at + size])
    return content[:at] + part + content[at + size :]


SPECIAL = (
    b"\x00",
    b"\xff",
    b"\x80",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\x1b[31m",
    b"[" * 3000,
    b"{",
    b'"',
    b"\r",
    b"9" * 400,
)
BYTE_CHANGES: tuple[tuple[str, Callable[[bytes, int, int, random.Random], bytes]], ...] = (
    ("bits flipped", _flip),
    ("cut off", lambda content, at, size, rng: content[:at]),
    ("removed", lambda content, at, size, rng: content[:at] + content[at + size :]),
    ("doubled", lambda content, at, size, rng: content[: at + size] + content[at:]),
    ("inserted", lambda content, at, size, rng: content[:at] + rng.choice(SPECIAL) + content[at:]),
    ("random", lambda content, at, size, rng: content[:at] + rng.randbytes(size) + content[at + size :]),
)
RAW = {
    "deep": "[" * 3000 + "]" * 3000,
    "deep tables": '{"a":' * 3000 + "1" + "}" * 3000,
    "nested": "[" * 150 + "]" * 150,
    "digits": "9" * 5000,
    "large": "9" * 400,
    "infinite": "1e999",
    "NaN": "NaN",
    "Infinity": "-Infinity",
}
"""Tokens that no value of Python stands for, or none that is written back."""
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        0.5,
        -0.5,
        1e-320,
        1e308,
        -1e308,
        10**19,
        2**63,
        2**53 + 1,
        10**60,
        1000000,
        -0.0,
    ),
    *(
        "",
        "x",
        "0",
        "inf",
        "-inf",
        "nan",
        "\n",
        "\ud800",
        "\x00",
        "\x1b]0;owned\x07",
        "\u202e",
        "\x9b31m",
        "<b>",
        "[/]",
    ),
    *(
        "[/]",
        "[red]",
        "../../../../tmp/x",
        "/etc/passwd",
        "=1+1",
        "{{7*7}}",
        "\\input{x}",
        "|",
        "`",
        "é" * 300,
        "x" * 70000,
    ),
    *([], {}, [[]], [None], {"x": 1}, [1, 2], {"name": "x"}, {"ceiling": {"<b>": 1}}, [0.5] * 3000),
)
"""What may stand in the place of another value."""
Way = tuple[str | int, ...]
"""To a part of JSON data."""
TWIN, TOKEN = "\x02twin", "\x02raw "


def damaged_json(content: bytes, rng: random.Random) -> Damaged:
    """Changes one place of JSON data, sometimes a few, or its bytes."""
    if rng.random() < 0.1:
        return damaged_bytes(content, rng)
    data, said = json.loads(content), []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        data, change = changed(data, rng, _paths(content))
        said.append(change)
    return Damaged(_written(data), "; ".join(said))


def changed(data: Any, rng: random.Random, paths: tuple[Way, ...] = ()) -> tuple[Any, str]:
    """Tables and lists with one place changed, and what was done."""
    parent, name, path = _somewhere(data, rng, paths)
    if parent is None:
        value = rng.choice(VALUES)
        return value, f"all = {_short(value)}"
    way = rng.random()
    if way < 0.2:
        del parent[name]
        return data, f"{path} removed"
    if way < 0.3 and isinstance(parent, dict):
        other = rng.choice([*(value for value in VALUES if isinstance(value, str)), *parent])
        parent[other] = parent.pop(name)
        return data, f"{path} is called {_short(other)}"
    if way < 0.4:
        if isinstance(parent, dict):
            parent[name + TWIN] = _value(data, rng)
        else:
            parent.insert(name, json.loads(json.dumps(parent[name])))
        return data, f"{path} doubled"
    value = parent[name] = _value(data, rng)
    return data, f"{path} = {_short(value)}"


def _somewhere(data: Any, rng: random.Random, paths: tuple[Way, ...] = ()) -> tuple[Any, Any, str]:
    """A place, with its table or list. Half of them by walking down, so that rare large parts do not take them all."""
    steps = rng.choice(paths) if paths and rng.random() < 0.5 else ()
    parent, name, path = None, None, ""
    while isinstance(data, dict | list) and data and (parent is None or steps or rng.random() < 0.85):
        parent = data
        known = steps and (steps[0] in data if isinstance(data, dict) else steps[0] in range(len(data)))
        drawn = rng.choice(list(data)) if isinstance(data, dict) else rng.randrange(len(data))
        name, steps = (steps[0], steps[1:]) if known else (drawn, ())
        path += f".{name}" if isinstance(data, dict) else f"[{name}]"
        data = data[name]
        if known and not steps:
            break
    return parent, name, path.removeprefix(".")


@cache
def _paths(content: bytes) -> tuple[Way, ...]:
    """The way to every part of JSON data."""
    waiting: list[tuple[Any, Way]] = [(json.loads(content), ())]
    for value, path in waiting:
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(part, (*path, name)) for name, part in inside]
    return tuple(path for _, path in waiting[1:])


def _value(data: Any, rng: random.Random) -> Any:
    """A value to put somewhere: a hostile one, a token, or one that stands elsewhere in the same data."""
    way = rng.random()
    if way < 0.15:
        return TOKEN + rng.choice(list(RAW))
    if way < 0.35:
        parent, name, _ = _somewhere(data, rng)
        return json.loads(json.dumps(parent[name])) if parent is not None else None
    return json.loads(json.dumps(rng.choice(VALUES)))


def _written(data: Any) -> bytes:
    text = json.dumps(data).replace(json.dumps(TWIN)[1:-1], "")
    for name, token in RAW.items():
        text = text.replace(json.dumps(TOKEN + name), token)
    return text.encode()


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


# Tables


def table(found: list[Found]) -> Iterator[str]:
    """The lines of what came out: a row for each reader, then every fault with its smallest example."""
    yield f"{'reader':24}{'inputs':>8}{'accepted':>10}{'refused':>9}{'other':>7}{'longest':>10}{'memory':>10}"
    for one in found:
        counts = f"{one.inputs:8}{one.accepted:10}{one.refused:9}{one.foreign:7}"
        yield f"{one.target:24}{counts}{one.slowest:8.2f} s{one.largest:6.0f} MiB"
    for one in found:
        for fault in sorted(one.faults.values(), key=lambda fault: -fault.times):
            yield f"{one.target}: {fault.times} x {fault.place}; number {fault.number}: {fault.example.said}"


@cache
def targets() -> tuple[Target, ...]:
    """All that the files of `fuzz_targets` list, in the order of their names."""
    from importlib import import_module

    files = sorted(path.stem for path in (Path(__file__).parent / "fuzz_targets").glob("*.py"))
    return tuple(one for name in files for one in import_module(f"fuzz_targets.{name}").TARGETS)
