"""The types of fields that Channel Access gives a wider type, for ``aioca caput --strict``.

Channel Access has no unsigned types and none of 64 bits: a USHORT is a LONG there, and ULONG, INT64
and UINT64 are a DOUBLE. A UCHAR is a CHAR, as a CHAR is. A server converts a number that its field
cannot hold to another one, without an error. So `field_type` finds out what the field is: from the
type of its record, and for an array of any type from the field that has the type of its elements.
"""

from __future__ import annotations

import re

from ... import DBR_CHAR, DBR_CLASS_NAME, DBR_DOUBLE, DBR_LONG, caget
from ...types import Timeout

#: The smallest and the largest number of the types for which Channel Access has a wider one.
RANGES = {
    "UCHAR": (0, 2**8 - 1),
    "USHORT": (0, 2**16 - 1),
    "ULONG": (0, 2**32 - 1),
    "INT64": (-(2**63), 2**63 - 1),
    "UINT64": (0, 2**64 - 1),
}

#: By DBR type: the integers that all types can hold which are this type for Channel Access.
ALWAYS_HELD = {
    DBR_CHAR: range(2**8),  # a CHAR has them, too, as bytes
    DBR_LONG: range(2**16),
    DBR_DOUBLE: range(2**32),
}

_ARRAYS = ("waveform", "aai", "aao", "subArray")  # the field FTVL has the type of VAL
_LIMITS = "VAL HOPR LOPR HIHI LOLO HIGH LOW HYST ADEL MDEL"
_STATES = "ZRVL ONVL TWVL THVL FRVL FVVL SXVL SVVL EIVL NIVL TEVL ELVL TVVL TTVL FTVL FFVL"
_BITS = " ".join(f"B{number:X}" for number in range(32))
# The writable fields of the records of EPICS base, by type and record type
_FIELDS = {
    "UCHAR": {"": "DISP PROC TPRO UDF", "mbbiDirect": _BITS, "mbboDirect": _BITS},
    "USHORT": {
        "bo": "IVOV", "dfanout": "SELN", "fanout": "SELN", "mbbi": "SHFT", "mbbiDirect": "SHFT",
        "mbbo": "IVOV SHFT", "mbboDirect": "SHFT", "permissive": "VAL WFLG", "sel": "SELN",
        "seq": "OLDN SELN",
    },
    "ULONG": {
        "ai": "ROFF", "ao": "ROFF", "bi": "RVAL SVAL", "bo": "RVAL", "compress": "N",
        "histogram": "VAL HOPR LOPR", "mbbi": f"RVAL SVAL {_STATES}", "mbbiDirect": "RVAL",
        "mbbo": f"RVAL {_STATES}", "subArray": "INDX NELM",
    },
    "INT64": {"int64in": f"{_LIMITS} SVAL", "int64out": f"{_LIMITS} DRVH DRVL IVOV"},
}  # fmt: skip


class UnknownTypeError(Exception):
    """The type of the elements of an array was not read; the message says from which field."""


async def field_type(pv: str, timeout: Timeout) -> str:
    """Ask the server for the type of a field, such as ``USHORT``.

    Returns:
        str: one of `RANGES` or another name of a type; empty if it is not known: for a server that
        has no record types, and for a field whose type Channel Access has, too.

    Raises:
        UnknownTypeError: the record has a field with the type, which was not read.
    """
    kind = await caget(pv, DBR_CLASS_NAME, 0, 1, timeout, throw=False)
    if not kind.ok:
        return ""  # not every server has it
    record, _, rest = pv.partition(".")
    field = re.split(r"\W", rest, maxsplit=1)[0] or "VAL"  # a filter may follow it
    place = _place_of_type(str(kind), field)
    if not place:
        return _known_type(str(kind), field)
    reply = await caget(f"{record}.{place}", str, timeout=timeout, throw=False)
    if not reply.ok:
        raise UnknownTypeError(f"the type of its elements, {record}.{place}, was not read")
    return str(reply)


def _place_of_type(record_type: str, field: str) -> str:
    """Return the name of the field with the type of an array; empty if there is none."""
    if record_type in _ARRAYS and field == "VAL":
        return "FTVL"
    found = re.fullmatch("(VAL)?([A-U])", field) if record_type == "aSub" else None
    return f"FT{'V' if found[1] else ''}{found[2]}" if found else ""


def _known_type(record_type: str, field: str) -> str:
    for name, records in _FIELDS.items():
        if field in f"{records.get('', '')} {records.get(record_type, '')}".split():
            return name
    return ""
