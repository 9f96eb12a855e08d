"""``aioca record`` under load: are all updates in the file, and what do they cost?

    python -m tests.long.recording                      10,000 PVs at 10 Hz for 60 s, into Parquet
    python -m tests.long.recording --repeats 3
    python -m tests.long.recording --pvs 1000 --seconds 10 --format csv
    python -m tests.long.recording --against a916174    this tree and an earlier one in turn

A soft IOC on loopback has that many counters, each of which counts up by one ten times a second.
After each recording the file is read, and the values of each counter must be consecutive: a value
that is missing was lost. It prints a line for each recording, and exits with 1 if any value was
lost, or if a counter is not in the file.

The costs are the processor time of the recording process, from its start to its end, and its
largest resident memory. They are measured on Linux and macOS.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aioca.testing import SoftIoc, loopback_environment
from tests.long.recording.counting import Counts, count

ROOT = Path(__file__).parents[3]
HERTZ = 10
UPDATE_SECONDS = ".1 second"
IOC_START_SECONDS = 120.0  # for 10,000 records on a busy machine


class Costs(NamedTuple):
    """What a recording took: processor seconds, and MiB of resident memory."""

    seconds: float
    mebibytes: float


def main() -> int:
    options = parse_arguments()
    failed = False
    with (
        tempfile.TemporaryDirectory(prefix="aioca-recording-") as name,
        sources(options.against, Path(name)) as trees,
        SoftIoc(database(options.pvs), timeout=IOC_START_SECONDS) as ioc,
    ):
        folder = Path(name)
        names = folder / "names.txt"
        names.write_text("".join(f"C{i}\n" for i in range(options.pvs)))
        for number in range(options.repeats):
            for label, source in trees.items():
                file = folder / f"{number}-{label}.{options.format}"
                costs = record(source, ioc.port, names, file, options.seconds)
                counts = in_another_process(count, file)
                failed |= bool(counts.missing) or counts.counters < options.pvs
                print(line(label, options.seconds, counts, costs), flush=True)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.long.recording",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pvs", type=int, default=10_000, help="the number of counters (10000)")
    parser.add_argument("--seconds", type=int, default=60, help="of each recording (60)")
    parser.add_argument("--repeats", type=int, default=1, help="the number of recordings (1)")
    parser.add_argument("--format", choices=("parquet", "csv", "h5"), default="parquet")
    parser.add_argument("--against", metavar="REVISION", help="an earlier revision, in turn")
    return parser.parse_args()


@contextmanager
def sources(revision: str | None, folder: Path) -> Iterator[dict[str, Path]]:
    """The source folders to measure, by their labels."""
    trees = {"this tree": ROOT / "src"}
    if revision is not None:
        old = folder / "old"
        old.mkdir()
        archive = subprocess.run(
            ["git", "archive", revision, "src"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", str(old)], input=archive.stdout, check=True)
        trees[revision] = old / "src"
    yield trees


def database(count: int) -> str:
    return "".join(
        f'record(calc, "C{i}") {{ field(SCAN, "{UPDATE_SECONDS}") field(CALC, "VAL+1") }}\n'
        for i in range(count)
    )


def record(source: Path, port: int, names: Path, file: Path, seconds: int) -> Costs:
    """Run the command with the package of this source folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
    environment |= {**loopback_environment(port), "PYTHONPATH": str(source)}
    with subprocess.Popen(
        [sys.executable, "-m", "aioca", "record", "--list", str(names), "--output", str(file),
         "--for", f"{seconds}s"],
        env=environment, cwd=names.parent,
    ) as process:  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"aioca record has ended with exit status {process.returncode}")
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return Costs(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale)


def line(label: str, seconds: int, counts: Counts, costs: Costs) -> str:
    load = ", ".join(f"{average:.0f}" for average in os.getloadavg())
    return (
        f"{time.strftime('%H:%M:%S')} {label}: {counts.values:,} values of {counts.counters:,} PVs"
        f" in {seconds} s, {counts.missing:,} missing;"
        f" {costs.seconds / max(1, counts.values) * 1e6:.2f} us of CPU for each"
        f" ({costs.seconds / seconds:.2f} of a processor); {costs.mebibytes:.0f} MiB resident;"
        f" load {load}"
    )


def in_another_process(function: Callable[[Path], Counts], file: Path) -> Counts:
    """Call a function. The memory that it takes is not in the figure of the next recording.

    Linux counts the memory of the parent process in the largest resident memory of its child.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, file).result()


if __name__ == "__main__":
    sys.exit(main())
