"""A change of a chid that libca's thread notes only after the loop has replaced the chid."""

from __future__ import annotations

import pytest

from aioca import caget, connect
from aioca._ca import libca
from aioca._channels.connection import NEVER_CONNECTED, PREVIOUSLY_CONNECTED
from aioca._channels.registry import current
from tests.support.fake_ca import CAChannel, FakeCA

pytestmark = pytest.mark.anyio


def _silent(fake_ca: FakeCA) -> None:
    """Have libca create channels for which no server answers the search."""

    def create_channel(name: bytes, _trampoline: object, token: int, priority: int) -> object:
        fake_ca.channels[77] = CAChannel(77, name.decode(), token, priority)
        return libca.ECA_NORMAL, 77

    fake_ca.always("create_channel", create_channel)


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
async def test_a_late_change_is_not_applied_to_the_next_chid(fake_ca: FakeCA, up: bool) -> None:
    """The thread has looked up the channel and is stopped there; then the loop replaces the chid.

    Nothing could be read from a chid that no server has. So the channel must not count as
    connected, and the reconnector must not wait for a change that never comes.
    """
    await connect("PV")
    channel = current().channel("PV")
    (old,) = fake_ca.channels.values()
    key = channel._token_key
    _silent(fake_ca)
    fake_ca.disconnect(old)
    channel.replace()
    channel.connection_changed(key, up, 6, 1)
    failed = await caget("PV", timeout=0.05, throw=False)
    assert failed.errorcode == libca.ECA_TIMEOUT
    assert channel.state == PREVIOUSLY_CONNECTED
    assert not channel.change_is_queued()


async def test_a_change_of_the_present_chid_is_applied(fake_ca: FakeCA) -> None:
    """The counterpart: the new chid connects."""
    await connect("PV")
    channel = current().channel("PV")
    _silent(fake_ca)
    channel.replace()
    assert channel.state != NEVER_CONNECTED
    fake_ca.connect(fake_ca.channels[77])
    await connect("PV", timeout=5)
    assert channel.chid == 77
