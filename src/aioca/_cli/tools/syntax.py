"""The command line of the tools of EPICS base: the order of options matters.

Like in base, an invalid value of an option is reported and ignored. Only an unknown option, an
option without its value, or a missing PV ends the command, with exit status 1.
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
_MAX_DIGITS = 18  # of a float; the limit of base


def complain(text: str) -> None:
    """Print a message on stderr."""
    print(printable(text), file=sys.stderr)


def see_help() -> str:
    """Return the reference to the help, which ends a message."""
    return f"('{click.get_current_context().command_path} -h' for help.)"


class Tool(click.Command):
    """A command that records the order of its options, and reports errors like base."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # only completing the words typed so far
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
    """Return the options in the order given, repeated ones too: (parameter name, value)."""
    arguments = {name: iter(found) for name, found in values.items() if isinstance(found, list)}
    return [
        (option.name, next(arguments[option.name], "") if option.name in arguments else "")
        for option in order
        if isinstance(option, click.Option) and option.name
    ]


def given() -> list[tuple[str, str]]:
    """Return the options of this command in the order given: (parameter name, value)."""
    found: list[tuple[str, str]] = click.get_current_context().meta[_GIVEN]
    return found


def tool(name: str, *, interspersed: bool = True) -> Callable[[Callable[..., int]], click.Command]:
    """Return a decorator that makes a function a command, with the options of all tools.

    Args:
        name: the name of the command.
        interspersed: whether options may follow the first PV.
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
    """Return the decorator for an option without a value."""
    return click.option(f"-{letter}", name, count=True, expose_value=False, help=help)


def value(letter: str, name: str, metavar: str, help: str) -> Callable[[F], F]:
    """Return the decorator for an option with a value, which may follow without a space."""
    return click.option(
        f"-{letter}", name, multiple=True, expose_value=False, metavar=metavar, help=help
    )


_SHARED: tuple[Callable[[Any], Any], ...] = (
    value("w", "wait", "SECONDS", "How long to wait for connections, and then for replies"
          " (default: 1; 0: no limit)."),
    value("p", "priority", "0..99", "CA priority: servers serve higher ones first (default: 0)."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line."),
    backend_option,
    click.version_option(None, "-V", package_name="aioca", message="aioca %(version)s",
                         help="Show the version and exit."),
)  # fmt: skip


@dataclass
class Style:
    """The options for requests and for the output of values.

    Attributes:
        float_spec: the format of floats, as in C.
        float_base: "x", "o" or "b": round floats to integers, and print them in this base.
        integer_base: "x", "o" or "b": the base of integers.
        enum_numbers: print enums as numbers, not as labels.
        long_strings: print arrays of CHAR as strings.
        float_strings: request floats as strings, which the server makes with its own precision.
        separator: the text between fields.
        count: elements to request; 0: all; negative: all, and print the count.
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
    """The options of all tools: time-out in seconds (None: no limit), priority, style."""

    timeout: float | None = DEFAULT_TIMEOUT
    priority: int = 0
    style: Style = field(default_factory=Style)

    def take(self, option: str, argument: str) -> bool:
        """Apply an option; returns False for an option that is not one of these."""
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
    value("#", "count", "COUNT", "The number of array elements to request (default: all)."),
    flag("S", "long_strings", "Print an array of CHAR as a string (long string)."),
    value("e", "exponent", "DIGITS", "Print floats as %e, with this many digits."),
    value("f", "fixed", "DIGITS", "Print floats as %f, with this many digits."),
    value("g", "general", "DIGITS", "Print floats as %g, with this many digits (default: %g)."),
    flag("s", "float_strings", "Request floats as strings, which have the server's precision."),
    value("l", "float_base", "x|o|b", "Print floats as integers, in hex, octal or binary."),
    value("0", "integer_base", "x|o|b", "Print integers in hex, octal or binary."),
    value("F", "separator", "CHARACTER", "The separator of fields (default: a space)."),
)


def format_options(function: F) -> F:
    """Add the options for the output of values to a command."""
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
    elif not 0 <= digits <= _MAX_DIGITS:
        complain(f"Precision {digits} for option '-{letter}' out of range - ignored.")
    else:
        return f"%.{digits}{letter}"
    return None


def _base(letter: str, text: str) -> str | None:
    if text[:1] in ("x", "o", "b"):
        return text[0]
    complain(f"Invalid argument '{text}' for option '-{letter}' - ignored.")
    return None
