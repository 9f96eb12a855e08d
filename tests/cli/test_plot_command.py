"""``aioca plot``: the command from end to end."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioca._cli.live import figure as _figure
from aioca.testing import SoftIoc
from tests.support.commands import Output, in_terminal, run_cli, run_without

UNIT = True


# -- The command, into a file ----------------------------------------------------------------------


def size_of(picture: Path) -> tuple[int, int]:
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def test_a_picture(running: SoftIoc, unique: str, backend: str, tmp_path: Path) -> None:
    picture = tmp_path / "two.png"
    done = run_cli(
        "plot", "--backend", backend, f"{unique}COUNT", f"{unique}WAVE", "--seconds", "2",
        "-o", str(picture),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert size_of(picture) == (1200, round(_figure.height(["strip", "trace"]) * _figure.DPI))


def test_all_that_came_is_in_the_picture(
    running: SoftIoc, unique: str, backend: str, tmp_path: Path
) -> None:
    picture = tmp_path / "count.svg"
    done = run_cli(
        "plot", "--backend", backend, f"{unique}COUNT", "--seconds", "3", "-o", str(picture)
    )
    assert (done.returncode, done.stderr) == (0, "")
    paths = re.findall(r'<path d="([^"]*)" clip-path', picture.read_text())
    steps = max(path.count("L") for path in paths)
    assert steps >= 2 * 15  # ten updates a second, two points each, less what connecting took


def test_as_soon_as_there_are_values(
    running: SoftIoc, unique: str, backend: str, tmp_path: Path
) -> None:
    picture = tmp_path / "now.png"
    begin = time.monotonic()
    done = run_cli(
        "plot", "--backend", backend, f"{unique}WAVE", f"{unique}TEXT", "--seconds", "0",
        "-o", str(picture),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert size_of(picture)[0] == 1200
    assert time.monotonic() - begin < 30


def test_those_that_are_not_connected_are_named(
    running: SoftIoc, unique: str, backend: str, tmp_path: Path
) -> None:
    picture = tmp_path / "part.png"
    nowhere = f"{unique}NOWHERE"
    arguments = ["plot", "--backend", backend, "--seconds", "1", "-o", str(picture)]
    done = run_cli(*arguments, f"{unique}T", nowhere)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"not connected: {nowhere};" in done.stderr
    assert size_of(picture)[0] == 1200
    picture.unlink()
    done = run_cli(*arguments, nowhere)
    assert done.returncode == 1
    assert "nothing was written" in done.stderr
    assert not picture.exists()


def test_ctrl_c_writes_what_there_is(
    running: SoftIoc, unique: str, backend: str, tmp_path: Path
) -> None:
    picture = tmp_path / "sooner.png"
    arguments = ["plot", "--backend", backend, f"{unique}T", "--seconds", "600", "-o", str(picture)]
    with in_terminal(*arguments) as (process, output, keys):
        output.until(lambda text: "recording 600 s" in text)
        give_up = time.monotonic() + 30
        while not running.client_count() and time.monotonic() < give_up:
            time.sleep(0.05)  # the IOC tells nobody of its clients
        time.sleep(0.5)  # nor of an update that has arrived
        os.write(keys, b"\x03")
        text = output.to_the_end()
        assert process.wait(10) == 130
    assert "Traceback" not in text
    assert size_of(picture)[0] == 1200


@pytest.mark.process
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("picture.xyz", "png"),
        ("picture", "png"),
        ("nowhere/picture.png", "its directory does not exist"),
    ],
)
def test_files_that_cannot_be(output: str, said: str, tmp_path: Path) -> None:
    """Said before anything is recorded."""
    done = run_cli("plot", "X", "--seconds", "600", "-o", str(tmp_path / output))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("aioca plot: ")
    assert said in done.stderr


@pytest.mark.process
def test_matplotlib_is_missing() -> None:
    done = run_without("matplotlib", "plot", "X", "-o", "x.png")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'aioca[plot]'" in done.stderr


@pytest.mark.process
def test_matplotlib_is_imported_for_plot_only() -> None:
    program = """
import sys
from aioca._cli import main
main(["plot", "--help"])
main(["watch", "--help"])
assert "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# -- The command, in a window ----------------------------------------------------------------------


@pytest.mark.process
def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    for backend in ("", "agg", "tkagg"):
        if backend:
            monkeypatch.setenv("MPLBACKEND", backend)
        done = run_cli("plot", "X")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert "-o FILE.png" in done.stderr


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """That of an X server of its own, without a screen to look at."""
    pytest.importorskip("tkinter", reason="no GUI that matplotlib could use")
    program = os.environ.get("XVFB", "Xvfb")
    ours, theirs = os.pipe()
    try:
        server = subprocess.Popen(
            [program, "-displayfd", str(theirs), "-screen", "0", "1280x1024x24"],
            pass_fds=[theirs], stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        os.close(ours)
        os.close(theirs)
        pytest.skip("there is no Xvfb to open a window in")
    os.close(theirs)
    try:
        output = Output(ours)
        output.until(lambda text: text.endswith("\n"))
        yield f":{output.text.strip()}"
    finally:
        server.terminate()
        server.wait()
        os.close(ours)


# Says how often the window was drawn, and how many points it shows. A signal has it do, when it is
# the GUI's turn the next time, what a click on its cross does.
IN_WINDOW = """
import signal, sys
from matplotlib import pyplot
from aioca._cli import main, plot

def close():
    window = pyplot.get_current_fig_manager().window
    window.tk.call(window.protocol("WM_DELETE_WINDOW"))

signalled = []
signal.signal(signal.SIGUSR1, lambda *_: signalled.append(True))
really = plot._window

def window(panels):
    figure = really(panels)
    def say(event):
        axes = figure.axes[0]
        print("drawn", len(axes.lines[0].get_xdata()) if axes.lines else 0, flush=True)
        if signalled:
            figure.canvas.manager.window.after(1, close)
    figure.canvas.mpl_connect("draw_event", say)
    return figure

plot._window = window
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGINT, 130), (signal.SIGUSR1, 0)], ids=["Ctrl-C", "closed"]
)
def test_a_window(
    running: SoftIoc, unique: str, backend: str, display: str, how: signal.Signals, status: int
) -> None:
    """It is drawn again and again, and shows all that has come until it is closed."""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", IN_WINDOW, "plot", "--backend", backend, f"{unique}COUNT"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "DISPLAY": display, "MPLBACKEND": "tkagg"},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stderr is not None
            output = Output(process.stdout.fileno())
            output.until(lambda text: re.search(r"drawn [3-9]\d\n", text))  # points: 10 a second
            process.send_signal(how)
            text = output.to_the_end()
            errors = process.stderr.read().decode()
            assert errors == ""
            assert process.wait(10) == status
        finally:
            process.kill()
    points = [int(number) for number in re.findall(r"drawn (\d+)", text)]
    assert points == sorted(points)
    assert len(points) >= 5
