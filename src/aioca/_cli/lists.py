"""PVs that are named in files: the options of `record` and of `snapshot save`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import snapshot
from .shared import BadInputError, FilePath

T = TypeVar("T")

_OPTIONS = (
    click.option(
        "-l", "--list", "lists", multiple=True, metavar="LIST",
        type=FilePath(exists=True, dir_okay=False, path_type=Path),
        help="A file with a PV a line, or a .req file of autosave. May be repeated.",
    ),
    click.option(
        "-m", "--macros", default="", metavar="P=...,M=...", help="Values for macros $(P) in LIST."
    ),
    click.option(
        "-I", "--include", multiple=True, metavar="DIR",
        type=FilePath(exists=True, file_okay=False, path_type=Path),
        help="Look here, too, for the files that LIST includes. May be repeated.",
    ),
)  # fmt: skip


def list_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options ``lists``, ``macros`` and ``include``."""
    for option in reversed(_OPTIONS):  # the last one applied is the first one in the help
        command = option(command)
    return command


def named_pvs(
    pvs: tuple[str, ...], lists: tuple[Path, ...], macros: str, include: tuple[Path, ...]
) -> list[str]:
    """Return the PVs of the command line and of the files, each once; raises if there is none."""
    values = checked(snapshot.parse_macros, macros)
    names = dict.fromkeys(pvs)
    for path in lists:
        names.update(dict.fromkeys(checked(snapshot.read_names, path, values, include)))
    if not names:
        raise click.UsageError("no PV is named: give PVs, or --list FILE")
    return list(names)


def checked(function: Callable[..., T], *args: Any) -> T:
    """Call a function that uses a file; if it fails, that is an error of one line."""
    try:
        return function(*args)
    except snapshot.SnapshotError as error:
        raise BadInputError(str(error)) from None
    except OSError as error:
        raise BadInputError(f"{error.filename or args[-1]}: {error.strerror}") from None
