"""The strip charts: a picture that shows the traces; a server whose monitors end with a page."""

from __future__ import annotations

import http.client
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from aioca import get_channel_infos
from aioca.testing import SoftIoc, free_port
from tests.support.examples import EXAMPLES, RECORDS, Program, running
from tests.support.iocs import PORTS


@pytest.fixture(scope="module")
def records() -> Iterator[SoftIoc]:
    with SoftIoc(RECORDS, port=PORTS[5]) as ioc:
        yield ioc


# -- strip_chart.py --------------------------------------------------------------------------------


def test_the_picture_shows_the_traces(records: SoftIoc, backend: str, tmp_path: Path) -> None:
    from matplotlib import colors, image

    picture = tmp_path / "chart.png"
    arguments = ("SINE", "NOISE", "--seconds", 3, "-o", picture, "--backend", backend)
    with running("strip_chart.py", *arguments, port=records.port) as program:
        assert program.finish(seconds=60) == []
    pixels = image.imread(picture)[:, :, :3]
    for number, half in enumerate((pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :])):
        colour = colors.to_rgb(f"C{number}")
        drawn = abs(half - colour).max(axis=2) < 0.02
        columns = drawn.any(axis=0).sum()
        rows = drawn.any(axis=1).sum()
        assert columns > 150 and rows > 50  # a trace, and not a flat one


def test_ctrl_c_ends_the_chart(records: SoftIoc, backend: str, tmp_path: Path) -> None:
    picture = tmp_path / "chart.png"
    clients = records.client_count()
    arguments = ("SINE", "-o", picture, "--backend", backend)
    with running("strip_chart.py", *arguments, port=records.port) as program:
        while records.client_count() == clients:
            assert program.process.poll() is None, program.lines
        assert program.stop() == []
    assert picture.read_bytes().startswith(b"\x89PNG")


# -- web_strip_chart.py ----------------------------------------------------------------------------


@pytest.fixture
def server(records: SoftIoc, backend: str) -> Iterator[tuple[Program, int]]:
    """The web server, and its port."""
    pytest.importorskip("hypercorn")
    port = free_port()
    arguments = ("SINE", "READBACK", "MISSING", "--port", port, "--backend", backend)
    with running("web_strip_chart.py", *arguments, port=records.port) as program:
        program.until(f"Running on http://127.0.0.1:{port} ")
        yield program, port


def test_the_server_sends_the_page_and_updates(server: tuple[Program, int]) -> None:
    program, port = server
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.read() == (EXAMPLES / "web_strip_chart.html").read_bytes()

    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    units: dict[str, str] = {}
    sines: list[dict[str, Any]] = []
    while len(sines) < 5:
        line = answer.readline()
        if line.startswith(b"data: "):
            event = json.loads(line.removeprefix(b"data: "))
            if "units" in event:
                units[event["pv"]] = event["units"]
            elif event["pv"] == "SINE":
                sines.append(event)
    assert units == {"SINE": "V", "READBACK": "mm", "MISSING": ""}
    stamps = [event["time"] for event in sines]
    assert stamps == sorted(set(stamps))
    assert all(-10 <= event["value"] <= 10 and event["severity"] in (0, 1, 2) for event in sines)

    # Ctrl-C with a page that is open
    assert len(program.stop()) == 1
    answer.close()
    connection.close()


def test_the_server_ends_on_ctrl_c(server: tuple[Program, int]) -> None:
    """With no page open."""
    program, _ = server
    assert len(program.stop()) == 1


@pytest.mark.anyio
async def test_the_monitors_end_when_the_page_is_closed(ioc: SoftIoc, p: str) -> None:
    """The application itself, and a page that is closed after its third event."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        application: Callable[..., Any] = pytest.importorskip("web_strip_chart").application
    finally:
        sys.path.remove(str(EXAMPLES))
    third, seen = anyio.Event(), []

    async def receive() -> dict[str, str]:
        await third.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        seen.append(message)
        if len(seen) == 3:
            (info,) = get_channel_infos()
            assert info.subscriber_count == 1
            third.set()

    page = partial(application, [p + "ticks"], anyio.Event())
    with anyio.fail_after(20):
        await page({"type": "http", "path": "/events"}, receive, send)
    (info,) = get_channel_infos()
    assert (info.connected, info.subscriber_count) == (True, 0)
    assert math.isfinite(json.loads(seen[2]["body"].removeprefix(b"data: "))["value"])
