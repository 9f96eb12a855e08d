"""A finding of the doctor, and the order of importance of findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Ranks: a cause comes before its effects, because the first finding gives the advice.
CAUSE, SERVER, PV, HABIT, REMARK = range(5)

_WEIGHT = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """One fault, or one remark.

    Attributes:
        severity (str): ``error`` (something does not work because of it), ``warning`` (probably
            not what the user meant, or will fail later), ``note``.
        about (str): the setting, the PV or the address.
        what (str): the fault, in one sentence without a full stop.
        advice (str): what to do about it, without a full stop.
        rank (int): its place in the chain of causes; 0 is the first cause.
    """

    severity: str
    about: str
    what: str
    advice: str
    rank: int = HABIT


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, the most important first."""
    return sorted(findings, key=lambda f: (_WEIGHT[f.severity], f.rank))


def all_is_well(findings: Iterable[Finding]) -> bool:
    """Whether all findings are notes."""
    return all(finding.severity == "note" for finding in findings)
