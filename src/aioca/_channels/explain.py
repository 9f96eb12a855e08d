"""The texts of errors: one function for each cause.

- A text names the operation, the known cause, and a remedy if there is one.
- docs/reference/errors.md lists the texts; tests match them. Change all three together.
- The functions only make strings: they may run on any thread, and do not block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._ca import libca
from .._ca.array_limit import (
    AUTO_ARRAY_BYTES,
    HAS_AUTO,
    MAX_ARRAY_BYTES,
    MIN_LIMIT_BYTES,
    body_size,
    how_to_raise,
    limit_of,
)
from .._ca.environment import changed_too_late, searched

# For a write that was sent and not confirmed
UNKNOWN = "outcome unknown: the write may have been, or may still be, carried out"


def not_connected(
    name: str,
    host: str,
    settings: Mapping[str, str | None],
    *,
    refused: bool,
    ever_connected: bool,
    lost: bool,
) -> str:
    """Explain why a PV has not connected.

    Args:
        name: the PV.
        host: the server that libca has found, or `libca.NO_HOST`.
        settings: the ``EPICS_CA_*`` variables as libca has read them.
        refused: whether a server answered the search and then refused the channel.
        ever_connected: whether the PV was connected before.
        lost: whether a circuit was lost during the search. It may have led to this PV's server.
    """
    if refused:
        return f"connecting: a server has this name, but refuses the channel: {why_refused(name)}"
    if ever_connected:
        return "connecting: the server was lost and has not come back"
    if host != libca.NO_HOST:
        return f"connecting: {host} answered the search but did not complete the connection"
    what = "no server has answered the search for this name"
    if lost:
        what += ", or one answered and then closed the connection"
    return f"connecting: {what}; searched {searched(settings)}"


# -- Refused channels ------------------------------------------------------------------------------


def why_refused(name: str) -> str:
    """Guess from the name of a PV why a server that has it refuses the channel."""
    if name != name.strip():
        return "there is a blank at the beginning or the end of the name"
    _, dot, field = name.partition(".")
    if re.search(r"[{\[]", field):
        return (
            "perhaps the server does not know the filter in the name, or cannot apply the filter to"
            " this field"
        )
    if "$" in field:
        return "perhaps this field cannot be read as a long string, which `$` asks for"
    if dot:
        return f"perhaps the server does not give the field {field} to clients"
    return "perhaps the PV has no value for clients, or the server has too many clients"


def advice_when_refused(name: str) -> str:
    """Advise what to do about a name whose channel a server refuses."""
    if name != name.strip():
        return f"use {name.strip()!r}, without the blank"
    record, dot, field = name.partition(".")
    if found := re.search(r"[{\[]", field):
        return (
            f"correct the filter `{field[found.start() :]}`, or leave it out: the server does not"
            " know this filter, or cannot apply it to this field"
        )
    if "$" in field:
        return (
            "leave out the `$`: it asks for a long string, and may stand only once, after the name"
            " of a text or link field"
        )
    if dot:
        return f"use another field of {record}: the server does not give {field} to clients"
    return "look in the log of the server for the reason"


# -- Arrays that are too large ---------------------------------------------------------------------


def may_be_dropped(
    dbr: int,
    count: int,
    settings: Mapping[str, str | None],
    fewer: str = "ask for fewer elements",
) -> str:
    """Explain that libca drops an array, as a part of a text; empty if libca accepts it.

    Args:
        dbr: the DBR type in which the array is sent.
        count: the number of elements.
        settings: the ``EPICS_CA_*`` variables as libca has read them.
        fewer: advice on how to have fewer elements sent.
    """
    limit = limit_of(settings)
    size = body_size(dbr, count)
    if limit is None or size <= limit:
        return ""
    changed = changed_too_late(settings, (AUTO_ARRAY_BYTES, MAX_ARRAY_BYTES))
    return (
        f"up to {count} elements are {size} bytes, and libca drops more than {limit} bytes because"
        f" of {limit_in_words(settings)}; {how_to_raise(size)}, or {fewer}"
        + (f"; {changed}" if changed else "")
    )


def limit_in_words(settings: Mapping[str, str | None]) -> str:
    """Show the settings that limit the size of arrays."""
    most = settings.get(MAX_ARRAY_BYTES)
    shown = (
        f"{MAX_ARRAY_BYTES}={most}"
        if most is not None
        else f"{MAX_ARRAY_BYTES}, which is {MIN_LIMIT_BYTES} by default"
    )
    return f"{AUTO_ARRAY_BYTES}={settings.get(AUTO_ARRAY_BYTES)} and {shown}" if HAS_AUTO else shown


# -- Statuses from a server ------------------------------------------------------------------------


def status(doing: str, code: int) -> str:
    """Explain the ECA status with which a request failed."""
    if code == libca.ECA_TOLARGE:
        verb = "accepts" if doing.startswith("writing") else "sends"
        return (
            f"{doing}: the array is larger than the server {verb};"
            f" the limit is {MAX_ARRAY_BYTES} in the environment of the server, not of this client"
        )
    if code == libca.ECA_DISCONN:
        return f"{doing}: the server was lost before it replied"
    return doing


def put_status(code: int) -> str:
    """Explain the ECA status with which a put-callback failed."""
    if code == libca.ECA_DISCONN:
        return f"writing: the server was lost before it confirmed the write; {UNKNOWN}"
    if code == libca.ECA_PUTFAIL:
        return (
            "writing: the server reports that the write failed: it refused the value, or failed"
            " after it had accepted the value; outcome unknown: the record may have been processed"
        )
    return status("writing", code)


def put_without_wait(code: int) -> str:
    """Explain the ECA status that a server reported for a write without wait."""
    if code == libca.ECA_PUTFAIL:
        return "writing without wait: the server reports that the write failed; outcome unknown"
    return status("writing without wait", code)
