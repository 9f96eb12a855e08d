"""``aioca ioc``: run a soft IOC with the user's databases, for trials."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ..._ports import bind_error
from ...testing import SoftIoc, SoftIocError, free_port
from ..numbers import repeater_port, server_port
from ..shared import Failure, FilePath
from ..typed import typed

_FILE = FilePath(exists=True, dir_okay=False, readable=True, path_type=Path)
_PROMPT = "ioc> "
_SYNTAX_ERRORS = ("syntax error", "Invalid character")  # those that do not say what is wrong
_AT_EVERY_START = re.compile(r"Starting iocInit|#|iocRun: All initialization complete|\s*$")
_MOST_OF_NAME = 60  # bytes of the name of a record
_OUTPUT_INTERVAL = 0.5  # seconds between two reads of the IOC's output, without a terminal

# NAME=VALUE, the value with or without quotes, by the rules of EPICS' macro library
_MACRO = re.compile(
    r"""\s*(?P<name>[\w:.-]+)\s*=\s*
    (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<plain>(?:[^,"'\\]|\\.)*))\s*(?:,|$)""",
    re.VERBOSE,
)


@click.command()
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE.db...")
@click.option(
    "-m",
    "--macros",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Values for $(NAME) in the files; can be given several times.",
)
@click.option(
    "-p",
    "--port",
    type=click.IntRange(5001, 65535),
    metavar="PORT",
    help="The port of the IOC (default: a free one; with --public EPICS_CA_SERVER_PORT, or 5064).",
)
@click.option(
    "--public", is_flag=True, help="Listen on all interfaces, and send beacons to all networks."
)
@click.option(
    "-a",
    "--access-security",
    type=_FILE,
    metavar="FILE.acf",
    help="The IOC's access security file.",
)
def command(
    files: tuple[Path, ...],
    macros: tuple[str, ...],
    port: int | None,
    public: bool,
    access_security: Path | None,
) -> int:
    """Run a soft IOC with your databases.

    The IOC listens on this machine only, unless --public is given. It has the record types of EPICS
    base.

    Prints the EPICS_CA_* settings with which clients find the IOC. In a terminal, it takes commands
    of the IOC shell (dbl, dbpf, dbgf, help...) until `exit`, Ctrl-D or Ctrl-C. Without a terminal,
    it runs until it is ended.

    \b
    Examples:
      aioca ioc motor.db -m P=TEST:,M=1
      aioca ioc a.db b.db --port 6064
      aioca ioc plant.db --public
    """
    values: dict[str, str] = {}
    for text in macros:
        values.update(parse_macros(text))
    if port is None:
        port = server_port() if public else free_port()
    _see_that_it_is_free(port, public)
    ioc = SoftIoc(
        "".join(f'include "{file.resolve()}"\n' for file in files), values, port=port,
        access_security=access_security.resolve() if access_security else None,
        environment=_environment(public),
    )  # fmt: skip
    try:
        ioc.start()
    except SoftIocError as error:
        raise Failure(explain(str(error), files)) from None
    try:
        if warnings := warnings_in(ioc._start_output):
            print(warnings, file=sys.stderr, flush=True)
        names = ioc.command("dbl").split()
        _introduce(ioc, files, len(names), public)
        if _somebody_types():
            _shell(ioc, names)
        else:
            _wait(ioc)
    except SoftIocError as error:
        raise Failure(str(error)) from None
    finally:
        ioc.kill()
    return 0


def parse_macros(text: str) -> dict[str, str]:
    """Parse ``A=1,B="x, y"`` into a dictionary; raises `Failure`."""
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        found = _MACRO.match(text, at)
        if found is None:
            raise Failure(f"-m {text}: cannot read `{text[at:]}`; write NAME=VALUE,...")
        at = found.end()
        if (literal := found["single"]) is None:
            literal = found["double"] if found["double"] is not None else found["plain"].rstrip()
            literal = re.sub(r"\\(.)", r"\1", literal)
        values[found["name"]] = literal
    return values


# -- Starting it -----------------------------------------------------------------------------------


def _see_that_it_is_free(port: int, public: bool) -> None:
    """Raise `Failure` if the port is in use.

    Otherwise the IOC would take another port for TCP, and share this one for searches.
    """
    address = "" if public else "127.0.0.1"
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        # Like the IOC; with UDP, the option would let two servers share the port.
        error = bind_error(address, port, kind, reuse=kind == socket.SOCK_STREAM)
        if error:
            raise Failure(
                f"port {port} cannot be used ({error.strerror}); choose another with --port"
            )


def _environment(public: bool) -> dict[str, str]:
    beacons = {"EPICS_CAS_BEACON_PORT": str(repeater_port())}
    if not public:
        return beacons
    return {
        **beacons,
        "EPICS_CAS_INTF_ADDR_LIST": "",
        "EPICS_CAS_BEACON_ADDR_LIST": "",
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "YES",
    }


def explain(output: str, files: Sequence[Path]) -> str:
    """Return the error in the output of an IOC that has loaded these files, as one line."""
    undefined = sorted(set(re.findall(r"macLib: macro (\S+) is undefined", output)))
    if undefined:
        values = ",".join(f"{name}=VALUE" for name in undefined)
        return f"no value for $({'), $('.join(undefined)}); give it with -m {values}"
    what = re.search(r"ERROR: +(?! *at or before)(.*\S)", output)
    if what is None:
        return "the IOC did not start: " + " / ".join(output.splitlines()[-3:])
    problem = what[1]
    if problem.startswith(_SYNTAX_ERRORS):
        problem += _near(output)
    else:
        problem += _advice(problem, output[what.end() :])
    # The first place is the innermost: after it come the files that include the file
    where = re.search(r'in (?:path ".*?" +)?file "(.*)" line (\d+)', output)
    if where is not None:
        return f"{where[1]}, line {where[2]}: {problem}"
    if problem.startswith(_SYNTAX_ERRORS):  # the IOC has no place if the input ends within a record
        return f"{files[-1]}, at its end: {problem}; a quote, brace or parenthesis is not closed"
    return f"{', '.join(map(str, files))}: {problem}"


def _advice(problem: str, rest: str) -> str:
    """Return what helps with an error: the hint of the IOC, or a reason that it does not give.

    Args:
        problem: the line of the error.
        rest: the output after it, which may have more errors with hints of their own.
    """
    hint = re.search(r"Did you mean (.*?)\?", rest.partition("ERROR")[0])
    if hint is not None:
        return f" (did you mean {hint[1]}?)"
    name = re.match(r"Can't create \S+ record '(.*)'$", problem)
    if name is not None and len(name[1].encode(errors="replace")) > _MOST_OF_NAME:
        return f" (a name has at most {_MOST_OF_NAME} characters)"
    return ""


def _near(output: str) -> str:
    """Return what the IOC prints about the place of a syntax error: a word, and the line."""
    word = re.search(r"at or before '(.*)' in ", output)
    source = re.search(r"(?m)^ *\d+ \| *(.*\S)", output)
    return (f" at or before {word[1]}" if word else "") + (f" in: {source[1]}" if source else "")


def warnings_in(output: str) -> str:
    """Return what an IOC printed at its start, without the lines that every IOC prints."""
    return "\n".join(line for line in output.splitlines() if not _AT_EVERY_START.match(line))


def _introduce(ioc: SoftIoc, files: tuple[Path, ...], count: int, public: bool) -> None:
    at = f"{socket.gethostname() if public else '127.0.0.1'}:{ioc.port}"
    where = f"all interfaces, port {ioc.port}" if public else at
    records = "1 record" if count == 1 else f"{count} records"
    settings = [f"EPICS_CA_ADDR_LIST={at}", "EPICS_CA_AUTO_ADDR_LIST=NO"]
    print(f"{records} from {', '.join(map(str, files))} on {where}. To reach them:")
    print(f"\n    export {' '.join(settings)}\n")
    end = "commands of the IOC shell, or exit" if _somebody_types() else "Ctrl-C ends it"
    print(f"{end[0].upper()}{end[1:]}.", flush=True)


# -- While it runs ---------------------------------------------------------------------------------


def _somebody_types() -> bool:
    """Whether stdin is a terminal, and this is its foreground job (not ``aioca ioc x.db &``)."""
    if not sys.stdin.isatty():
        return False
    # Windows has no jobs of a terminal
    return sys.platform == "win32" or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()


def _shell(ioc: SoftIoc, names: list[str]) -> None:
    """Run the commands of the IOC shell that are typed, until ``exit`` or Ctrl-D. Blocks."""
    _complete([*ioc.command("help").split(), "exit", *names])
    while True:
        try:
            line = input(_PROMPT).strip()
        except EOFError:
            print()
            return
        if line.split()[:1] == ["exit"]:
            return
        if output := _said(ioc, line) if line else "":
            print(output)


def _complete(words: list[str]) -> None:
    """Complete words with the Tab key, if Python has readline."""
    try:
        import readline
    except ImportError:
        return

    def completion(text: str, number: int) -> str | None:
        matching = [word for word in words if word.startswith(text)]
        return matching[number] if number < len(matching) else None

    readline.set_completer(completion)
    readline.set_completer_delims(" ,()\"'")
    readline.parse_and_bind("tab: complete")


def _wait(ioc: SoftIoc) -> None:
    """Print the IOC's output until the IOC ends; then raises SoftIocError. Blocks."""
    while True:
        if (process := ioc.process) is not None:
            try:
                process.wait(_OUTPUT_INTERVAL)
            except subprocess.TimeoutExpired:
                pass
        if output := _said(ioc, ""):
            print(output, flush=True)


def _said(ioc: SoftIoc, line: str) -> str:
    """Return the output of a command, or a message if it times out, while the IOC runs."""
    try:
        return ioc.command(typed(line))
    except SoftIocError as error:
        if ioc.process is None:
            raise
        return str(error).partition("\n")[0] if line else ""
