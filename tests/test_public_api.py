"""The public contract: names, signatures, constants, imports, README, IPython, aioca 2.x idioms."""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import typing
from collections.abc import Callable
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import numpy as np
import pytest

import aioca
import aioca.testing
import aioca.types
from aioca import (
    ECA,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CANothing,
    Subscription,
    ca_extra_fields,
    caget,
    camonitor,
    caput,
    connect,
    get_channel_infos,
    purge_channel_caches,
    run,
)
from aioca._ca import libca
from aioca.testing import SoftIoc, loopback_environment

UNIT = True

README = Path(__file__).parent.parent / "README.md"
MakeIoc = Callable[..., SoftIoc]

POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
KEYWORD = inspect.Parameter.KEYWORD_ONLY
REQUIRED = inspect.Parameter.empty


def run_python(
    source: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        capture_output=True, text=True, timeout=90, check=False,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip


# -- Names -----------------------------------------------------------------------------------------


def written_names(module: ModuleType) -> set[str]:
    """The public names that a module defines or imports from a sibling."""
    names: set[str] = set()
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", ["aioca", "aioca.types", "aioca.testing"])
def test_all_is_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    declared = module.__all__
    assert len(declared) == len(set(declared))
    assert [missing for missing in declared if not hasattr(module, missing)] == []
    expected = written_names(module)
    if name == "aioca":
        expected |= {"__version__"}
    assert set(declared) == expected


CONTRACT = {
    "aioca": """
        caget caput camonitor connect cainfo wait_for_value get_channel_infos purge_channel_caches
        configure run CAInfo CANothing CATimeout CADisconnected CAAccessDenied CARequestError
        ChannelInfo ECA Subscription __version__ ca_extra_fields
        DBR_STRING DBR_SHORT DBR_FLOAT DBR_ENUM DBR_CHAR DBR_LONG DBR_DOUBLE DBR_CHAR_STR
        DBR_CHAR_UNICODE DBR_ENUM_STR DBR_CHAR_BYTES DBR_PUT_ACKT DBR_PUT_ACKS DBR_STSACK_STRING
        DBR_CLASS_NAME DBE_VALUE DBE_LOG DBE_ALARM DBE_PROPERTY FORMAT_RAW FORMAT_TIME FORMAT_CTRL
        """,
    "aioca.types": "AugmentedValue Count Datatype Dbe Dbr Format TaskGroup Timeout",
    "aioca.testing": "SoftIoc SoftIocError free_port loopback_environment",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_names_of_the_contract_are_there(name: str) -> None:
    assert set(CONTRACT[name].split()) <= set(importlib.import_module(name).__all__)


def test_import_star() -> None:
    namespace: dict[str, Any] = {}
    exec("from aioca import *", namespace)
    assert set(aioca.__all__) == set(namespace) - {"__builtins__"}
    assert namespace["caget"] is caget


@pytest.mark.parametrize("name", ["aioca", "aioca.types", "aioca.testing"])
def test_public_objects_have_public_names(name: str) -> None:
    """Tracebacks, pickles and documentation show public names."""
    module = importlib.import_module(name)
    own = 0
    for public in module.__all__:
        thing = getattr(module, public)
        if inspect.isfunction(thing) or (inspect.isclass(thing) and thing is not int):
            assert (thing.__module__, thing.__qualname__) == (name, public)
            assert isinstance(typing.get_type_hints(thing), dict)  # evaluated in the public module
            own += 1
    assert own >= 4


def test_everything_public_is_documented() -> None:
    for module in (aioca, aioca.types, aioca.testing):
        assert module.__doc__
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                assert inspect.getdoc(thing), name


def test_version() -> None:
    assert aioca.__version__ == metadata.version("aioca")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", aioca.__version__)


def test_py_typed_is_shipped() -> None:
    assert resources.files("aioca").joinpath("py.typed").is_file()


# -- Signatures ------------------------------------------------------------------------------------


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    ]


def both(**defaults: Any) -> list[tuple[str, Any, Any]]:
    """Parameters that are accepted by position and by keyword."""
    return [(name, POSITIONAL, default) for name, default in defaults.items()]


SIGNATURES: dict[Any, list[tuple[str, Any, Any]]] = {
    caget: both(
        pv=REQUIRED, datatype=None, format=FORMAT_RAW, count=0, timeout=5.0, throw=True
    ),
    camonitor: [
        *both(
            pv=REQUIRED, callback=None, events=None, datatype=None, format=FORMAT_RAW, count=0,
            all_updates=False, notify_disconnect=False, connect_timeout=None,
        ),
        ("task_group", KEYWORD, None),
        ("max_pending", KEYWORD, None),
    ],
    connect: both(pv=REQUIRED, wait=True, timeout=5.0, throw=True),
    aioca.cainfo: both(pv=REQUIRED, wait=True, timeout=5.0, throw=True),
    get_channel_infos: [],
    purge_channel_caches: [],
    aioca.configure: [
        (name, KEYWORD, None)
        for name in (
            "addr_list", "auto_addr_list", "name_servers", "server_port", "repeater_port",
            "conn_tmo", "max_array_bytes", "auto_array_bytes", "priority",
        )
    ],
    run: [*both(coro=REQUIRED, forever=False), ("backend", KEYWORD, "asyncio")],
}  # fmt: skip


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__name__)
def test_signature(function: Any) -> None:
    assert parameters(function) == SIGNATURES[function]


def test_signature_of_wait_for_value() -> None:
    found = parameters(aioca.wait_for_value)
    assert found[:3] == both(pv=REQUIRED, match=REQUIRED, timeout=None)
    names = {name for name, _, _ in found[3:]}
    assert {"events", "datatype", "format", "count", "all_updates"} <= names
    assert names <= {name for name, _, _ in parameters(camonitor)}


@pytest.mark.parametrize("function", [caget, caput, connect, aioca.cainfo, aioca.wait_for_value])
def test_what_is_awaited_is_a_coroutine_function(function: Any) -> None:
    assert inspect.iscoroutinefunction(function)


@pytest.mark.anyio
async def test_caget_by_position_and_by_keyword(p: str) -> None:
    by_position = await caget(p + "ai", float, FORMAT_TIME, 1, 5.0, True)
    by_keyword = await caget(
        pv=p + "ai", datatype=float, format=FORMAT_TIME, count=1, timeout=5.0, throw=True
    )
    assert by_position == by_keyword == 1.5
    assert by_position.severity == by_keyword.severity


@pytest.mark.anyio
async def test_caput_one_by_position_and_by_keyword(p: str) -> None:
    pv = p + "ao:a"
    done = await caput(pv, 1, float, True, 5.0, True)
    assert done and done.ok and done.name == pv
    assert await caget(pv) == 1
    done = await caput(pv=pv, value="2", datatype=str, wait=True, timeout=5.0, throw=True)
    assert done
    assert await caget(pv) == 2
    with pytest.raises(TypeError):
        await caput(pv, 1, repeat_value=True)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        await caput(pv)  # type: ignore[call-overload]


@pytest.mark.anyio
async def test_caput_many_by_position_and_by_keyword(p: str) -> None:
    pvs = [p + "ao:a", p + "ao:b"]
    done = await caput(pvs, [1, 2], False, float, True, 5.0, True)
    assert [one.name for one in done] == pvs and all(done)
    assert await caget(pvs) == [1, 2]
    await caput(
        pvs=pvs, values=[3, 4], repeat_value=False, datatype=float, wait=True, timeout=5.0,
        throw=True,
    )  # fmt: skip
    assert await caget(pvs) == [3, 4]
    await caput(pvs, 5, wait=True)
    assert await caget(pvs) == [5, 5]
    with pytest.raises(TypeError):
        await caput(pvs)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        await caput()  # type: ignore[call-overload]


@pytest.mark.anyio
async def test_connect_and_cainfo_by_position(p: str) -> None:
    assert await connect(p + "ai", True, 5.0, True)
    assert (await aioca.cainfo(p + "ai", True, 5.0, True)).ok


@pytest.mark.anyio
async def test_camonitor_by_position(p: str) -> None:
    send, receive = anyio.create_memory_object_stream[Any](10)
    with send, receive, anyio.fail_after(10):
        subscription = camonitor(
            p + "ai", send.send_nowait, aioca.DBE_VALUE, float, FORMAT_TIME, 1, True, True, 5.0
        )
        value = await receive.receive()
        subscription.close()
    assert value == 1.5
    assert hasattr(value, "timestamp")
    assert subscription.all_updates is True


# -- Constants -------------------------------------------------------------------------------------

CONSTANTS = {
    "DBR_STRING": 0, "DBR_SHORT": 1, "DBR_FLOAT": 2, "DBR_ENUM": 3, "DBR_CHAR": 4, "DBR_LONG": 5,
    "DBR_DOUBLE": 6, "DBR_PUT_ACKT": 35, "DBR_PUT_ACKS": 36, "DBR_STSACK_STRING": 37,
    "DBR_CLASS_NAME": 38, "DBR_ENUM_STR": 996, "DBR_CHAR_BYTES": 997, "DBR_CHAR_UNICODE": 998,
    "DBR_CHAR_STR": 999,
    "DBE_VALUE": 1, "DBE_LOG": 2, "DBE_ALARM": 4, "DBE_PROPERTY": 8,
    "FORMAT_RAW": 0, "FORMAT_TIME": 1, "FORMAT_CTRL": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant(name: str) -> None:
    value = getattr(aioca, name)
    assert isinstance(value, int)
    assert value == CONSTANTS[name]


def test_every_constant_is_checked() -> None:
    prefixes = ("DBR_", "DBE_", "FORMAT_")
    assert {name for name in aioca.__all__ if name.startswith(prefixes)} == set(CONSTANTS)


def test_ca_extra_fields() -> None:
    assert ca_extra_fields == [
        "name", "ok", "datatype", "element_count", "severity", "status", "raw_stamp", "timestamp",
        "datetime", "units", "upper_disp_limit", "lower_disp_limit", "upper_alarm_limit",
        "lower_alarm_limit", "upper_warning_limit", "lower_warning_limit", "upper_ctrl_limit",
        "lower_ctrl_limit", "precision", "enums",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (1, "Normal successful completion"),
        (80, "User specified timeout on IO operation expired"),
        (160, "Channel write request failed"),
        (192, "Virtual circuit disconnect"),
        (376, "Write access denied"),
    ],
)
def test_eca_codes(code: int, message: str) -> None:
    nothing = CANothing("PV", code)
    assert nothing.errorcode == code
    assert nothing.ok is bool(nothing) is (code == 1)
    assert str(nothing) == f"PV: {message}"


def test_eca_has_every_code_of_caerr_h() -> None:
    """The wheel of epicscorelibs has the header that libca is built with."""
    header = (resources.files("epicscorelibs") / "include" / "caerr.h").read_text("utf-8")
    severities = {"SUCCESS": 1, "WARNING": 0, "ERROR": 2, "INFO": 3, "FATAL": 6}
    codes = {
        name: int(number) * 8 + severities[severity]
        for name, severity, number in re.findall(
            r"#define ECA_(\w+)\s+DEFMSG\(CA_K_(\w+),\s*(\d+)\)", header
        )
    }
    codes["ARRAY16KCLIENT"] = codes.pop("16KARRAYCLIENT")  # which is not a valid name in Python
    assert len(codes) == 61
    assert {member.name: member.value for member in ECA} == codes
    comments = re.findall(r"^/// (.*)\n#define ECA_(\w+)", header, re.MULTILINE)
    alike = [
        comment for comment, name in comments if name in codes and ECA[name].message in comment
    ]
    assert len(alike) > 50  # a few texts differ there


def test_eca_is_what_errorcodes_are_compared_with() -> None:
    assert CANothing("PV", 192).errorcode == ECA.DISCONN
    assert CANothing("PV", ECA.TIMEOUT).errorcode == 80
    assert ECA(CANothing("PV").errorcode) is ECA.NORMAL
    assert ECA.TIMEOUT.message in str(CANothing("PV", 80))
    ours = {name: code for name, code in vars(libca).items() if name.startswith("ECA_")}
    assert len(ours) > 10
    assert {name: ECA[name.removeprefix("ECA_")] for name in ours} == ours


def test_nothing_is_success_by_default() -> None:
    assert CANothing("PV").errorcode == 1
    assert CANothing("PV")


@pytest.mark.anyio
async def test_eca_codes_of_failures(p: str, unique: str) -> None:
    async def code(call: Any) -> int:
        result = await call
        assert type(result) is CANothing and not result
        return result.errorcode

    assert await code(caget(unique + "none", timeout=0.1, throw=False)) == 80
    assert await code(caput(p + "mbbo", "no such", wait=True, throw=False)) == 160
    assert await code(caput(p + "ao:readonly", 1, wait=True, throw=False)) == 376


# -- Importing -------------------------------------------------------------------------------------


@pytest.mark.process
def test_importing_is_light() -> None:
    done = run_python(
        """
        import sys
        import aioca, aioca.types
        heavy = ["asyncio", "trio", "setuptools", "pkg_resources", "epicscorelibs.path",
                 "epicscorelibs.ca", "epicscorelibs.ca.cadef", "epicscorelibs.ca.dbr",
                 "setuptools_dso", "IPython", "aioca.testing", "aioca._demo"]
        print([name for name in heavy if name in sys.modules])
        """
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.process
def test_importing_starts_nothing() -> None:
    """The import makes no thread, socket or CA context: configure() can still be called."""
    done = run_python(
        """
        import os, threading
        import aioca
        aioca.configure(addr_list=["127.0.0.1"], auto_addr_list=False)
        sockets = [fd for fd in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{fd}")
                   and os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")]
        print(threading.active_count(), sockets, len(os.listdir("/proc/self/task")))
        """,
        environment={"OPENBLAS_NUM_THREADS": "1"},  # so that numpy starts no threads
    )
    assert (done.stdout, done.stderr) == ("1 [] 1\n", "")


def test_using_asyncio_does_not_import_trio(p: str) -> None:
    done = run_python(
        """
        import asyncio, sys
        from aioca import caget
        print(asyncio.run(caget(sys.argv[1])), "trio" in sys.modules)
        """,
        p + "ai",
    )
    assert (done.stdout, done.stderr) == ("1.5 False\n", "")


# -- README ----------------------------------------------------------------------------------------

README_RECORDS = """
record(ao, "SETPOINT") {}
record(ai, "TEMPERATURE") { field(VAL, "21.5") }
"""


@pytest.mark.parametrize("call", ["run(main())", 'run(main(), backend="trio")'])
def test_the_program_of_the_readme(own_ioc: MakeIoc, call: str, tmp_path: Path) -> None:
    """The program runs unchanged until Ctrl-C, in both ways that the README describes."""
    program = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert call in program
    program = re.sub(r"^run\(main\(\)\).*$", call, program, flags=re.MULTILINE)
    file = tmp_path / "program.py"
    file.write_text(program, encoding="utf-8")
    ioc = own_ioc(README_RECORDS)
    ioc.start()
    with subprocess.Popen(
        [sys.executable, "-u", str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **loopback_environment(ioc.port)},
    ) as process:  # fmt: skip
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "[25.5, 21.5]\n"
            assert process.stdout.readline() == "21.5\n"
            ioc.command("dbpf TEMPERATURE 22.5")
            assert process.stdout.readline() == "22.5\n"
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(10)
            assert time.monotonic() - begin < 5.0
            errors = process.stderr.read()
        finally:
            watchdog.cancel()
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    for not_there in ("aioca/_libca", "aioca/_trampolines", "aioca/_intake", "Exception ignored"):
        assert not_there not in errors


def test_python_in_the_readme_compiles() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


# -- IPython ---------------------------------------------------------------------------------------

# Runs each cell as if it had been typed, and prints its value.
IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
for cell in sys.argv[1].split("----\\n"):
    result = shell.run_cell(cell)
    result.raise_error()
    if result.result is not None:
        print("->", repr(result.result))
"""


def in_ipython(cells: str, tmp_path: Path) -> tuple[list[str], str]:
    """Run cells (separated by lines of dashes); return their values and the text on stderr."""
    pytest.importorskip("IPython", reason="IPython is an extra, for these tests")
    done = run_python(IPYTHON, textwrap.dedent(cells), environment={"IPYTHONDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    results = [line[3:] for line in done.stdout.splitlines() if line.startswith("-> ")]
    return results, done.stderr


def test_ipython_awaits_with_asyncio(p: str, tmp_path: Path) -> None:
    results, errors = in_ipython(
        f"""
        from aioca import *
        ----
        await caget("{p}ai")
        ----
        await caget(["{p}ai", "{p}longout"])
        ----
        (await caput("{p}ao:a", 3, wait=True)).ok
        ----
        await caget("{p}ao:a", format=FORMAT_CTRL)
        ----
        [info.name.removeprefix("{p}") for info in get_channel_infos()]
        """,
        tmp_path,
    )
    # One loop runs all cells, so the channels remain
    assert results == ["1.5", "[1.5, 42]", "True", "3.0", "['ai', 'longout', 'ao:a']"]
    assert errors == ""


def test_a_monitor_survives_between_cells(p: str, tmp_path: Path) -> None:
    """It delivers while a cell runs the loop, until a cell without a loop closes it."""
    results, errors = in_ipython(
        f"""
        import asyncio
        from aioca import *
        await caput("{p}ao:b", 0, wait=True)
        seen = []
        news = asyncio.Event()
        def callback(value):
            seen.append(value)
            news.set()
        subscription = camonitor("{p}ao:b", callback, all_updates=True)
        await asyncio.wait_for(news.wait(), 10)
        seen
        ----
        subscription
        ----
        news.clear()
        await caput("{p}ao:b", 1, wait=True)
        await asyncio.wait_for(news.wait(), 10)
        seen
        ----
        subscription.close()
        subscription.state == Subscription.CLOSED
        ----
        await caput("{p}ao:b", 2, wait=True)
        await caget("{p}ao:b")
        seen
        """,
        tmp_path,
    )
    assert results == [
        "[0.0]",
        f"<Subscription '{p}ao:b' open>",
        "[0.0, 1.0]",
        "True",
        "[0.0, 1.0]",
    ]
    assert errors == ""


def test_ipython_awaits_with_trio(p: str, tmp_path: Path) -> None:
    """With trio each cell is a separate run: nothing remains for the next cell."""
    results, errors = in_ipython(
        f"""
        %autoawait trio
        ----
        from aioca import *
        ----
        await caget("{p}ai")
        ----
        (await caput("{p}ao:c", 5, wait=True)).ok
        ----
        await caget("{p}ao:c", format=FORMAT_TIME)
        ----
        async with camonitor("{p}ao:c") as updates:
            async for value in updates:
                break
        value
        ----
        get_channel_infos()
        """,
        tmp_path,
    )
    assert results == ["1.5", "True", "5.0", "5.0", "[]"]
    assert errors == ""


def test_ipython_with_asyncio_and_then_with_trio(p: str, tmp_path: Path) -> None:
    results, errors = in_ipython(
        f"""
        from aioca import *
        await caget("{p}ai")
        ----
        %autoawait trio
        ----
        await caget("{p}ai")
        ----
        %autoawait asyncio
        ----
        await caget("{p}ai")
        """,
        tmp_path,
    )
    assert results == ["1.5"] * 3
    assert errors == ""


# -- Idioms of programs for aioca 2.x --------------------------------------------------------------


@pytest.mark.anyio
async def test_the_return_value_of_camonitor_may_be_dropped(p: str) -> None:
    """The monitor keeps its callback and the order of its updates."""
    send, receive = anyio.create_memory_object_stream[Any](10)
    pv = p + "ao:a"
    await caput(pv, 0, wait=True)
    with send, receive, anyio.fail_after(10):
        camonitor(pv, send.send_nowait, all_updates=True)
        gc.collect()
        assert await receive.receive() == 0
        for value in (1, 2, 3):
            gc.collect()
            await caput(pv, value, wait=True)
        assert [await receive.receive() for _ in range(3)] == [1, 2, 3]
        purge_channel_caches()


@pytest.mark.anyio
async def test_a_coroutine_function_as_callback(p: str) -> None:
    """Such as the ``put`` of a queue; here the send of a memory stream, for both backends."""
    send, receive = anyio.create_memory_object_stream[Any](0)
    pv = p + "ao:a"
    await caput(pv, 0, wait=True)
    with send, receive, anyio.fail_after(10):
        subscription = camonitor(pv, send.send, all_updates=True)
        assert await receive.receive() == 0
        await caput(pv, 1, wait=True)
        assert await receive.receive() == 1
        subscription.close()


def test_the_put_of_an_asyncio_queue_as_callback(p: str) -> None:
    async def main() -> list[float]:
        queue: asyncio.Queue[Any] = asyncio.Queue(1)
        camonitor(p + "ticks", queue.put, all_updates=True)
        return [+await asyncio.wait_for(queue.get(), 10) for _ in range(4)]

    seen = asyncio.run(main())
    assert seen == [seen[0] + i for i in range(4)]


@pytest.mark.anyio
@pytest.mark.parametrize("format", [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ao:a", 2.5),
        ("longout", 42),
        ("mbbo", 2),
        ("stringout", "out"),
        ("wf:scratch", [1.0, 2.0, 3.0]),
    ],
)
async def test_a_value_can_be_put_again(p: str, name: str, value: Any, format: Any) -> None:
    pv = p + name
    before = await caget(pv)
    await caput(pv, value, wait=True)
    got = await caget(pv, format=format)
    await caput(pv, got, wait=True)
    again = await caget(pv)
    assert np.array_equal(again, value)
    await caput(pv, before, wait=True)  # restore the value


@pytest.mark.anyio
async def test_an_array_without_a_copy(p: str) -> None:
    """Under numpy 2 ``copy=False`` is an error where a copy would be needed."""
    value = await caget(p + "wf:DOUBLE", format=FORMAT_TIME)
    array = np.array(value, copy=False)
    assert type(array) is np.ndarray
    assert np.shares_memory(array, value)  # type: ignore[arg-type]
    assert array.tolist() == [1.5, -2.5, 3.0]
    array[0] = 9  # it is writable
    plain = +value
    assert type(plain) is np.ndarray
    assert not np.shares_memory(plain, array)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "format", "fields"),
    [
        ("ai", FORMAT_RAW, []),
        ("ai", FORMAT_TIME, ["severity", "status", "raw_stamp", "timestamp", "datetime"]),
        (
            "ai",
            FORMAT_CTRL,
            [
                "severity", "status", "units", "upper_disp_limit", "lower_disp_limit",
                "upper_alarm_limit", "lower_alarm_limit", "upper_warning_limit",
                "lower_warning_limit", "upper_ctrl_limit", "lower_ctrl_limit", "precision",
            ],
        ),
        ("mbbi", FORMAT_CTRL, ["severity", "status", "enums"]),
        ("stringin", FORMAT_CTRL, ["severity", "status"]),
        ("wf:DOUBLE", FORMAT_RAW, []),
    ],
)  # fmt: skip
async def test_probing_for_metadata(p: str, name: str, format: Any, fields: list[str]) -> None:
    """``hasattr`` is true for exactly the attributes of the reply, and never raises."""
    value = await caget(p + name, format=format)
    always = ["name", "ok", "datatype", "element_count"]
    found = [field for field in ca_extra_fields if hasattr(value, field)]
    if name == "stringin":  # strings have no CTRL type: the reply is STS or TIME
        assert set(found) >= {*always, *fields}
        assert not set(found) & {"units", "precision", "enums", "upper_disp_limit"}
    else:
        assert found == always + fields
    assert getattr(value, "nonsense", "none") == "none"


@pytest.mark.anyio
async def test_states_of_a_subscription(p: str) -> None:
    assert (Subscription.OPENING, Subscription.OPEN, Subscription.CLOSED) == (0, 1, 2)
    came = anyio.Event()
    subscription = camonitor(p + "ai", lambda _: came.set())
    assert isinstance(subscription, Subscription)
    assert subscription.state == Subscription.OPENING
    assert subscription.name == p + "ai"
    assert callable(subscription.callback)
    with anyio.fail_after(10):
        await came.wait()
    assert subscription.state == Subscription.OPEN
    assert subscription.dropped_callbacks == 0
    subscription.close()
    assert subscription.state == Subscription.CLOSED


@pytest.mark.anyio
async def test_subscriptions_of_a_list(p: str) -> None:
    seen: dict[int, float] = {}
    both_came = anyio.Event()

    def callback(value: Any, index: int) -> None:
        seen[index] = +value
        if len(seen) == 2:
            both_came.set()

    subscriptions = camonitor([p + "ai", p + "longout"], callback)
    assert isinstance(subscriptions, list)
    assert all(isinstance(subscription, Subscription) for subscription in subscriptions)
    with anyio.fail_after(10):
        await both_came.wait()
    for subscription in subscriptions:
        subscription.close()
    assert seen == {0: 1.5, 1: 42}


def test_purging_without_a_loop(p: str, backend: str) -> None:
    """A purge before the first use, after a run, or twice: the next run works."""
    purge_channel_caches()
    for _ in range(2):
        assert run(caget(p + "ai"), backend=backend) == 1.5
        purge_channel_caches()
        purge_channel_caches()
        assert get_channel_infos() == []


def test_purging_after_a_loop_that_was_only_closed(p: str) -> None:
    """For programs that do not use asyncio.run."""
    loop = asyncio.new_event_loop()
    subscriptions = []

    async def main() -> None:
        subscriptions.append(camonitor(p + "ticks", lambda _: None))
        assert await caget(p + "ai") == 1.5

    loop.run_until_complete(main())
    assert len(get_channel_infos()) == 2
    purge_channel_caches()
    assert get_channel_infos() == []
    assert subscriptions[0].state == Subscription.CLOSED
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.mark.anyio
async def test_no_timeout_and_a_cancellation_from_outside(p: str, unique: str) -> None:
    """With timeout=None only a cancellation ends the wait. Later calls are not affected."""
    for call in (
        caget(unique + "none", timeout=None),
        caput(unique + "none", 1, wait=True, timeout=None),
        connect(unique + "none", timeout=None),
        caput(p + "slower.A", 1, wait=True, timeout=None),  # takes 3 s
    ):
        begin = time.monotonic()
        with anyio.move_on_after(0.1) as scope:
            await call
        assert scope.cancelled_caught
        assert time.monotonic() - begin < 2.0
    assert await caget(p + "ai") == 1.5


def test_asyncio_wait_for(p: str, unique: str) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(caget(unique + "none", timeout=None), 0.1)
        assert await asyncio.wait_for(caget(p + "ai", timeout=None), 10) == 1.5

    asyncio.run(main())


@pytest.mark.anyio
async def test_callbacks_are_on_the_thread_of_the_loop(p: str) -> None:
    threads: list[int] = []
    enough = anyio.Event()

    def callback(value: Any) -> None:
        threads.append(threading.get_ident())
        if len(threads) == 3:
            enough.set()

    subscription = camonitor(p + "ticks", callback, all_updates=True)
    with anyio.fail_after(10):
        await enough.wait()
    subscription.close()
    assert set(threads) == {threading.get_ident()}


def test_classes_of_epicscorelibs(p: str) -> None:
    """Programs import its dbr for names and for isinstance.

    In a separate process, because the module cannot be unloaded.
    """
    done = run_python(
        """
        import sys, asyncio
        from epicscorelibs.ca import dbr
        from aioca import *
        names = ["DBR_STRING", "DBR_DOUBLE", "DBR_CHAR_STR", "DBR_ENUM_STR", "DBR_CLASS_NAME"]
        assert all(getattr(dbr, name) == globals()[name] for name in names)
        async def main():
            kinds = {"ai": dbr.ca_float, "longout": dbr.ca_int, "stringin": dbr.ca_str,
                     "wf:DOUBLE": dbr.ca_array}
            for name, kind in kinds.items():
                value = await caget(sys.argv[1] + name)
                assert isinstance(value, kind), name
        asyncio.run(main())
        """,
        p,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("setting", "failing", "clause"),
    [
        ("", 'caput(p + "mbbo", "no such", wait=True)', "cadef.CAException"),
        ("", 'caput(p + "ao:readonly", 1, wait=True)', "cadef.CAException"),
        ("", 'caput(p + "mbbo", "no such", wait=True)', "CANothing"),
        ("", 'caget(p + "none", timeout=0.1)', "CANothing"),
        ("loop.call_later(0.2, purge_channel_caches)", 'caget(p + "none")', "cadef.Disconnected"),
        ("loop.call_later(0.2, purge_channel_caches)", 'caget(p + "none")', "CANothing"),
    ],
    ids=["refused", "denied", "refused by base", "timeout by base", "closed", "closed by base"],
)
def test_exceptions_of_epicscorelibs(p: str, setting: str, failing: str, clause: str) -> None:
    """If a program has imported cadef, its except clauses catch our errors."""
    done = run_python(
        f"""
        import asyncio, sys
        from epicscorelibs.ca import cadef
        from aioca import CANothing, caget, caput, purge_channel_caches
        p = sys.argv[1]
        async def main():
            loop = asyncio.get_running_loop()
            {setting or "pass"}
            try:
                await {failing}
            except {clause} as error:
                print(bool(error), isinstance(error, CANothing), error.name.startswith(p), error)
        asyncio.run(main())
        """,
        p,
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"True True True {p}")
