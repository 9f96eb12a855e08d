"""``aioca cainfo``: print the channels of PVs, like the tool of EPICS base."""

from __future__ import annotations

import os
from dataclasses import dataclass

import click

from ... import CAInfo, __version__, configure
from ..._printable import printable
from ..numbers import c_integer
from ..shared import run_command
from ..tools.json_output import json_info, put_json
from ..tools.reading import connect_or_complain, infos_of
from ..tools.syntax import Common, complain, given, see_help, tool, value
from ..tools.text import put_line


@dataclass
class Choices(Common):
    """The options of the command line."""

    level: int = 0
    as_json: bool = False

    def __post_init__(self) -> None:
        for option, argument in given():
            self.take(option, argument)

    def take(self, option: str, argument: str) -> bool:
        if option != "level":
            return super().take(option, argument)
        level = c_integer(argument)
        if level is None:
            complain(f"'{argument}' is not a valid interest level - ignored. {see_help()}")
        self.level = level or 0
        return True


@tool("cainfo")
@value("s", "level", "LEVEL", "Show the state of this client instead; from 2 on, each channel too.")
@click.argument("pvs", nargs=-1, metavar="PV...")
def command(pvs: tuple[str, ...], as_json: bool, backend: str) -> int:
    """Show the server, the type, the size of PVs, and the access to them.

    \b
    Examples:
      aioca cainfo BEAM:CURRENT
      aioca cainfo --json BEAM:CURRENT | jq .host
      aioca cainfo -s 2 BEAM:CURRENT
    """
    choices = Choices(as_json=as_json)
    if not pvs and choices.level <= 0:
        complain(f"No pv name specified. {see_help()}")
        return 1
    configure(priority=choices.priority)
    return run_command(_cainfo(list(pvs), choices), backend)


async def _cainfo(pvs: list[str], choices: Choices) -> int:
    found = await connect_or_complain(pvs, choices.timeout) if pvs else []
    if not all(found) and not choices.as_json:
        return 1
    infos = await infos_of([pv for pv, ok in zip(pvs, found, strict=True) if ok])
    if choices.as_json:
        there = iter(infos)
        for pv, ok in zip(pvs, found, strict=True):
            put_json(json_info(next(there)) if ok else {"name": pv, "error": "not connected"})
    elif choices.level > 0:
        _show_client(infos, choices.level)
    else:
        for info in infos:
            put_line(str(info))
    return 0 if all(found) else 1


def _show_client(infos: list[CAInfo], level: int) -> None:
    """Print the client's settings, circuits and channels; base prints libca's internals instead."""
    put_line(f"Channel Access client: aioca {__version__}")
    settings = sorted(name for name in os.environ if name.startswith("EPICS_CA_"))
    for name in settings:
        put_line(printable(f"    {name}={os.environ[name]}"))
    hosts: dict[str, list[CAInfo]] = {}
    for info in infos:
        hosts.setdefault(info.host, []).append(info)
    put_line(f"{len(hosts)} virtual circuit(s), {len(infos)} channel(s)")
    for host, channels in hosts.items():
        put_line(f'Virtual circuit to "{host}": {len(channels)} channel(s)')
        for info in channels if level > 1 else ():
            put_line(
                f'    Channel "{printable(info.name)}": {info.state_strings[info.state]},'
                f" DBF_{info.datatype_strings[info.datatype].upper()}, {info.count} element(s),"
                f" {'' if info.read else 'no '}read access,"
                f" {'' if info.write else 'no '}write access"
            )
