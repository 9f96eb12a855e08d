"""The kinds of server: how each is started, and where it differs.

The environment says which it is: ``AIOCA_SERVER`` is the kind, ``AIOCA_SERVER_COMMAND`` the command
that starts it, in JSON (none for ``softIoc``).

Where a server legitimately differs, `DIFFERENT` says so, and why.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path

from aioca.testing import SoftIoc

HERE = Path(__file__).parent
KIND = os.environ.get("AIOCA_SERVER", "softIoc")
COMMAND: list[str] = json.loads(os.environ.get("AIOCA_SERVER_COMMAND", "[]"))

PADDING = "fills up an array with zeros when more elements are asked for than it has"
EMPTY_TEXT = "takes an array of no characters for an empty string"
NUMBERS = "writes a number as text as it is"
LIMITS = "has limits for the display and others for what can be written"
REFUSES = "tells who waits that a value was refused"
READS_ON = "serves others while a second write to a slow PV waits for the first"
CODES = "keeps an array of character codes as long as it was written"
NO_ELEMENT = "has a PV of one element of which it sends none"
STAMPS = "gives a time stamp to an array that was never written to"
DIFFERENT: dict[str, dict[str, str]] = {
    "softIoc": {
        STAMPS: "it has that of the last processing, and there was none",
        NO_ELEMENT: "it fills it up with zeros",
    },
    "softioc": {NO_ELEMENT: "it fills it up with zeros"},
    "pcaspy": {
        NUMBERS: "it writes each with four decimals",
        CODES: "it appends a NUL",
        LIMITS: "it has one pair, for both",
        REFUSES: "the end of a write that its program refuses looks like that of any other",
        READS_ON: "it reads nothing more from that client until the first has ended",
        NO_ELEMENT: "it fills it up with zeros",
    },
    "caproto": {
        PADDING: "it sends what there is",
        EMPTY_TEXT: "it tries to read the empty string as a number, and refuses it (ECA_PUTFAIL)",
    },
}


def does(what: str) -> bool:
    """Whether this server does what servers do."""
    return what not in DIFFERENT[KIND]


class Program:
    """A server program in a process of its own; like `SoftIoc`, as far as it goes."""

    def __init__(self, prefix: str, port: int) -> None:
        self._prefix = prefix
        self._port = port
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
        environment.update(
            EPICS_CAS_INTF_ADDR_LIST="127.0.0.1",
            EPICS_CAS_SERVER_PORT=str(self._port),
            EPICS_CA_SERVER_PORT=str(self._port),
            EPICS_CAS_BEACON_ADDR_LIST="127.0.0.1",
            EPICS_CAS_AUTO_BEACON_ADDR_LIST="NO",
            EPICS_CA_ADDR_LIST="127.0.0.1",
            EPICS_CA_AUTO_ADDR_LIST="NO",
        )
        self._process = process = subprocess.Popen(
            [*COMMAND, self._prefix], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(process, lines), daemon=True).start()
        printed: list[str] = []
        deadline = time.monotonic() + 60
        while "ready" not in printed:
            try:
                printed.append(lines.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"{COMMAND} is not ready: {printed}") from None
            if printed[-1] == "end":
                raise AssertionError(f"{COMMAND} has ended: {printed}")

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
        """Thread: take what it prints, so that it never blocks on a full pipe."""
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.put(line.strip())
        except (OSError, ValueError):
            pass  # closed by kill()
        lines.put("end")

    def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


Server = SoftIoc | Program


def make_server(prefix: str, port: int) -> Server:
    if KIND == "softIoc":
        return SoftIoc(HERE / "records.db", {"P": prefix}, port=port)
    return Program(prefix, port)
