"""What the soak prints: a line for each round, a summary, and whether all was as it has to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.long.soak.tally import Tally, slope

WARM = 3  # rounds before memory is looked at
GROWTH = 0.5e6  # bytes that memory may grow by in each round, once there have been ENOUGH
ENOUGH = 10


def print_round(figures: dict[str, Any]) -> None:
    counts = figures["counts"]
    puts = counts["puts with wait"] + counts["puts without wait"]
    print(
        f"round {figures['round']}: {figures['seconds']:.1f} s, {', '.join(figures['faults'])};"
        f" {counts['gets']} gets, {puts} puts, {counts['updates']} updates;"
        f" gap {figures['gap'] * 1e3:.0f} ms, {figures['rss'] / 1e6:.1f} MB,"
        f" {figures['threads']} threads, {figures['files']} files;"
        f" {figures['problems'] or 'no'} problems",
        flush=True,
    )


def report(
    tally: Tally, rounds: list[dict[str, Any]], file: Path | None, *, seed: int, backend: str
) -> int:
    """Print the summary; the exit status."""
    memory = [float(figures["rss"]) for figures in rounds[WARM:]]
    rise = slope(memory)
    if len(memory) >= ENOUGH and rise > GROWTH:
        tally.problem(f"memory grows by {rise / 1e6:.2f} MB in each round")
    first, last = rounds[0], rounds[-1]
    rows = [
        ("rounds", len(rounds)),
        *((f"fault {name}", count) for name, count in sorted(tally.faults.items())),
        *sorted(tally.counts.items()),
        *((f"error {name}", count) for name, count in sorted(tally.errors.items())),
        *((f"longest {name}, s", round(value, 3)) for name, value in tally.worst.items()),
        ("memory after the first round, MB", round(first["rss"] / 1e6, 1)),
        ("memory after the last round, MB", round(last["rss"] / 1e6, 1)),
        (f"memory per round, from the {WARM + 1}th on, kB", round(rise / 1e3, 1)),
        ("threads of libca, first and last", f"{first['threads']} {last['threads']}"),
        ("open files, first and last", f"{first['files']} {last['files']}"),
        ("problems", len(tally.problems)),
    ]
    print()
    for name, value in rows:
        print(f"{name:48} {value}")
    if file is not None:
        content = {
            "seed": seed, "backend": backend, "rounds": rounds,
            "summary": dict(rows), "problems": tally.problems,
        }  # fmt: skip
        file.write_text(json.dumps(content, indent=1))
    if not tally.problems:
        return 0
    print(
        f"\nFAILED with {len(tally.problems)} problems; --backend {backend} --seed"
        f" {seed} does the same again. The first of them:\n" + "\n".join(tally.problems[:5])
    )
    return 1
