"""``aioca record``: write every update of PVs to a file, until Ctrl-C or for some time."""

from __future__ import annotations

from pathlib import Path

import click

from ... import CAValueError
from ..lists import list_options, named_pvs
from ..recording.options import Duration, Rotation, RotationType
from ..recording.run import RecordingRun
from ..recording.target import Target
from ..shared import BadInputError, FilePath, backend_option, run_command

_FLUSH_SECONDS = 10.0  # of Parquet, where each flush writes a file
_OTHER_FLUSH_SECONDS = 0.25  # of CSV and HDF5


@click.command()
@click.argument("pvs", nargs=-1, metavar="[PV]...")
@click.option(
    "-o", "--output", type=FilePath(path_type=Path), metavar="FILE", required=True,
    help="The file to write: .csv, .parquet (a folder) or .h5. It must not exist.",
)  # fmt: skip
@list_options
@click.option(
    "--for", "seconds", type=Duration(), metavar="TIME",
    help="End after this time, such as 90s, 30m, 8h or 1h30m (default: at Ctrl-C).",
)  # fmt: skip
@click.option(
    "--rotate", type=RotationType(), metavar="TIME|SIZE",
    help="Begin another file after this time or size, such as 1h or 500MB. The files are"
    " numbered: FILE-0001 and so on.",
)  # fmt: skip
@click.option(
    "--flush", type=Duration(), default=_FLUSH_SECONDS, metavar="TIME",
    help="Parquet: the most time that is lost if the process is killed (default: 10s). With CSV and"
    " HDF5 it is always a quarter of a second.",
)  # fmt: skip
@backend_option
def command(
    pvs: tuple[str, ...],
    output: Path,
    lists: tuple[Path, ...],
    macros: str,
    include: tuple[Path, ...],
    seconds: float | None,
    rotate: Rotation | None,
    flush: float,
    backend: str,
) -> int:
    """Record every update of PVs with time stamp and alarm, and their disconnections.

    The file stays readable if the process is killed. At the end one line says how many updates
    were recorded, and how many were lost because they came too fast.

    \b
    Examples:
      aioca record TEMPERATURE SPECTRUM -o night.csv --for 8h
      aioca record -l pvs.txt -o shift.parquet --rotate 1h
      aioca record -l auto_settings.req -m P=BL01:,M=m1 -I db -o motors.csv
      aioca plot night.csv
    Exit statuses: 0 done; 1 a PV was never connected, or the file could not be written any more;
    2 bad file or option; 130 Ctrl-C.
    """  # not a raw string: click needs the backspace
    names = named_pvs(pvs, lists, macros, include)
    if output.suffix.lower() != ".parquet":
        flush = _OTHER_FLUSH_SECONDS
    target = Target(output, names, rotate)
    try:
        return run_command(RecordingRun(names, target, seconds, flush).run(), backend)
    except CAValueError as error:
        raise BadInputError(str(error)) from None
