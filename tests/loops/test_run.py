"""aioca.run()."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from aioca import caget, camonitor, get_channel_infos, run
from aioca.testing import SoftIoc
from tests.support.loops import both_backends, finish, interrupt_at


def test_run_returns_the_result(p: str, backend: str) -> None:
    async def main() -> str:
        return (await caget(p + "m:a")).name

    assert run(main(), backend=backend) == p + "m:a"
    assert get_channel_infos() == []


def test_run_on_asyncio_by_default() -> None:
    async def main() -> object:
        return asyncio.get_running_loop()

    assert run(main()) is not None


@pytest.mark.parametrize("forever", [False, True])
def test_run_raises_what_the_coroutine_raised(backend: str, forever: bool) -> None:
    error = LookupError("mine")

    async def main() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    with pytest.raises(LookupError) as info:
        run(main(), forever, backend=backend)
    assert info.value is error


def test_run_with_an_unknown_backend() -> None:
    """An error names the backend. There is no warning about a coroutine never awaited."""

    async def main() -> None:
        raise AssertionError("it ran")

    with pytest.raises(LookupError, match="curio"):
        run(main(), backend="curio")


def test_run_without_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""

    async def main() -> None:
        raise AssertionError("it ran")

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "trio" else found(name)
    )
    with pytest.raises(LookupError, match=re.escape("pip install 'aioca[trio]'")):
        run(main(), backend="trio")


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="not set")


@pytest.mark.parametrize("outer", ["asyncio", "anyio-asyncio", "anyio-trio"])
@pytest.mark.parametrize("way", ["asyncio.to_thread", "anyio.to_thread", "thread"])
def test_run_in_a_thread_of_a_task(p: str, outer: str, way: str, backend: str) -> None:
    """No loop runs in the thread, though it has the context variables of the task."""

    async def inner() -> tuple[str, str]:
        async with camonitor(p + "m:a", lambda _: None):
            assert await caget(p + "m:a") is not None
        return VARIABLE.get(), type(asyncio._get_running_loop()).__name__

    def blocking() -> tuple[str, str] | None:
        return run(inner(), backend=backend)

    async def main() -> tuple[str, str] | None:
        VARIABLE.set("of the task")
        if way == "asyncio.to_thread" and not outer.endswith("trio"):
            return await asyncio.to_thread(blocking)
        if way == "anyio.to_thread":
            return await anyio.to_thread.run_sync(blocking)
        results: list[Any] = []  # from Python 3.14 on, a thread inherits the variables
        inherited = contextvars.copy_context()
        thread = threading.Thread(target=lambda: results.append(inherited.run(blocking)))
        thread.start()
        thread.join()
        assert await caget(p + "m:b") is not None
        return results[0]  # type: ignore[no-any-return]

    if outer == "asyncio":
        result = asyncio.run(main())
    else:
        result = anyio.run(main, backend=outer.removeprefix("anyio-"))
    assert result is not None
    assert result[0] == "of the task"
    assert (result[1] == "NoneType") == (backend == "trio")


@pytest.mark.parametrize("within", ["task", "callback"])
@pytest.mark.parametrize("outer", ["asyncio", "trio"])
def test_run_where_a_loop_runs(backend: str, outer: str, within: str) -> None:
    """The error says what to do instead. There is no warning about a coroutine never awaited."""

    async def inner() -> None:
        raise AssertionError("it ran")

    def nested() -> None:
        with pytest.raises(RuntimeError, match=r"already running in this thread: await the"):
            run(inner(), backend=backend)
        done.append(True)

    async def main() -> None:
        if within == "task":
            nested()
        elif outer == "asyncio":
            asyncio.get_running_loop().call_soon(nested)
        else:
            trio.lowlevel.current_trio_token().run_sync_soon(nested)
        with anyio.fail_after(10):
            while not done:
                await anyio.sleep(0.001)  # poll

    done: list[bool] = []
    anyio.run(main, backend=outer)


RUN = """
    import sys
    import anyio
    from aioca import camonitor, run
    backend, forever, shape = sys.argv[1], sys.argv[2] == "True", sys.argv[3]

    async def main():
        said = []

        def callback(value):  # main is at rest by then: Ctrl-C must not hit it elsewhere
            if not said:
                said.append(print("running"))

        camonitor("TICK", callback)
        if shape == "has tasks":
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
        if shape == "waits":
            await anyio.sleep_forever()

    run(main(), forever, backend=backend)
    print("went on")
"""


@both_backends
@pytest.mark.parametrize("shape", ["returns", "waits", "has tasks"])
def test_run_forever_ends_with_ctrl_c(
    start: Callable[..., subprocess.Popen[str]], backend: str, shape: str
) -> None:
    """There is no traceback, and the program continues after run()."""
    process = start(RUN, backend, True, shape)
    interrupt_at(process, "running")
    assert finish(process) == ("went on\n", "")


@both_backends
def test_run_raises_keyboard_interrupt_unless_forever(
    start: Callable[..., subprocess.Popen[str]], backend: str
) -> None:
    process = start(RUN, backend, False, "waits")
    interrupt_at(process, "running")
    out, err = finish(process, -signal.SIGINT)
    assert out == ""
    assert err.rstrip().splitlines()[-1] == "KeyboardInterrupt"


SEED = """
    from aioca import caget, caput, camonitor, run
    async def do_stuff():
        await caput('PV1', 1234)
        print(await caget('PV2'))
        def callback(value):
            print('callback', value)
        camonitor('PV3', callback)
    run(do_stuff(), forever=True{})
"""


@pytest.mark.parametrize("backend", ["", ", backend='trio'"], ids=["asyncio", "trio"])
def test_seed_program(
    start: Callable[..., subprocess.Popen[str]], busy_ioc: SoftIoc, backend: str
) -> None:
    """The first program of the documentation, unchanged."""
    busy_ioc.command("dbpf PV1 0")
    process = start(SEED.format(backend))
    lines = interrupt_at(process, "callback 0.0")
    assert lines == ["5.0", "callback 0.0"]
    assert finish(process) == ("", "")
    assert "1234" in busy_ioc.command("dbgf PV1")
