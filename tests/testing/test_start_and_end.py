"""Soft IOCs that tests start, pause, kill and restart; nothing is left of them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from aioca import CANothing, caget, caput, connect, run
from aioca.testing import SoftIoc, SoftIocError
from tests.support.proc import alive
from tests.support.soft_iocs import ONE, MakeIoc, pid_of
from tests.support.waiting import wait_until

OTHER = 'record(stringout, "$(P)x") { field(VAL, "other") }'


# -- Start and end ---------------------------------------------------------------------------------


def test_as_a_context_manager(unique: str) -> None:
    ioc = SoftIoc(ONE, {"P": unique})
    assert "not running" in repr(ioc)
    with ioc as entered:
        assert entered is ioc
        pid = pid_of(ioc)
        assert f"127.0.0.1:{ioc.port}" in repr(ioc)
        assert str(pid) in repr(ioc)
        assert alive(pid)
    assert ioc.process is None
    assert not alive(pid)


def test_an_error_in_the_block_ends_it_too(unique: str) -> None:
    pid = 0
    with pytest.raises(ZeroDivisionError), SoftIoc(ONE, {"P": unique}) as ioc:
        pid = pid_of(ioc)
        _ = 1 // 0
    assert pid and not alive(pid)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_ending_is_idempotent(own_ioc: MakeIoc, unique: str, end: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    getattr(ioc, end)()  # never started
    ioc.start()
    pid = pid_of(ioc)
    getattr(ioc, end)()
    assert ioc.process is None
    assert not alive(pid)
    getattr(ioc, end)()
    ioc.kill()
    ioc.stop()
    ioc.start()
    assert ioc.command("dbl") == unique + "x"


def test_stop_lets_it_exit_by_itself(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    process = ioc.process
    assert process is not None
    ioc.stop()
    assert process.returncode == 0


def test_kill_is_a_sigkill(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    process = ioc.process
    assert process is not None
    ioc.kill()
    assert process.returncode == -signal.SIGKILL


def test_starting_twice(own_ioc: MakeIoc, unique: str) -> None:
    """The second start raises an error, and the IOC continues to run."""
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    pid = pid_of(ioc)
    with pytest.raises(SoftIocError, match="already"):
        ioc.start()
    assert pid_of(ioc) == pid
    assert ioc.command("dbl") == unique + "x"


def test_restart_with_another_database(own_ioc: MakeIoc, unique: str, backend: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    run(caput(unique + "x", 4.25, wait=True), backend=backend)
    ioc.restart()
    assert ioc.command(f"dbgf {unique}x").split() == ["DBF_DOUBLE:", "1.5"]
    ioc.restart(OTHER)
    assert run(caget(unique + "x", timeout=20), backend=backend) == "other"
    ioc.restart(macros={"P": unique + "new:"})
    assert ioc.command("dbl") == unique + "new:x"
    assert ioc.database == OTHER


def test_restart_starts_one_that_does_not_run(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.restart()
    assert ioc.command("dbl") == unique + "x"


def test_one_that_has_died(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    ioc.timeout = 3.0
    os.kill(pid_of(ioc), signal.SIGKILL)
    for _ in range(2):  # the end is remembered
        with pytest.raises(SoftIocError, match="the IOC has ended"):
            ioc.command("dbl")
    ioc.timeout = 30.0
    ioc.restart()
    assert ioc.command("dbl") == unique + "x"


@pytest.mark.parametrize("end", ["exit", "SIGKILL"])
def test_one_that_has_ended_by_itself_is_not_running(
    own_ioc: MakeIoc, unique: str, end: str
) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    process = ioc.process
    assert process is not None
    if end == "exit":
        with pytest.raises(SoftIocError, match="the IOC has ended"):
            ioc.command("exit")
    else:
        process.kill()
        process.wait()
    assert ioc.process is None
    assert repr(ioc) == f"<SoftIoc at 127.0.0.1:{ioc.port}, not running>"
    for use in (ioc.client_count, ioc.pause, ioc.resume):
        with pytest.raises(SoftIocError, match="the IOC has ended"):
            use()
    ioc.start()
    assert pid_of(ioc) != process.pid
    assert ioc.command("dbl") == unique + "x"
    os.kill(pid_of(ioc), signal.SIGKILL)
    ioc.stop()
    assert repr(ioc) == f"<SoftIoc at 127.0.0.1:{ioc.port}, not running>"


def test_the_end_of_the_output_is_remembered(own_ioc: MakeIoc, unique: str) -> None:
    """Every command fails at once when the IOC has ended, though its pipe accepts lines."""
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    ioc.timeout = 3.0
    assert ioc.process is not None and ioc.process.stdout is not None
    held, ioc.process.stdin = ioc.process.stdin, open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    assert held is not None
    held.close()  # ends the IOC
    try:
        for _ in range(2):
            with pytest.raises(SoftIocError, match="the IOC has ended"):
                ioc.command("dbl")
    finally:
        ioc.kill()


# -- Pause -----------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_frozen_ioc_does_not_answer(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    await connect(unique + "x")
    ioc.pause()
    nothing = await caget(unique + "x", timeout=0.2, throw=False)
    assert type(nothing) is CANothing and not nothing
    ioc.resume()
    assert await caget(unique + "x") == 1.5


def test_a_command_to_a_frozen_ioc_times_out(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    ioc.timeout = 0.2
    ioc.pause()
    begin = time.monotonic()
    with pytest.raises(SoftIocError, match=r"no answer within 0\.2 s"):
        ioc.command("dbl")
    assert time.monotonic() - begin < 5.0


def test_what_was_answered_too_late_is_not_the_next_answer(own_ioc: MakeIoc, unique: str) -> None:
    """A command returns its own output, even after a command that timed out."""
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    ioc.timeout = 0.2
    ioc.pause()
    with pytest.raises(SoftIocError):
        ioc.command('echo "late"')
    ioc.timeout = 30.0
    ioc.resume()
    assert ioc.command('echo "first"') == "first"
    assert ioc.command('echo "second"') == "second"


def test_pause_and_resume_may_be_repeated(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    ioc.resume()
    ioc.pause()
    ioc.pause()
    ioc.resume()
    assert ioc.command("dbl") == unique + "x"


@pytest.mark.parametrize("end", ["stop", "kill", "restart"])
def test_a_frozen_ioc_can_be_ended(own_ioc: MakeIoc, unique: str, end: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    pid = pid_of(ioc)
    ioc.pause()
    if end == "stop":
        ioc.timeout = 0.2  # the time to exit by itself
    getattr(ioc, end)()
    assert not alive(pid)


# -- Nothing left behind ---------------------------------------------------------------------------


def test_no_files_are_left(
    own_ioc: MakeIoc, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    assert list(tmp_path.iterdir()) == []  # not even while it runs
    with pytest.raises(SoftIocError):
        own_ioc("nonsense").start()
    assert list(tmp_path.iterdir()) == []
    ioc.kill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_no_descriptors_and_threads_are_left(unique: str, end: str) -> None:
    def descriptors() -> set[str]:
        found = set()
        for file in Path("/proc/self/fd").iterdir():
            try:
                found.add(f"{file.name} {os.readlink(file)}")
            except FileNotFoundError:  # the file descriptor of the listing itself
                continue
        return found

    gc.collect()
    before, threads = descriptors(), threading.active_count()
    ioc = SoftIoc(ONE, {"P": unique})
    for _ in range(2):
        ioc.start()
        getattr(ioc, end)()
    with pytest.raises(SoftIocError):
        SoftIoc("nonsense").start()
    assert wait_until(lambda: threading.active_count() <= threads)
    assert descriptors() <= before


def run_python(source: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(source)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("end", ["ioc.kill()", "ioc.stop()", "os.kill(ioc.process.pid, 9)", ""])
def test_no_resource_warning(end: str) -> None:
    """There is no ResourceWarning if the program ends, or drops the IOC, without kill()."""
    done = run_python(
        f"""
        import gc, os
        from aioca.testing import SoftIoc
        ioc = SoftIoc('record(ai, "x") {{}}')
        ioc.start()
        print(ioc.process.pid)
        {end}
        if {end!r}.startswith("ioc"):
            del ioc
            gc.collect()
        """,
        "-X", "dev", "-W", "error",
    )  # fmt: skip
    assert done.returncode == 0
    if end.startswith("ioc"):
        assert done.stderr == ""
    else:
        assert "aioca" not in done.stderr  # Python itself may warn of the process that it drops
    assert wait_until(lambda: not alive(int(done.stdout)))


def test_it_ends_with_its_parent(unique: str) -> None:
    """The IOC ends even if SIGKILL ends its parent, which then cannot clean up."""
    program = """
        import sys, time
        from aioca.testing import SoftIoc
        ioc = SoftIoc('record(ai, "x") {}')
        ioc.start()
        print(ioc.process.pid, flush=True)
        time.sleep(60)  # it is killed
        """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert alive(pid)
        finally:
            parent.kill()
        parent.wait(10)
    assert wait_until(lambda: not alive(pid))


def test_ctrl_c_is_not_for_the_ioc(own_ioc: MakeIoc, unique: str) -> None:
    """A terminal sends SIGINT to the foreground process group, which has no IOC."""
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    assert os.getsid(pid_of(ioc)) == pid_of(ioc) != os.getsid(0)


def test_several_at_once(own_ioc: MakeIoc, unique: str, backend: str) -> None:
    iocs = [own_ioc(ONE, {"P": f"{unique}{i}:"}) for i in range(2)]
    for ioc in iocs:
        ioc.start()
    assert run(caget([f"{unique}{i}:x" for i in range(2)]), backend=backend) == [1.5, 1.5]
    iocs[0].kill()
    assert iocs[1].command("dbl") == f"{unique}1:x"


def test_start_with_another_database(unique: str) -> None:
    ioc = SoftIoc(ONE, {"P": unique})
    assert ioc.prefix == unique
    try:
        ioc.start(OTHER, {"P": unique + "new:"})
        assert ioc.prefix == unique + "new:"
        assert ioc.command(f"dbgf {ioc.prefix}x").split() == ["DBF_STRING:", '"other"']
    finally:
        ioc.kill()
    assert SoftIoc(ONE).prefix == ""
