"""The program that runs the snippets of one page, in one pass: its arguments are PAGE PASS RESULTS.

It starts a soft IOC with the records, runs the snippets one after the other in one namespace, and
writes a line of JSON for each. See `test_docs` for what a page can say.
"""

from __future__ import annotations

import ast
import contextlib
import faulthandler
import io
import json
import linecache
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import anyio

import aioca
from aioca.testing import SoftIoc, free_port, loopback_environment
from tests.support.doc_pages import RECORDS, Block, PageError, commands, matches, read

FORM_SECONDS = 0.3
TOO_LONG = 80.0  # then it says where it hangs, and ends
plain_run = aioca.run


class Output(io.TextIOBase):
    """What is printed; does what is to be done when a snippet has printed so many lines.

    There is one, as a snippet may give it to somebody who keeps it (logging).
    """

    def __init__(self) -> None:
        self.begin({})

    def begin(self, actions: dict[int, Callable[[], object]]) -> None:
        self.text = ""
        self.stopped = False
        self.actions = actions

    def write(self, text: str) -> int:
        for part in text.splitlines(keepends=True):
            self.text += part
            if part.endswith("\n"):
                action = self.actions.pop(self.text.count("\n"), None)
                if action is not None:
                    action()
        return len(text)

    def stop(self) -> None:
        self.stopped = True
        signal.raise_signal(signal.SIGINT)


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is what Ctrl-C ends a program with: in a nursery, in a group."""
    split = getattr(error, "split", None)
    if split is not None:
        return bool(split(KeyboardInterrupt)[1] is None)
    return isinstance(error, KeyboardInterrupt)


class Runner:
    def __init__(self, backend: str, ioc: SoftIoc, page: Path) -> None:
        self.backend = backend
        self.page = page
        self.ioc = ioc
        self.output = Output()
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.actions: dict[int, Callable[[], object]] = {}

    def run(self, block: Block) -> dict[str, Any]:
        output = self.output
        error = ""
        raises = block.marks.get("raises")
        if block.kind == "setup":
            output.begin({})
        else:
            output.begin(self.actions)
            self.actions = {}
        if "stop" in block.marks and block.kind == "python":
            output.actions[int(block.marks["stop"])] = output.stop
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                self._execute(block)
            except BaseException as caught:
                if type(caught).__name__ == raises:
                    print(traceback.format_exception_only(caught)[-1])
                elif not (output.stopped and _is_interrupt(caught)):
                    error = "".join(traceback.format_exception(caught))
            else:
                if raises:
                    error = f"it raised no {raises}"
        text = output.text
        if output.actions:
            error = error or f"it did not print line {min(output.actions)}"
        if "stop" in block.marks and block.kind == "python":
            text = "".join(text.splitlines(True)[: int(block.marks["stop"])])
        return {"index": block.index, "output": text, "error": error}

    def _execute(self, block: Block) -> None:
        if "file" in block.marks:
            Path(block.marks["file"]).write_text(block.source, encoding="utf-8")
        elif block.kind == "console":
            self._console(block)
        elif block.kind == "setup":
            self.names.update(ioc=self.ioc, when_printed=self._when_printed)
            self._python(block)
            del self.names["ioc"], self.names["when_printed"]
        elif self.backend == "ipython":
            self._cell(block)
        elif "forms" in block.marks:
            self._forms(block)
        else:
            self._python(block)

    def _when_printed(self, line: int, action: Callable[[], object]) -> None:
        """For setup: do this, in a thread, when the next snippet has printed so many lines."""
        self.actions[line] = threading.Thread(target=action).start

    # -- Python ------------------------------------------------------------------------------------

    def _python(self, block: Block) -> None:
        self._run_code(self._compile(block, ast.parse(block.source)))

    def _compile(self, block: Block, tree: ast.Module) -> CodeType:
        # As if it stood in the page at its place, so that tracebacks show where
        ast.increment_lineno(tree, block.line)
        linecache.cache.pop(str(self.page), None)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code: CodeType = compile(tree, str(self.page), "exec", flags=flags)
        return code

    def _run_code(self, code: CodeType) -> None:
        if not code.co_flags & (0x80 | 0x200):  # it awaits nothing
            exec(code, self.names)
            return

        async def main() -> None:
            await eval(code, self.names)

        plain_run(main(), backend=self.backend)

    def _forms(self, block: Block) -> None:
        """Each statement by itself, in a loop with a task group, until it has gone on a while."""
        for statement in ast.parse(block.source).body:
            code = self._compile(block, ast.Module([statement], []))

            async def main(code: CodeType = code) -> None:
                async with anyio.create_task_group() as tg:
                    with anyio.move_on_after(FORM_SECONDS):
                        self.names["tg"] = tg
                        awaitable = eval(code, self.names)
                        if awaitable is not None:
                            await awaitable
                        await anyio.sleep_forever()
                    tg.cancel_scope.cancel()

            plain_run(main(), backend=self.backend)

    def _cell(self, block: Block) -> None:
        from IPython.core.interactiveshell import InteractiveShell

        result = InteractiveShell.instance().run_cell(block.source, store_history=True)
        sys.stdout.flush()
        result.raise_error()

    # -- Console -----------------------------------------------------------------------------------

    def _console(self, block: Block) -> None:
        for command, expected in commands(block.source):
            print(f"$ {command}")
            output, status = self._shell(command, int(block.marks.get("stop", 0)))
            print(output, end="")
            if "stop" not in block.marks and status != int(block.marks.get("status", 0)):
                raise PageError(f"{command!r} exited with {status}")
            if expected and not matches(expected, output, "vary" in block.marks):
                raise PageError(f"{command!r} printed\n{output}and not\n{expected}")

    def _shell(self, command: str, stop: int) -> tuple[str, int]:
        process = subprocess.Popen(
            ["bash", "-c", command], text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        killer = threading.Timer(40.0, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if len(lines) == stop:
                os.killpg(process.pid, signal.SIGINT)
        process.wait()
        killer.cancel()
        if stop and len(lines) < stop:
            raise PageError(f"{command!r} printed fewer than {stop} lines: {lines}")
        return "".join(lines[: stop or None]), process.returncode


def main(path: str, backend: str, results: str) -> None:
    faulthandler.dump_traceback_later(TOO_LONG, exit=True)
    page = read(Path(path))
    port = free_port()
    # Where libca finds nobody at the repeater's port it starts the program caRepeater, if there is
    # one, which keeps our standard output open and outlives us.
    repeater = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    repeater.bind(("127.0.0.1", 0))
    for name in [name for name in os.environ if name.startswith("EPICS_CA")]:
        del os.environ[name]
    os.environ.update(loopback_environment(port))
    os.environ["EPICS_CA_REPEATER_PORT"] = str(repeater.getsockname()[1])
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["IPYTHONDIR"] = os.getcwd()
    if backend == "trio":  # the backend of the programs that name none
        aioca.run = partial(plain_run, backend="trio")
    records = RECORDS.read_text(encoding="utf-8") + page.records
    with SoftIoc(records, port=port) as ioc, open(results, "w", encoding="utf-8") as file:
        runner = Runner(backend, ioc, page.path)
        for block in page.to_run(backend):
            result = runner.run(block)
            print(json.dumps(result), file=file, flush=True)
            if result["error"]:
                break


if __name__ == "__main__":
    main(*sys.argv[1:])
