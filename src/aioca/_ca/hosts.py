"""The hosts in EPICS_CA_ADDR_LIST and EPICS_CA_NAME_SERVERS, as libca reads them.

libca ignores a word that it cannot use, and prints a message on stderr. The rules here are those
of EPICS 7.0.10, and tests compare them with libca: a decimal number is an address, the numbers of a
dotted quad are never octal, and after the colon there is a port and nothing else.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

_MAX_WORD_CHARACTERS = 255  # libca reads no more of one word


class Problem(NamedTuple):
    """Why a word is not a host.

    Attributes:
        what: the description of the problem.
        advice: what the user should write.
        instead: the full replacement text, if it can be known; otherwise empty.
        searched: whether libca accepts the word and searches at an address that the user can
            hardly have meant.
    """

    what: str
    advice: str
    instead: str = ""
    searched: bool = False


def words_of(text: str) -> list[str]:
    """Split a list into words, at the six blanks of C (str.split() has more)."""
    return re.findall(r"[^ \t\n\v\f\r]+", text)


def host_problem(word: str) -> Problem | None:
    """The problem of a word in a list; None if it is a host, with or without a port."""
    if re.search("[,;]", word):
        hosts = " ".join(filter(None, re.split("[,;]", word)))
        return Problem(
            f"`{word}` is not a host; blanks go between hosts", f"write `{hosts}`", hosts
        )
    if _is_ipv6(word):
        return Problem(
            f"`{word}` is an IPv6 address, and Channel Access has IPv4 only",
            "write the host's name, or its IPv4 address",
        )
    host, colon, port = word.partition(":")
    if colon and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        return Problem(
            f"`{word}` has no port from 1 to 65535", "write host:port, or the host alone"
        )
    if len(word) > _MAX_WORD_CHARACTERS or not re.fullmatch("[A-Za-z0-9._-]+", host):
        shown = f"{word[:40]}..." if len(word) > _MAX_WORD_CHARACTERS else word
        return Problem(
            f"`{shown}` is not the name of a host, nor an address",
            "write a name (letters, digits, `-` and `.`) or an IPv4 address",
        )
    if re.fullmatch("[0-9]+", host) and int(host) < 65536:
        return Problem(
            f"`{word}` is a number without a host; libca takes it for the address {ipv4(host)}",
            "write host:port, with a colon and no blank",
            searched=True,
        )
    if re.fullmatch("[0-9.]+", host) and ipv4(host) is None:
        return Problem(f"`{word}` is not an IPv4 address", "correct it, or write the host's name")
    return None


def _is_ipv6(word: str) -> bool:
    if word.startswith("["):
        return True
    try:
        ipaddress.IPv6Address(word)
    except ValueError:
        return False
    return True


def ipv4(host: str) -> str | None:
    """The dotted quad that libca reads from digits; None for a name, which libca looks up."""
    numbers = host.split(".")
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", host) and all(int(n) < 256 for n in numbers):
        return ".".join(str(int(n)) for n in numbers)
    if re.fullmatch("[0-9]+", host):
        return str(ipaddress.IPv4Address(int(host))) if int(host) < 2**32 else None
    try:  # C's name look-up also accepts short addresses, such as 127.1
        return socket.inet_ntoa(socket.inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None
