"""Files below a folder: written beside their place and renamed into it, whole or absent, and checked when read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardclash.errors import SiteError, UserError
from guardclash.studies.seal import sealed_json, unsealed_json

SCHEMA = 2
"""1 had no checksums: its files are read as they are."""
OURS = re.compile(r"[0-9a-f]{32}|.+\.(progress|measuring|claim|run)\.json")
"""What is left in `work/` by killed processes: a user may keep other things in a folder of that name."""


@dataclass(frozen=True)
class Files:
    """A folder; made on first use."""

    folder: Path
    """Given as a path or its text."""
    damaged: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """What was found damaged when it was read last, by its path below the folder: why. It counts as missing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def sealed(self, name: str, form: Mapping[str, Any]) -> dict[str, Any] | None:
        """The content of a sealed JSON file below the store, if it is there and not damaged.

        Args:
            name: Its path below the store.
            form: Types by name of what it must hold.
        """
        text = self._content(name)
        if text is None:
            return None
        content, why = _opened(text, f"{self.folder}/{name}")
        if content is not None:
            why = next((f"it has no {key}" for key, kind in form.items() if not isinstance(content.get(key), kind)), "")
        return content if self._fits(name, why) else None

    def _fits(self, name: str, why: str) -> bool:
        """Whether nothing is wrong with a file; notes what is."""
        if why:
            self.damaged[name] = why
        else:
            self.damaged.pop(name, None)  # made anew since
        return not why

    def keep_sealed(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a sealed JSON file below the store, whole or not at all."""
        self._replace(name, sealed_json(content))

    def keep_text(self, name: str, text: str) -> Path:
        """Writes a text file below the store, whole or not at all."""
        return self._replace(name, text.encode())

    def keep_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Writes a JSON file below the store without a checksum, whole or not at all: a note for the moment."""
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        return self._replace(name, text.encode(errors="replace"))

    def keep_first(self, name: str, content: Mapping[str, Any]) -> bool:
        """Writes a JSON file below the folder unless there is one, whole at once; returns whether it was the first.

        Where the folder cannot be written to, and on a file system without links, nobody is in the way.
        """
        taken = False
        with contextlib.suppress(SiteError), self._writing() as work:
            work.write_bytes(json.dumps(content).encode())
            try:
                os.link(work, self.folder / name)
            except FileExistsError:
                taken = True
        return not taken

    def forget_json(self, name: str) -> None:
        """Removes a JSON file below the store, if it is there and can be removed; old notes are swept later."""
        with contextlib.suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)

    def _content(self, name: str) -> bytes | None:
        """What a file holds, if there is one. Of large studies tens of thousands are read, so it is brief."""
        path = f"{self.folder}/{name}"
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SiteError(f"a result cannot be read: {error.strerror}", where=path) from error

    def _replace(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        with self._writing() as work:
            work.parent.mkdir(parents=True, exist_ok=True)
            work.write_bytes(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(work, path)
        return path

    def sweep_work(self, older_than_s: float = 86_400) -> None:
        """Removes what killed runs left half-written, and nothing that is not of a store."""
        for path in (self.folder / "work").glob("*"):
            with contextlib.suppress(OSError):
                if OURS.fullmatch(path.name) and time.time() - path.stat().st_mtime > older_than_s:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Path]:
        work = self.folder / "work" / uuid.uuid4().hex
        try:
            work.parent.mkdir(parents=True, exist_ok=True)
            yield work
        except OSError as error:
            mend = "Free some space or choose another store; the same command then continues."
            raise SiteError(f"a result cannot be written: {error.strerror}", where=self.folder, mend=mend) from error
        finally:
            if work.is_dir():
                shutil.rmtree(work, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    work.unlink(missing_ok=True)


def _opened(text: bytes, path: Path | str) -> tuple[dict[str, Any] | None, str]:
    """A JSON object of a file, or what is wrong with it.

    Raises:
        UserError: If it is of a newer schema.
    """
    content, why = unsealed_json(text, SCHEMA)
    if content is not None and content.get("schema", 1) > SCHEMA:
        raise UserError("a result of a newer version of guardclash", where=path, mend="Update guardclash.")
    return content, why
