"""What the subcommands share: options, errors, the run of their coroutine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import click

from .. import run
from .typed import file_name

T = TypeVar("T")


class Failure(click.ClickException):
    """What a command cannot do, in one line that says what to do about it.

    Attributes:
        ctx (click.Context | None): of the command, which is gone where this is printed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.ctx = click.get_current_context(silent=True)


def _installed(_context: click.Context, _option: click.Parameter, backend: str) -> str:
    if backend == "trio" and importlib.util.find_spec("trio") is None:
        raise Failure("trio is not installed; pip install 'aioca[trio]'")
    return backend


backend_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--backend",
    type=click.Choice(["asyncio", "trio"]),
    default="asyncio",
    callback=_installed,
    help="The async library that it runs on (default: asyncio).",
)


def run_command(main: Coroutine[Any, Any, T], backend: str) -> T:
    """Run the coroutine of a command to its end, and return what it returns.

    Raises:
        KeyboardInterrupt: on Ctrl-C, wherever that was: a task group raises it in a group.
        Whatever else the coroutine raised.
    """
    try:
        return run(main, backend=backend)  # type: ignore[return-value]  # None only of `forever`
    except BaseException as error:
        if _only_interrupted(error):
            raise KeyboardInterrupt from None
        raise


def _only_interrupted(error: BaseException) -> bool:
    """Whether nothing but Ctrl-C is in it."""
    within: Sequence[BaseException] = getattr(error, "exceptions", ())
    if within:
        return all(map(_only_interrupted, within))
    return isinstance(error, KeyboardInterrupt)


class FilePath(click.Path):
    """A file, named as it was typed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """From the command line's text."""
        return super().convert(file_name(value) if isinstance(value, str) else value, param, ctx)


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A time in seconds, 0 or more."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """From the command line's text."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            self.fail(f"not a time in seconds: {value}", param, ctx)
        return seconds
