"""The policy objects of a loop: one for each policy that its monitors use."""

from __future__ import annotations

from typing import Any

from .._channels.context import LoopContext
from .every import Every
from .latest import Latest
from .newest import Newest
from .policy import Policy


def policy_for(context: LoopContext, limit: int) -> Policy:
    """Return the policy of a loop for monitors that keep ``limit`` updates (0: all)."""
    kind = (Every, Latest, Newest)[min(limit, 2)]
    policy: Any = context.policies.get(kind)
    if policy is None:
        policy = context.policies[kind] = kind(context)
    return policy  # type: ignore[no-any-return]
