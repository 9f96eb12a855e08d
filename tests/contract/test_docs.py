"""Every snippet of the documentation runs against a soft IOC and prints what its page shows.

How a page marks its snippets
-----------------------------

Each page, and the README, runs in its own process, with its own soft IOC, which has the records of
``docs/records.db``. A page runs in two passes: once under asyncio and once under trio. Its snippets
run in order, in one namespace, like the cells of a notebook. These fences are run:

- ``python``. A snippet may have ``await`` outside of functions; it then runs in an event loop of
  the pass. A complete program runs unchanged; ``aioca.run(main())`` uses trio in the trio pass. A
  snippet that names asyncio runs only in the asyncio pass, and one that names trio only in the trio
  pass.
- ``console``. Lines with ``$ `` are commands, the lines after a command are its output. They run
  once, in their own directory.

``output`` after a python snippet is its output on both streams. In output, ``...`` stands for any
text in a line, and a line of ``...`` for any lines. ``text``, ``toml``, ``ini`` and ``json`` are
not run. Any other language, an indented block, or code in a directive is an error.

HTML comments, which readers do not see, give further instructions. Right before a snippet::

    <!-- not run: REASON -->         it is not run; a reason is needed
    <!-- under trio -->              it runs in this pass only: trio or asyncio
    <!-- stop after 3 lines -->      it does not end: Ctrl-C after 3 lines of output
    <!-- raises CATimeout -->        it ends with this error, whose message is its last output
    <!-- file: conftest.py -->       it is not run, but written to this file, for a later command
    <!-- exits with 2 -->            for a console block: the exit status of all its commands
    <!-- forms -->                   each statement runs by itself for 0.3 s, in a loop with a task
                                     group `tg`

Right before an output, or a console block::

    <!-- digits vary -->             each digit stands for any digits

Anywhere::

    <!-- setup                       Python that readers do not see, run at this place. It can use
    ...                              `ioc`, the `SoftIoc`, and `when_printed(n, action)`: run the
    -->                              action in a thread when the next snippet has printed n lines
    <!-- page: trio -->              the page runs in this pass only: asyncio, trio or ipython (its
                                     snippets are then cells of IPython)
    <!-- records                     further records
    record(ao, "X") {}
    -->
    <!-- note: for whoever edits the page -->

A comment that is none of these is an error. `run_page` is one pass of a page. To try one page::

    pytest -n0 tests/contract/test_docs.py -k backpressure
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import aioca.blocking
import aioca.notebook
import aioca.snapshot
import aioca.testing
import aioca.types
from aioca import (
    DBR_CHAR,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_FLOAT,
    DBR_LONG,
    DBR_SHORT,
    DBR_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
)
from aioca._values import decode
from tests.support import doc_pages
from tests.support.doc_pages import PAGES, ROOT, Block, PageError, matches, parse, read
from tests.support.forks import Fork, can_fork

AT_ONCE = 6  # pages at a time: they mostly wait
RUNNER = "tests.support.doc_runner"
Job = tuple[Path, str]


def jobs() -> Iterator[Any]:
    """The passes of each page in which there is something to run."""
    for path in PAGES:
        try:
            page = read(path)
        except PageError:
            continue  # test_nothing_is_left_out reports this
        for backend in page.passes:
            if page.to_run(backend):
                yield pytest.param((path, backend), id=f"{path.relative_to(ROOT)}-{backend}")


def run_page(job: Job, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Run one pass of a page; return the results of its snippets and the errors of the runner."""
    path, backend = job
    folder.mkdir()
    results = folder.with_suffix(".json")
    results.touch()
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path}
    arguments = [str(path), backend, str(results)]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        Fork(arguments, **pipes, cwd=folder, env=env, module=RUNNER)
        if can_fork(os.environ)
        else subprocess.Popen(
            [sys.executable, "-m", RUNNER, *arguments], **pipes, cwd=folder, env=env
        )
    ) as process:
        try:
            errors = process.communicate(timeout=90)[1].decode()
            trouble = errors + (f"it ended with {process.returncode}" if process.returncode else "")
        except subprocess.TimeoutExpired:
            trouble = "it did not end in time"
        finally:
            process.kill()
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()], trouble


def check(path: Path, blocks: list[Block], results: list[dict[str, Any]], trouble: str) -> None:
    """Check that each snippet has run without an error and printed what the page shows."""
    wrong = [trouble] if trouble else []
    by_index = {result["index"]: result for result in results}
    for block in blocks:
        where = f"{path}:{block.line}"
        result = by_index.pop(block.index, None)
        if result is None:
            wrong.append(f"{where}: not run")
        elif result["error"]:
            wrong.append(f"{where}: {result['error']}\n{result['output']}")
        elif not block.printed(result["output"]):
            wrong.append(f"{where}: it printed\n{result['output']}")
    if wrong or by_index:
        raise AssertionError("\n".join([*wrong, *map(str, by_index.values())]))


@pytest.mark.parametrize("job", list(jobs()))
def test_page(job: Job, tmp_path: Path) -> None:
    path, backend = job
    if path.name == "record-pvs.md":
        for library in ("h5py", "pyarrow"):
            if find_spec(library) is None:
                pytest.skip(f"{library} is not installed; there is none for Python 3.15 yet")
    check(path, read(path).to_run(backend), *run_page(job, tmp_path / "work"))


@pytest.mark.unit
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_out(path: Path) -> None:
    """Each code block runs in some pass, or has a mark with a reason for not being run."""
    page = read(path)
    text = re.sub(r"<!--.*?-->", "", path.read_text("utf-8"), flags=re.DOTALL)
    fences = re.findall(r"^[ >]*(?:`{3,}|~{3,})(?:python|console)\b", text, re.MULTILINE)
    if path.name == "README.md":
        fences += re.findall(r"\n\n    \S", text)
    assert len(fences) == len([block for block in page.blocks if block.kind != "setup"])
    run = [block.index for backend in page.passes for block in page.to_run(backend)]
    for block in page.blocks:
        if "not_run" in block.marks:
            assert len(block.marks["not_run"]) > 20, f"{path}:{block.line}: say why"
        else:
            assert block.index in run, f"{path}:{block.line}: in no pass"
        if "file" in block.marks:
            later = [b for b in page.blocks[block.index :] if b.kind == "console"]
            assert any("not_run" not in b.marks for b in later), f"{path}: {block.marks['file']}"


@pytest.mark.unit
@pytest.mark.parametrize(
    "module",
    [aioca, aioca.types, aioca.testing, aioca.blocking, aioca.snapshot, aioca.notebook],
)
def test_the_reference_is_complete(module: ModuleType) -> None:
    """The reference has every public name: by itself, or with its whole module."""
    page = "blocking.md" if module is aioca.blocking else "api.md"
    reference = (ROOT / "docs" / "reference" / page).read_text("utf-8")
    if f".. automodule:: {module.__name__}\n   :members:" not in reference:
        missing = [name for name in module.__all__ if not re.search(rf"\b{name}\b", reference)]
        assert not missing


TYPES = {
    "STRING": DBR_STRING, "SHORT": DBR_SHORT, "FLOAT": DBR_FLOAT, "ENUM": DBR_ENUM,
    "CHAR": DBR_CHAR, "LONG": DBR_LONG, "DOUBLE": DBR_DOUBLE,
}  # fmt: skip
NUMBERS = {"SHORT", "FLOAT", "CHAR", "LONG", "DOUBLE"}


@pytest.mark.unit
def test_the_table_of_attributes_is_true() -> None:
    """Each type in each format has exactly the attributes of the table."""
    text = (ROOT / "docs" / "reference" / "values.md").read_text("utf-8")
    table = text.partition("| attribute | type |")[2].partition("\n\n")[0]
    shown: dict[tuple[str, int], set[str]] = {}
    for row in table.splitlines()[2:]:
        names, _, *formats, types = (cell.strip() for cell in row.strip("|").split("|"))
        which = {"all": {*TYPES}, "numbers": NUMBERS}.get(types, set(types.split(", ")))
        for format, yes in enumerate(formats):
            for kind in which if yes else ():
                shown.setdefault((kind, format), set()).update(re.findall(r"`(\w+)`", names))
    shown["STRING", FORMAT_CTRL] = shown["STRING", FORMAT_TIME]  # as the text of the page says
    for kind, code in TYPES.items():
        for format in (FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL):
            reader = decode.make_reader("X", code, 1, None, format)
            assert shown[kind, format] == {*reader.constants(), *reader.shape.fields}, (
                kind,
                format,
            )


# Each parameter of `configure` by itself, and the variables that it sets
WHAT_CONFIGURE_SETS = """
import json, os
from aioca import configure

found = {}
for name, value in json.loads(os.environ["VALUES"]).items():
    before = dict(os.environ)
    configure(**{name: value})
    found[name] = sorted(key for key in os.environ if os.environ[key] != before.get(key))
print(json.dumps(found))
"""
VALUES = {
    "addr_list": "127.0.0.1", "auto_addr_list": False, "name_servers": "127.0.0.1",
    "server_port": 6064, "repeater_port": 6065, "conn_tmo": 7, "max_array_bytes": 20000,
    "auto_array_bytes": False, "priority": 5,
}  # fmt: skip


def test_the_table_of_the_environment_is_true() -> None:
    """The table has each parameter of `configure`, with the variable that it sets, if any."""
    text = (ROOT / "docs" / "reference" / "environment.md").read_text("utf-8")
    rows = re.findall(r"^\| (?:`(EPICS_CA_\w+)`|none) \| `(\w+)` \|", text, re.MULTILINE)
    shown = {name: [variable] if variable else [] for variable, name in rows}
    assert shown.keys() == {*inspect.signature(aioca.configure).parameters}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
    done = subprocess.run(
        [sys.executable, "-c", WHAT_CONFIGURE_SETS], capture_output=True, text=True, timeout=60,
        env={**environment, "VALUES": json.dumps(VALUES)}, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == shown


# -- The mechanism itself --------------------------------------------------------------------------

GOOD = """
<!-- setup
before = 1
-->
```python
from aioca import caget
print(await caget("SETPOINT"), before)
```
Prints
```output
20.0 ...
```
<!-- stop after 2 lines -->
```python
import trio
async def main():
    while True:
        print("again")
        await trio.sleep(0)
trio.run(main)
```
```output
again
again
```
<!-- raises CATimeout -->
```python
await caget("SETPOINT", timeout=0)
```
```output
aioca.CATimeout: SETPOINT: ...
```
<!-- file: hello.txt -->
```python
hello
```
<!-- exits with 3 -->
```console
$ cat hello.txt; exit 3
hello
```
<!-- not run: this is only here to be counted -->
```python
nonsense
```
"""


# A mistake to make in a page, and the error for it. A page ends at its first error.
WRONG: list[list[tuple[str, str, str]]] = [
    [
        ("20.0 ...", "20.5 ...", "it printed\n20.0 1"),
        ("CATimeout: SETPOINT", "CATimeout: OTHER", "it printed\naioca.CATimeout: SETPOINT"),
        ("exit 3", "exit 4", "exited with 4"),
    ],
    [("), before)", "), after)", 'page.md", line 7'), ("nonsense", "more", "page.md:27: not run")],
    [("timeout=0", "timeout=5", "it raised no CATimeout")],
    [("-->\n```python\nhello", "-->\n```python\nbye", "and not\nhello")],
]


def verdict_on(text: str, backend: str, folder: Path) -> str:
    """The errors in a page with this text; empty if there are none."""
    folder.mkdir()
    path = folder / "page.md"
    path.write_text(text)
    try:
        check(path, read(path).to_run(backend), *run_page((path, backend), folder / "work"))
    except AssertionError as error:
        return str(error)
    return ""


def test_pages_that_are_right_and_wrong(tmp_path: Path) -> None:
    """Every kind of mark works, and every mistake is found."""
    page = parse(GOOD, Path("page.md"))
    kinds = [[block.kind for block in page.to_run(backend)] for backend in page.passes]
    assert kinds == [["setup", *["python"] * 3, "console"], ["setup", *["python"] * 3]]
    texts = [(GOOD, "asyncio"), (GOOD, "trio")]
    for changes in WRONG:
        text = GOOD
        for right, wrong, _ in changes:
            assert right in text
            text = text.replace(right, wrong)
        texts.append((text, "asyncio"))
    folders = [tmp_path / str(number) for number in range(len(texts))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        verdicts = list(pool.map(verdict_on, *zip(*texts, strict=True), folders))
    assert verdicts[:2] == ["", ""]
    for verdict, changes in zip(verdicts[2:], WRONG, strict=True):
        for _, wrong, message in changes:
            assert message in verdict, (wrong, verdict)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```bash\nls\n```\n", "a fence of 'bash'"),
        ("```\nls\n```\n", "a fence of ''"),
        ("```{code-block} python\nls\n```\n", "would hide a snippet"),
        ("text\n\n    ls\n", "an indented block"),
        ("<!-- not run -->\n```python\n1\n```\n", "a comment that means nothing"),
        ("<!-- forms -->\ntext\n\n```python\n1\n```\n", "followed by no snippet"),
        ("<!-- file: a.db -->\n```text\n1\n```\n\n```python\n1\n```\n", "followed by no snippet"),
        ("```output\n1\n```\n", "output of no snippet"),
    ],
)
def test_a_page_that_is_not_understood(text: str, message: str) -> None:
    with pytest.raises(PageError, match=message):
        parse(text, Path("page.md"))


@pytest.mark.unit
def test_the_output_is_compared() -> None:
    assert matches("a\n...\nz\n", "a\nb\nc\nz\n", False)
    assert matches("at 12:30 ...\n", "at 1:305 o'clock", True)
    assert not matches("at 12:30\n", "at 1:30\n", False)
    assert not matches("a\n", "a\nb\n", False)


@pytest.mark.unit
def test_a_console_block_is_commands_and_outputs() -> None:
    block = "$ a \\\n  b\nout\n$ c\n"
    assert doc_pages.commands(block) == [("a \\\n  b", "out\n"), ("c", "")]
