"""Why a PV of a request has no value: the `Failure` for its outcome.

docs/reference/errors.md lists the texts; tests match them. Change all three together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._ca import libca
from .._channels import explain
from .._channels.channel import Channel
from .._errors import Failure
from .pending_puts import PendingPuts

if TYPE_CHECKING:
    from .request import Request

# The stages in which a PV may be at the deadline
CONNECTING, SENDING, REPLY = "connecting", "sending", "reply"


class Failures:
    """Explains the outcomes of a request that has ended. On the loop."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._connecting = set(request.connecting.values()).union(*request.again.values())
        self._pending = PendingPuts(request.context, request, request.put_token())

    def __repr__(self) -> str:
        return f"<Failures of {self._request!r}>"

    def of(self, index: int, outcome: int | Failure | None) -> Failure:
        """Explain why PV ``index`` failed, from its outcome."""
        if isinstance(outcome, Failure):
            return outcome
        request, channel = self._request, self._request.channels[index]
        if outcome is not None:
            return Failure(channel.name, outcome, request.explain(outcome))
        # A put-callback in progress may keep the server busy
        detail = self._why_timeout(index, channel) + self._pending.on_the_server_of(channel)
        return Failure(channel.name, libca.ECA_TIMEOUT, detail)

    def _why_timeout(self, index: int, channel: Channel) -> str:
        """Explain what PV ``index`` was waiting for at the deadline."""
        request = self._request
        if index in request.late:
            return (
                f"{request.doing}: not sent; the PV connected, but the event loop was busy until"
                " the deadline had passed"
            )
        if index in self._connecting:
            return request.why_waiting(index, CONNECTING) or channel.why_not_connected()
        if index >= request.begun:
            return request.why_waiting(index, SENDING) or (
                f"{request.doing}: not sent; the deadline passed before the request could be sent"
            )
        return request.why_waiting(index, REPLY) or (
            f"{request.doing}: connected, but the server has not replied"
        )


def closed_here(request: Request, channel: Channel, *, was_sent: bool = False) -> Failure:
    """The failure of a PV whose channel was closed during the call."""
    detail = f"{request.doing}: this program closed the channel"
    if was_sent:
        detail += f"; {explain.UNKNOWN}"
    return Failure(channel.name, libca.ECA_DISCONN, detail)
