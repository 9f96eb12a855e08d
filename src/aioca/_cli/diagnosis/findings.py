"""What the doctor finds, and which of it matters most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Causes before what follows from them: the advice of the first is the one that is given.
CAUSE, SERVER, PV, HABIT, REMARK = range(5)

_WEIGHT = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, or is good to know.

    Attributes:
        severity (str): ``error`` (things do not work for it), ``warning`` (not what was meant, or
            bound to go wrong), ``note``.
        about (str): the setting, the PV or the address.
        what (str): what it is.
        advice (str): what to do about it.
        rank (int): how far up in the chain of causes it is; 0 is at the top.
    """

    severity: str
    about: str
    what: str
    advice: str
    rank: int = HABIT


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Those that matter most first."""
    return sorted(findings, key=lambda f: (_WEIGHT[f.severity], f.rank))


def all_is_well(findings: Iterable[Finding]) -> bool:
    """Whether none of them is more than a note."""
    return all(finding.severity == "note" for finding in findings)
