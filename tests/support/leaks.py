"""What a test has left behind in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aioca import get_channel_infos
from aioca._ca import tokens
from aioca._channels import context as _context
from aioca._channels.context import LoopContext


class Leaks:
    """Looks for what is left of a test.

    Args:
        contexts: the loop contexts that were made in the test, also those that have ended.
    """

    def __init__(self, contexts: list[LoopContext]) -> None:
        self._contexts = contexts
        self._threads = set(threading.enumerate())

    def left(self) -> list[str]:
        """Channels, contexts, threads, tokens, and what is left in contexts that have ended."""
        left = [f"channel {info}" for info in get_channel_infos()]
        left += [f"context {context}" for context in _context.all_contexts()]
        # trio keeps its worker threads for a while, and starts some for its own use
        left += [
            f"thread {thread}"
            for thread in set(threading.enumerate()) - self._threads
            if not thread.name.startswith("Trio thread")
        ]
        if tokens.token_count():
            left.append(f"{tokens.token_count()} tokens: {list(tokens.owners.values())}")
        for context in self._contexts:
            left += [f"{what} of {context}" for what in _stored(context)]
        return left


def _stored(context: LoopContext) -> Iterator[str]:
    """What a loop context that has ended still stores."""
    queue = context.clear_queue
    for what, container in {
        "updates stored": [policy for policy in context.policies.values() if len(policy)],
        "ignored keys": queue.ignored_keys,
        "receivers": context.portal.receivers,
        "clears": queue._due,
        "calls after clears": queue._done,
        "cancelled subscriptions": context.held_updates._cancelled,
        "operations": [*context.operations, *context.starts],
        "unconfirmed writes": context.writes.unconfirmed,
        "second searches": context.reconnector._second_searches,
    }.items():
        if container:
            yield f"{what} {container}"


@contextmanager
def looking_for_leaks() -> Iterator[Leaks]:
    """Note the threads at the beginning, and each loop context that is made in the block."""
    contexts: list[LoopContext] = []
    make = LoopContext.__init__

    def noting(self: LoopContext, loop: object) -> None:
        make(self, loop)
        contexts.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoopContext, "__init__", noting)
        yield Leaks(contexts)
