"""What is different from aioca 2.1 on purpose: how such a difference looks, and what it is called.

Each reason is a heading of ``docs/reference/compatibility.md``. A difference that none of them
explains is a failure of the comparison, and so is a reason that explains nothing any more.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

Facts = dict[str, Any]
Explanation = Callable[[str, Facts, Facts], bool]

EXPLANATIONS: dict[str, Explanation] = {}


def reason(title: str) -> Callable[[Explanation], Explanation]:
    def add(explanation: Explanation) -> Explanation:
        EXPLANATIONS[title] = explanation
        return explanation

    return add


def differences(case: str, old: Facts, new: Facts) -> Iterator[tuple[str, str]]:
    """The places where two outcomes differ, each with the reason for it, or with none."""
    yield from _at("", case, old, new)


def _at(place: str, case: str, old: Facts, new: Facts) -> Iterator[tuple[str, str]]:
    if old == new:
        return
    for title, explains in EXPLANATIONS.items():
        if explains(case, old, new):
            yield place, title
            return
    before, after = old.get("items", {}), new.get("items", {})
    if differing(old, new) != {"items"} or list(before) != list(after):
        yield place, ""
        return
    for key in before:
        if key == "then" and succeeded(before["result"]) != succeeded(after["result"]):
            continue  # what was found after a write that only one of them has made
        yield from _at(f"{place}[{key}]", case, before[key], after[key])


def succeeded(result: Facts) -> bool:
    return result.get(".ok") == "bool True" or result["type"] == "list"


def differing(old: Facts, new: Facts) -> set[str]:
    return {fact for fact in {*old, *new} if old.get(fact) != new.get(fact)}


def is_error(facts: Facts) -> bool:
    return "caught by" in facts


def catches(facts: Facts) -> set[str]:
    return set(filter(None, facts.get("caught by", "").split(", ")))


def is_nothing(facts: Facts) -> bool:
    return "CANothing" in catches(facts)


def raised_here(facts: Facts) -> bool:
    """An error, raised (which is then the outcome, or a result kept by the case)."""
    return is_error(facts) and facts.get("bool") == "True" and facts.get(".ok") != "bool True"


def is_value(facts: Facts) -> bool:
    return facts.get(".ok") == "bool True"


OF_ERRORS = {
    "type", "bool", "caught by", "str", "exactly CANothing", "first line", ".status", ".errorcode",
    ".name", ".ok",
}  # fmt: skip
LONG = ("wf:CHAR", "wf:UCHAR", "$")  # names of CHAR arrays


@reason("Messages say what was being done")
def _(case: str, old: Facts, new: Facts) -> bool:
    return differing(old, new) == {"str"} and is_error(old) and (
        not is_nothing(old) or new["str"].startswith(f"{old['str']} (")
    )  # fmt: skip


@reason("Errors are one tree, and truthy")
def _(case: str, old: Facts, new: Facts) -> bool:
    """A falsy one that is raised in a Future is taken for none: the put seems to have succeeded."""
    if case == "program: a future":
        return old["output"] == "no error: None\n" and new["output"] == "error\n"
    return (
        is_nothing(old)
        and raised_here(new)
        and old[".errorcode"] == new.get(".errorcode")
        and old[".name"] == new.get(".name")
        and differing(old, new) <= OF_ERRORS
        and catches(old) <= catches(new)
        and "ValueError" not in catches(new)
    )


@reason("A list that fails names its PVs")
def _(case: str, old: Facts, new: Facts) -> bool:
    several = old.get(".name") == "str 'Multiple PVs'" or new.get("str", "")[1:].startswith(" PVs")
    return several and is_nothing(old) and is_nothing(new) and raised_here(new)


@reason("What libca refuses is a CANothing, too")
def _(case: str, old: Facts, new: Facts) -> bool:
    return "CAException" in catches(old) and catches(old) < catches(new) and is_nothing(new)


@reason("A value that cannot be sent is a CAValueError")
def _(case: str, old: Facts, new: Facts) -> bool:
    """Where there was an error before, of many kinds, or a failed write."""
    return (
        case.startswith("put ")
        and is_error(old)
        and not succeeded(old)
        and new["type"] in ("CAValueError", "ValueError", "CARequestError")
        and not is_nothing(old)
    )


@reason("A value that does not fit is not written")
def _(case: str, old: Facts, new: Facts) -> bool:
    """None was NaN or "None", 1e300 infinity, -1 of an enum 65535."""
    return (
        case.startswith("put ")
        and succeeded(old)
        and (new["type"] == "CAValueError" or "None" in case)
        and not is_value(new)
    )


@reason("Strings go to the server as strings")
def _(case: str, old: Facts, new: Facts) -> bool:
    """It parses them: also those in a list, which 2.x takes for numbers where it can."""
    return case == "put ['2', '3'] to put:wf:ENUM"


@reason("CHAR arrays as long strings")
def _(case: str, old: Facts, new: Facts) -> bool:
    if not any(name in case for name in LONG):
        return False
    if (
        case.startswith(("put '", "put b'", "put np.str_"))
        or "60 chars" in case
        or "39 chars" in case
    ):
        return is_error(new) or is_value(new)
    return old["type"] == "ca_array" and new["type"] in ("ca_str", "ca_bytes") and (
        "as CLASS_NAME" not in case and "as STSACK_STRING" not in case
    )  # fmt: skip


@reason("One string for STSACK_STRING and CLASS_NAME")
def _(case: str, old: Facts, new: Facts) -> bool:
    asked = "as CLASS_NAME" in case or "as STSACK_STRING" in case
    return asked and new["type"] == "ca_str" and is_value(new)


@reason("Results of arithmetic on an array are plain")
def _(case: str, old: Facts, new: Facts) -> bool:
    if ": type(" in case:
        return old.get("plain") == "str 'ca_array'"
    return (
        case.startswith("wf:")
        and old["type"] == "ca_array"
        and ".name" not in old
        and new["type"] != "ca_array"
        and _same(old["plain"], new.get("plain", ""))
    )


def _same(old: str, new: str) -> bool:
    """``ndarray <f8 2.0`` and ``float64 np.float64(2.0)``; of arrays, the same."""
    number = re.fullmatch(r"\w+ np\.(?:\w+\()?(\w+?|[-\d.e]+)[_)]", new)
    if number is None:
        return old == new
    before, after = old.rsplit(" ", maxsplit=1)[-1], number[1]
    if after in ("True", "False"):
        return before == after
    return before == after or abs(float(before) - float(after)) < 1e-6


@reason("An array need not own its memory")
def _(case: str, old: Facts, new: Facts) -> bool:
    return case.endswith("v.base is None")


@reason("Copies of a value keep its attributes")
def _(case: str, old: Facts, new: Facts) -> bool:
    ways = ("copy.copy(v)", "copy.deepcopy(v)", "pickle.loads", "v.copy()")
    same = old.get("plain") == new.get("plain") or "AttributeError" in catches(old)
    return case.startswith("wf:") and any(way in case for way in ways) and same


@reason("Attributes are decoded when they are asked for")
def _(case: str, old: Facts, new: Facts) -> bool:
    return "vars(v)" in case or "v.__dict__" in case


@reason("Nothing is read beyond what the server has sent")
def _(case: str, old: Facts, new: Facts) -> bool:
    """A scalar of which there are no elements now, such as an empty long string."""
    nothing = ("float 0.0", "int 0", "str ''", "bytes b''")
    return case.startswith(("get lsi as ", "get wf:one as ")) and new.get("plain") in nothing


@reason("Numbers are not bent to fit")
def _(case: str, old: Facts, new: Facts) -> bool:
    """Right, or refused; and the attributes that a double has where there was an integer."""
    asked = ("int", "bool", "np.", "LONG", "SHORT", "CHAR", "ENUM", "FLOAT", "name i4")
    if not case.startswith("get ") or not any(f" as {name}" in case for name in asked):
        return False
    if is_error(new):  # 152: that of a text that the server takes for no number
        refused = ("does not fit", "stands for several")
        return any(text in new["str"] for text in refused) or new[".errorcode"] == "int 152"
    numbers = {"plain", "str", "type", "augmented", ".precision"}
    if " as ENUM, CTRL" in case and old.get(".enums") == "list []":  # of a PV that is no enum
        numbers |= {".enums", ".units"}
    return is_value(new) and all(
        fact in numbers or fact.endswith("_limit") for fact in differing(old, new)
    )


@reason("An empty array is an update")
def _(case: str, old: Facts, new: Facts) -> bool:
    return case.startswith("monitor wf:") and old["type"] == "TimeoutError" and "items" in new


@reason("A CAInfo says whether the channel is connected")
def _(case: str, old: Facts, new: Facts) -> bool:
    return differing(old, new) == {".ok"} and new["type"] == "CAInfo" and new[".state"] != "int 2"


@reason("A CAInfo is printed as the cainfo tool does")
def _(case: str, old: Facts, new: Facts) -> bool:
    return case == "str of an info"


@reason("Wrong arguments are found before anything is done")
def _(case: str, old: Facts, new: Facts) -> bool:
    """They are a TypeError or a ValueError, for monitors too; of names also a CAValueError."""
    wrong = ("wrongly", " as no type", " of ", "timeout", "monitor ", "put a list, dict")
    if not any(text in case for text in wrong):
        return False
    if "items" in new and "raised" in new["items"]:
        new = new["items"]["raised"]
    return bool(catches(new) & {"TypeError", "ValueError"}) or (
        "NUL in the name" in case and is_nothing(new)
    )


@reason("There are more names")
def _(case: str, old: Facts, new: Facts) -> bool:
    return case == "program: import star" and set(ast.literal_eval(old["output"])) < set(
        ast.literal_eval(new["output"])
    )


@reason("epicscorelibs.ca is not imported")
def _(case: str, old: Facts, new: Facts) -> bool:
    return case == "program: modules"


@reason("get_channel_infos and run do not need a loop of asyncio's")
def _(case: str, old: Facts, new: Facts) -> bool:
    """The first tells of all loops, also where none runs; the second makes its own each time."""
    return case in (
        "program: infos without a loop", "program: run twice", "program: run on a loop of one's own"
    )  # fmt: skip


@reason("What failed by mistake works")
def _(case: str, old: Facts, new: Facts) -> bool:
    failed = is_error(old) and not is_nothing(old) and not catches(old) & {"CAException"}
    if case.startswith("connect a ") and "without wait" in case:
        failed = is_error(old)
    works = not is_error(new) or is_value(new) or case.endswith(" as ENUM_STR")
    return failed and works
