"""The addresses that are searched: what the settings and the interfaces of this host amount to."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from ._findings import CAUSE, REMARK, Finding
from ._interfaces import Broadcast
from ._search import Target


@dataclass(frozen=True)
class Place:
    """Where is searched, and why: an address, and the setting or interface that it comes from."""

    target: Target
    origin: str


def local_networks(
    broadcasts: Callable[[], list[Broadcast] | None], port: int, findings: list[Finding]
) -> list[Place]:
    """Where libca searches by itself."""
    about = "EPICS_CA_AUTO_ADDR_LIST"
    known = broadcasts()
    if known is None:
        findings.append(
            Finding(
                "note", about, "the broadcast addresses of this system cannot be listed",
                "name the servers in EPICS_CA_ADDR_LIST to have all of them asked", REMARK,
            )
        )  # fmt: skip
        return []
    if not known:  # as libca does on a host without a network
        return [Place(Target("127.0.0.1", port), "this host, which has no network")]
    places: dict[str, Place] = {}
    for broadcast in known:  # two addresses of one network have the same
        place = Place(Target(broadcast.address, port, True), f"broadcast of {broadcast.interface}")
        places.setdefault(broadcast.address, place)
    return list(places.values())


def add_hosts(
    places: list[Place],
    name: str,
    words: list[str],
    default_port: int,
    resolve: Callable[[str], str],
    findings: list[Finding],
) -> None:
    """Add the hosts of a setting, or say what is wrong with them.

    Args:
        places: where there are some already.
        name: of the setting.
        words: what is in it.
        default_port: for hosts without one.
        resolve: gives the address of a host's name; raises OSError.
        findings: where mistakes are put.
    """
    for word in words:
        host, _, port = word.partition(":")
        problem = _problem(name, word)
        address = "" if problem else _address(host, resolve)
        if not address:
            what, advice = problem or (
                f"there is no host `{host}`; libca leaves it out",
                f"correct `{host}` in {name}, or write its address instead",
            )
            findings.append(Finding("error", name, f"{name}: {what}", advice, CAUSE))
            continue
        target = Target(address, int(port or default_port), _for_many(address))
        if any(place.target.address == target.address for place in places):
            findings.append(
                Finding(
                    "note", name, f"{name}: {target.host}:{target.port} is there twice",
                    "leave it out once", REMARK,
                )
            )  # fmt: skip
        else:
            places.append(Place(target, name))


def _problem(name: str, word: str) -> tuple[str, str] | None:
    """What is wrong with how a host is written, and what to do."""
    if re.search("[,;]", word):
        hosts = " ".join(filter(None, re.split("[,;]", word)))
        return f"`{word}` is not a host; blanks go between hosts", f'set {name}="{hosts}"'
    _, colon, port = word.partition(":")
    if colon and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        return f"`{word}` has no port from 1 to 65535", "write host:port, or the host alone"
    return None


def _for_many(address: str) -> bool:
    """Whether a whole network listens to it: broadcast (by custom ...255), or multicast."""
    first, *_, last = map(int, address.split("."))
    return last == 255 or 224 <= first < 240


def _address(host: str, resolve: Callable[[str], str]) -> str:
    """The address of a host; empty if there is none."""
    if host[:1].isdigit():
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            pass  # a name may begin with a digit
    try:
        return resolve(host)
    except (OSError, UnicodeError):
        return ""
