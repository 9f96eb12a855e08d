"""The group of all subcommands: found by name, imported when asked for, errors in one line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from .. import __version__

# In the order in which `aioca --help` shows them; each is `command` in the module of its name.
COMMANDS = (
    "caget",
    "caput",
    "camonitor",
    "cainfo",
    "watch",
    "plot",
    "doctor",
    "casw",
    "repeater",
    "ioc",
    "demo",
    "completion",
)

# By which a shell asks for completions; what is to be done is its value.
COMPLETE = "_AIOCA_COMPLETE"


class _Group(click.Group):
    """Subcommands from modules of their names: `caget` does not wait for what `plot` imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"..{cmd_name}", __name__)
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
    """Run a subcommand; returns the exit status, which is what its function returns."""
    if wanted := os.environ.get(COMPLETE):
        return shell_complete(app, {}, "aioca", COMPLETE, wanted)
    try:
        with app.make_context("aioca", list(arguments)) as context:
            status: int = app.invoke(context)
            return status
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        context_of_error: click.Context | None = getattr(error, "ctx", None)
        program = context_of_error.command_path if context_of_error else "aioca"
        hint = f" ({program} --help tells more)" if isinstance(error, click.UsageError) else ""
        print(f"{program}: {error.format_message().rstrip('.')}{hint}", file=sys.stderr)
        return error.exit_code
