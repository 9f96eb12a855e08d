"""``aioca snapshot``: save the values of PVs to a file, compare them, and write them back.

Exit statuses: 0 if no PV failed or differs, 1 if one does, 2 if a file or an option is wrong
(nothing was done), 130 after Ctrl-C.
"""

from __future__ import annotations

from pathlib import Path

import click

from ..lists import list_options, named_pvs
from ..shared import FilePath, Seconds, backend_option, run_command
from ..snapshots import Restoring, check_target, diff, loaded, save

_new_file = FilePath(dir_okay=False, writable=True, path_type=Path)
_old_file = FilePath(exists=True, dir_okay=False, path_type=Path)
_only = click.option(
    "--only", multiple=True, metavar="PATTERN",
    help="Only the PVs whose names match, such as 'BL01:*'. May be repeated.",
)  # fmt: skip
_macros = click.option(
    "-m", "--macros", default="", metavar="P=...,M=...", help="Values for macros $(P) in the file."
)
_timeout = click.option(
    "--timeout", type=Seconds(), default=5.0, metavar="S",
    help="The time to connect and read (default: 5).",
)  # fmt: skip


@click.group(no_args_is_help=False, subcommand_metavar="save|diff|restore ...")
def command() -> None:
    """Save the values of PVs to a file, compare them with the file, and write them back.

    `diff` and `restore` also read the .sav files of autosave, and the .snap files of BURT and of
    the snapshot tool of PSI.

    \b
    Examples:
      aioca snapshot save shift.json BL01:MOTOR BL01:MODE
      aioca snapshot diff shift.json
      aioca snapshot restore shift.json --only 'BL01:MO*'
    Exit statuses: 0 done; 1 a PV differs, was refused or not found; 2 bad file or option.
    """  # not a raw string: click needs the backspace


# -- save ------------------------------------------------------------------------------------------


@command.command("save", short_help="Save the values of PVs to a file.")
@click.argument("file", type=_new_file)
@click.argument("pvs", nargs=-1, metavar="[PV]...")
@list_options
@click.option("--skip-missing", is_flag=True, help="Save the others if a PV cannot be read.")
@_timeout
@backend_option
def save_command(
    file: Path,
    pvs: tuple[str, ...],
    lists: tuple[Path, ...],
    macros: str,
    include: tuple[Path, ...],
    skip_missing: bool,
    timeout: float,
    backend: str,
) -> int:
    """Save the values of PVs to FILE, which is replaced only when all have been read.

    \b
    Examples:
      aioca snapshot save shift.json BL01:MOTOR BL01:MODE
      aioca snapshot save shift.json --list pvs.txt
      aioca snapshot save shift.json -l auto_settings.req -m P=BL01:,M=m1 -I db
    """
    names = named_pvs(pvs, lists, macros, include)
    check_target(file)
    return run_command(save(file, names, skip_missing, timeout), backend)


# -- diff ------------------------------------------------------------------------------------------


@command.command("diff", short_help="Compare PVs with a file.")
@click.argument("file", type=_old_file)
@_only
@_macros
@_timeout
@backend_option
def diff_command(
    file: Path, only: tuple[str, ...], macros: str, timeout: float, backend: str
) -> int:
    """Show the PVs whose values are not those in FILE: the saved value, then the present one.

    \b
    Examples:
      aioca snapshot diff shift.json
      aioca snapshot diff auto_settings.sav --only '*.DESC'
    Exit statuses: 0 all are equal; 1 some differ, or are not found; 2 bad file or option.
    """
    return run_command(diff(loaded(file, only, macros), timeout), backend)


# -- restore ---------------------------------------------------------------------------------------


@command.command("restore", short_help="Write the values in a file back.")
@click.argument("file", type=_old_file)
@_only
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be written; write nothing.")
@click.option("--skip-missing", is_flag=True, help="Restore the others if a PV is not connected.")
@_macros
@_timeout
@click.option(
    "--put-timeout", type=Seconds(), default=60.0, metavar="S",
    help="The time for the PVs to process what is written, such as a movement (default: 60).",
)  # fmt: skip
@backend_option
def restore_command(
    file: Path,
    only: tuple[str, ...],
    dry_run: bool,
    skip_missing: bool,
    macros: str,
    timeout: float,
    put_timeout: float,
    backend: str,
) -> int:
    """Write the values in FILE to the PVs that have other values, wait, and read them back.

    Nothing is written if a PV is not connected, unless --skip-missing is given. A refused value
    does not keep the others from being written. After Ctrl-C the command says what has been
    written.

    \b
    Examples:
      aioca snapshot restore shift.json --dry-run
      aioca snapshot restore shift.json --only 'BL01:MO*' --put-timeout 600
    Exit statuses: 0 all PVs have the saved values; 1 some do not; 2 bad file or option.
    """
    restoring = Restoring(loaded(file, only, macros))
    return run_command(restoring.run(dry_run, skip_missing, timeout, put_timeout), backend)
