"""The group of all subcommands.

A subcommand's module is imported when it is called. An error is one line on stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import get_completion_class

from .. import __version__
from .._printable import printable

# In the order of `aioca --help`. Each name is a module in `commands` that defines `command`.
COMMANDS = (
    "caget",
    "caput",
    "camonitor",
    "cainfo",
    "watch",
    "plot",
    "record",
    "snapshot",
    "doctor",
    "casw",
    "repeater",
    "ioc",
    "demo",
    "completion",
)

# The environment variable in which a shell requests completions; its value is the request.
COMPLETE = "_AIOCA_COMPLETE"


class _Group(click.Group):
    """Imports a subcommand when it is called: `caget` does not wait for the imports of `plot`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"..commands.{cmd_name}", __name__)
        command: click.Command = module.command
        return command


@click.group(
    cls=_Group,
    no_args_is_help=False,
    subcommand_metavar="COMMAND ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(version)s")
def app() -> None:
    """EPICS Channel Access at the prompt."""


def run_app(arguments: Sequence[str]) -> int:
    """Run a subcommand, and return its exit status. Blocks until it has ended."""
    if wanted := os.environ.get(COMPLETE):
        return _complete(wanted)
    try:
        with app.make_context("aioca", list(arguments)) as context:
            status: int = app.invoke(context)
            return status
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        context_of_error: click.Context | None = getattr(error, "ctx", None)
        program = context_of_error.command_path if context_of_error else "aioca"
        hint = f" ({program} --help shows more)" if isinstance(error, click.UsageError) else ""
        # One line; a final dot goes, and the three of "NAME=VALUE,..." stay
        message = printable(" ".join(error.format_message().split()))
        message = message if message.endswith("..") else message.removesuffix(".")
        print(f"{program}: {message}{hint}", file=sys.stderr)
        return error.exit_code


def _complete(wanted: str) -> int:
    """Print completions, or the script, for a shell; `wanted` is ``bash_complete`` or similar.

    click's own `shell_complete` fails if a word cannot be encoded in the locale.
    """
    shell, _, what = wanted.partition("_")
    kind = get_completion_class(shell)
    if kind is None or what not in ("complete", "source"):
        return 1
    completion = kind(app, {}, "aioca", COMPLETE)
    text = completion.complete() if what == "complete" else completion.source()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    return 0
