"""For `.ci/other-libca`: skips tests for the reason that libca is too old.

Before EPICS 7.0.4, libca refuses to write an array without elements, which many tests do. With any
newer libca this plugin skips nothing.
"""

from __future__ import annotations

import re
from collections.abc import Generator

import pytest

from aioca import CARequestError
from aioca._ca.libca import ECA_BADCOUNT
from aioca._ca.library import describe


def writes_no_empty_array(version: str | None) -> bool:
    """Whether the libca of this version of EPICS base refuses to write 0 elements."""
    return version is not None and [*map(int, re.findall(r"\d+", version))] < [7, 0, 4]


TOO_OLD = writes_no_empty_array(describe().version)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Turn the refusal into a skip."""
    try:
        return (yield)
    except CARequestError as error:
        if TOO_OLD and error.errorcode == ECA_BADCOUNT and "(writing)" in str(error):
            pytest.skip(f"the libca of EPICS {describe().version} writes no array without elements")
        raise
