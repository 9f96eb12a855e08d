"""Share PVs between processes, and publish their updates to NATS JetStream, for any consumer.

    aioca ioc examples/records.db                                  # in another terminal
    nats-server --jetstream --addr 127.0.0.1                       # in another
    python examples/many_processes.py work SINE NOISE COUNTER      # in several: the workers
    python examples/many_processes.py follow display               # a consumer, whenever you like

The PVs are split into parts. A worker publishes the parts whose leases it holds. A lease is a key
of JetStream that disappears unless it is renewed, so the parts of a worker that dies are free after
`LEASE_SECONDS`, and others take them. docs/how-to/many-processes.md tells what may be missed, and
what may come twice. The client of NATS needs asyncio.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote
from zlib import crc32

import anyio
import nats
from anyio.abc import TaskGroup
from nats.errors import TimeoutError as NoMessageError
from nats.js.errors import APIError, BadRequestError, KeyWrongLastSequenceError, NoKeysError

from aioca import FORMAT_TIME, camonitor, run

LEASE_SECONDS = 3.0
KEEP_SECONDS, ONCE_SECONDS = 3600.0, 120.0  # keep updates so long, and drop a second one so long


async def publish(jetstream: Any, worker: str, pvs: list[str], scope: anyio.CancelScope) -> None:
    """Publish each update of some PVs, each PV under a subject of its own."""
    with scope:
        async with camonitor(pvs, format=FORMAT_TIME, all_updates=True) as updates:
            async for value in updates:
                plain = (+value).tolist() if value.element_count != 1 else +value
                update = [value.name, value.timestamp_ns, value.severity, plain]
                payload = json.dumps(update).encode()
                # The same update has the same id, whoever publishes it
                headers = {"Nats-Msg-Id": hashlib.sha256(payload).hexdigest(), "Worker": worker}
                subject = "pv." + quote(value.name, safe=":").replace(".", "%2E")
                await jetstream.publish(subject, payload, headers=headers)


class Worker:
    """The leases that this process holds, and a task for each."""

    def __init__(self, jetstream: Any, leases: Any, pvs: list[str], parts: int, copies: int):
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.jetstream, self.leases, self.copies = jetstream, leases, copies
        self.parts: list[list[str]] = [[] for _ in range(parts)]
        for pv in pvs:
            self.parts[crc32(pv.encode()) % parts].append(pv)
        self.names = [f"{part}.{copy}" for copy in range(copies) for part in range(parts)]
        self.held: dict[str, tuple[int, anyio.CancelScope]] = {}

    async def work(self, tasks: TaskGroup) -> None:
        """Renew the leases, and hold a fair share of them."""
        while True:
            await self.leases.put(f"worker.{self.name}", b"")  # we are alive
            keys: set[str] = set()
            with suppress(NoKeysError):  # this process had no CPU for so long that its own has gone
                keys.update(await self.leases.keys())
            workers = max(1, sum(key.startswith("worker.") for key in keys))
            # One more of copies, because nobody can hold two copies of a part
            share = math.ceil(len(self.names) / workers) + (self.copies > 1)
            for lease in list(self.held):
                await self.renew(lease)
                if lease in self.held and len(self.held) > share:
                    revision, scope = self.held.pop(lease)
                    scope.cancel()
                    await self.leases.delete(lease, last=revision)
            for lease in self.names:
                if lease not in keys and len(self.held) < share:
                    await self.take(lease, tasks)
            print(f"{self.name} holds {len(self.held)} of {len(self.names)}", flush=True)
            await anyio.sleep(LEASE_SECONDS / 3)

    async def take(self, lease: str, tasks: TaskGroup) -> None:
        part = int(lease.partition(".")[0])
        if any(f"{part}.{copy}" in self.held for copy in range(self.copies)):
            return
        try:
            revision = await self.leases.create(lease, self.name.encode())
        except KeyWrongLastSequenceError:  # another worker was faster
            return
        scope = anyio.CancelScope()
        self.held[lease] = revision, scope
        tasks.start_soon(publish, self.jetstream, self.name, self.parts[part], scope)

    async def renew(self, lease: str) -> None:
        revision, scope = self.held[lease]
        try:
            revision = await self.leases.update(lease, self.name.encode(), last=revision)
            self.held[lease] = revision, scope
        except KeyWrongLastSequenceError:  # we were too late: another may have it
            scope.cancel()
            del self.held[lease]


async def create(function: Callable[..., Awaitable[Any]], **options: Any) -> Any:
    """Create a stream or a bucket; it may exist, or another worker may be creating it."""
    for _ in range(50):
        with suppress(BadRequestError):  # "subjects overlap", while another worker creates it
            return await function(**options)
        await anyio.sleep(0.1)
    return await function(**options)


async def work(client: Any, o: argparse.Namespace) -> None:
    jetstream = client.jetstream()
    await create(
        jetstream.add_stream, name="UPDATES", subjects=["pv.*"],
        max_age=KEEP_SECONDS, duplicate_window=ONCE_SECONDS,
    )  # fmt: skip
    leases = await create(jetstream.create_key_value, bucket="leases", ttl=LEASE_SECONDS)
    worker = Worker(jetstream, leases, o.pvs, o.parts, o.copies)
    try:
        async with anyio.create_task_group() as tasks:
            await worker.work(tasks)
    finally:  # others can have the leases now, not after LEASE_SECONDS
        with anyio.move_on_after(1, shield=True), suppress(APIError):
            await leases.delete(f"worker.{worker.name}")
            for lease, (revision, _) in worker.held.items():
                await leases.delete(lease, last=revision)


async def follow(client: Any, o: argparse.Namespace) -> None:
    """Print every update that the stream has, and those to come; go on there the next time."""
    updates = await client.jetstream().pull_subscribe("pv.*", durable=o.name, stream="UPDATES")
    while True:
        with suppress(NoMessageError):
            for message in await updates.fetch(100, timeout=60):
                print(message.data.decode(), message.headers["Worker"], flush=True)
                await message.ack()


async def until_signal(o: argparse.Namespace) -> None:
    client: Any = await nats.connect(o.server)  # pyright: ignore[reportUnknownMemberType]
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(o.start, client, o)
            await anext(signals)
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Share PVs.", fromfile_prefix_chars="@")
    parser.add_argument("--server", default="nats://127.0.0.1:4222")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("work")
    command.add_argument("pvs", nargs="+", metavar="PV")
    command.add_argument("--parts", type=int, default=16)
    command.add_argument("--copies", type=int, default=1, help="workers for each PV")
    command.set_defaults(start=work)
    command = commands.add_parser("follow")
    command.add_argument("name", help="each name gets every update once")
    command.set_defaults(start=follow)
    run(until_signal(parser.parse_args()))
