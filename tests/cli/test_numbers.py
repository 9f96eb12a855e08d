"""Numbers of the command line and of the settings: the same as in C."""

from __future__ import annotations

import ctypes
import math

import click
import pytest
from epicscorelibs.lib import Com_dsoinfo

from aioca._cli.numbers import c_integer, c_real, strtod
from aioca._cli.shared import Seconds

UNIT = True

_com = ctypes.CDLL(Com_dsoinfo.sofilename)
_parse = _com.epicsParseDouble
_parse.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_double), ctypes.c_void_p]
_libc = ctypes.CDLL(None)
_libc.strtod.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
_libc.strtod.restype = ctypes.c_double
_scan = _libc.sscanf
_scan.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_long)]

TEXTS = [
    "1", "+1", "-1.5", "1.", ".5", ".", "", " ", " 2 ", "\t2\r\n", "\v2\f", "1e5", "1E-5", "1e",
    "1e+", "1d5", "30s", "+-1", "- 1", "1,5", "1_0", "007", "0x10", "0X1F", "-0x10", "0x",
    "0x.8", "0x1.8p-2", "0xG", "0x1p", "inf", "-Infinity", "infi", "nan", "nan(12)", "nan(a_1)",
    "nan(", "nan(-)", "1e999", "-1e999", "1e-400", "1e-310", "0e-999", "0.0", "-0", "0x1p99999",
    "-0x1p99999", "0x0p-9999", "0x1p-99999", "\u0661", "\uff11\uff12", "\xa01", "1\xa0",
    "\x1c1", "1\u2003", "\u0131nf",
]  # fmt: skip


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return (math.isnan(one) and math.isnan(other)) or repr(one) == repr(other)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_reals_are_read_as_libcom_reads_them(text: str) -> None:
    number = ctypes.c_double()
    expected = None if _parse(text.encode(), number, None) else number.value
    assert _same(c_real(text), expected), (c_real(text), expected)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_start_of_a_text_is_read_as_strtod_reads_it(text: str) -> None:
    data, end = ctypes.create_string_buffer(text.encode()), ctypes.c_char_p()
    number = _libc.strtod(ctypes.cast(data, ctypes.c_char_p), end)
    used = ctypes.cast(end, ctypes.c_void_p).value != ctypes.addressof(data)
    assert _same(strtod(text), number if used else None), (strtod(text), number)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_integers_are_read_as_scanf_reads_them(text: str) -> None:
    number = ctypes.c_long()
    found = _scan(text.encode(), b"%ld", number) == 1
    assert c_integer(text) == (number.value if found else None)


def test_an_option_in_seconds_takes_the_same_numbers() -> None:
    kind = Seconds()
    assert [kind.convert(value, None, None) for value in ("0x10", " 1.5", 2.0)] == [16.0, 1.5, 2.0]
    for text in ("1_0", "\u0661", "-1", "nan", "inf", "1e999", "2s"):
        with pytest.raises(click.BadParameter, match="not a time in seconds"):
            kind.convert(text, None, None)
