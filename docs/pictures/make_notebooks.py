"""Make the pictures of notebooks: ``python docs/pictures/make_notebooks.py``.

A notebook runs in a real kernel against a soft IOC, nbconvert makes the page that JupyterLab would
show, and chromium takes pictures of it, of a light and of a dark page. It needs the extra
``examples``, nbconvert, chromium and its driver (Debian: chromium, chromium-driver), and a minute.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from make_watch_and_plot import BEAMLINE  # noqa: E402
from PIL import Image  # noqa: E402

from aioca.testing import SoftIoc  # noqa: E402
from tests.support.browser import chromium  # noqa: E402
from tests.support.notebooks import execute, outputs  # noqa: E402

WIDTH = 760  # of a picture

VALUES = [
    "from aioca import FORMAT_CTRL, FORMAT_TIME, caget, camonitor\n"
    "from aioca.notebook import live\n\n"
    'await caget("BL01:VAC:GAUGE2", format=FORMAT_CTRL)',
    'await caget("BL01:SAMPLE:NAME", format=FORMAT_TIME)',
    'await caget("BL01:DETECTOR:SPECTRUM")',
]
TABLE = [
    "%load_ext aioca.notebook",
    'pvs = [f"BL01:{name}" for name in ("RING:CURRENT", "SHUTTER", "VAC:GAUGE2", "MIRROR:PITCH",\n'
    '                                   "SAMPLE:NAME", "DETECTOR:SPECTRUM", "HEXAPOD:X")]\n'
    "await caget(pvs, format=FORMAT_CTRL, timeout=1, throw=False)",
]
LIVE = [
    "async with live(camonitor(pvs, format=FORMAT_TIME), seconds=10) as updates:\n"
    "    async for value in updates:\n"
    "        pass",
]
PICTURES = {"notebook-values": VALUES, "notebook-table": TABLE, "notebook-live": LIVE}
DARK = {"notebook-live"}


def main() -> None:
    cells = [*VALUES, *TABLE, *LIVE]
    with tempfile.TemporaryDirectory() as folder:
        with SoftIoc(BEAMLINE) as ioc:
            notebook = execute(cells, ioc.port, Path(folder))
        outputs(notebook)  # no cell has failed
        with chromium(Path(folder, "profile"), WIDTH, 1200) as browser:
            for name, wanted in PICTURES.items():
                shown = [cell for cell in notebook["cells"] if "".join(cell["source"]) in wanted]
                page = Path(folder, f"{name}.html")
                page.write_text(page_of({**notebook, "cells": shown}, name in DARK))
                browser.get(page.as_uri())
                photograph(browser, HERE / f"{name}.png")


def page_of(notebook: Any, dark: bool) -> str:
    """Return the page that nbconvert makes, without scripts: they would be loaded from a host."""
    import nbformat
    from nbconvert import HTMLExporter

    make: Any = nbformat  # it has no types
    exporter: Any = HTMLExporter(theme="dark" if dark else "light")
    page, _ = exporter.from_notebook_node(make.reads(json.dumps(notebook), as_version=4))
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def photograph(browser: Any, picture: Path) -> None:
    """Write a picture of the page, as high as it is."""
    height = browser.execute_script(
        "document.body.style.padding = '4px 0'; document.documentElement.style.minHeight = 0;"
        "document.body.style.minHeight = 0;"
        "return Math.ceil(document.querySelector('main').getBoundingClientRect().bottom)"
        " + window.outerHeight - window.innerHeight"
    )
    browser.set_window_size(WIDTH, height)
    browser.save_screenshot(str(picture))
    image: Any = Image.open(picture).convert("RGB")
    image.quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)  # a third of the size


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
