"""A connection that is cut."""

from __future__ import annotations

import contextlib
import random
import secrets
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

from aioca import CADisconnected, CATimeout, caget, camonitor, caput, connect, purge_channel_caches
from tests.support.line import Line, Way
from tests.support.network import LINES, Net, heartbeat, is_whole
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


class Follower:
    """A monitor of which everything is kept, and looked at as it comes."""

    def __init__(self, pv: str, count: int) -> None:
        self.pv = pv
        self.count = count
        self.values: list[float] = []
        self.disconnections = 0
        self.wrong: list[Any] = []
        self.subscription = camonitor(pv, self._update, all_updates=True, notify_disconnect=True)

    def _update(self, value: Any) -> None:
        if not value.ok:
            self.disconnections += 1
            if value.name != self.pv:
                self.wrong.append(value)
            return
        number = float(value[0] if self.count > 1 else value)
        whole = self.count == 1 or is_whole(value, self.count)
        # A value that was the last one before a reconnection comes again.
        if not whole or (self.values and number < self.values[-1]):
            self.wrong.append(+value)
        self.values.append(number)


@pytest.mark.parametrize(
    "reconnections",
    [0, pytest.param(3, marks=pytest.mark.soak)],
    ids=["once", "again and again"],
)
async def test_cut_at_any_byte(net: Net, reconnections: int) -> None:
    """Cut in the middle of messages: of a stream of arrays, and of writes and their replies.

    Every call ends; no value that was never written is delivered; a write is not repeated; and
    every monitor is told, once, comes back, and ends with the last value.

    Each PV has its own circuit. After a disconnection libca takes up to ten seconds to search:
    where there is no time for that, new channels show what was done.
    """
    patience = 2 if reconnections else 0.3
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # for who wants to see a failure again
    rng = random.Random(seed)
    number = 0
    stop = False

    async def write() -> None:
        """All arrays get the same new value, over and over."""
        nonlocal number
        while not stop:
            number += 1
            value = np.full(5000, float(number))
            await caput([pv + ":direct" for pv in arrays], value, repeat_value=True, wait=True)
            await anyio.sleep(0.01)

    async def read(pv: str) -> None:
        while not stop:
            at_least = number
            try:
                value = await caget(pv, timeout=patience)
            except (CADisconnected, CATimeout) as error:
                assert error.name == pv and pv in str(error)
                errors.add(pv)
            else:
                assert is_whole(value, 5000), value
                assert at_least - 1 <= value[0] <= number
            await anyio.sleep(rng.random() * 0.02)

    async def put(pv: str) -> None:
        """Different values, with wait; which of them have failed is kept."""
        for value in range(1, 400):
            if stop:
                return
            tried[pv] = value
            try:
                await caput(pv, value, wait=True, timeout=patience)
            except (CADisconnected, CATimeout) as error:
                assert error.name == pv
                failed[pv].append((value, str(error)))
            await anyio.sleep(0.01)

    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Line(net.ioc.port)) for _ in range(LINES)]
        names = [net.p + ("w" if i % 3 else "x") + str(i) for i in range(LINES)]
        net.proxy.routes = dict(zip(names, lines, strict=True))
        arrays = [name for i, name in enumerate(names) if i % 3]
        scalars = [name for i, name in enumerate(names) if not i % 3]
        errors = set[str]()
        tried, failed = dict[str, int](), {pv: list[tuple[int, str]]() for pv in scalars}
        for pv in scalars:
            await net.forget(pv.removeprefix(net.p))
            await caput(pv + ":direct", 0, wait=True)
        await caput([pv + ":direct" for pv in arrays], np.zeros(5000), True, wait=True)
        await connect(names)
        assert all(line.opened == 1 for line in lines)
        async with heartbeat(), anyio.create_task_group() as group:
            followers = [Follower(pv, 5000 if pv in arrays else 1) for pv in names]
            await until(lambda: all(f.values for f in followers))
            group.start_soon(write)
            for pv in arrays:
                group.start_soon(read, pv)
            for pv in scalars:
                group.start_soon(put, pv)
            for wave in range(1, max(reconnections, 1) + 1):
                for i, line in enumerate(lines):
                    reset = rng.random() < 0.5
                    if i % 3:  # an update has 40 kB
                        line.cut_after(rng.randrange(300_000), Way.TO_CLIENT, reset=reset)
                    elif rng.random() < 0.5:  # a put-callback has 32 bytes to the server,
                        line.cut_after(rng.randrange(150), Way.TO_SERVER, reset=reset)
                    else:  # and 16 and an update of 24 from there
                        line.cut_after(rng.randrange(150), Way.TO_CLIENT, reset=reset)
                await until(lambda wave=wave: all(line.cuts == wave for line in lines))
                await until(lambda wave=wave: all(f.disconnections == wave for f in followers))
                if reconnections:
                    before = [len(f.values) for f in followers]
                    await until(
                        lambda before=before: all(
                            len(f.values) > n for f, n in zip(followers, before, strict=True)
                        )
                    )
            stop = True
        assert errors, "no get was under way at any cut"
        assert any(failed.values()), "no put was under way at any cut"
        assert all(follower.disconnections == wave for follower in followers)
        last = {pv: float(number) for pv in arrays}
        for pv in scalars:
            done = (await net.history(pv.removeprefix(net.p)))[1:]  # without that of the reset
            assert done == sorted(set(done)), "written twice, or not in order"
            known = {value for value, _ in failed[pv]}
            assert set(range(1, tried[pv] + 1)) - set(done) <= known, "lost without a word"
            # "not sent": it connected again before the deadline, and the busy loop was late
            said = ("unknown", "connecting", "not sent")
            assert all(any(map(text.__contains__, said)) for _, text in failed[pv]), failed[pv]
            last[pv] = done[-1] if done else 0.0
        if reconnections:
            assert all(line.opened == wave + 1 for line in lines)
            await until(lambda: all(f.values[-1] == last[f.pv] for f in followers))
        for follower in followers:
            assert not follower.wrong, (follower.pv, follower.wrong[:3])
        if not reconnections:
            purge_channel_caches()  # the new ones are searched for at once
        for pv, value in zip(names, await caget(names), strict=True):
            assert pv in scalars or is_whole(value, 5000)
            assert np.max(value) == last[pv]
        purge_channel_caches()  # before the lines end
