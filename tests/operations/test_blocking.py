"""aioca.blocking: the functions as plain calls, from scripts, threads and running event loops."""

from __future__ import annotations

import _thread
import contextvars
import inspect
import itertools
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import numpy as np
import pytest

import aioca
from aioca import FORMAT_CTRL, FORMAT_RAW, FORMAT_TIME, blocking
from aioca._channels import context as contexts
from aioca.blocking import _loop_thread
from aioca.testing import SoftIoc
from tests.support.waiting import wait_until

NAMES = ["caget", "caput", "connect", "cainfo", "wait_for_value"]


@pytest.fixture(autouse=True)
def loop_ended() -> Iterator[None]:
    """End the loop of the blocking calls: the next test starts another one."""
    yield
    _loop_thread.close_loop_thread()


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for a condition that nothing announces."""
    assert wait_until(condition, seconds), "the condition did not come true"


def asynchronously(name: str, *args: Any, **options: Any) -> Any:
    return anyio.run(partial(getattr(aioca, name), *args, **options))


# -- The same as the async functions ---------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "camonitor", "watch_connection"])
def test_signatures(name: str) -> None:
    theirs = inspect.signature(getattr(aioca, name)).parameters
    ours = inspect.signature(getattr(blocking, name)).parameters
    assert [str(parameter) for parameter in ours.values()] == [
        str(parameter) for parameter in theirs.values() if parameter.name != "task_group"
    ]


def content(value: Any) -> Any:
    """Everything that a value has."""
    extra = {name: getattr(value, name, None) for name in aioca.ca_extra_fields}
    plain = value.tolist() if isinstance(value, np.ndarray) else +value
    return type(value), plain, {key: str(field) for key, field in extra.items()}


@pytest.mark.parametrize("format", [FORMAT_RAW, FORMAT_TIME, FORMAT_CTRL])
def test_values(p: str, format: aioca.types.Format) -> None:
    names = [p + n for n in ("ai", "longin", "bi", "mbbi", "stringin", "calc", "wf:DOUBLE", "lsi")]
    theirs = asynchronously("caget", names, format=format)
    assert [content(v) for v in blocking.caget(names, format=format)] == [
        content(v) for v in theirs
    ]
    assert content(blocking.caget(p + "ai", format=format)) == content(theirs[0])
    assert content(blocking.caget(iter(names[:1]), str)[0]) == content(
        asynchronously("caget", names[0], str)
    )


def test_writing(p: str) -> None:
    written = blocking.caput(p + "put:ao", 2.5, wait=True)
    assert written.ok and written.name == p + "put:ao"
    assert blocking.caget(p + "put:ao") == 2.5
    names = [p + "m:a", p + "m:b"]
    results = blocking.caput((name for name in names), (value for value in (1, 2)), wait=True)
    assert [result.name for result in results if result.ok] == names
    assert blocking.caget(names) == [1, 2]
    assert all(blocking.caput(names, 4, repeat_value=True, wait=True))
    assert blocking.caget(names) == [4, 4]


def test_channels(p: str) -> None:
    assert blocking.connect(p + "ai").ok
    assert [each.name for each in blocking.connect([p + "ai", p + "ao"])] == [p + "ai", p + "ao"]
    assert vars(blocking.cainfo(p + "ai")) == vars(asynchronously("cainfo", p + "ai"))
    assert not blocking.cainfo(p + "nothing", wait=False).ok


def test_waiting_for_a_value(p: str) -> None:
    threading.Timer(0.05, partial(blocking.caput, p + "ao:a", 17)).start()
    value = blocking.wait_for_value(p + "ao:a", 17, timeout=10, format=FORMAT_TIME)
    assert value == 17 and value.timestamp > 0
    assert blocking.wait_for_value(p + "ticks", lambda v: v > 0, timeout=10) > 0


FAILURES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("caget", ("{}nothing",), {"timeout": 0.1}),
    ("caget", (["{}ai", "{}nothing"],), {"timeout": 0.1}),
    ("caget", ("{}ai",), {"format": 7}),
    ("caget", ("{}ai",), {"timeout": "soon"}),
    ("caget", (3,), {}),
    ("caput", ("{}ao:readonly", 1), {}),
    ("caput", ("{}mbbo", "no such label"), {"wait": True}),
    ("caput", (["{}ao", "{}ao:a"], [1]), {}),
    ("caput", (), {}),
    ("connect", ("{}nothing",), {"timeout": 0.1}),
    ("cainfo", ("",), {}),
    ("wait_for_value", ("{}ai", "no number"), {"timeout": 0.1}),
]


@pytest.mark.parametrize("name,arguments,options", FAILURES, ids=map(str, range(len(FAILURES))))
def test_errors(p: str, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    def filled(argument: Any) -> Any:
        if isinstance(argument, list):
            return [filled(each) for each in argument]
        return argument.format(p) if isinstance(argument, str) else argument

    arguments = tuple(map(filled, arguments))
    with pytest.raises(Exception) as theirs:
        asynchronously(name, *arguments, **options)
    with pytest.raises(type(theirs.value)) as ours:
        getattr(blocking, name)(*arguments, **options)
    assert type(ours.value) is type(theirs.value)
    assert str(ours.value) == str(theirs.value)


def test_failures_in_place(p: str) -> None:
    good, bad = blocking.caget([p + "ai", p + "nothing"], timeout=0.2, throw=False)
    assert good.ok and type(bad) is aioca.CANothing and not bad
    assert bad.errorcode == aioca.ECA.TIMEOUT


def test_a_value_can_be_pickled(p: str) -> None:
    value = blocking.caget(p + "ai", format=FORMAT_TIME)
    assert content(pickle.loads(pickle.dumps(value))) == content(value)


# -- Threads and loops -----------------------------------------------------------------------------


def test_many_threads_at_once(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    threads, times = 16, 100
    database = "".join(f'record(longout, "{unique}{i}") {{}}\n' for i in range(threads))
    begin = threading.Barrier(threads)

    def work(number: int) -> list[int]:
        begin.wait(10)
        seen = []
        for step in range(times):
            blocking.caput(f"{unique}{number}", number * times + step, wait=True)
            seen.append(int(blocking.caget(f"{unique}{number}")))
        return seen

    with own_ioc(database), ThreadPoolExecutor(threads) as pool:
        for number, seen in enumerate(pool.map(work, range(threads))):
            assert seen == list(range(number * times, number * times + times))
    assert len(contexts.all_contexts()) == 1


async def test_in_a_thread_with_a_running_loop(p: str, anyio_backend: object) -> None:
    assert blocking.caget(p + "longin") == await aioca.caget(p + "longin") == -42
    with blocking.camonitor(p + "ticks") as updates:
        first, second = (next(updates), next(updates))
    assert second > first


@pytest.mark.parametrize("how", ["match", "logging"])
def test_on_its_own_loop(p: str, how: str) -> None:
    errors: list[RuntimeError] = []

    def call(*_: object) -> bool:
        with pytest.raises(RuntimeError, match="would wait for itself") as error:
            blocking.caget(p + "ai")
        errors.append(error.value)
        return True

    if how == "match":
        blocking.wait_for_value(p + "ai", call, timeout=10)
    else:
        handler = logging.Handler()
        handler.emit = call  # type: ignore[method-assign,assignment]
        logging.getLogger("aioca").addHandler(handler)
        try:
            blocking.caput(p + "ao:disabled", 1)  # refused: it is logged
            until(lambda: errors)
        finally:
            logging.getLogger("aioca").removeHandler(handler)
    assert errors
    assert blocking.caget(p + "longin") == -42


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("no")])
def test_errors_of_match_leave_the_loop_running(p: str, error: BaseException) -> None:
    def match(_: object) -> bool:
        raise error

    with pytest.raises(type(error)) as caught:
        blocking.wait_for_value(p + "ai", match, timeout=10)
    assert caught.value is error
    assert blocking.caget(p + "longin") == -42


def test_another_loop_after_the_end(p: str) -> None:
    blocking.caget(p + "ai")
    first = _loop_thread.loop_thread()
    with blocking.camonitor(p + "ai") as updates:
        next(updates)
        caught: list[str] = []

        def wait() -> None:
            with pytest.raises(RuntimeError) as error:
                blocking.wait_for_value(p + "ai", "never", datatype=str)
            caught.append(str(error.value))

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: first._pending)
        _loop_thread.close_loop_thread()
        waiting.join(10)
        assert list(updates) == []
    assert "has ended" in caught[0]
    assert blocking.caget(p + "longin") == -42
    assert _loop_thread.loop_thread() is not first


# -- Ctrl-C ----------------------------------------------------------------------------------------


def interrupted(call: Callable[[], Any]) -> float:
    """Press Ctrl-C while a call waits; return how long the call goes on, in seconds."""
    pressed: list[float] = []

    def press() -> None:
        until(lambda: _loop_thread.loop_thread()._pending)
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    _loop_thread.loop_thread()
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    presser.join()
    return time.monotonic() - pressed[0]


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(),
    reason="Ctrl-C is for the main thread",
)
def test_ctrl_c_just_before_the_wait(p: str) -> None:
    """Python has noted the signal, but the wait that begins then is not interrupted by it."""

    def press() -> None:
        until(lambda: _loop_thread.loop_thread()._pending)
        time.sleep(0.01)  # until the call waits: there is no event for that
        _thread.interrupt_main()  # notes SIGINT, and interrupts nothing

    presser = threading.Thread(target=press)
    presser.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        blocking.connect(p + "nothing", timeout=20)
    assert time.monotonic() - started < 10
    presser.join()


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(),
    reason="Ctrl-C is for the main thread",
)
@pytest.mark.parametrize("call", ["caget", "caput", "connect", "wait_for_value", "next", "wait"])
def test_ctrl_c(p: str, call: str) -> None:
    nothing = p + "nothing"
    with blocking.camonitor(nothing) as updates:
        calls: dict[str, Callable[[], Any]] = {
            "caget": lambda: blocking.caget([p + "ai", nothing], timeout=None),
            "caput": lambda: blocking.caput(p + "slower.A", 1, wait=True, timeout=None),
            "connect": lambda: blocking.connect(nothing, timeout=None),
            "wait_for_value": lambda: blocking.wait_for_value(p + "ai", 123456.0),
            "next": lambda: next(updates),
            "wait": updates.subscriptions[0].wait,
        }
        assert interrupted(calls[call]) < 0.5
        context = _loop_thread.loop_thread().context
        until(lambda: not context.operations)  # the call was cancelled
        assert blocking.caget(p + "longin") == -42
    if call == "caput":
        blocking.wait_for_value(p + "slower.DLYA", 0, timeout=10)


def test_no_update_is_lost_to_ctrl_c(p: str, ioc: SoftIoc) -> None:
    blocking.caput(p + "ao:b", 0, wait=True)  # a write of the value that is there is no update
    with blocking.camonitor(p + "ao:b", datatype=int, all_updates=True) as updates:
        next(updates)
        interrupted(lambda: next(updates))
        for number in range(1, 6):
            blocking.caput(p + "ao:b", number, wait=True)
        assert [next(updates) for _ in range(5)] == [1, 2, 3, 4, 5]


# -- Iterating -------------------------------------------------------------------------------------


def test_iterating_over_several_pvs(p: str) -> None:
    names = [p + "ai", p + "longin"]
    with blocking.camonitor(names, format=FORMAT_TIME) as updates:
        assert {value.name for value in itertools.islice(updates, 2)} == set(names)
        assert [each.name for each in updates.subscriptions] == names
        assert all(each.state == blocking.Subscription.OPEN for each in updates.subscriptions)
    assert all(each.state == blocking.Subscription.CLOSED for each in updates.subscriptions)
    assert list(updates) == []
    with blocking.camonitor([]) as none:
        assert list(none) == []


def test_all_updates_come_in_order(p: str) -> None:
    name = p + "ao:c"
    blocking.caput(name, 0, wait=True)
    with blocking.camonitor(name, all_updates=True, datatype=int) as updates:
        next(updates)
        for number in range(1, 301):
            blocking.caput(name, number, wait=True)
        assert list(itertools.islice(updates, 300)) == list(range(1, 301))
        assert updates.subscriptions[0].dropped_callbacks == 0


@pytest.mark.parametrize("kept,options", [(1, {}), (3, {"max_pending": 3})])
def test_a_slow_thread_gets_the_newest(p: str, kept: int, options: dict[str, Any]) -> None:
    name = p + "ao:c"
    blocking.caput(name, 0, wait=True)
    with blocking.camonitor(name, datatype=int, **options) as updates:
        assert next(updates) == 0
        for number in range(1, 21):
            blocking.caput(name, number, wait=True)
        (subscription,) = updates.subscriptions
        until(lambda: subscription.dropped_callbacks == 20 - kept)
        assert [next(updates) for _ in range(kept)] == list(range(21 - kept, 21))


def test_several_threads_share_an_iteration(p: str) -> None:
    name, count = p + "ao:c", 200
    blocking.caput(name, 0, wait=True)
    with blocking.camonitor(name, all_updates=True, datatype=int) as updates:
        next(updates)
        shares: list[list[int]] = [[] for _ in range(4)]

        def take(share: list[int]) -> None:
            for value in updates:
                share.append(value)

        with ThreadPoolExecutor(4) as pool:
            threads = [pool.submit(take, share) for share in shares]
            for number in range(1, count + 1):
                blocking.caput(name, number, wait=True)
            # The server may send an update after the end of its put
            until(lambda: sum(map(len, shares)) >= count)
            until(lambda: len(updates._handover._wanted) == 4)  # type: ignore[union-attr]
            updates.subscriptions[0].close()  # in this thread: it ends the others' iterations
            for thread in threads:
                thread.result(10)
    assert sorted(itertools.chain(*shares)) == list(range(1, count + 1))
    assert all(share == sorted(share) for share in shares)


def test_disconnections_and_time_outs(own_ioc: Callable[..., SoftIoc], unique: str) -> None:
    soft_ioc = own_ioc(f'record(ao, "{unique}a") {{}}')
    options: Any = {"notify_disconnect": True, "connect_timeout": 0.1}
    with blocking.camonitor(unique + "a", **options) as updates:
        late = next(updates)
        assert not late.ok and late.errorcode == aioca.ECA.TIMEOUT
        with soft_ioc:
            assert next(updates) == 0
        lost = next(updates)
        assert not lost.ok and lost.errorcode == aioca.ECA.DISCONN


def test_a_block_that_is_never_entered(p: str) -> None:
    with pytest.warns(ResourceWarning, match="never entered"):
        blocking.camonitor([p + "ai", p + "ao"])


def test_a_block_is_entered_once(p: str) -> None:
    subscription = blocking.camonitor(p + "ai")
    with subscription:
        pass
    with pytest.raises(RuntimeError, match="entered before"), subscription:
        pass
    closed = blocking.camonitor(p + "ai", print)
    closed.close()
    with pytest.raises(RuntimeError, match="is closed"), closed:
        pass
    with pytest.raises(TypeError, match="enter its block"):
        iter(closed)


@pytest.mark.parametrize(
    "arguments,error",
    [
        ((3,), TypeError),
        (("A", 4), TypeError),
        (("A", anyio.sleep), TypeError),
        (("A" * 2000, print), aioca.CAValueError),
        (("A", None, 99), ValueError),
        (("A", None, None, None, 5), ValueError),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        blocking.camonitor(*arguments)
    assert aioca.get_channel_infos() == []


# -- Callbacks -------------------------------------------------------------------------------------


class Got(list[Any]):
    """A callback that keeps what it gets."""

    def __call__(self, *arguments: Any) -> None:
        self.append(arguments)


def test_callbacks(p: str) -> None:
    one, many = Got(), Got()
    names = [p + "ai", p + "longin"]
    single = blocking.camonitor(names[0], one, format=FORMAT_TIME)
    several = blocking.camonitor(names, many)
    until(lambda: one and len(many) == 2)
    assert {index: value.name for value, index in many} == dict(enumerate(names))
    assert single.callback is one and single.state == single.OPEN
    single.close()
    several.close()
    assert single.wait(10) and several.wait(10)
    assert single.state == single.CLOSED and single.dropped_callbacks == 0


def test_a_callback_calls_and_closes(p: str) -> None:
    found = Got()

    def callback(value: Any) -> None:
        found(value, blocking.caget(p + "longin"), threading.current_thread().name)
        subscription.close()

    begin = threading.Event()
    subscription = blocking.camonitor(p + "ticks", lambda value: begin.wait(10) and callback(value))
    begin.set()
    assert subscription.wait(10)
    ((_, answer, thread),) = found
    assert answer == -42 and thread != threading.current_thread().name


def test_a_callback_has_the_context_variables_of_its_caller(p: str) -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("the caller's")
    found = Got()
    with blocking.camonitor(p + "ai", lambda value: found(variable.get())):
        until(lambda: found)
    assert found[0] == ("the caller's",)


def test_another_callback_can_be_assigned(p: str) -> None:
    first, second = Got(), Got()
    with blocking.camonitor([p + "ticks"], first) as (subscription,):
        until(lambda: first)
        subscription.callback = second
        until(lambda: second)
        assert [len(arguments) for arguments in second] == [1] * len(second)


def test_no_callback_after_the_block(p: str) -> None:
    running, go_on = threading.Event(), threading.Event()
    states: list[str] = []

    def callback(value: Any) -> None:
        running.set()
        go_on.wait(10)
        states.append("called")

    with blocking.camonitor(p + "ticks", callback):
        assert running.wait(10)
        threading.Timer(0.2, go_on.set).start()
    states.append("block left")  # it waited for the callback that ran
    blocking.wait_for_value(p + "ticks", lambda value: True, timeout=10)
    assert states == ["called", "block left"]


def test_no_callback_begins_after_close(p: str) -> None:
    name = p + "ao:c"
    for number in range(50):
        closed = threading.Event()
        late: list[Any] = []
        subscription = blocking.camonitor(
            name, lambda value, closed=closed, late=late: closed.is_set() and late.append(value)
        )
        blocking.caput(name, number, wait=True)
        subscription.close()
        closed.set()
        blocking.caput(name, -number, wait=True)
        assert not late


# -- The error of a callback -----------------------------------------------------------------------


def raising(error: BaseException, when: threading.Event | None = None) -> Callable[..., None]:
    def callback(*_: Any) -> None:
        if when is None or when.wait(10):
            raise error

    return callback


WAITS: dict[str, Callable[[str, Any], Any]] = {
    "caget": lambda p, _: blocking.caget(p + "nothing", timeout=None),
    "wait_for_value": lambda p, _: blocking.wait_for_value(p + "ai", 123456.0),
    "wait": lambda p, subscription: subscription.wait(),
    "next": lambda p, _: next(blocking.camonitor(p + "nothing").__enter__()),
}


@pytest.mark.parametrize("wait", WAITS)
def test_the_error_ends_what_the_block_waits_for(p: str, wait: str) -> None:
    error, begin = ZeroDivisionError("by the callback"), threading.Event()
    with (
        pytest.raises(ZeroDivisionError) as caught,
        blocking.camonitor([p + "ai", p + "ao"], raising(error, begin)) as subscriptions,
    ):
        threading.Timer(0.05, begin.set).start()
        WAITS[wait](p, subscriptions)
        pytest.fail("the call has returned")
    assert caught.value is error
    assert [each.state for each in subscriptions] == [blocking.Subscription.CLOSED] * 2


def test_the_error_is_raised_by_the_next_call(p: str) -> None:
    error = ZeroDivisionError("by the callback")
    with pytest.raises(ZeroDivisionError), blocking.camonitor(p + "ai", raising(error)) as monitor:
        until(lambda: monitor.state == monitor.CLOSED)
        other = ThreadPoolExecutor(1).submit(blocking.caget, p + "longin")
        assert other.result(10) == -42  # of the thread of the block only
        blocking.caget(p + "longin")
        pytest.fail("the call has returned")
    assert blocking.caget(p + "longin") == -42


def test_the_error_is_raised_at_the_end_of_the_block(p: str) -> None:
    error, passed = ZeroDivisionError("by the callback"), False
    block = blocking.camonitor(p + "ai", raising(error))
    with pytest.raises(ZeroDivisionError) as caught, block as monitor:
        until(lambda: monitor.state == monitor.CLOSED)
        passed = True
    assert passed and caught.value is error
    block = blocking.camonitor(p + "ai", raising(error))
    with pytest.raises(ZeroDivisionError) as caught, block as monitor:
        until(lambda: monitor.state == monitor.CLOSED)
        raise ValueError("by the body")
    assert type(caught.value.__context__) is ValueError


def test_the_error_does_not_hide_ctrl_c(p: str, caplog: pytest.LogCaptureFixture) -> None:
    block = blocking.camonitor(p + "ai", raising(ZeroDivisionError("second")))
    with pytest.raises(KeyboardInterrupt), block as monitor:
        until(lambda: monitor.state == monitor.CLOSED)
        raise KeyboardInterrupt
    assert "also raised" in caplog.text and "ZeroDivisionError: second" in caplog.text


def test_the_error_of_an_inner_block(p: str) -> None:
    inner = ZeroDivisionError("inner")
    got = Got()
    with blocking.camonitor(p + "ticks", got):
        with pytest.raises(ZeroDivisionError), blocking.camonitor(p + "ai", raising(inner)) as one:
            one.wait()
        seen = len(got)
        until(lambda: len(got) > seen)  # the outer one goes on
        assert blocking.caget(p + "longin") == -42


@pytest.mark.parametrize("error", [ZeroDivisionError("alone"), SystemExit("alone")])
def test_the_error_without_a_block(
    p: str, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    begin = threading.Event()
    first, second = blocking.camonitor([p + "ai", p + "ao"], raising(error, begin))
    second.callback = lambda value: None
    begin.set()
    with pytest.raises(type(error)) as caught:
        first.wait(10)
    assert caught.value is error
    assert "the monitor is closed" in caplog.text and "Traceback" in caplog.text
    assert second.state == second.OPEN
    second.close()
    assert second.wait(10)


def test_a_callback_that_returns_an_awaitable(p: str) -> None:
    block = blocking.camonitor(p + "ai", lambda value: anyio.sleep(1))
    with pytest.raises(TypeError, match="cannot await"), block as monitor:
        monitor.wait()


def test_purging(p: str) -> None:
    monitor = blocking.camonitor(p + "ai", print)
    aioca.purge_channel_caches()
    assert monitor.wait(10)
    assert _thread.get_ident() != _loop_thread.loop_thread()._ident
