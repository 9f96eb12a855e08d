"""The findings about libca: what it lacks, and other clients that are set up to use another one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..._ca.library import VARIABLE, Description
from ..._ca.loaded import same_file
from .findings import HABIT, REMARK, Finding

# The variables in which pyepics and cothread look for libca
_OF_OTHERS = {"PYEPICS_LIBCA": "pyepics", "CATOOLS_LIBCA_PATH": "cothread"}


def of_libca(libca: Description, environment: Mapping[str, str]) -> list[Finding]:
    """Return the findings about the libca that aioca uses."""
    findings = [
        Finding(
            "warning", name, f"{libca.file} has no {name}: {cost}",
            f"use a newer libca (unset {VARIABLE}, or update epicscorelibs)", HABIT,
        )
        for name, cost in libca.lacks.items()
    ]  # fmt: skip
    for name, client in _OF_OTHERS.items():
        theirs = environment.get(name)
        if theirs and not same_file(os.path.abspath(theirs), libca.file):
            findings.append(
                Finding(
                    "note", name,
                    f"{name}={theirs} is not the libca of aioca: {client} in one process with aioca"
                    " has connections of its own",
                    f"to share them, set {VARIABLE} and {name} to the same file", REMARK,
                )
            )  # fmt: skip
    return findings
