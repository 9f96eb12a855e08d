"""aioca.blocking and its process: exit, fork, Ctrl-C in a script, IPython with a running loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import anyio
import pytest

import aioca
from aioca.testing import SoftIoc
from tests.support.programs import environment_for, programs

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(ioc: SoftIoc) -> Iterator[Start]:
    with programs(ioc.port) as starter:
        yield starter


def ended(process: subprocess.Popen[str], seconds: float = 30.0) -> tuple[str, str]:
    """Wait for a program that has to end well; return what it printed on both streams."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out, err


# -- Exit ------------------------------------------------------------------------------------------

EXITS = {
    "a plain end": "",
    "monitors": """
        seen = threading.Event()
        blocking.camonitor([p + "ticks"] * 20, lambda value, index: seen.set(), all_updates=True)
        seen.wait()
    """,
    "a block that is open": """
        updates = blocking.camonitor(p + "ticks", all_updates=True).__enter__()
        next(updates)
    """,
    "a daemon thread that waits": """
        waits = lambda: blocking.caget(p + "nothing", timeout=None)
        threading.Thread(target=waits, daemon=True).start()
        while not blocking._loop_thread.loop_thread()._pending:
            time.sleep(0.01)
    """,
    "a thread that goes on": """
        def later():
            threading.main_thread().join()
            print("later", blocking.caget(p + "longin"))
        threading.Thread(target=later).start()
    """,
    "a pool": """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(4)
        futures = [pool.submit(blocking.caget, p + "longin") for _ in range(20)]
    """,
    "an exit handler": """
        import atexit
        atexit.register(lambda: print("handler", blocking.caget(p + "longin")))
    """,
    "sys.exit in a callback": """
        monitor = blocking.camonitor(p + "ai", lambda value: sys.exit(3))
        try:
            monitor.wait()
        except SystemExit:
            pass
    """,
}


@pytest.mark.parametrize("what", EXITS)
def test_exit(start: Start, p: str, what: str) -> None:
    program = """
        import logging, sys, threading, time
        from aioca import blocking
        logging.disable()
        p = sys.argv[1]
        print(blocking.caget(p + "longin"))
    """
    out, err = ended(start(textwrap.dedent(program) + textwrap.dedent(EXITS[what]), p))
    assert err == ""
    expected = {"a thread that goes on": ["later -42"], "an exit handler": ["handler -42"]}
    assert out.splitlines() == ["-42", *expected.get(what, [])]


def test_nothing_written_is_lost_at_exit(start: Start, p: str) -> None:
    names = [p + n for n in ("m:a", "m:b", "ao:a", "ao:b", "ao:c")]
    for value in (11, 12, 13):
        program = """
            import sys
            from aioca import blocking
            blocking.caput(sys.argv[2:], int(sys.argv[1]), repeat_value=True)
        """
        assert ended(start(program, value, *names)) == ("", "")
        read = anyio.run(aioca.caget, names)
        assert read == [value] * len(names)


def test_exit_while_the_server_is_stopped(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    soft_ioc = own_ioc(f'record(ao, "{unique}a") {{}}')
    program = """
        import sys
        from aioca import blocking
        blocking.camonitor(sys.argv[1], print)
        blocking.connect(sys.argv[1])
        print("connected")
        sys.stdin.readline()
        blocking.caput(sys.argv[1], 5)
    """
    with soft_ioc:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", textwrap.dedent(program), unique + "a"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment_for(soft_ioc.port),
        )  # fmt: skip
        try:
            assert process.stdout is not None
            while process.stdout.readline() != "connected\n":
                assert process.poll() is None
            soft_ioc.pause()
            before = time.monotonic()
            process.communicate("go\n", timeout=20)
            assert process.returncode == 0
            assert time.monotonic() - before < 4.0
        finally:
            soft_ioc.resume()
            process.kill()
            process.communicate()


# -- Ctrl-C ----------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_script(start: Start, p: str) -> None:
    process = start(
        """
        import sys
        from aioca import blocking
        with blocking.camonitor(sys.argv[1] + "ai") as updates:
            for value in updates:
                print("value", value)
        """,
        p,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("value")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


# -- fork ------------------------------------------------------------------------------------------

FORK = """
    import os, sys, threading, warnings
    from aioca import blocking
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
    p = sys.argv[1]
    blocking.caget(p + "longin")
    begun = threading.Event()
    monitor = blocking.camonitor(p + "ticks", lambda value: begun.set())
    begun.wait()
    with blocking.camonitor(p + "ticks") as updates:
        next(updates)
        child = os.fork()
        if not child:
            begun.clear()
            assert blocking.caget(p + "longin") == -42
            try:
                for value in updates:
                    if value is None:
                        break
            except RuntimeError as error:
                assert "forked" in str(error), error
            else:
                raise AssertionError("the iteration has ended")
            monitor.close()
            assert not begun.is_set()
            with blocking.camonitor(p + "ticks") as others, blocking.camonitor(p + "ai", print):
                next(others)
            print("child", flush=True)
        else:
            assert os.waitpid(child, 0)[1] == 0
            next(updates)
            begun.clear()
            begun.wait()
            print("parent", blocking.caget(p + "longin"))
"""


ENDS_AS_IT_IS_CANCELLED = """
    import sys, threading, time
    from aioca import blocking
    from aioca.blocking._loop_thread import loop_thread

    p = sys.argv[1]
    blocking.caget(p + "longin")  # its task serves the next call
    loop, busy = loop_thread(), threading.Event()

    def callback(value):
        busy.wait()
        time.sleep(0.3)
        raise ValueError("of the callback")

    def occupy():  # meanwhile the PV connects, and then the error of the callback cancels the call
        busy.set()
        time.sleep(0.6)

    try:
        with blocking.camonitor(p + "longin", callback):
            threading.Timer(0.01, loop.context.post, [occupy]).start()  # a search takes 30 ms
            blocking.connect([p + f"nothing{i}" for i in range(3)] if sys.argv[2] else p + "ao:a",
                             timeout=None)
            time.sleep(5)
    except ValueError as error:
        print(error)
    for _ in range(10):
        loop.call_sync(int)  # until the loop is free, and some passes more
    print(*(blocking.caget(p + "longin", timeout=5) for _ in range(3)))
"""


@pytest.mark.parametrize("never", ["", "never ends"])
def test_a_call_that_ends_as_it_is_cancelled(start: Start, p: str, never: str) -> None:
    """Its task ends with it, and later calls have another one."""
    out, _ = ended(start(ENDS_AS_IT_IS_CANCELLED, p, never))
    assert out.split("\n")[0] == "of the callback"
    assert out.split("\n")[1] == "-42 -42 -42"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_fork(start: Start, p: str) -> None:
    out, err = ended(start(FORK, p))
    # libCom prints this for each thread that is started in a forked child.
    err = err.replace("Warning: Undefined Behavior!\n", "")
    err = err.replace("         Detected use of epicsThread from child process after fork()\n", "")
    assert err == ""
    lines = [line for line in out.splitlines() if line[0].isalpha()]
    assert lines == ["child", "parent -42"]


# -- IPython ---------------------------------------------------------------------------------------


def test_in_a_cell_with_a_running_loop(start: Start, p: str) -> None:
    program = """
        import sys
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        for cell in (
            "import asyncio, aioca",
            "from aioca import blocking",
            f"name = {sys.argv[1]!r} + 'longin'",
            "await asyncio.sleep(0); print(blocking.caget(name), await aioca.caget(name))",
            "print(blocking.caget([name, name]))",
        ):
            shell.run_cell(cell).raise_error()
    """
    out, _ = ended(start(program, p), 60.0)
    assert out.splitlines()[-2:] == ["-42 -42", "[-42, -42]"]
