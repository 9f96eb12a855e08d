"""Run the cells of a notebook in a real kernel of Jupyter, and return what they show.

The notebook runs in a process of its own, which is the client of the kernel: `nbclient` starts
threads and event loops that the tests of this process would take for leaks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from tests.support.programs import environment_for

_CLIENT = """
import json, sys, warnings

warnings.simplefilter("ignore")  # of the client; the kernel is another process
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

path, seconds = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip="kernel")
client = NotebookClient(
    notebook, km=manager, timeout=float(seconds), interrupt_on_timeout=True, allow_errors=True
)
client.execute()
nbformat.write(notebook, path)
"""


def notebook_of(cells: list[str]) -> Any:
    """Return a notebook with these cells: code, or Markdown if they begin with ``#``."""
    from nbformat import v4

    make: Any = v4  # it has no types
    return make.new_notebook(
        cells=[
            make.new_markdown_cell(cell) if cell.startswith("# ") else make.new_code_cell(cell)
            for cell in cells
        ]
    )


def execute(cells: list[str], port: int, folder: Path, seconds: float = 60.0) -> Any:
    """Run cells, and return the notebook with their outputs.

    Args:
        port: of the IOC.
        folder: an empty folder for the files of Jupyter.
        seconds: a cell that takes longer is interrupted, as by the stop button.
    """
    import nbformat

    file = folder / "notebook.ipynb"
    files: Any = nbformat
    files.write(notebook_of(cells), str(file))
    places = dict.fromkeys(
        ["IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"], str(folder)
    )
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, str(file), str(seconds)], cwd=folder,
        env={**environment_for(port), **places, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text("utf-8"))


def outputs(notebook: Any) -> list[list[dict[str, Any]]]:
    """Return the outputs of each code cell; fail if one has an error that is no interrupt."""
    found = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for output in chain.from_iterable(found):
        if output["output_type"] == "error":
            assert output["ename"] in ("KeyboardInterrupt", "CancelledError"), output["traceback"]
    return found


def html_of(cell: list[dict[str, Any]]) -> str:
    """Return the HTML that a cell shows; fail unless it shows one."""
    (html,) = ["".join(o["data"]["text/html"]) for o in cell if "text/html" in o.get("data", {})]
    return html


def text_of(cell: list[dict[str, Any]]) -> str:
    """Return what a cell has printed, on both streams."""
    return "".join("".join(o["text"]) for o in cell if o["output_type"] == "stream")
