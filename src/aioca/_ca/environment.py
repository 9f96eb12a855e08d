"""The ``EPICS_CA_*`` settings of libca: `configure`, and a description of where libca searches.

libca reads its settings once: most when its context is made, the address list when the first
channel is made. So `configure` sets them in `os.environ`, for this process and its children, and
refuses to do so later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from .._printable import printable
from .array_limit import MIN_LIMIT_BYTES
from .context import context_exists, set_priority
from .hosts import host_problem, words_of

_MAX_YES_NO_CHARACTERS = 31  # libca reads no more of EPICS_CA_AUTO_ADDR_LIST


def configure(
    *,
    addr_list: str | Iterable[str] | None = None,
    auto_addr_list: bool | None = None,
    name_servers: str | Iterable[str] | None = None,
    server_port: int | None = None,
    repeater_port: int | None = None,
    conn_tmo: float | None = None,
    max_array_bytes: int | None = None,
    auto_array_bytes: bool | None = None,
    priority: int | None = None,
) -> None:
    """Set the ``EPICS_CA_*`` variables: where and how Channel Access searches.

    A setting that is not given keeps its value. Call this before any other function of this
    package; only `priority` may be set at any time. The settings except `priority` are stored in
    ``os.environ``, so that child processes have them too.

    Args:
        addr_list: hosts to search (``host`` or ``host:port``, names or IPv4 addresses): a list, or
            one string in which spaces separate them.
        auto_addr_list: whether to search by broadcast on all local networks as well.
        name_servers: hosts to search through TCP, in the same form.
        server_port: default port of servers, 5001 to 65535 (libca ignores lower ones).
        repeater_port: port of the CA repeater, in the same range.
        conn_tmo: seconds without a message after which libca sends the server an echo request.
        max_array_bytes: the largest array that can be read when `auto_array_bytes` is false. libca
            drops larger arrays. Writing has no limit.
        auto_array_bytes: whether arrays may be of any size.
        priority: CA priority, 0 (the default) to 99, of the channels that are created from now on.
            Each priority has its own circuits. A server serves those of a higher priority first.

    Raises:
        RuntimeError: Channel Access has been used already. libca does not read its settings again.
        ValueError: libca would not accept a value.
    """
    settings = {
        "EPICS_CA_ADDR_LIST": _hosts("addr_list", addr_list),
        "EPICS_CA_AUTO_ADDR_LIST": _yes_no("auto_addr_list", auto_addr_list),
        "EPICS_CA_NAME_SERVERS": _hosts("name_servers", name_servers),
        "EPICS_CA_SERVER_PORT": _number("server_port", server_port, int, 5001, 65535),
        "EPICS_CA_REPEATER_PORT": _number("repeater_port", repeater_port, int, 5001, 65535),
        "EPICS_CA_CONN_TMO": _number("conn_tmo", conn_tmo, (int, float), 0.1, 1e6),
        "EPICS_CA_MAX_ARRAY_BYTES": _number(
            "max_array_bytes", max_array_bytes, int, MIN_LIMIT_BYTES, 2**31 - 1
        ),
        "EPICS_CA_AUTO_ARRAY_BYTES": _yes_no("auto_array_bytes", auto_array_bytes),
    }
    given = {name: text for name, text in settings.items() if text is not None}
    priority_text = _number("priority", priority, int, 0, 99)
    if context_exists() and (given or priority is None):
        raise RuntimeError(
            "configure() has to come before the first use of Channel Access in the process:"
            " libca has read its environment and will not look again"
        )
    os.environ.update(given)
    if priority_text is not None:
        set_priority(int(priority_text))


def _hosts(name: str, value: str | Iterable[str] | None) -> str | None:
    if value is None:
        return None
    hosts = words_of(value) if isinstance(value, str) else list(value)
    for host in hosts:
        if not isinstance(host, str) or words_of(host) != [host]:
            raise ValueError(f"{name}: {host!r} is not a host")
        if problem := host_problem(host):
            raise ValueError(printable(f"{name}: {problem.what}; {problem.advice}"))
    return " ".join(hosts)


def _yes_no(name: str, value: bool | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, bool):
        # libca reads "No" as yes, so accept no text
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return "YES" if value else "NO"


def _number(
    name: str,
    value: float | None,
    kinds: type | tuple[type, ...],
    low: float,
    high: float,
) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "an int" if kinds is int else "a number"
        raise ValueError(f"{name} must be {what} from {low:g} to {high:g}, not {value!r}")
    return f"{value}"


def local_networks_searched(auto_addr_list: str | None) -> bool:
    """Whether libca searches the local networks, given the text of ``EPICS_CA_AUTO_ADDR_LIST``.

    libca does not if it reads ``no`` or ``NO`` anywhere: ``know`` turns it off, ``No`` does not.
    """
    return re.search("no|NO", (auto_addr_list or "")[:_MAX_YES_NO_CHARACTERS]) is None


_SEARCH_SETTINGS = (
    "EPICS_CA_ADDR_LIST",
    "EPICS_CA_AUTO_ADDR_LIST",
    "EPICS_CA_NAME_SERVERS",
    "EPICS_CA_SERVER_PORT",
)


def searched(settings: Mapping[str, str | None]) -> str:
    """Describe where libca searches, for the error about a PV that was not found.

    Args:
        settings: the ``EPICS_CA_*`` variables as libca has read them.
    """
    parts = [f"EPICS_CA_ADDR_LIST={settings.get('EPICS_CA_ADDR_LIST') or ''!r}"]
    if local_networks_searched(settings.get("EPICS_CA_AUTO_ADDR_LIST")):
        parts.append("and the local networks")
    servers = settings.get("EPICS_CA_NAME_SERVERS")
    if servers:
        parts.append(f"EPICS_CA_NAME_SERVERS={servers!r}")
    port = settings.get("EPICS_CA_SERVER_PORT")
    if port:
        parts.append(f"EPICS_CA_SERVER_PORT={port}")
    changed = changed_too_late(settings, _SEARCH_SETTINGS)
    return " ".join(parts) + (f"; {changed}" if changed else "")


def changed_too_late(settings: Mapping[str, str | None], names: Iterable[str]) -> str:
    """Describe which variables have changed since libca read them; empty if none has.

    Args:
        settings: the variables as libca has read them.
        names: the variables to compare with the environment.
    """
    changes = [
        f"{name} was set to {now!r} too late" if now else f"{name} was unset too late"
        for name in names
        if name in settings and (now := os.environ.get(name) or "") != (settings[name] or "")
    ]
    if not changes:
        return ""
    return (
        f"{', '.join(changes)}: libca reads its settings once in a process, so change them before"
        " the first use of Channel Access"
    )
