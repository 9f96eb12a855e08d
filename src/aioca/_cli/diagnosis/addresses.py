"""The addresses to search: computed from the settings and the interfaces of this host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..._ca.hosts import Problem, host_problem, ipv4
from ..wire.search import Target
from .findings import CAUSE, REMARK, Finding
from .interfaces import Broadcast


@dataclass(frozen=True)
class Place:
    """An address to search.

    Attributes:
        target: the address.
        origin: the setting or interface that it comes from.
        has_port: whether the setting names the port; otherwise it is that of EPICS_CA_SERVER_PORT.
    """

    target: Target
    origin: str
    has_port: bool = False


def local_networks(
    broadcasts: Callable[[], list[Broadcast] | None], port: int, findings: list[Finding]
) -> list[Place]:
    """List the addresses that libca searches because EPICS_CA_AUTO_ADDR_LIST is on."""
    about = "EPICS_CA_AUTO_ADDR_LIST"
    known = broadcasts()
    if known is None:
        findings.append(
            Finding(
                "note", about, "the broadcast addresses of this host cannot be listed",
                "name the servers in EPICS_CA_ADDR_LIST: the doctor then asks all of them", REMARK,
            )
        )  # fmt: skip
        return []
    if not known:  # like libca on a host without a network
        return [Place(Target("127.0.0.1", port), "this host, which has no network")]
    places: dict[str, Place] = {}
    for broadcast in known:  # two addresses in one network have the same broadcast address
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
    """Add the hosts of a setting to `places`, and their mistakes to `findings`.

    Looks up host names, and blocks until the replies come.

    Args:
        places: the addresses so far.
        name: the name of the setting.
        words: the words of its value.
        default_port: the port of hosts without one.
        resolve: returns the address of a host name; raises OSError.
        findings: the findings so far.
    """
    for before, word in zip(["", *words], words, strict=False):
        host, _, port = word.partition(":")
        problem = host_problem(word)
        if problem is not None:
            advice = _advice(name, before, word, problem)
            findings.append(Finding("error", name, f"{name}: {problem.what}", advice, CAUSE))
            if not problem.searched:
                continue
        address = _address(host, resolve)
        if not address:
            findings.append(
                Finding(
                    "error", name, f"{name}: there is no host `{host}`; libca ignores it",
                    f"correct `{host}` in {name}, or write its address instead", CAUSE,
                )
            )  # fmt: skip
            continue
        target = Target(address, int(port or default_port), _for_many(address))
        if any(place.target.address == target.address for place in places):
            findings.append(
                Finding(
                    "note", name, f"{name}: {target.host}:{target.port} is listed twice",
                    "remove one of the two", REMARK,
                )
            )  # fmt: skip
        else:
            places.append(Place(target, name, bool(port)))


def _advice(name: str, before: str, word: str, problem: Problem) -> str:
    """Return the advice on a word; `before` is the preceding word, whose port it may be."""
    instead = problem.instead
    if word.isdecimal() and before and ":" not in before and host_problem(before) is None:
        instead = f"{before}:{word}"
    return f'set {name}="{instead}"' if instead else problem.advice


def _for_many(address: str) -> bool:
    """Whether the address is a broadcast (...255 by convention) or multicast address."""
    first, *_, last = map(int, address.split("."))
    return last == 255 or 224 <= first < 240


def _address(host: str, resolve: Callable[[str], str]) -> str:
    """Return the IPv4 address of a host; empty if it has none. Blocks on the look-up."""
    if (address := ipv4(host)) is not None:
        return address
    try:
        return resolve(host)
    except (OSError, UnicodeError):
        return ""
