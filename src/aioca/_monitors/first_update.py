"""Reports that the first update of a connection does not come, as libca may have dropped it.

libca drops an array that is larger than its limit (see `_ca.array_limit`), and reports nothing. So
a monitor whose updates may be that large delivers an error if it gets no update for a while.

Only such a monitor has a `FirstUpdate`. Until the first update arrives, the `FirstUpdate` takes the
place of the monitor in the portal's table of receivers. So updates of all other monitors take no
longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._ca import libca
from .._channels import explain
from .._errors import Failure
from .._values.classes import Reader

if TYPE_CHECKING:
    from .subscription import ChannelSubscription

# The server sends the first update at once. A monitor that has none after this time reports it.
_FIRST_UPDATE_SECONDS = 2.0


def why_dropped(monitor: ChannelSubscription, reader: Reader) -> str:
    """Explain that libca may drop the largest possible update; empty if it would not."""
    channel = monitor._channel
    assert channel is not None
    return explain.may_be_dropped(
        reader.shape.dbr, channel.native_count, monitor.context.ca_context.settings,
        fewer=f"monitor a part of the array, such as {monitor.name}.[0:9]",
    )  # fmt: skip


def expect(monitor: ChannelSubscription, reader: Reader) -> None:
    """Have the monitor deliver an error if no update comes and libca may have dropped it.

    On the loop, at each connection. Only with ``notify_disconnect``.
    """
    limit = monitor.context.ca_context.array_limit
    if limit is None or not monitor._options.notify_disconnect:
        return
    if why := why_dropped(monitor, reader):
        FirstUpdate(monitor, why).wait()


class FirstUpdate:
    """Receives the first update, or error, of a monitor, and passes it on. All on the loop."""

    def __init__(self, monitor: ChannelSubscription, why: str) -> None:
        self._monitor = monitor
        self._why = why
        self._key = monitor._key
        self._cancel: Callable[[], None]

    def __repr__(self) -> str:
        return f"<FirstUpdate of {self._monitor!r}>"

    def wait(self) -> None:
        """Take the place of the monitor until its first update."""
        context = self._monitor.context
        context.portal.receivers[self._key] = self
        self._cancel = context.portal.after(_FIRST_UPDATE_SECONDS, self._give_up)

    def receive(self, item: Any) -> None:
        """Put the monitor back into the table, and pass the update on."""
        monitor = self._monitor
        self._cancel()
        monitor.context.portal.receivers[self._key] = monitor
        monitor.receive(item)

    def _give_up(self) -> None:
        """Have the monitor deliver the error, unless it was closed; timer of the portal."""
        monitor = self._monitor
        if monitor.context.portal.receivers.get(self._key) is self:
            detail = f"monitoring: no update has come; libca may have dropped it: {self._why}"
            monitor.tell(Failure(monitor.name, libca.ECA_TOLARGE, detail).nothing())
