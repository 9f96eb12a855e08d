"""aioca.testing: a soft IOC that tests can start, pause, kill and restart."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aioca import CANothing, caget, caput, connect, run
from aioca.testing import SoftIoc, SoftIocError, free_port, loopback_environment
from aioca.testing._ports import is_free

MakeIoc = Callable[..., SoftIoc]

ONE = 'record(ao, "$(P)x") { field(VAL, "1.5") field(DESC, "$(D=none)") }'
OTHER = 'record(stringout, "$(P)x") { field(VAL, "other") }'


def pid_of(ioc: SoftIoc) -> int:
    assert ioc.process is not None
    return ioc.process.pid


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)  # /proc has no event to wait for
    return True


# -- Databases -------------------------------------------------------------------------------------


def test_a_database_from_text(own_ioc: MakeIoc, unique: str, backend: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    assert run(caget(unique + "x"), backend=backend) == 1.5


def test_a_database_from_a_file(own_ioc: MakeIoc, unique: str, tmp_path: Path) -> None:
    file = tmp_path / "with a space.db"
    file.write_text(ONE, encoding="utf-8")
    ioc = own_ioc(file, {"P": unique})
    ioc.start()
    assert ioc.command("dbl").split() == [unique + "x"]
    assert file.read_text(encoding="utf-8") == ONE


def test_text_is_never_taken_for_the_name_of_a_file(own_ioc: MakeIoc, tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    file.write_text(ONE, encoding="utf-8")
    with pytest.raises(SoftIocError):
        own_ioc(str(file), {"P": "X:"}).start()


def test_text_is_utf_8(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc('record(stringin, "$(P)s") { field(VAL, "µm ✓") }', {"P": unique})
    ioc.start()
    assert run(caget(unique + "s")) == "µm ✓"


def test_macros(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique, "D": "two words"})
    ioc.start()
    assert run(caget(unique + "x.DESC")) == "two words"


def test_a_macro_that_is_not_given_has_its_default(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    assert run(caget(unique + "x.DESC")) == "none"


# Each value arrives unchanged, whatever the IOC's syntax for macros is.
MACROS = {"NONE": "", "INT": 42, "EQUALS": "a=b", "COMMA": "a,b", "QUOTE": "it's", "BACK": "a\\\\b"}


def test_values_of_macros_arrive_as_they_are(own_ioc: MakeIoc, unique: str) -> None:
    records = [f'record(stringin, "$(P){name}") {{ field(VAL, "$({name})") }}' for name in MACROS]
    ioc = own_ioc("\n".join(records), {"P": unique, **MACROS})
    ioc.start()
    values = run(caget([unique + name for name in MACROS]))
    # Two backslashes: this is how one is written within the quotes of a database.
    expected = {name: str(value).replace("\\\\", "\\") for name, value in MACROS.items()}
    assert dict(zip(MACROS, values or [], strict=True)) == expected


def test_macros_are_a_copy() -> None:
    macros: dict[str, object] = {"P": "X:"}
    ioc = SoftIoc(ONE, macros)
    macros["P"] = "Y:"
    assert ioc.macros == {"P": "X:"}


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ('record(nosuchtype, "x") {}', "Record type 'nosuchtype'"),
        ('record(ai, "x") { field(NOPE, "1") }', "doesn't have a field 'NOPE'"),
        ('record(ai, "x") {', "syntax error"),
        (Path("/nonexistent/records.db"), "Can't open file '/nonexistent/records.db'"),
    ],
    ids=["record type", "field", "syntax", "no file"],
)
def test_a_bad_database(own_ioc: MakeIoc, database: str | Path, words: str) -> None:
    """start() fails at once, with the output of the IOC, and leaves no process."""
    ioc = own_ioc(database)
    begin = time.monotonic()
    with pytest.raises(SoftIocError) as caught:
        ioc.start()
    assert words in str(caught.value)
    assert ioc.process is None
    assert time.monotonic() - begin < ioc.timeout
    ioc.restart(ONE, {"P": "X:"})
    assert ioc.command("dbl") == "X:x"


def test_environment_of_the_ioc(unique: str) -> None:
    with SoftIoc(ONE, {"P": unique}, environment={"AIOCA_TEST": "of the IOC"}) as ioc:
        assert ioc.command("epicsEnvShow AIOCA_TEST") == "AIOCA_TEST=of the IOC"
    assert "AIOCA_TEST" not in os.environ


def test_epics_settings_of_the_user_do_not_reach_the_ioc(
    unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPICS_CA_SERVER_PORT", "5099")
    monkeypatch.setenv("EPICS_CAS_IGNORE_ADDR_LIST", "127.0.0.1")
    with SoftIoc(ONE, {"P": unique}) as ioc:
        for name in ("EPICS_CA_SERVER_PORT", "EPICS_CAS_IGNORE_ADDR_LIST"):
            assert ioc.command(f"epicsEnvShow {name}") == ""
        assert ioc.command("epicsEnvShow EPICS_CAS_SERVER_PORT").endswith(f"={ioc.port}")


# -- Ports -----------------------------------------------------------------------------------------


def test_a_free_port_is_free_for_tcp_and_udp() -> None:
    for port in {free_port() for _ in range(20)}:
        assert 5000 < port < 65536
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))


def test_a_free_port_is_none_that_a_client_gets() -> None:
    """Another program's client may open its socket before the IOC does."""
    if sys.platform == "linux":
        clients_first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        if clients_first >= 32768:  # the default has not been lowered
            assert all(free_port() < clients_first for _ in range(1000))


def test_ports_of_many_calls_differ() -> None:
    assert len({free_port() for _ in range(100)}) == 100


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
def test_a_port_that_is_taken(own_ioc: MakeIoc, unique: str, kind: int) -> None:
    """free_port() does not return it; an IOC with this port fails at once."""
    ioc = own_ioc(ONE, {"P": unique})
    with socket.socket(socket.AF_INET, kind) as other:
        if kind == socket.SOCK_STREAM:  # TCP connections of other tests may not be closed yet
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ioc.port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        assert not is_free(ioc.port)
        with pytest.raises(SoftIocError, match=f"port {ioc.port} is used by another program"):
            ioc.start()
    assert ioc.process is None
    ioc.start()


def test_loopback_environment() -> None:
    one = loopback_environment(6000)
    assert one["EPICS_CA_ADDR_LIST"] == "127.0.0.1:6000"
    assert one["EPICS_CA_AUTO_ADDR_LIST"] == "NO"
    assert loopback_environment([6000, 6001])["EPICS_CA_ADDR_LIST"] == (
        "127.0.0.1:6000 127.0.0.1:6001"
    )
    assert loopback_environment(iter([6000])) == one


def test_the_port_stays_over_a_restart(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    port = ioc.port
    ioc.start()
    first = pid_of(ioc)
    ioc.restart()
    assert pid_of(ioc) != first
    assert not alive(first)
    assert ioc.port == port
    assert (port, "127.0.0.1") in listening(pid_of(ioc))


def sockets_of(pid: int, kind: str) -> list[tuple[str, int, str]]:
    """Local address, local port and state of the sockets that a process holds."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except FileNotFoundError:  # closed since the listing
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes:
            address, port = fields[1].split(":")
            if kind.endswith("6"):
                host = address
            else:
                host = socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder))
            found.append((host, int(port, 16), fields[3]))
    return found


def listening(pid: int) -> list[tuple[int, str]]:
    return [(port, host) for host, port, state in sockets_of(pid, "tcp") if state == "0A"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is how the sockets are found")
def test_it_is_on_loopback_only(own_ioc: MakeIoc, unique: str) -> None:
    """Sockets that accept connections, searches or beacons are bound to 127.0.0.1."""
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    pid = pid_of(ioc)
    assert listening(pid) == [(ioc.port, "127.0.0.1")]
    assert sockets_of(pid, "tcp6") == []
    assert sockets_of(pid, "udp6") == []
    udp = sockets_of(pid, "udp")
    assert {host for host, port, _ in udp if port == ioc.port} == {"127.0.0.1"}
    # EPICS has sockets for sending beacons, which are bound to no address. The kernel chose their
    # port, which is not a known port of EPICS.
    known = {5064, 5065, 5075, 5076}
    assert not [entry for entry in udp if entry[1] in known and entry[0] != "127.0.0.1"]


def test_it_starts_no_repeater_and_no_other_process(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    children = Path(f"/proc/{pid_of(ioc)}/task").glob("*/children")
    assert [file.read_text() for file in children if file.read_text()] == []


# -- Commands --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell() -> Iterator[SoftIoc]:
    """An IOC for commands that change nothing."""
    database = 'record(ai, "$(P)a") { field(VAL, "1") }\nrecord(ai, "$(P)b") { field(VAL, "2") }'
    with SoftIoc(database, {"P": "S:"}) as ioc:
        yield ioc


def test_the_output_of_a_command_is_its_own(shell: SoftIoc) -> None:
    assert sorted(shell.command("dbl").splitlines()) == ["S:a", "S:b"]
    assert shell.command("") == ""
    assert shell.command('echo "one"') == "one"
    assert shell.command("dbgf S:b").split() == ["DBF_DOUBLE:", "2"]
    assert shell.command("dbgf S:a").split() == ["DBF_DOUBLE:", "1"]


def test_many_commands_and_long_output(shell: SoftIoc) -> None:
    """The output is more than a pipe can hold: it is read as it comes."""
    text = shell.command("help *")
    text += "".join(shell.command("help *") for _ in range(5))
    assert len(text) > 65536
    assert shell.command('echo "after"') == "after"


def test_a_command_that_the_shell_does_not_know(shell: SoftIoc) -> None:
    assert "'nosuchcommand' not registered" in shell.command("nosuchcommand")
    assert shell.command('echo "still there"') == "still there"


@pytest.mark.parametrize("line", ["dbl\ndbl", "\n", "dbl\n"])
def test_one_line_at_a_time(shell: SoftIoc, line: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        shell.command(line)
    assert shell.command('echo "still there"') == "still there"


def test_commands_need_a_running_ioc(unique: str) -> None:
    ioc = SoftIoc(ONE, {"P": unique})
    for use in (lambda: ioc.command("dbl"), ioc.client_count, ioc.pause, ioc.resume):
        with pytest.raises(SoftIocError, match="not running"):
            use()


@pytest.mark.anyio
async def test_client_count(own_ioc: MakeIoc, unique: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    assert ioc.client_count() == 0
    await connect(unique + "x")
    assert ioc.client_count() == 1


def test_clients_are_gone_after_the_run(own_ioc: MakeIoc, unique: str, backend: str) -> None:
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    run(connect(unique + "x"), backend=backend)
    assert wait_until(lambda: ioc.client_count() == 0)


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
        assert "Traceback" not in done.stderr
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
