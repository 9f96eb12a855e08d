"""The errors that failed operations return and raise."""

from __future__ import annotations

import concurrent.futures
import copy
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import aioca
from aioca import (
    CAAccessDenied,
    CADisconnected,
    CAError,
    CANothing,
    CARequestError,
    CATimeout,
    CAValueError,
    caget,
    cainfo,
    caput,
    connect,
    run,
)
from aioca._errors import Failure, error_for
from aioca._printable import printable
from aioca.testing import SoftIoc

pytestmark = pytest.mark.anyio
UNIT = True

ECA_NORMAL = 1
ECA_TIMEOUT = 80
ECA_BADTYPE = 114
ECA_GETFAIL = 152
ECA_PUTFAIL = 160
ECA_DISCONN = 192
ECA_NORDACCESS = 368
ECA_NOWTACCESS = 376
ECA_CHANDESTROY = 440

CLASSES = [CAError, CATimeout, CADisconnected, CAAccessDenied, CARequestError, CAValueError]
BY_STATUS = [
    (ECA_TIMEOUT, CATimeout),
    (ECA_DISCONN, CADisconnected),
    (ECA_CHANDESTROY, CADisconnected),
    (ECA_NORDACCESS, CAAccessDenied),
    (ECA_NOWTACCESS, CAAccessDenied),
    (ECA_PUTFAIL, CARequestError),
    (ECA_GETFAIL, CARequestError),
    (ECA_BADTYPE, CARequestError),
]


# -- The tree --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind,bases",
    [
        (CANothing, {Exception}),
        (CAError, {CANothing}),
        (CATimeout, {CAError, TimeoutError}),
        (CADisconnected, {CAError}),
        (CAAccessDenied, {CAError}),
        (CARequestError, {CAError}),
        (CAValueError, {CARequestError, ValueError}),
    ],
)
def test_tree(kind: type, bases: set[type]) -> None:
    assert set(kind.__bases__) == bases
    assert kind.__module__ == "aioca"
    assert getattr(aioca, kind.__name__) is kind


def test_nothing() -> None:
    done = CANothing("PV")
    assert (done.name, done.errorcode, done.ok, bool(done)) == ("PV", ECA_NORMAL, True, True)
    failed = CANothing("PV", ECA_DISCONN)
    assert (failed.errorcode, failed.ok, bool(failed)) == (ECA_DISCONN, False, False)
    assert str(failed) == "PV: Virtual circuit disconnect"
    assert repr(failed) == "CANothing('PV', 192)"


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_raised_is_truthy(kind: type[CAError]) -> None:
    error = kind("PV", ECA_TIMEOUT)
    assert bool(error)
    assert not error.ok
    assert not CANothing("PV", ECA_TIMEOUT)


@pytest.mark.parametrize("status,kind", BY_STATUS)
def test_class_by_status(status: int, kind: type[CAError]) -> None:
    error = error_for([Failure("PV", status, "doing this")])
    assert type(error) is kind
    assert (error.name, error.errorcode, error.ok) == ("PV", status, False)
    assert type(error_for([Failure("PV", status, "", local=True)])) is CAValueError


def test_error_of_many() -> None:
    error = error_for([Failure("A", ECA_DISCONN, "one"), Failure("B", ECA_TIMEOUT, "two")])
    assert type(error) is CADisconnected
    assert (error.name, error.errorcode) == ("A", ECA_DISCONN)
    assert [(one.name, one.errorcode, type(one)) for one in error.failures] == [
        ("A", ECA_DISCONN, CANothing), ("B", ECA_TIMEOUT, CANothing),
    ]  # fmt: skip
    assert not any(error.failures)
    for words in ("2 PVs", "A: Virtual circuit disconnect (one)", "B: ", "(two)"):
        assert words in str(error)


@pytest.mark.parametrize("kind", [CANothing, *CLASSES])
@pytest.mark.parametrize(
    "duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_pickle_and_copy(kind: type[CANothing], duplicate: Callable[[Any], Any]) -> None:
    error: Any = kind("PV", ECA_DISCONN, detail="doing this")
    if isinstance(error, CAError):
        error.failures = [CANothing("A", 80, detail="x"), CANothing("B", 80)]
    other = duplicate(error)
    assert type(other) is kind
    assert (other.name, other.errorcode, other.ok) == ("PV", ECA_DISCONN, False)
    assert (str(other), repr(other), bool(other)) == (str(error), repr(error), bool(error))
    assert other.args == error.args
    assert [str(one) for one in getattr(other, "failures", [])] == [
        str(one) for one in getattr(error, "failures", [])
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("µm/s² 日本 \\ '", "µm/s² 日本 \\ '"),
        ("a\x1b[31m\nb\x9b", r"a\x1b[31m\nb\x9b"),
        ("\0\x7f\r\t\u202e\u2028", r"\x00\x7f\r\t\u202e\u2028"),
        ("a\udcb5b\ud800", r"a\xb5b\ud800"),
        ("", ""),
    ],
    ids=ascii,
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


NASTY = "X\x1b[2J\nY\x9b"
SHOWN = r"X\x1b[2J\nY\x9b"


async def test_a_name_is_no_command_for_the_terminal_that_shows_the_error(p: str) -> None:
    with pytest.raises(CATimeout) as one:
        await caget(NASTY, timeout=0)
    assert str(one.value).startswith(f"{SHOWN}: User specified timeout")
    with pytest.raises(CATimeout) as many:
        await connect([NASTY, p + "ai", f"Z{NASTY}"], timeout=0.2)
    with pytest.raises(CAValueError) as long:
        await caget(NASTY * 200)
    nothing = await caput(NASTY, 1, timeout=0, throw=False)
    info = await cainfo(NASTY, wait=False)
    told = CANothing("X", ECA_GETFAIL, detail=f"reading: {NASTY}")
    for text in (str(many.value), str(long.value), str(nothing), repr(nothing), str(told)):
        assert text.isprintable() and SHOWN in text
    assert str(info).startswith(f"{SHOWN}\n    State: ")
    assert one.value.name == nothing.name == info.name == NASTY  # a program gets the name unescaped


async def test_nor_is_it_one_line_more_in_the_log(p: str, caplog: pytest.LogCaptureFixture) -> None:
    """The name of an existing record, with a newline in its filter."""
    name = f'{p}ao:free.{{"dbnd":\n{{"d":0}}}}'
    await caput(name, "nonsense")  # refused; only a log record reports it
    while not (records := [r for r in caplog.records if "ao:free" in r.getMessage()]):
        await anyio.sleep(0.01)  # poll: there is no event for a log record
    assert records[0].getMessage().startswith(rf'{p}ao:free.{{"dbnd":\n{{"d":0}}}}: Channel write')
    assert records[0].getMessage().isprintable()
    log = logging.getLogger("aioca")
    log.warning("%s, %d", NASTY, 5)
    log.warning("no arguments")
    texts = [record.getMessage() for record in caplog.records[-2:]]
    assert texts == [f"{SHOWN}, 5", "no arguments"]


class OwnError(CARequestError):
    """An error class of a program."""


def test_pickle_of_a_class_of_a_program() -> None:
    again = pickle.loads(pickle.dumps(OwnError("PV", 160, detail="doing this")))
    assert type(again) is OwnError
    assert "doing this" in str(again)


def test_timeout_is_no_system_error() -> None:
    """TimeoutError is an OSError, which would read the PV and the status as an errno."""
    error = CATimeout("PV", ECA_TIMEOUT)
    assert error.errno is None
    assert error.strerror is None


@pytest.mark.parametrize("status,kind", BY_STATUS)
def test_future_passes_it_on(status: int, kind: type[CAError]) -> None:
    """``Future.result()`` tests the truth value of an exception."""

    def fail() -> None:
        raise error_for([Failure("PV", status, "")])

    with (
        concurrent.futures.ThreadPoolExecutor(1) as executor,
        pytest.raises(kind) as caught,
    ):
        executor.submit(fail).result()
    assert caught.value.name == "PV"


def test_future_passes_on_the_error_of_a_real_call(p: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as executor, pytest.raises(CATimeout):
        executor.submit(run, caget(p + "absent", timeout=0.1)).result()


# -- Errors of each operation ----------------------------------------------------------------------


async def put(pv: Any, **options: Any) -> Any:
    return await caput(pv, 1, **options)


async def put_wait(pv: Any, **options: Any) -> Any:
    return await caput(pv, 1, wait=True, **options)


FUNCTIONS = [caget, put, put_wait, connect, cainfo]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


@every_function
async def test_timeout(p: str, function: Any) -> None:
    with pytest.raises(CATimeout) as caught:
        await function(p + "absent", timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, CANothing)
    text = str(caught.value)
    # The PV, libca's text, the operation, and where to look for the cause
    assert text.startswith(f"{p}absent: User specified timeout on IO operation expired (")
    assert "connecting" in text
    assert os.environ["EPICS_CA_ADDR_LIST"] in text
    nothing = await function(p + "absent", timeout=0.1, throw=False)
    assert type(nothing) is CANothing
    assert not nothing
    assert (nothing.name, nothing.errorcode, nothing.ok) == (p + "absent", ECA_TIMEOUT, False)
    assert str(nothing) == text


@every_function
async def test_list_names_every_pv_that_failed(p: str, function: Any) -> None:
    pvs = [p + "absent1", p + "ao:free", p + "absent2", ""]
    with pytest.raises(CAValueError):  # the invalid name, at once
        await function(pvs, timeout=0.1)
    with pytest.raises(CATimeout) as caught:
        await function(pvs[:3], timeout=0.5)
    assert [one.name for one in caught.value.failures] == [pvs[0], pvs[2]]
    assert str(caught.value).count("connecting") == 2
    assert pvs[0] in str(caught.value)
    assert pvs[2] in str(caught.value)
    assert pvs[1] not in str(caught.value)


async def test_traceback_is_short(p: str) -> None:
    with pytest.raises(CATimeout) as caught:
        await caget(p + "absent", timeout=0)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


# -- A server that is lost -------------------------------------------------------------------------


async def outcome_of(
    function: Any, own_ioc: Callable[..., SoftIoc], pv: str, pvs: Any, **options: Any
) -> Any:
    """The result or error of a function if the server dies while it handles the request."""
    with own_ioc(f'record(ao, "{pv}") {{}}') as ioc:
        await connect(pv)
        ioc.pause()
        outcome: list[Any] = []

        async def call() -> None:
            try:
                outcome.append(await function(pvs, timeout=20, **options))
            except CANothing as error:
                outcome.append(error)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tg:
                tg.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                assert not outcome
                ioc.kill()
        return outcome[0]


@pytest.mark.parametrize("function", [caget, put_wait], ids=lambda f: f.__name__)
async def test_server_lost(
    own_ioc: Callable[..., SoftIoc], unique: str, p: str, function: Any
) -> None:
    pv = unique + "X"
    error = await outcome_of(function, own_ioc, pv, pv)
    assert type(error) is CADisconnected
    assert (error.name, error.errorcode) == (pv, ECA_DISCONN)
    assert str(error).startswith(f"{pv}: Virtual circuit disconnect (")
    assert "server was lost" in str(error)
    assert ("outcome unknown" in str(error)) == (function is put_wait)


@pytest.mark.parametrize("function", [caget, put_wait], ids=lambda f: f.__name__)
async def test_server_lost_for_one_of_a_list(
    own_ioc: Callable[..., SoftIoc], unique: str, p: str, function: Any
) -> None:
    pv = unique + "X"
    results = await outcome_of(function, own_ioc, pv, [p + "ao:free", pv], throw=False)
    assert results[0].ok
    assert (type(results[1]), results[1].errorcode) == (CANothing, ECA_DISCONN)


async def test_after_the_server_was_lost(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    """A call that waits for a connection continues; its error says that there was one before."""
    with own_ioc(f'record(ao, "{unique}X") {{}}') as ioc:
        await connect(unique + "X")
        ioc.kill()
        with anyio.fail_after(10):
            while (await cainfo(unique + "X", wait=False)).ok:
                await anyio.sleep(0.01)  # poll: there is no event for the disconnection
        with pytest.raises(CATimeout, match="connecting: the server was lost"):
            await caget(unique + "X", timeout=0.1)


# -- epicscorelibs.ca.cadef ------------------------------------------------------------------------


def python(program: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


WITH_CADEF = """
import pickle, sys
from epicscorelibs.ca import cadef
import aioca
from aioca._errors import Failure, error_for

def caught(error):
    names = []
    for kind in (cadef.CAException, cadef.Disconnected, aioca.CANothing, TimeoutError):
        try:
            raise error
        except kind:
            names.append(kind.__name__)
        except Exception:
            pass
    return names

def of(status, local=False):
    return error_for([Failure("PV", status, "doing this", local)])

assert caught(of(192)) == ["Disconnected", "CANothing"], caught(of(192))
assert caught(of(160)) == ["CAException", "CANothing"]
assert caught(of(376)) == ["CAException", "CANothing"]
assert caught(of(176, True)) == ["CAException", "CANothing"]
assert caught(of(80)) == ["CANothing", "TimeoutError"]
assert isinstance(of(192), aioca.CADisconnected)
assert isinstance(of(376), aioca.CAAccessDenied)
for status in (80, 160, 192, 376):
    error = of(status)
    assert error and error.name == "PV" and error.errorcode == status
    assert str(error).startswith("PV: ") and "doing this" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again).__name__, str(again)) == (type(error).__name__, str(error))
    assert isinstance(again, aioca.CAError)
assert of(160).status == 160
assert type(of(160)) is type(of(160))

async def main(pv):
    try:
        await aioca.caput(pv, "Nonsense", wait=True)
    except cadef.CAException as error:
        return error.status
print(aioca.run(main(sys.argv[1])))
"""


def test_with_cadef(p: str) -> None:
    assert python(WITH_CADEF, p + "put:mbbo") == f"{ECA_PUTFAIL}\n"


WITHOUT_CADEF = """
import sys
import aioca
async def main(pv):
    for value in ("Nonsense", None):
        try:
            await aioca.caput(pv, value, wait=True)
        except aioca.CAError as error:
            assert type(error) in (aioca.CARequestError, aioca.CAValueError)
    nothing = await aioca.caget(pv + "absent", timeout=0.1, throw=False)
    assert type(nothing) is aioca.CANothing
    return [name for name in sys.modules if name.startswith("epicscorelibs.ca.")]
print(aioca.run(main(sys.argv[1])))
"""


def test_without_cadef(p: str) -> None:
    assert python(WITHOUT_CADEF, p + "put:mbbo") == "[]\n"
