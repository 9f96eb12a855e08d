"""aioca.testing.pytest_plugin, in separate pytest runs, with each runner of async tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from aioca.testing import _ports

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "testing_project"
PLUGIN = ["-p", "aioca.testing.pytest_plugin"]

# When a test and its fixtures have ended, nothing of it is left.
CONFTEST = """
import pytest
from aioca._channels import context as _context
from aioca._ca import tokens as _tokens
from aioca import get_channel_infos

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    result = yield
    assert get_channel_infos() == [], item
    assert _context.all_contexts() == [], item
    assert _tokens.token_count() == 0, item
    return result
"""

# The code of the tests for all runners. A monitor and a background callback are left running.
BODY = """
import pytest
from aioca import CATimeout, caget, camonitor, caput, wait_for_value

pytestmark = pytest.mark.soft_ioc('record(ao, "$(P)x") { field(VAL, "1") }')
numbers = []

async def use(ioc, library):
    import sniffio
    assert sniffio.current_async_library() == library
    x = ioc.prefix + "x"
    assert await caget(x) == 1
    camonitor(x, numbers.append)
    await caput(x, 5, wait=True)
    assert await wait_for_value(x, 5) == 5
    ioc.pause()
    with pytest.raises(CATimeout):
        await caget(x, timeout=0.1)
    ioc.resume()
    async with camonitor(x, notify_disconnect=True, all_updates=True) as updates:
        assert await updates.__anext__() == 5
        ioc.kill()
        assert not (await updates.__anext__()).ok
"""


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        if name != "PYTEST_CURRENT_TEST":  # pytest removes this one itself
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(
    pytester: pytest.Pytester, tests: str, *options: str, conftest: str = CONFTEST
) -> pytest.RunResult:
    """Run pytest in a separate process, with only the named plugins."""
    pytester.makeconftest(conftest)
    pytester.makepyfile(test_it=tests)
    return pytester.runpytest_subprocess("-W", "error", *PLUGIN, *options)


# -- Runners ---------------------------------------------------------------------------------------

ANYIO = ["-p", "anyio.pytest_plugin"]
ASYNCIO = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function"]
TRIO = ["-p", "pytest_trio.plugin"]


@pytest.mark.parametrize(
    ("options", "mark", "libraries"),
    [
        pytest.param(ANYIO, "@pytest.mark.anyio", ["asyncio", "trio"], id="anyio"),
        pytest.param([*ANYIO, "-o", "anyio_mode=auto"], "", ["asyncio", "trio"], id="anyio auto"),
        pytest.param(
            [*ASYNCIO, "--asyncio-mode=strict"], "@pytest.mark.asyncio", ["asyncio"],
            id="pytest-asyncio strict",
        ),
        pytest.param(
            [*ASYNCIO, "--asyncio-mode=auto"], "", ["asyncio"], id="pytest-asyncio auto"
        ),
        pytest.param(TRIO, "@pytest.mark.trio", ["trio"], id="pytest-trio"),
        pytest.param([*TRIO, "-o", "trio_mode=true"], "", ["trio"], id="pytest-trio auto"),
    ],
)  # fmt: skip
def test_runners(
    pytester: pytest.Pytester, options: list[str], mark: str, libraries: list[str]
) -> None:
    """Consecutive tests do not affect each other: nothing is left between them."""
    both = len(libraries) == 2
    tests = f"""
{mark}
async def test_one(soft_ioc{", anyio_backend_name" if both else ""}):
    await use(soft_ioc, {"anyio_backend_name" if both else repr(libraries[0])})

{mark}
async def test_two(soft_ioc{", anyio_backend_name" if both else ""}):
    await use(soft_ioc, {"anyio_backend_name" if both else repr(libraries[0])})
    assert numbers
"""
    run(pytester, BODY + tests, *options).assert_outcomes(passed=2 * len(libraries))


def test_a_loop_that_many_tests_share(pytester: pytest.Pytester) -> None:
    """The channels of the loop remain. The IOC of the next test is found by its own prefix."""
    tests = """
@pytest.mark.asyncio(loop_scope="module")
async def test_one(soft_ioc):
    await use(soft_ioc, "asyncio")

@pytest.mark.asyncio(loop_scope="module")
async def test_two(soft_ioc):
    await use(soft_ioc, "asyncio")
"""
    run(pytester, BODY + tests, *ASYNCIO, conftest="").assert_outcomes(passed=2)


def test_the_example_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """All three runners are active in one pytest, as they are loaded automatically."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=EXAMPLE, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert re.search(r"^13 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr


# -- Off the network -------------------------------------------------------------------------------

HOSTILE = {
    "EPICS_CA_ADDR_LIST": "192.0.2.1",
    "EPICS_CA_AUTO_ADDR_LIST": "YES",
    "EPICS_CA_NAME_SERVERS": "192.0.2.2:5064",
    "EPICS_CA_SERVER_PORT": "5099",
    "EPICS_CAS_INTF_ADDR_LIST": "192.0.2.3",
}

CONFINED = """
import os, subprocess, sys
import pytest
from aioca import CATimeout, caget, run

def test_environment():
    settings = {k: v for k, v in os.environ.items() if k.startswith("EPICS_CA")}
    addresses = settings.pop("EPICS_CA_ADDR_LIST").split()
    assert {a.partition(":")[0] for a in addresses} == {"127.0.0.1"}
    assert len(set(addresses)) == 11
    assert addresses[-1] == "127.0.0.1:6543"
    assert settings == {
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_NAME_SERVERS": "",
        "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
    }
    assert "192.0.2" not in subprocess.run(
        [sys.executable, "-c", "import os; print(os.environ)"],
        capture_output=True, text=True, check=True,
    ).stdout

def test_search():
    with pytest.raises(CATimeout) as caught:
        run(caget("NOBODY:HAS:THIS", timeout=0.2))
    assert "192.0.2" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
"""


def test_nothing_leaves_this_machine(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the user's environment is, and for child processes too."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    result = run(pytester, CONFINED, "-o", "aioca_addr_list=127.0.0.1:6543")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["aioca: Channel Access is confined to 127.0.0.1"])


def test_a_program_that_configures_itself(pytester: pytest.Pytester) -> None:
    """The program under test may configure real IOCs before libca has read its settings."""
    tests = """
import pytest
from aioca import CATimeout, caget, configure, run

@pytest.mark.parametrize("setting", [
    {"addr_list": "192.0.2.1"}, {"auto_addr_list": True}, {"name_servers": "192.0.2.1"}
])
def test_it(setting, monkeypatch):
    name = f"EPICS_CA_{next(iter(setting)).upper()}"
    monkeypatch.setenv(name, "")  # to be put back
    configure(**setting)
    with pytest.raises(RuntimeError, match=f"{name} has been set to .* it is not used"):
        run(caget("NOBODY:HAS:THIS"))

def test_other_settings(soft_ioc):
    configure(conn_tmo=5.0)
    soft_ioc.start('record(ao, "$(P)x") {}')
    assert run(caget(soft_ioc.prefix + "x")) == 0
"""
    run(pytester, tests).assert_outcomes(passed=4)


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    loopback = _ports.Loopback(2)
    loopback.confine()
    assert os.environ["EPICS_CA_ADDR_LIST"] != HOSTILE["EPICS_CA_ADDR_LIST"]
    loopback.close()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("use", "who"),
    [
        ("import aioca; aioca.run(aioca.connect('X', wait=False))", "aioca"),
        ("import epics; epics.ca.initialize_libca()", "pyepics"),
        ("from aioca._ca import libca; libca.context_create(1)", "another client"),
    ],
    ids=["aioca", "pyepics", "another client"],
)
def test_libca_was_used_before(pytester: pytest.Pytester, use: str, who: str) -> None:
    """It is too late to confine libca, so no test runs."""
    result = run(pytester, "def test_it(): pass", conftest=use)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*aioca.testing.pytest_plugin: {who} has used Channel Access *"])
    result.stdout.no_fnmatch_line("*passed*")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("aioca_addr_list=192.0.2.1", "'192.0.2.1' is not on this machine"),
        ("aioca_addr_list=ioc.example.org:5064", "'ioc.example.org:5064' is not on this machine"),
        ("aioca_soft_iocs=many", "'many'"),
    ],
)
def test_bad_settings(pytester: pytest.Pytester, setting: str, words: str) -> None:
    result = run(pytester, "def test_it(): pass", "-o", setting)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.2:5064", "localhost:5064"])
def test_servers_of_this_machine(server: str) -> None:
    loopback = _ports.Loopback(0, [server])
    assert loopback.environment()["EPICS_CA_ADDR_LIST"].split() == [server]
    loopback.close()


def test_only_who_asks_for_it_has_it() -> None:
    """pytest imports the plugin only if a project asks for it."""
    points = metadata.entry_points(group="pytest11")
    assert [point for point in points if "aioca" in point.value] == []


# -- IOCs ------------------------------------------------------------------------------------------


def test_markers(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Markers of a test, a class, a module; with text, and with files next to the test."""
    pytester.makefile(".db", records='record(ao, "$(P)x") { field(DESC, "$(D)") }')
    pytester.makefile(".acf", rules="ASG(DEFAULT) { RULE(1, READ) }")
    tests = """
from pathlib import Path
import pytest
from aioca import CAAccessDenied, caget, caput, run

pytestmark = pytest.mark.soft_ioc(Path("records.db"), {"D": "module"})

def described(ioc):
    return run(caget(ioc.prefix + "x.DESC"))

def test_module(soft_ioc):
    assert described(soft_ioc) == "module"
    assert len(soft_ioc.prefix) > 1

@pytest.mark.soft_ioc(Path("records.db"), {"D": "class", "P": "C:"})
class TestClass:
    def test_class(self, soft_ioc):
        assert described(soft_ioc) == "class"
        assert soft_ioc.prefix == "C:"

    @pytest.mark.soft_ioc('record(ai, "$(P)x") { field(DESC, "test") }')
    def test_test(self, soft_ioc):
        assert described(soft_ioc) == "test"

@pytest.mark.soft_ioc(Path("records.db"), {"D": ""}, access_security=Path("rules.acf"))
def test_options(soft_ioc):
    with pytest.raises(CAAccessDenied):
        run(caput(soft_ioc.prefix + "x", 1))
"""
    (pytester.path / "elsewhere").mkdir()
    monkeypatch.chdir(pytester.path / "elsewhere")
    run(pytester, tests, str(pytester.path), "--strict-markers").assert_outcomes(passed=4)


def test_ioc_by_call(pytester: pytest.Pytester) -> None:
    """Without a marker the test starts the IOC. The factory makes several, and reuses ports."""
    tests = """
import pytest
from aioca import caget, run
from aioca.testing import SoftIocError

DB = 'record(ao, "$(P)x") { field(VAL, "$(V=0)") }'
kept = []

def test_start(soft_ioc):
    assert soft_ioc.process is None
    soft_ioc.start(DB)
    assert run(caget(soft_ioc.prefix + "x")) == 0
    kept.append(soft_ioc)

def test_it_ended_with_its_test():
    assert kept[0].process is None
    with pytest.raises(RuntimeError, match="ended"):
        kept[0].start()

def test_two(soft_ioc_factory):
    for _ in range(2):
        with soft_ioc_factory(DB, {"V": 1}) as one, soft_ioc_factory(DB, {"V": 2}) as two:
            assert run(caget([one.prefix + "x", two.prefix + "x"])) == [1, 2]
            with pytest.raises(RuntimeError, match="aioca_soft_iocs"):
                soft_ioc_factory(DB)
    kept.append(soft_ioc_factory(DB))
    kept[-1].start()

@pytest.mark.soft_ioc('record(nosuchtype, "x") {}')
def test_it_cannot_start(soft_ioc):
    pass

@pytest.mark.soft_ioc(DB)
def test_the_port_was_given_back(soft_ioc):
    assert run(caget(soft_ioc.prefix + "x")) == 0
"""
    conftest = """
def pytest_unconfigure():
    import test_it
    assert test_it.kept[-1].process is None
    print("the last one has ended")
"""
    result = run(pytester, tests, "-o", "aioca_soft_iocs=2", conftest=conftest)
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(["*Record type 'nosuchtype'*", "the last one has ended"])


def test_side_by_side(pytester: pytest.Pytester) -> None:
    """The processes of pytest-xdist have different ports."""
    tests = """
import os, pathlib, time
import pytest

@pytest.mark.parametrize("number", range(2))
def test_it(number):
    worker = os.environ["PYTEST_XDIST_WORKER"]
    pathlib.Path(__file__).with_name(worker).write_text(os.environ["EPICS_CA_ADDR_LIST"])
"""
    run(pytester, tests, "-p", "xdist.plugin", "-n2").assert_outcomes(passed=2)
    first, second = (set((pytester.path / name).read_text().split()) for name in ("gw0", "gw1"))
    assert len(first) == len(second) == 10
    assert not first & second
