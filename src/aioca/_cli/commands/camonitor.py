"""``aioca camonitor``: print the updates of PVs, like the tool of EPICS base."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import click

from ... import (
    DBE_ALARM,
    DBE_LOG,
    DBE_PROPERTY,
    DBE_VALUE,
    DBR_ENUM,
    DBR_STRING,
    ECA,
    FORMAT_CTRL,
    FORMAT_TIME,
    CANothing,
    cainfo,
    camonitor,
    configure,
    connect,
    run,
)
from ..._printable import printable_json
from ..terminal.progress import connect_all
from ..tools.dbr_details import properties_text
from ..tools.json_output import json_properties, json_reply
from ..tools.properties import Properties
from ..tools.reading import complain_of_names, request_count, usual_datatype
from ..tools.syntax import Common, complain, format_options, given, see_help, tool, value
from ..tools.text import coloured, is_array, name_text, put_line, stamp_text, status_text, wide_line
from ..tools.timestamps import Stamps

_EVENTS = {"v": DBE_VALUE, "a": DBE_ALARM, "l": DBE_LOG, "p": DBE_PROPERTY}
_QUIET_SECONDS = 0.1  # without a new connection: the reachable PVs are then all connected
_BATCH_SECONDS = 0.01  # PVs that connect within this time are started in the given order
_MANY_PVS = 1000  # from here on, wait for all with a progress bar: nobody reads the first lines
_MAX_PENDING_UPDATES = 100_000  # of one PV, that wait for a slow reader of the output


@dataclass
class Choices(Common):
    """The options of the command line."""

    events: int = DBE_VALUE | DBE_ALARM
    stamps: str = "s"
    as_json: bool = False
    properties: bool = False

    def __post_init__(self) -> None:
        for option, argument in given():
            self.take(option, argument)
        # The lines of base have no place for properties, so -m p prints them with --json only
        self.properties |= self.as_json and bool(self.events & DBE_PROPERTY)

    def take(self, option: str, argument: str) -> bool:
        if option == "mask":
            if set(argument) - set(_EVENTS):
                complain(f"Invalid argument '{argument}' for option '-m' - ignored.")
            else:
                self.events = sum({_EVENTS[letter] for letter in argument})
        elif option == "stamps":
            unknown = [letter for letter in argument if letter not in "scnriI"]
            for letter in unknown:
                complain(f"Invalid argument '{letter}' for option '-t' - ignored.")
            self.stamps = argument
        else:
            return super().take(option, argument)
        return True


@tool("camonitor")
@value(
    "m", "mask", "MASK", "Events: any of v (value), a (alarm), l (log), p (property) (default: va)."
)
@value(
    "t",
    "stamps",
    "KEY",
    "Time stamps: s (of the server), c (of the client), n (none); with s or c: r (since the start),"
    " i (since the last update), I (since the last update of the same PV) (default: s).",
)
@format_options
@click.option(
    "--properties", is_flag=True,
    help="Also print units, precision, limits and labels: at first, and when one has changed"
    " (with --json, -m p is enough).",
)  # fmt: skip
@click.argument("pvs", nargs=-1, metavar="PV...")
def command(pvs: tuple[str, ...], as_json: bool, properties: bool, backend: str) -> int:
    """Print PVs whenever they change, until Ctrl-C.

    \b
    Examples:
      aioca camonitor BEAM:CURRENT SHUTTER
      aioca camonitor -t sI -m vap BEAM:CURRENT
      aioca camonitor --properties BEAM:CURRENT
      aioca camonitor --json BEAM:CURRENT | jq --unbuffered .value
    """
    choices = Choices(as_json=as_json, properties=properties)
    if not pvs:
        complain(f"No pv name specified. {see_help()}")
        return 1
    configure(priority=choices.priority)
    # With forever=True, Ctrl-C ends the run cleanly, whichever task is running
    run(_Monitors(list(pvs), choices).run(), forever=True, backend=backend)
    return 130  # the status that a shell reports after Ctrl-C


class _Monitors:
    """The monitors of all PVs, and the lines for their updates. Runs on the event loop's thread."""

    def __init__(self, pvs: list[str], choices: Choices) -> None:
        self._pvs = pvs
        self._choices = choices
        self._stamps = Stamps(choices.stamps)
        self._colour = coloured()
        self._pending = set(range(len(pvs)))
        self._late: set[int] = set()  # connected, not monitored yet
        self._failure: Exception | None = None
        self._properties = Properties()

    async def run(self) -> None:
        """Monitor until cancelled; raises BrokenPipeError if the output's reader has closed it."""
        timeout = self._choices.timeout
        give_up = math.inf if timeout is None else anyio.current_time() + timeout
        async with anyio.create_task_group() as group:
            self._group = group
            self._more = anyio.Event()
            await self._start(await self._connected(give_up))
            for index in sorted(self._pending):
                group.start_soon(self._wait_for, index)
            group.start_soon(self._start_late)
            if self._pending:
                await anyio.sleep(max(0.0, give_up - anyio.current_time()))
                for index in sorted(self._pending):
                    self._print(self._not_found_text, index, None)
            await anyio.sleep_forever()
        if self._failure is not None:
            raise self._failure

    async def _connected(self, give_up: float) -> list[int]:
        """Wait for the PVs that connect at once, so that they start in the given order."""
        before = 0
        while True:
            patience = min(_QUIET_SECONDS, give_up - anyio.current_time())
            if len(self._pvs) > _MANY_PVS and math.isfinite(give_up):
                patience = give_up - anyio.current_time()
            results = await connect_all(self._pvs, max(0.0, patience))
            if complain_of_names(results):
                self._fail(click.exceptions.Exit(1))
                return []
            found = [index for index, result in enumerate(results) if result.ok]
            if before == len(found) > 0 or anyio.current_time() >= give_up:
                return found
            if len(found) == len(results):
                return found
            before = len(found)

    async def _wait_for(self, index: int) -> None:
        if await connect(self._pvs[index], timeout=None, throw=False):
            self._late.add(index)
            self._more.set()

    async def _start_late(self) -> None:
        """Start the PVs that connect later; those of one batch in the given order."""
        while True:
            await self._more.wait()
            await anyio.sleep(_BATCH_SECONDS)
            self._more = anyio.Event()
            late, self._late = self._late, set()
            await self._start(sorted(late))

    async def _start(self, indices: list[int]) -> None:
        """Monitor connected PVs; the requested type depends on their native type."""
        self._pending.difference_update(indices)
        if not self._choices.events:
            return  # like base: without any event there is nothing to subscribe to
        style = self._choices.style
        infos = await cainfo([self._pvs[index] for index in indices], wait=False)
        for index, info in zip(indices, infos, strict=True):
            # One call for each: the monitors of one call may start after those of the next
            if self._choices.properties and info.datatype != DBR_STRING:
                # Before the values: the server sends a change in the order of subscription.
                # One element is enough: the properties are those of the record.
                camonitor(
                    info.name, partial(self._print, self._properties_text, index), DBE_PROPERTY,
                    None, FORMAT_CTRL, 1, notify_disconnect=True,
                )  # fmt: skip
            camonitor(
                info.name, partial(self._print, self._text, index), self._choices.events,
                usual_datatype(info.datatype, style), FORMAT_TIME, request_count(style, False),
                notify_disconnect=True, max_pending=_MAX_PENDING_UPDATES,
            )  # fmt: skip

    # -- Lines -------------------------------------------------------------------------------------

    def _print(self, text: Callable[[int, Any], str], index: int, reply: Any) -> None:
        try:
            line = text(index, reply)
            if line:
                put_line(line)
                sys.stdout.buffer.flush()
        except Exception as error:
            self._fail(error)

    def _fail(self, why: Exception) -> None:
        self._failure = why
        self._group.cancel_scope.cancel()

    def _text(self, index: int, reply: Any) -> str:
        pv, style = self._pvs[index], self._choices.style
        lost = isinstance(reply, CANothing)
        if lost and reply.errorcode != ECA.DISCONN:
            complain(f"{pv}: {status_text(reply)}")
            return ""
        if lost:
            self._properties.lost(index)
        if self._choices.as_json:
            row = json_reply(pv, reply, None, style)
            if self._choices.properties and not lost:
                return _line_if(self._properties.complete(index, row))
            return printable_json(row)
        if lost:
            now = stamp_text(time.time_ns())
            return f"{name_text(pv, style)}{style.separator}{now} *** disconnected"
        return wide_line(reply, style, self._stamps.text(index, reply), self._colour)

    def _properties_text(self, index: int, reply: Any) -> str:
        """Return the lines for an update of the properties; empty if they have not changed."""
        if isinstance(reply, CANothing):
            return ""  # the monitor of the values reports the disconnection
        changed = self._properties.learn(index, json_properties(reply))
        if self._choices.as_json:
            state = +reply if reply.datatype == DBR_ENUM and not is_array(reply) else None
            return _line_if(self._properties.corrected(index, state))
        return properties_text(reply) if changed else ""

    def _not_found_text(self, index: int, _: Any) -> str:
        pv, style = self._pvs[index], self._choices.style
        if self._choices.as_json:
            return printable_json(json_reply(pv, None, None, style))
        return f"{name_text(pv, style)}{style.separator}*** Not connected (PV not found)"


def _line_if(row: dict[str, Any] | None) -> str:
    """Return an object as a JSON line; empty for None."""
    return printable_json(row) if row is not None else ""
