"""`restore`: write what differs, wait for the processing, read back.

Invariants:

- Nothing is written before it is known of every PV whether it is connected.
- The last outcome that ``on_outcome`` got for a PV is true, even if the restore is cancelled: a PV
  without an outcome was not written, and one in the state SENT may or may not have been.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from .._api.write import caput
from .._ca.eca import ECA
from .._errors import Failure, error_for
from ..types import Timeout
from ._compare import Candidate, compare, examine
from ._model import Entry, Format, Outcome, Snapshot, State
from ._read import reason_of

# At most this many calls write the values at once, each a part of the PVs. A call returns when its
# slowest PV has been processed; until then, the outcomes of its other PVs are not known.
_MAX_CALLS = 64
# A put-callback that ends with one of these may have been carried out
_UNCERTAIN = (ECA.TIMEOUT, ECA.DISCONN, ECA.CHANDESTROY)


async def restore(
    snapshot: Snapshot,
    *,
    dry_run: bool = False,
    skip_missing: bool = False,
    timeout: Timeout = 5.0,
    put_timeout: Timeout = 60.0,
    on_outcome: Callable[[Outcome], object] | None = None,
) -> list[Outcome]:
    """Write the saved values to the PVs that have other values.

    All values are written at once, in no particular order, and with completion: the call waits
    until the servers have processed them. Then they are read back. A refusal does not keep other
    PVs from being written.

    Args:
        snapshot: the saved values; `Snapshot.select` chooses some of them.
        dry_run: find out what would be done, and write nothing.
        skip_missing: restore the other PVs if some are not connected.
        timeout: seconds for connecting, again for reading, and again for reading back; see
            `aioca.types.Timeout`.
        put_timeout: seconds for the processing of all PVs, such as for motors to move.
        on_outcome: called, on the event loop, at each change of the state of a PV. It must not
            raise. If the call is cancelled, this tells what has been written.

    Returns:
        list[Outcome]: the last outcome of each PV, in the order of the snapshot.

    Raises:
        CATimeout: a PV is not connected; nothing was written. The error names all of these PVs.
        CAValueError: a PV has a name that no PV can have; nothing was written.
        TypeError, ValueError: an argument is wrong; nothing was written.
    """
    candidates = await examine(snapshot, timeout)
    run = _Run(snapshot.format, on_outcome)
    missing = [c.failure for c in candidates if c.failure is not None]
    if missing and not skip_missing:
        raise error_for(
            [Failure(m.name, m.errorcode, m._detail, m.errorcode == ECA.BADSTR) for m in missing]
        )
    to_write = [candidate for candidate in candidates if run.is_to_write(candidate, dry_run)]
    await run.write(to_write, put_timeout)
    await run.read_back(to_write, timeout)
    return [run.outcomes[candidate.entry.pv] for candidate in candidates]


class _Run:
    """One call of `restore`.

    Attributes:
        outcomes: the last outcome of each PV that has one.
    """

    def __init__(self, format: Format, on_outcome: Callable[[Outcome], object] | None) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._format: Format = format
        self._on_outcome = on_outcome
        self._before: dict[str, Entry | None] = {}

    def is_to_write(self, candidate: Candidate, dry_run: bool) -> bool:
        """Whether to write the PV; if not, set its outcome."""
        entry = candidate.entry
        self._before[entry.pv] = candidate.current
        if candidate.failure is not None:
            self._set(candidate, State.MISSING, candidate.reason)
        elif entry.value is None:
            self._set(candidate, State.SKIPPED, candidate.reason)
        elif entry.read_only:
            self._set(candidate, State.SKIPPED, "the file says that it is read only")
        elif not candidate.usable:
            self._set(candidate, State.REFUSED, candidate.reason)
        elif candidate.equal:
            self._set(candidate, State.EQUAL)
        elif not candidate.writable:
            self._set(candidate, State.REFUSED, "the server does not let this client write it")
        elif dry_run:
            self._set(candidate, State.WOULD_WRITE)
        else:
            return True
        return False

    async def write(self, candidates: list[Candidate], timeout: Timeout) -> None:
        """Write the PVs, all at once, and wait until they have been processed."""
        size = math.ceil(len(candidates) / _MAX_CALLS)
        async with anyio.create_task_group() as tasks:
            for start in range(0, len(candidates), size or 1):
                tasks.start_soon(self._write_part, candidates[start : start + size], timeout)

    async def _write_part(self, part: list[Candidate], timeout: Timeout) -> None:
        for candidate in part:
            self._set(candidate, State.SENT)
        names = [candidate.entry.pv for candidate in part]
        values = [candidate.wanted for candidate in part]
        results = await caput(names, values, wait=True, timeout=timeout, throw=False)
        for candidate, result in zip(part, results, strict=True):
            if result.ok:
                self._set(candidate, State.WRITTEN)
            else:
                uncertain = result.errorcode in _UNCERTAIN
                self._set(candidate, State.SENT if uncertain else State.REFUSED, reason_of(result))

    async def read_back(self, candidates: list[Candidate], timeout: Timeout) -> None:
        """Read the PVs that were written, and compare again."""
        written = [c for c in candidates if self.outcomes[c.entry.pv].state is State.WRITTEN]
        for candidate in written:
            candidate.reason = ""
        await compare(written, self._format, timeout)
        for candidate in written:
            is_read = candidate.current is not None
            state = State.WRITTEN if candidate.equal or not is_read else State.ALTERED
            self._set(candidate, state, candidate.reason, candidate.current)

    def _set(
        self, candidate: Candidate, state: State, detail: str = "", after: Entry | None = None
    ) -> None:
        entry = candidate.entry
        outcome = Outcome(entry, state, self._before.get(entry.pv), after, detail)
        self.outcomes[entry.pv] = outcome
        if self._on_outcome is not None:
            self._on_outcome(outcome)
