"""The public contract: names, signatures, constants and imports."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import typing
from importlib import metadata, resources
from types import ModuleType
from typing import Any

import anyio
import pytest

import aioca
import aioca.notebook
import aioca.snapshot
import aioca.testing
import aioca.types
from aioca import (
    ECA,
    FORMAT_RAW,
    FORMAT_TIME,
    CANothing,
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
from tests.support.contract import run_python

UNIT = True

POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
KEYWORD = inspect.Parameter.KEYWORD_ONLY
REQUIRED = inspect.Parameter.empty


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


@pytest.mark.parametrize(
    "name",
    ["aioca", "aioca.types", "aioca.testing", "aioca.blocking", "aioca.snapshot", "aioca.notebook"],
)
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
        caget caput camonitor connect cainfo wait_for_value watch_connection get_channel_infos
        purge_channel_caches configure run CAInfo CANothing CATimeout CADisconnected
        CAAccessDenied CARequestError
        ChannelInfo ECA Subscription __version__ ca_extra_fields
        DBR_STRING DBR_SHORT DBR_FLOAT DBR_ENUM DBR_CHAR DBR_LONG DBR_DOUBLE DBR_CHAR_STR
        DBR_CHAR_UNICODE DBR_ENUM_STR DBR_CHAR_BYTES DBR_PUT_ACKT DBR_PUT_ACKS DBR_STSACK_STRING
        DBR_CLASS_NAME DBE_VALUE DBE_LOG DBE_ALARM DBE_PROPERTY FORMAT_RAW FORMAT_TIME FORMAT_CTRL
        """,
    "aioca.types": "AugmentedValue Count Datatype Dbe Dbr Format TaskGroup Timeout",
    "aioca.testing": "SoftIoc SoftIocError free_port loopback_environment",
    "aioca.snapshot": """
        Difference Entry Outcome Snapshot SnapshotError State diff load parse_macros read_names
        restore save take
        """,
    "aioca.notebook": """
        BlockingLive Live Table live load_ipython_extension table unload_ipython_extension
        """,
    "aioca.blocking": """
        caget caput camonitor connect cainfo wait_for_value watch_connection Subscription
        Subscriptions Updates
        """,
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_names_of_the_contract_are_there(name: str) -> None:
    assert set(CONTRACT[name].split()) <= set(importlib.import_module(name).__all__)


def test_import_star() -> None:
    namespace: dict[str, Any] = {}
    exec("from aioca import *", namespace)
    assert set(aioca.__all__) == set(namespace) - {"__builtins__"}
    assert namespace["caget"] is caget


@pytest.mark.parametrize(
    "name", ["aioca", "aioca.types", "aioca.testing", "aioca.snapshot", "aioca.notebook"]
)
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
    for module in (aioca, aioca.types, aioca.testing, aioca.snapshot, aioca.notebook):
        assert module.__doc__
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                assert inspect.getdoc(thing), name


def test_version() -> None:
    assert aioca.__version__ == metadata.version("aioca")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", aioca.__version__)


@pytest.mark.parametrize("package", ["h5py", "ipykernel", "nbclient"])
def test_what_has_no_wheel_for_3_15_is_not_installed_there(package: str) -> None:
    """hatchling forgets the marker of an extra that names another extra of the package."""
    (needed,) = [
        requirement
        for requirement in metadata.requires("aioca") or ()
        if requirement.startswith(package) and "extra == 'test'" in requirement
    ]
    assert "python_version < '3.15'" in needed


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
                 "setuptools_dso", "IPython", "html", "aioca.testing", "aioca.notebook",
                 "aioca.blocking", "aioca._display", "aioca._demo"]
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
