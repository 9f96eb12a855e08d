"""Augmented values as Python objects: arithmetic, copies, pickles."""

from __future__ import annotations

import copy
import os
import pickle
import pickletools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from aioca import (
    DBR_STSACK_STRING,
    ECA,
    FORMAT_CTRL,
    FORMAT_RAW,
    FORMAT_TIME,
    CAInfo,
    CANothing,
    CATimeout,
    ChannelInfo,
    caget,
    cainfo,
    run,
)
from aioca._errors import Failure, error_for
from aioca.types import Alarm, AugmentedValue, ca_bytes, ca_float, ca_int, ca_str
from tests.support.values import FORMATS, attributes, same

pytestmark = pytest.mark.anyio


# -- Values as Python objects ----------------------------------------------------------------------


def get(pv: str, datatype: Any = None, format: Any = FORMAT_RAW, count: int = 0) -> Any:
    """Read a new value. The tests from here on are about the object: one backend is enough."""
    return run(caget(pv, datatype, format, count))


@pytest.fixture(scope="module")
def array(p: str) -> Any:
    value = get(p + "wf:DOUBLE", format=FORMAT_TIME)
    assert value.timestamp  # decode an attribute before the copy
    return value


def by_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def by_oldest_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, protocol=0))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_have_public_paths_only(p: str, protocol: int) -> None:
    """Later versions, which may have other private modules, must be able to read pickles."""
    info = run(cainfo(p + "ai"))
    values = [
        *(get(p + pv, format=FORMAT_TIME) for pv in ("ai", "longin", "stringin", "wf:DOUBLE")),
        get(p + "stringin", bytes), get(p + "ai", format=FORMAT_TIME).alarm,
        info, ChannelInfo("PV", True, 1), ECA.TIMEOUT,
        CANothing("PV", 192), error_for([Failure("A", 80, "x"), Failure("B", 192, "y")]),
    ]  # fmt: skip
    for value in values:
        data = pickle.dumps(value, protocol)
        assert b"aioca._" not in data
        strings = [argument for _, argument, _ in pickletools.genops(data)]
        assert not [s for s in strings if isinstance(s, str) and s.startswith("aioca._")]
        again = pickle.loads(data)
        assert type(again) is type(value)
        assert str(again) == str(value)
    assert pickle.loads(pickle.dumps(info, protocol)).__dict__ == info.__dict__


# Pickles from before 3.0 was released, with the paths of private modules
OLD_PICKLES = {
    "value": b"caioca._values\n_rebuild\n(Vca_float\nF1.5\n(dVname\nVPV\nsVseverity\nI2\nstR.",
    "alarm": b"caioca._values\nAlarm\n(VHIHI\nVMAJOR\ntR.",
    "error": b"caioca._errors\n_restore\n(VCATimeout\nVPV\nI80\n(dV_detail\nVconnecting\nstR.",
    "channel": b"caioca._context\nChannelInfo\n(VPV\nI01\nI2\ntR.",
    "info": b"ccopy_reg\n_reconstructor\n(caioca._info\nCAInfo\nc__builtin__\nobject\nNtR"
    b"(dVname\nVPV\nsb.",
}


def test_old_pickles_can_be_read() -> None:
    """The old path is in files, so it must remain importable."""
    read = {name: pickle.loads(data) for name, data in OLD_PICKLES.items()}
    value, error = read["value"], read["error"]
    assert (type(value), value, value.name, value.severity) == (ca_float, 1.5, "PV", 2)
    assert read["alarm"] == Alarm("HIHI", "MAJOR")
    assert (type(error), error.name, error.errorcode) == (CATimeout, "PV", 80)
    assert "(connecting)" in str(error)
    assert read["channel"] == ChannelInfo("PV", True, 2)
    assert (type(read["info"]), read["info"].name) == (CAInfo, "PV")


def test_a_value_is_an_augmented_value(p: str) -> None:
    """isinstance() distinguishes it from a plain value and from a CANothing."""
    for pv, datatype in (("ai", None), ("longin", None), ("stringin", None), ("stringin", bytes),
                         ("wf:DOUBLE", None)):  # fmt: skip
        value = get(p + pv, datatype)
        assert isinstance(value, AugmentedValue)
        assert not isinstance(+value, AugmentedValue)
    assert not isinstance(CANothing("PV", 80), AugmentedValue)


def test_classes_by_datatype_are_what_the_overloads_promise(p: str) -> None:
    kinds = {float: ca_float, int: ca_int, bool: ca_int, str: ca_str, bytes: ca_bytes}
    for datatype, kind in kinds.items():
        assert type(get(p + "ai", datatype)) is kind
        assert type(run(caget([p + "ai"], datatype))[0]) is kind  # type: ignore[call-overload]
    assert get(p + "ai", np.dtype("f8")) == 1.5


@pytest.mark.parametrize("duplicate", [by_pickle, by_oldest_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize(
    "pv,datatype",
    [
        ("ai", None), ("longin", None), ("mbbi", None), ("stringin", None), ("stringin", bytes),
        ("stringout.DESC$", None), ("wf:DOUBLE", None), ("wf:STRING", None), ("wf:empty", None),
        ("ai", DBR_STSACK_STRING),
    ],
)  # fmt: skip
def test_copies_keep_everything(p: str, pv: str, datatype: Any, duplicate: Any) -> None:
    for format in FORMATS:
        value: Any = get(p + pv, datatype=datatype, format=format)
        other = duplicate(value)  # before any attribute is read
        assert type(other) is type(value)
        assert same(other, value)
        assert attributes(other).keys() == attributes(value).keys()
        for name, content in attributes(value).items():
            assert same(getattr(other, name), content), name
        again = duplicate(other)
        assert attributes(again).keys() == attributes(value).keys()


def test_copy_of_an_array_is_its_own(p: str) -> None:
    value: Any = get(p + "wf:DOUBLE", format=FORMAT_TIME)
    for other in (value.copy(), copy.copy(value), copy.deepcopy(value), +value):
        other[0] = 99
        assert value[0] == 1.5
    assert value.copy().timestamp == value.timestamp


def test_big_array_is_writable(p: str) -> None:
    """An array larger than a page shares its DBR's memory: writing must not change attributes."""
    value: Any = get(p + "wf:scratch", count=-1, format=FORMAT_TIME)
    stamp, status = copy.copy(value).raw_stamp, copy.copy(value).status
    value[:] = np.arange(1000)
    assert (value.raw_stamp, value.status) == (stamp, status)
    assert value.sum() == 499500


@pytest.mark.parametrize(
    "derive",
    [
        lambda v: v[:2],
        lambda v: v[0],
        lambda v: v[[True, False, True]],
        lambda v: v[::-1],
        lambda v: v + 1,
        lambda v: 1 + v,
        lambda v: -v,
        lambda v: v > 0,
        lambda v: np.sqrt(np.abs(v)),
        lambda v: v.astype(int),
        lambda v: v.sum(),
        lambda v: v.max(),
        lambda v: v.mean(),
        lambda v: v.reshape(3, 1),
        lambda v: v.view(),
        lambda v: np.concatenate([v, v]),
        np.asarray,
        lambda v: np.array(v, subok=True)[1:],
        lambda v: pickle.loads(pickle.dumps(v[:2])),
        lambda v: v.cumsum(),
    ],
)
def test_what_derives_from_an_array_carries_no_lie(array: Any, derive: Any) -> None:
    derived = derive(array)
    assert attributes(derived) == {}
    if isinstance(derived, np.ndarray):
        assert (derived + 0).dtype is not None  # it works like an array


def test_array_changed_in_place(p: str) -> None:
    value: Any = get(p + "wf:DOUBLE")
    original = value
    value += 1
    assert value.tolist() == [2.5, -1.5, 4.0]
    assert value is original or attributes(value) == {}


@pytest.mark.parametrize(
    "pv,derive",
    [
        ("ai", lambda v: v + 1),
        ("ai", lambda v: 2 * v),
        ("ai", lambda v: -v),
        ("ai", abs),
        ("ai", round),
        ("longin", lambda v: v // 2),
        ("longin", abs),
        ("longin", lambda v: v & 1),
        ("stringin", lambda v: v[:2]),
        ("stringin", lambda v: v + "x"),
        ("stringin", lambda v: v.upper()),
        ("stringin", str),
        ("stringin", lambda v: f"{v}"),
    ],
)
def test_what_derives_from_a_scalar_is_plain(p: str, pv: str, derive: Any) -> None:
    value: Any = get(p + pv, format=FORMAT_TIME)
    assert value.timestamp
    assert type(derive(value)) in (int, float, str)


def test_values_serve_as_plain_ones(p: str) -> None:
    number: Any = get(p + "longin")
    text: Any = get(p + "stringin")
    real: Any = get(p + "ai")
    assert {-42: "x"}[number] == "x"
    assert {"hello": 1}[text] == 1
    assert [0, 1, 2][get(p + "mbbi")] == 2
    assert f"{real:.2f} {number:d} {text!s:>6}" == "1.50 -42  hello"
    assert "".join([text, "!"]) == "hello!"
    assert sorted([3.0, real]) == [1.5, 3.0]
    assert np.array([real, real]).dtype == np.float64


def test_dir_has_the_attributes(p: str) -> None:
    value: Any = get(p + "ai", format=FORMAT_CTRL)
    assert {"units", "precision", "name"} <= set(dir(value))
    assert "timestamp" not in dir(value)


# -- epicscorelibs ---------------------------------------------------------------------------------


def run_python(program: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


INSTANCES = """
import sys
import aioca
async def main(p):
    pvs = [p + "longin", p + "ai", p + "stringin", p + "wf:DOUBLE"]
    return [*await aioca.caget(pvs, format=aioca.FORMAT_TIME),
            await aioca.caget(p + "stringin", datatype=bytes)]
values = aioca.run(main(sys.argv[1]))
from epicscorelibs.ca import dbr
import aioca.types, copy, pickle
kinds = [dbr.ca_int, dbr.ca_float, dbr.ca_str, dbr.ca_array, dbr.ca_bytes]
ours = [getattr(aioca.types, kind.__name__) for kind in kinds]
for value, kind, own in zip(values, kinds, ours):
    assert isinstance(value, kind) and isinstance(value, own), (value, kind)
    assert not any(isinstance(value, other) for other in kinds if other is not kind)
    again = pickle.loads(pickle.dumps(value))
    assert type(again) is type(copy.copy(value)) is own and again.name == value.name
assert isinstance(values[1], float) and isinstance(values[2], str)
print("fine")
"""


def test_instances_of_the_classes_in_epicscorelibs(p: str) -> None:
    assert run_python(INSTANCES, p) == "fine\n"


def test_import_is_light() -> None:
    modules = run_python("import sys, aioca, aioca.types; print(*sys.modules)").split()
    heavy = {"setuptools", "pkg_resources", "setuptools_dso", "trio", "asyncio"}
    assert not heavy & set(modules)
    assert not [name for name in modules if name.startswith("epicscorelibs.ca")]
    assert "epicscorelibs.path" not in modules
