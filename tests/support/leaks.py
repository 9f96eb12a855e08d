"""What a test has left behind in this process."""

from __future__ import annotations

import threading

from aioca import get_channel_infos
from aioca._ca import tokens
from aioca._channels import context as _context


def left_behind(threads: set[threading.Thread]) -> list[str]:
    """The channels, contexts, tokens, and threads other than these, that are left."""
    left = [f"channel {info}" for info in get_channel_infos()]
    left += [f"context {context}" for context in _context.all_contexts()]
    # trio keeps its worker threads for a while, and starts some for its own use
    left += [
        f"thread {thread}"
        for thread in set(threading.enumerate()) - threads
        if not thread.name.startswith("Trio thread")
    ]
    if tokens.token_count():
        left.append(f"{tokens.token_count()} tokens: {list(tokens.owners.values())}")
    return left
