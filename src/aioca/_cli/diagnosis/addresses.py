"""The addresses that are searched: what the settings and the interfaces of this host amount to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..._ca.hosts import Problem, host_problem, ipv4
from ..wire.search import Target
from .findings import CAUSE, REMARK, Finding
from .interfaces import Broadcast


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
                    "error", name, f"{name}: there is no host `{host}`; libca leaves it out",
                    f"correct `{host}` in {name}, or write its address instead", CAUSE,
                )
            )  # fmt: skip
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


def _advice(name: str, before: str, word: str, problem: Problem) -> str:
    """What to do about a word; `before` is the one before it, whose port it may be."""
    instead = problem.instead
    if word.isdecimal() and before and ":" not in before and host_problem(before) is None:
        instead = f"{before}:{word}"
    return f'set {name}="{instead}"' if instead else problem.advice


def _for_many(address: str) -> bool:
    """Whether a whole network listens to it: broadcast (by custom ...255), or multicast."""
    first, *_, last = map(int, address.split("."))
    return last == 255 or 224 <= first < 240


def _address(host: str, resolve: Callable[[str], str]) -> str:
    """The address of a host; empty if there is none."""
    if (address := ipv4(host)) is not None:
        return address
    try:
        return resolve(host)
    except (OSError, UnicodeError):
        return ""
