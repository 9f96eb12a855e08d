"""aioca has the names, parameters and constants of aioca 2.1 (``aioca-2.1.json``).

``python -m tests.long.compatibility`` compares the calls themselves, if aioca 2.1 can be installed.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import aioca
import aioca.types
from tests.long.compatibility import differences

UNIT = True

HERE = Path(differences.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"
FACTS: dict[str, Any] = json.loads((HERE / "aioca-2.1.json").read_text())

# Parameters in aioca 2.1 of functions for one PV or many; ours take *args for both forms
CAPUT_OF_MANY = [
    ["pvs", "POSITIONAL_OR_KEYWORD", ""],
    ["values", "POSITIONAL_OR_KEYWORD", ""],
    ["repeat_value", "POSITIONAL_OR_KEYWORD", "False"],
]


def parameters_here(name: str) -> list[list[str]]:
    function = aioca._api.write._caput_one if name == "caput" else getattr(aioca, name)
    return [
        [p.name, p.kind.name, "" if p.default is p.empty else repr(p.default)]
        for p in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("name", FACTS["functions"])
def test_every_parameter_is_here_in_its_place(name: str) -> None:
    """A call that is valid in aioca 2.1 is valid here and means the same: same order and defaults.

    A keyword-only parameter of aioca 2.1 may be positional here. There may be further, optional
    parameters at the end.
    """
    here = parameters_here(name)
    for place, (parameter, kind, default) in enumerate(FACTS["functions"][name]):
        assert here[place][0] == parameter
        assert here[place][1] in (kind, "POSITIONAL_OR_KEYWORD")
        # The callback is optional here: without one, a program iterates over the monitor
        optional = name == "camonitor" and parameter == "callback"
        assert here[place][2] == ("None" if optional else default)
    more = here[len(FACTS["functions"][name]) :]
    assert all(default for _, _, default in more)
    assert inspect.iscoroutinefunction(getattr(aioca, name)) == (name in FACTS["coroutines"])


def test_caput_to_many_takes_what_it_took() -> None:
    signature = inspect.signature(aioca._api.write._caput_many)
    here = [
        [p.name, p.kind.name, "" if p.default is p.empty else repr(p.default)]
        for p in signature.parameters.values()
    ]
    assert here[:3] == CAPUT_OF_MANY
    assert here[3:] == parameters_here("caput")[2:]


@pytest.mark.parametrize("name", FACTS["constants"])
def test_every_constant_has_its_value(name: str) -> None:
    assert getattr(aioca, name) == FACTS["constants"][name]


@pytest.mark.parametrize("name", FACTS["classes"])
def test_every_class_has_its_members(name: str) -> None:
    kind = getattr(aioca, name)
    for member in FACTS["classes"][name]["members"]:
        assert callable(getattr(kind, member))
    for member, value in FACTS["classes"][name]["constants"].items():
        assert getattr(kind, member) == value


def test_every_name_is_public() -> None:
    names = {*FACTS["functions"], *FACTS["constants"], *FACTS["classes"], "__version__"}
    assert names <= set(aioca.__all__)
    assert set(FACTS["types"]["names"]) <= set(aioca.types.__all__)
    assert set(FACTS["types"]["fields"]) <= set(aioca.types.AugmentedValue.__annotations__)


def test_the_module_that_had_everything() -> None:
    """Programs use this module without an import of it; its names are the same objects."""
    module = aioca._catools
    for name in {*FACTS["functions"], *FACTS["classes"]}:
        assert getattr(module, name) is getattr(aioca, name)
    for name in set(FACTS["types"]["names"]) - {"Dbr"}:  # aioca 2.1 did not have it there either
        assert getattr(module, name) is getattr(aioca.types, name)


# -- The comparison itself -------------------------------------------------------------------------


def test_each_reason_is_on_the_page() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(set(headings))
    assert set(differences.EXPLANATIONS) <= set(headings)


VALUE = {"type": "ca_float", "plain": "float 1.5", "str": "1.5", ".name": "str 'x'"}
ERROR = {
    "raised": "yes", "type": "CANothing", "caught by": "CANothing", "bool": "False",
    "str": "x: timeout", "first line": "x: timeout", "exactly CANothing": "True",
    ".name": "str 'x'", ".ok": "bool False", ".errorcode": "int 80",
}  # fmt: skip


def test_what_is_equal_is_no_difference() -> None:
    assert list(differences.differences("get x", VALUE, dict(VALUE))) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"plain": "float 1.6", "str": "1.6"},
        {"type": "float"},
        {".name": "str 'y'"},
        {".units": "str 'mm'"},
    ],
)
def test_an_unexplained_difference_is_found(
    changed: dict[str, str],
) -> None:
    found = differences.differences("get x", VALUE, {**VALUE, **changed})
    assert list(found) == [("", "")]
    within = differences.differences(
        "get a list", {"type": "list", "items": {"0": VALUE, "1": VALUE}},
        {"type": "list", "items": {"0": VALUE, "1": {**VALUE, **changed}}},
    )  # fmt: skip
    assert list(within) == [("[1]", "")]


def test_an_error_of_another_kind_is_found() -> None:
    ours = {**ERROR, "type": "CATimeout", "caught by": "CANothing, TimeoutError", "bool": "True"}
    expected = [("", "Errors are one tree, and truthy")]
    assert list(differences.differences("get x", ERROR, ours)) == expected
    for changed in (
        {".errorcode": "int 160"},
        {".name": "str 'y'"},
        {"caught by": "TimeoutError"},
        {"bool": "False"},
    ):
        found = differences.differences("get x", ERROR, {**ours, **changed})
        assert list(found) == [("", "")]
    assert list(differences.differences("get x", ERROR, VALUE)) == [("", "")]
    assert list(differences.differences("get x", VALUE, ours)) == [("", "")]
