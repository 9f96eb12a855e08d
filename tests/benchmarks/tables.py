"""The figures of a run as a table in Markdown, as the documentation has it."""

from __future__ import annotations

import statistics
from typing import Any

from clients.tricks import TRICKS

Figures = dict[str, dict[str, list[dict[str, float]]]]

# What is shown: the work, the figure, what it is called, and how many digits behind the point
ROWS: tuple[tuple[str, str, str, int], ...] = (
    ("connect", "s", "connect 10,000: s", 2),
    ("get_list", "per_second", "caget of a list of 10,000: values/s", 0),
    ("get_one", "us", "caget of one PV: µs", 0),
    *(
        (f"threads_{n}", "per_second", f"caget of one PV, threads: {n}; gets/s", 0)
        for n in (1, 2, 4, 8)
    ),
    *(
        (f"thread_lists_{n}", "per_second", f"caget of 1,000 PVs, threads: {n}; values/s", 0)
        for n in (1, 2, 4, 8)
    ),
    ("put_list", "per_second", "caput(wait=True) of a list of 10,000: puts/s", 0),
    ("put_one", "us", "caput(wait=True) of one PV: µs", 0),
    ("small_lists", "per_second", "100 tasks, each a caget of 100: values/s", 0),
    ("monitor_3k", "cpu_us", "3,000 monitors, 30,000 updates/s: CPU µs per update", 2),
    ("monitor_3k", "per_second", "... delivered per second", 0),
    ("monitor_10k", "cpu_us", "10,000 monitors, 100,000 updates/s: CPU µs per update", 2),
    ("monitor_10k", "per_second", "... delivered per second", 0),
    ("monitor_10k", "rss_mb", "... memory of the process: MB", 0),
    ("iterate_3k", "cpu_us", "the 3,000 with `async for`: CPU µs per update", 2),
    ("iterate_10k", "cpu_us", "the 10,000 with `async for`: CPU µs per update", 2),
    ("merge_10k", "cpu_us", "the 10,000, latest only, consumer of 1 ms: CPU µs per update", 2),
    ("merge_10k", "per_second", "... delivered per second", 0),
    ("merge_10k", "dropped_per_second", "... replaced by newer ones per second", 0),
    ("array", "get_ms", "caget of 1,000,000 doubles: ms", 1),
    ("array", "put_ms", "caput(wait=True) of them: ms", 1),
    ("array", "put_and_monitor_ms", "the same, and their monitor: ms", 1),
    ("memory", "both_bytes", "memory of a channel and its subscription: bytes", 0),
    ("latency", "p50_us", "put to callback, one at a time: median µs", 0),
    ("latency", "p99_us", "... 99th percentile: µs", 0),
    ("latency_immediate", "p50_us", "... with a wake for each and no timer: median µs", 0),
    ("latency_immediate", "p99_us", "... 99th percentile: µs", 0),
    ("busy_task_3k", "per_second", "the 3,000 beside a task of 10 ms: delivered per second", 0),
    ("busy_task_3k", "lost", "... lost in 5 s", 0),
    ("busy_task_3k", "late_ms", "... latest: ms", 0),
    ("slow_callback_3k", "per_second", "the 3,000 with a callback of 20 µs: per second", 0),
    ("slow_callback_3k", "lost", "... lost in 5 s", 0),
    ("slow_callback_3k", "late_ms", "... latest: ms", 0),
)
GROWTH = (
    ("grow_get_", "list of N: CPU µs per value"),
    ("grow_monitor_", "N monitors: µs per update"),
)


def markdown(figures: Figures, imports: dict[str, float], clients: list[str]) -> str:
    """One table of everything that was measured, one column for each client; and how it grows."""
    lines = [
        "| | " + " | ".join(clients) + " |",
        "| --- |" + " ---: |" * len(clients),
    ]
    for work, figure, label, digits in ROWS:
        found = figures.get(work, {})
        cells = [_cell(found.get(client, []), figure, digits) for client in clients]
        if any(cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    cells = [f"{imports[client]:.2f}" if client in imports else "" for client in clients]
    lines.append("| import: s | " + " | ".join(cells) + " |")
    for prefix, label in GROWTH:
        counts = [int(work.removeprefix(prefix)) for work in figures if work.startswith(prefix)]
        if counts:
            values = [median(figures[f"{prefix}{n}"]["aioca"], "cpu_us") for n in counts]
            lines += [
                "",
                f"| {label} | " + " | ".join(f"{n:,}" for n in counts) + " |",
                "| --- |" + " ---: |" * len(counts),
                "| aioca | " + " | ".join(f"{value:.2f}" for value in values) + " |",
            ]
    return "\n".join(lines) + "\n"


def _cell(rounds: list[dict[str, Any]], figure: str, digits: int) -> str:
    if not rounds or figure not in rounds[0]:
        return ""
    return f"{median(rounds, figure):,.{digits}f}"


def of_tricks(figures: Figures, client: str, tricks: list[str]) -> str:
    """What each trick brings: one line for each row that should show it.

    The gain is how much more time, memory and so on is taken without the trick, in percent: the
    median of the rounds, and the least and greatest in any round.
    """
    lines = [
        "| trick | row | figure | with (best) | without (best) | gain: % | rounds |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for trick in tricks:
        for work, figure in TRICKS[trick].rows.items():
            found = figures.get(work, {})
            present = [r[figure] for r in found.get(client, [])]
            absent = [r[figure] for r in found.get(f"{client} -{trick}", [])]
            if not present or not absent:
                continue
            more = figure == "per_second"
            gains = sorted(
                100 * ((a / b if more else b / a) - 1)
                for a, b in zip(present, absent, strict=True)
                if a and b
            )
            best = max if more else min
            cells = [f"{statistics.median(x):,.4g} ({best(x):,.4g})" for x in (present, absent)]
            gain = f"{statistics.median(gains):+.0f} ({gains[0]:+.0f} to {gains[-1]:+.0f})"
            lines.append(
                f"| {trick} | {work} | {figure} | {' | '.join(cells)} | {gain} | {len(gains)} |"
            )
    return "\n".join(lines) + "\n"


def median(rounds: list[dict[str, float]], figure: str) -> float:
    """The median of one figure over the rounds; 0 if there are none."""
    return statistics.median(r[figure] for r in rounds) if rounds else 0.0
