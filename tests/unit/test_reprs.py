"""The reprs of the objects inside aioca: each says what it is about, for dumps and debuggers."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import threading
from typing import Any

import pytest

import aioca
from aioca import camonitor, caput
from aioca._channels.registry import current
from aioca.blocking import _loop_thread

PACKAGES = ["_ca", "_portal", "_channels", "_requests", "_monitors", "blocking"]
# One word, an optional name, and a state: no address, so that dumps can be compared.
STYLE = re.compile(r"<_?[A-Z]\w+ [^\n]+>")
WITHOUT = {
    "_Here",  # a thread's own data
    "_WordsOfThread",  # likewise
    "Listened",  # a base of Connection, which has one
    "Updates",  # of the API: programs see it
}


def _modules() -> list[str]:
    return [
        f"aioca.{package}.{module.name}"
        for package in PACKAGES
        for module in pkgutil.iter_modules([f"{aioca.__path__[0]}/{package}"])
    ]


@pytest.mark.parametrize("module", _modules())
def test_each_object_with_a_state_has_a_repr(module: str) -> None:
    for name, kind in inspect.getmembers(importlib.import_module(module), inspect.isclass):
        own = kind.__module__ == module and "__init__" in vars(kind)
        if own and name not in WITHOUT and not getattr(kind, "_is_protocol", False):
            assert kind.__repr__ is not object.__repr__, name


def _inside(owner: Any) -> list[object]:
    """The objects of aioca that an object refers to."""
    found = [*vars(owner).values()]
    found += [each for some in found if isinstance(some, dict) for each in some.values()]
    return [each for each in found if type(each).__module__.startswith("aioca.")]


@pytest.mark.anyio
async def test_the_objects_of_an_event_loop() -> None:
    subscriptions = [
        camonitor("NONE:a", print),
        camonitor("NONE:b", print, all_updates=True),
        camonitor("NONE:c", print, max_pending=3),
    ]
    await caput("NONE:a", 1, timeout=0, throw=False)
    context = current()
    objects = [context, *_inside(context), *_inside(context.portal)]
    objects += [subscription._monitor for subscription in subscriptions]
    objects += [subscription._monitor.owner for subscription in subscriptions]  # type: ignore[attr-defined]
    shown = {type(each).__name__: repr(each) for each in objects}
    assert all(STYLE.fullmatch(text) for text in shown.values()), shown
    assert shown["ClearQueue"] == "<ClearQueue 0 due, 0 done>"
    assert shown["Reconnector"] == "<Reconnector checking, 0 second searches>"
    assert shown["Channel"] == "<Channel 'NONE:c' never connected>"
    assert shown["Newest"] == "<Newest 0 keys>"
    assert shown["PutCallbackLimit"] == "<PutCallbackLimit 0 under way>"
    for subscription in subscriptions:
        subscription.close()


def test_the_loop_of_the_blocking_calls() -> None:
    thread = _loop_thread.loop_thread()
    try:
        assert repr(thread) == "<LoopThread running, 0 calls pending>"
        seen: list[str] = []
        assert thread.call_sync(lambda: seen.append(repr(thread))) is None
        assert seen == ["<LoopThread running, 1 calls pending>"]
    finally:
        _loop_thread.close_loop_thread()
    assert repr(thread) == "<LoopThread ended, 0 calls pending>"
    assert thread._thread not in threading.enumerate()
