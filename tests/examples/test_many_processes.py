"""many_processes.py: workers that share PVs by way of a real NATS server, and one that is killed.

Each test has counters that an IOC increments ten times a second, so a missing update is a missing
number. ``NATS_SERVER=$(.ci/nats-server) pytest -m nats`` runs these tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from aioca.testing import SoftIoc, free_port
from tests.support.examples import Program, running, value_of

NATS_SERVER = os.environ.get("NATS_SERVER") or shutil.which("nats-server")

pytestmark = [
    pytest.mark.nats,
    pytest.mark.skipif(
        NATS_SERVER is None,
        reason="no nats-server on PATH, nor in NATS_SERVER: .ci/nats-server fetches Debian's",
    ),
    pytest.mark.skipif(
        find_spec("nats") is None, reason="nats-py is not installed: the extra `examples`"
    ),
]

PARTS = 8
COUNTERS = 24
COUNTER = """
record(calc, "{pv}") {{ field(SCAN, ".1 second") field(CALC, "A+1") field(INPA, "{pv}") }}
"""

Updates = dict[str, list[tuple[int, str]]]  # of each PV: the numbers, and which worker sent them


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A NATS server with JetStream, on this host only; its address."""
    port = free_port()
    assert NATS_SERVER is not None
    with subprocess.Popen(
        [NATS_SERVER, "--jetstream", "--addr", "127.0.0.1", "--port", str(port),
         "--store_dir", str(tmp_path / "jetstream")],
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        try:
            said: list[str] = []
            for line in process.stderr:
                said.append(line)
                if "Server is ready" in line:
                    break
            else:
                raise AssertionError(said)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture
def pvs(unique: str) -> list[str]:
    return [f"{unique}{number}" for number in range(COUNTERS)]


@pytest.fixture
def ioc(own_ioc: Callable[..., SoftIoc], pvs: list[str]) -> SoftIoc:
    ioc = own_ioc("".join(COUNTER.format(pv=pv) for pv in pvs))
    ioc.start()
    return ioc


@pytest.fixture
def start(ioc: SoftIoc, server: str) -> Iterator[Callable[..., Program]]:
    """Start a worker or a consumer: ``start("work", ...)``."""
    with ExitStack() as programs:

        def start_one(*arguments: object) -> Program:
            program = running("many_processes.py", "--server", server, *arguments, port=ioc.port)
            return programs.enter_context(program)

        yield start_one


def number_of(ioc: SoftIoc, pv: str) -> int:
    return int(float(value_of(ioc, pv)))


def count_on(ioc: SoftIoc, pv: str, further: int) -> None:
    """Wait until a counter has counted so much further."""
    end = number_of(ioc, pv) + further
    while number_of(ioc, pv) < end:
        time.sleep(0.05)  # the IOC's shell has no event to wait for


def two_workers(start: Callable[..., Program], pvs: list[str], copies: int) -> list[Program]:
    """Start two workers, and wait until both hold their share."""
    workers = [
        start("work", *pvs, "--parts", PARTS, "--copies", copies) for _ in range(2)
    ]  # fmt: skip
    share = PARTS * copies // 2
    for worker in workers:
        worker.until(f"holds {share} of {PARTS * copies}$")
    # The first had all of them, and has given up half: the last line of both says the half
    until_last(workers, f"holds {share} of")
    return workers


def until_last(workers: list[Program], text: str) -> None:
    give_up = time.monotonic() + 20
    while not all(text in worker.lines[-1] for worker in workers):
        assert time.monotonic() < give_up, [worker.lines for worker in workers]
        time.sleep(0.05)  # a `Program` waits for one line only


def name_of(worker: Program) -> str:
    return worker.lines[-1].split()[0]


def follow(start: Callable[..., Program], name: str, last: dict[str, int]) -> Updates:
    """Run a consumer until it has these numbers; return all that it has got."""
    program = start("follow", name)
    give_up = time.monotonic() + 30
    while True:
        found: Updates = {pv: [] for pv in last}
        for line in list(program.lines):
            text, _, worker = line.rpartition(" ")
            pv, _, _, number = json.loads(text)
            found[pv].append((int(number), worker))
        if all(found[pv] and found[pv][-1][0] >= number for pv, number in last.items()):
            program.stop()
            return found
        behind = {
            pv: (found[pv][-3:], number)
            for pv, number in last.items()
            if not found[pv] or found[pv][-1][0] < number
        }
        assert time.monotonic() < give_up, (behind, program.lines[-5:])
        time.sleep(0.1)  # a `Program` waits for one line only


def numbers_of(updates: list[tuple[int, str]]) -> list[int]:
    return [number for number, _ in updates]


def test_the_parts_of_a_killed_worker_are_taken_over(
    ioc: SoftIoc, pvs: list[str], start: Callable[..., Program]
) -> None:
    """Only updates between its death and the takeover are missing, and nothing comes twice."""
    killed, other = two_workers(start, pvs, copies=1)
    names = name_of(killed), name_of(other)
    count_on(ioc, pvs[0], 20)
    at_kill = {pv: number_of(ioc, pv) for pv in pvs}
    said = len(other.lines)  # the worker that was the first had all parts once before
    killed.send(signal.SIGKILL)
    killed.process.wait()
    begin = time.monotonic()
    other.until(f"holds {PARTS} of {PARTS}$", after=said)
    seconds = time.monotonic() - begin
    assert seconds < 12  # 3 of the lease, 1 of a round, and a machine that is busy
    at_takeover = {pv: number_of(ioc, pv) for pv in pvs}
    count_on(ioc, pvs[0], 20)
    last = {pv: number_of(ioc, pv) for pv in pvs}
    count_on(ioc, pvs[0], 5)
    other.stop(signal.SIGTERM)

    # It joins when no worker runs any more, and gets everything; so does the next one
    updates = follow(start, "late", last)
    again = follow(start, "later", last)
    gaps = []
    for pv in pvs:
        assert again[pv][: len(updates[pv])] == updates[pv][: len(again[pv])]
        numbers = numbers_of(updates[pv])
        assert numbers == sorted(set(numbers))
        for (a, sender), (b, receiver) in pairwise(updates[pv]):
            if sender == receiver:
                assert b == a + 1, pv  # a worker misses none
            elif a >= at_kill[pv] - 5:
                gaps.append(b - a - 1)
                assert b <= at_takeover[pv] + 30
        assert updates[pv][-1][1] == names[1]
    # Those that were the killed one's have a gap of about the time until the takeover
    assert 0 < len(gaps) < COUNTERS and max(gaps) <= 10 * (seconds + 5)
    print(f"takeover after {seconds:.1f} s; {len(gaps)} PVs miss at most {max(gaps)} updates")


def test_with_two_copies_nothing_is_missed(
    ioc: SoftIoc, pvs: list[str], start: Callable[..., Program]
) -> None:
    """Two workers publish each PV, the stream has each update once, and one may be killed."""
    killed, other = two_workers(start, pvs, copies=2)
    names = {name_of(killed), name_of(other)}
    count_on(ioc, pvs[0], 20)
    killed.send(signal.SIGKILL)
    count_on(ioc, pvs[0], 20)
    last = {pv: number_of(ioc, pv) for pv in pvs}
    updates = follow(start, "consumer", last)
    for pv in pvs:
        numbers = sorted(numbers_of(updates[pv]))
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), pv
        assert numbers[-1] >= last[pv]
    senders = {sender for one in updates.values() for _, sender in one}
    assert senders == names
    other.stop(signal.SIGTERM)


def test_a_worker_that_was_paused_gives_up_what_others_have(
    ioc: SoftIoc, pvs: list[str], start: Callable[..., Program]
) -> None:
    """For a moment two publish the same PVs: no update is in the stream twice."""
    paused, other = two_workers(start, pvs, copies=1)
    names = name_of(paused), name_of(other)
    said = len(paused.lines), len(other.lines)
    paused.send(signal.SIGSTOP)
    other.until(f"holds {PARTS} of {PARTS}$", after=said[1])
    count_on(ioc, pvs[0], 10)
    paused.send(signal.SIGCONT)
    paused.until(f"holds 0 of {PARTS}$", after=said[0])
    until_last([paused, other], f"holds {PARTS // 2} of")  # and then takes its share
    count_on(ioc, pvs[0], 10)
    updates = follow(start, "consumer", {pv: number_of(ioc, pv) for pv in pvs})
    for pv in pvs:
        numbers = numbers_of(updates[pv])
        assert len(numbers) == len(set(numbers)), pv
        assert names[1] in {sender for _, sender in updates[pv]}
    assert names[0] in {updates[pv][-1][1] for pv in pvs}
    for worker in (paused, other):
        worker.stop(signal.SIGTERM)
