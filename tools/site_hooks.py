"""Hooks of the documentation site: pages that are made from the code, and links that leave the docs.

mkdocs calls `on_files` and `on_page_markdown`; see mkdocs.yml.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

import guardclash
from guardclash.registry import CONDITIONS, MEASURES, SUSPECTS, find_mechanisms, known
from guardclash.reporting.atlas import atlas, literature_from, to_markdown
from guardclash.reporting.card import card
from guardclash.reporting.markdown import escaped
from guardclash.reporting.tables import plain

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[([^\]\[]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
"""Text, target and anchor of a link to a file."""
FENCED = re.compile(r"(^```.*?^```$)", re.M | re.S)
"""A block of code."""
SITE = (".md", ".svg", ".png")
"""What the site itself holds of the docs."""


def named() -> dict[str, Mapping[str, type]]:
    """All that studies can name, by the title of its page."""
    return {
        "Mechanisms": find_mechanisms(),
        "Measures": known(MEASURES),
        "Conditions": known(CONDITIONS),
        "Suspects": known(SUSPECTS),
    }


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made: the start page from the README, and what the code says of itself."""
    from mkdocs.structure.files import File

    known = literature_from(ROOT / "studies/table9/literature.json")
    made = {"index.md": home(), "reference/python.md": interface()}
    made["atlas.md"] = to_markdown(atlas([ROOT / "studies"]), known)
    made |= {f"reference/{title.lower()}.md": reference(title) for title in named()}
    made["llms.txt"] = for_machines(made)
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A page whose links stay within the site; what they name outside of it is named, not linked."""
    return inside(markdown, posixpath.dirname(page.file.src_uri))


def home() -> str:
    """The README, as a page of the docs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return LINK.sub(lambda found: _moved(found), text)


def _moved(found: re.Match[str]) -> str:
    """A link of the README as one of a page in docs/."""
    text, target, anchor = found.groups()
    if ":" in target:
        return found.group()
    inner = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
    return f"[{text}]({inner}{anchor or ''})"


def inside(markdown: str, folder: str) -> str:
    """Text whose links to files that are not on the site are these files' names.

    Args:
        markdown: Of a page.
        folder: Of the page, within docs/.

    Raises:
        FileNotFoundError: If a link names a file that is nowhere.
    """

    def shown(found: re.Match[str]) -> str:
        text, target, _ = found.groups()
        if ":" in target or ("." not in target and "/" not in target):  # an address, or code within a line
            return found.group()
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/") and path.endswith(SITE):
            return found.group()
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{folder or '.'}: a link names {path}, which is not there")
        named_so = path.strip("/") in text or posixpath.basename(path) in text
        return text if named_so else f"{text} (`{path}`)"

    # Code is no text: an example may look like a link.
    parts = FENCED.split(markdown)
    return "".join(part if place % 2 else LINK.sub(shown, part) for place, part in enumerate(parts))


def for_machines(made: Mapping[str, str]) -> str:
    """The site's pages for programs that read texts (llmstxt.org): each with its heading and its first sentence."""
    written = {str(path.relative_to(ROOT / "docs")): path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")}
    lines = [
        "# guardclash",
        "",
        "> Which protections of a machine-learning model survive each other?",
        "",
        "## Pages",
        "",
    ]
    for path, text in sorted(
        {**written, **{name: text for name, text in made.items() if name.endswith(".md")}}.items()
    ):
        title, _, rest = text.lstrip().removeprefix("# ").partition("\n")
        said = re.split(r"(?<=[.?!])\s", " ".join(rest.strip().split("\n\n")[0].split()))[0]
        lines.append(f"- [{title}]({path.removesuffix('.md')}.html): {said}")
    return "\n".join(lines) + "\n"


def interface() -> str:
    """The Python interface: every public name with its docstring."""
    lines = ["# Python", "", "All of `import guardclash`, by the module that each name comes from.", ""]
    for module, names in guardclash._MODULES.items():
        for name in names:
            lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


def reference(title: str) -> str:
    """A page of all that studies can name of one kind."""
    found = named()[title]
    lines = [f"# {title}", "", f"What `guardclash list NAME` says of each, of the {len(found)} that there are.", ""]
    for name in sorted(found):
        lines += [f"## {name}", "", *_told(card(name, {title: found})), ""]
    return "\n".join(lines)


def _told(parts: Iterator[Any]) -> Iterator[str]:
    """A card as Markdown."""
    example = False
    for part in parts:
        if isinstance(part, Table):
            yield from _table(part)
        elif example:
            yield "\n".join(["```toml", *(line[2:] for line in Text.from_markup(part).plain.splitlines()), "```"])
        else:
            text = Text.from_markup(part).plain
            example = text == "In a study:"
            yield _prose(text)
        yield ""


def _prose(text: str) -> str:
    """A text in which code stands between backticks, on one line."""
    parts = " ".join(text.split()).split("`")
    return "".join(f"`{part}`" if place % 2 else _spaced(part) for place, part in enumerate(parts))


def _spaced(text: str) -> str:
    """Text as Markdown shows it, with the spaces at its ends."""
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}{escaped(text)}{after}" if text.strip() else text


def _table(table: Table) -> Iterator[str]:
    shown = plain(table)
    yield f"**{escaped(shown.title)}**"
    yield ""
    yield "| " + " | ".join(map(escaped, shown.columns)) + " |"
    yield "|---" * len(shown.columns) + "|"
    for row in shown.rows:
        yield "| " + " | ".join("<br>".join(map(_prose, cell.plain.splitlines())) for cell in row) + " |"
