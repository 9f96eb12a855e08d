"""The snippets of the documentation, and what their pages say about them: see `test_docs`.

A page is read twice: by the test, which has to know what there is, and by `doc_runner`, which runs
it in a process of its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECORDS = ROOT / "docs" / "records.db"

# What a README shows looks bad with comments in between where its source is read: what they would
# say is here, by the number of the block.
README_MARKS: dict[int, list[str]] = {
    0: ["stop after 3 lines"],
    1: ["not run: the demo has tests of its own, and the installation is part of every run"],
    2: ["not run: this is how these tests are run"],
    3: ["setup\nfrom anyio import sleep_forever\ncallback = print", "forms"],
}

RUN = {"python", "console"}
SHOWN = {"text", "output", "toml", "ini", "json"}
# Directives with code in them would escape.
HIDING = {"code", "code-block", "code-cell", "sourcecode", "prompt"}

_MARKS = {
    "not_run": r"not run: (?P<not_run>.+)",
    "under": r"under (?P<under>asyncio|trio)",
    "stop": r"stop after (?P<stop>\d+) lines?",
    "raises": r"raises (?P<raises>\w+)",
    "file": r"file: (?P<file>[\w./-]+)",
    "status": r"exits with (?P<status>\d+)",
    "forms": r"(?P<forms>forms)",
    "setup": r"setup\n(?P<setup>.+)",
    "page": r"page: (?P<page>asyncio|trio|ipython)",
    "records": r"records\n(?P<records>.+)",
    "vary": r"(?P<vary>digits vary)",
    "note": r"note: (?P<note>.+)",
}
_OF_OUTPUT = {"vary"}
_OF_PAGE = {"page", "records", "note"}


class PageError(Exception):
    """A page says something about its snippets that is not understood."""


@dataclass
class Block:
    """A snippet.

    Attributes:
        index: its number on the page.
        kind: ``python``, ``console``, or ``setup`` for what readers do not see.
        line: the one before its first.
        marks: what the page says about it.
        expected: the output that the page shows, if it shows any.
        digits_vary: whether any number will do where the page shows one.
    """

    index: int
    kind: str
    line: int
    source: str
    marks: dict[str, str] = field(default_factory=dict)
    expected: str | None = None
    digits_vary: bool = False

    def backends(self) -> set[str]:
        """The backends that it is for: what it shows, or else any."""
        if "under" in self.marks:
            return {self.marks["under"]}
        shown = set() if self.kind == "console" else _backends_shown(self.source)
        return shown or {"asyncio", "trio"}

    def printed(self, output: str) -> bool:
        """Whether this output is what the page shows, if it shows any."""
        return self.expected is None or matches(self.expected, output, self.digits_vary)


@dataclass
class Page:
    """A page, its snippets in order, and the records that it needs beside the common ones."""

    path: Path
    blocks: list[Block]
    passes: tuple[str, ...]
    records: str = ""

    def to_run(self, backend: str) -> list[Block]:
        """What is to be run in one pass. What is not of a backend, once only."""
        found = []
        for block in self.blocks:
            once = block.kind == "console" or "file" in block.marks
            if "not_run" in block.marks or (once and backend != self.passes[0]):
                continue
            if backend == "ipython" or backend in block.backends():
                found.append(block)
        return found


def read(path: Path) -> Page:
    """The snippets of a page; PageError if anything could be neither run nor left out."""
    marks_of_readme = README_MARKS if path == ROOT / "README.md" else {}
    return parse(path.read_text(encoding="utf-8"), path, marks_of_readme)


def parse(text: str, path: Path, given: dict[int, list[str]] | None = None) -> Page:
    page = Page(path, [], ("asyncio", "trio"))
    pending: dict[str, str] = {}
    shown = 0
    for kind, line, info, content in _tokens(text):
        try:
            if kind == "comment":
                _take_mark(page, pending, content, line)
                continue
            language = "" if kind == "text" else _language(kind, info, content, path)
            if language in RUN:
                for mark in (given or {}).get(shown, []):
                    _take_mark(page, pending, mark, line)
                shown += 1
                page.blocks.append(Block(len(page.blocks), language, line, content, pending))
                pending = {}
            elif language == "output":
                _take_output(page, content, pending)
                pending = {}
            elif pending:
                raise PageError(f"marks {sorted(pending)} that are followed by no snippet")
        except PageError as error:
            raise PageError(f"{path}:{line}: {error}") from None
    return page


def _tokens(text: str) -> Iterator[tuple[str, int, str, str]]:
    """Fences, indented blocks and comments, and the text between them."""
    for token in MarkdownIt("commonmark").parse(text):
        line = token.map[0] + 1 if token.map else 0
        if token.type in ("fence", "code_block"):
            yield token.type, line, token.info.strip(), token.content
        elif token.type == "html_block" and token.content.lstrip().startswith("<!--"):
            yield "comment", line, "", token.content.strip()[4:].removesuffix("-->").strip()
        elif token.type in ("inline", "html_block"):
            yield "text", line, "", token.content


def _language(kind: str, info: str, content: str, path: Path) -> str:
    if kind == "code_block":
        if path.name == "README.md":
            return "console"
        raise PageError("an indented block: say in a fence which language it is")
    directive = re.match(r"\{([\w-]+)\}", info)
    if directive:
        if directive[1] in HIDING or "```" in content:
            raise PageError(f"{info} would hide a snippet: use a plain fence, or :::")
        return ""
    if info not in RUN | SHOWN:
        raise PageError(f"a fence of {info!r}: it must be one of {sorted(RUN | SHOWN)}")
    return info


def _take_mark(page: Page, pending: dict[str, str], text: str, line: int) -> None:
    for name, pattern in _MARKS.items():
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found is None:
            continue
        value = found[name]
        if name == "page":
            page.passes = (value,)
        elif name == "records":
            page.records += value + "\n"
        elif name == "setup":
            page.blocks.append(Block(len(page.blocks), "setup", line, value))
        elif name not in _OF_PAGE:
            pending[name] = value
        return
    raise PageError(f"a comment that means nothing: {text!r}")


def _take_output(page: Page, content: str, pending: dict[str, str]) -> None:
    if not page.blocks or page.blocks[-1].kind != "python":
        raise PageError("output of no snippet")
    if pending.keys() - _OF_OUTPUT:
        raise PageError(f"of an output one cannot say {sorted(pending.keys() - _OF_OUTPUT)}")
    page.blocks[-1].expected = content
    page.blocks[-1].digits_vary = "vary" in pending


def _backends_shown(source: str) -> set[str]:
    """Whether the code names asyncio or trio."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # backend="trio"
    return found & {"asyncio", "trio"}


# -- Output ----------------------------------------------------------------------------------------


def matches(expected: str, actual: str, digits_vary: bool) -> bool:
    """Whether output is as shown: ``...`` is any text in a line, and alone any lines."""
    pattern = "".join(_line_pattern(line, digits_vary) for line in _lines(expected))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(actual))) is not None


def _lines(text: str) -> Sequence[str]:
    return [line.rstrip() for line in text.strip("\n").split("\n")]


def _line_pattern(line: str, digits_vary: bool) -> str:
    if line == "...":
        return r"(?:.*\n)*"
    pattern = ".*".join(re.escape(part) for part in line.split("..."))
    if digits_vary:
        pattern = re.sub(r"\d+", r"\\d+", pattern)
    return pattern + r"\n"


def commands(source: str) -> list[tuple[str, str]]:
    """The commands of a console block, and the output shown for each."""
    found: list[tuple[str, str]] = []
    continued = False
    for line in source.splitlines():
        if line.startswith("$ ") or continued:
            text = line[2:] if not continued else found.pop()[0] + "\n" + line
            found.append((text, ""))
            continued = line.endswith("\\")
        elif found:
            found[-1] = found[-1][0], found[-1][1] + line + "\n"
        else:
            raise PageError(f"a console block begins with '$ ', not {line!r}")
    return found
