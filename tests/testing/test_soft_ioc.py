"""aioca.testing.SoftIoc: databases and commands."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioca import caget, connect, run
from aioca.testing import SoftIoc, SoftIocError
from tests.support.soft_iocs import ONE, MakeIoc
from tests.support.waiting import wait_until

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
    with pytest.raises(SoftIocError, match=r"a file is given as pathlib\.Path\('.*records\.db'\)"):
        own_ioc(str(file), {"P": "X:"}).start()
    with pytest.raises(SoftIocError) as caught:
        own_ioc("record(ai, pump.db").start()
    assert "pathlib" not in str(caught.value)


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
        with pytest.raises(SoftIocError) as caught:
            use()
        assert str(caught.value) == f"the IOC at 127.0.0.1:{ioc.port} is not running"


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


# -- Memory ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_no_memory_is_locked(own_ioc: MakeIoc, unique: str) -> None:
    """EPICS base would lock all that is mapped, 1 GB and more, where it is allowed to."""
    ioc = own_ioc(ONE, {"P": unique})
    ioc.start()
    assert ioc.process is not None
    status = Path(f"/proc/{ioc.process.pid}/status").read_text(encoding="utf-8")
    assert "\nVmLck:\t       0 kB\n" in status
