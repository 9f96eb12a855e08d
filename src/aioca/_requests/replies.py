"""The C callbacks for the replies to a list of PVs.

Each list that is being read has a C callback of its own, whose Python function stores the replies
at once. The callback for all others (`_ca.callbacks.reply_trampoline`) first has to look the
request up, and then calls a method of it. Trick ``get_send`` of the benchmark: row get_list.

Invariant: the function reads all that belongs to the request in one operation. So a late
reply goes to the request that has asked for it, or is dropped, but never goes to the next request.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._ca.callbacks import copied, event_trampoline, memory
from .._ca.libca import ECA_NORMAL, SCALAR_SIZE
from .._ca.tokens import DBR_BITS, DBR_MASK, INDEX_MASK, KEY_SHIFT

if TYPE_CHECKING:
    from .._ca.libca import Trampoline

# Key, results, counter, number of PVs, and what to call after the last reply
_Served = tuple[int, list[Any], Callable[[], int], int, Callable[[], object]]
_NONE: _Served = 0, [], int, -1, int  # no request: no token has the key 0


class Replies:
    """A C callback that serves one request after the other.

    Attributes:
        trampoline: the C callback, for libca.
    """

    def __init__(self) -> None:
        served = _NONE

        def on_reply(
            _1: int, _2: int, _3: int, _4: int, _5: int, _6: int,
            usr: int, _chid: int, dbr: int, count: int, start: int, status: int,
        ) -> None:  # fmt: skip
            key, results, count_outcome, last, finish = served
            if usr >> KEY_SHIFT != key:
                return
            # The first branch is for nearly all replies, as in `_ca.callbacks`
            if status == ECA_NORMAL and count == 1 and start and usr & DBR_MASK == dbr:
                raw: Any = memory[start : start + SCALAR_SIZE[dbr]]
            else:
                raw = copied(usr & DBR_MASK, dbr, count, start, status)
            results[usr >> DBR_BITS & INDEX_MASK] = raw
            if count_outcome() == last:
                finish()

        def serve(
            token: int,
            results: list[Any],
            count_outcome: Callable[[], int],
            finish: Callable[[], object],
        ) -> None:
            nonlocal served
            served = token >> KEY_SHIFT, results, count_outcome, len(results), finish

        def release() -> None:
            nonlocal served
            served = _NONE

        self.serve = serve
        self._release = release
        self._request: Callable[[], int] = lambda: served[0]  # its key; 0 for none
        self.trampoline: Trampoline = event_trampoline(on_reply)

    def __repr__(self) -> str:
        return f"<Replies of request {self._request()}>"

    def release(self) -> None:
        """Store no more replies of the request; serve another one."""
        self._release()
        _spare.append(self)


# They are never freed, because libca may still call them: so there are this many at most
MAX_REPLIES = 256
_number = itertools.count(1)
_spare: list[Replies] = []


def replies() -> Replies | None:
    """Return a C callback for one request, or None if too many requests have one. Any thread.

    `Replies.release` ends its use.
    """
    try:
        return _spare.pop()
    except IndexError:
        return Replies() if next(_number) <= MAX_REPLIES else None
