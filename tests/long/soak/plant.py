"""The plant: soft IOCs with records of several types, and what their values may look like.

Every value says where it belongs: a number holds the index of its record (modulo `SPAN`), a string
and an array begin with it. So a value that was delivered for another PV is found, and one of the
wrong type. Records of the kind ``morph`` change their type and count with each generation of their
IOC's database, and hold the number of the generation: a value must have the type of its own.
"""

from __future__ import annotations

import os
import random
from typing import Any, NamedTuple

import numpy as np

from aioca.testing import SoftIoc

SPAN = 1000
COUNTS = {
    "tick": 30, "ao": 100, "lo": 50, "mb": 40, "so": 30, "wd": 20, "wl": 10, "wc": 8, "slow": 4,
    "morph": 8,
}  # fmt: skip
WRITABLE = ("ao", "lo", "mb", "so", "wd", "wl", "wc")
STATES = 8  # of the enums

# What a morph may be: its DBF type and number of elements
SHAPES = (
    ("ao", 1), ("longout", 1), ("stringout", 1), ("mbbo", 1),
    ("DOUBLE", 1), ("DOUBLE", 5), ("DOUBLE", 40), ("LONG", 40), ("CHAR", 40), ("STRING", 3),
)  # fmt: skip
_MORPH_STATES = 16


class Pv(NamedTuple):
    """One record: its IOC and index, and its kind, a key of `COUNTS`."""

    name: str
    kind: str
    index: int  # type: ignore[assignment]  # hides a method of tuple that nobody wants here
    station: Station


class Station:
    """One IOC, and what the round's faults have done to it.

    Attributes:
        generation: of its database; see `SHAPES`.
        starts: how often it was started.
    """

    def __init__(self, number: int, prefix: str, port: int, seed: int) -> None:
        self.number = number
        self.prefix = f"{prefix}{number}:"
        self.generation = 0
        self.starts = 0
        self._seed = seed
        beacons = {"EPICS_CAS_BEACON_PORT": os.environ.get("EPICS_CA_REPEATER_PORT", "5065")}
        self.soft = SoftIoc(self.database(), port=port, environment=beacons)
        self.pvs = [
            Pv(f"{self.prefix}{kind}{index}", kind, index, self)
            for kind, count in COUNTS.items()
            for index in range(count)
        ]

    def start(self) -> None:
        self.starts += 1  # first: clients may be back before it has said that it is ready
        self.soft.start()

    def restart(self, *, changed: bool = False) -> None:
        """Start it again; with other types of the morphs, if so wanted."""
        self.soft.kill()
        if changed:
            self.generation += 1
            self.soft.database = self.database()
        self.start()

    def shape(self, index: int, generation: int) -> tuple[str, int]:
        """What a morph is in a generation."""
        chance = random.Random(f"{self._seed}:{self.number}:{index}:{generation}")
        return chance.choice(SHAPES)

    def subscriptions(self, pv: Pv) -> int:
        """How many the IOC has for a record."""
        first = self.soft.command(f"dbel {pv.name}").split(None, 1)[0]
        return int(first) if first.isdigit() else 0

    def database(self) -> str:
        """The text of its database, in the present generation."""
        p = self.prefix
        lines = [
            f'record(calc, "{p}tick{i}") {{ field(SCAN, ".1 second") field(INPA, "{p}tick{i}")'
            ' field(CALC, "A+1") }'
            for i in range(COUNTS["tick"])
        ]
        lines += [f'record(ao, "{p}ao{i}") {{ field(VAL, "{i}") }}' for i in range(COUNTS["ao"])]
        lines += [
            f'record(longout, "{p}lo{i}") {{ field(VAL, "{i}") }}' for i in range(COUNTS["lo"])
        ]
        lines += [
            f'record(mbbo, "{p}mb{i}") {{ {_states(STATES)} field(VAL, "{i % STATES}") }}'
            for i in range(COUNTS["mb"])
        ]
        lines += [
            f'record(stringout, "{p}so{i}") {{ field(VAL, "{i}:0") }}' for i in range(COUNTS["so"])
        ]
        lines += [_waveform(f"{p}wd{i}", "DOUBLE", 50, [i, 0]) for i in range(COUNTS["wd"])]
        lines += [_waveform(f"{p}wl{i}", "LONG", 50, [i, 0]) for i in range(COUNTS["wl"])]
        lines += [_waveform(f"{p}wc{i}", "UCHAR", 50, [i, 0]) for i in range(COUNTS["wc"])]
        lines += [
            f'record(calcout, "{p}slow{i}") {{ field(A, "{i}") field(VAL, "{i}") field(CALC, "A")'
            ' field(ODLY, "0.3") field(OOPT, "Every Time") }'
            for i in range(COUNTS["slow"])
        ]
        lines += [self._morph(i) for i in range(COUNTS["morph"])]
        return "\n".join(lines)

    def _morph(self, index: int) -> str:
        name, generation = f"{self.prefix}morph{index}", self.generation
        kind, count = self.shape(index, generation)
        if kind.isupper():
            return _waveform(name, kind, count, [generation % 100] * count)
        states = _states(_MORPH_STATES) if kind == "mbbo" else ""
        value = generation % _MORPH_STATES if kind == "mbbo" else generation
        return f'record({kind}, "{name}") {{ {states} field(VAL, "{value}") }}'


def _waveform(name: str, kind: str, length: int, content: list[int]) -> str:
    shown = ", ".join(f'"{x}"' if kind == "STRING" else str(x) for x in content)
    return (
        f'record(waveform, "{name}") {{ field(FTVL, "{kind}") field(NELM, "{length}")'
        f" field(INP, [{shown}]) }}"
    )


def _states(count: int) -> str:
    names = ("ZR", "ON", "TW", "TH", "FR", "FV", "SX", "SV", "EI", "NI", "TE", "EL", "TV", "TT",
             "FT", "FF")  # fmt: skip
    return " ".join(f'field({name}ST, "s{i}")' for i, name in enumerate(names[:count]))


# -- Values ----------------------------------------------------------------------------------------


def value_for(pv: Pv, number: int, chance: random.Random) -> Any:
    """The value to be written as the so-maniest."""
    kind, index = pv.kind, pv.index
    if kind in ("ao", "lo", "slow"):
        return number % 2_000_000 * SPAN + index
    if kind == "mb":
        return chance.choice((number % STATES, f"s{number % STATES}"))
    if kind == "so":
        return f"{index}:{number}"
    length = chance.randint(2, 50)
    if kind == "wc":
        return np.array([index] + [number % 256] * (length - 1), np.uint8)
    return [index] + [number] * (length - 1)


def wrong(pv: Pv, value: Any, as_string: bool) -> str | None:
    """What is wrong with a value that was delivered for this PV; None if nothing is."""
    if value.name != pv.name:
        return f"it is one of {value.name}"
    if as_string:
        fits = isinstance(value, str) or (
            isinstance(value, np.ndarray) and (value.dtype.kind == "U" or pv.kind == "wc")
        )
    elif pv.kind == "morph":
        generations = range(pv.station.generation, -1, -1)
        fits = any(_fits_generation(pv, value, generation) for generation in generations)
    else:
        fits = _fits(pv, value)
    return None if fits else "it has the wrong type, or is one of another PV"


def _fits(pv: Pv, value: Any) -> bool:
    kind, index = pv.kind, pv.index
    if kind == "tick":
        return isinstance(value, float) and value == int(value) >= 0
    if kind in ("ao", "slow"):
        return isinstance(value, float) and value % SPAN == index
    if kind == "lo":
        return isinstance(value, int) and value % SPAN == index
    if kind == "mb":
        return isinstance(value, int) and 0 <= value < STATES
    if kind == "so":
        return isinstance(value, str) and value.split(":")[0] == str(index)
    dtype = {"wd": np.float64, "wl": np.int32, "wc": np.uint8}[kind]
    return (
        isinstance(value, np.ndarray)
        and value.dtype == dtype
        and len(value) >= 2
        and value[0] == index
        and bool((value[1:] == value[1]).all())
    )


def _fits_generation(pv: Pv, value: Any, generation: int) -> bool:
    kind, count = pv.station.shape(pv.index, generation)
    if value.element_count != count:
        return False
    if count == 1:
        if kind == "DOUBLE":
            return isinstance(value, float) and value == generation % 100
        if kind == "ao":
            return isinstance(value, float) and value == generation
        if kind == "stringout":
            return isinstance(value, str) and value == str(generation)
        number = generation % _MORPH_STATES if kind == "mbbo" else generation
        return isinstance(value, int) and value == number
    if not isinstance(value, np.ndarray) or len(value) != count:
        return False
    if kind == "STRING":
        return value.dtype.kind == "U" and bool((value == str(generation % 100)).all())
    dtype = {"DOUBLE": np.float64, "LONG": np.int32, "CHAR": np.uint8}[kind]
    return value.dtype == dtype and bool((value == generation % 100).all())


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of one type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)
