"""The EPICS_CA_* settings as libca reads them, and findings for the mistakes in them.

The rules were tried with EPICS 7.0.10, and a test compares them with libca. libca reads a number
like C, up to the first character that does not belong to it. It ignores a number that it cannot
use. Its rules for yes and no are unusual: see `_auto` and `_arrays`.
"""

from __future__ import annotations

import difflib
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..._ca.array_limit import (
    AUTO_ARRAY_BYTES,
    HAS_AUTO,
    MAX_ARRAY_BYTES,
    MIN_LIMIT_BYTES,
    is_automatic,
    limit_of,
)
from ..._ca.environment import local_networks_searched
from ..._ca.hosts import words_of
from ..numbers import c_integer, c_real, usable_port
from ..wire.protocol import DEFAULT_REPEATER_PORT, DEFAULT_SERVER_PORT
from .addresses import Place, add_hosts, local_networks
from .findings import CAUSE, HABIT, REMARK, Finding
from .interfaces import Broadcast
from .setting import Setting

_DEFAULTS = {
    "EPICS_CA_ADDR_LIST": "",
    "EPICS_CA_AUTO_ADDR_LIST": "YES",
    "EPICS_CA_NAME_SERVERS": "",
    "EPICS_CA_SERVER_PORT": str(DEFAULT_SERVER_PORT),
    "EPICS_CA_REPEATER_PORT": str(DEFAULT_REPEATER_PORT),
    "EPICS_CA_CONN_TMO": "30",
    "EPICS_CA_MAX_ARRAY_BYTES": str(MIN_LIMIT_BYTES),
    "EPICS_CA_AUTO_ARRAY_BYTES": "YES",
    "EPICS_CA_MAX_SEARCH_PERIOD": "300",
    "EPICS_CA_MCAST_TTL": "1",
}
_OF_SERVERS = {"EPICS_CA_BEACON_PERIOD"}  # old servers read these, clients do not
_AUTO = "EPICS_CA_AUTO_ADDR_LIST"


@dataclass
class Settings:
    """All settings, and the addresses, ports, limit and findings that follow from them."""

    rows: list[Setting] = field(default_factory=list[Setting])
    places: list[Place] = field(default_factory=list[Place])
    name_servers: list[Place] = field(default_factory=list[Place])
    server_port: int = DEFAULT_SERVER_PORT
    repeater_port: int = DEFAULT_REPEATER_PORT
    array_limit: int | None = None  # bytes; see `_ca.array_limit`
    findings: list[Finding] = field(default_factory=list[Finding])


def read_settings(
    environment: Mapping[str, str],
    broadcasts: Callable[[], list[Broadcast] | None],
    resolve: Callable[[str], str] = socket.gethostbyname,
) -> Settings:
    """Read the settings by libca's rules. Blocks while host names are looked up.

    Args:
        environment: the environment variables.
        broadcasts: returns the broadcast addresses of this host; None if they cannot be known.
        resolve: returns the address (dotted quad) of a host name; raises OSError.
    """
    return _Reader(environment, broadcasts, resolve).read()


class _Reader:
    def __init__(
        self,
        environment: Mapping[str, str],
        broadcasts: Callable[[], list[Broadcast] | None],
        resolve: Callable[[str], str],
    ) -> None:
        self._given = environment
        self._broadcasts = broadcasts
        self._resolve = resolve
        self._settings = Settings()

    def read(self) -> Settings:
        s = self._settings
        s.server_port = self._port("EPICS_CA_SERVER_PORT")
        s.repeater_port = self._port("EPICS_CA_REPEATER_PORT")
        auto = self._auto()
        self._row("EPICS_CA_ADDR_LIST")
        self._row("EPICS_CA_NAME_SERVERS")
        if auto:
            s.places += local_networks(self._broadcasts, s.server_port, s.findings)
        for name, places in (
            ("EPICS_CA_ADDR_LIST", s.places),
            ("EPICS_CA_NAME_SERVERS", s.name_servers),
        ):
            words = words_of(self._text(name) or "")
            add_hosts(places, name, words, s.server_port, self._resolve, s.findings)
        self._seconds("EPICS_CA_CONN_TMO", 0.0, 300.0)
        self._search_period()
        self._arrays()
        self._ttl()
        if not s.places and not s.name_servers:
            self._find(
                "error", "EPICS_CA_ADDR_LIST",
                "there is no address to search: no PV can be found",
                "set EPICS_CA_ADDR_LIST to the hosts of the servers, or unset"
                " EPICS_CA_AUTO_ADDR_LIST",
                CAUSE,
            )  # fmt: skip
        self._unknown_names()
        s.rows.sort(key=lambda row: list(_DEFAULTS).index(row.name))
        return s

    # -- Small things ------------------------------------------------------------------------------

    def _find(self, severity: str, about: str, what: str, advice: str, rank: int = HABIT) -> None:
        self._settings.findings.append(Finding(severity, about, what, advice, rank))

    def _text(self, name: str) -> str | None:
        """Return the value in the environment; None if it is empty or not set."""
        return self._given.get(name) or None

    def _row(self, name: str, value: str | None = None) -> None:
        """Note a setting: with `value`, or else with the given or default value."""
        given = self._text(name)
        value = given or _DEFAULTS[name] if value is None else value
        self._settings.rows.append(Setting(name, value, given))

    # -- Yes and no --------------------------------------------------------------------------------

    def _auto(self) -> bool:
        text = self._text(_AUTO)
        auto = local_networks_searched(text)
        self._row(_AUTO, "YES" if auto else "NO")
        if text and auto and text.strip().lower() != "yes":
            self._find(
                "error", _AUTO,
                f"{_AUTO}={text} means YES: only `NO` or `no` turns it off, so the local"
                " networks are searched",
                f"set {_AUTO}=NO, or YES if that is meant",
            )  # fmt: skip
        elif text and not auto and text not in ("NO", "no"):
            self._find(
                "warning", _AUTO,
                f"{_AUTO}={text} means NO, because it contains `no`",
                f"set {_AUTO}=NO, or YES if that is meant",
            )  # fmt: skip
        return auto

    def _arrays(self) -> None:
        name, most = AUTO_ARRAY_BYTES, MAX_ARRAY_BYTES
        text = self._text(name)
        auto = is_automatic(text)
        self._row(name, "YES" if auto else "NO")
        if not auto and HAS_AUTO and (text or "").lower() != "no":
            self._find(
                "warning", name, f"{name}={text} means NO: only `YES` turns it on",
                f"unset {name}: YES is the default",
            )  # fmt: skip
        given = self._text(most)
        number = c_integer(given) if given else None
        size = max(number or 0, MIN_LIMIT_BYTES)
        self._row(most, str(size))
        if most in self._given and (number is None or number < 0):
            self._find(
                "warning", most,
                f"{most}={given or ''} is not a number of bytes; libca uses {size}",
                f"set {most} to a number of bytes, or unset it",
            )  # fmt: skip
        elif given and given.strip() != str(number):
            self._find(
                "warning", most, f"{most}={given} is read as {number}; libca uses {size}",
                f"set {most} to a number of bytes, digits only",
            )  # fmt: skip
        elif given and number is not None and number < MIN_LIMIT_BYTES:
            self._find(
                "note", most, f"{most}={given} is below libca's minimum; libca uses {size}",
                f"unset {most}", REMARK,
            )  # fmt: skip
        self._settings.array_limit = limit = limit_of(self._given)
        if limit is not None:
            self._find(
                "note", name if HAS_AUTO else most,
                f"replies and updates of more than {limit} bytes are dropped;"
                " larger arrays can be written, but not read",
                f"unset {name}: then there is no limit" if HAS_AUTO
                else f"set {most} to the bytes of the largest array", REMARK,
            )  # fmt: skip

    # -- Numbers -----------------------------------------------------------------------------------

    def _port(self, name: str) -> int:
        default = int(_DEFAULTS[name])
        text = self._text(name)
        number = c_integer(text) if text else None
        usable = usable_port(text)
        port = usable or default
        self._row(name, str(port))
        if name in self._given and text is None:
            self._find(
                "note", name, f"{name} is set, but empty: {port} is used", f"unset {name}", REMARK
            )
        elif text and not usable:
            why = "is not a port" if number is None else "is not from 5001 to 65535"
            self._find(
                "error", name, f"{name}={text} {why}: libca uses {port} instead",
                f"set {name} to a port from 5001 to 65535, or unset it", CAUSE,
            )  # fmt: skip
        elif text and text.strip() != str(port):
            self._find("warning", name, f"{name}={text} is read as {port}", f"set {name}={port}")
        return port

    def _seconds(self, name: str, low: float, high: float) -> float:
        default = float(_DEFAULTS[name])
        text = self._text(name)
        number = c_real(text) if text else None
        value = default if number is None else number
        self._row(name, f"{value:g}")
        if name in self._given and number is None:
            self._find(
                "warning", name,
                f"{name}={text or ''} is not a number of seconds: libca uses {default:g}",
                f"set {name}={default:g}, or unset it",
            )  # fmt: skip
        elif not math.isfinite(value) or value <= low:
            self._find(
                "error", name, f"{name}={text} is not a usable time-out",
                f"unset {name}: {default:g} s is the default", CAUSE,
            )  # fmt: skip
        elif value < 1:
            self._find(
                "warning", name,
                f"{name}={text}: a server that is busy for {value:g} s counts as disconnected",
                f"unset {name}: {default:g} s is the default",
            )  # fmt: skip
        elif value > high:
            self._find(
                "warning", name,
                f"{name}={text}: the loss of a server is noticed only after {value:g} s",
                f"unset {name}: {default:g} s is the default",
            )  # fmt: skip
        return value

    def _search_period(self) -> None:
        name = "EPICS_CA_MAX_SEARCH_PERIOD"
        text = self._text(name)
        number = c_real(text) if text else None
        value = 300.0 if number is None else max(number, 60.0)
        self._row(name, f"{value:g}")
        if text and number is None:
            self._find(
                "warning", name, f"{name}={text} is not a number of seconds: libca uses 300",
                f"unset {name}",
            )  # fmt: skip
        elif number is not None and not number >= 60.0:
            self._find(
                "note", name, f"{name}={text} is below libca's minimum, 60",
                f"unset {name}", REMARK,
            )  # fmt: skip

    def _ttl(self) -> None:
        name = "EPICS_CA_MCAST_TTL"
        text = self._text(name)
        number = c_integer(text) if text else None
        usable = number is not None and 0 < number < 256
        self._row(name, str(number) if usable else "1")
        if text and not usable:
            self._find(
                "warning", name, f"{name}={text} is not a number of hops from 1 to 255",
                f"unset {name}",
            )  # fmt: skip

    def _unknown_names(self) -> None:
        for name in self._given:
            if name.startswith("EPICS_CA_") and name not in {*_DEFAULTS, *_OF_SERVERS}:
                similar = difflib.get_close_matches(name, _DEFAULTS, 1)
                meant = f"; {similar[0]} is one" if similar else ""
                self._find(
                    "warning", name, f"{name} is not a setting of libca{meant}", f"unset {name}"
                )
