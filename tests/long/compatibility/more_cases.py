"""Further calls that are compared: monitors, what programs do with values, whole programs."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import math
import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from epicscorelibs.ca import cadef, dbr

import aioca
from aioca import (
    DBE_ALARM,
    DBE_LOG,
    DBE_PROPERTY,
    DBE_VALUE,
    CANothing,
    Subscription,
    caget,
    camonitor,
    caput,
)
from tests.long.compatibility.cases import DATATYPES, FORMATS, NO_DATATYPES, Case

SECONDS = 2.0  # for an update; some never come with aioca 2.1

NOT_OF_STRINGS = ("DOUBLE", "float", "CHAR_STR", "CHAR_BYTES")

# -- Monitors --------------------------------------------------------------------------------------


class Seen(list[Any]):
    """A callback that keeps what it was given, and can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()

    def __call__(self, *arguments: Any) -> None:
        self.append(arguments[0] if len(arguments) == 1 else arguments)
        self.news.set()

    async def later(self, *arguments: Any) -> None:
        await asyncio.sleep(0)
        self(*arguments)

    async def until(self, count: int, seconds: float = SECONDS) -> None:
        await asyncio.wait_for(self._until(count), seconds)

    async def _until(self, count: int) -> None:
        while len(self) < count:
            self.news.clear()
            await self.news.wait()


async def first(pv: str, **options: Any) -> Any:
    seen = Seen()
    subscription = camonitor(pv, seen, **options)
    await seen.until(1)
    states = [subscription.state]
    subscription.close()
    return {"seen": seen[0], "states": [*states, subscription.state], "left": subscription}


async def series(pv: str, form: str, writes: list[Any], **options: Any) -> Any:
    """The updates of a record that is written with wait, one value after the other."""
    await caput(pv, writes[0], wait=True)
    seen = Seen()
    called = {"function": seen, "async": seen.later, "partial": partial(seen),
              "awaitable": lambda v: asyncio.ensure_future(seen.later(v))}[form]  # fmt: skip
    subscription = camonitor(pv, called, **options)
    await seen.until(1)
    for number, value in enumerate(writes[1:], 2):
        await caput(pv, value, wait=True)
        await seen.until(number)
    subscription.close()
    return list(seen)


async def masks(p: str, events: int | None) -> Any:
    """Which changes are seen: of the value, beyond the archive deadband, of the alarm."""
    seen = Seen()
    pv = p + "m:masks"
    await caput(pv, 0, wait=True)
    subscription = camonitor(pv, seen, events, format=aioca.FORMAT_TIME, all_updates=True)
    await seen.until(1)
    for value in (1, 5, 20, 120, 121):
        await caput(pv, value, wait=True)
    await caput(p + "m:masks.EGU", "x", wait=True)
    await caget(pv)  # what was posted before has been sent before
    await asyncio.sleep(0.05)  # and a spell for those that did not come at all
    subscription.close()
    return [(+value, value.severity) for value in seen]


async def several(p: str, form: str) -> Any:
    seen = Seen()
    pvs = [p + "ai", p + "longin", p + "mbbi"]
    subscriptions = camonitor(pvs, seen if form == "function" else seen.later)
    await seen.until(3)
    kinds = [type(s).__name__ for s in subscriptions], isinstance(subscriptions, list)
    for subscription in subscriptions:
        subscription.close()
    return sorted(((index, +value) for value, index in seen), key=lambda pair: pair[0]), kinds


async def failing(p: str, form: str) -> Any:
    called = asyncio.Event()

    def callback(value: Any) -> None:
        called.set()
        raise ValueError("no good")

    async def later(value: Any) -> None:
        callback(value)

    subscription = camonitor(p + "ticks", callback if form == "function" else later)
    await asyncio.wait_for(called.wait(), SECONDS)
    await asyncio.sleep(0.05)  # to see that what follows is that it is closed
    return subscription.state == Subscription.CLOSED


async def infos(p: str) -> Any:
    return sorted((i.name, i.connected, i.subscriber_count) for i in aioca.get_channel_infos())[:3]


async def too_late(p: str, timeout: Any) -> Any:
    seen = Seen()
    subscription = camonitor(p + "none", seen, connect_timeout=timeout)
    await seen.until(1)
    state = subscription.state
    subscription.close()
    return {"seen": seen[0], "state": state}


async def refused(pv: str, options: dict[str, Any]) -> Any:
    """What comes of arguments that are none, or of what cannot be had: at once, or later."""
    seen = Seen()
    try:
        subscription = camonitor(pv, seen, **options)
    except Exception as error:
        return {"raised": error}
    await asyncio.sleep(0.3)  # nothing comes, which nothing tells
    state = subscription.state
    subscription.close()
    return {"seen": len(seen), "state": state}


def monitors(p: str) -> Iterator[Case]:
    pvs = ["ai", "longin", "mbbi", "stringin", "wf:DOUBLE", "wf:empty", "wf:CHAR", "wf:STRING",
           "ai.DESC$", "ai.SCAN"]  # fmt: skip
    kinds = ["None", "STRING", "str", "DOUBLE", "ENUM_STR", "CHAR_STR", "CHAR_BYTES", "float"]
    for name, shown, (label, format) in itertools.product(pvs, kinds, FORMATS.items()):
        if name in ("stringin", "wf:STRING") and shown in NOT_OF_STRINGS:
            continue  # "hello" is no number: `refused` has it
        options = {"datatype": DATATYPES[shown], "format": format}
        yield f"monitor {name} as {shown}, {label}", partial(first, p + name, **options)
    for name, count in itertools.product(["ai", "wf:DOUBLE", "wf:CHAR"], (-1, 1, 2, 1000)):
        yield f"monitor {name}, count {count}", partial(first, p + name, count=count)
    for form in ("function", "async", "partial", "awaitable"):
        for name, writes in {
            "m:a": [0, 1, 2, 3], "m:enum": [0, 1, 2], "m:array": [[1], [1, 2], [1, 2, 3]],
        }.items():  # fmt: skip
            yield (
                f"updates of {name}, {form}",
                partial(series, p + name, form, writes, all_updates=True),
            )
        yield f"updates of m:a, merged, {form}", partial(series, p + "m:a", form, [0, 1, 2])
    for shown, events in {
        "None": None, "VALUE": DBE_VALUE, "LOG": DBE_LOG, "ALARM": DBE_ALARM,
        "PROPERTY": DBE_PROPERTY, "all": 15, "0": 0,
    }.items():  # fmt: skip
        if events != 0:
            yield f"events {shown}", partial(masks, p, events)
    for form in ("function", "async"):
        yield f"monitor a list, {form}", partial(several, p, form)
        yield f"callback raises, {form}", partial(failing, p, form)
    for timeout in (0.1, 0, (0.0,)):
        yield f"monitor of what is not there, {timeout}", partial(too_late, p, timeout)
    for shown, options in {
        "format 7": {"format": 7}, "count -5": {"count": -5}, "count str": {"count": "1"},
        "unknown keyword": {"colour": 1}, "events str": {"events": "x"},
        **{f"as {name}": {"datatype": kind} for name, kind in NO_DATATYPES.items()},
    }.items():  # fmt: skip
        yield f"monitor wrongly: {shown}", partial(refused, p + "ai", options)
    for datatype in ("DOUBLE", "CHAR_STR"):
        yield (
            f"monitor what cannot be had, {datatype}",
            partial(refused, p + "stringin", {"datatype": DATATYPES[datatype]}),
        )
    yield "infos of channels", partial(infos, p)
    yield "monitor what is not there", partial(refused, p + "none", {})


# -- What programs do with values ------------------------------------------------------------------

IDIOMS = {
    "any": """
        +v | str(v) | repr(v) | f"{v}" | "%s" % v | bool(v) | v == v | v == +v | v != +v | v is +v
        isinstance(v, type(+v)) | type(+v).__name__ | v.__class__.__name__ | v.__class__.__module__
        isinstance(v, (dbr.ca_int, dbr.ca_float, dbr.ca_str, dbr.ca_bytes, dbr.ca_array))
        isinstance(v, CANothing) | [n for n in aioca.ca_extra_fields if hasattr(v, n)]
        getattr(v, "nothing", None) | hasattr(v, "enums") | v.nothing | setattr(v, "mine", 1)
        v.ok and v.name | v.datetime.tzinfo | v.timestamp - v.raw_stamp[0] < 1
        abs(v.timestamp - v.raw_stamp[0] - v.raw_stamp[1] * 1e-9) < 1e-6 | copy.copy(v)
        copy.copy(v).name | copy.deepcopy(v) | copy.deepcopy(v).severity
        pickle.loads(pickle.dumps(v)) | pickle.loads(pickle.dumps(v)).name | len(v) | v[0] | v[0:1]
        sorted(k for k in vars(v)) | v.__dict__["name"] | v.update_time
        """,
    "number": """
        v + 1 | 1 + v | v * 2.5 | -v | abs(v) | v / 3 | v // 2 | v % 2 | v ** 2 | divmod(v, 2)
        v < 2 | v > 1 | int(v) | float(v) | round(v, 1) | hash(v) == hash(+v) | {v: 1}[+v]
        v in [+v] | json.dumps(v) | f"{v:.3f}" | "%g" % v | "%d" % v | math.sqrt(abs(v))
        np.float64(v) | np.array(v) | np.array([v, v]) | np.isclose(v, +v) | sum([v, v]) | max(v, 0)
        v.real | range(v) | [1, 2, 3][v] | v.is_integer() | v.bit_length() | math.isnan(v)
        complex(v) | (v + 1).name | abs(v).name | type(v + 1).__name__ | min([v, v]).name
        sorted([v, 1]) | np.add(v, 1) | v == 1.5 | v.as_integer_ratio()
        """,
    "str": """
        v + "x" | v.upper() | v.split("l") | v.encode() | v in {+v: 1} | hash(v) == hash(+v) | v[1:]
        json.dumps(v) | len(v) | v.startswith("h") | "-".join([v, v]) | f"{v:>10}" | v == "hello"
        v.upper().name | v[1:].name | int(v) | "l" in v | list(v) | v.strip() | str(v) is v
        type(str(v)).__name__ | np.array(v) | sorted(v) | v * 2
        """,
    "array": """
        v + 1 | 1 + v | v * v | -v | v[0] | v[1:] | v[-1] | v[::-1] | v[v == v[0]] | v[[0, 1]]
        v.dtype | v.shape | v.ndim | v.size | v.nbytes | v.tolist() | list(v) | v.T | v.sum()
        v.max() | v.min() | v.mean() | np.sum(v) | np.mean(v) | np.asarray(v)
        np.array(v, copy=False)
        type(np.asarray(v)).__name__ | type(np.asanyarray(v)).__name__ | v.copy() | v.copy().name
        v.astype(float) | v.astype(str) | v.reshape(-1, 1) | v.view(np.ndarray) | v.flags.writeable
        v.flags.c_contiguous | v[1:].name | (v + 1).name | v.sum().name | type(v + 1).__name__
        type(v[1:]).__name__ | type(v.sum()).__name__ | v == v | (v == v).all() | v > 1
        np.concatenate([v, v]) | type(np.concatenate([v, v])).__name__ | np.append(v, 1)
        np.array_equal(v, +v) | hash(v) | json.dumps(v.tolist()) | json.dumps(v) | v.tobytes()
        max(v) | enumerate(v) | tuple(v) | np.where(v > 1, v, 0) | v.__setitem__(0, 1) | v.fill(0)
        v.sort() | np.diff(v) | v.round() | v.cumsum() | v.flatten() | v.ravel() | v.squeeze()
        v.base is None
        bytes(v) | np.frombuffer(v) | memoryview(v).nbytes | v.view() | v.astype(float).name
        """,
}
SUBJECTS = {
    "ai": "number", "longin": "number", "mbbi": "number", "bi": "number", "stringin": "str",
    "wf:DOUBLE": "array", "wf:SHORT": "array", "wf:FLOAT": "array", "wf:STRING": "array",
    "wf:CHAR": "array", "wf:empty": "array",
}  # fmt: skip
_NAMES = {
    "aioca": aioca, "cadef": cadef, "dbr": dbr, "np": np, "copy": copy, "json": json, "math": math,
    "pickle": pickle, "CANothing": CANothing,
}  # fmt: skip


async def idiom(pv: str, expression: str) -> Any:
    value = await caget(pv, format=aioca.FORMAT_TIME)
    return eval(expression, {**_NAMES, "v": value})


def idioms(p: str) -> Iterator[Case]:
    for name, kind in SUBJECTS.items():
        lines = (IDIOMS["any"] + IDIOMS[kind]).replace("\n", " | ").split(" | ")
        for expression in dict.fromkeys(filter(None, map(str.strip, lines))):
            yield f"{name}: {expression}", partial(idiom, p + name, expression)


# -- When the server goes and comes back -----------------------------------------------------------


async def reconnection(p: str, control: Any) -> Any:
    """Monitors, a read and a write over the end of an IOC and its next start."""
    seen, quiet = Seen(), Seen()
    pv = p + "longin"
    told = camonitor(pv, seen, notify_disconnect=True, all_updates=True)
    untold = camonitor(pv, quiet, all_updates=True)
    await seen.until(1)
    await quiet.until(1)
    under_way = asyncio.ensure_future(caput(p + "slower.A", 1, wait=True, throw=False))
    await caget(p + "slower.A")
    await asyncio.to_thread(control, "kill")
    await seen.until(2)
    cut = await under_way
    gone = await aioca.cainfo(pv, wait=False)
    late = await caget(pv, timeout=0.2, throw=False)
    states = [told.state, untold.state]
    await asyncio.to_thread(control, "start")
    await seen.until(3, 60)  # libca searches ever more seldom
    await quiet.until(2, 60)
    told.close()
    untold.close()
    return {"told": list(seen), "untold": list(quiet), "states": states, "cut": cut,
            "gone": gone, "late": late, "again": await caget(pv, timeout=30)}  # fmt: skip
