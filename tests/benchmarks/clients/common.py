"""What all the measured clients share: timing, and how they are told what to do.

A client is run as ``python <client>.py '<json>'``, with the ``EPICS_CA_*`` environment set, in an
environment that has nothing but that client. The JSON is ``{"work": name, ...}``; it prints one
line of JSON, a dict of figures.
"""

import json
import os
import resource
import statistics
import sys
import threading
import time

TIMEOUT = 30.0


def request():
    """What this client is asked to do."""
    spec = json.loads(sys.argv[1])
    if "apart" in spec:  # the server has the other processors
        os.sched_setaffinity(0, {spec["apart"]})
    return spec


def answer(figures):
    """Say what was measured, and be gone: how a client shuts down is not measured here."""
    print(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)


def cpu():
    """Seconds of processor time that this process has used, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rss():
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Peak:
    """How much more memory than before this process had at most in a with block: bytes."""

    def __enter__(self):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew from the present size
        self._before = self._peak()
        return self

    def __exit__(self, *exc):
        self.bytes = self._peak() - self._before

    @staticmethod
    def _peak():
        with open("/proc/self/status") as file:
            (line,) = [line for line in file if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024


class Lap:
    """Wall and processor time of a with block."""

    def __enter__(self):
        self._cpu = cpu()
        self._wall = time.perf_counter()
        return self

    def __exit__(self, *exc):
        self.wall = time.perf_counter() - self._wall
        self.cpu = cpu() - self._cpu


def laps_of(repeat, once):
    """The laps of a repeated piece of work, less the first, which warms up."""
    laps = []
    for _ in range(repeat + 1):
        with Lap() as lap:
            once()
        laps.append(lap)
    return laps[1:]


async def async_laps_of(repeat, once):
    """The same for an async function."""
    laps = []
    for _ in range(repeat + 1):
        with Lap() as lap:
            await once()
        laps.append(lap)
    return laps[1:]


def in_threads(number, work):
    """Call ``work(thread)`` in as many threads at once, each with its number; wait for all."""
    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def monitored(seen, lap):
    """Figures for monitors that have delivered so much."""
    return {
        "per_second": seen / lap.wall,
        "cpu_us": lap.cpu / max(seen, 1) * 1e6,
        "rss_mb": rss() / 1e6,
    }


class Counted:
    """Counts updates of records that count up, and how many are missing between two looks.

    ``received`` is the callback.
    """

    def __init__(self, count):
        last, seen = [0.0] * count, [0]

        def received(value, index):
            last[index] = value
            seen[0] += 1

        self.received = received
        self.last, self.seen = last, seen

    def start(self):
        self._before = self.last.copy()
        self.seen[0] = 0

    def figures(self, lap):
        due = sum(self.last) - sum(self._before)
        return {**monitored(self.seen[0], lap), "lost": due - self.seen[0]}


def per_item(laps, count):
    """Figures for a repeated piece of work on ``count`` things at once."""
    return {
        "per_second": count / statistics.median(lap.wall for lap in laps),
        "cpu_us": statistics.median(lap.cpu for lap in laps) / count * 1e6,
    }


def each(laps, count):
    """Figures for ``count`` things done one after the other."""
    return {"us": statistics.median(lap.wall for lap in laps) / count * 1e6}


def names(kind, count):
    """The PVs of one kind, as the IOC of the benchmark has them."""
    return [f"{kind}{i}" for i in range(count)]
