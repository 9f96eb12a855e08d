"""Make the pictures of the examples: ``python docs/pictures/make_examples.py``.

It needs the extra ``examples``, chromium and its driver (Debian: chromium, chromium-driver), and a
minute.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from aioca.testing import SoftIoc, free_port  # noqa: E402
from tests.support.browser import chromium  # noqa: E402
from tests.support.examples import RECORDS, running  # noqa: E402

PVS = ("SINE", "NOISE", "READBACK")
SECONDS = 62


def main() -> None:
    with SoftIoc(RECORDS) as ioc, tempfile.TemporaryDirectory() as profile:
        ioc.command("dbpf SETPOINT 1")
        port = free_port()
        chart = HERE / "strip-chart.png"
        picture = ("--seconds", SECONDS, "-o", chart)
        with (
            running("web_strip_chart.py", *PVS, "--port", port, port=ioc.port) as server,
            running("strip_chart.py", *PVS, *picture, port=ioc.port) as plot,
        ):
            server.until("Running on ")
            with chromium(Path(profile), 1000, 755) as browser:
                browser.get(f"http://127.0.0.1:{port}/")
                start = time.monotonic()
                for setpoint in (2, 4, 3, -1, 0, 2.5):  # something to be seen
                    time.sleep(SECONDS / 7)
                    ioc.command(f"dbpf SETPOINT {setpoint}")
                time.sleep(max(0.0, start + SECONDS - time.monotonic()))
                alarm = browser.find_element("css selector", ".alarm")
                while alarm.text != "MAJOR":
                    time.sleep(0.05)
                browser.save_screenshot(str(HERE / "web-strip-chart.png"))
            server.stop()
            plot.finish(seconds=60)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
