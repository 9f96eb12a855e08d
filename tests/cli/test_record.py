"""``aioca record``: what it writes, read back by the libraries of the formats; gaps, bad input."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aioca import caget, caput, run
from aioca._cli.recording.options import Rotation, RotationType, parse_duration
from aioca.testing import SoftIoc
from tests.support.commands import AIOCA, in_terminal, run_cli, run_without, started
from tests.support.recordings import READERS, Row, read

UNIT = True

pytest.importorskip("h5py", reason="needs the extra record")
pytest.importorskip("pyarrow.parquet", reason="needs the extra record")

MakeIoc = Callable[..., SoftIoc]


ENDINGS = list(READERS)


def values(rows: list[Row], pv: str) -> list[Any]:
    return [row["value"] for row in rows if row["pv"] == pv and row["event"] == "value"]


def events(rows: list[Row], pv: str) -> list[str]:
    """The events of a PV, each run of values as one."""
    every = [row["event"] for row in rows if row["pv"] == pv]
    return [e for e, before in zip(every, [None, *every], strict=False) if e != before]


def until(path: Path, condition: Callable[[list[Row]], object], seconds: float = 30.0) -> None:
    """Wait until the file, which is being written, has rows that fulfil a condition."""
    give_up = time.monotonic() + seconds
    while not (path.exists() and condition(read(path))):
        assert time.monotonic() < give_up, read(path) if path.exists() else "no file"
        time.sleep(0.05)  # a file that grows is no event for us


def counter(unique: str, count: int = 1) -> str:
    return "".join(
        f'record(calc, "{unique}C{i}") {{ field(SCAN, ".1 second") field(CALC, "VAL+1") }}\n'
        for i in range(count)
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_type(
    own_ioc: MakeIoc, unique: str, backend: str, tmp_path: Path, ending: str
) -> None:
    """Values, time stamps and alarms are those that caget reads."""
    p = unique
    file = tmp_path / f"all{ending}"
    records = {
        "ai": ("ai", 'field(VAL, "0.1") field(HIGH, "0") field(HSV, "MINOR")'),
        "li": ("longin", 'field(VAL, "-2147483648")'),
        "mbbi": ("mbbi", 'field(ONST, "on") field(VAL, "1")'),
        "text": ("stringin", r'field(VAL, "a, \"b\"\nc")'),
        "wave": ("waveform", 'field(FTVL, "DOUBLE") field(NELM, "9") field(INP, [1.5, -2, 1e300])'),
        "bytes": ("waveform", 'field(FTVL, "UCHAR") field(NELM, "9") field(INP, [0, 255])'),
        "texts": ("waveform", 'field(FTVL, "STRING") field(NELM, "3") field(INP, ["x", "y z"])'),
        "none": ("waveform", 'field(FTVL, "SHORT") field(NELM, "3")'),
    }
    pvs = [f"{p}{name}" for name in records]
    with own_ioc(
        "".join(
            f'record({kind}, "{p}{name}") {{ field(PINI, "YES") {fields} }}\n'
            for name, (kind, fields) in records.items()
        )
    ):
        done = run_cli("record", *pvs, "-o", str(file), "--for", "2s", "--backend", backend)
        assert (done.returncode, done.stderr) == (0, "")
        read_back: list[Any] = run(caget(pvs, format=1))  # type: ignore[arg-type]
    assert done.stdout.startswith("8 of 8 PVs connected, 8 updates in ")
    assert ", 0 lost, 0 disconnections, " in done.stdout
    rows = read(file)
    assert [events(rows, pv) for pv in pvs] == [["connected", "value"]] * len(pvs)
    found = {row["pv"]: row for row in rows if row["event"] == "value"}
    expected = {
        "ai": 0.1, "li": -2147483648, "mbbi": 1, "text": 'a, "b"\nc', "wave": [1.5, -2, 1e300],
        "bytes": [0, 255], "texts": ["x", "y z"], "none": [],
    }  # fmt: skip
    assert {pv: found[f"{p}{pv}"]["value"] for pv in expected} == expected
    types = [found[pv]["type"] for pv in pvs]
    assert types == ["DOUBLE", "LONG", "ENUM", "STRING", "DOUBLE", "CHAR", "STRING", "SHORT"]
    assert [found[pv]["count"] for pv in pvs] == [None, None, None, None, 3, 2, 2, 0]
    for value in read_back:
        row = found[value.name]
        assert (row["timestamp_ns"], row["severity"], row["status"]) == (
            value.timestamp_ns, value.severity, value.status,
        )  # fmt: skip
    assert found[f"{p}ai"]["severity"] == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_killed_by_sigkill(own_ioc: MakeIoc, unique: str, tmp_path: Path, ending: str) -> None:
    """All values up to a short time before the kill are there, without a hole."""
    file = tmp_path / f"killed{ending}"
    pv = f"{unique}C0"
    with (
        own_ioc(counter(unique)),
        started(
            "record", pv, "-o", str(file), "--flush", "0.3s", stdout=subprocess.PIPE
        ) as process,
    ):
        until(file, lambda rows: len(values(rows, pv)) >= 15)
        before = len(values(read(file), pv))
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        found = values(read(file), pv)
    assert len(found) >= before
    assert found == [found[0] + i for i in range(len(found))]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_gap(own_ioc: MakeIoc, unique: str, tmp_path: Path, ending: str) -> None:
    """An IOC that is killed and restarted gives a row at each end of the gap; Ctrl-C ends it."""
    file = tmp_path / f"gap{ending}"
    pv = f"{unique}C0"
    ioc = own_ioc(counter(unique))
    options = ["-o", str(file), "--flush", "0.3s"]
    with ioc, started("record", pv, *options, stdout=subprocess.PIPE) as process:
        until(file, lambda rows: values(rows, pv))
        killed_at = time.time_ns()
        ioc.kill()
        until(file, lambda rows: "disconnected" in events(rows, pv))
        restarted_at = time.time_ns()
        ioc.start()
        until(file, lambda rows: events(rows, pv)[-2:] == ["connected", "value"], 60)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        text = process.stdout.read().decode()
        assert process.wait(10) == 130
    assert "1 of 1 PVs connected" in text and " 1 disconnections" in text
    rows = read(file)
    assert events(rows, pv) == ["connected", "value", "disconnected", "connected", "value"]
    lost, back = (row for row in rows[1:] if row["event"] != "value")
    assert killed_at < lost["timestamp_ns"] < restarted_at < back["timestamp_ns"] < time.time_ns()
    assert (lost["severity"], lost["value"], lost["type"]) == (None, None, None)


@pytest.mark.parametrize("ending", ENDINGS)
def test_rotation(own_ioc: MakeIoc, unique: str, backend: str, tmp_path: Path, ending: str) -> None:
    """Each file is whole by itself, and together they have every value."""
    with own_ioc(counter(unique)):
        done = run_cli(
            "record", f"{unique}C0", "-o", str(tmp_path / f"r{ending}"), "--rotate", "1s",
            "--for", "4s", "--backend", backend,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    files = sorted(tmp_path.iterdir())
    assert 3 <= len(files) <= 5
    assert [file.name for file in files] == [f"r-{i:04}{ending}" for i in range(1, len(files) + 1)]
    assert f"{files[0]} to {files[-1].name}" in done.stdout
    found = [value for file in files for value in values(read(file), f"{unique}C0")]
    begins = [values(read(file), f"{unique}C0")[0] for file in files[1:]]
    for value in begins:  # the last value of the file before
        found.remove(value)
    assert len(found) > 20
    assert found == [found[0] + i for i in range(len(found))]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_rotated_file_has_the_pvs_that_do_not_change(
    own_ioc: MakeIoc, unique: str, tmp_path: Path, ending: str
) -> None:
    """It begins as a new recording would: with their connections and values, of all kinds."""
    p = unique
    same = {
        f"{p}N": ('record(ao, "{}") {{ field(VAL, "1.5") field(PINI, "YES") }}\n', 1.5),
        f"{p}S": ('record(stringin, "{}") {{ field(VAL, "a") field(PINI, "YES") }}\n', "a"),
        f"{p}W": ('record(waveform, "{}") {{ field(FTVL, "LONG") field(NELM, "9")'
                  ' field(INP, [7, 8]) }}\n', [7, 8]),
        f"{p}T": ('record(waveform, "{}") {{ field(FTVL, "STRING") field(NELM, "2")'
                  ' field(INP, ["x", "y"]) }}\n', ["x", "y"]),
    }  # fmt: skip
    database = "".join(text.format(pv) for pv, (text, _) in same.items())
    options = ["-o", str(tmp_path / f"r{ending}"), "--rotate", "0.5s", "--flush", "0.3s"]
    third = tmp_path / f"r-0003{ending}"
    with (
        own_ioc(counter(unique) + database),
        started("record", *same, f"{p}C0", f"{p}NOBODY", *options, stdout=subprocess.PIPE) as run,
    ):
        until(third, lambda rows: values(rows, f"{p}C0"))
        until(tmp_path / f"r-0001{ending}", lambda rows: values(rows, f"{p}C0"))
        run.send_signal(signal.SIGINT)
        assert run.stdout is not None
        run.stdout.read()
        assert run.wait(10) == 130
    first, later = read(tmp_path / f"r-0001{ending}"), read(third)
    for pv, (_, value) in same.items():
        assert events(later, pv) == ["connected", "value"]
        assert values(later, pv) == [value]
        before = next(row for row in first if row["pv"] == pv and row["event"] == "value")
        again = next(row for row in later if row["pv"] == pv and row["event"] == "value")
        for column in ("timestamp_ns", "severity", "status", "type", "count"):
            assert again[column] == before[column]


def test_rotation_by_size(own_ioc: MakeIoc, unique: str, backend: str, tmp_path: Path) -> None:
    with own_ioc(counter(unique, 10)):
        done = run_cli(
            "record", *(f"{unique}C{i}" for i in range(10)), "-o", str(tmp_path / "r.csv"),
            "--rotate", "5kB", "--for", "3s", "--backend", backend,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    sizes = [file.stat().st_size for file in sorted(tmp_path.iterdir())]
    assert len(sizes) >= 2
    assert all(5000 <= size < 15_000 for size in sizes[:-1])


def test_the_terminal_shows_statistics(own_ioc: MakeIoc, unique: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    with (
        own_ioc(counter(unique)),
        in_terminal("record", f"{unique}C0", "-o", str(file)) as (process, output, keys),
    ):
        output.until(lambda text: re.search(r"1 of 1 PVs connected, [1-9]\d* updates", text))
        os.write(keys, b"\x03")
        text = output.to_the_end()
        assert process.wait(10) == 130
    assert "Traceback" not in text
    assert len(values(read(file), f"{unique}C0")) >= 1


def test_a_narrow_terminal(own_ioc: MakeIoc, unique: str, tmp_path: Path) -> None:
    """The statistics do not wrap: their line would be left there, each second another one."""
    file = tmp_path / f"{'long' * 30}.csv"
    with (
        own_ioc(counter(unique)),
        in_terminal("record", f"{unique}C0", "-o", str(file)) as (process, output, keys),
    ):
        fcntl.ioctl(keys, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        seen = len(output.text)
        output.until(lambda text: text[seen:].count("1 of 1 PVs connected") >= 3)
        os.write(keys, b"\x03")
        text = output.to_the_end()
        assert process.wait(10) == 130
    shown = re.findall(r"\r(1 of 1 PVs connected.*?)\x1b\[K", text)
    assert len(shown) >= 3
    assert all(len(line) < 80 for line in shown)  # before it knows the columns
    assert all(len(line) < 60 for line in shown[-2:])


def test_pvs_that_do_not_exist(own_ioc: MakeIoc, unique: str, tmp_path: Path) -> None:
    """They are named, and have a row; the others are recorded."""
    file = tmp_path / "a.csv"
    names = tmp_path / "names.txt"
    names.write_text(f"# two\n{unique}C0\n{unique}NOBODY\n")
    with own_ioc(counter(unique)):
        done = run_cli("record", "-l", str(names), "-o", str(file), "--for", "6s")
    assert done.returncode == 1
    assert done.stderr == f"aioca record: never connected: {unique}NOBODY\n"
    assert done.stdout.startswith("1 of 2 PVs connected")
    rows = read(file)
    assert events(rows, f"{unique}NOBODY") == ["disconnected"]
    assert len(values(rows, f"{unique}C0")) > 20


def test_a_request_file(own_ioc: MakeIoc, unique: str, tmp_path: Path) -> None:
    """Its macros have the given values; the file that it includes is in another directory."""
    file, request, folder = tmp_path / "a.csv", tmp_path / "a.req", tmp_path / "db"
    folder.mkdir()
    request.write_text("$(P)C0\nfile more.req P=$(P),N=1\n")
    (folder / "more.req").write_text("$(P)C$(N)\n")
    options = ["--macros", f"P={unique}", "--include", str(folder)]
    with own_ioc(counter(unique, 2)):
        done = run_cli("record", "-l", str(request), *options, "-o", str(file), "--for", "1s")
        assert (done.returncode, done.stderr) == (0, "")
    assert {row["pv"] for row in read(file)} == {f"{unique}C0", f"{unique}C1"}
    done = run_cli("record", "-l", str(request), "-o", str(tmp_path / "b.csv"))
    assert done.returncode == 2
    assert done.stderr == f"aioca record: {request}:1: the macro 'P' is not defined\n"


# Runs the command where files cannot become larger: as on a full disk, a write fails.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (int(sys.argv[1]),))
from aioca._cli import main
sys.exit(main(sys.argv[2:]))
"""
LIMITS = {".csv": 300_000, ".parquet": 200_000, ".h5": 8_000_000}  # HDF5 reserves space


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_disk_that_is_full(own_ioc: MakeIoc, unique: str, tmp_path: Path, ending: str) -> None:
    """One line says so, and what was written stays readable."""
    file = tmp_path / f"full{ending}"
    pvs = [f"{unique}W", f"{unique}C0"]
    database = f'record(waveform, "{unique}W") {{ field(FTVL, "DOUBLE") field(NELM, "5000") }}'
    with (
        own_ioc(counter(unique) + database),
        subprocess.Popen(
            [AIOCA[0], "-B", "-c", LIMITED, str(LIMITS[ending]), "record", *pvs, "-o", str(file),
             "--flush", "0.3s"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        give_up = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < give_up:
            # Always another array, so that no compression makes it small
            run(caput(pvs[0], list(os.urandom(5000))))
            time.sleep(0.05)  # 20 changes a second are enough
        process.kill()
        out, errors = process.communicate()
    assert process.returncode == 1, (out, errors)
    assert out == ""
    assert errors.count("\n") == 1
    assert errors.startswith(f"aioca record: {file}")
    assert "File too large; the recording has ended, the " in errors
    assert len(values(read(file), f"{unique}C0")) >= 3


@pytest.mark.process
@pytest.mark.parametrize(("ending", "limit"), [(".csv", 10), (".h5", 1000)])
def test_a_disk_without_room_for_a_file(tmp_path: Path, ending: str, limit: int) -> None:
    """Nothing is left that would be in the way of a second try."""
    file = tmp_path / f"a{ending}"
    for _ in range(2):
        done = subprocess.run(
            [AIOCA[0], "-B", "-c", LIMITED, str(limit), "record", "X", "-o", str(file)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr == f"aioca record: {file}: File too large\n"
        assert not list(tmp_path.iterdir())


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["X", "-o", "a.txt"], "a.txt: the name must end in .csv, .parquet, .h5, .hdf5"),
        (["X", "-o", "nowhere/a.csv"], "nowhere/a.csv: its directory does not exist"),
        (["X", "-o", "old.csv"], "old.csv: it exists, and is not replaced"),
        (["X", "-o", "more.csv", "--rotate", "1h"], "more-0001.csv: it exists"),
        (["X", "-o", "a.csv", "--for", "8 hours"], "not a duration such as 90s, 30m, 8h or"),
        (["X", "-o", "a.csv", "--for", "0s"], "not a duration"),
        (["X", "-o", "a.csv", "--rotate", "big"], "not a duration or size such as 1h or 500MB"),
        (["X", "-o", "a.csv", "--rotate", "1M"], "(units: s m h d, B kB MB GB TB): 1M"),
        (["X"], "Missing option '-o' / '--output'"),
        (["-o", "a.csv"], "no PV is named"),
        (["", "-o", "a.csv"], "PV"),
        (["-l", "old.csv", "-o", "a.csv"], "old.csv"),
        (["-l", "more-0001.csv", "-m", "P", "-o", "a.csv"], "'P' defines no macro"),
        (["X", "-I", "nowhere", "-o", "a.csv"], "'nowhere' does not exist"),
    ],
)
def test_bad_input(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and nothing is made or changed."""
    monkeypatch.chdir(tmp_path)
    for name in ("old.csv", "more-0001.csv"):
        (tmp_path / name).write_text("")
    done = run_cli("record", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["more-0001.csv", "old.csv"]
    assert not (tmp_path / "old.csv").read_text()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172800), ("0", None), ("-1s", None),
     ("h", None), ("1e9", None), ("10000000d", None), ("nan", None)],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["1500b", "1.5KB", "1.5kB", "0.0015Mb"])
def test_sizes_in_any_case(text: str) -> None:
    assert RotationType().convert(text, None, None) == Rotation(size=1500)


@pytest.mark.process
@pytest.mark.parametrize(("ending", "library"), [(".parquet", "pyarrow"), (".h5", "h5py")])
def test_a_library_is_missing(ending: str, library: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{ending}"
    done = run_without(library, "record", "X", "-o", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"aioca record: {file}: {library} is not installed; pip install 'aioca[record]'"
    )
    assert done.stderr.count("\n") == 1
    assert not file.exists()
