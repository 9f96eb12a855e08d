"""CAInfo: the state of a channel."""

# No `from __future__ import annotations`: annotations are evaluated in `aioca`, the public module
# of the class.

from typing import ClassVar

from .._ca import libca
from .._channels.channel import Channel
from .._printable import printable

_NO_ACCESS = 7  # the `datatype` of a channel that is not connected


class CAInfo:
    """The state of a channel. Its `str()` is the output of the ``cainfo`` tool.

    Attributes:
        ok (bool): whether the channel is connected.
        name (str): the PV.
        state (int): index into ``state_strings``.
        host (str): ``host:port`` of the server; ``<disconnected>`` if not connected.
        read (bool): whether this client may read; libca is asked when this object is made.
        write (bool): whether this client may write, likewise.
        count (int): native number of elements; 0 if not connected.
        datatype (int): native DBR type, index into ``datatype_strings``; 7 if not connected.
    """

    state_strings: ClassVar[list[str]] = [
        "never connected",
        "previously connected",
        "connected",
        "closed",
    ]
    datatype_strings: ClassVar[list[str]] = [
        "string", "short", "float", "enum", "char", "long", "double", "no access",
    ]  # fmt: skip

    def __init__(self, channel: Channel) -> None:
        self.ok: bool = channel.connected
        self.name: str = channel.name
        self.state: int = channel.state
        chid = channel.chid  # 0 if the channel was closed: libca must not be called with that
        self.host: str = libca.host_name(chid) if chid else libca.NO_HOST
        # Ask libca now: after a server was unresponsive, no callback reports a change of access.
        self.read: bool = bool(chid and libca.read_access(chid))
        self.write: bool = bool(chid and libca.write_access(chid))
        self.count: int = channel.native_count if channel.connected else 0
        self.datatype: int = channel.native_type if channel.connected else _NO_ACCESS

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.state_strings[self.state]}>"

    def __str__(self) -> str:
        kind = self.datatype_strings[self.datatype].upper() if self.ok else None
        rows = [
            ("State", self.state_strings[self.state]),
            ("Host", self.host),
            ("Access", f"{'' if self.read else 'no '}read, {'' if self.write else 'no '}write"),
            ("Native data type", f"DBF_{kind}" if kind else "<disconnected>"),
            ("Request type", f"DBR_{kind}" if kind else "<disconnected>"),
            ("Element count", str(self.count)),
        ]
        name = printable(self.name)
        return "\n".join([name, *(f"    {label + ':':<17} {text}" for label, text in rows)])
