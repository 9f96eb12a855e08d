"""The page of web_strip_chart.py, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from aioca.testing import SoftIoc, free_port
from tests.support.browser import CHROMIUM, DRIVER, chromium
from tests.support.examples import RECORDS, Program, running

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="there is no chromium with its driver on this machine"
    ),
    pytest.mark.skipif(
        not (find_spec("selenium") and find_spec("hypercorn")),
        reason="selenium or hypercorn is not installed: the extra `examples`",
    ),
]

# How many pixels of the canvas of a PV have about this colour
COUNT = """
    const [pv, ...colour] = arguments, canvas = traces.get(pv).canvas;
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
        if (colour.every((c, j) => Math.abs(data[i + j] - c) < 12) && data[i + 3] > 200) count++;
    return count;
"""
BLUE, ORANGE, MAJOR = (0x4C, 0x9B, 0xE8), (0xE8, 0xA1, 0x3C), (0xF0, 0x52, 0x4A)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


class Page:
    def __init__(self, browser: Any, url: str) -> None:
        self._browser = browser
        browser.get_log("browser")  # of the page before
        browser.get(url)

    def wait(self, condition: Callable[[], object]) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self._browser, 30, 0.05).until(lambda _: condition())

    def text(self, selector: str) -> str:
        return str(self._browser.find_element("css selector", selector).text)

    def pixels(self, pv: str, colour: tuple[int, int, int]) -> int:
        return int(self._browser.execute_script(COUNT, pv, *colour))

    def errors(self) -> list[str]:
        log = self._browser.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


@pytest.fixture
def ioc(own_ioc: Callable[..., SoftIoc], unique: str) -> SoftIoc:
    ioc = own_ioc(RECORDS, {"P": unique})
    ioc.start()
    return ioc


@pytest.fixture
def server(ioc: SoftIoc, unique: str, backend: str) -> Iterator[tuple[Program, str]]:
    port = free_port()
    arguments = (unique + "SINE", unique + "READBACK", "--port", port, "--backend", backend)
    with running("web_strip_chart.py", *arguments, port=ioc.port) as program:
        program.until("Running on ")
        yield program, f"http://127.0.0.1:{port}/"


def test_the_page_draws_what_comes(
    ioc: SoftIoc, server: tuple[Program, str], browser: Any, unique: str
) -> None:
    """Readings, traces, an alarm, a disconnection, and a server that goes."""
    program, url = server
    sine, readback = unique + "SINE", unique + "READBACK"
    page = Page(browser, url)
    page.wait(lambda: page.text("#state") == "live")

    ioc.command(f"dbpf {unique}SETPOINT 4")
    page.wait(lambda: page.text(f"output[data-pv='{readback}']") == "4.000")
    assert page.text("section:nth-of-type(2) small") == "mm"
    assert page.text("section:nth-of-type(1) b") == sine
    # The readings change with the records, and the traces grow
    before = page.pixels(sine, BLUE)
    page.wait(lambda: page.pixels(sine, BLUE) > before + 50)
    page.wait(lambda: page.pixels(readback, ORANGE) > 50)
    assert page.pixels(sine, ORANGE) == page.pixels(readback, BLUE) == 0

    # Everything is an alarm now
    for field, value in (("HIHI", -20), ("HIGH", -20)):
        ioc.command(f"dbpf {sine}.{field} {value}")
    page.wait(lambda: page.text("section:nth-of-type(1) .alarm") == "MAJOR")
    page.wait(lambda: page.pixels(sine, MAJOR) > 10)

    ioc.kill()
    page.wait(lambda: page.text("section:nth-of-type(2) .alarm") == "DISCONNECTED")
    assert page.text(f"output[data-pv='{readback}']") == "\N{EN DASH}"
    assert page.errors() == []

    assert len(program.stop()) == 1
    page.wait(lambda: page.text("#state") == "no connection to the server")
