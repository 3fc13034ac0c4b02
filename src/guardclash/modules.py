"""Modules of users' files and packages: loaded so that files of one name do not meet, and known by their source."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

from guardclash.errors import UserError
from guardclash.handed import content_of

DIGITS = 12
"""Hexadecimal digits of the hash of a source."""
MOST_BYTES = 10_000_000
"""Of a file of code."""


class Fresh(SourceFileLoader):
    """Runs the very bytes that it read, which `sha256` is of.

    Python's own takes compiled code that lies beside a file of this size and second: an edit that keeps both, as
    `cp -p`, `rsync -t` and archives do, would run the old code under the hash of the new one.
    """

    content: bytes | None = None

    def path_stats(self, path: str) -> dict[str, int]:
        """Unknown: then compiled code is neither looked for nor written."""
        raise OSError

    def get_data(self, path: str) -> bytes:
        """The file, read once."""
        if os.fspath(path) != self.path:
            return super().get_data(path)
        if self.content is None:
            self.content = content_of(Path(self.path), MOST_BYTES)
        return self.content

    @property
    def sha256(self) -> str:
        """Of its file, in hexadecimal digits."""
        return hashlib.sha256(self.get_data(self.path)).hexdigest()


class _FreshFinder:
    """Finds what lies in a folder as files that are loaded by `Fresh`."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """A module of the folder; None: it is elsewhere, or no file of Python."""
        found = PathFinder.find_spec(name, list(path) if path is not None else [str(self.folder)])  # type: ignore[call-overload]
        if found is None or type(found.loader) is not SourceFileLoader or not found.origin:
            return None
        if not Path(found.origin).resolve().is_relative_to(self.folder):
            return None
        found.loader = Fresh(name, found.origin)
        return found


def module_from(name: str, loader: Fresh) -> ModuleType:
    """The empty module that a file will become; `loader.exec_module` fills it."""
    spec = importlib.util.spec_from_file_location(name, loader.path, loader=loader)
    return importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # with a loader there is one


def module_of(place: str, folder: str = "") -> ModuleType:
    """A module by its name, looked for in a folder as well, or a file as a module, loaded anew once it was edited.

    Raises:
        UserError: There is none, or it cannot be imported.
    """
    if not place.endswith(".py"):
        try:
            with _importing(Path(folder)):
                return importlib.import_module(place)
        except Exception as error:
            raise UserError(f"a module cannot be imported: {told(error)}", where=place) from error
    known = _FILES.get(place)
    if known is None or _sum(known.files) != known.source:
        _FILES[place] = known = _loaded(Path(place))
    return known.module


@dataclass(frozen=True)
class _File:
    """A file as a module, with those beside it that it imported, as they were then."""

    module: ModuleType
    files: tuple[Path, ...]
    source: str


_FILES: dict[str, _File] = {}
"""By path; what has been edited since is loaded anew."""


def _loaded(path: Path) -> _File:
    try:
        name = f"guardclash_own_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
        if not os.path.isfile(path):
            raise UserError("a file cannot be read: there is none", where=path)
        loader = Fresh(name, str(path))
        module = module_from(name, loader)
        sys.modules[name] = module  # before it runs: dataclasses look their module up there
        with _alone(path.parent):
            loader.exec_module(module)
            files, sums = _files_of(module), _loaded_sums()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"a file cannot be imported: {told(error)}", where=line(path, error)) from error
    return _File(module, files, _sum(files, sums))


def _loaded_sums() -> dict[Path, str]:
    """Of the files that modules were loaded from by `Fresh`: what runs, also where a file was edited meanwhile."""
    specs = (getattr(module, "__spec__", None) for module in list(sys.modules.values()))
    loaders = (getattr(spec, "loader", None) for spec in specs)
    return {Path(one.path).resolve(): one.sha256 for one in loaders if isinstance(one, Fresh)}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets a file import those beside it, which nobody else gets: files of other folders may have the same names."""
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in names and _own(module)}
    for name in hidden:
        del sys.modules[name]
    before, finder = set(sys.modules), _FreshFinder(folder)
    place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0  # behind what is built in
    sys.meta_path.insert(place, finder)
    try:
        with _importing(folder):
            yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            if _own(sys.modules[name], folder):
                del sys.modules[name]
        sys.modules.update(hidden)


def _own(module: ModuleType, folder: Path = Path("/")) -> bool:
    """Whether a module is a file of somebody's, in a folder."""
    file = getattr(module, "__file__", None)
    path = Path(file).resolve() if file else None
    ours = path is None or path.is_relative_to(Path(__file__).parent) or installed(path)
    return path is not None and not ours and path.is_relative_to(folder.resolve())


@contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Lets modules be found in a folder."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def installed(path: Path) -> bool:
    """Whether a file belongs to an installed package, or to Python."""
    folders = (Path(sysconfig.get_paths()[kind]).resolve() for kind in ("purelib", "platlib", "stdlib"))
    return any(path.is_relative_to(folder) for folder in folders)


def source_of(module: ModuleType) -> str:
    """What says which code a module is: of an installed package its version, else a hash of its files."""
    known = next((one for one in _FILES.values() if one.module is module), None)
    if known is not None:
        return known.source
    file = getattr(module, "__file__", None)
    if file is None or installed(Path(file).resolve()):
        return _version(module.__name__.partition(".")[0])
    return _sum(_files_of(module))


def _files_of(module: ModuleType) -> tuple[Path, ...]:
    """The file of a module, and those beside it that it imports."""
    path = Path(str(module.__file__)).resolve()
    return tuple(sorted({path, *_beside(module, path.parent, {module.__name__})}))


def _sum(files: tuple[Path, ...], known: Mapping[Path, str] | None = None) -> str:
    """A hash of files, of some of which it is known; "" where one is gone."""
    try:
        sums = [(known or {}).get(one) or hashlib.sha256(one.read_bytes()).hexdigest() for one in files]
    except OSError:
        return ""
    if len(sums) == 1:
        return sums[0][:DIGITS]
    text = "".join(f"{one.name} {digits}\n" for one, digits in zip(files, sums, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _beside(module: ModuleType, folder: Path, seen: set[str]) -> Iterator[Path]:
    """The files in a folder that a module imports, and those that they import."""
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        other = sys.modules.get(name) if isinstance(name, str) else None
        file = getattr(other, "__file__", None)
        if other is None or not file or other.__name__ in seen:
            continue
        seen.add(other.__name__)
        path = Path(file).resolve()
        if path.is_relative_to(folder) and path.suffix == ".py":
            yield path
            yield from _beside(other, folder, seen)


@lru_cache
def _version(package: str) -> str:
    from importlib.metadata import packages_distributions, version

    names = packages_distributions().get(package)
    return f"{names[0]} {version(names[0])}" if names else package


def told(error: BaseException) -> str:
    """An error in words."""
    try:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception as other:  # somebody else's class
        said = f"({type(other).__name__} when asked for its text)"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def line(path: object, error: BaseException) -> str:
    """The place in a file from which an error came, as far as it is known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    lines += [error.lineno] if isinstance(error, SyntaxError) and error.filename == str(path) else []
    return f"{path}, line {lines[-1]}" if lines else str(path)
