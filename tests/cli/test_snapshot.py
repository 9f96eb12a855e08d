"""``aioca snapshot``: save, change, diff, restore, with real IOCs; bad input; Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aioca import caget, caput, run, snapshot, wait_for_value
from aioca._cli import main, snapshots
from aioca.testing import SoftIoc
from tests.support import snapshot_records
from tests.support.commands import in_terminal, run_cli, started

UNIT = True

MakeIoc = Callable[..., SoftIoc]
SOON = ("--timeout", "3")  # where a PV is missing
ACCESS = Path(snapshot_records.__file__).with_name("records.acf")


def values_of(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return dict(content["values"])


def cli(*arguments: str | Path, backend: str = "asyncio") -> subprocess.CompletedProcess[str]:
    return run_cli("snapshot", *map(str, arguments), "--backend", backend)


def put_all(settings: dict[str, tuple[Any, Any]], which: int) -> None:
    run(caput(list(settings), [values[which] for values in settings.values()], wait=True))


def test_300_records(own_ioc: MakeIoc, unique: str, backend: str, tmp_path: Path) -> None:
    """Save, change, diff, restore; two refusals and one PV that is missing."""
    settings = snapshot_records.settings(unique)
    assert len(settings) == 300
    refusing = [f"{unique}protected", f"{unique}disabled"]
    ioc = own_ioc(
        snapshot_records.database(unique)
        + f'record(ao, "{unique}protected") {{ field(ASG, "READONLY") field(VAL, "7") }}'
        f'record(ao, "{unique}disabled") {{ field(DISP, "1") field(VAL, "8") }}'
    )
    ioc.access_security = ACCESS
    other = own_ioc(f'record(ao, "{unique}lost") {{ field(VAL, "9") }}')
    with ioc, other:
        put_all(settings, 0)
        (tmp_path / "pvs.txt").write_text("\n".join([*settings, *refusing, f"{unique}lost"]))
        file = tmp_path / "shift.json"
        saved = cli("save", file, "--list", tmp_path / "pvs.txt", backend=backend)
        assert (saved.returncode, saved.stderr) == (0, "")
        assert saved.stdout == f"303 PVs saved in {file}\n"
        before = values_of(file)
        assert list(before) == [*settings, *refusing, f"{unique}lost"]

        same = cli("diff", file, backend=backend)
        assert (same.returncode, same.stdout) == (0, "303 PVs: no difference\n")

        put_all(settings, 1)
        for pv in refusing:
            for field, value in (".DISP", 0), ("", 1), (".DISP", int(pv.endswith("disabled"))):
                ioc.command(f"dbpf {pv}{field} {value}")
        other.kill()

        different = cli("diff", file, *SOON, backend=backend)
        assert (different.returncode, different.stderr) == (1, "")
        lines = different.stdout.splitlines()
        assert lines[-1] == "303 PVs: 302 different, 1 not compared"
        assert [line.split(": ")[0] for line in lines[:-1]] == list(before)
        assert f'{unique}mbbo0: 1 "Manual" -> 2 "Automatic"' in lines
        assert f"{unique}int64out0: 9007199254740993 -> 9007199254740995" in lines

        stopped = cli("restore", file, *SOON, backend=backend)
        assert (stopped.returncode, stopped.stdout) == (1, "")
        assert stopped.stderr.splitlines()[0].startswith(f"{unique}lost: ")
        assert "nothing was written" in stopped.stderr.splitlines()[1]
        assert run(caget(f"{unique}ai0")) == 1.5

        dry = cli("restore", file, *SOON, "--dry-run", "--skip-missing", backend=backend)
        assert dry.returncode == 1
        assert dry.stdout.splitlines()[-1] == (
            "303 PVs: 301 would write, 1 refused, 1 not connected"
        )
        assert run(caget(f"{unique}ai0")) == 1.5

        some = cli("restore", file, "--only", f"{unique}ai*", backend=backend)
        assert (some.returncode, some.stderr) == (0, "")
        assert some.stdout.splitlines()[-1] == "12 PVs: 12 written"
        assert f"{unique}ai0: 1.5 -> 0.30000000000000004" in some.stdout

        done = cli("restore", file, *SOON, "--skip-missing", backend=backend)
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1] == (
            "303 PVs: 12 equal, 288 written, 2 refused, 1 not connected"
        )
        problems = done.stderr.splitlines()
        assert [line.split(": ")[0] for line in problems] == [*refusing, f"{unique}lost"]
        assert "write" in problems[0] and "refused" in problems[1]

        after = tmp_path / "after.json"
        again = cli("save", after, *settings, backend=backend)
        assert again.returncode == 0, again.stderr
        assert values_of(after) == {pv: before[pv] for pv in settings}


# -- save ------------------------------------------------------------------------------------------


def test_a_request_file(p: str, backend: str, tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "one.req").write_text("$(P)$(R)\n$(P)$(R).DESC\n")
    (tmp_path / "auto.req").write_text("# settings\nfile one.req P=$(P),R=ao\n$(P)mbbo\n")
    file = tmp_path / "a.json"
    done = cli(
        "save", file, f"{p}ai", "-l", tmp_path / "auto.req", "-m", f"P={p}", "-I", tmp_path / "db",
        backend=backend,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert list(values_of(file)) == [f"{p}ai", f"{p}ao", f"{p}ao.DESC", f"{p}mbbo"]


def test_saving_where_a_pv_is_missing(p: str, unique: str, backend: str, tmp_path: Path) -> None:
    """The old file stays, unless the others are to be saved."""
    file = tmp_path / "a.json"
    assert cli("save", file, f"{p}ai", backend=backend).returncode == 0
    old = file.read_bytes()
    arguments = ["save", file, f"{p}ai", f"{unique}a", "--timeout", "1"]
    done = cli(*arguments, backend=backend)
    assert (done.returncode, done.stdout) == (1, "")
    first, last = done.stderr.splitlines()
    assert first.startswith(f"{unique}a: ")
    assert last == (
        "aioca snapshot save: 1 of 2 PVs not read, nothing was written;"
        " --skip-missing saves the others"
    )
    assert file.read_bytes() == old

    done = cli(*arguments, "--skip-missing", backend=backend)
    assert (done.returncode, done.stdout) == (0, f"1 PV saved in {file}, 1 left out\n")
    assert "error" in values_of(file)[f"{unique}a"]
    old = file.read_bytes()
    done = cli("save", file, f"{unique}a", "--timeout", "1", "--skip-missing", backend=backend)
    assert done.returncode == 1
    assert file.read_bytes() == old  # rather than a file without any value


def test_text_that_may_be_cut_off(p: str, backend: str, tmp_path: Path) -> None:
    before = run(caget(f"{p}stringout.DESC"))
    run(caput(f"{p}stringout.DESC", "x" * 39, wait=True))
    done = cli("save", tmp_path / "a.json", f"{p}stringout.DESC", backend=backend)
    assert done.returncode == 0
    assert done.stderr == (
        f"{p}stringout.DESC: the text may be cut off;"
        f" the name {p}stringout.DESC$ may save all of it\n"
    )
    run(caput(f"{p}stringout.DESC", before, wait=True))


# -- Bad input -------------------------------------------------------------------------------------

BAD = [
    (["save", "a.json"], "no PV is named"),
    (["save"], "Missing argument 'FILE'"),
    (["save", "nowhere/a.json", "X"], "nowhere/a.json: its directory does not exist"),
    (["save", ".", "X"], "'.' is a directory"),
    (["save", "pvs.txt", "X"], "pvs.txt: it is no snapshot of aioca, and is not overwritten"),
    (["save", "/dev/null", "X"], "it is not a regular file"),
    (["save", "a.json", "-l", "none.txt"], "'none.txt' does not exist"),
    (["save", "a.json", "-l", "pvs.txt"], "pvs.txt:2: the macro 'P' is not defined"),
    (["save", "a.json", "-l", "pvs.txt", "-m", "P"], "'P' defines no macro"),
    (["save", "a.json", "X", "-I", "none"], "'none' does not exist"),
    (["save", "a.json", "X", "--timeout", "x"], "not a time in seconds: x"),
    (["diff", "none.json"], "'none.json' does not exist"),
    (["diff", "pvs.txt"], "pvs.txt: it is no snapshot"),
    (["diff", "bad.json"], "bad.json: \"A\" occurs twice"),
    (["diff", "good.json", "--only", "B*"], "good.json: no PV in it matches B*"),
    (["diff", "good.json", "--only", "*", "--only", "B*"], "good.json: no PV in it matches B*"),
    (["diff", "empty.json"], "empty.json: it has no PV"),
    (["restore", "bad.json"], "bad.json: \"A\" occurs twice"),
    (["restore", "good.json", "--put-timeout", "-1"], "not a time in seconds: -1"),
    (["restore", "good.json", "--only"], "requires an argument"),
    (["restore", "."], "'.' is a directory"),
    (["nonsense"], "No such command 'nonsense'"),
    ([], "Missing command"),
]  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line says what is wrong, before a PV is looked for; no file is changed."""
    head = '{"format": "aioca snapshot", "version": 1, "values": '
    (tmp_path / "pvs.txt").write_text("A\n$(P)B\n")
    (tmp_path / "bad.json").write_text(head + '{"A": {"value": 1}, "A": {"value": 1}}}')
    (tmp_path / "good.json").write_text(head + '{"A": {"value": 1}}}')
    (tmp_path / "empty.json").write_text(head + "{}}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(snapshots, "snapshot", NoPVs())
    assert main(["snapshot", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("aioca")
    assert said in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class NoPVs:
    """The module `aioca.snapshot`, with functions for files only."""

    def __getattr__(self, name: str) -> Any:
        assert name not in ("take", "diff", "restore")
        return getattr(snapshot, name)


# -- restore ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(p: str, backend: str, tmp_path: Path, number: signal.Signals) -> None:
    """It says what was written, what may have been, and leaves a record that it did not reach."""
    file = tmp_path / "a.json"
    rows = {f"{p}ao:a": 5.0, f"{p}slower.A": 7.0, f"{p}ai": 1.5}
    entries = tuple(snapshot.Entry(pv, value, "DOUBLE") for pv, value in rows.items())
    snapshot.save(snapshot.Snapshot(entries), file)
    run(caput(f"{p}ao:a", 0, wait=True))
    with started(
        "snapshot", "restore", str(file), "--backend", backend, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        run(wait_for_value(f"{p}slower.A", 7, timeout=30))  # sent, and under way for 3 s
        run(wait_for_value(f"{p}ao:a", 5, timeout=30))
        time.sleep(0.3)  # nobody tells when the completion has reached the process
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert out.decode().splitlines() == [
        f"{p}ao:a: 0.0 -> 5.0", "3 PVs: 1 equal, 1 sent, 1 written",
    ]  # fmt: skip
    assert err.decode().splitlines() == [
        f"{p}slower.A: sent 7.0, but its end was not reported", "interrupted",
    ]  # fmt: skip
    run(caput([f"{p}ao:a", f"{p}slower.A"], 0, wait=True, timeout=30))


@pytest.mark.process
def test_interrupted_while_it_connects(unique: str, backend: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    snapshot.save(snapshot.Snapshot((snapshot.Entry(f"{unique}a", 1.0),)), file)
    with in_terminal("snapshot", "restore", str(file), "--timeout", "60", "--backend", backend) as (
        process,
        output,
        keys,
    ):
        output.until(lambda text: "connecting" in text and "0/1" in text)  # the progress bar
        os.write(keys, b"\x03")
        text = output.to_the_end()
        assert process.wait(30) == 130
    assert "1 PV: 1 untouched" in text
    assert "Traceback" not in text


def test_a_file_of_autosave(p: str, backend: str, tmp_path: Path) -> None:
    file = tmp_path / "auto.sav"
    file.write_text("$(P)ao:a 5\n$(P)ao:b 6\n#$(P)ao:c Search Issued\n<END>\n")
    run(caput([f"{p}ao:a", f"{p}ao:b"], 0, wait=True))
    done = cli("restore", file, "-m", f"P={p}", "--only", "*:a", "--only", "*:c", backend=backend)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"{p}ao:a: 0.0 -> 5", "2 PVs: 1 written, 1 skipped"]
    assert done.stderr.startswith(f"{p}ao:c: skipped (it has no saved value: autosave was not")
    assert run(caget([f"{p}ao:a", f"{p}ao:b"])) == [5, 0]
    run(caput(f"{p}ao:a", 0, wait=True))


# -- The shell -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("aioca snapshot ", ["diff", "restore", "save"]),
        ("aioca snapshot re", ["restore"]),
        ("aioca snapshot restore --dr", ["--dry-run"]),
        ("aioca snapshot save --l", ["--list"]),
        ("aioca snapshot diff --backend ", ["asyncio", "trio"]),
    ],
)
def test_completion(
    words: str,
    answers: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the command answers to bash."""
    monkeypatch.setenv("_AIOCA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    assert main([]) == 0
    out, _ = capsys.readouterr()
    assert [answer.partition(",")[2] for answer in out.splitlines()] == answers


def test_files_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_AIOCA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "aioca snapshot diff sh")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert main([]) == 0
    assert capsys.readouterr().out == "file,sh\n"


@pytest.mark.parametrize("command", ["save", "diff", "restore"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["snapshot", command, "--help"]) == 0
    out, err = capsys.readouterr()
    examples = out.partition("  Examples:\n")[2].partition("\n\n")[0]
    assert examples.count(f"aioca snapshot {command} ") >= 2
    assert max(map(len, out.splitlines())) <= 100
    assert err == ""
