"""Options, errors, and the run of the coroutine, for all subcommands."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import click

from .. import run
from .._api.run import check_backend
from .numbers import c_real
from .typed import file_name

T = TypeVar("T")


class Failure(click.ClickException):
    """An error of a command: one line that says what failed and what to do.

    Attributes:
        ctx (click.Context | None): the context of the command; kept here, because it has been
            closed by the time the error is printed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.ctx = click.get_current_context(silent=True)


class BadInputError(Failure):
    """A file or an option is wrong, and nothing was done."""

    exit_code = 2


def _installed(_context: click.Context, _option: click.Parameter, backend: str) -> str:
    try:
        check_backend(backend)
    except LookupError as error:
        raise Failure(str(error)) from None
    return backend


backend_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--backend",
    type=click.Choice(["asyncio", "trio"]),
    default="asyncio",
    callback=_installed,
    help="The async library that the command runs on (default: asyncio).",
)


def run_command(main: Coroutine[Any, Any, T], backend: str) -> T:
    """Run the coroutine of a command to its end, and return its result. Blocks.

    Raises:
        KeyboardInterrupt: on Ctrl-C, also if a task group raised it inside an exception group.
        Other exceptions of the coroutine are raised as they are.
    """
    try:
        return run(main, backend=backend)  # type: ignore[return-value]  # None only of `forever`
    except BaseException as error:
        if _only_interrupted(error):
            raise KeyboardInterrupt from None
        raise


def _only_interrupted(error: BaseException) -> bool:
    """Whether the error is a KeyboardInterrupt, or a group of nothing else."""
    within: Sequence[BaseException] = getattr(error, "exceptions", ())
    if within:
        return all(map(_only_interrupted, within))
    return isinstance(error, KeyboardInterrupt)


class FilePath(click.Path):
    """A file name, with the bytes that were typed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the text of the command line."""
        return super().convert(file_name(value) if isinstance(value, str) else value, param, ctx)


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A time in seconds, 0 or more."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert the text of the command line."""
        seconds = c_real(str(value))
        if seconds is None or not 0 <= seconds < math.inf:
            self.fail(f"not a time in seconds: {value}", param, ctx)
        return seconds
