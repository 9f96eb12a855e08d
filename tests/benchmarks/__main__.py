"""The benchmark: this package against its peers and against C, in one run on one machine.

    python tests/benchmarks                     everything; about 40 minutes
    python tests/benchmarks --quick             fewer PVs, one round: to see that it works
    python tests/benchmarks --only get_list,monitor --clients aioca,repics --rounds 3
    python tests/benchmarks --json figures.json
    python tests/benchmarks --against a916174 --clients aioca --only get_list,monitor_10k
                                                this tree beside an earlier one, in the same rounds
    python tests/benchmarks --blocking          aioca.blocking beside the async calls and pyepics:
                                                one PV, a list, and 1 to 8 threads
    python tests/benchmarks --without wake_now,poll
                                                this package without each of these tricks of its
                                                code (``all``: without each one)
    python tests/benchmarks --apart --without poll
                                                the client on one processor, the IOC on the others

It makes an environment for each client (from the package index; ``--environments DIR`` keeps them
for the next time), starts soft IOCs on loopback, and has each client do each piece of work in turn,
round by round, each time in a process of its own. It prints medians over the rounds, and ratios
to this package. Nothing else should run on the machine meanwhile.

The clients: ``aioca`` (this package under asyncio), ``aioca-uvloop``, ``aioca-trio``,
``aioca-blocking`` (`aioca.blocking`), ``aioca2`` (aioca 2.1), ``repics``, ``cothread``,
``pyepics``, and two limits on the same libca: ``ctypes``, the least that Python can do through
ctypes (on x86-64), and ``c``, a C program, where there is a compiler. With ``--against`` there are,
besides, ``old``, ``old-uvloop`` and ``old-trio``: the revision that it names, where ``aioca``,
``aioca-uvloop`` and ``aioca-trio`` are among the clients. With ``--without`` there is, besides,
``aioca -wake_now`` and so on, each in the rows that should show that trick; ``aioca`` is then the
only other client unless ``--clients`` says more. ``nothing`` switches nothing off: its gains show
the noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clients.tricks import TRICKS
from tables import Figures, markdown, median, of_tricks

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

# The environment that a client runs in, its program, and what it is told beside the work.
CLIENTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "aioca": ("ours", "aioca_client.py", {}),
    "aioca-uvloop": ("ours", "aioca_client.py", {"loop": "uvloop"}),
    "aioca-trio": ("ours", "aioca_client.py", {"loop": "trio"}),
    "aioca-blocking": ("ours", "blocking_client.py", {}),
    "aioca2": ("aioca2", "aioca_client.py", {}),
    "repics": ("repics", "repics_client.py", {}),
    "cothread": ("cothread", "cothread_client.py", {}),
    "pyepics": ("pyepics", "pyepics_client.py", {}),
    "ctypes": ("ours", "ctypes_client.py", {}),
    "c": ("ours", "c_client.c", {}),
}
PACKAGES = {
    "ours": [f"{ROOT}[trio]", "uvloop"],
    "aioca2": ["aioca==2.1", "anyio"],
    "repics": ["repics==0.3.0", "numpy"],
    "cothread": ["cothread==2.20.1", "epicscorelibs"],
    "pyepics": ["pyepics==3.5.10", "epicscorelibs"],
}
OURS = ("aioca", "aioca-uvloop", "aioca-trio")
BLOCKING = ("aioca-blocking", "pyepics")
READERS = tuple(name for name in CLIENTS if name != "ctypes")
ALL = tuple(name for name in READERS if name != "aioca-blocking")
LIMITED = ("connect", "get_list", "put_list", "monitor_3k", "monitor_10k")  # what `ctypes` does
PEERS = tuple(name for name in ALL if name not in ("aioca-uvloop", "aioca-trio"))

# name: (what to do, who does it, the figure that is compared, whether more of it is better)
Work = tuple[dict[str, Any], tuple[str, ...], str, bool]
WORKS: dict[str, Work] = {
    "connect": ({"work": "connect", "count": 10_000}, PEERS, "s", False),
    "get_list": ({"work": "get_list", "count": 10_000, "repeat": 5}, READERS, "per_second", True),
    "get_mixed": (
        {"work": "get_list", "count": 10_000, "repeat": 5, "records": ("ao", "longout", "bo")},
        OURS, "cpu_us", False,
    ),
    "get_one": ({"work": "get_one", "count": 2_000, "repeat": 3}, READERS, "us", False),
    "put_list": (
        {"work": "put_list", "count": 10_000, "repeat": 5},
        tuple(name for name in ALL if name != "pyepics"), "per_second", True,
    ),
    **{
        f"threads_{threads}": (
            {"work": "threads", "count": 2_000, "threads": threads, "repeat": 3}, BLOCKING,
            "per_second", True,
        )
        for threads in (1, 2, 4, 8)
    },
    **{
        f"thread_lists_{threads}": (
            {"work": "thread_lists", "count": 1_000, "threads": threads, "repeat": 5}, BLOCKING,
            "per_second", True,
        )
        for threads in (1, 2, 4, 8)
    },
    "put_one": ({"work": "put_one", "count": 1_000, "repeat": 3}, READERS, "us", False),
    "small_lists": (
        {"work": "small_lists", "count": 100, "tasks": 100, "repeat": 5},
        (*OURS, "aioca2", "repics"), "per_second", True,
    ),
    "monitor_3k": ({"work": "monitor", "count": 3_000, "seconds": 5}, ALL, "cpu_us", False),
    "monitor_10k": ({"work": "monitor", "count": 10_000, "seconds": 5}, ALL, "cpu_us", False),
    "iterate_3k": ({"work": "iterate", "count": 3_000, "seconds": 5}, OURS, "cpu_us", False),
    "iterate_10k": ({"work": "iterate", "count": 10_000, "seconds": 5}, OURS, "cpu_us", False),
    # The client on one processor, the IOC on another: how much is delivered, and is anything lost?
    **{
        f"most_{count // 1000}k": (
            {"work": "most", "count": count, "seconds": 5, "apart": 0},
            ("aioca", "repics"), "per_second", True,
        )
        for count in (10_000, 20_000, 30_000, 40_000)
    },
    # Behind a start for which there was hardly any processor: does it recover?
    "iterate_starved_10k": (
        {"work": "iterate", "count": 10_000, "seconds": 5, "starved": 8}, OURS, "per_second", True,
    ),
    # aioca 2.1 delivers everything late, and does not come to the end of this
    "merge_10k": ({"work": "merge", "count": 10_000, "seconds": 5}, OURS, "cpu_us", False),
    "latency": ({"work": "latency", "repeat": 3_000}, (*OURS, "aioca2"), "p99_us", False),
    "latency_immediate": (
        {"work": "latency", "repeat": 3_000, "immediate": True}, OURS, "p99_us", False,
    ),
    "busy_task_3k": (
        {"work": "busy", "count": 3_000, "seconds": 5, "task": 0.01}, OURS, "late_ms", False,
    ),
    "slow_callback_3k": (
        {"work": "busy", "count": 3_000, "seconds": 5, "callback": 2e-5}, OURS, "per_second", True,
    ),
    "array": ({"work": "array", "repeat": 20}, PEERS, "get_ms", False),
    "memory": ({"work": "memory", "count": 10_000}, PEERS, "both_bytes", False),
    "loops": ({"work": "loops", "count": 200}, ("aioca",), "run_bytes", False),
    **{
        f"grow_get_{count}": (
            {"work": "get_list", "count": count, "repeat": 5}, ("aioca",), "cpu_us", False,
        )
        for count in (100, 1_000, 10_000, 50_000)
    },
    **{
        f"grow_monitor_{count}": (
            {"work": "monitor", "count": count, "seconds": 5, "scan": scan}, ("aioca",),
            "cpu_us", False,
        )
        for count, scan in ((100, ".1"), (1_000, ".1"), (10_000, ".1"), (50_000, "1"))
    },
}  # fmt: skip
WORKS |= {name: (WORKS[name][0], (*WORKS[name][1], "ctypes"), *WORKS[name][2:]) for name in LIMITED}
BLOCKING_WORKS = [
    name for name in WORKS if name in ("get_one", "get_list", "put_one") or "thread" in name
]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tests/benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="times each is done (3)")
    parser.add_argument("--only", help="pieces of work, with commas: " + ", ".join(WORKS))
    parser.add_argument("--clients", help="with commas: " + ", ".join(CLIENTS))
    parser.add_argument("--environments", type=Path, help="where to keep the environments")
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
    parser.add_argument("--markdown", type=Path, help="write them to this file as a table")
    parser.add_argument("--quick", action="store_true", help="little work, one round")
    parser.add_argument("--against", help="a revision of this repository to run as well")
    parser.add_argument(
        "--without", help="tricks to do without, with commas, or all: " + ", ".join(TRICKS)
    )
    parser.add_argument("--blocking", action="store_true", help="the blocking calls, and pyepics")
    parser.add_argument(
        "--apart",
        action="store_true",
        help="each client on the first processor, the IOC on the others (c: anywhere); less noise",
    )
    options = parser.parse_args()
    if options.blocking:
        options.only = options.only or ",".join(BLOCKING_WORKS)
        options.clients = options.clients or ",".join(("aioca", *BLOCKING))
    tricks = list(TRICKS) if options.without == "all" else (options.without or "").split(",")
    tricks = [trick for trick in tricks if trick]
    if tricks:
        shown = {work: None for trick in tricks for work in TRICKS[trick].rows}
        options.only = options.only or ",".join(shown)
        options.clients = options.clients or "aioca"
    works = {name: WORKS[name] for name in (options.only or ",".join(WORKS)).split(",")}
    if options.apart:
        works = {name: ({**work[0], "apart": 0}, *work[1:]) for name, work in works.items()}
    clients = (options.clients or ",".join(CLIENTS)).split(",")
    if options.against:
        clients = _with_old(clients, works)
    clients = _without(tricks, clients, works)
    rounds = 1 if options.quick else options.rounds
    if options.quick:
        works = {name: _smaller(work) for name, work in works.items()}
    figures: Figures = {}
    with _folder(options.environments) as folder:
        if options.against:
            _check_out(options.against, folder)
        commands = {name: _prepare(name, folder) for name in clients}
        versions = {
            name: _version(command)
            for name, command in commands.items()
            if command and "without" not in CLIENTS[name][2]
        }
        for number in range(rounds):
            for name, work in works.items():
                with _ioc(work) as environment:
                    # Each second round backwards: the first client may find a faster machine
                    for client in clients[:: -1 if number % 2 else 1]:
                        command = commands[client]
                        if command is None or client not in work[1]:
                            continue
                        found = _measure(client, command, work[0], environment)
                        figures.setdefault(name, {}).setdefault(client, []).append(found)
                        _say(f"round {number + 1} {name} {client}: {found}")
        imports = _imports(commands, 3 if options.quick else 15)
    _report(works, figures, imports, versions)
    for name in clients:
        if tricks and name in OURS:
            print(f"\n{name}\n\n{of_tricks(figures, name, tricks)}")
    if options.markdown:
        shown = [client for client in clients if commands[client]]
        options.markdown.write_text(f"{_machine()}\n\n{markdown(figures, imports, shown)}")
    if options.json:
        content = {"machine": _machine(), "figures": figures, "import_s": imports}
        options.json.write_text(json.dumps(content, indent=1))


def _smaller(work: Work) -> Work:
    spec = {**work[0]}
    for name, most in {"count": 200, "repeat": 2, "seconds": 1, "tasks": 5}.items():
        if name in spec:
            spec[name] = min(spec[name], most)
    return (spec, *work[1:])


# -- Another revision ------------------------------------------------------------------------------


def _with_old(clients: list[str], works: dict[str, Work]) -> list[str]:
    """Enter a client of the other revision beside each of this tree; returns all clients."""
    for name in OURS:
        if name not in clients:
            continue
        old = name.replace("aioca", "old")
        CLIENTS[old] = ("old", *CLIENTS[name][1:])
        clients.insert(clients.index(name) + 1, old)
        for work, (spec, who, figure, more) in works.items():
            if name in who:
                works[work] = (spec, (*who, old), figure, more)
    return clients


def _without(tricks: list[str], clients: list[str], works: dict[str, Work]) -> list[str]:
    """Enter clients that do without one trick each; returns all clients."""
    entered = list(clients)
    for trick in tricks:
        for name in OURS:
            if name not in clients:
                continue
            client = f"{name} -{trick}"
            CLIENTS[client] = ("ours", "without_client.py", {**CLIENTS[name][2], "without": trick})
            entered.append(client)
            for work in TRICKS[trick].rows:
                if work in works and name in works[work][1]:
                    spec, who, figure, more = works[work]
                    works[work] = (spec, (*who, client), figure, more)
    return entered


def _check_out(revision: str, folder: Path) -> None:
    """Install another revision of this repository in an environment of its own."""
    tree = folder / "old-tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.rmtree(folder / "old", ignore_errors=True)
    tree.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision], stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    PACKAGES["old"] = [f"{tree}[trio]", "uvloop"]


# -- Environments ----------------------------------------------------------------------------------


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="aioca-benchmark-") as folder:
            yield Path(folder)


def _prepare(client: str, folder: Path) -> list[str] | None:
    """The command that runs a client; None if it cannot be had here."""
    environment, program, _ = CLIENTS[client]
    python = folder / environment / "bin" / "python"
    installed = folder / environment / "installed"
    if not installed.exists():
        _say(f"making the environment of {environment}")
        subprocess.run([sys.executable, "-m", "venv", str(folder / environment)], check=True)
        if not _pip(python, *PACKAGES[environment]):
            _say(f"{client} cannot be installed: left out")
            return None
        installed.touch()
    elif client == "aioca":  # the tree may have changed since
        _pip(python, "--force-reinstall", "--no-deps", str(ROOT))
    if program.endswith(".c"):
        return _compile(python, folder)
    return [str(python), str(HERE / "clients" / program)]


def _pip(python: Path, *arguments: str) -> bool:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.run([*command, *arguments], check=False).returncode == 0


def _compile(python: Path, folder: Path) -> list[str] | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        _say("no C compiler: the limit is left out")
        return None
    find = "import epicscorelibs as e; print(e.__path__[0])"
    base = Path(subprocess.check_output([str(python), "-c", find], text=True).strip())
    target = folder / "c_client"
    library = next((base / "lib").glob("libca.so.*"))
    subprocess.run(
        [compiler, "-O2", f"-I{base}/include", f"-I{base}/include/os/Linux",
         f"-I{base}/include/compiler/gcc", str(HERE / "clients" / "c_client.c"), "-o", str(target),
         str(library), f"-Wl,-rpath,{base}/lib"],
        check=True,
    )  # fmt: skip
    return [str(target)]


def _version(command: list[str]) -> str:
    if len(command) == 1:
        return "libca"
    out = subprocess.run(
        [command[0], "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = {item["name"].lower(): item["version"] for item in json.loads(out)}
    name = Path(command[1]).stem.removesuffix("_client")
    return f"{name} {found.get(name, '?')}"


# -- Running ---------------------------------------------------------------------------------------


@contextmanager
def _ioc(work: Work) -> Iterator[dict[str, str]]:
    """An IOC with the records of one piece of work; yields the environment for its clients."""
    from aioca.testing import SoftIoc, loopback_environment

    spec = work[0]
    count = spec.get("count", 1) * spec.get("tasks", 1)
    if spec["work"] == "thread_lists":
        count *= spec["threads"]
    if spec["work"] in ("monitor", "iterate", "merge", "busy", "most"):
        period = spec.get("scan", ".1")
        database = "".join(
            f'record(calc, "M{i}") {{ field(SCAN, "{period} second") field(CALC, "VAL+1") }}\n'
            for i in range(count)
        )
    elif spec["work"] == "array":
        database = 'record(waveform, "BIG") { field(FTVL, "DOUBLE") field(NELM, "1000000") }'
    else:
        records = spec.get("records", ("ao",))
        database = "".join(
            f'record({records[i % len(records)]}, "P{i}") {{}}\n' for i in range(count)
        )
    with SoftIoc(database, timeout=120) as ioc:
        if "apart" in spec:
            for thread in Path(f"/proc/{ioc.process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), range(1, os.cpu_count() or 1))
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_CA")}
        yield {**inherited, **loopback_environment(ioc.port)}


def _measure(
    client: str,
    command: list[str],
    spec: dict[str, Any],
    environment: dict[str, str],
    tries: int = 3,
) -> dict[str, float]:
    if len(command) == 1:
        arguments = [
            spec["work"], str(spec.get("count", 1)), str(spec.get("repeat", 1)),
            str(spec.get("seconds", 1)),
        ]  # fmt: skip
    else:
        arguments = [json.dumps({**spec, **CLIENTS[client][2]})]
    time.sleep(0.5)  # let the one before be gone
    try:
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=120,
            check=True,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        printed = f"{error}\n{error.stdout or ''}\n{(error.stderr or '')[-500:]}"
        if tries == 1:
            raise SystemExit(f"{client} failed at {spec}: {printed}") from None
        # An IOC loses ends of put-callbacks when it is sent thousands of them at once.
        _say(f"{client} failed at {spec}, and does it again: {printed}")
        return _measure(client, command, spec, environment, tries - 1)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _imports(commands: dict[str, list[str] | None], times: int) -> dict[str, float]:
    """Seconds that a program takes longer for the import, the median of several."""
    modules = {
        "aioca": "aioca", "aioca2": "aioca", "repics": "repics.ca.asyncio",
        "cothread": "cothread.catools", "pyepics": "epics",
    }  # fmt: skip
    walls: dict[str, list[float]] = {}
    for _ in range(times):
        for client, module in modules.items():
            command = commands.get(client)
            if command is not None:
                bare = _wall([command[0], "-c", "pass"])
                walls.setdefault(client, []).append(
                    _wall([command[0], "-c", f"import {module}"]) - bare
                )
    return {client: statistics.median(times) for client, times in walls.items()}


def _wall(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


# -- Reporting -------------------------------------------------------------------------------------


def _report(
    works: dict[str, Work],
    figures: Figures,
    imports: dict[str, float],
    versions: dict[str, str],
) -> None:
    print(f"\n{_machine()}\n" + ", ".join(f"{k}: {v}" for k, v in versions.items()))
    for name, (spec, _, figure, more) in works.items():
        found = figures.get(name, {})
        print(f"\n{name}: {spec}")
        ours = median(found.get("aioca", []), figure)
        for client, rounds in found.items():
            shown = "  ".join(f"{key} {median(rounds, key):.4g}" for key in rounds[0])
            theirs = median(rounds, figure)
            ratio = ""
            if ours and theirs and client != "aioca":
                ratio = f"  aioca is {ours / theirs if more else theirs / ours:.2f} times as good"
            print(f"    {client:13} {shown}{ratio}")
    print("\nimport, seconds beyond those of an empty program")
    for client, seconds in imports.items():
        ratio = "" if client == "aioca" else f"  aioca takes {imports['aioca'] / seconds:.2f} of it"
        print(f"    {client:13} {seconds:.3f}{ratio if 'aioca' in imports else ''}")


def _machine() -> str:
    return f"{platform.python_version()} on {os.cpu_count()} cores, {platform.platform()}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
