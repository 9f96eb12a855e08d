"""The command line of the tools of EPICS base: options whose order matters, and forgiving ones.

An option that makes no sense is reported and ignored, as there; only an unknown one, or none where
a PV is needed, ends the command. Exit statuses are theirs too: 1 for these.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from ..._printable import printable
from ..numbers import c_integer, c_real
from ..shared import backend_option

F = TypeVar("F", bound=Callable[..., Any])

_GIVEN = "aioca.given"
DEFAULT_TIMEOUT = 1.0
_MOST_DIGITS = 18


def complain(text: str) -> None:
    """Say something on stderr."""
    print(printable(text), file=sys.stderr)


def see_help() -> str:
    """Where to look, behind a complaint."""
    return f"('{click.get_current_context().command_path} -h' for help.)"


class Tool(click.Command):
    """A command that knows in which order its options were given, and says what base says."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # only to complete what has been typed so far
            return super().parse_args(ctx, args)
        try:
            values, _, order = self.make_parser(ctx).parse_args(args=list(args))
            ctx.meta[_GIVEN] = _sequence(values, order)
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            complain(
                f"Unrecognized option: '{error.option_name}'. ('{ctx.command_path} -h' for help.)"
            )
        except click.BadOptionUsage as error:
            complain(
                f"Option '{error.option_name}' requires an argument."
                f" ('{ctx.command_path} -h' for help.)"
            )
        raise click.exceptions.Exit(1)


def _sequence(
    values: Mapping[str, list[str] | str | bool | None], order: Sequence[click.Parameter]
) -> list[tuple[str, str]]:
    """Each option as often as it was given, in that order, by the name of its parameter."""
    arguments = {name: iter(found) for name, found in values.items() if isinstance(found, list)}
    return [
        (option.name, next(arguments[option.name], "") if option.name in arguments else "")
        for option in order
        if isinstance(option, click.Option) and option.name
    ]


def given() -> list[tuple[str, str]]:
    """The options of this command, in order: the names of their parameters, and their values."""
    found: list[tuple[str, str]] = click.get_current_context().meta[_GIVEN]
    return found


def tool(name: str, *, interspersed: bool = True) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command of a function, with the options that all tools have.

    Args:
        name: of the command.
        interspersed: whether options may come behind the first PV.
    """

    def decorate(function: Callable[..., int]) -> click.Command:
        for option in reversed(_SHARED):
            function = option(function)
        return click.command(
            name, cls=Tool,
            context_settings={
                "allow_interspersed_args": interspersed,
                "help_option_names": ["-h", "--help"],
            },
        )(function)  # fmt: skip

    return decorate


def flag(letter: str, name: str, help: str) -> Callable[[F], F]:
    """An option without a value."""
    return click.option(f"-{letter}", name, count=True, expose_value=False, help=help)


def value(letter: str, name: str, metavar: str, help: str) -> Callable[[F], F]:
    """An option with a value, which may stick to it."""
    return click.option(
        f"-{letter}", name, multiple=True, expose_value=False, metavar=metavar, help=help
    )


_SHARED: tuple[Callable[[Any], Any], ...] = (
    value("w", "wait", "SECONDS", "How long to wait for connections, and then for replies"
          " (default: 1; 0: for ever)."),
    value("p", "priority", "0..99", "CA priority: servers serve higher ones first (default: 0)."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line."),
    backend_option,
    click.version_option(None, "-V", package_name="aioca", message="aioca %(version)s",
                         help="Show the version and exit."),
)  # fmt: skip


@dataclass
class Style:
    """How values are asked for and written.

    Attributes:
        float_spec: for floats, as in C.
        float_base: to round floats to an integer and write that in this base: "x", "o", "b".
        integer_base: to write integers in.
        enum_numbers: enums as numbers, not as their labels.
        long_strings: arrays of CHAR as strings.
        float_strings: floats as strings, made by the server with its own precision.
        separator: between fields.
        count: elements to ask for; 0 all. Negative ones are all, and the count is shown.
    """

    float_spec: str = "%g"
    float_base: str = ""
    integer_base: str = ""
    enum_numbers: bool = False
    long_strings: bool = False
    float_strings: bool = False
    separator: str = " "
    count: int = 0


@dataclass
class Common:
    """What the options of all tools say: seconds to wait (None: for ever), priority, style."""

    timeout: float | None = DEFAULT_TIMEOUT
    priority: int = 0
    style: Style = field(default_factory=Style)

    def take(self, option: str, argument: str) -> bool:
        """Follow an option; False if it is none of these."""
        style = self.style
        if option == "wait":
            self.timeout = _timeout(argument)
        elif option == "priority":
            self.priority = _priority(argument)
        elif option == "enum_numbers":
            style.enum_numbers = True
        elif option == "long_strings":
            style.long_strings = True
        elif option == "float_strings":
            style.float_strings = True
        elif option == "count":
            style.count = _count(argument)
        elif option in ("exponent", "fixed", "general"):
            style.float_spec = _spec(option[0], argument) or style.float_spec
        elif option == "float_base":
            style.float_base = _base("l", argument) or style.float_base
        elif option == "integer_base":
            style.integer_base = _base("0", argument) or style.integer_base
        elif option == "separator":
            style.separator = argument[:1] or "\0"
        else:
            return False
        return True


FORMAT_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    flag("n", "enum_numbers", "Print enums as numbers, not as their labels."),
    value("#", "count", "COUNT", "Ask for so many elements of an array (default: all)."),
    flag("S", "long_strings", "Print an array of CHAR as a string (long string)."),
    value("e", "exponent", "DIGITS", "Floats as %e, with so many digits."),
    value("f", "fixed", "DIGITS", "Floats as %f, with so many digits."),
    value("g", "general", "DIGITS", "Floats as %g, with so many digits (default: %g)."),
    flag("s", "float_strings", "Have the server make strings of floats, with its own precision."),
    value("l", "float_base", "x|o|b", "Round floats to integers, in hex, octal or binary."),
    value("0", "integer_base", "x|o|b", "Integers in hex, octal or binary."),
    value("F", "separator", "CHARACTER", "What to put between fields (default: a space)."),
)


def format_options(function: F) -> F:
    """The options about how values are written."""
    for option in reversed(FORMAT_OPTIONS):
        function = option(function)
    return function


def _timeout(text: str) -> float | None:
    seconds = c_real(text)
    if seconds is None or math.isnan(seconds):
        complain(f"'{text}' is not a valid timeout value - ignored, using '1.0'. {see_help()}")
        return DEFAULT_TIMEOUT
    return None if seconds in (0.0, float("inf")) else max(seconds, 0.0)


def _priority(text: str) -> int:
    priority = c_integer(text)
    if priority is None:
        complain(f"'{text}' is not a valid CA priority - ignored. {see_help()}")
        return 0
    return min(max(priority, 0), 99)


def _count(text: str) -> int:
    count = c_integer(text)
    if count is None:
        complain(f"'{text}' is not a valid array element count - ignored. {see_help()}")
        return 0
    return count


def _spec(letter: str, text: str) -> str | None:
    digits = c_integer(text)
    if digits is None:
        complain(f"Invalid precision argument '{text}' for option '-{letter}' - ignored.")
    elif not 0 <= digits <= _MOST_DIGITS:
        complain(f"Precision {digits} for option '-{letter}' out of range - ignored.")
    else:
        return f"%.{digits}{letter}"
    return None


def _base(letter: str, text: str) -> str | None:
    if text[:1] in ("x", "o", "b"):
        return text[0]
    complain(f"Invalid argument '{text}' for option '-{letter}' - ignored.")
    return None
