"""A strip chart in the browser: an ASGI application that sends updates as server-sent events.

    aioca ioc examples/records.db       # in another terminal
    python examples/web_strip_chart.py SINE NOISE READBACK
    # and open http://127.0.0.1:8000

Each page has its task, and the monitors are a block in that: they end when the page is closed.
Needs hypercorn (pip install hypercorn), which runs on trio too; the page is web_strip_chart.html.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import signal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from hypercorn.config import Config

from aioca import FORMAT_CTRL, FORMAT_TIME, caget, camonitor, run

PAGE = Path(__file__).with_suffix(".html")


async def stream(pvs: list[str], send: Any) -> None:
    async def event(**content: Any) -> None:
        body = f"data: {json.dumps(content)}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})

    for value in await caget(pvs, format=FORMAT_CTRL, timeout=2, throw=False):
        units, precision = getattr(value, "units", ""), getattr(value, "precision", 3)
        await event(pv=value.name, units=units, precision=precision)
    monitors = camonitor(pvs, datatype=float, format=FORMAT_TIME, notify_disconnect=True)
    async with monitors as updates:
        async for value in updates:
            if value.ok and math.isfinite(+value):
                at = {"time": value.timestamp, "severity": value.severity}
                await event(pv=value.name, value=+value, **at)
            else:
                await event(pv=value.name, value=None)


async def application(
    pvs: list[str], stopping: anyio.Event, scope: Any, receive: Any, send: Any
) -> None:
    if scope["type"] == "lifespan":  # there is nothing to start up or to shut down
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    kind = b"text/event-stream" if scope["path"] == "/events" else b"text/html; charset=utf-8"
    headers = [(b"content-type", kind), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/events":
        async with anyio.create_task_group() as tasks:

            async def until_closed() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(stream, pvs, send)
            tasks.start_soon(until_closed)
            await stopping.wait()
            tasks.cancel_scope.cancel()
    body = b"" if scope["path"] == "/events" else PAGE.read_bytes()
    await send({"type": "http.response.body", "body": body})


async def main(pvs: list[str], port: int, backend: str) -> None:
    stopping = anyio.Event()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    serve = importlib.import_module(f"hypercorn.{backend}").serve
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

        async def stopped() -> None:
            await anext(signals)
            stopping.set()

        await serve(partial(application, pvs, stopping), config, shutdown_trigger=stopped)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A strip chart in the browser.")
    parser.add_argument("pvs", nargs="+", metavar="PV")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    o = parser.parse_args()
    run(main(o.pvs, o.port, o.backend), backend=o.backend)
