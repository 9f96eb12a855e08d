"""The tricks of this package: code that is there only because it is fast, or saves memory.

Each trick can be switched off, so that the benchmark shows what it brings (``--without``). For this
`switch_off` puts simpler code into the source of the modules, when they are imported. It refuses
code that has changed: then change the trick here, too.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import NamedTuple


class Edit(NamedTuple):
    """What `switch_off` changes in one module of the package."""

    module: str
    old: str  # is in the source once; if empty, ``new`` is added at the end
    new: str


class Trick(NamedTuple):
    """One trick."""

    # The pieces of work, and the figure of each, that should show it. The first counts
    rows: dict[str, str]
    edits: tuple[Edit, ...]


_COPYING = ("_monitors.every", "_monitors.latest", "_ca.callbacks")
_SCALAR = "memory[start : start + SCALAR_SIZE[dbr]]"
_IS_SCALAR = "if status == ECA_NORMAL and count == 1 and start and "
_GETS = {"get_list": "cpu_us"}
_UPDATES = {"monitor_10k": "cpu_us"}
_WAKES = {"get_one": "us", "put_one": "us"}

_PLAIN_WAITER = """

class AsyncioWaiter(_Future, Waiter):
    def wake(self):
        if not self.done():
            self.set_result(True)

    def _expire(self):
        if not self.done():
            self.set_result(False)

    wait = AsyncioWaiter.wait
"""

# The callback of the policy `every` as a method of an object
_METHOD = """
        class Holder:
            def serve(self, policy):
                self.policy = policy

            def on_event(
                self, _1, _2, _3, _4, _5, _6, key, _chid, dbr, count, start, status
            ):
                policy = self.policy
                if status == ECA_NORMAL and count == 1 and start and key & 255 == dbr:
                    raw = memory[start : start + SCALAR_SIZE[dbr]]
                else:
                    raw = copied(key & 255, dbr, count, start, status)
                if policy.clear_queue.ignored_keys and policy.clear_queue.should_drop(key):
                    return
                portal = policy.portal
                portal.queue.extend((key, raw))
                if not portal.awake:
                    portal.ensure_drain()
                elif not len(portal.queue) % UPDATES_PER_CHECK:
                    portal.check_closed()

        holder = Holder()
        return holder.on_event, holder.serve
        portal: Any = None
"""

TRICKS: dict[str, Trick] = {
    # Not a trick: shows by how much two runs of the same code differ
    "nothing": Trick(
        {
            **_GETS,
            "get_mixed": "cpu_us",
            **_WAKES,
            **_UPDATES,
            "latency": "p50_us",
            "monitor_3k": "cpu_us",
            "iterate_10k": "cpu_us",
            "busy_task_3k": "late_ms",
            "array": "get_ms",
            "memory": "both_bytes",
            "loops": "run_bytes",
        },
        (),
    ),
    # The task goes on within the job of the portal, not in the next pass of the loop
    "wake_now": Trick(_WAKES, (Edit("_portal._asyncio_waiter", "", _PLAIN_WAITER),)),
    # The loop is woken through an eventfd, not by its own function
    "eventfd": Trick(
        {"get_one": "us", "latency": "p50_us"},
        (
            Edit(
                "_portal.eventfd", 'if not hasattr(os, "eventfd"):\n        return', "if 1: return"
            ),
        ),
    ),
    # Under load a timer starts the drains, not a wake
    "poll": Trick(
        {**_UPDATES, "monitor_3k": "cpu_us"},
        (Edit("_portal.queue", "_MIN_PAIRS_TO_POLL = 32", "_MIN_PAIRS_TO_POLL = 1 << 60"),),
    ),
    # A late drain first lets libca's threads queue what they have
    "pause": Trick(
        {"busy_task_3k": "late_ms", "iterate_starved_10k": "per_second"},
        (Edit("_portal.queue", "if now > self._due + _LATE_SECONDS:", "if False:"),),
    ),
    # A drain reads the clock once for many updates
    "drain_clock": Trick(
        _UPDATES, (Edit("_portal.queue", "_CLOCK_CHECK = 16", "_CLOCK_CHECK = 1"),)
    ),
    # An iteration reads the clock once for many updates
    "stream_clock": Trick(
        {"iterate_10k": "cpu_us"},
        (Edit("_monitors.stream", "_VALUES_PER_CLOCK_CHECK = 8", "_VALUES_PER_CLOCK_CHECK = 1"),),
    ),
    # Calls in one pass of the loop are flushed together
    "one_flush": Trick(
        {"small_lists": "cpu_us"},
        (Edit("_channels.flushes", "_SAME_PASS_SECONDS = 0.0002", "_SAME_PASS_SECONDS = -1"),),
    ),
    # Get.send lets `map` make the calls for a list, whose replies have a C callback of their own
    "get_send": Trick(
        _GETS, (Edit("_requests.get", "if len(indices) >= _MIN_LIST:", "if False:"),)
    ),
    # Get.values_from decodes the numbers of a list together
    "get_decode_many": Trick(
        _GETS, (Edit("_requests.get", "if len(outcomes) >= _MIN_LIST and", "if False and"),)
    ),
    # Get.values_from has the code that decodes a number in its loop
    "get_decode": Trick(
        {"get_mixed": "cpu_us"},
        (
            Edit(
                "_requests.get",
                "        append = values.append\n",
                "        return [self._value(i, raw) for i, raw in enumerate(outcomes, start)]\n"
                "        append = values.append\n",
            ),
        ),
    ),
    # The same in CallbackMonitor.receive
    "monitor_decode": Trick(
        _UPDATES,
        (
            Edit(
                "_monitors.callbacks",
                "if type(item) is bytes and self._unpack is not None:",
                "if False:",
            ),
        ),
    ),
    # Channel.scalar_key tells that the last reader of a channel is right for a request
    "scalar_key": Trick(
        _GETS,
        (Edit("_channels.channel", "            self.scalar_key = key\n", "            pass\n"),),
    ),
    # A channel keeps its last reader
    "last_reader": Trick(
        _GETS,
        (
            Edit("_channels.channel", "if key is not self.last_key:", "if True:"),
            Edit("_channels.channel", "            self.scalar_key = key\n", "            pass\n"),
        ),
    ),
    # libca's threads keep their Python thread states
    "thread_state": Trick(
        {"monitor_3k": "cpu_us", "get_list": "cpu_us"},
        (
            Edit(
                "_ca.thread_states",
                "        if _release is None:\n            ident",
                "        return\n        if _release is None:\n            ident",
            ),
        ),
    ),
    # The struct of a callback arrives as arguments
    "spread": Trick(
        {**_UPDATES, "get_list": "cpu_us"},
        (Edit("_ca.callbacks", "_FAST = _fast_way()", "_FAST = None"),),
    ),
    # Bytes are copied with a slice of all memory
    "memory": Trick(
        _UPDATES,
        (
            *(Edit(name, _SCALAR, "string_at(start, SCALAR_SIZE[dbr])") for name in _COPYING),
            *(Edit(name, "", "\nfrom ctypes import string_at\n") for name in _COPYING),
            Edit("_ca.callbacks", "memory[start : start + size]  #", "string_at(start, size)  #"),
        ),
    ),
    # Large arrays are copied once, into a bytearray
    "memory_view": Trick(
        {"array": "get_ms"},
        (
            Edit(
                "_ca.callbacks",
                "bytearray(_memory_view[start : start + size])",
                "ctypes.string_at(start, size)",
            ),
        ),
    ),
    # One element is copied without a call of `copied`
    "copy_inline": Trick(
        _UPDATES,
        tuple(Edit(name, _IS_SCALAR, "if False and ") for name in _COPYING),
    ),
    # The callback of a policy is a closure, not a method
    "closures": Trick(
        _UPDATES, (Edit("_monitors.every", "        portal: Any = None\n", _METHOD),)
    ),
    # The functions of requests get C objects, not Python integers
    "c_objects": Trick(
        _GETS,
        (
            Edit(
                "_ca.libca",
                'get_callback = required("ca_array_get_callback")',
                'get_callback = prototype(\n    "ca_array_get_callback", c_int,'
                " c_long, c_ulong, c_size_t, c_void_p, c_size_t,\n)",
            ),
            Edit(
                "_ca.libca",
                "get_callback, c_dbrs, repeat(ONE), some, repeat(trampoline), c_tokens.arguments)",
                "get_callback, (dbr.value for dbr in c_dbrs), repeat(1), chids,"
                " repeat(trampoline), map(int, c_tokens.words))",
            ),
        ),
    ),
    # The C callbacks of a loop that has ended serve another one
    "pooled_callbacks": Trick(
        {"loops": "run_bytes"},
        (Edit("_monitors.policy", "self._spare.append(self._callback)", "pass"),),
    ),
}


def switch_off(name: str) -> None:
    """Import the package without a trick. Must be called before the package is imported."""
    edits: dict[str, list[Edit]] = {}
    for edit in TRICKS[name].edits:
        edits.setdefault(f"aioca.{edit.module}", []).append(edit)
    if "aioca" in sys.modules:
        raise RuntimeError("aioca is imported already")
    sys.meta_path.insert(0, _Finder(edits))


def changed(name: str, source: str, edits: Sequence[Edit]) -> str:
    """Return the source of the module ``name`` with these changes."""
    for edit in edits:
        if not edit.old:
            source += edit.new
        elif source.count(edit.old) == 1:
            source = source.replace(edit.old, edit.new)
        else:
            raise ValueError(
                f"{name} has {source.count(edit.old)} times, not once, the code that a trick"
                f" changes: {edit.old!r}"
            )
    return source


class _Finder:
    """Finds the modules that are to be changed, where Python itself would find them."""

    def __init__(self, edits: dict[str, list[Edit]]) -> None:
        self._edits = edits

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._edits:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None:
            raise ImportError(f"there is no module {name}", name=name)
        spec.loader = _Loader(name, spec.origin, self._edits[name])
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, edits: list[Edit]) -> None:
        super().__init__(name, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:  # not from a .pyc file
        source = changed(fullname, self.get_source(fullname) or "", self._edits)
        return compile(source, f"{self.path} (changed)", "exec", dont_inherit=True)
