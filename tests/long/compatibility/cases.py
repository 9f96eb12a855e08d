"""The calls that are compared, as ``(name, coroutine function)``.

Run by ``runner.py`` with aioca 2.1 and with this package against the same records, with nothing but
what aioca 2.1 has. A case that writes first puts the record into a known state.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from aioca import (
    DBR_CHAR,
    DBR_CHAR_BYTES,
    DBR_CHAR_STR,
    DBR_CHAR_UNICODE,
    DBR_CLASS_NAME,
    DBR_DOUBLE,
    DBR_ENUM,
    DBR_ENUM_STR,
    DBR_FLOAT,
    DBR_LONG,
    DBR_PUT_ACKS,
    DBR_PUT_ACKT,
    DBR_SHORT,
    DBR_STRING,
    DBR_STSACK_STRING,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    caget,
    cainfo,
    caput,
    connect,
)

Case = tuple[str, Callable[[], Awaitable[Any]]]

SCALARS = [
    "ai", "ai:never", "ai:utf8", "ao", "ao:readonly", "longin", "int64out", "bi", "bo", "mbbi",
    "stringin", "lsi", "calc", "calc.CALC", "stringout.DESC", "stringout.DESC$", "ai.SCAN",
    "ai.RTYP", "ai.EGU", "ai.INP", "ai.HIHI", "ai.PREC", "lso.VAL$",
]  # fmt: skip
ARRAYS = [
    "wf:STRING", "wf:CHAR", "wf:UCHAR", "wf:SHORT", "wf:USHORT", "wf:LONG", "wf:ULONG", "wf:INT64",
    "wf:UINT64", "wf:FLOAT", "wf:DOUBLE", "wf:ENUM", "wf:empty", "wf:one",
]  # fmt: skip
FORMATS = {"RAW": FORMAT_RAW, "TIME": FORMAT_TIME, "CTRL": FORMAT_CTRL}
DATATYPES: dict[str, Any] = {
    "None": None,
    "STRING": DBR_STRING, "SHORT": DBR_SHORT, "FLOAT": DBR_FLOAT, "ENUM": DBR_ENUM,
    "CHAR": DBR_CHAR, "LONG": DBR_LONG, "DOUBLE": DBR_DOUBLE,
    "ENUM_STR": DBR_ENUM_STR, "CHAR_STR": DBR_CHAR_STR, "CHAR_UNICODE": DBR_CHAR_UNICODE,
    "CHAR_BYTES": DBR_CHAR_BYTES, "CLASS_NAME": DBR_CLASS_NAME,
    "STSACK_STRING": DBR_STSACK_STRING,
    "str": str, "int": int, "float": float, "bytes": bytes, "bool": bool,
    "np.int16": np.int16, "np.float32": np.float32, "np.uint8": np.uint8, "np.uint16": np.uint16,
    "np.int64": np.int64, "np.bool_": np.bool_, "np.str_": np.str_,
    "dtype f8": np.dtype("f8"), "dtype S40": np.dtype("S40"), "name f8": "f8", "name i4": "int32",
}  # fmt: skip
NO_DATATYPES: dict[str, Any] = {
    "99": 99, "-1": -1, "PUT_ACKT": DBR_PUT_ACKT, "PUT_ACKS": DBR_PUT_ACKS, "complex": complex,
    "object": object, "dict": dict, "name x": "no such", "1.5": 1.5, "list": [1],
}  # fmt: skip


def reads(p: str) -> Iterator[Case]:
    for name, (shown, datatype), (label, format) in itertools.product(
        SCALARS + ARRAYS, DATATYPES.items(), FORMATS.items()
    ):
        yield (
            f"get {name} as {shown}, {label}",
            partial(caget, p + name, datatype=datatype, format=format),
        )
    for name, count, datatype in itertools.product(
        [*ARRAYS, "ai", "stringin", "mbbi"], (-1, 1, 2, 4, 1000), ("None", "STRING", "str")
    ):
        yield (
            f"get {name} as {datatype}, count {count}",
            partial(caget, p + name, datatype=DATATYPES[datatype], count=count),
        )
    for name, (shown, datatype) in itertools.product(["ai", "wf:CHAR"], NO_DATATYPES.items()):
        yield f"get {name} as no type, {shown}", partial(caget, p + name, datatype)
    for shown, options in {
        "format 7": {"format": 7}, "format None": {"format": None}, "count 1.5": {"count": 1.5},
        "count None": {"count": None}, "count str": {"count": "1"},
        "unknown keyword": {"colour": 1},
    }.items():  # fmt: skip
        yield f"get ai wrongly: {shown}", partial(caget, p + "ai", **options)  # type: ignore[arg-type]


# -- Writing ---------------------------------------------------------------------------------------

WRITTEN: dict[str, Any] = {
    "put:ai": 1, "put:ao": 1, "put:longout": 1, "put:int64out": 1, "put:bo": 0, "put:mbbo": 0,
    "put:stringout": "before", "put:lso": "before", "put:lso.VAL$": "before",
    "put:ai.DESC$": "before", "put:ai.EGU": "E", "put:wf:STRING": ["before"], "put:wf:CHAR": [1],
    "put:wf:UCHAR": [1], "put:wf:SHORT": [1], "put:wf:USHORT": [1], "put:wf:LONG": [1],
    "put:wf:ULONG": [1], "put:wf:INT64": [1], "put:wf:FLOAT": [1], "put:wf:DOUBLE": [1],
    "put:wf:ENUM": [1],
}  # fmt: skip
VALUES: dict[str, Any] = {
    "2": 2, "-3": -3, "2.5": 2.5, "300": 300, "70000": 70_000, "2**40": 2**40, "True": True,
    "nan": float("nan"), "1e300": 1e300,
    "'3'": "3", "'text'": "text", "'Manual'": "Manual", "'On'": "On", "''": "", "'µ'": "µ",
    "39 chars": "x" * 39, "60 chars": "x" * 60, "b'3'": b"3", "b'text'": b"text",
    "[]": [], "[2]": [2], "[2, 3]": [2, 3], "(2.5, 3.5)": (2.5, 3.5), "['a', 'b']": ["a", "b"],
    "['2', '3']": ["2", "3"], "[b'a', b'b']": [b"a", b"b"], "[True, False]": [True, False],
    "200 numbers": list(range(200)), "[[1, 2], [3, 4]]": [[1, 2], [3, 4]], "[1, 'a']": [1, "a"],
    "np.int32(4)": np.int32(4), "np.float64(4.5)": np.float64(4.5), "np.uint8(5)": np.uint8(5),
    "np.bool_": np.bool_(True), "np.str_": np.str_("text"), "array(6)": np.array(6),
    "array f8": np.array([1.5, 2.5]), "array i8": np.array([1, 2]),
    "array f4": np.array([1.5, 2.5], "f4"), "array u1": np.array([1, 2], "u1"),
    "array i1": np.array([-1, 2], "i1"), "array i2": np.array([-1, 2], "i2"),
    "array u2": np.array([1, 2], "u2"), "array ?": np.array([True, False]),
    "array U": np.array(["a", "b"]), "array S": np.array([b"a", b"b"]),
    "array >i4": np.array([1, 2], ">i4"), "array strided": np.arange(6)[::2],
    "range": range(3), "None": None, "object": object(), "dict": {"a": 1}, "complex": 1j,
}  # fmt: skip
PUT_DATATYPES = [
    "STRING", "SHORT", "LONG", "DOUBLE", "CHAR", "ENUM", "ENUM_STR", "CHAR_STR", "CHAR_UNICODE",
    "CHAR_BYTES", "str", "int", "float", "np.float32", "bytes", "dtype f8",
]  # fmt: skip
TYPED_VALUES = ["2", "2.5", "'3'", "'text'", "'Manual'", "[2, 3]", "['2', '3']", "array f8"]
TYPED_RECORDS = [
    "put:ao", "put:longout", "put:mbbo", "put:stringout", "put:lso.VAL$", "put:wf:CHAR",
    "put:wf:DOUBLE", "put:wf:STRING",
]  # fmt: skip


async def put(pv: str, before: Any, value: Any, datatype: Any, wait: bool) -> Any:
    # A name with $ is a CHAR array, to which aioca 2.1 does not write a str unless it is told to
    await caput(pv, before, DBR_CHAR_STR if pv.endswith("$") else None, wait=True)
    result: Any
    try:
        result = await caput(pv, value, datatype=datatype, wait=wait)
    except Exception as error:
        result = error
    return {"result": result, "then": await caget(pv)}


def puts(p: str) -> Iterator[Case]:
    for (name, before), (shown, value) in itertools.product(WRITTEN.items(), VALUES.items()):
        yield f"put {shown} to {name}", partial(put, p + name, before, value, None, True)
    for name, shown, datatype in itertools.product(TYPED_RECORDS, TYPED_VALUES, PUT_DATATYPES):
        yield (
            f"put {shown} to {name} as {datatype}",
            partial(put, p + name, WRITTEN[name], VALUES[shown], DATATYPES[datatype], True),
        )
    for name, shown in itertools.product(TYPED_RECORDS, TYPED_VALUES):
        yield (
            f"put {shown} to {name}, without wait",
            partial(put, p + name, WRITTEN[name], VALUES[shown], None, False),
        )
    for (name, datatype), wait in itertools.product(NO_DATATYPES.items(), (True, False)):
        yield (
            f"put as no type, {name}, wait {wait}",
            partial(put, p + "put:ao", 1, 2, datatype, wait),
        )
    for name, before, format in [
        ("put:ao", 1.5, FORMAT_RAW), ("put:ao", 1.5, FORMAT_TIME), ("put:ao", 1.5, FORMAT_CTRL),
        ("put:longout", 5, FORMAT_TIME), ("put:mbbo", 1, FORMAT_CTRL),
        ("put:stringout", "text", FORMAT_TIME), ("put:wf:DOUBLE", [1, 2], FORMAT_TIME),
        ("put:wf:CHAR", [65, 66], FORMAT_TIME), ("put:wf:STRING", ["a", "b"], FORMAT_TIME),
    ]:  # fmt: skip
        yield f"put back {name}, format {format}", partial(put_back, p + name, before, format)


async def put_back(pv: str, before: Any, format: Any) -> Any:
    await caput(pv, before, wait=True)
    result = await caput(pv, await caget(pv, format=format), wait=True)
    return {"result": result, "then": await caget(pv)}


# -- Lists, connecting, errors ---------------------------------------------------------------------


def lists(p: str) -> Iterator[Case]:
    pvs = [p + "put:ao", p + "put:longout", p + "put:mbbo"]
    missing = [p + "ai", p + "none", p + "longin"]
    for form in (list, tuple):
        label = form.__name__
        there = form([p + "ai", p + "longin", p + "mbbi", p + "stringin"])
        yield f"get a {label}", partial(caget, there)
        yield f"get a {label} as str", partial(caget, there, datatype=str, format=FORMAT_TIME)
        yield f"get a {label}, one missing", partial(caget, form(missing), timeout=0.3)
        yield (
            f"get a {label}, one missing, throw=False",
            partial(caget, form(missing), timeout=0.3, throw=False),
        )
        yield f"info of a {label}", partial(cainfo, form(pvs))
        yield f"connect a {label}", partial(connect, form(pvs))
        yield f"connect a {label}, without wait", partial(connect, form(missing), wait=False)
        yield (
            f"connect a {label}, throw=False",
            partial(connect, form(missing), timeout=0.3, throw=False),
        )
        yield (
            f"info of a {label}, throw=False",
            partial(cainfo, form(missing), timeout=0.3, throw=False),
        )
    for function in (caget, connect, cainfo):
        yield f"{function.__name__} of no PV", partial(function, [])
    for shown, pv in {
        "a set": {p + "ai"}, "a generator": (n for n in pvs), "an int": 5, "bytes": b"x",
        "an empty name": "", "NUL in the name": "a\0b", "a name of 600": "x" * 600, "None": None,
        "a list with an int": [p + "ai", 5], "a name not ASCII": p + "µ",
    }.items():  # fmt: skip
        for function in (caget, connect, cainfo):
            yield f"{function.__name__} of {shown}", partial(function, pv, timeout=0.2)
            yield (
                f"{function.__name__} of {shown}, throw=False",
                partial(function, pv, timeout=0.2, throw=False),
            )
    for shown, values in {
        "list": [1, 2, 1], "tuple": (1, 2, 1), "array": np.array([1, 2, 1]), "scalar": 1,
        "str": "1", "bytes": b"1", "too few": [1, 2], "too many": [1, 2, 3, 4], "none": [],
        "array(1)": np.array(1), "generator": None, "range": range(3),
        "one refused": [1, 2, "no such"], "dict": {"a": 1, "b": 2, "c": 3}, "None": None,
        "mixed": [1.5, "2", True],
    }.items():  # fmt: skip
        for options in ({}, {"throw": False}, {"repeat_value": True}, {"wait": False}):
            label = "".join(f", {k}={v}" for k, v in options.items())
            given = iter([1, 2, 1]) if shown == "generator" else values
            yield f"put a list, {shown}{label}", partial(put_list, pvs, given, options)
    yield (
        "put a list, one missing",
        partial(caput, [p + "put:ao", p + "none"], 1, wait=True, timeout=0.3),
    )
    yield (
        "put a list, one missing, throw=False",
        partial(caput, [p + "put:ao", p + "none"], 1, wait=True, timeout=0.3, throw=False),
    )
    yield "put to no PV", partial(caput, [], [])
    yield "put to no PV, a scalar", partial(caput, [], 1)
    yield "put to no PV, one value", partial(caput, [], [1])


async def put_list(pvs: list[str], values: Any, options: dict[str, Any]) -> Any:
    await caput(pvs, 0, wait=True)
    result: Any
    try:
        result = await caput(pvs, values, **{"wait": True, **options})
    except Exception as error:
        result = error
    return {"result": result, "then": await caget(pvs)}


def errors(p: str) -> Iterator[Case]:
    calls: dict[str, tuple[Any, ...]] = {
        "get what is not there": (caget, p + "none"),
        "put to what is not there": (caput, p + "none", 1),
        "put with wait to what is not there": (caput, p + "none", 1, None, True),
        "connect to what is not there": (connect, p + "none"),
        "info of what is not there": (cainfo, p + "none"),
        "put to what is slow": (caput, p + "slower.A", 1, None, True),
    }
    for shown, call in calls.items():
        for timeout, throw in itertools.product((0.3, 0, (0.0,), -1), (True, False)):
            yield f"{shown}, {timeout}, {throw}", partial(*call, timeout=timeout, throw=throw)
    ends = {
        "put without write access": (caput, p + "ao:readonly", 1, None, True),
        "put to a disabled record": (caput, p + "ao:disabled", 1, None, True),
        "put a label that is none": (caput, p + "put:mbbo", "no such", None, True),
        "put a number that is no label": (caput, p + "put:mbbo", 99, None, True),
        "put to a field that is read only": (caput, p + "wf:DOUBLE.NELM", 1, None, True),
        "get a label as a number": (caget, p + "stringin", float),
        "info without wait": (cainfo, p + "none", False),
        "connect without wait": (connect, p + "none", False),
        "connect": (connect, p + "ai"),
        "info of a scalar": (cainfo, p + "ai"),
        "info of an array": (cainfo, p + "wf:CHAR"),
        "info of what is read only": (cainfo, p + "ao:readonly"),
        "timeout of a kind that is none": (caget, p + "ai", None, 0, 0),
    }
    for shown, call in ends.items():
        for throw in (True, False):
            yield f"{shown}, {throw}", partial(*call, throw=throw)
    for timeout in (None, 5, 5.0, (4e9,), np.float64(5), "5", [5], (), (1, 2), True):
        yield f"get with timeout {timeout!r}", partial(caget, p + "ai", timeout=timeout)
    yield "alarm acknowledgement", partial(put, p + "ackn", 0, 1, DBR_PUT_ACKT, True)
    yield "alarm acknowledgement of a severity", partial(put, p + "ackn", 0, 2, DBR_PUT_ACKS, True)
    yield "pv by name", lambda: caget(pv=p + "ai")
    yield "put by name", lambda: caput(pv=p + "put:ao", value=1)
    yield "put to many by name", lambda: caput(pvs=[p + "put:ao"], values=[1])
    yield "positions", lambda: caget(p + "ai", DBR_LONG, FORMAT_TIME, 1)
    yield "str of an info", partial(text_of_info, p)


async def text_of_info(p: str) -> Any:
    return str(await cainfo(p + "ai"))
