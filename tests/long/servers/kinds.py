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
import tempfile
import threading
import time
from pathlib import Path

from aioca._cli.wire.search import Target, udp_search
from aioca.testing import SoftIoc, free_port

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
TEXTS = "refuses a text that is no number, for a number"
EMPTIES = "empties an array to which no elements are written"
SERIAL = "carries out the writes of one client to a slow PV one after the other"
FIXED = "has a native count that is not that of the value"
TIMES = "gives the time stamp of the record with each read"
RECORD_TYPE = "tells the type of a record"
ACKNOWLEDGED = "gives the state of the acknowledgement of an alarm"
_PORTABLE = {  # servers made with the portable server library, PCAS
    NUMBERS: "it writes each with four decimals",
    TEXTS: "it takes a text that is no decimal number as a hexadecimal one",
    EMPTIES: "it refuses such a write (ECA_BADCOUNT)",
    ACKNOWLEDGED: "it refuses the request (ECA_GETFAIL)",
    READS_ON: "it reads nothing more from that client until the first has ended",
    NO_ELEMENT: "it fills it up with zeros",
}
_IOC = {
    STAMPS: "it has that of the last processing, and there was none",
    NO_ELEMENT: "it fills it up with zeros",
}
DIFFERENT: dict[str, dict[str, str]] = {
    "softIoc": _IOC,
    "appimage": _IOC,
    "softioc": {NO_ELEMENT: "it fills it up with zeros"},
    "gateway": {
        **_IOC,
        NUMBERS: _PORTABLE[NUMBERS],
        TEXTS: _PORTABLE[TEXTS],
        EMPTIES: _PORTABLE[EMPTIES],
        ACKNOWLEDGED: "what it gives of the labels of enums differs with each request",
        TIMES: "some reads have the time stamp 0",
        RECORD_TYPE: "it says `Not Supported by Gateway`",
    },
    "pcaspy": {
        **_PORTABLE,
        CODES: "it appends a NUL",
        LIMITS: "it has one pair, for both",
        REFUSES: "the end of a write that its program refuses looks like that of any other",
        RECORD_TYPE: "it knows none",
    },
    "casrv": {
        **_PORTABLE,
        FIXED: "the native count of an array is the length of its value",
        SERIAL: "it hands each to its program at once",
        RECORD_TYPE: "it knows none",
    },
    "caproto": {
        PADDING: "it sends what there is",
        EMPTY_TEXT: "it tries to read the empty string as a number, and refuses it (ECA_PUTFAIL)",
        SERIAL: "it starts each at once",
        RECORD_TYPE: "it says `caproto`",
        ACKNOWLEDGED: "it gives a number in place of the label of an enum",
    },
}


def does(what: str) -> bool:
    """Whether this server does what servers do."""
    return what not in DIFFERENT[KIND]


class Program:
    """A server program in a process of its own; like `SoftIoc`, as far as it goes."""

    def __init__(self, prefix: str, port: int, many: int) -> None:
        self._arguments = [prefix, str(many)]
        self._port = port
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
        environment.pop("PYTHONPATH", None)  # it has an environment of its own
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
            [*COMMAND, *self._arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
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


class Gateway:
    """The CA gateway, and the IOC behind it; both are started and killed together."""

    def __init__(self, prefix: str, port: int, many: int) -> None:
        self.ioc = SoftIoc(database(many), {"P": prefix}, port=free_port())
        self._known = f"{prefix}double"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Start both, and wait until the gateway finds the IOC."""
        self.ioc.start()
        self._folder = tempfile.TemporaryDirectory(prefix="aioca-gateway-")
        rules = Path(self._folder.name, "rules")
        rules.write_text("ASG(DEFAULT) { RULE(1, READ) RULE(1, WRITE) }")
        self._process = subprocess.Popen(
            [*COMMAND, "-home", self._folder.name, "-access", str(rules), "-sip", "127.0.0.1",
             "-sport", str(self._port), "-cip", f"127.0.0.1:{self.ioc.port}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")},
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not udp_search([self._known], [Target("127.0.0.1", self._port)], 0.2).found:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{COMMAND} has ended, or does not find its IOC")
            time.sleep(0.05)  # it prints nothing when it is ready

    def kill(self) -> None:
        """SIGKILL to both."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._folder is not None:
            self._folder.cleanup()
        self.ioc.kill()


Server = SoftIoc | Program | Gateway


def database(many: int) -> str:
    """Return the text of the database, with that many further records."""
    more = (
        f'record(longout, "$(P)many:{number}") {{ field(VAL, "{number}") }}\n'
        for number in range(many)
    )
    return (HERE / "records.db").read_text() + "".join(more)


def make_server(prefix: str, port: int, many: int = 0) -> Server:
    """Return a server of this kind, not started; with `many` further PVs ``many:0``..."""
    if KIND == "softIoc":
        return SoftIoc(database(many), {"P": prefix}, port=port)
    if KIND == "gateway":
        return Gateway(prefix, port, many)
    return Program(prefix, port, many)
